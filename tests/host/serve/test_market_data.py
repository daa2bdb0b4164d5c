"""A capture with orders and market data, served: what only the book can explain is refused, and nothing else is."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from hdl.flow import Parser
from hdl.frame import Kind, OrderType, Side
from hdl.sbe_venue import load_venue
from host.card import open_card
from host.demo import DEMO_LIMITS
from host.gateway.limits import dump_limits
from host.gateway.reject import journaled_reject
from host.gateway.risk_state import width
from host.gateway.verdict import Verdict
from host.generate import SCHEMA, Generated, generate
from host.journal import read_journal
from host.market_data import Books, Feed, Mark
from tests.host.serve.test_serve import config, serve

PPM = 500
"""Narrow enough that some of the made-up orders are too far through the made-up book."""

LIMITS = replace(
    DEMO_LIMITS, instruments=tuple(replace(each, collar_ppm=0, fat_finger_ppm=PPM) for each in DEMO_LIMITS.instruments)
)
SECURITY = {each.code: each.security_id for each in LIMITS.instruments}


ORDERS = 1500


def expected_bounds(made: Generated) -> list[int | None]:
    """The price that the book bounds each order by, in the order of the ring; None for none. Books and bounds are asked for
    anew at each order, from Python."""
    venue, found = load_venue(SCHEMA), []
    feeds = {number: Feed(0) for number, flow in enumerate(made.flows) if flow.parser is Parser.SBE}
    books = Books(made.flows, venue, feeds=feeds, interval=0, trades=False)
    with open_card("soft:", made.flows, venue) as card:
        done = 0
        while done < len(made.packets):
            done = card.feed(made.packets, done)
            while len(frames := card.ring.poll()):
                for index in range(len(frames)):
                    if Kind.NEW_ORDER <= frames["kind"][index] <= Kind.REPLACE:
                        found.append(bound(books, frames[index]))
                    else:
                        books.update(frames[index : index + 1], card.ring.payload)
                card.ring.release(len(frames))
    return found


def bound(books: Books, frame: np.void) -> int | None:
    code = int(frame["instrument"])
    try:
        levels = books.levels(SECURITY[code])
    except KeyError:
        return None
    bests = levels.asks if frame["side"] == Side.BUY else levels.bids
    best = bests[0] if bests else None
    if (
        levels.mark is Mark.INVALID
        or best is None
        or frame["order_type"] not in (OrderType.LIMIT, OrderType.STOP_LIMIT)
    ):
        return None
    wide = width(best.price, PPM)
    return best.price + wide if frame["side"] == Side.BUY else best.price - wide


def test_fat_fingers_are_those_that_the_book_tells(tmp_path: Path) -> None:
    made = generate(ORDERS, seed=5, feeds=2)
    made.write(tmp_path / "day.pcap")
    gateway = (
        f'card = "soft:"\nlimits = "limits.toml"\njournal = "journal"\nrun = "{tmp_path / "run"}"\nschema = "{SCHEMA}"'
    )
    path = config(tmp_path, gateway=gateway, traffic='captures = ["day.pcap"]')
    (tmp_path / "limits.toml").write_text(dump_limits(LIMITS))
    run = serve(path)
    assert run.returncode == 0, run.stderr
    expected = expected_bounds(made)
    refused = 0
    found = [(batch, index) for batch in read_journal(tmp_path / "journal") for index in range(len(batch))]
    assert len(found) == len(expected) == made.sent.orders
    for (batch, index), bound in zip(found, expected, strict=True):
        frame, reject = batch.frames[index], journaled_reject(batch, index)
        price = int(frame["price"])
        beyond = bound is not None and (price > bound if frame["side"] == Side.BUY else price < bound)
        if reject.verdict == Verdict.FAT_FINGER:
            assert (reject.limit, reject.value) == (bound, price)
            assert beyond
            refused += 1
        elif reject.verdict == Verdict.ACCEPTED:
            assert not beyond or frame["kind"] == Kind.CANCEL
    assert refused > 10
