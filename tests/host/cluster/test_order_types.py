"""Stop, stop-limit, iceberg and post-only orders."""

import pytest

from tests.host.cluster.orders import (
    BUY,
    FOK,
    GTC,
    IOC,
    LIMIT,
    SELL,
    STOP,
    STOP_LIMIT,
    Desk,
    Message,
    cancel,
    market,
    new,
    replace,
    stop,
    stop_limit,
)


class TestStops:
    def test_a_stop_waits_for_a_trade_at_its_price_and_trades_after_what_triggered_it(self) -> None:
        desk = Desk()
        desk.tell(new("a", SELL, 5, 100), new("b", SELL, 5, 101), new("c", SELL, 5, 102), stop("s", BUY, 4, 101))
        assert desk.short(market("x", BUY, 5)) == [("FILL", 5, 5, 100), ("FILL", 1, 5, 100)]
        assert desk.short(market("y", BUY, 5)) == [
            ("FILL", 6, 5, 101),
            ("FILL", 2, 5, 101),
            ("TRIGGERED", 4, 4, 0),
            ("FILL", 4, 4, 102),
            ("PARTIAL_FILL", 3, 4, 102),
        ]

    def test_a_stop_whose_price_the_last_trade_has_reached_is_triggered_at_once(self) -> None:
        desk = Desk()
        desk.tell(new("a", SELL, 1, 100), market("b", BUY, 1), new("c", BUY, 2, 99))
        assert desk.short(stop("s", SELL, 1, 100)) == [
            ("TRIGGERED", 4, 1, 0),
            ("FILL", 4, 1, 99),
            ("PARTIAL_FILL", 3, 1, 99),
        ]
        assert desk.short(stop("t", SELL, 1, 98), stop("u", BUY, 1, 100)) == []

    def test_a_stop_limit_rests_at_its_limit_and_is_a_limit_order_from_then_on(self) -> None:
        desk = Desk()
        desk.tell(new("a", SELL, 1, 100), stop_limit("s", BUY, 5, 100, 99), market("b", BUY, 1))
        assert desk.queue() == [(0, 99, 2, 5, 5)]
        again = {"order_type": STOP_LIMIT, "stop": 100}
        assert desk.reasons(replace("s2", "s", BUY, 4, 98, **again)) == ["UNSUPPORTED_REPLACE"]
        assert desk.short(replace("s2", "s", BUY, 4, 98)) == [("REPLACED", 5, 4, 98)]

    def test_stops_are_triggered_buys_first_by_price_then_by_age(self) -> None:
        desk = Desk()
        desk.tell(
            stop("b2", BUY, 1, 100),
            stop("b1", BUY, 1, 99),
            stop("b3", BUY, 1, 100),
            stop("s2", SELL, 1, 100),
            stop("s1", SELL, 1, 101),
            stop("b4", BUY, 1, 101),
            new("a", SELL, 1, 100),
        )
        told = desk.short(market("x", BUY, 1))
        assert [each[1] for each in told if each[0] == "TRIGGERED"] == [2, 1, 3, 5, 4]
        assert [order[:3] for order in desk.queue()] == [(2, 101, 6)]

    def test_each_trade_of_one_order_triggers_so_both_sides_may_be(self) -> None:
        desk = Desk()
        desk.tell(new("a", SELL, 1, 100), new("b", SELL, 1, 105), new("c", BUY, 9, 90))
        desk.tell(stop("s", SELL, 1, 101), stop("t", BUY, 1, 104))
        told = desk.short(market("x", BUY, 2))
        assert [each[:2] for each in told if each[0] == "TRIGGERED"] == [("TRIGGERED", 4), ("TRIGGERED", 5)]

    def test_a_cascade_runs_through_all_stops_in_the_order_of_the_trades_and_ends(self) -> None:
        desk = Desk()
        count = 30
        for step in range(count):
            desk.tell(new(f"bid{step}", BUY, 1, 100 - step), stop(f"stop{step}", SELL, 1, 100 - step))
        told = desk.short(market("x", SELL, 1))
        assert [each[1] for each in told if each[0] == "TRIGGERED"] == [2 * step + 2 for step in range(count)]
        assert told[-1][:2] == ("CANCELED", 2 * count)
        assert desk.node.open_orders == 0

    def test_a_waiting_stop_is_canceled_and_replaced_like_another(self) -> None:
        desk = Desk()
        kind = {"order_type": STOP}
        desk.tell(stop("a", BUY, 5, 100), stop("b", BUY, 5, 100))
        desk.tell(replace("a2", "a", BUY, 4, stop=100, **kind))
        assert [order[1:4] for order in desk.queue()] == [(100, 3, 4), (100, 2, 5)]
        desk.tell(replace("a3", "a2", BUY, 6, stop=100, **kind))
        assert [order[1:4] for order in desk.queue()] == [(100, 2, 5), (100, 4, 6)]
        desk.tell(replace("b2", "b", BUY, 5, stop=103, **kind))
        assert [order[1:4] for order in desk.queue()] == [(100, 4, 6), (103, 5, 5)]
        assert desk.reasons(
            replace("x", "b2", BUY, 5, 100),
            replace("x", "b2", BUY, 5, 100, order_type=STOP_LIMIT, stop=103),
            replace("x", "b2", BUY, 5, **kind),
            cancel("x", "b2"),
        ) == ["UNSUPPORTED_REPLACE", "UNSUPPORTED_REPLACE", "NO_STOP_PRICE", "CANCELED_BY_CLIENT"]

    def test_a_replace_to_a_stop_price_that_is_reached_triggers(self) -> None:
        desk = Desk()
        desk.tell(new("a", SELL, 2, 100), market("b", BUY, 1), stop("s", BUY, 1, 101))
        assert desk.short(replace("s2", "s", BUY, 1, stop=99, order_type=STOP)) == [
            ("REPLACED", 4, 1, 0),
            ("TRIGGERED", 4, 1, 0),
            ("FILL", 4, 1, 100),
            ("FILL", 1, 1, 100),
        ]

    def test_other_instruments_do_not_trigger(self) -> None:
        desk = Desk()
        desk.tell(stop("s", BUY, 1, 100), new("a", SELL, 1, 100, symbol="XYZ"))
        assert [told[0] for told in desk.short(market("b", BUY, 1, symbol="XYZ"))] == ["FILL", "FILL"]

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            (new("s", BUY, 1, order_type=STOP), "NO_STOP_PRICE"),
            (new("s", BUY, 1, 100, stop=100), "NO_STOP_ORDER"),
            (stop("s", BUY, 1, 100, time_in_force=IOC), "STOP_MUST_WAIT"),
            (stop("s", BUY, 1, 100, time_in_force=FOK), "STOP_MUST_WAIT"),
        ],
    )
    def test_a_stop_that_makes_no_sense_is_rejected(self, message: Message, reason: str) -> None:
        assert Desk().reasons(message) == [reason]


