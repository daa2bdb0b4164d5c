"""The ring's reader: what it hands out, what it gives back, and what it refuses."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hdl.ring_layout import HEADER_DTYPE
from host.card.ring import FRAMES_READ, PAYLOAD_READ, Lapped, Ring, RingError
from host.card.ring_writer import (
    NO_CREDIT,
    finish_frame,
    has_frame_credit,
    write_message,
    writer_of,
)

ROOT = Path(__file__).resolve().parents[3]
SLOTS, PAYLOAD = 8, 1 << 15


@pytest.fixture
def ring():
    with Ring.create(None, SLOTS, PAYLOAD) as made:
        yield made


class Writer:
    """A card that writes messages of one frame each, or several."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.writer = writer_of(ring)
        self.sequence = 0

    def write(self, message: bytes, frames: int = 1) -> bool:
        source = np.frombuffer(message or b"\0", np.uint8)
        if not has_frame_credit(self.writer):
            return False
        offset = write_message(self.writer, source, 0, len(message))
        if offset == NO_CREDIT:
            return False
        for _ in range(frames):
            ring_frames = self.ring.frames
            slot = self.writer["frames_written"] % len(ring_frames)
            ring_frames[slot]["payload_offset"] = offset
            ring_frames[slot]["payload_length"] = len(message)
            ring_frames[slot]["sequence"] = self.sequence
            finish_frame(self.writer)
            self.sequence += 1
        return True


def test_a_new_ring_is_empty(ring):
    assert len(ring.poll()) == 0
    assert len(ring.read()) == 0


def test_frames_and_messages_are_views_of_the_ring(ring):
    writer = Writer(ring)
    writer.write(b"first")
    writer.write(b"second")
    frames = ring.poll()
    assert [bytes(ring.message(frame)) for frame in frames] == [b"first", b"second"]
    assert np.shares_memory(frames, ring.frames)
    assert ring.message(frames[0]).readonly
    assert len(ring.poll(1)) == 1


def test_many_laps_keep_order_and_content(ring):
    writer = Writer(ring)
    sent, seen = 0, 0
    # 600 laps: the generation passes 255 and is 0 in between.
    while seen < 600 * SLOTS:
        while writer.write(b"%d" % sent * (sent % 60)):
            sent += 1
        frames = ring.poll()
        assert len(frames)
        for frame in frames:
            assert frame["sequence"] == seen
            assert bytes(ring.message(frame)) == b"%d" % seen * (seen % 60)
            seen += 1
        ring.release(len(frames))


def test_a_poll_ends_where_the_ring_does(ring):
    writer = Writer(ring)
    for _ in range(SLOTS - 2):
        writer.write(b"x")
    ring.release(len(ring.poll()))
    for _ in range(4):
        assert writer.write(b"x")
    assert len(ring.poll()) == 2
    ring.release(2)
    assert len(ring.poll()) == 2


def test_one_frame_of_credit_is_kept_back(ring):
    writer = Writer(ring)
    written = sum(writer.write(b"x") for _ in range(2 * SLOTS))
    assert written == SLOTS
    ring.release(3)
    assert ring.words[FRAMES_READ] == 2
    assert sum(writer.write(b"x") for _ in range(SLOTS)) == 2


def test_a_message_is_given_back_only_when_all_its_frames_are_read(ring):
    writer = Writer(ring)
    writer.write(b"a" * 100)
    writer.write(b"b" * 100, frames=3)
    ring.release(2)
    assert ring.words[PAYLOAD_READ] == 128
    ring.release(2)
    # The card may still write a fourth frame of it.
    assert ring.words[PAYLOAD_READ] == 128
    writer.write(b"")
    ring.release(1)
    assert ring.words[PAYLOAD_READ] == 256


def test_a_message_never_wraps_and_its_line_is_filled_with_zeros(ring):
    writer = Writer(ring)
    for _ in range(5):
        assert writer.write(b"m" * 6100)
    assert not writer.write(b"n" * 6000)
    ring.release(2)
    assert writer.write(b"n" * 6000)
    *_, last = ring.poll()
    assert last["payload_offset"] == 0
    assert bytes(ring.payload[5998:6018]) == b"nn" + b"\0" * 16 + b"mm"


def test_the_smallest_ring_never_stops_for_good():
    with Ring.create(None, 2, 1 << 15) as ring:
        writer = Writer(ring)
        for length in (8192, 1, 8192, 8128, 8192, 0, 8192, 64, 8191) * 20:
            assert writer.write(b"x" * length)
            ring.release(len(ring.poll()))


def test_only_what_was_polled_can_be_released(ring):
    Writer(ring).write(b"x")
    with pytest.raises(Lapped):
        ring.release(2)
    with pytest.raises(ValueError):
        ring.release(SLOTS + 1)
    assert ring.position == 0


