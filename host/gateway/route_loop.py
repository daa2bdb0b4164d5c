"""The busy-polling loop: from the card's ring through risk and routing into batches, all of it compiled.

It polls the generation of the ring's next slot, decides about what is there, copies it into the open batch, and publishes
that batch once it is full, or once the journal has nothing else to do: so batches grow with the load, and an order alone
waits for none, unless it is told to gather for a while. It gives the card its credit back only up to the last published batch: what lies in the open one is still
in the card's ring, should this process be killed.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.frame import FRAME_BYTES
from host.card.ring import payload_credit, publish
from host.clock import monotonic_ns, pause, thread_cpu_ns
from host.gateway.batch_ring import JOURNAL
from host.gateway.risk_pass import risk_pass
from host.journal.batch import BatchKind, gather
from host.ring.generation import count_available, count_intact
from host.ring.records import has_room, publish_record, read_cursor

SLICE = 1024
"""Most frames decided about at a time: their lines stay in the first-level cache from the check to the copy."""

LOOKS = 8
"""Looks at an empty ring between two at the clock: together a fraction of STALL_NS."""

_ORDERS, _CONTROL = int(BatchKind.ORDERS), int(BatchKind.CONTROL)

IDLE, LAPPED, ASKED, UNTIL = range(4)
"""Why the loop came back: nothing came for long enough, the card has overrun the host, the time it was given is over, or there are
frames behind those that it may look at."""

PLACE_DTYPE = np.dtype(
    [
        # The next frame to look at, the first one whose credit the card has not back, and the credit of payload.
        ("position", "i8"),
        ("released", "i8"),
        # The first frame that it may not look at yet.
        ("until", "i8"),
        ("payload_read", "i8"),
        ("payload_end", "i8"),
        # Of the frames from position on: decided about, and those of them that are in a batch.
        ("decided", "i8"),
        ("taken", "i8"),
        # The open batch: its record's number, orders and bytes in it.
        ("batch", "i8"),
        ("count", "i8"),
        ("filled", "i8"),
        # When its first order came into it, and how long orders are gathered at least (CLOCK_MONOTONIC, ns).
        ("opened", "i8"),
        ("gather_ns", "i8"),
        # Counted for whoever watches: passes, frames, those that waited for a slot, the loop's own processor time (ns).
        ("passes", "i8"),
        ("frames", "i8"),
        ("waits", "i8"),
        ("cpu_ns", "i8"),
    ]
)
"""Where the loop is."""

NO_END = 1 << 62
"""The end of what it may look at, where there is none."""

SUB_BUCKET_BITS = 5
BUCKETS = (64 - SUB_BUCKET_BITS) << SUB_BUCKET_BITS
"""Buckets of a latency histogram: 32 for each power of two (HdrHistogram's scheme), so a value is known to 3 %."""


@njit(cache=True, nogil=True, _nrt=False)
def bucket_of(value):
    """The bucket of a latency in ns; what is negative counts as 0."""
    value = max(value, 0)
    shift = 0
    while value >> shift >= 2 << SUB_BUCKET_BITS:
        shift += 1
    return (shift << SUB_BUCKET_BITS) + (value >> shift)


def bucket_bounds() -> tuple[np.ndarray, np.ndarray]:
    """The least value (ns) of every bucket, and the least beyond it."""
    buckets = np.arange(BUCKETS, dtype=np.int64)
    half = 1 << SUB_BUCKET_BITS
    shift = np.maximum((buckets >> SUB_BUCKET_BITS) - 1, 0)
    low = np.where(buckets < 2 * half, buckets, ((buckets & (half - 1)) + half) << shift)
    return low, low + (np.int64(1) << shift)


class Watch(NamedTuple):
    """What a measurement wants of the loop; arrays of no length are left alone.

    ``latency``: counts in BUCKETS, of how long after its timestamp (CLOCK_MONOTONIC, ns) each frame was routed. ``samples``:
    those timestamps and the moments at which they were routed, a row of two a frame. ``stalls``: rows of when two looks at
    the clock were STALL_NS or more apart, beyond WORK_NS for each frame between them, and by how much: then somebody else had
    the processor. ``counts``: how many samples and stalls there were.
    """

    latency: np.ndarray
    samples: np.ndarray
    stalls: np.ndarray
    counts: np.ndarray


STALL_NS = 1_000
"""A look at the ring and the clock takes a tenth of it."""


WORK_NS = 500
"""What a frame takes at most, its lines of memory included, if nobody else has the processor."""


def make_watch(*, latency: bool = False, samples: int = 0, stalls: int = 0) -> Watch:
    """Room for what is wanted; by default for nothing."""
    return Watch(
        np.zeros(BUCKETS if latency else 0, np.int64),
        np.zeros((samples, 2), np.int64),
        np.zeros((stalls, 2), np.int64),
        np.zeros(2, np.int64),
    )


@njit(cache=True, nogil=True, _nrt=False)
def note_stall(watch, begin, end):
    """Notes that nothing was done from one moment to another, if that is a stall."""
    if end - begin >= STALL_NS:
        count = watch.counts[1]
        if count < watch.stalls.shape[0]:
            watch.stalls[count, 0] = begin
            watch.stalls[count, 1] = end - begin
        watch.counts[1] = count + 1


@njit(cache=True, nogil=True, _nrt=False)
def _note_routed(watch, frames, begin, end, now):
    """Notes that some frames were routed just now."""
    for index in range(begin, end):
        due = np.int64(frames[index].timestamp)
        if watch.latency.shape[0] > 0:
            watch.latency[bucket_of(now - due)] += 1
        count = watch.counts[0]
        if count < watch.samples.shape[0]:
            watch.samples[count, 0] = due
            watch.samples[count, 1] = now
        watch.counts[0] = count + 1


class CardArrays(NamedTuple):
    """The card's ring as compiled code takes it."""

    frames: np.ndarray
    frame_bytes: np.ndarray
    payload: np.ndarray
    words: np.ndarray


@njit(cache=True, nogil=True, _nrt=False)
def _publish_batch(card, batches, place, at, now, kind):
    """Closes the open batch at frame ``at`` and gives the card its credit back."""
    slots = batches.records.shape[0]
    record = batches.records[place.batch % slots]
    record.frames_end = np.uint64(at)
    record.published = now
    record.count = np.uint32(place.count)
    record.payload_bytes = np.uint32(place.filled)
    record.kind = kind
    publish_record(batches.slot_bytes, slots, place.batch)
    place.batch += 1
    place.count = 0
    place.filled = 0
    _give_back(card, place, at)


@njit(cache=True, nogil=True, _nrt=False)
def _is_due(batches, place, now):
    """Whether the open batch is to be published although it is not full: the journal has nothing else to do, and it was gathered
    for long enough."""
    return read_cursor(batches.words, JOURNAL) >= place.batch and now - place.opened >= place.gather_ns


@njit(cache=True, nogil=True, _nrt=False)
def _give_back(card, place, at):
    """Publishes the card's credit for all frames before ``at``."""
    slots = card.frames.shape[0]
    while place.released < at:
        slot = place.released % slots
        count = min(at - place.released, slots - slot)
        end = place.released + count
        following = end % slots if count_available(card.frame_bytes, FRAME_BYTES, end, slots, 1) > 0 else -1
        read, message_end = payload_credit(
            card.frames, slot, count, following, place.payload_read, place.payload_end, card.payload.shape[0]
        )
        place.payload_read, place.payload_end = np.int64(read), np.int64(message_end)
        place.released = end
    if at > 0:
        publish(card.words, place.released - 1, place.payload_read)


@njit(cache=True, nogil=True, _nrt=False)
def route_loop(card, risk, batches, places, decisions, watch, idle_ns, most_ns):
    """Sees through what comes; returns why it came back.

    ``places`` (PLACE_DTYPE) holds where it is between two calls, ``decisions`` has SLICE rows, ``watch`` is
    what a measurement wants (:class:`Watch`). It returns IDLE after ``idle_ns`` without frames or
    without room for a batch, ASKED after ``most_ns``, at once where they are 0 and there is nothing to do; UNTIL before a frame that
    it may not look at.
    """
    place = places[0]
    slots, batch_slots = card.frames.shape[0], batches.records.shape[0]
    began = monotonic_ns()
    cpu = thread_cpu_ns()
    idle_since = began
    answer = IDLE
    count = 0
    # When it last looked at the clock.
    looked = 0
    watched = watch.latency.shape[0] > 0 or watch.samples.shape[0] > 0
    while True:
        if place.taken == place.decided:
            place.taken = 0
            place.decided = 0
            available = count_available(card.frame_bytes, FRAME_BYTES, place.position, slots, SLICE)
            count = min(available, place.until - place.position)
            if count == 0 and available > 0:
                answer = UNTIL
                break
            if count == 0:
                now = monotonic_ns()
                if place.count > 0:
                    if _is_due(batches, place, now):
                        _publish_batch(card, batches, place, place.position, now, _ORDERS)
                elif place.released < place.position:
                    _give_back(card, place, place.position)
                if watched:
                    if looked != 0:
                        note_stall(watch, looked, now)
                    looked = now
                if now - idle_since >= idle_ns:
                    break
                if now - began >= most_ns:
                    answer = ASKED
                    break
                # A look at the clock takes as long as some at the ring.
                for _ in range(LOOKS):
                    pause()
                    if place.count > 0 or count_available(card.frame_bytes, FRAME_BYTES, place.position, slots, 1) > 0:
                        break
                continue
        # The open batch's slot may still be the nodes' of one lap ago.
        if not has_room(batches.words, batch_slots, place.batch):
            place.waits += 1
            now = monotonic_ns()
            if now - idle_since >= idle_ns:
                break
            if now - began >= most_ns:
                answer = ASKED
                break
            pause()
            continue
        slot = place.position % slots
        if place.decided == 0:
            risk_pass(card.frames[slot : slot + count], place.position, card.payload, risk, decisions)
            place.decided = count
            place.passes += 1
        decided = place.decided
        row = place.batch % batch_slots
        was_empty = place.count == 0
        taken, held, filled = gather(
            card.frames[slot : slot + decided],
            card.payload,
            decisions,
            risk.notes[: risk.tables[0].notes],
            place.taken,
            (place.count, place.filled),
            batches.frames[row],
            batches.decisions[row],
            batches.payload[row],
        )
        place.taken, place.count, place.filled = taken, held, filled
        if count_intact(card.frame_bytes, FRAME_BYTES, place.position, slots, decided) < decided:
            answer = LAPPED
            break
        now = idle_since = monotonic_ns()
        if was_empty:
            place.opened = now
        if watched:
            _note_routed(watch, card.frames, slot, slot + decided, now)
            if looked != 0:
                note_stall(watch, looked + WORK_NS * decided, now)
            looked = now
        if taken < decided:
            _publish_batch(card, batches, place, place.position + taken, now, _ORDERS)
            continue
        place.position += decided
        place.frames += decided
        place.taken = place.decided = 0
        if place.count == 0:
            # Nothing but market data and the like: nothing waits for it.
            _give_back(card, place, place.position)
        elif _is_due(batches, place, now):
            _publish_batch(card, batches, place, place.position, now, _ORDERS)
        if now - began >= most_ns:
            answer = ASKED
            break
    place.cpu_ns += thread_cpu_ns() - cpu
    return answer


@njit(cache=True, nogil=True, _nrt=False)
def publish_control(card, batches, places, text):
    """Publishes a control record (``text``, uint8) as a batch of its own, behind what was decided about so far, all of which must be in
    a batch; there must be room for one more."""
    place = places[0]
    slots = batches.records.shape[0]
    if place.count > 0:
        _publish_batch(card, batches, place, place.position, monotonic_ns(), _ORDERS)
    payload = batches.payload[place.batch % slots]
    for index in range(text.shape[0]):
        payload[index] = text[index]
    place.filled = text.shape[0]
    _publish_batch(card, batches, place, place.position, monotonic_ns(), _CONTROL)
