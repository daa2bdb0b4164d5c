"""What may be torn with several batches in flight is cut; what had been acknowledged never is.

The model: batches below ``durable`` are on the disk; of those behind, written and not yet synced, the disk holds any
subset of their sectors, and zeros in place of the others.
"""

import random
from pathlib import Path

import numpy as np
import pytest

from host.journal import CorruptJournal, Journal, read_journal
from host.journal.layout import (
    BATCH_DTYPE,
    BATCH_MAGIC,
    JOURNAL_VERSION,
    PAGE_BYTES,
    SECTOR_BYTES,
    batch_bytes,
    header_crc,
    segment_path,
    segment_paths,
)
from tests.host.journal.orders import SEGMENT, filled, messages_of

ACKNOWLEDGED = [(b"first order",), (b"second order", b"third order")]
IN_FLIGHT = [tuple(b"order %d of batch %d" % (i, n) * 5 for i in range(3 * n)) for n in range(1, 5)]


class Crashed:
    """A journal directory as it was when the acknowledged batches were durable, and when all were written."""

    def __init__(self, directory: Path, segment_bytes: int) -> None:
        self.directory = directory
        with Journal(directory, segment_bytes=segment_bytes) as journal:
            for messages in ACKNOWLEDGED:
                journal.append(filled(*messages))
                journal.commit()
            journal._maker.wait()
            before = self._read()
            self.durable = journal.position
            for messages in IN_FLIGHT:
                journal.append(filled(*messages))
        after = self._read()
        self.before = {path: before.get(path, bytes(segment_bytes)) for path in after}
        self.after = after
        self.sectors = [
            (path, offset)
            for path, data in after.items()
            for offset in range(0, len(data), SECTOR_BYTES)
            if data[offset : offset + SECTOR_BYTES] != self.before[path][offset : offset + SECTOR_BYTES]
        ]

    def _read(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for _, path in segment_paths(self.directory)}

    def with_sectors(self, kept: list[tuple[Path, int]]) -> None:
        """Leaves on the disk what was durable and these sectors."""
        data = {path: bytearray(content) for path, content in self.before.items()}
        for path, offset in kept:
            data[path][offset : offset + SECTOR_BYTES] = self.after[path][offset : offset + SECTOR_BYTES]
        for path, content in data.items():
            path.write_bytes(content)

    def check(self, segment_bytes: int) -> int:
        """Recovers and goes on; returns how many batches in flight were found whole."""
        whole = [list(messages) for messages in ACKNOWLEDGED + IN_FLIGHT]
        found = [messages_of(batch) for batch in read_journal(self.directory)]
        assert found == whole[: len(found)]
        assert len(found) >= len(ACKNOWLEDGED)
        with Journal(self.directory, segment_bytes=segment_bytes) as journal:
            assert journal.recovered == sum(map(len, found))
            journal.append(filled(b"next"))
            journal.append(filled(b"and one more"))
            journal.commit()
        again = [messages_of(batch) for batch in read_journal(self.directory)]
        assert again == [*found, [b"next"], [b"and one more"]]
        return len(found) - len(ACKNOWLEDGED)


@pytest.mark.parametrize("segment_bytes", [SEGMENT, 8192], ids=["one segment", "several segments"])
def test_any_subset_of_the_sectors_in_flight_is_recovered(tmp_path: Path, segment_bytes: int) -> None:
    crashed = Crashed(tmp_path, segment_bytes)
    chance = random.Random(4)
    every = crashed.sectors
    assert len(every) > 12
    cuts = [every[:kept] for kept in range(len(every) + 1)]
    holes = [every[:hole] + every[hole + 1 :] for hole in range(len(every))]
    subsets = [
        [each for each in every if chance.random() < share] for share in (0.3, 0.6, 0.9, 0.97) for _ in range(40)
    ]
    found = set()
    for kept in cuts + holes + subsets:
        crashed.with_sectors(kept)
        found.add(crashed.check(segment_bytes))
    assert found >= {0, 1, len(IN_FLIGHT)}


