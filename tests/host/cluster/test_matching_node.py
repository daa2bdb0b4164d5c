"""Limit, market, IOC and FOK orders, cancels and replaces; what a node takes and what it refuses."""

import pytest

from host.cluster import MatchingNode
from host.cluster.invariants import check_books
from host.journal.batch import ACCEPTED
from tests.host.cluster.orders import (
    BUY,
    FOK,
    IOC,
    MARKET,
    SELL,
    Desk,
    batch,
    cancel,
    market,
    new,
    plain,
    replace,
)


def test_the_best_price_then_the_oldest_order_trades_at_the_resting_price() -> None:
    told = Desk().short(
        new("a", SELL, 10, 102), new("b", SELL, 10, 101), new("c", SELL, 10, 101), new("d", BUY, 25, 103)
    )
    assert told == [
        ("PARTIAL_FILL", 4, 10, 101),
        ("FILL", 2, 10, 101),
        ("PARTIAL_FILL", 4, 10, 101),
        ("FILL", 3, 10, 101),
        ("FILL", 4, 5, 102),
        ("PARTIAL_FILL", 1, 5, 102),
    ]


def test_ioc_and_market_cancel_what_is_left_and_fok_trades_whole_or_not() -> None:
    desk = Desk()
    assert desk.tell(new("a", SELL, 10, 100), new("b", BUY, 11, 100, time_in_force=FOK))[1:] == [
        ("NEW", "NONE", 2, 100, 11, 11, 0),
        ("CANCELED", "NOT_FILLED_WHOLE", 2, 100, 11, 0, 0),
    ]
    assert desk.tell(new("c", BUY, 4, 100, time_in_force=FOK))[1] == ("FILL", "NONE", 3, 100, 4, 0, 4)
    assert desk.short(new("d", BUY, 8, 99, time_in_force=IOC)) == [("CANCELED", 4, 8, 99)]
    assert desk.tell(market("e", BUY, 8))[1:] == [
        ("PARTIAL_FILL", "NONE", 5, 100, 6, 2, 6),
        ("FILL", "NONE", 1, 100, 6, 0, 10),
        ("CANCELED", "NOTHING_TO_MATCH", 5, 0, 8, 0, 6),
    ]
    assert (desk.node.open_orders, desk.node.trades) == (0, 2)


def test_less_quantity_keeps_priority_and_anything_else_loses_it() -> None:
    desk = Desk()
    desk.tell(new("a", BUY, 10, 100), new("b", BUY, 10, 100), replace("a2", "a", BUY, 5, 100))
    assert [order[2] for order in desk.queue()] == [3, 2]
    desk.tell(replace("a3", "a2", BUY, 9, 100))
    assert [order[2] for order in desk.queue()] == [2, 4]
    desk.tell(replace("b2", "b", BUY, 10, 101), replace("b3", "b2", BUY, 10, 100))
    assert [order[2] for order in desk.queue()] == [4, 6]


def test_a_replace_that_crosses_trades() -> None:
    desk = Desk()
    assert desk.short(new("a", BUY, 10, 99), new("b", SELL, 4, 100), replace("a2", "a", BUY, 10, 100)) == [
        ("REPLACED", 3, 10, 100),
        ("PARTIAL_FILL", 3, 4, 100),
        ("FILL", 2, 4, 100),
    ]
    assert desk.tell(cancel("x", "a2")) == [("CANCELED", "CANCELED_BY_CLIENT", 3, 100, 10, 0, 4)]


class TestOrderStateChanges:
    """FIX 4.4, volume 4, "order state change matrices", with a node's part of the messages."""

    def test_a_cancel_after_a_partial_fill(self) -> None:
        desk = Desk()
        desk.tell(new("x", BUY, 10_000, 50), market("s", SELL, 2_000))
        assert desk.tell(cancel("y", "x")) == [("CANCELED", "CANCELED_BY_CLIENT", 1, 50, 10_000, 0, 2_000)]

    def test_a_cancel_that_comes_after_the_fill_is_rejected(self) -> None:
        desk = Desk()
        desk.tell(new("x", BUY, 10_000, 50), market("s", SELL, 10_000))
        assert desk.tell(cancel("y", "x")) == [("CANCEL_REJECTED", "UNKNOWN_ORDER", 3, 0, 0, 0, 0)]

    def test_a_replace_to_more_keeps_what_has_been_filled(self) -> None:
        desk = Desk()
        desk.tell(new("x", BUY, 10_000, 50), market("s", SELL, 1_000))
        assert desk.tell(replace("y", "x", BUY, 12_000, 50)) == [("REPLACED", "NONE", 3, 50, 12_000, 11_000, 1_000)]

    @pytest.mark.parametrize("quantity", [7_000, 6_000])
    def test_a_replace_to_no_more_than_was_filled_is_amended_to_that_and_ends_the_order(self, quantity: int) -> None:
        desk = Desk()
        desk.tell(new("x", BUY, 10_000, 50), market("s", SELL, 7_000))
        assert desk.tell(replace("y", "x", BUY, quantity, 50)) == [("REPLACED", "BELOW_FILLED", 3, 50, 7_000, 0, 7_000)]
        assert desk.node.open_orders == 0

    def test_replaces_in_a_chain_each_name_the_one_before(self) -> None:
        desk = Desk()
        desk.tell(new("x", BUY, 10_000, 50), replace("y", "x", BUY, 8_000, 50), replace("z", "y", BUY, 6_000, 50))
        assert desk.reasons(replace("w", "y", BUY, 5_000, 50)) == ["UNKNOWN_ORDER"]
        assert desk.queue() == [(0, 50, 3, 6_000, 6_000)]

    def test_a_client_order_id_is_free_again_once_its_order_has_ended(self) -> None:
        desk = Desk()
        assert desk.reasons(new("x", BUY, 1, 50), new("x", BUY, 1, 50)) == ["DUPLICATE_ORDER"]
        assert desk.reasons(cancel("y", "x"), new("x", BUY, 1, 50)) == ["CANCELED_BY_CLIENT"]


