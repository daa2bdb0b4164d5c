"""The fat-finger check follows the books' best prices, as long as the book can be trusted."""

from pathlib import Path

from hdl.frame import Side
from host.gateway import Instrument, Verdict
from host.market_data import Books
from tests.host.gateway.test_risk_rules import OK, decide, make_risk, order
from tests.host.market_data.entries import CHANGE, DELETE, FLOWS, PRICE, Entry, Wire, books_venue


def test_bounds_are_those_of_the_best_prices_now(tmp_path: Path) -> None:
    books, wire = Books(FLOWS, books_venue(tmp_path)), Wire()
    risk = make_risk(
        Instrument("FAR", 100 * PRICE, 10**10, security_id=8, fat_finger_ppm=100_000),
        Instrument("ABC", 100 * PRICE, 10**10, security_id=7, fat_finger_ppm=100_000),
    )
    far = order("far", symbol="FAR", price=500 * PRICE)
    risk.follow(books)
    assert decide(risk, order("0", price=500 * PRICE), far) == [OK, OK]

    def buys_up_to(price: int, name: str) -> None:
        """``price`` in 1e-9."""
        risk.follow(books)
        assert decide(risk, order(f"{name}+", price=price + 1), order(name, price=price)) == [Verdict.FAT_FINGER, OK]

    wire.message(
        1, [Entry("0", price=90, quantity=1, level=1, number=1), Entry("1", price=100, quantity=1, level=1, number=2)]
    )
    wire.give(books)
    buys_up_to(110 * PRICE, "1")
    low = order("s", side=Side.SELL, price=81 * PRICE)
    assert decide(risk, {**low, "price": 81 * PRICE - 1}, low) == [Verdict.FAT_FINGER, OK]
    wire.message(2, [Entry("1", CHANGE, 100, 5, 1, number=3), Entry("1", price=95, quantity=1, level=1, number=4)])
    wire.give(books)
    buys_up_to(104_500_000_000, "2")
    wire.message(3, [Entry("1", DELETE, 95, 1, 1, number=5)])
    wire.give(books)
    buys_up_to(110 * PRICE, "3")
    # A number is left out: what the book shows is not to be trusted any more.
    wire.message(9, [Entry("1", CHANGE, 100, 6, 1, number=9)])
    wire.give(books)
    risk.follow(books)
    assert decide(risk, order("4", price=500 * PRICE)) == [OK]