class TestIcebergs:
    def test_what_is_shown_trades_and_the_next_display_stands_behind_the_others(self) -> None:
        desk = Desk()
        desk.tell(new("i", SELL, 25, 100, display=10), new("a", SELL, 5, 100))
        assert desk.queue() == [(1, 100, 1, 25, 10), (1, 100, 2, 5, 5)]
        assert desk.short(market("x", BUY, 12)) == [
            ("PARTIAL_FILL", 3, 10, 100),
            ("PARTIAL_FILL", 1, 10, 100),
            ("FILL", 3, 2, 100),
            ("PARTIAL_FILL", 2, 2, 100),
        ]
        assert desk.queue() == [(1, 100, 2, 3, 3), (1, 100, 1, 15, 10)]
        desk.tell(market("y", BUY, 13))
        assert desk.queue() == [(1, 100, 1, 5, 5)]

    def test_an_incoming_iceberg_trades_all_it_has_and_shows_only_when_it_rests(self) -> None:
        desk = Desk()
        desk.tell(new("a", SELL, 8, 100), new("i", BUY, 20, 100, display=5))
        assert desk.queue() == [(0, 100, 2, 12, 5)]

    def test_fill_or_kill_counts_hidden_quantity(self) -> None:
        desk = Desk()
        desk.tell(new("i", SELL, 100, 100, display=1))
        assert desk.reasons(new("x", BUY, 101, 100, time_in_force=FOK)) == ["NOT_FILLED_WHOLE"]
        told = desk.short(new("y", BUY, 100, 100, time_in_force=FOK))
        assert len(told) == 200
        assert told[-2:] == [("FILL", 3, 1, 100), ("FILL", 1, 1, 100)]

    def test_less_quantity_or_display_keeps_priority_and_more_display_loses_it(self) -> None:
        desk = Desk()
        desk.tell(new("i", SELL, 30, 100, display=10), new("a", SELL, 5, 100), market("x", BUY, 4))
        desk.tell(replace("i2", "i", SELL, 26, 100, display=10))
        assert desk.queue() == [(1, 100, 4, 22, 6), (1, 100, 2, 5, 5)]
        desk.tell(replace("i3", "i2", SELL, 26, 100, display=3))
        assert desk.queue() == [(1, 100, 5, 22, 3), (1, 100, 2, 5, 5)]
        desk.tell(replace("i4", "i3", SELL, 26, 100))
        assert desk.queue() == [(1, 100, 2, 5, 5), (1, 100, 6, 22, 22)]

    def test_more_display_keeps_priority_where_nothing_is_hidden(self) -> None:
        desk = Desk()
        desk.tell(new("i", SELL, 10, 100, display=10), new("a", SELL, 5, 100), replace("i2", "i", SELL, 10, 100))
        assert [order[2] for order in desk.queue()] == [3, 2]

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            (market("i", BUY, 10, display=1), "MUST_REST"),
            (new("i", BUY, 10, 100, display=1, time_in_force=IOC), "MUST_REST"),
            (stop("i", BUY, 10, 100, display=1), "MUST_REST"),
            (new("i", BUY, 101, 100, display=1), "DISPLAY_TOO_SMALL"),
            (new("i", BUY, 10, 100, display=0), "BAD_DISPLAY_QUANTITY"),
        ],
    )
    def test_an_iceberg_that_makes_no_sense_is_rejected(self, message: Message, reason: str) -> None:
        assert Desk().reasons(message) == [reason]

    def test_a_stop_limit_shows_its_display_once_triggered(self) -> None:
        desk = Desk()
        desk.tell(new("a", SELL, 1, 100), stop_limit("s", BUY, 30, 100, 99, display=7), market("b", BUY, 1))
        assert desk.queue() == [(0, 99, 2, 30, 7)]