def overwrite(ring: Ring, number: int, whole: bool) -> None:
    """What a card does that ignores credit: write frame ``number``, or only its first half."""
    slot = number % SLOTS
    ring.frames[slot]["price"] = number
    if whole:
        ring.frames[slot]["generation"] = number // SLOTS + 1


@pytest.fixture
def full_ring(ring):
    for number in range(4):
        overwrite(ring, number, whole=True)
    ring.release(4)
    for number in range(4, SLOTS + 4):
        overwrite(ring, number, whole=True)
    return ring


def test_a_lapped_frame_is_void(full_ring):
    frames = full_ring.poll()
    assert frames["price"].tolist() == [4, 5, 6, 7]
    overwrite(full_ring, SLOTS + 4, whole=True)
    with pytest.raises(Lapped, match="frame 4"):
        full_ring.release(len(frames))
    assert full_ring.position == 4


def test_a_reader_that_comes_laps_too_late_sees_it(full_ring):
    for number in range(4, 8):
        overwrite(full_ring, 3 * SLOTS + number, whole=True)
    with pytest.raises(Lapped, match="overrun frame 4"):
        full_ring.poll()


def test_a_half_written_frame_is_never_handed_out(full_ring):
    # The card has written frame 11 over frame 3 without credit and is in the middle of frame 12 over 4,
    # whose generation still stands.
    overwrite(full_ring, SLOTS + 4, whole=False)
    assert full_ring.poll()["price"][0] == SLOTS + 4
    with pytest.raises(Lapped):
        full_ring.read()
    with pytest.raises(Lapped):
        full_ring.release(1)


LAPPING_CARD = """
import sys
from pathlib import Path
from host.card.ring import Ring
ring = Ring.open(Path(sys.argv[1]))
slots = len(ring.frames)
print("ready", flush=True)
sys.stdin.readline()
# Fewer laps than the generation can tell apart, however late the reader is.
for number in range(200 * slots):
    frame = ring.frames[number % slots]
    for name in ("timestamp", "price", "quantity", "instrument"):
        frame[name] = number
    frame["generation"] = (number // slots + 1) & 0xFF
"""


def read_until_lapped(ring: Ring) -> None:
    while True:
        frames = ring.read(4)
        for name in ("timestamp", "price", "quantity", "instrument"):
            assert frames[name].tolist() == list(range(ring.position, ring.position + len(frames)))
        ring.release(len(frames))


def test_a_card_in_another_process_that_laps_is_seen(tmp_path):
    path = tmp_path / "ring"
    ring = Ring.create(path, 1 << 12, PAYLOAD)
    card = subprocess.Popen(
        [sys.executable, "-c", LAPPING_CARD, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert card.stdout.readline() == b"ready\n"
        assert len(ring.read()) == 0
        card.stdin.write(b"\n")
        card.stdin.flush()
        # The card never waits, so sooner or later the reader is too slow; until then every frame is whole.
        with pytest.raises(Lapped):
            read_until_lapped(ring)
    finally:
        card.kill()
        card.communicate()


def test_a_second_process_goes_on_where_the_first_one_was(tmp_path):
    first = Ring.create(tmp_path / "ring", SLOTS, PAYLOAD)
    writer = Writer(first)
    for _ in range(4):
        writer.write(b"x")
    first.release(3)
    second = Ring.open(tmp_path / "ring")
    assert second.position == 3
    assert second.poll()["sequence"].tolist() == [3]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("magic", 0, "not a ring"),
        ("version", 2, "ring version 2 is not supported, only 1"),
        ("frame_slots", 7, "7 frame slots: must be a power of two"),
        ("payload_bytes", 1 << 14, "16384 payload bytes: must be a power of two from 32768"),
        ("payload_offset", 0, "do not fit"),
        ("payload_bytes", 1 << 20, "do not fit"),
    ],
)
def test_a_foreign_ring_is_refused(tmp_path, field, value, reason):
    path = tmp_path / "ring"
    Ring.create(path, SLOTS, PAYLOAD).close()
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, HEADER_DTYPE.fields[field][1], value)
    path.write_bytes(content)
    with pytest.raises(RingError, match=reason) as refusal:
        Ring.open(path)
    assert str(path) in str(refusal.value)


def test_a_file_too_small_and_sizes_that_no_ring_has_are_refused(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(RingError, match="0 bytes are too few"):
        Ring.open(tmp_path / "empty")
    for slots, payload in ((3, PAYLOAD), (1, PAYLOAD), (SLOTS, 1000), (SLOTS, 1 << 33)):
        with pytest.raises(RingError, match="must be a power of two"):
            Ring.create(tmp_path / "ring", slots, payload)
