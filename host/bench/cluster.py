"""Matching beside the same rules in plain Python on sorted lists. Process CPU time: what other programs take does not count."""

import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hdl.frame import FRAME_DTYPE, Kind, OrderType, Side, TimeInForce
from host.bench.gateway import Traffic
from host.bench.measure import Row, compare
from host.cluster.matching_node import MatchingNode
from host.cluster.report import ReportKind
from host.journal.batch import ACCEPTED, DECISION_DTYPE, Batch

BATCH = 8192
SAMPLE = 10_000
"""Order messages that the peer is given; the first as many reports of both are compared."""

DEEP_LEVELS = 10_000
"""Price levels on each side of the deep book."""

DEEP_PRICE, DEEP_TICK = 10_000_000_000_000, 10_000_000
DEEP_CHANGES = 20_000


def matching_row(traffic: Traffic) -> Row:
    """Generated orders a second, all of them accepted and applied by one node."""
    kinds = (Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE)
    orders = traffic.frames[np.isin(traffic.frames["kind"], kinds) & (traffic.frames["quantity"] > 0)]
    batches = _batches(orders, traffic.payload)
    sample = [_request(frame, traffic.payload) for frame in orders[:SAMPLE]]
    told = np.zeros(len(ReportKind) + 1, np.int64)
    node = MatchingNode(0)
    empty = {name: part.copy() for name, part in node.state_parts().items()}

    def compiled() -> tuple[int, float]:
        node.load_parts({name: part.copy() for name, part in empty.items()})
        told[:] = 0
        seconds = 0.0
        for batch in batches:
            begin = time.process_time()
            reports = node.apply(batch)
            seconds += time.process_time() - begin
            told[:] += np.bincount(reports["kind"][reports["sequence"] <= SAMPLE], minlength=len(told))
        return len(orders), seconds

    def plain() -> tuple[int, float]:
        exchange = PlainExchange()
        begin = time.process_time()
        for request in sample:
            exchange.apply(request)
        seconds = time.process_time() - begin
        if exchange.told != told.tolist():
            raise RuntimeError(f"the peer reports {exchange.told}, not {told.tolist()}: it does not do the same work")
        return len(sample), seconds

    return compare("cluster.matching.orders_per_s", "orders/s", compiled, "the same rules in plain Python", plain)


def deep_book_row() -> Row:
    """Orders a second that make and remove levels anywhere in a book with 10,000 of them a side; the peer is the same with 10."""
    changes = {levels: _changes(levels) for levels in (DEEP_LEVELS, 10)}

    def turn(levels: int) -> tuple[int, float]:
        fill, change, payload = changes[levels]
        node = MatchingNode(0)
        for batch in _batches(fill, payload):
            node.apply(batch)
        batches = _batches(change, payload, len(fill) + 1)
        begin = time.process_time()
        for batch in batches:
            node.apply(batch)
        return len(change), time.process_time() - begin

    return compare(
        "cluster.deep_book.orders_per_s",
        "orders/s",
        lambda: turn(DEEP_LEVELS),
        "a book with 10 levels a side",
        lambda: turn(10),
    )


def _batches(orders: np.ndarray, payload: np.ndarray, first_sequence: int = 1) -> list[Batch]:
    decisions = np.zeros(len(orders), DECISION_DTYPE)
    decisions["verdict"] = ACCEPTED
    return [
        Batch(0, first_sequence + begin, orders[begin : begin + BATCH], decisions[begin : begin + BATCH], payload)
        for begin in range(0, len(orders), BATCH)
    ]


