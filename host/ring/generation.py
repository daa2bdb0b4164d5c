"""How a reader finds what is new in a ring of slots: by the lap number in each slot's last byte.

Slot ``n mod slots`` holds record n (counted from 0) and ends with its generation, ``(n div slots + 1) mod 256``, which is
written last. The memory begins zeroed, so a slot that was never written is not taken for the first lap's. No head
pointer is read (docs/ring.md).
"""

import numpy as np
from numba import njit

from host.memory import load_acquire


@njit(cache=True, nogil=True)
def generation_of(number: int, slots: int) -> int:
    """The generation that record ``number`` (counted from 0) carries: its lap from 1, modulo 256."""
    return generation_of_lap(number // slots)


@njit(cache=True, nogil=True)
def generation_of_lap(lap: int) -> int:
    """The generation of the records of a lap (from 0)."""
    return (lap + 1) & 0xFF


@njit(cache=True, nogil=True)
def count_available(slot_bytes: np.ndarray, stride: int, number: int, slots: int, limit: int) -> int:
    """How many records from ``number`` on are there, up to the ring's end and ``limit``.

    ``slot_bytes`` (uint8) are all slots, ``stride`` bytes each.
    """
    slot = number % slots
    expected = generation_of(number, slots)
    most = min(limit, slots - slot)
    count = 0
    while count < most and load_acquire(slot_bytes, (slot + count + 1) * stride - 1) == expected:
        count += 1
    return count


@njit(cache=True, nogil=True)
def is_overrun(slot_bytes: np.ndarray, stride: int, number: int, slots: int) -> bool:
    """Whether the slot of record ``number`` holds a later lap's: neither that record nor the one of the lap before."""
    there = load_acquire(slot_bytes, (number % slots + 1) * stride - 1)
    expected = generation_of(number, slots)
    return there != expected and there != (expected - 1) & 0xFF


@njit(cache=True, nogil=True)
def count_intact(slot_bytes: np.ndarray, stride: int, number: int, slots: int, count: int) -> int:
    """How many of ``count`` records from ``number`` on are certainly as they were when they were read before this call.

    A writer that laps writes slot by slot, each slot's generation last. So a slot is whole if its own
    generation *and* that of the slot before it stand still; for record 0 there is none before it.
    """
    if number > 0:
        before = load_acquire(slot_bytes, ((number - 1) % slots + 1) * stride - 1)
        if before != generation_of(number - 1, slots):
            return 0
    return count_available(slot_bytes, stride, number, slots, count)
