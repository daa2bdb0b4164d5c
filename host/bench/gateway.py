"""The gateway beside the same checks in plain Python, and beside SQLite as the journal."""

import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np

from hdl.frame import Kind, Side
from hdl.sbe_venue import load_venue
from host.bench.measure import Row, compare
from host.bench.sqlite_journal import sqlite_seconds
from host.card import open_card
from host.cluster.matching_node import MatchingNode
from host.cluster.report import REPORT_DTYPE, ReportKind
from host.demo import DEMO_LIMITS
from host.gateway.limits import Limits
from host.gateway.notional import NOTIONAL_LIMIT
from host.gateway.pipeline import Gateway
from host.gateway.risk import Risk
from host.gateway.risk_state import QUANTITY_LIMIT, set_top
from host.gateway.terms import DEFAULT_ACCOUNT, Account, Instrument, Position, SelfTrade, Session
from host.gateway.verdict import Verdict
from host.generate import SCHEMA, generate
from host.journal import Journal
from host.journal.batch import DECISION_DTYPE

ORDERS = 30_000
PLAIN_FRAMES = 10_000
ROUNDS = 7
"""How often risk is given the traffic: so many client order ids as a fifth of what it remembers."""
SLICE = 8192
"""Frames that the gateway is given at a time."""


class Traffic:
    """Generated traffic as it stands in the rings."""

    def __init__(self) -> None:
        made = generate(ORDERS, seed=7)
        self.card = open_card("soft:", made.flows, load_venue(SCHEMA), frame_slots=1 << 18, payload_bytes=1 << 26)
        self.card.feed(made.packets)
        self.frames = self.card.ring.poll(1 << 18)
        self.payload = self.card.ring.payload
        orders = np.isin(self.frames["kind"], (Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE))
        self.orders = int(np.count_nonzero(orders))


def all_checks(flows: int) -> Limits:
    """The demo's limits with every check on, and so wide that what passed without them still passes."""
    much, wide = QUANTITY_LIMIT - 1, NOTIONAL_LIMIT - 1
    rate: dict[str, Any] = {"order_rate": 10**6, "order_burst": 10**6}
    return Limits(
        instruments=tuple(
            replace(each, fat_finger_ppm=500_000, order_notional=wide, shortable=False)
            for each in DEMO_LIMITS.instruments
        ),
        accounts=tuple(
            Account(
                each.name,
                each.order_notional,
                notional=wide,
                gross_notional=wide,
                maximum_quantity=much,
                long_quantity=much,
                short_quantity=much,
                self_trade=SelfTrade.CANCEL_NEWEST,
                mark_shorts=True,
                **rate,
            )
            for each in DEMO_LIMITS.accounts
        ),
        nodes=DEMO_LIMITS.nodes,
        sessions=tuple(Session(flow, maximum_quantity=much, order_notional=wide, **rate) for flow in range(flows)),
        positions=tuple(
            Position(account.name, instrument.symbol, located=True)
            for account in DEMO_LIMITS.accounts
            for instrument in DEMO_LIMITS.instruments
        ),
    )


def checked_risk(limits: Limits) -> Risk:
    """Risk with those limits, routed, and with a book's best prices for each instrument."""
    risk = limits.risk()
    risk.route(limits.router())
    for row, instrument in enumerate(limits.instruments):
        set_top(risk.state, row, True, instrument.reference_price, True, instrument.reference_price)
    return risk