def _changes(levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orders that make every second of twice so many levels a side, then orders between them and their cancels."""
    total = 2 * levels + DEEP_CHANGES
    text = b"".join(b"8=FIX\x0111=%08d\x01" % number for number in range(total))
    size = len(text) // total
    frames = np.zeros(total, FRAME_DTYPE)
    frames["kind"], frames["order_type"], frames["quantity"], frames["instrument"] = (
        Kind.NEW_ORDER,
        OrderType.LIMIT,
        1,
        7,
    )
    frames["payload_offset"], frames["payload_length"] = size * np.arange(total), size
    frames["client_order_id"] = len(b"8=FIX\x0111=")
    fill, change = frames[: 2 * levels], frames[2 * levels :]
    steps = np.arange(levels) + 1
    fill["side"][::2], fill["side"][1::2] = Side.BUY, Side.SELL
    fill["price"][::2], fill["price"][1::2] = DEEP_PRICE - 2 * steps * DEEP_TICK, DEEP_PRICE + 2 * steps * DEEP_TICK
    random = np.random.default_rng(1)
    buys = random.integers(0, 2, len(change) // 2)
    away = (2 * random.integers(1, levels, len(buys)) + 1) * DEEP_TICK
    new, cancel = change[::2], change[1::2]
    new["side"] = np.where(buys, Side.BUY, Side.SELL)
    new["price"] = DEEP_PRICE + np.where(buys, -away, away)
    cancel["kind"], cancel["side"] = Kind.CANCEL, new["side"]
    cancel["payload_offset"], cancel["original_order_id"] = new["payload_offset"], new["client_order_id"]
    return fill, change, np.frombuffer(text, np.uint8).copy()


class Request(NamedTuple):
    """An order message, as the peer takes it."""

    kind: int
    name: tuple[int, bytes]
    original: tuple[int, bytes]
    instrument: int
    buy: bool
    quantity: int
    price: int
    limited: bool
    time_in_force: int


def _request(frame: np.void, payload: np.ndarray) -> Request:
    start, flow = int(frame["payload_offset"]), int(frame["flow"])
    raw = payload[start : start + int(frame["payload_length"])].tobytes()

    def text(offset: int) -> tuple[int, bytes]:
        return flow, raw[offset : raw.index(b"\x01", offset)] if offset else b""

    return Request(
        int(frame["kind"]),
        text(int(frame["client_order_id"])),
        text(int(frame["original_order_id"])),
        int(frame["instrument"]),
        frame["side"] == Side.BUY,
        int(frame["quantity"]),
        int(frame["price"]),
        frame["order_type"] == OrderType.LIMIT,
        int(frame["time_in_force"]),
    )


class PlainOrder:
    """An open order of the peer."""

    __slots__ = ("buy", "cumulative", "instrument", "leaves", "name", "price")

    def __init__(self, request: Request) -> None:
        self.name, self.instrument, self.buy = request.name, request.instrument, request.buy
        self.price, self.leaves, self.cumulative = request.price, request.quantity, 0


class PlainExchange:
    """Price-time priority as one writes it first: sorted lists of prices, queues of orders, a dictionary of names."""

    def __init__(self) -> None:
        self.told = [0] * (len(ReportKind) + 1)
        self._open: dict[tuple[int, bytes], PlainOrder] = {}
        self._prices: dict[tuple[int, bool], list[int]] = {}
        self._queues: dict[tuple[int, bool, int], deque[PlainOrder]] = {}

    def apply(self, request: Request) -> None:
        """One order message."""
        if request.kind == Kind.CANCEL:
            self._cancel(request)
        elif request.kind == Kind.REPLACE:
            self._replace(request)
        elif request.name in self._open:
            self.told[ReportKind.REJECTED] += 1
        else:
            self.told[ReportKind.NEW] += 1
            self._enter(PlainOrder(request), request.limited, request.time_in_force)

    def _found(self, request: Request) -> PlainOrder | None:
        order = self._open.get(request.original)
        return order if order and order.instrument == request.instrument else None

    def _cancel(self, request: Request) -> None:
        if (order := self._found(request)) is None:
            self.told[ReportKind.CANCEL_REJECTED] += 1
            return
        self._remove(order)
        self.told[ReportKind.CANCELED] += 1

    def _replace(self, request: Request) -> None:
        order = self._found(request)
        may_rest = request.limited and request.time_in_force not in _AT_ONCE
        taken = request.name in self._open and request.name != request.original
        if order is None or not may_rest or request.buy != order.buy or taken:
            self.told[ReportKind.CANCEL_REJECTED] += 1
            return
        self.told[ReportKind.REPLACED] += 1
        leaves = request.quantity - order.cumulative
        if 0 < leaves <= order.leaves and request.price == order.price:
            del self._open[order.name]
            order.name, order.leaves = request.name, leaves
            self._open[order.name] = order
            return
        self._remove(order)
        if leaves > 0:
            order.name, order.leaves, order.price = request.name, leaves, request.price
            self._enter(order, True, request.time_in_force)

    def _enter(self, order: PlainOrder, limited: bool, time_in_force: int) -> None:
        prices = self._prices.setdefault((order.instrument, not order.buy), [])
        enough = time_in_force != TimeInForce.FILL_OR_KILL or self._has(order, limited, prices)
        while enough and order.leaves and prices:
            price = prices[0] if order.buy else prices[-1]
            if limited and (price > order.price if order.buy else price < order.price):
                break
            maker = self._queues[order.instrument, not order.buy, price][0]
            traded = min(order.leaves, maker.leaves)
            for each in (order, maker):
                each.leaves -= traded
                each.cumulative += traded
                self.told[ReportKind.PARTIAL_FILL if each.leaves else ReportKind.FILL] += 1
            if not maker.leaves:
                self._remove(maker)
        if not order.leaves:
            return
        if not limited or time_in_force in _AT_ONCE:
            self.told[ReportKind.CANCELED] += 1
            return
        side = order.instrument, order.buy
        if (*side, order.price) not in self._queues:
            self._queues[*side, order.price] = deque()
            insort(self._prices.setdefault(side, []), order.price)
        self._queues[*side, order.price].append(order)
        self._open[order.name] = order

    def _has(self, order: PlainOrder, limited: bool, prices: Sequence[int]) -> bool:
        wanted = order.leaves
        for price in prices if order.buy else reversed(prices):
            if wanted <= 0 or (limited and (price > order.price if order.buy else price < order.price)):
                break
            wanted -= sum(each.leaves for each in self._queues[order.instrument, not order.buy, price])
        return wanted <= 0

    def _remove(self, order: PlainOrder) -> None:
        del self._open[order.name]
        side = order.instrument, order.buy
        queue = self._queues[*side, order.price]
        queue.remove(order)
        if not queue:
            del self._queues[*side, order.price]
            prices = self._prices[side]
            del prices[bisect_left(prices, order.price)]


_AT_ONCE = (TimeInForce.IMMEDIATE_OR_CANCEL, TimeInForce.FILL_OR_KILL)
