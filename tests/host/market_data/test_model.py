"""Books beside a straightforward model in Python, on any updates."""

import functools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hdl.sbe_venue import Venue
from host.market_data import Books, Mark, View
from host.market_data.layout import Violation
from tests.host.market_data.entries import (
    CHANGE,
    DELETE,
    FLOWS,
    FROM,
    NEW,
    ORDER_UPDATE,
    OVERLAY,
    PRICE,
    QUANTITY,
    THRU,
    Entry,
    Wire,
    books_venue,
    shown,
)
from tests.host.market_data.model import Model


@functools.cache
def venue() -> Venue:
    with tempfile.TemporaryDirectory() as folder:
        return books_venue(Path(folder))


STANDING = ("CROSSED", "IMPLIED_CROSSED", "LEVEL_ORDER")
"""Of the state at an event's end, not of an update; test_books.py has them."""

numbered_updates = st.builds(
    Entry,
    type=st.sampled_from("01EF"),
    action=st.sampled_from([NEW, NEW, NEW, CHANGE, DELETE, THRU, FROM, OVERLAY]),
    price=st.one_of(st.none(), st.integers(-3, 12)),
    quantity=st.one_of(st.none(), st.integers(0, 5)),
    level=st.integers(1, 4),
    orders=st.integers(0, 3),
)
priced_updates = st.builds(
    Entry,
    type=st.sampled_from("01"),
    action=st.sampled_from([NEW, NEW, CHANGE, DELETE, THRU, OVERLAY]),
    price=st.one_of(st.none(), st.integers(-6, 6)),
    quantity=st.one_of(st.none(), st.integers(0, 5)),
)
order_updates = st.builds(
    Entry,
    type=st.sampled_from("01"),
    action=st.sampled_from([NEW, NEW, CHANGE, DELETE]),
    price=st.integers(-4, 4),
    quantity=st.integers(0, 5),
    order_id=st.integers(0, 12),
    priority=st.integers(0, 3),
)


def counted(books: Books) -> dict[str, int]:
    return {cause.name: count for cause, count in books.violation_counts().items() if cause.name not in STANDING}


@settings(max_examples=150, deadline=None, report_multiple_bugs=False)
@given(updates=st.lists(numbered_updates, max_size=30), per_message=st.integers(1, 4))
def test_numbered_levels_are_what_the_model_says(updates, per_message):
    books, feed, model = Books(FLOWS, venue()), Wire(), Model()
    for number, entry in enumerate(updates, 1):
        entry.number = number
        model.numbered(entry)
    for sequence, first in enumerate(range(0, len(updates), per_message), 1):
        feed.message(sequence, updates[first : first + per_message])
    feed.give(books)
    if not updates:
        return
    books.finish()
    for view, (bid, ask) in ((View.OUTRIGHT, "01"), (View.IMPLIED, "EF")):
        bids, asks = shown(books, view=view)
        assert bids == stripped(model.levels(bid))
        assert asks == stripped(model.levels(ask))
    for direction, found in zip("01", shown(books, view=View.COMBINED), strict=True):
        # What is out of order cannot be merged; that it is so is a violation.
        if model.is_in_order(direction):
            assert found == model.combined(direction)
    assert counted(books) == dict(model.violations)


def stripped(levels: list) -> list:
    """Without holes behind the last level."""
    end = len(levels)
    while end and levels[end - 1] is None:
        end -= 1
    return levels[:end]


@settings(max_examples=150, deadline=None)
@given(updates=st.lists(priced_updates, max_size=40))
def test_priced_levels_are_what_the_model_says(updates):
    books, feed, model = Books(FLOWS, venue()), Wire(), Model()
    for number, entry in enumerate(updates, 1):
        entry.number = number
        model.by_price(entry)
        feed.message(number, [entry])
    feed.give(books)
    if updates:
        assert shown(books) == (model.price_levels("0"), model.price_levels("1"))
        assert counted(books) == dict(model.violations)


@settings(max_examples=150, deadline=None)
@given(updates=st.lists(order_updates, max_size=40))
def test_orders_are_what_the_model_says(updates):
    books, feed, model = Books(FLOWS, venue()), Wire(), Model()
    for sequence, entry in enumerate(updates, 1):
        model.by_order(entry)
        feed.message(sequence, [entry], template=ORDER_UPDATE)
    feed.give(books)
    if not updates:
        return
    assert shown(books, view=View.BY_ORDER) == (model.order_levels("0"), model.order_levels("1"))
    for side, found in zip("01", books.orders(7), strict=True):
        assert [(each.id, each.price // PRICE, each.quantity // QUANTITY) for each in found] == model.queue(side)
    assert counted(books) == dict(model.violations)
    assert books.levels(7, View.BY_ORDER).mark is Mark.VALID


def test_every_cause_is_one_of_a_violation():
    assert {*STANDING, *(cause.name for cause in Violation)} == {cause.name for cause in Violation}
