"""The node matches as a simple book does, keeps its invariants, and repeats itself exactly."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdl.frame import FRAME_DTYPE, Kind, OrderType, Side, TimeInForce, crc64
from host.cluster import MatchingNode, Reason, ReportKind
from host.cluster.invariants import check_books
from host.journal import Batch
from host.journal.batch import ACCEPTED, DECISION_DTYPE

DAY, GTC, IOC, FOK = (
    TimeInForce.DAY,
    TimeInForce.GOOD_TILL_CANCEL,
    TimeInForce.IMMEDIATE_OR_CANCEL,
    TimeInForce.FILL_OR_KILL,
)
BUY, SELL = Side.BUY, Side.SELL


def order(
    kind: Kind,
    order_id: str,
    *,
    original: str = "",
    side: Side = BUY,
    price: int = 0,
    quantity: int = 0,
    order_type: OrderType = OrderType.LIMIT,
    time_in_force: int = DAY,
    symbol: str = "ABC",
    flow: int = 0,
) -> dict:
    return locals()


def new(order_id: str, side: Side, quantity: int, price: int, **more: object) -> dict:
    return order(Kind.NEW_ORDER, order_id, side=side, quantity=quantity, price=price, **more)


def market(order_id: str, side: Side, quantity: int, **more: object) -> dict:
    return order(Kind.NEW_ORDER, order_id, side=side, quantity=quantity, order_type=OrderType.MARKET, **more)


def cancel(order_id: str, original: str, **more: object) -> dict:
    return order(Kind.CANCEL, order_id, original=original, **more)


def replace(order_id: str, original: str, side: Side, quantity: int, price: int, **more: object) -> dict:
    return order(Kind.REPLACE, order_id, original=original, side=side, quantity=quantity, price=price, **more)


def batch(orders: Sequence[dict], first_sequence: int = 1, node: int = 0) -> Batch:
    frames = np.zeros(len(orders), FRAME_DTYPE)
    decisions = np.zeros(len(orders), DECISION_DTYPE)
    decisions["verdict"], decisions["node"] = ACCEPTED, node
    text = b""
    for frame, given_order in zip(frames, orders, strict=True):
        message = b"8=FIX\x0111=" + given_order["order_id"].encode() + b"\x01"
        frame["client_order_id"] = len(b"8=FIX\x0111=")
        if given_order["original"]:
            frame["original_order_id"] = len(message) + 3
            message += b"41=" + given_order["original"].encode() + b"\x01"
        for name in ("kind", "side", "price", "quantity", "order_type", "time_in_force", "flow"):
            frame[name] = given_order[name]
        frame["instrument"] = crc64(given_order["symbol"].encode())
        frame["payload_offset"], frame["payload_length"] = len(text), len(message)
        text += message
    return Batch(0, first_sequence, frames, decisions, np.frombuffer(text, np.uint8).copy())


def told(node: MatchingNode, *orders: dict, start: int = 1) -> list[tuple]:
    """(kind, order's sequence, price, quantity, leaves, cumulative) of every report."""
    reports = node.apply(batch(orders, start))
    check_books(node.state)
    return [
        (
            ReportKind(r["kind"]).name,
            *(int(r[n]) for n in ("order_sequence", "price", "quantity", "leaves", "cumulative")),
        )
        for r in reports
    ]


def reasons(node: MatchingNode, *orders: dict, start: int = 1) -> list[Reason]:
    reports = node.apply(batch(orders, start))
    check_books(node.state)
    return [Reason(r["reason"]) for r in reports if r["reason"]]


def test_the_best_price_then_the_oldest_order_trades_at_the_resting_price() -> None:
    assert told(
        MatchingNode(0),
        new("a", SELL, 10, 102),
        new("b", SELL, 10, 101),
        new("c", SELL, 10, 101),
        new("d", BUY, 25, 103),
    )[3:] == [
        ("NEW", 4, 103, 25, 25, 0),
        ("PARTIAL_FILL", 4, 101, 10, 15, 10),
        ("FILL", 2, 101, 10, 0, 10),
        ("PARTIAL_FILL", 4, 101, 10, 5, 20),
        ("FILL", 3, 101, 10, 0, 10),
        ("FILL", 4, 102, 5, 0, 25),
        ("PARTIAL_FILL", 1, 102, 5, 5, 5),
    ]


def test_ioc_and_market_cancel_what_is_left_and_fok_trades_whole_or_not() -> None:
    node = MatchingNode(0)
    assert told(node, new("a", SELL, 10, 100), new("b", BUY, 11, 100, time_in_force=FOK))[1:] == [
        ("NEW", 2, 100, 11, 11, 0),
        ("CANCELED", 2, 100, 11, 0, 0),
    ]
    assert told(node, new("c", BUY, 4, 100, time_in_force=FOK), start=3)[1] == ("FILL", 3, 100, 4, 0, 4)
    assert told(node, new("d", BUY, 8, 99, time_in_force=IOC), start=4)[1:] == [("CANCELED", 4, 99, 8, 0, 0)]
    assert told(node, market("e", BUY, 8), start=5)[1:] == [
        ("PARTIAL_FILL", 5, 100, 6, 2, 6),
        ("FILL", 1, 100, 6, 0, 10),
        ("CANCELED", 5, 0, 8, 0, 6),
    ]
    assert node.open_orders == 0
    assert node.trades == 2


def test_less_quantity_keeps_priority_and_anything_else_loses_it() -> None:
    node = MatchingNode(0)
    told(node, new("a", BUY, 10, 100), new("b", BUY, 10, 100), replace("a2", "a", BUY, 5, 100))
    assert told(node, market("s", SELL, 1), start=4)[2][1] == 3
    told(node, replace("a3", "a2", BUY, 9, 100), start=5)
    assert told(node, market("t", SELL, 1), start=6)[2][1] == 2
    told(node, replace("b2", "b", BUY, 5, 101), replace("b3", "b2", BUY, 5, 100), start=7)
    assert told(node, market("u", SELL, 1), start=9)[2][1] == 5


def test_a_replace_that_crosses_trades() -> None:
    node = MatchingNode(0)
    assert told(node, new("a", BUY, 10, 99), new("b", SELL, 4, 100), replace("a2", "a", BUY, 10, 100))[2:] == [
        ("REPLACED", 3, 100, 10, 10, 0),
        ("PARTIAL_FILL", 3, 100, 4, 6, 4),
        ("FILL", 2, 100, 4, 0, 4),
    ]
    assert told(node, cancel("x", "a2"), start=4) == [("CANCELED", 3, 100, 10, 0, 4)]


def test_what_cannot_be_done_is_rejected_with_its_reason() -> None:
    node = MatchingNode(0)
    told(node, new("a", BUY, 10, 100), market("s", SELL, 6), new("b", BUY, 1, 90))
    assert reasons(
        node,
        cancel("x1", "nobody"),
        cancel("x2", "a", flow=1),
        cancel("x3", "a", symbol="XYZ"),
        replace("x4", "nobody", BUY, 5, 100),
        replace("x5", "a", SELL, 9, 100),
        replace("x6", "a", BUY, 6, 100),
        replace("b", "a", BUY, 9, 100),
        replace("x7", "a", BUY, 9, 100, time_in_force=IOC),
        replace("x8", "a", BUY, 9, 0, order_type=OrderType.MARKET),
        new("a", BUY, 1, 1),
        new("z", BUY, 0, 1),
        new("y", BUY, 1 << 63, 1),
        replace("x9", "a", BUY, (1 << 64) - 1, 100),
        start=4,
    ) == [
        Reason.UNKNOWN_ORDER,
        Reason.UNKNOWN_ORDER,
        Reason.UNKNOWN_ORDER,
        Reason.UNKNOWN_ORDER,
        Reason.SIDE_CHANGED,
        Reason.BELOW_FILLED,
        Reason.DUPLICATE_ORDER,
        Reason.UNSUPPORTED_REPLACE,
        Reason.UNSUPPORTED_REPLACE,
        Reason.DUPLICATE_ORDER,
        Reason.QUANTITY_OUT_OF_RANGE,
        Reason.QUANTITY_OUT_OF_RANGE,
        Reason.QUANTITY_OUT_OF_RANGE,
    ]


def test_a_price_level_cannot_overflow() -> None:
    node = MatchingNode(0)
    most = (1 << 63) - 1
    assert reasons(node, new("a", BUY, most, 100), new("b", BUY, 1, 100)) == [Reason.QUANTITY_OUT_OF_RANGE]
    assert reasons(node, new("c", BUY, 1, 99), replace("c2", "c", BUY, 1, 100), start=3) == [
        Reason.QUANTITY_OUT_OF_RANGE
    ]
    assert reasons(node, market("s", SELL, most), start=5) == []


def test_a_full_node_rejects_and_goes_on() -> None:
    node = MatchingNode(0, orders=2, instruments=1)
    assert reasons(
        node, new("a", BUY, 1, 100), new("b", BUY, 1, 99), new("c", BUY, 1, 98), new("d", BUY, 1, 1, symbol="XYZ")
    ) == [Reason.ORDERS_FULL, Reason.INSTRUMENTS_FULL]
    assert reasons(node, cancel("x", "a"), start=5) == [Reason.CANCELED_BY_CLIENT]
    assert reasons(node, new("e", BUY, 1, 98), start=6) == []
    assert node.applied == 6


def test_an_order_that_takes_more_than_the_report_buffer_holds_is_reported_whole() -> None:
    node = MatchingNode(0)
    count = 20_000
    node.apply(batch([new(f"s{i}", SELL, 1, 100 + i % 7) for i in range(count)]))
    reports = node.apply(batch([new("before", SELL, 1, 500), market("all", BUY, count)], count + 1))
    assert len(reports) == 1 + 1 + 2 * count
    assert node.open_orders == 1
    check_books(node.state)


def test_only_what_is_routed_here_is_applied_and_only_once() -> None:
    node = MatchingNode(3)
    mine = batch([new("a", BUY, 1, 100), new("b", BUY, 1, 100)], node=3)
    mine.decisions[1]["verdict"] = ACCEPTED + 1
    assert len(node.apply(batch([new("z", BUY, 1, 100)]))) == 0
    assert len(node.apply(mine)) == 1
    state = node.state_hash()
    assert len(node.apply(mine)) == 0
    assert (node.applied, node.repeated, node.state_hash()) == (1, 1, state)


def test_the_hash_does_not_depend_on_how_orders_were_cut_into_batches() -> None:
    orders = [new(f"o{i}", BUY if i % 2 else SELL, 5 + i % 3, 100 + i % 5, symbol=f"S{i % 3}") for i in range(200)]
    whole, cut = MatchingNode(0), MatchingNode(0, orders=1000)
    whole.apply(batch(orders))
    for first in range(0, 200, 7):
        cut.apply(batch(orders[first : first + 7], first + 1))
    assert whole.state_hash() == cut.state_hash()
    cut.apply(batch([cancel("x", "nobody")], 201))
    assert whole.state_hash() != cut.state_hash()


class SimpleBook:
    """Price-time priority in as few lines as possible: one list of open orders, searched from end to end."""

    def __init__(self) -> None:
        self.open: list[dict] = []
        self.reports: list[tuple] = []

    def tell(self, kind: str, o: dict, price: int, quantity: int) -> None:
        self.reports.append((kind, o["sequence"], price, quantity, o["leaves"], o["cumulative"]))

    def apply(self, message: dict, sequence: int) -> None:
        target = next((o for o in self.open if o["order_id"] == message["original"]), None)
        mine = {**message, "sequence": sequence, "leaves": message["quantity"], "cumulative": 0}
        taken = any(o["order_id"] == message["order_id"] and o is not target for o in self.open)
        if message["kind"] == Kind.NEW_ORDER:
            if any(o["order_id"] == message["order_id"] for o in self.open):
                mine["leaves"] = 0
                return self.tell("REJECTED", mine, message["price"], message["quantity"])
            self.tell("NEW", mine, message["price"], message["quantity"])
            return self.trade(mine)
        mine["leaves"] = 0
        same_symbol = target is not None and target["symbol"] == message["symbol"]
        if target is None or not same_symbol:
            return self.tell("CANCEL_REJECTED", mine, message["price"], message["quantity"])
        whole = target["leaves"] + target["cumulative"]
        if message["kind"] == Kind.CANCEL:
            self.open.remove(target)
            target["leaves"] = 0
            return self.tell("CANCELED", target, target["price"], whole)
        if message["side"] != target["side"] or message["quantity"] <= target["cumulative"] or taken:
            return self.tell("CANCEL_REJECTED", mine, message["price"], message["quantity"])
        leaves = message["quantity"] - target["cumulative"]
        stays = message["price"] == target["price"] and leaves <= target["leaves"]
        target.update(order_id=message["order_id"], sequence=sequence, leaves=leaves, price=message["price"])
        target["time_in_force"] = DAY
        self.tell("REPLACED", target, message["price"], message["quantity"])
        if not stays:
            self.open.remove(target)
            self.trade(target)

    def trade(self, mine: dict) -> None:
        sign = 1 if mine["side"] == BUY else -1
        limited = mine["order_type"] == OrderType.LIMIT
        others = [
            o
            for o in sorted(self.open, key=lambda o: sign * o["price"])  # stable: time stays in order
            if o["symbol"] == mine["symbol"]
            and (o["side"] == BUY) != (mine["side"] == BUY)
            and (not limited or sign * o["price"] <= sign * mine["price"])
        ]
        if mine["time_in_force"] == FOK and sum(o["leaves"] for o in others) < mine["leaves"]:
            others = []
        for other in others:
            traded = min(mine["leaves"], other["leaves"])
            if traded:
                for o in (mine, other):
                    o["leaves"] -= traded
                    o["cumulative"] += traded
                    self.tell("PARTIAL_FILL" if o["leaves"] else "FILL", o, other["price"], traded)
        self.open = [o for o in self.open if o["leaves"]]
        if mine["leaves"] and limited and mine["time_in_force"] in (DAY, GTC):
            self.open.append(mine)
        elif mine["leaves"]:
            whole, mine["leaves"] = mine["leaves"] + mine["cumulative"], 0
            self.tell("CANCELED", mine, mine["price"], whole)


IDS = st.integers(0, 12).map(lambda n: f"order-{n}")
MESSAGES = st.builds(
    order,
    st.sampled_from([Kind.NEW_ORDER, Kind.NEW_ORDER, Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE]),
    IDS,
    original=IDS,
    side=st.sampled_from([BUY, SELL, Side.SELL_SHORT]),
    price=st.integers(-2, 4),
    quantity=st.integers(1, 9),
    order_type=st.sampled_from([OrderType.LIMIT, OrderType.LIMIT, OrderType.MARKET]),
    time_in_force=st.sampled_from([0, DAY, GTC, IOC, FOK]),
    symbol=st.sampled_from(["ABC", "ABC", "XYZ"]),
)


def plain(message: dict) -> dict:
    """The message as the reference takes it: no price where there is none, a replace that may rest."""
    if message["kind"] == Kind.REPLACE:
        message = {**message, "order_type": OrderType.LIMIT, "time_in_force": DAY}
    if message["kind"] == Kind.NEW_ORDER:
        message = {**message, "original": "", "time_in_force": message["time_in_force"] or DAY}
    return {**message, "price": message["price"] if message["order_type"] == OrderType.LIMIT else 0}


@settings(max_examples=300, deadline=None)
@given(st.lists(MESSAGES, max_size=60))
def test_the_node_reports_what_a_simple_book_reports(messages: list[dict]) -> None:
    orders = [plain(message) for message in messages]
    node, book = MatchingNode(0, orders=64, instruments=4), SimpleBook()
    for sequence, message in enumerate(orders, 1):
        book.reports.clear()
        book.apply(message, sequence)
        assert told(node, message, start=sequence) == book.reports
    again = MatchingNode(0, orders=64, instruments=4)
    again.apply(batch(orders))
    assert again.state_hash() == node.state_hash()


def test_node_numbers_and_room_are_checked() -> None:
    with pytest.raises(ValueError, match="255"):
        MatchingNode(255)
    with pytest.raises(ValueError, match="room"):
        MatchingNode(0, orders=0)
