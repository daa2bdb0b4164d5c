"""Books of real and of generated market data."""

import numpy as np
import pytest

from hdl.flow import Parser
from hdl.frame import Kind
from hdl.sbe_venue import load_venue
from host.bench.books import check, plain_books
from host.capture.flows import find_flows
from host.capture.reader import read_packets
from host.card import open_card
from host.generate import SCHEMA, generate
from host.market_data import Books, Feed, Mark, View, Violation

NAMES = ("kind", "instrument", "entry_type", "update_action", "price_level", "price", "quantity", "number_of_orders")


def frames_of(packets, flows, venue):
    with open_card("soft:", flows, venue, frame_slots=1 << 17) as card:
        assert card.feed(packets) == len(packets)
        return card.ring.read().copy(), card.ring.payload.copy()


def rows_of(frames: np.ndarray) -> list[tuple[int, ...]]:
    return list(zip(*(frames[name].tolist() for name in NAMES), strict=True))


@pytest.fixture(scope="module")
def cme(shared_data):
    packets = read_packets(shared_data / "cme_mdp3/Cme.Mdp3.Sbe.v6.1.pcap")
    venue = load_venue(shared_data / "schemas/omi/Cme.Futures.Mdp3.Sbe.v1.6.xml")
    flows = find_flows(packets, sbe=True).table()
    return flows, venue, *frames_of(packets, flows, venue)


def test_the_books_of_a_capture_without_snapshots_are_marked_until_they_are_refreshed(cme):
    flows, venue, frames, payload = cme
    books = Books(flows, venue, feeds={0: Feed(0), 1: Feed(0)})
    books.update(frames, payload)
    books.finish()
    counters = books.counters()
    assert (counters["duplicates"], counters["gaps"], counters["malformed"]) == (5000, 0, 0)
    assert counters["updates"] == 14574
    marks = books.statistics().column("mark_by_price").to_pylist()
    assert "INVALID" in marks
    assert "REFRESHED" in marks
    # Each copy of the capture begins in mid-stream, and no instrument leaves out a number.
    assert Violation.SEQUENCE not in books.violation_counts()
    assert books.violation_counts(Mark.VALID) == {}


def test_the_books_of_a_capture_are_those_of_plain_python(cme):
    flows, venue, frames, payload = cme
    frames = frames[frames["flow"] == 0]
    books = Books(flows, venue, feeds={0: Feed(0)})
    books.update(frames, payload)
    expected, count = plain_books(rows_of(frames), (10, 2))
    assert count == books.counters()["updates"]
    check(expected, books)


def test_an_instrument_whose_packets_were_lost_is_found_out(cme):
    flows, venue, frames, payload = cme
    frames = frames[frames["flow"] == 0]
    lost = (frames["sequence"] >= 6000) & (frames["sequence"] < 6010)
    hit = np.unique(frames["instrument"][lost & (frames["kind"] == Kind.BOOK_UPDATE)])
    books = Books(flows, venue, feeds={0: Feed(0)})
    books.update(frames[~lost], payload)
    counters = books.counters()
    assert (counters["gaps"], counters["missing"]) == (1, 10)
    seen_later = np.isin(hit, frames["instrument"][frames["sequence"] >= 6010])
    assert sum(books.violation_counts().get(cause, 0) for cause in [Violation.SEQUENCE]) == np.count_nonzero(seen_later)


def test_generated_market_data_makes_valid_books_that_are_those_of_plain_python():
    made = generate(2000, sessions=1, malformed=0.0)
    venue = load_venue(SCHEMA)
    frames, payload = frames_of(made.packets, list(made.flows), venue)
    flow = next(number for number, flow in enumerate(made.flows) if flow.parser is Parser.SBE)
    frames = frames[frames["flow"] == flow]
    books = Books(list(made.flows), venue, feeds={flow: Feed(0)})
    books.update(frames, payload)
    books.finish()
    check(plain_books(rows_of(frames), (5, 0))[0], books)
    assert {*books.statistics().column("mark_by_price").to_pylist()} == {"VALID"}
    assert books.counters()["gaps"] == 0
    assert books.trades().num_rows == np.count_nonzero(frames["kind"] == Kind.TRADE)
    # Its levels are drawn at random, so they cross and skip; that is what is counted.
    assert books.violation_counts()[Violation.LEVEL_ABSENT] > 0
    assert books.levels(int(frames["instrument"][frames["instrument"] > 0][0]), View.COMBINED).mark is Mark.VALID
