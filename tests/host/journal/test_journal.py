"""The journal keeps what it acknowledged, cuts what was torn, and never hides damage."""

import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from hdl.frame import Kind
from host.journal import BatchBuffer, CorruptJournal, Journal, JournalError, read_journal
from host.journal.layout import BATCH_DTYPE, HEADER_BYTES, SEGMENT_DTYPE, batch_bytes, segment_path, segment_paths
from tests.host.journal.orders import SEGMENT, decisions_of, filled, messages_of, slice_of, write

ROOT = Path(__file__).resolve().parents[3]


def test_what_was_committed_is_read_back(tmp_path: Path) -> None:
    write(tmp_path, (b"one", b"two"), (b"three",))
    first, second = read_journal(tmp_path)
    assert messages_of(first) == [b"one", b"two"]
    assert messages_of(second) == [b"three"]
    assert (first.first_sequence, second.first_sequence, second.number) == (1, 3, 1)
    assert first.decisions["node"].tolist() == [0, 1]
    assert first.decisions["verdict"].tolist() == [1, 1]
    assert first.decisions["price"].tolist() == [-1, 0]


def test_only_order_frames_are_taken_and_a_shared_message_is_kept_once() -> None:
    frames, payload = slice_of(b"book", b"order")
    frames[0]["kind"] = Kind.BOOK_UPDATE
    frames = frames[[0, 1, 1]]
    buffer = BatchBuffer(8)
    assert buffer.take(frames, payload, decisions_of(3)) == 3
    batch = buffer.batch(0, 1)
    assert messages_of(batch) == [b"order", b"order"]
    assert len(batch.payload) == len(b"order")


def test_messages_that_begin_alike_are_each_kept_whole() -> None:
    frames, payload = slice_of(b"a longer order", b"behind it")
    frames = frames[[0, 0, 1]]
    frames[0]["payload_length"] = 1
    buffer = BatchBuffer(8)
    assert buffer.take(frames, payload, decisions_of(3)) == 3
    assert messages_of(buffer.batch(0, 1)) == [b"a", b"a longer order", b"behind it"]


def test_a_full_buffer_says_where_it_stopped() -> None:
    frames, payload = slice_of(b"a" * 100, b"b" * 100, b"c" * 100)
    buffer = BatchBuffer(8, payload_bytes=250)
    decided = decisions_of(3)
    assert buffer.take(frames, payload, decided) == 2
    buffer.clear()
    assert buffer.take(frames, payload, decided, begin=2) == 3
    with pytest.raises(ValueError, match="does not fit"):
        BatchBuffer(8, payload_bytes=50).take(frames, payload, decided)


def test_sequences_go_on_after_opening_again_and_over_segments(tmp_path: Path) -> None:
    for number in range(6):
        with Journal(tmp_path, segment_bytes=8192) as journal:
            assert (journal.recovered, journal.next_sequence) == (number * 2, number * 2 + 1)
            journal.append(filled(b"x" * 1500, b"y" * 1500))
            assert journal.committed_sequence == number * 2
            assert journal.commit() == number * 2 + 2
    assert len(segment_paths(tmp_path)) == 4  # three are used, and one is made
    assert [batch.first_sequence for batch in read_journal(tmp_path)] == [1, 3, 5, 7, 9, 11]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path, segment_bytes=SEGMENT), pytest.raises(JournalError, match="another process"):
        Journal(tmp_path)
    Journal(tmp_path, segment_bytes=SEGMENT).close()


def test_one_commit_covers_every_batch_written_before(tmp_path: Path) -> None:
    with Journal(tmp_path, segment_bytes=SEGMENT) as journal:
        journal.append(filled(b"one"))
        journal.append(filled(b"two", b"three"))
        assert journal.committed_sequence == 0
        assert journal.commit() == 3
        assert journal.committed.batch == 2


def test_too_large_and_empty_batches_are_refused_and_the_journal_goes_on(tmp_path: Path) -> None:
    with Journal(tmp_path, segment_bytes=8192) as journal:
        with pytest.raises(ValueError, match="does not fit a segment"):
            journal.append(filled(b"x" * 9000))
        with pytest.raises(ValueError, match="empty"):
            journal.append(BatchBuffer(4))
        journal.append(filled(b"one"))
        assert journal.commit() == 1


