"""Orders of one account that would trade with each other, in each of the ways of not letting them."""

import pytest

from host.cluster import MatchingNode
from host.cluster.self_trade import ALLOWED, CANCEL_BOTH, CANCEL_NEWEST, CANCEL_OLDEST
from tests.host.cluster.orders import BUY, FOK, SELL, Desk, new, replace, stop


def book_of_two(desk: Desk) -> None:
    """Another account's 5, then account 7's 5, then another account's 5, all at 100."""
    desk.tell(new("a", SELL, 5, 100, account=8), new("b", SELL, 5, 100, account=7), new("c", SELL, 5, 100))


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (ALLOWED, [("PARTIAL_FILL", 4, 5, 100), ("FILL", 1, 5, 100), ("FILL", 4, 5, 100), ("FILL", 2, 5, 100)]),
        (CANCEL_NEWEST, [("PARTIAL_FILL", 4, 5, 100), ("FILL", 1, 5, 100), ("CANCELED", 4, 10, 101)]),
        (
            CANCEL_OLDEST,
            [
                ("PARTIAL_FILL", 4, 5, 100),
                ("FILL", 1, 5, 100),
                ("CANCELED", 2, 5, 100),
                ("FILL", 4, 5, 100),
                ("FILL", 3, 5, 100),
            ],
        ),
        (
            CANCEL_BOTH,
            [("PARTIAL_FILL", 4, 5, 100), ("FILL", 1, 5, 100), ("CANCELED", 2, 5, 100), ("CANCELED", 4, 10, 101)],
        ),
    ],
)
def test_what_would_trade_with_its_own_account_is_canceled_as_configured(mode: int, told: list) -> None:
    desk = Desk()
    book_of_two(desk)
    assert desk.short(new("d", BUY, 10, 101, account=7, self_trade=mode)) == told


def test_orders_without_an_account_and_of_others_trade() -> None:
    desk = Desk()
    desk.tell(new("a", SELL, 5, 100), new("b", SELL, 5, 100, account=8))
    assert [kind for kind, *_ in desk.short(new("c", BUY, 10, 100, account=7, self_trade=CANCEL_BOTH))] == [
        "PARTIAL_FILL",
        "FILL",
        "FILL",
        "FILL",
    ]


@pytest.mark.parametrize(
    ("mode", "quantity", "trades"),
    [(CANCEL_NEWEST, 5, True), (CANCEL_NEWEST, 6, False), (CANCEL_OLDEST, 10, True), (CANCEL_OLDEST, 11, False)],
)
def test_a_fok_order_counts_only_what_it_may_trade_with(mode: int, quantity: int, trades: bool) -> None:
    desk = Desk()
    book_of_two(desk)
    told = desk.tell(new("d", BUY, quantity, 100, account=7, self_trade=mode, time_in_force=FOK))
    assert (told[-1][1] == "NOT_FILLED_WHOLE") != trades
    assert any("FILL" in kind for kind, *_ in told) == trades


def test_a_fok_order_does_not_count_what_an_iceberg_hides_behind_an_own_order() -> None:
    desk = Desk()
    desk.tell(new("a", SELL, 9, 100, display=3), new("b", SELL, 5, 100, account=7))
    fok = {"account": 7, "self_trade": CANCEL_NEWEST, "time_in_force": FOK}
    assert desk.tell(new("c", BUY, 4, 100, **fok))[-1][1] == "NOT_FILLED_WHOLE"
    assert desk.short(new("d", BUY, 3, 100, **fok))[0] == ("FILL", 4, 3, 100)


def test_replaced_and_triggered_orders_keep_their_account() -> None:
    desk = Desk()
    own = {"account": 7, "self_trade": CANCEL_NEWEST}
    desk.tell(new("a", SELL, 5, 101, **own), new("b", BUY, 5, 99, **own))
    assert desk.tell(replace("b2", "b", BUY, 5, 101, **own))[-1][:3] == ("CANCELED", "SELF_TRADE", 3)
    desk.tell(stop("s", BUY, 5, 100, **own), new("x", SELL, 1, 100), new("y", BUY, 1, 100))
    assert desk.short()[-1:] == []
    assert desk.node.open_orders == 1


def test_a_book_that_moves_takes_accounts_along() -> None:
    desk = Desk()
    book_of_two(desk)
    other = MatchingNode(0)
    instrument = int(desk.node.state.books["instrument"][0])
    before = desk.node.take_book(instrument)
    other.give_book(instrument, before)
    assert (other.take_book(instrument) == before).all()
    assert before["account"].tolist()[1:] == [8, 7, 0]
