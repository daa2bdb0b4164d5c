"""Market data beside orders: each order is compared with the books that the frames before it leave, however the ring is cut."""

from pathlib import Path

import numpy as np
import pytest

from hdl.frame import FRAME_DTYPE, Kind, Side
from host.card.ring import Ring
from host.cluster import MatchingNode
from host.gateway import Instrument, Reject, Risk, Router, Verdict
from host.gateway.batch_ring import BatchRing
from host.gateway.reject import told_reject
from host.gateway.session_ring import create_session_rings
from host.gateway.stages import JournalStage, NodeStage, RiskStage, recover_risk, ring_base
from host.journal import Journal, read_journal
from host.journal.batch import NOTED
from host.market_data import Books
from tests.host.gateway.orders import HandCard, Slice
from tests.host.market_data.entries import CHANGE, DELETE, FLOWS, PRICE, SNAPSHOT, Entry, Wire, books_venue

FLOW = 9
INSTRUMENT = Instrument("ABC", 100 * PRICE, 10**12, security_id=7, fat_finger_ppm=100_000)


class Place:
    """A gateway's shared memory, journal and stages; the risk stage can be thrown away and made again."""

    def __init__(self, directory: Path) -> None:
        (directory / "journal").mkdir()
        self.directory = directory
        self.ring = Ring.create(None, 1 << 10, 1 << 18)
        self.card = HandCard(self.ring)
        self.wire = Wire()
        self.sessions = create_session_rings(None, slots=1 << 10)
        self.journal = Journal(directory / "journal", segment_bytes=1 << 20)
        self.batches = BatchRing.create(None, base=ring_base(self.journal), slots=4, slot_frames=16)
        self.journal_stage = JournalStage(self.journal, self.batches, grouped=False)
        self.node_stage = NodeStage([MatchingNode(0)], self.batches, self.sessions)
        self.names = 0
        self.make_risk()

    def recovered(self) -> Risk:
        risk = Risk([INSTRUMENT])
        risk.route(Router({0: 1}))
        recover_risk(risk, [MatchingNode(0)], self.directory / "journal", self.batches)
        return risk

    def make_risk(self) -> None:
        """A new risk stage with new books, as after ``kill -9``."""
        self.risk = self.recovered()
        books = Books(FLOWS, books_venue(self.directory), interval=0, trades=False)
        self.risk_stage = RiskStage(self.risk, self.ring, self.batches, books=books)

    def market(self, sequence: int, entries: list[Entry], **more: object) -> None:
        """A packet of market data comes."""
        raw_before = len(self.wire.raw)
        self.wire.message(sequence, entries, **more)
        frames = np.array(self.wire.frames, FRAME_DTYPE)
        self.wire.frames.clear()
        frames["payload_offset"] -= raw_before
        payload = bytes(self.wire.raw[raw_before:])
        self.card.put_frames(frames, np.frombuffer(payload + bytes(-len(payload) % 64), np.uint8))

    def order(self, price: int, side: Side = Side.BUY) -> None:
        """An order of the session comes, with a price in 1e-9."""
        self.names += 1
        self.card.put(Slice(FLOW).order(f"o{self.names}", price=price, side=side))

    def told(self) -> list[Reject | None]:
        """What the session is told of its orders: why they are refused, or None."""
        while any(stage.step(0) for stage in (self.risk_stage, self.journal_stage, self.node_stage)):
            pass
        records = self.sessions[FLOW].poll().copy()
        self.sessions[FLOW].release(len(records))
        first: dict[int, np.void] = {}
        for record in records:
            if record["report"]["order_sequence"] == record["report"]["sequence"]:
                first.setdefault(int(record["report"]["sequence"]), record)
        return [
            None if first[sequence]["verdict"] == Verdict.ACCEPTED else told_reject(first[sequence])
            for sequence in sorted(first)
        ]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def too_high(limit: int, value: int) -> Reject:
    return Reject(Verdict.FAT_FINGER, limit, value)


def both(bid: int, ask: int, number: int) -> list[Entry]:
    """The best bid and ask, in whole prices, as updates ``number`` and the next."""
    return [
        Entry("0", price=bid, quantity=1, level=1, number=number),
        Entry("1", price=ask, quantity=1, level=1, number=number + 1),
    ]