def test_what_cannot_be_done_is_rejected_with_its_reason() -> None:
    desk = Desk()
    desk.tell(new("a", BUY, 10, 100), market("s", SELL, 6), new("b", BUY, 1, 90))
    before = desk.queue()
    assert desk.reasons(
        cancel("x1", "nobody"),
        cancel("x2", "a", flow=1),
        cancel("x3", "a", symbol="XYZ"),
        replace("x4", "nobody", BUY, 5, 100),
        replace("x5", "a", SELL, 9, 100),
        replace("b", "a", BUY, 9, 100),
        replace("x7", "a", BUY, 9, 100, time_in_force=IOC),
        replace("x8", "a", BUY, 9, 0, order_type=MARKET),
        new("a", BUY, 1, 1),
        new("z", BUY, 0, 1),
        new("y", BUY, 1 << 63, 1),
        replace("x9", "a", BUY, (1 << 64) - 1, 100),
        replace("x10", "a", BUY, 0, 100),
    ) == [
        "UNKNOWN_ORDER",
        "UNKNOWN_ORDER",
        "UNKNOWN_ORDER",
        "UNKNOWN_ORDER",
        "SIDE_CHANGED",
        "DUPLICATE_ORDER",
        "UNSUPPORTED_REPLACE",
        "UNSUPPORTED_REPLACE",
        "DUPLICATE_ORDER",
        "QUANTITY_OUT_OF_RANGE",
        "QUANTITY_OUT_OF_RANGE",
        "QUANTITY_OUT_OF_RANGE",
        "QUANTITY_OUT_OF_RANGE",
    ]
    assert desk.queue() == before


def test_a_price_level_cannot_overflow() -> None:
    desk = Desk()
    most = (1 << 63) - 1
    assert desk.reasons(new("a", BUY, most, 100), new("b", BUY, 1, 100)) == ["QUANTITY_OUT_OF_RANGE"]
    assert desk.reasons(new("c", BUY, 1, 99), replace("c2", "c", BUY, 1, 100)) == ["QUANTITY_OUT_OF_RANGE"]
    assert desk.queue() == [(0, 100, 1, most, most), (0, 99, 3, 1, 1)]
    assert desk.reasons(market("s", SELL, most)) == []


def test_a_full_node_rejects_and_goes_on() -> None:
    desk = Desk(orders=2, instruments=1)
    assert desk.reasons(
        new("a", BUY, 1, 100), new("b", BUY, 1, 99), new("c", BUY, 1, 98), new("d", BUY, 1, 1, symbol="XYZ")
    ) == ["ORDERS_FULL", "INSTRUMENTS_FULL"]
    assert desk.reasons(cancel("x", "a"), new("e", BUY, 1, 98)) == ["CANCELED_BY_CLIENT"]
    assert desk.node.applied == 6


def test_an_order_that_takes_more_than_the_report_buffer_holds_is_reported_whole() -> None:
    node = MatchingNode(0)
    count = 20_000
    node.apply(batch([new(f"s{i}", SELL, 1, 100 + i % 7) for i in range(count)]))
    reports = node.apply(batch([new("before", SELL, 1, 500), market("all", BUY, count)], count + 1))
    assert len(reports) == 1 + 1 + 2 * count
    assert [told[2] for told in plain(reports[[0, 1, -1, -2]])] == [count + 1, count + 2, count - 1, count + 2]
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


def test_node_numbers_and_room_are_checked() -> None:
    with pytest.raises(ValueError, match="255"):
        MatchingNode(255)
    with pytest.raises(ValueError, match="room"):
        MatchingNode(0, orders=0)