def last_batch(path: Path) -> tuple[int, int]:
    """Offset and length of the last batch of a segment."""
    data = path.read_bytes()
    offset = end = HEADER_BYTES
    while True:
        header = np.frombuffer(data[end : end + HEADER_BYTES], BATCH_DTYPE)[0]
        if not header["magic"]:
            return offset, end - offset
        offset, end = end, end + int(header["total_bytes"])


def test_a_write_torn_at_any_byte_is_cut_and_reported(tmp_path: Path) -> None:
    write(tmp_path, (b"first", b"second"), (b"torn order 1", b"torn order 2"))
    path = segment_path(tmp_path, 1)
    whole = path.read_bytes()
    offset, length = last_batch(path)
    for kept in range(length):
        path.write_bytes(whole[: offset + kept] + bytes(len(whole) - offset - kept))
        assert [len(batch) for batch in read_journal(tmp_path)] == [2]
        with Journal(tmp_path, segment_bytes=SEGMENT) as journal:
            assert journal.recovered == 2
            written = whole[offset : offset + kept].rstrip(b"\0")
            if written:
                assert journal.torn
                assert journal.torn.offset == offset
                assert journal.torn.length >= len(written)
            journal.append(filled(b"next"))
            assert journal.commit() == 3
        assert [messages_of(batch) for batch in read_journal(tmp_path)] == [[b"first", b"second"], [b"next"]]


def test_sectors_that_were_never_written_are_torn(tmp_path: Path) -> None:
    write(tmp_path, (b"first",), tuple(b"order %d" % i * 20 for i in range(20)))
    path = segment_path(tmp_path, 1)
    whole = path.read_bytes()
    offset, length = last_batch(path)
    for sector in range(offset // 512, -(-(offset + length) // 512)):
        begin, end = max(offset, sector * 512), min(offset + length, sector * 512 + 512)
        path.write_bytes(whole[:begin] + bytes(end - begin) + whole[end:])
        with Journal(tmp_path, segment_bytes=SEGMENT) as journal:
            assert journal.recovered == 1
            assert journal.torn
            journal.append(filled(b"short"))
            assert journal.commit() == 2
        assert [messages_of(batch) for batch in read_journal(tmp_path)] == [[b"first"], [b"short"]]


def test_every_flipped_bit_is_an_error_with_file_and_offset(tmp_path: Path) -> None:
    write(tmp_path, (b"first", b"second"), (b"third",))
    path = segment_path(tmp_path, 1)
    whole = bytearray(path.read_bytes())
    offset, length = last_batch(path)
    for byte in range(offset + length):
        damaged = bytearray(whole)
        damaged[byte] ^= 1 << byte % 8
        path.write_bytes(damaged)
        with pytest.raises(JournalError, match=rf"{path.name}: (byte \d+|the segment has)"):
            list(read_journal(tmp_path))
        with pytest.raises(JournalError):
            Journal(tmp_path, segment_bytes=SEGMENT)


def test_damage_before_a_whole_batch_is_no_torn_tail(tmp_path: Path) -> None:
    write(tmp_path, (b"first",), (b"second",))
    path = segment_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES : HEADER_BYTES + 192] = bytes(192)
    path.write_bytes(data)
    with pytest.raises(CorruptJournal, match=r"00000001.journal: byte 64"):
        list(read_journal(tmp_path))


def test_a_missing_or_foreign_segment_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, (b"x" * 5000,), (b"y" * 5000,), (b"z" * 5000,), segment_bytes=8192)
    second = segment_path(tmp_path, 2)
    data = second.read_bytes()
    second.unlink()
    with pytest.raises(CorruptJournal, match="segment 2 is missing"):
        list(read_journal(tmp_path))
    second.write_bytes(segment_path(tmp_path, 3).read_bytes())
    with pytest.raises(CorruptJournal, match="the header is of segment 3"):
        list(read_journal(tmp_path))
    second.write_bytes(data[:-1])
    with pytest.raises(CorruptJournal, match="its header says"):
        list(read_journal(tmp_path))


def test_another_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path, (b"x",))
    path = segment_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    np.frombuffer(data, SEGMENT_DTYPE, 1)["version"] = 9
    path.write_bytes(data)
    with pytest.raises(JournalError, match="version 9"):
        Journal(tmp_path)


