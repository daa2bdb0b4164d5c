"""The table of client order ids that a killed process leaves: what its successor finds in it is what is in batches."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from host.card.ring import Ring
from host.cluster import MatchingNode
from host.gateway.batch_ring import BatchRing
from host.gateway.id_table import NOTE_DTYPE, IdTable, id_slot, note_id, remember_id
from host.gateway.risk import Risk
from host.gateway.route_loop import SLICE
from host.gateway.stages import keep_ids, recover_risk
from host.generate.lap import make_lap
from host.generate.load import Lap, Load
from host.journal import read_journal
from host.memory import KERNEL
from tests.host.gateway.test_stages import NODES, Place, make_risk

RING = 7
"""Which batch ring the ids are of."""

SLOT_FRAMES = 64


@njit(**KERNEL)
def enter(state, low, high, frame_number):
    """Enters an id as the pass does."""
    slot, known = id_slot(state.client_order_ids, low, high)
    if not known and slot >= 0:
        note_id(state, slot, frame_number)
        remember_id(state, slot, low, high)


def small_risk(ids: IdTable) -> Risk:
    return Risk(ids=ids, account_room=1, position_room=1, order_room=1)


def entered(ids: list[int], *, undone: int, before: int) -> IdTable:
    """A table into which ids came with frames 0, 1, …, the first ``before`` of them by other ways."""
    table = IdTable(32, undone)
    risk = small_risk(table)
    for number, low in enumerate(ids):
        if number == before:
            risk.vouch_for_ids(RING)
        enter(risk.state, np.uint64(low), np.uint64(1 << 16), number)
    if len(ids) <= before:
        risk.vouch_for_ids(RING)
    return table


@settings(deadline=None)
@given(
    # Few homes, so that one id stands in another's way.
    st.lists(st.integers(0, 9), max_size=30, unique=True).flatmap(
        lambda ids: st.tuples(st.just([64 * each + each % 3 for each in ids]), st.integers(0, len(ids)))
    ),
    st.integers(0, 10),
)
def test_what_frames_behind_some_end_brought_is_taken_out(ids: tuple[list[int], int], before: int) -> None:
    lows, end = ids
    before = min(before, end)
    table = entered(lows, undone=32, before=before)
    assert table.keep(RING, end)
    wanted = entered(lows[:end], undone=32, before=before)
    assert (table.rows == wanted.rows).all()
    assert table.count == wanted.count == end
    # What is taken out once is out.
    assert table.keep(RING, end)
    assert table.count == end


def test_a_table_whose_notes_do_not_reach_back_is_not_kept() -> None:
    ids = list(range(1, 21))
    assert entered(ids, undone=4, before=0).notes.shape == (8,)
    assert entered(ids, undone=4, before=0).keep(RING, 13)
    # The oldest note that is left is of frame 12: whether there was one of frame 11, and of which slot, is not known.
    assert not entered(ids, undone=4, before=0).keep(RING, 12)
    # All notes ever made are left: there were none before.
    assert entered(ids[:8], undone=4, before=0).keep(RING, 0)


def test_a_table_is_kept_for_the_batches_whose_orders_it_holds_alone() -> None:
    table = entered([1, 2, 3], undone=4, before=1)
    assert not table.keep(RING + 1, 3)
    assert not table.keep(0, 3)
    assert table.keep(RING, 3)
    for forget in (table.disown, table.clear):
        table.vouch(RING, 3)
        forget()
        assert not table.keep(RING, 3)
        assert not table.keep(0, 3)
    assert not table.rows.any()


@pytest.mark.parametrize("change", ["remember_client_order_ids", "take_client_order_ids"])
def test_ids_that_come_or_go_otherwise_than_with_orders_are_not_vouched_for(change: str) -> None:
    table = IdTable(8)
    risk = small_risk(table)
    risk.vouch_for_ids(RING)
    assert table.keep(RING, 0)
    getattr(risk, change)(*([np.ones((1, 2), np.uint64)] if change.startswith("remember") else []))
    assert not table.keep(RING, 0)


def test_a_table_in_a_file_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    assert IdTable.open(path, 100, 10) is None
    table = IdTable.create(path, 100, 10)
    assert path.stat().st_size == IdTable.size(100, 10) == 4096 + 32 * NOTE_DTYPE.itemsize + 256 * 16
    table.rows[3] = 5
    table.vouch(RING, 1)
    again = IdTable.open(path, 100, 10)
    assert again is not None
    assert again.keep(RING, 0)
    assert (again.rows == table.rows).all()
    assert IdTable.open(path, 200, 10) is None
    path.write_bytes(bytes(IdTable.size(100, 10)))
    assert IdTable.open(path, 100, 10) is None


@pytest.fixture(scope="module")
def lap() -> Lap:
    return make_lap(1500, seed=6)


def make_place(directory: Path, slots: int) -> Place:
    """A gateway whose batch ring, as a file, has an identity, and whose ids stay when risk is made again."""
    batches = BatchRing.create(directory / "batches", base=0, slots=slots, slot_frames=SLOT_FRAMES)
    return Place(directory / "journal", batches=batches, ids=IdTable(1 << 16, SLOT_FRAMES + SLICE))


def test_risk_that_is_made_again_keeps_its_ids_whatever_happens_between(tmp_path: Path, lap: Lap) -> None:
    place, random = make_place(tmp_path, 4), np.random.default_rng(8)
    load, count = Load(lap, place.ring), 4 * len(lap)
    taken_out = 0
    records = ({"type": "new_day"}, {"type": "session_day", "flow": 2}, {"type": "kill", "scope": "session", "name": 1})
    for round_ in range(30):
        if round_ % 4 == 3:
            place.drain(load, load.number)
            place.risk_stage.control(records[round_ // 4 % 3])
            place.risk_stage.step(0)
        load.run(count, int(random.integers(0, 40_000)))
        for _ in range(int(random.integers(0, 8))):
            (place.risk_stage, place.journal_stage, place.node_stage)[random.integers(0, 3)].step(0)
        place.read_sessions()
        held = place.ids.count
        assert held == place.risk.client_order_ids
        place.make("risk")
        assert place.kept
        taken_out += held - place.ids.count
        assert place.risk.state_hash() == place.replayed_hash()
    place.drain(load, count)
    assert place.risk.state_hash() == place.replayed_hash()
    assert taken_out > 0
    controls = {batch.control["type"] for batch in read_journal(place.directory) if batch.control is not None}
    assert controls == {record["type"] for record in records}


def test_risk_killed_while_a_day_begins_fills_its_table_anew(tmp_path: Path, lap: Lap) -> None:
    place = make_place(tmp_path, 4)
    place.drain(Load(lap, place.ring), 300)
    # Killed when the ids are gone, and the record is not published.
    place.risk.apply_control({"type": "new_day"})
    assert place.risk.client_order_ids == 0
    place.make("risk")
    assert not place.kept
    assert place.risk.client_order_ids > 250
    assert place.risk.state_hash() == place.replayed_hash()
    place.make("risk")
    assert place.kept


def test_orders_of_another_cards_ring_do_not_count_as_those_of_the_last_one(tmp_path: Path, lap: Lap) -> None:
    place = make_place(tmp_path, 4)
    place.ring = Ring.create(tmp_path / "card", 1 << 12, 1 << 20)
    place.make("risk")
    load = Load(lap, place.ring)
    place.drain(load, 300)
    place.risk_stage.control({"type": "new_day"})
    place.drain(load, 400)
    # The next one's frames are numbered from 0 again, and some of them are decided about and in no batch.
    place.ring = Ring.create(tmp_path / "other card", 1 << 12, 1 << 20)
    place.make("risk")
    assert place.kept
    held = place.ids.count
    assert held > 80
    Load(lap, place.ring).run(50, 10_000_000)
    place.batches.ring.words[16] -= 1  # the journal seems to be busy: nothing is published that is not full
    place.risk_stage.step(0)
    place.batches.ring.words[16] += 1
    assert place.ids.count > held
    place.make("risk")
    assert place.kept
    assert place.ids.count == held
    assert place.risk.state_hash() == place.replayed_hash()


def test_a_process_killed_anywhere_leaves_a_table_that_is_kept(tmp_path: Path, lap: Lap) -> None:
    place, random = make_place(tmp_path, 32), np.random.default_rng(9)
    place.ids = IdTable.create(tmp_path / "ids", 1 << 16, SLOT_FRAMES + SLICE)
    place.ring = Ring.create(tmp_path / "card", 1 << 12, 1 << 20)
    place.make("risk")
    load, taken_out = Load(lap, place.ring), 0
    place.drain(load, 100)  # what is to be loaded is loaded here
    for _ in range(40):
        load.run(1 << 40, 3_000_000)
        place.ring = Ring.open(tmp_path / "card")
        place.make("risk")
        begun, sign = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(sign, b".")
                while True:
                    place.risk_stage.step(0)
            finally:
                os._exit(1)
        os.read(begun, 1)
        os.close(begun)
        os.close(sign)
        time.sleep(float(random.random()) * 0.01)
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        held = place.ids.count
        assert keep_ids(place.ids, place.batches)
        taken_out += held - place.ids.count
        anew = make_risk()
        recover_risk(anew, [MatchingNode(number) for number in NODES], place.directory, place.batches)
        assert np.array_equal(place.ids.sorted(), anew.ids.sorted())
        assert place.ids.count == anew.client_order_ids
        # The others go on, so that there is room for batches.
        for _ in range(4):
            place.journal_stage.step(0)
            place.node_stage.step(0)
            place.read_sessions()
    assert place.ids.count > 5000
    assert taken_out > 0
