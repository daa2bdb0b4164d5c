"""Load: orders in a ring at a rate, for as long as it takes, each with a ClOrdID of its own.

A *lap* of orders (host/generate/lap.py) is played again and again; what differs from lap to lap is the
number of the lap, eight digits at the beginning of every ClOrdID and OrigClOrdID, and the CheckSum. A lap ends with
cancels of all that still rests, so books are empty between two. What was sent is therefore known from two numbers: order n is
row ``n mod len(lap)`` of lap ``n div len(lap)``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from hdl.frame import FRAME_DTYPE
from host.card.ring import Ring
from host.card.ring_writer import (
    NO_CREDIT,
    WRITER_DTYPE,
    finish_frame,
    has_frame_credit,
    next_frame,
    write_message,
    writer_resumed,
)
from host.clock import monotonic_ns, pause
from host.gateway.route_loop import Watch, make_watch, note_stall
from host.memory import address_of, store_number

LAP_DIGITS = 8

_ZERO = np.uint8(ord("0"))
_CHECKSUM_AT = 4
"""CheckSum's three digits and the SOH behind them end a message."""


@dataclass(frozen=True)
class Lap:
    """Orders as they stand in a ring: ``frames`` (FRAME_DTYPE, all of them order frames) and the ``payload`` that they point into."""

    frames: np.ndarray
    payload: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def message(self, row: int, lap: int = 0) -> bytes:
        """An order's message, the CheckSum of lap 0."""
        begin = int(self.frames["payload_offset"][row])
        raw = self.payload[begin : begin + int(self.frames["payload_length"][row])].tobytes()
        return raw.replace(b"=" + b"0" * LAP_DIGITS, b"=%0*d" % (LAP_DIGITS, lap))


@njit(cache=True, nogil=True, _nrt=False)
def _lap_number(lap):
    """(eight digits as they stand in memory, the sum of their values)."""
    text, total = np.uint64(0), 0
    for _ in range(LAP_DIGITS):
        digit = lap % 10
        lap //= 10
        text = text << np.uint64(8) | np.uint64(_ZERO + digit)
        total += digit
    return text, total


@njit(cache=True, nogil=True, _nrt=False)
def pump(writers, payload_ring, frames, payload, number, until, paced, start_ns, gap_ps, most_ns, watch):
    """Writes orders from ``number`` on, up to ``until``, into a ring, each not before it is due; returns the next one's number.

    Order n is due at ``start_ns`` + (n - ``paced``) × ``gap_ps`` / 1000 (CLOCK_MONOTONIC), which is its frame's timestamp; with a gap of 0
    it is due at once and has the present time. It polls for up to ``most_ns``, and does not wait for credit. A message is in its ring
    before its order is due, and is there for readers with the frame, as a card's is. ``watch`` (host.gateway.route_loop) takes the machine's stalls while nothing was due.
    """
    writer = writers[0]
    began = monotonic_ns()
    now = began
    rows = frames.shape[0]
    row, lap = number % rows, number // rows
    digits, digit_sum = _lap_number(lap)
    while number < until:
        due = start_ns + (number - paced) * gap_ps // 1000
        if gap_ps == 0:
            due = now
        elif now < due and due - began >= most_ns:
            break
        if not has_frame_credit(writer):
            break
        source = frames[row]
        length = np.int64(source.payload_length)
        offset = write_message(writer, payload, np.int64(source.payload_offset), length)
        if offset == NO_CREDIT:
            break
        at = offset + length - _CHECKSUM_AT
        store_number(address_of(payload_ring, offset + np.int64(source.client_order_id)), digits, LAP_DIGITS)
        checksum = digit_sum
        if source.original_order_id != 0:
            store_number(address_of(payload_ring, offset + np.int64(source.original_order_id)), digits, LAP_DIGITS)
            checksum += digit_sum
        for place in range(3):
            checksum += np.int64(payload_ring[at + place] - _ZERO) * (100 if place == 0 else (10 if place == 1 else 1))
        checksum &= 0xFF
        payload_ring[at] = _ZERO + np.uint8(checksum // 100)
        payload_ring[at + 1] = _ZERO + np.uint8(checksum // 10 % 10)
        payload_ring[at + 2] = _ZERO + np.uint8(checksum % 10)
        while now < due:
            pause()
            before = now
            now = monotonic_ns()
            if watch.stalls.shape[0] > 0:
                note_stall(watch, before, now)
        frame = next_frame(writer)
        frame.timestamp = np.uint64(due)
        frame.price = source.price
        frame.quantity = source.quantity
        frame.instrument = source.instrument
        frame.payload_offset = np.uint32(offset)
        frame.payload_length = source.payload_length
        frame.flow = source.flow
        frame.sequence = source.sequence
        frame.kind = source.kind
        frame.side = source.side
        frame.order_type = source.order_type
        frame.time_in_force = source.time_in_force
        frame.flags = source.flags
        frame.message_type = source.message_type
        frame.client_order_id = source.client_order_id
        frame.original_order_id = source.original_order_id
        frame.symbol = source.symbol
        frame.account = source.account
        finish_frame(writer)
        number += 1
        row += 1
        if row == rows:
            row, lap = 0, lap + 1
            digits, digit_sum = _lap_number(lap)
        if number & 63 == 0:
            now = monotonic_ns()
            if now - began >= most_ns:
                break
    return number


class Load:
    """Plays a lap into a ring that only loads write to, and goes on where a predecessor stopped: at order ``number``."""

    def __init__(self, lap: Lap, ring: Ring, watch: Watch | None = None) -> None:
        self.lap = lap
        self.watch = make_watch() if watch is None else watch
        self.ring = ring
        self._writer = np.zeros(1, WRITER_DTYPE)
        self._writer[0] = writer_resumed(ring)
        # Nothing else writes to the ring, so a frame's number is its order's.
        self.number = int(self._writer["frames_written"][0])
        self._paced, self._start, self._gap_ps = self.number, 0, 0

    def pace(self, orders_per_s: float | None, start_ns: int) -> None:
        """From now on orders are due at this rate, the next one at ``start_ns`` (CLOCK_MONOTONIC); None: as fast as there is credit."""
        self._gap_ps = 0 if orders_per_s is None else round(1e12 / orders_per_s)
        # From the next one: a slow rate's times since the first order ever would not fit 64 bits.
        self._paced, self._start = self.number, start_ns

    def run(self, until: int, most_ns: int) -> int:
        """Write what is due until then; returns how many orders were written ever."""
        self.number = int(
            pump(
                self._writer, self.ring.payload, self.lap.frames, self.lap.payload,
                self.number, until, self._paced, self._start, self._gap_ps, most_ns, self.watch,
            )
        )  # fmt: skip
        return self.number


def save_lap(lap: Lap, path: Path) -> None:
    """Keep a lap in a file."""
    np.savez(path, frames=lap.frames.view(np.uint8), payload=lap.payload)


def load_lap(path: Path) -> Lap:
    """A lap that was kept. Raises OSError."""
    with np.load(path) as kept:
        return Lap(kept["frames"].view(FRAME_DTYPE), kept["payload"])