WRITER = """
    import sys
    import numpy as np
    from hdl.frame import FRAME_DTYPE
    from host.journal import BatchBuffer, Journal
    from host.journal.batch import DECISION_DTYPE

    random = np.random.default_rng(int(sys.argv[2]))
    payload = random.integers(1, 256, 1 << 16).astype(np.uint8)
    with Journal(sys.argv[1], segment_bytes=256 << 10) as journal:
        buffer = BatchBuffer(128)
        print(journal.recovered, flush=True)
        while True:
            frames = np.zeros(random.integers(1, 100), FRAME_DTYPE)
            frames["kind"], frames["generation"] = 1, 1
            frames["payload_length"] = random.integers(1, 300, len(frames))
            frames["payload_offset"] = random.integers(0, 1 << 15, len(frames))
            decisions = np.zeros(len(frames), DECISION_DTYPE)
            decisions["verdict"] = 1
            buffer.clear()
            buffer.take(frames, payload, decisions)
            batch = journal.append(buffer)
            frames_crc = int(batch.frames.view(np.uint8).sum()) + int(batch.payload.sum())
            print(journal.commit(), frames_crc, flush=True)
"""


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    chance = random.Random(9)
    sums: list[int] = []
    acknowledged = 0
    for trial in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path), str(trial)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout
        assert int(process.stdout.readline()) >= acknowledged
        lines = [process.stdout.readline() for _ in range(chance.randrange(1, 60))]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        acks = [tuple(map(int, line.split())) for line in lines if line.endswith(b"\n")]
        acknowledged = acks[-1][0]
        batches = list(read_journal(tmp_path))
        found = [int(b.frames.view(np.uint8).sum()) + int(b.payload.sum()) for b in batches]
        sums += [crc for _, crc in acks]
        # One batch may have become durable without its acknowledgement getting out.
        assert found[: len(sums)] == sums
        assert len(found) - len(sums) in (0, 1)
        sums = found
        assert batches[-1].first_sequence + len(batches[-1]) - 1 >= acknowledged
        assert np.concatenate([np.arange(len(b)) + b.first_sequence for b in batches]).tolist() == list(
            range(1, batches[-1].first_sequence + len(batches[-1]))
        )


def run_limited(directory: Path, file_limit: int) -> subprocess.CompletedProcess[str]:
    """Runs the writer in a process whose files cannot grow beyond ``file_limit`` bytes."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(directory), "1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit)),
        check=False,
        timeout=60,
    )


def test_a_disk_without_room_for_a_segment_is_a_clear_error(tmp_path: Path) -> None:
    result = run_limited(tmp_path, 100 << 10)
    assert "no room for a new segment" in result.stderr
    assert result.returncode == 1
    assert list(read_journal(tmp_path)) == []
    assert not list(tmp_path.glob("*.new"))


def test_a_write_that_the_disk_refuses_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    Journal(tmp_path, segment_bytes=256 << 10).close()
    result = run_limited(tmp_path, 200_000)
    acknowledged = int(result.stdout.split("\n")[-2].split()[0])
    assert "write failed: File too large" in result.stderr
    assert acknowledged > 0
    assert sum(len(batch) for batch in read_journal(tmp_path)) == acknowledged
    with Journal(tmp_path, segment_bytes=SEGMENT) as journal:
        assert journal.recovered == acknowledged
        assert journal.torn
        assert "torn batch at byte" in str(journal.torn)


def test_a_failed_write_closes_the_journal_to_more(tmp_path: Path) -> None:
    with Journal(tmp_path, segment_bytes=SEGMENT) as journal:
        os.close(journal._file)  # as if the device had gone
        with pytest.raises(JournalError, match="write failed"):
            journal.append(filled(b"one"))
        journal._file = -1
        with pytest.raises(JournalError, match="takes no more"):
            journal.append(filled(b"one"))
        with pytest.raises(JournalError, match="takes no more"):
            journal.commit()


def test_batch_bytes_are_whole_lines() -> None:
    assert batch_bytes(1, 0) % 64 == 0
    assert batch_bytes(1, 47) == batch_bytes(1, 0)
    assert batch_bytes(1, 48) == batch_bytes(1, 47) + 64
