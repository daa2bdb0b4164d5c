"""Batches are written while an earlier sync runs, and nothing that was acknowledged is lost."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import zlib
from pathlib import Path

import pytest

from host.journal import Journal, JournalError, read_journal
from host.journal.file import IN_FLIGHT_BATCHES
from host.journal.group_commit import GroupCommit
from tests.host.journal import independent
from tests.host.journal.orders import SEGMENT, filled, messages_of, write_random

ROOT = Path(__file__).resolve().parents[3]


class SlowDisk:
    """``fdatasync`` that waits to be let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.let = threading.Semaphore(0), threading.Semaphore(0)
        self.files: list[int] = []
        self.sync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, file: int) -> None:
        self.files.append(file)
        self.begun.release()
        assert self.let.acquire(timeout=20)
        self.sync(file)


def test_batches_are_written_while_a_sync_runs_and_the_next_covers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(tmp_path, segment_bytes=SEGMENT) as journal:
        disk = SlowDisk(monkeypatch)
        seen: list[int] = []
        with GroupCommit(journal, lambda position: seen.append(position.batch)) as group:
            journal.append(filled(b"first"))
            group.request()
            assert disk.begun.acquire(timeout=20)
            for number in range(5):
                journal.append(filled(b"one", b"two %d" % number))
                group.request()
            assert journal.committed_sequence == 0
            assert not group.wait(1, seconds=0.01)
            disk.let.release()
            assert group.wait(1, seconds=20)
            assert journal.committed_sequence == 1
            assert disk.begun.acquire(timeout=20)
            disk.let.release()
            assert group.wait(6, seconds=20)
            assert journal.committed_sequence == 11
            disk.let.release()
        assert seen[:2] == [1, 6]
    assert len(disk.files) == 2


def test_a_segment_that_was_left_is_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path, segment_bytes=8192) as journal:
        synced = []
        sync = os.fdatasync
        for number in range(5):
            journal.append(filled(b"x" * 5000, b"%d" % number))
        inodes = {path.stat().st_ino for path in tmp_path.glob("*.journal")}
        monkeypatch.setattr(os, "fdatasync", lambda file: (synced.append(os.fstat(file).st_ino), sync(file)))
        journal.commit()
        assert len(set(synced)) == 5
        assert set(synced) <= inodes
        journal.commit()
        assert len(synced) == 5


def test_a_failed_sync_acknowledges_nothing_and_ends_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    with Journal(tmp_path, segment_bytes=SEGMENT) as journal, GroupCommit(journal) as group:
        journal.append(filled(b"kept"))
        group.request()
        assert group.wait(1, seconds=20)
        monkeypatch.setattr(os, "fdatasync", refuse)
        journal.append(filled(b"lost"))
        group.request()
        with pytest.raises(JournalError, match="fdatasync failed: Input/output error"):
            group.wait(2, seconds=20)
        assert journal.committed_sequence == 1
        with pytest.raises(JournalError, match="fdatasync failed"):
            group.request()
        with pytest.raises(JournalError, match="takes no more"):
            journal.append(filled(b"more"))


