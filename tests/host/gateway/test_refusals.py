"""A refused order's session hears of the rule, its limit and the value that broke it, and the journal has the same."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hdl.frame import Kind, Side
from host.card.ring import Ring
from host.cli import app
from host.cluster import MatchingNode
from host.gateway import Account, Instrument, Reject, Risk, Router, Verdict
from host.gateway.batch_ring import BatchRing
from host.gateway.reject import journaled_numbers, journaled_reject, told_reject
from host.gateway.session_ring import create_session_rings
from host.gateway.stages import JournalStage, NodeStage, RiskStage, ring_base
from host.journal import Journal, read_journal
from host.journal.batch import DECISION_DTYPE, NOTE_BYTES, NOTE_DTYPE, NOTED, BatchBuffer
from tests.host.gateway.orders import ONE, HandCard, Slice

PRICE, UNIT = 10**9, 10**17
FLOW = 3


def make_risk() -> Risk:
    risk = Risk(
        [
            Instrument("ABC", 100 * PRICE, 10**9 * ONE, collar_ppm=100_000),
            Instrument("NEG", -30 * PRICE, 10**9 * ONE, collar_ppm=100_000),
        ],
        [
            Account("a", order_notional=2**120, long_quantity=500_000 * ONE),
            Account("poor", order_notional=10**6 * UNIT),
        ],
    )
    risk.route(Router({0: 1}))
    return risk


EXPECTED = [
    Reject(Verdict.MAXIMUM_QUANTITY, 10**9 * ONE, 10**9 * ONE + 1),
    Reject(Verdict.PRICE_COLLAR, 110 * PRICE, 110 * PRICE + 1),
    Reject(Verdict.PRICE_COLLAR, -33 * PRICE, -33 * PRICE - 5),
    # Beyond 64 bits: a notional is counted in 1e-17.
    Reject(Verdict.ORDER_NOTIONAL, 10**6 * UNIT, 5 * 10**6 * UNIT),
    Reject(Verdict.LONG_EXPOSURE, 500_000 * ONE, 500_001 * ONE),
    Reject(Verdict.NO_SYMBOL, None, None),
    Reject(Verdict.DUPLICATE_CLIENT_ORDER_ID, None, None),
]


def orders() -> Slice:
    made = Slice(FLOW)
    made.order("ok", account="a")
    made.order("1", account="a", quantity=10**9 * ONE + 1)
    made.order("2", account="a", price=110 * PRICE + 1)
    made.other(Kind.SESSION)
    made.order("3", account="a", symbol="NEG", price=-33 * PRICE - 5, side=Side.SELL)
    made.order("4", account="poor", quantity=50_000 * ONE)
    made.order("5", account="a", quantity=500_000 * ONE)
    made.order("6", account="a", symbol="")
    made.order("ok", account="a")
    return made


@pytest.fixture
def told(tmp_path: Path) -> np.ndarray:
    """What session FLOW got; the journal is in ``tmp_path``. Batches of three orders, so that slices are cut."""
    ring = Ring.create(None, 1 << 6, 1 << 16)
    sessions = create_session_rings(None, slots=1 << 6)
    with Journal(tmp_path, segment_bytes=1 << 20) as journal:
        batches = BatchRing.create(None, base=ring_base(journal), slots=8, slot_frames=3)
        stages = (
            RiskStage(make_risk(), ring, batches),
            JournalStage(journal, batches, grouped=False),
            NodeStage([MatchingNode(0)], batches, sessions),
        )
        HandCard(ring).put(orders())
        while any(stage.step(0) for stage in stages):
            pass
    return sessions[FLOW].poll().copy()


def test_the_session_hears_rule_limit_and_value(told: np.ndarray) -> None:
    refused = told[told["verdict"] != Verdict.ACCEPTED]
    assert [told_reject(record) for record in refused] == EXPECTED
    assert told_reject(refused[3]).text == "more than the account's notional an order: 5000000, limit 1000000"
    accepted = told[told["verdict"] == Verdict.ACCEPTED]
    assert accepted["report"]["leaves"].tolist() == [ONE]
    assert not accepted["limit_high"].any()
    assert not accepted["value_high"].any()


def test_the_journal_says_the_same(told: np.ndarray, tmp_path: Path) -> None:
    rejects, numbers = [], []
    for batch in read_journal(tmp_path):
        for index in np.flatnonzero(batch.decisions["verdict"] != Verdict.ACCEPTED).tolist():
            rejects.append(journaled_reject(batch, index))
            numbers.append(journaled_numbers(batch, index))
    assert rejects == EXPECTED
    assert numbers[2] == ("-33.000000005", "-33")
    assert numbers[-1] == (None, None)
    refused = told[told["verdict"] != Verdict.ACCEPTED]
    assert [told_reject(record) for record in refused] == rejects


def test_journal_show_prints_value_and_limit(told: np.ndarray, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["journal", "show", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    rows = {row["sequence"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert (rows[3]["value"], rows[3]["limit"]) == ("110.000000001", "110")
    assert (rows[5]["value"], rows[5]["limit"]) == ("5000000", "1000000")
    assert (rows[1]["value"], rows[1]["limit"]) == (rows[7]["value"], rows[7]["limit"]) == (None, None)


def test_a_journal_from_before_has_rejects_without_numbers(told: np.ndarray, tmp_path: Path) -> None:
    batch = next(batch for batch in read_journal(tmp_path) if Verdict.PRICE_COLLAR in batch.decisions["verdict"])
    decisions = batch.decisions.copy()
    decisions["flags"] = 0
    object.__setattr__(batch, "decisions", decisions)
    place = decisions["verdict"].tolist().index(Verdict.PRICE_COLLAR)
    assert journaled_reject(batch, place) == Reject(Verdict.PRICE_COLLAR, None, None)


def test_a_note_that_has_no_room_goes_into_the_next_batch_with_its_order() -> None:
    made = Slice().order("1").order("2")
    frames, payload = made.frames, made.payload
    decisions, notes = np.zeros(2, DECISION_DTYPE), np.zeros(1, NOTE_DTYPE)
    decisions["verdict"] = Verdict.ACCEPTED, Verdict.FAT_FINGER
    decisions["flags"] = 0, NOTED
    notes[0] = 1, Verdict.FAT_FINGER, 0, 5, -1, 2**64 - 7
    room = int(frames["payload_length"].sum()) + NOTE_BYTES
    short, fitting = BatchBuffer(4, room - 1), BatchBuffer(4, room)
    assert short.take(frames, payload, decisions, notes=notes) == 1
    short.clear()
    for buffer, begin in ((short, 1), (fitting, 0)):
        assert buffer.take(frames, payload, decisions, begin, notes) == 2
        batch = buffer.batch(0, 1)
        assert batch.note(len(batch) - 1) == (5, -7)
    # A decision whose note is not at hand is taken without, and does not point at what stands behind its message.
    fitting.clear()
    fitting.take(frames, payload, decisions)
    assert fitting.batch(0, 1).decisions["flags"].tolist() == [0, 0]
