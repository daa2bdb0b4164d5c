"""Merged batches hold the same orders, notes and controls in the same order."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from host.journal import Batch, read_journal
from host.journal.batch import MERGED_ORDERS, NOTED, BatchKind, merge_small
from tests.host.journal.orders import filled, messages_of, write_random


def said(batches: Iterable[Batch]) -> list[object]:
    """What the batches say, order by order, whatever their borders."""
    found: list[object] = []
    for batch in batches:
        if batch.control is not None:
            found.append((batch.first_sequence, batch.number, batch.control))
        frames = batch.frames.copy()
        frames["payload_offset"] = 0
        for index, message in enumerate(messages_of(batch)):
            frame, decision = frames[index].tobytes(), batch.decisions[index].tobytes()
            note = batch.note(index) if batch.decisions["flags"][index] & NOTED else None
            found.append((batch.first_sequence + index, message, frame, decision, note))
    return found


@pytest.mark.parametrize("room", [1, 36, 100, MERGED_ORDERS, 1 << 20])
def test_what_is_merged_says_the_same(tmp_path: Path, room: int) -> None:
    write_random(tmp_path, 3000, batch=37)
    before = list(read_journal(tmp_path))
    assert said(merge_small(read_journal(tmp_path), lambda: room)) == said(before)
    sizes = [len(batch) for batch in merge_small(read_journal(tmp_path), lambda: room) if batch.control is None]
    assert max(sizes) <= max(room, 37)
    there = sum(batch.control is None for batch in before)
    assert (len(sizes) < 0.7 * there) == (room >= 100)


def test_notes_go_with_their_orders() -> None:
    orders = filled(b"35=D\x0111=A\x01", b"35=D\x0111=B\x01").batch(4, 9)
    decisions = orders.decisions.copy()
    decisions["flags"][1] |= NOTED
    note = np.frombuffer(b"".join(value.to_bytes(16, "little", signed=True) for value in (-5, 1 << 90)), np.uint8)
    noted = replace(orders, decisions=decisions, payload=np.concatenate([orders.payload, note]))
    after = replace(noted, number=5, first_sequence=11)
    (merged,) = merge_small([noted, after], lambda: 100)
    assert (merged.number, merged.first_sequence, len(merged)) == (4, 9, 4)
    assert [merged.note(index) for index in (1, 3)] == [(-5, 1 << 90)] * 2
    assert messages_of(merged) == 2 * messages_of(orders)


def test_large_batches_and_large_messages_are_passed_on() -> None:
    small = filled(b"35=D\x0111=A\x01").batch(1, 1)
    large = filled(*[b"35=D\x01"] * (MERGED_ORDERS // 2 + 1)).batch(2, 2)
    long = replace(small, number=3, payload=np.zeros(MERGED_ORDERS * 256 + 1, np.uint8))
    given = [small, large, small, long, small, small]
    taken = [(len(batch), len(batch.payload)) for batch in merge_small(given, lambda: 1 << 20)]
    one = len(small.payload)
    assert taken == [(1, one), (len(large), len(large.payload)), (1, one), (1, len(long.payload)), (2, 2 * one)]
    assert {batch.kind for batch in given} == {BatchKind.ORDERS}