class TestPostOnly:
    def test_what_would_trade_is_rejected_and_what_would_not_rests(self) -> None:
        desk = Desk()
        desk.tell(new("a", SELL, 1, 100))
        assert desk.reasons(new("p", BUY, 1, 100, post_only=True)) == ["WOULD_TRADE"]
        assert desk.reasons(new("p", BUY, 1, 99, post_only=True, time_in_force=GTC)) == []
        assert [told[0] for told in desk.short(market("x", SELL, 1))] == ["FILL", "FILL"]

    def test_a_replace_that_would_trade_is_rejected_and_the_order_stays(self) -> None:
        desk = Desk()
        desk.tell(new("a", SELL, 1, 100), new("p", BUY, 1, 99, post_only=True))
        assert desk.reasons(replace("p2", "p", BUY, 1, 100, post_only=True)) == ["WOULD_TRADE"]
        assert desk.queue()[0] == (0, 99, 2, 1, 1)
        assert [told[0] for told in desk.short(replace("p2", "p", BUY, 1, 100))] == ["REPLACED", "FILL", "FILL"]

    def test_a_triggered_one_that_would_trade_is_canceled(self) -> None:
        desk = Desk()
        desk.tell(new("a", SELL, 2, 100), stop_limit("s", BUY, 1, 100, 100, post_only=True))
        assert desk.short(market("b", BUY, 1))[2:] == [("TRIGGERED", 2, 1, 100), ("CANCELED", 2, 1, 100)]

    @pytest.mark.parametrize("message", [market("p", BUY, 1, post_only=True), stop("p", BUY, 1, 1, post_only=True)])
    def test_it_wants_an_order_that_may_rest(self, message: Message) -> None:
        assert Desk().reasons(message) == ["MUST_REST"]

    def test_an_immediate_order_cannot_be_post_only(self) -> None:
        message = new("p", BUY, 1, 100, post_only=True, time_in_force=IOC, order_type=LIMIT)
        assert Desk().reasons(message) == ["MUST_REST"]