def test_the_writer_waits_for_the_disk_when_too_much_is_in_flight(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        buffer = filled(b"order")
        for number in range(2 * IN_FLIGHT_BATCHES):
            journal.append(buffer)
            assert number - journal.committed.batch < IN_FLIGHT_BATCHES
        assert journal.committed.batch == IN_FLIGHT_BATCHES


def test_control_records_stand_between_the_orders_and_take_no_sequence(tmp_path: Path) -> None:
    record = {"type": "limits", "text": "Grüße", "accounts": {"b": [1, None], "a": 2.5}}
    with Journal(tmp_path, segment_bytes=SEGMENT) as journal:
        journal.append(filled(b"one"))
        batch = journal.append_control(record)
        assert (batch.control, batch.first_sequence, len(batch)) == (record, 2, 0)
        journal.append(filled(b"two"))
        assert journal.commit() == 2
    first, control, second = read_journal(tmp_path)
    assert first.control is second.control is None
    assert control.control == record
    assert (control.first_sequence, second.first_sequence, second.number) == (2, 2, 2)
    assert control.payload.tobytes() == '{"accounts":{"a":2.5,"b":[1,null]},"text":"Grüße","type":"limits"}'.encode()
    assert independent.read(tmp_path)[1] == [control.payload.tobytes()]


@pytest.mark.parametrize("record", [{}, {"type": 5}, {"type": "x", "y": float("nan")}, {"type": "x", 5: 1}])
def test_what_is_no_control_record_is_refused(tmp_path: Path, record: dict) -> None:
    with Journal(tmp_path, segment_bytes=SEGMENT) as journal:
        with pytest.raises(ValueError):
            journal.append_control(record)
        assert journal.append_control({"type": "kill"}).number == 0


def test_a_reader_made_from_the_page_reads_the_same(tmp_path: Path) -> None:
    write_random(tmp_path, 1000, segment_bytes=32 << 10)
    orders, controls = independent.read(tmp_path)
    batches = list(read_journal(tmp_path))
    assert [order.message for order in orders] == [each for batch in batches for each in messages_of(batch)]
    assert [order.sequence for order in orders] == list(range(1, len(orders) + 1))
    assert b"".join(order.decision for order in orders) == b"".join(b.decisions.tobytes() for b in batches)
    assert len(controls) == sum(batch.control is not None for batch in batches) > 3


WRITER = """
    import os, sys, zlib
    import numpy as np
    from hdl.frame import FRAME_DTYPE
    from host.journal import BatchBuffer, Journal
    from host.journal.batch import DECISION_DTYPE
    from host.journal.group_commit import GroupCommit

    def say(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # whole lines, from either thread

    random = np.random.default_rng(int(sys.argv[2]))
    payload = random.integers(1, 256, 1 << 16).astype(np.uint8)
    with Journal(sys.argv[1], segment_bytes=256 << 10) as journal:
        say("recovered", journal.recovered)
        with GroupCommit(journal, lambda position: say("durable", position.sequence - 1)) as group:
            buffer = BatchBuffer(128)
            while True:
                frames = np.zeros(random.integers(1, 100), FRAME_DTYPE)
                frames["kind"], frames["generation"] = 1, 1
                frames["payload_length"] = random.integers(1, 300, len(frames))
                frames["payload_offset"] = random.integers(0, 1 << 15, len(frames))
                decisions = np.zeros(len(frames), DECISION_DTYPE)
                decisions["verdict"] = 1
                buffer.clear()
                buffer.take(frames, payload, decisions)
                end = journal.next_sequence + len(buffer) - 1
                crc = zlib.crc32(b"".join(
                    payload[o : o + n].tobytes() for o, n in zip(frames["payload_offset"], frames["payload_length"])
                ))
                say("writes", journal.next_sequence, end, crc)
                journal.append(buffer)
                group.request()
"""


def test_kill_9_with_batches_in_flight_loses_nothing_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(3)
    written: dict[int, tuple[int, int]] = {}
    for trial in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path), str(trial)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(chance.randrange(2, 120))]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        said = [line.split() for line in lines if line.endswith(b"\n")]
        recovered = int(said[0][1])
        written = {first: what for first, what in written.items() if what[0] <= recovered}
        acknowledged = recovered
        for what, *numbers in said[1:]:
            if what == b"durable":
                acknowledged = max(acknowledged, int(numbers[0]))
            else:
                written[int(numbers[0])] = int(numbers[1]), int(numbers[2])
        orders, _ = independent.read(tmp_path)
        assert len(orders) >= acknowledged
        assert [order.sequence for order in orders] == list(range(1, len(orders) + 1))
        place = 1
        while place <= len(orders):
            end, crc = written[place]
            assert zlib.crc32(b"".join(order.message for order in orders[place - 1 : end])) == crc
            place = end + 1
        assert place == len(orders) + 1
        with Journal(tmp_path, segment_bytes=256 << 10) as journal:
            assert journal.recovered == len(orders)


def test_a_full_disk_ends_the_journal_with_a_clear_error_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        acknowledged = 0
        with Journal(tmp_path / "journal", segment_bytes=256 << 10) as journal:
            buffer = filled(*[b"x" * 1000] * 60)

            def fill() -> None:
                nonlocal acknowledged
                while True:
                    journal.append(buffer)
                    acknowledged = journal.commit()

            with pytest.raises(JournalError, match=r"0000000\d.journal: no room for a new segment: No space left"):
                fill()
        assert acknowledged >= 600
        assert len(independent.read(tmp_path / "journal")[0]) == acknowledged
        with Journal(tmp_path / "journal", segment_bytes=256 << 10) as journal:
            assert journal.recovered == acknowledged
            assert journal.torn is None
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