def test_an_order_is_compared_with_the_books_before_it(place: Place) -> None:
    place.order(500 * PRICE)  # nothing is known yet
    place.market(1, both(90, 100, 1))
    place.order(110 * PRICE + 1)
    place.order(110 * PRICE)
    place.market(2, [Entry("1", CHANGE, 100, 5, 1, number=3), Entry("1", price=95, quantity=1, level=1, number=4)])
    place.order(110 * PRICE)
    place.order(81 * PRICE - 1, Side.SELL)
    place.market(3, [Entry("1", DELETE, 95, 1, 1, number=5)])
    place.order(110 * PRICE)
    # A number is left out: the book is not to be trusted any more.
    place.market(9, [Entry("1", CHANGE, 100, 6, 1, number=9)])
    place.order(500 * PRICE)
    assert place.told() == [
        None,
        too_high(110 * PRICE, 110 * PRICE + 1),
        None,
        too_high(104_500_000_000, 110 * PRICE),
        Reject(Verdict.FAT_FINGER, 81 * PRICE, 81 * PRICE - 1),
        None,
        None,
    ]


def test_frames_that_come_one_by_one_give_the_same(place: Place) -> None:
    found = []
    for number in range(1, 40):
        place.market(number, both(90 + number, 100 + number, 2 * number - 1))
        found += place.told()
        place.order((100 + number) * 11 * PRICE // 10 + number % 2)
        found += place.told()
    assert [each is None for each in found] == [number % 2 == 0 for number in range(1, 40)]


def test_the_books_grow_and_definitions_are_read_beside_orders(place: Place) -> None:
    """What the compiled walk cannot do by itself is done in its place, between the right frames."""
    for number in range(1, 500):
        place.market(number, [Entry("0", price=10, quantity=1, level=1, instrument=100 + number, number=1)])
    place.market(500, [], kind=Kind.DEFINITION, template=6, root=bytes(40))
    place.market(501, both(90, 100, 1))
    place.order(111 * PRICE)
    assert place.told() == [too_high(110 * PRICE, 111 * PRICE)]


def test_a_risk_that_is_made_again_goes_on_with_what_the_journal_noted(place: Place) -> None:
    place.market(1, both(90, 100, 1))
    place.order(105 * PRICE)
    assert place.told() == [None]
    place.make_risk()
    place.order(111 * PRICE)
    assert place.told() == [too_high(110 * PRICE, 111 * PRICE)]
    # The new books have missed what came before, and tell nothing until a snapshot makes them whole.
    place.market(2, [Entry("1", CHANGE, 100, 6, 1, number=3)])
    place.order(111 * PRICE)
    assert place.told() == [too_high(110 * PRICE, 111 * PRICE)]
    root = np.array([2], "<u4").tobytes() + np.array([7, 3], "<u4").tobytes() + bytes([17])
    place.market(3, [Entry("0", price=190, quantity=1, level=1), Entry("1", price=200, quantity=1, level=1)],
                 template=SNAPSHOT, root=root, instrument=7, number=3)  # fmt: skip
    place.market(4, [Entry("1", CHANGE, 200, 6, 1, number=4)])
    place.order(221 * PRICE)
    place.order(220 * PRICE)
    assert place.told() == [too_high(220 * PRICE, 221 * PRICE), None]


def test_best_prices_are_noted_where_they_have_changed(place: Place) -> None:
    place.market(1, both(90, 100, 1))
    for _ in range(3):
        place.order(100 * PRICE)
    place.market(2, [Entry("1", price=95, quantity=1, level=1, number=3)])
    place.order(95 * PRICE)
    assert place.told() == [None] * 4
    noted = [
        batch.note(index) if batch.decisions["flags"][index] & NOTED else None
        for batch in read_journal(place.directory / "journal")
        for index in range(len(batch))
    ]
    there = 1 << 64
    assert noted == [(there + 90 * PRICE, there + 100 * PRICE), None, None, (there + 90 * PRICE, there + 95 * PRICE)]
    terms = place.recovered().state.terms[0]
    assert (terms["best_bid"], terms["best_ask"]) == (90 * PRICE, 95 * PRICE)