def risk_route_row(traffic: Traffic) -> Row:
    """Frames a second through all checks and the router, orders and market data mixed as generated, every sale marked short,
    in slices, from sessions that are others each time round. The frames have just been written, as a card's are, and between
    two slices nodes end the orders that were accepted."""
    frames, payload = traffic.frames.copy(), traffic.payload
    frames["side"][(frames["kind"] <= Kind.REPLACE) & (frames["side"] == Side.SELL)] = Side.SELL_SHORT
    decisions, accepted = np.zeros(SLICE, DECISION_DTYPE), np.zeros(len(frames), np.bool_)
    sessions, flows, times = int(frames["flow"].max()) + 1, frames["flow"].copy(), frames["timestamp"].copy()
    span = times.max() - times.min()
    limits = all_checks(sessions * ROUNDS)

    def compiled() -> tuple[int, float]:
        risk, seconds = checked_risk(limits), 0.0
        for number in range(ROUNDS):
            frames["flow"] = flows + number * sessions
            frames["timestamp"] = times + np.uint64(number) * span
            for first in range(0, len(frames), SLICE):
                part = frames[first : first + SLICE]
                begin = time.perf_counter()
                risk.decide(part, payload, decisions)
                seconds += time.perf_counter() - begin
                accepted[first : first + SLICE] = decisions["verdict"][: len(part)] == Verdict.ACCEPTED
                end_orders(risk)
        return ROUNDS * len(frames), seconds

    sample = frames[:PLAIN_FRAMES]

    def plain() -> tuple[int, float]:
        checks = PlainPython(limits)
        begin = time.perf_counter()
        passed = sum(checks.accepts(frame, payload) for frame in sample)
        seconds = time.perf_counter() - begin
        expected = int(np.count_nonzero(accepted[:PLAIN_FRAMES]))
        if passed != expected:
            raise RuntimeError(f"the peer accepts {passed} orders, not {expected}: it does not do the same work")
        return len(sample), seconds

    return compare("gateway.risk_route.frames_per_s", "frames/s", compiled, "the same checks in plain Python", plain)


def end_orders(risk: Risk) -> None:
    """Settles the reports that all open orders were canceled."""
    # Rows are taken again as they come free, so that those of one slice are always the first.
    orders = risk.state.orders[:SLICE]
    orders = orders[orders["state"] != 0]
    reports = np.zeros(len(orders), REPORT_DTYPE)
    reports["kind"] = ReportKind.CANCELED
    for name in ("key_low", "key_high", "flow"):
        reports[name] = orders[name]
    risk.settle(reports)