@pytest.mark.parametrize("segment_bytes", [SEGMENT, 8192], ids=["one segment", "several segments"])
def test_an_interrupted_recovery_is_recovered(tmp_path: Path, segment_bytes: int) -> None:
    crashed = Crashed(tmp_path, segment_bytes)
    chance = random.Random(5)
    for _ in range(60):
        kept = [each for each in crashed.sectors if chance.random() < 0.8]
        crashed.with_sectors(kept)
        reader = read_journal(tmp_path)
        whole = len(list(reader))
        if reader.torn is None:
            continue
        cut = {extent.path: extent.offset for extent in reader.torn.extents}
        for path, offset in kept:
            if path in cut and offset >= -(-cut[path] // SECTOR_BYTES) * SECTOR_BYTES and chance.random() < 0.5:
                data = bytearray(path.read_bytes())
                data[offset : offset + SECTOR_BYTES] = bytes(SECTOR_BYTES)
                path.write_bytes(data)
        assert len(list(read_journal(tmp_path))) == whole
        crashed.check(segment_bytes)


def test_a_page_that_is_being_synced_is_not_written_to(tmp_path: Path) -> None:
    with Journal(tmp_path, segment_bytes=SEGMENT) as journal:
        offsets = []
        for number in range(6):
            journal.append(filled(b"order %d" % number))
            offsets.append(journal.position.offset)
            if number in (1, 4):
                journal.commit()
    pages = [(offset - 1) // PAGE_BYTES for offset in offsets]
    assert pages == [0, 1, 1, 2, 3, 3]
    assert len(list(read_journal(tmp_path))) == 6


@pytest.mark.parametrize("segment_bytes", [SEGMENT, 8192], ids=["one segment", "several segments"])
def test_a_lost_sector_of_what_was_acknowledged_is_damage(tmp_path: Path, segment_bytes: int) -> None:
    crashed = Crashed(tmp_path, segment_bytes)
    crashed.with_sectors(crashed.sectors)
    path = segment_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    data[64:SECTOR_BYTES] = bytes(SECTOR_BYTES - 64)
    path.write_bytes(data)
    with pytest.raises(CorruptJournal, match=r"byte 64: .*had been durable"):
        list(read_journal(tmp_path))
    with pytest.raises(CorruptJournal, match="had been durable"):
        Journal(tmp_path, segment_bytes=segment_bytes)


def test_a_flipped_bit_in_flight_is_damage_not_a_torn_write(tmp_path: Path) -> None:
    crashed = Crashed(tmp_path, SEGMENT)
    crashed.with_sectors(crashed.sectors)
    path = segment_path(tmp_path, 1)
    whole = path.read_bytes()
    chance = random.Random(6)
    reader = read_journal(tmp_path)
    spans = []
    for _ in reader:
        spans.append((reader.begin, reader.position.offset))
    for begin, end in spans:
        for byte in [*range(begin, begin + 64), end - 1, *(chance.randrange(begin, end) for _ in range(20))]:
            data = bytearray(whole)
            data[byte] ^= 1 << chance.randrange(8)
            path.write_bytes(data)
            with pytest.raises(CorruptJournal, match=r"byte \d+"):
                list(read_journal(tmp_path))


def test_bytes_between_batches_are_zeros(tmp_path: Path) -> None:
    crashed = Crashed(tmp_path, SEGMENT)
    crashed.with_sectors(crashed.sectors)
    path = segment_path(tmp_path, 1)
    whole = path.read_bytes()
    reader = read_journal(tmp_path)
    last = 64
    gaps = []
    for _ in reader:
        gaps += range(last, reader.begin)
        last = reader.position.offset
    assert gaps
    for byte in gaps[::97]:
        data = bytearray(whole)
        data[byte] = 7
        path.write_bytes(data)
        with pytest.raises(CorruptJournal):
            list(read_journal(tmp_path))


def test_no_message_passes_for_a_batch(tmp_path: Path) -> None:
    """A client that sends a batch's header, a whole one with a CRC, changes nothing of what a torn tail is."""
    forged = np.zeros(1, BATCH_DTYPE)
    forged["magic"], forged["version"], forged["batch"], forged["durable"] = BATCH_MAGIC, JOURNAL_VERSION, 1000, 1000
    forged["total_bytes"] = batch_bytes(0, 0)
    forged["salt"] = 12345
    forged["crc"] = header_crc(forged[0])
    # The messages of one order begin 80 bytes behind the header's line: at 16 of a line.
    message = b"-" * 48 + forged.tobytes() + b"-" * 2000
    with Journal(tmp_path, segment_bytes=SEGMENT) as journal:
        journal.append(filled(b"first"))
        journal.commit()
        begin = journal.position.offset
        journal.append(filled(message))
    path = segment_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    place = data.index(forged.tobytes())
    assert place % 64 == 0
    data[begin : begin + 64] = bytes(64)
    path.write_bytes(data)
    reader = read_journal(tmp_path)
    assert len(list(reader)) == 1
    assert reader.torn