class PlainPython:
    """The checks as one writes them first: dictionaries and Python numbers."""

    def __init__(self, limits: Limits) -> None:
        router = limits.router()
        self._instruments = {each.code: each for each in limits.instruments}
        self._by_security = {each.security_id: each for each in limits.instruments}
        self._reference = {each.code: each.reference_price for each in limits.instruments}
        self._tops = dict(self._reference)
        self._nodes = {code: router.node(code) for code in self._instruments}
        self._accounts = {each.name.encode(): each for each in limits.accounts}
        self._sessions = {each.flow: each for each in limits.sessions}
        self._located = {(each.account.encode(), each.instrument) for each in limits.positions if each.located}
        self._used: defaultdict[bytes, int] = defaultdict(int)
        self._gross: defaultdict[bytes, int] = defaultdict(int)
        self._open: defaultdict[tuple[bytes, int], list[int]] = defaultdict(lambda: [0, 0, 0])
        self._due: defaultdict[object, int] = defaultdict(int)
        self._ids: set[tuple[int, bytes]] = set()
        self._orders: dict[tuple[int, bytes], int] = {}

    def accepts(self, frame: np.void, payload: np.ndarray) -> bool:
        """Whether a frame is an order that passes."""
        kind = frame["kind"]
        if kind == Kind.TRADE and frame["price"] > 0 and int(frame["instrument"]) in self._by_security:
            self._reference[self._by_security[int(frame["instrument"])].code] = int(frame["price"])
        if kind not in (Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE):
            return False
        start = int(frame["payload_offset"])
        raw = payload[start : start + int(frame["payload_length"])].tobytes()
        identifier = int(frame["flow"]), _text(raw, int(frame["client_order_id"]))
        instrument = self._instruments.get(int(frame["instrument"]))
        if instrument is None or identifier in self._ids or self._nodes[instrument.code] is None:
            return False
        if kind != Kind.CANCEL and not self._passes(frame, raw, instrument, identifier):
            return False
        self._ids.add(identifier)
        return True

    def _passes(self, frame: np.void, raw: bytes, instrument: Instrument, identifier: tuple[int, bytes]) -> bool:
        """Whether a new order or a replace is within all limits; books it if it is."""
        quantity, price, name = int(frame["quantity"]), int(frame["price"]), _text(raw, int(frame["account"]))
        code, reference, top = instrument.code, self._reference[instrument.code], self._tops[instrument.code]
        account, session = self._accounts.get(name, DEFAULT_ACCOUNT), self._sessions[identifier[0]]
        if quantity > min(instrument.maximum_quantity, account.maximum_quantity, session.maximum_quantity):
            return False
        limit, buy = frame["order_type"] == ord("2"), frame["side"] == Side.BUY
        if limit and abs(price - reference) * 1_000_000 > instrument.collar_ppm * reference:
            return False
        if limit and (price - top if buy else top - price) * 1_000_000 > instrument.fat_finger_ppm * top:
            return False
        notional = quantity * (price if limit else reference)
        if notional > min(instrument.order_notional, session.order_notional, account.order_notional):
            return False
        if self._used[name] + notional > account.notional:
            return False
        before = self._orders.get((identifier[0], _text(raw, int(frame["original_order_id"]))), 0)
        more = max(quantity - before, 0)
        open_buy, open_sell, mark = held = self._open[name, code]
        if not buy and not instrument.shortable and (name, instrument.symbol) not in self._located:
            return False
        if (open_buy if buy else open_sell) + more > (account.long_quantity if buy else account.short_quantity):
            return False
        after = max(open_buy + (more if buy else 0), open_sell + (0 if buy else more))
        gross = self._gross[name]
        if after > max(open_buy, open_sell):
            new_mark = max(reference, price)
            gross += after * new_mark - max(open_buy, open_sell) * mark
            if gross > account.gross_notional:
                return False
            held[2] = new_mark
        for key, its in ((name, account), (identifier[0], session)):
            if its.order_rate:
                now, interval = int(frame["timestamp"]), -(-(10**9) // its.order_rate)
                if now < self._due[key] - interval * (its.order_burst - 1):
                    return False
                self._due[key] = max(self._due[key], now) + interval
        held[0 if buy else 1] += more
        self._used[name] += notional
        self._gross[name] = gross
        self._orders[identifier] = quantity
        return True


def _text(raw: bytes, offset: int) -> bytes:
    return raw[offset : raw.index(b"\x01", offset)] if offset else b""


def journaled_row(traffic: Traffic) -> Row:
    """Orders a second from the ring to applied by their node, each batch durable before; the peer stores the same order
    frames and raw messages in SQLite, one transaction (synchronous=FULL, WAL) a batch."""
    frames, payload = traffic.frames, traffic.payload

    def gateway() -> tuple[int, float]:
        with tempfile.TemporaryDirectory(prefix="tickgate-bench-", dir=".") as folder, Journal(folder) as journal:
            nodes = [MatchingNode(number) for number in DEMO_LIMITS.nodes]
            whole = Gateway(DEMO_LIMITS.risk(), DEMO_LIMITS.router(), journal, nodes)
            begin = time.perf_counter()
            for first in range(0, len(frames), SLICE):
                whole.process(frames[first : first + SLICE], payload)
            return traffic.orders, time.perf_counter() - begin

    def sqlite() -> tuple[int, float]:
        slices = (frames[first : first + SLICE] for first in range(0, len(frames), SLICE))
        orders = (part[np.isin(part["kind"], (Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE))] for part in slices)
        return traffic.orders, sqlite_seconds(orders, payload)

    return compare("gateway.journaled.orders_per_s", "orders/s", gateway, "SQLite alone (WAL, FULL)", sqlite)
