"""What leaves the gateway for a session: its reports in a ring of its own, and what risk refused of it.

A record is a report with the batch that it comes of and its number among that batch's reports. Nodes are deterministic, so
the same batch gives the same numbers again: a node's process that takes another's place passes over what a session has
got already. The same records, all in one ring, go back to risk.

A ring has one writer. Where several modules share the nodes, each has a set of rings of its own, all sets in one file, the first
module's first. What a session got of one instrument is in the order of the batches, from whichever set: before a module
takes over an instrument, what the former one had to say of it stands in its ring.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.frame import Kind
from hdl.limits import FLOWS
from host.cluster.node import NO_NODE
from host.cluster.order_key import prefetch_row, text_key
from host.cluster.report import REPORT_DTYPE, ReportKind
from host.journal.batch import ACCEPTED, NOTED, read_note
from host.memory import trailing_zeros
from host.ring.records import OWN_WORD, RecordRings, has_room, publish_slot

SESSION_SLOTS = 4096
"""Reports that may wait for a session by default."""

SESSION_DTYPE = np.dtype(
    [
        ("report", REPORT_DTYPE),
        ("batch", "<u8"),
        ("limit_high", "<i8"),
        ("value_high", "<i8"),
        ("ordinal", "<u4"),
        ("verdict", "u1"),
        ("reserved", "u1", (2,)),
        ("generation", "u1"),
    ]
)
"""A report as a session gets it, two cache lines. ``verdict`` (host.gateway.verdict) is ACCEPTED for what a node says,
else why risk refused the order: then ``node`` is 255, and ``kind`` REJECTED or CANCEL_REJECTED. Nothing is open of such an order
and nothing filled: in their place ``leaves`` and ``cumulative`` have the low words of the rule's limit and of the order's value,
``limit_high`` and ``value_high`` the high ones (:func:`host.gateway.reject.told_reject`)."""
SESSION_BYTES = SESSION_DTYPE.itemsize
assert SESSION_BYTES == 128

_FETCHED_AHEAD = 4
"""So many records before it is written a slot's lines, which its reader has, are asked for."""

REFUSAL_DTYPE = np.dtype([("limit_high", "<i8"), ("value_high", "<i8"), ("verdict", "<i8")])
"""What a session's record has of a refused order beside its report."""

NO_REFUSALS = np.zeros(0, REFUSAL_DTYPE)

DETACHED, MISSED = OWN_WORD, OWN_WORD + 1
"""Words of the header page: whether a session read too slowly and gets no more, and how many reports it has missed."""

_CANCEL_KIND, _REPLACE_KIND = int(Kind.CANCEL), int(Kind.REPLACE)
_REJECTED, _CANCEL_REJECTED = int(ReportKind.REJECTED), int(ReportKind.CANCEL_REJECTED)
_U = np.uint64


def create_session_rings(
    path: Path | None, *, rings: int = FLOWS, slots: int = SESSION_SLOTS, huge_pages: bool = False
) -> RecordRings:
    """A ring for each session: flow n has ring n."""
    return RecordRings.create(path, SESSION_DTYPE, slots, rings=rings, huge_pages=huge_pages)


def open_session_rings(path: Path) -> RecordRings:
    """Rings that another process made. Raises RecordRingError or OSError."""
    return RecordRings.open(path, SESSION_DTYPE)


class Outlet(NamedTuple):
    """The writer's end of some rings as compiled code takes it: a row of everything a ring.

    ``written`` counts records written; what is not after ``seen_batch``, ``seen_ordinal`` was written by a predecessor.
    ``wanted`` says of each report's kind whether its readers want it."""

    words: np.ndarray
    records: np.ndarray
    slot_bytes: np.ndarray
    written: np.ndarray
    seen_batch: np.ndarray
    seen_ordinal: np.ndarray
    wanted: np.ndarray


def outlet_of(rings: RecordRings, part: int = 0, parts: int = 1, unwanted: Iterable[ReportKind] = ()) -> Outlet:
    """The writer's end of one of ``parts`` equal sets of rings, at the place where a predecessor stopped."""
    count = len(rings) // parts
    mine = slice(part * count, (part + 1) * count)
    records = rings.records[mine]
    written = np.array([rings[ring].written() for ring in range(mine.start, mine.stop)], np.int64)
    seen_batch, seen_ordinal = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    for ring, number in enumerate(written.tolist()):
        if number:
            last = records[ring, (number - 1) % records.shape[1]]
            seen_batch[ring], seen_ordinal[ring] = int(last["batch"]), int(last["ordinal"])
    wanted = np.ones(256, bool)
    wanted[list(unwanted)] = False
    return Outlet(rings.words[mine], records, rings.slot_bytes[mine], written, seen_batch, seen_ordinal, wanted)


def take_reports(rings: RecordRings, last_batch: int) -> np.ndarray:
    """Takes what is there of batches up to ``last_batch`` out of rings with a writer each, as a copy in the order of the
    batches. All that rings hold of earlier ones must be there."""
    parts = [np.zeros(0, SESSION_DTYPE)]
    for number in range(len(rings)):
        ring = rings[number]
        while count := int(np.searchsorted((records := ring.poll())["batch"], last_batch, side="right")):
            parts.append(records[:count].copy())
            ring.release(count)
    taken = np.concatenate(parts)
    return taken[np.argsort(taken["batch"], kind="stable")]


@njit(cache=True, nogil=True, _nrt=False)
def refuse_orders(frames, decisions, payload, first_sequence, reports, refusals):
    """Writes a report for each order of a batch that risk refused, and what else its record has; returns how many."""
    count = 0
    for index in range(frames.shape[0]):
        verdict = decisions[index].verdict
        if verdict == ACCEPTED:
            continue
        frame = frames[index]
        report = reports[count]
        limit_low = limit_high = value_low = value_high = _U(0)
        if decisions[index].flags & NOTED:
            limit_low, limit_high, value_low, value_high = read_note(frame, payload)
        refusal = refusals[count]
        refusal.verdict = verdict
        refusal.limit_high = np.int64(limit_high)
        refusal.value_high = np.int64(value_high)
        count += 1
        refuses_change = frame.kind == _CANCEL_KIND or frame.kind == _REPLACE_KIND
        report.kind = _CANCEL_REJECTED if refuses_change else _REJECTED
        report.reason = 0
        report.side = frame.side
        report.node = NO_NODE
        report.flow = frame.flow
        report.reserved = 0
        report.instrument = frame.instrument
        begin = np.int64(frame.payload_offset)
        end = begin + np.int64(frame.payload_length)
        text = begin + np.int64(frame.client_order_id)
        low = high = _U(0)
        if frame.client_order_id != 0 and text < end and end <= payload.shape[0]:
            low, high = text_key(payload, text, end, _U(frame.flow))
        report.key_low = low
        report.key_high = high
        report.order_sequence = _U(first_sequence) + _U(index)
        report.sequence = report.order_sequence
        report.timestamp = frame.timestamp
        report.execution = 0
        report.price = frame.price
        report.quantity = frame.quantity
        report.leaves = limit_low
        report.cumulative = value_low
    return count


@njit(cache=True, nogil=True, _nrt=False)
def put_reports(outlet, reports, refusals, batch, first_ordinal, begin):
    """Writes those reports from index ``begin`` on that are wanted to the ring of each one's flow, or to the only ring there is.

    ``refusals`` is one for each report, or empty: a node's. Returns (next index, ring that has no room or -1).
    """
    rings, slots = outlet.records.shape
    # A ring has a power of two of slots: what divides by that costs less than a division, of which each record wants some.
    mask, lap_bits = slots - 1, np.int64(trailing_zeros(_U(slots)))
    for index in range(begin, reports.shape[0]):
        ring = np.int64(reports[index].flow) if rings > 1 else 0
        if ring >= rings or not outlet.wanted[reports[index].kind]:
            continue
        ordinal = first_ordinal + index
        seen = outlet.seen_batch[ring]
        if batch < seen or (batch == seen and ordinal <= outlet.seen_ordinal[ring]):
            continue
        words = outlet.words[ring]
        if words[DETACHED] != 0:
            words[MISSED] += _U(1)
            continue
        number = outlet.written[ring]
        if not has_room(words, slots, number):
            return index, ring
        slot = number & mask
        ahead = ((number + _FETCHED_AHEAD) & mask) * SESSION_BYTES
        prefetch_row(outlet.slot_bytes[ring], ahead)
        prefetch_row(outlet.slot_bytes[ring], ahead + SESSION_BYTES // 2)
        record = outlet.records[ring, slot]
        source, report = reports[index], record.report
        report.kind = source.kind
        report.reason = source.reason
        report.side = source.side
        report.node = source.node
        report.flow = source.flow
        report.reserved = source.reserved
        report.instrument = source.instrument
        report.key_low = source.key_low
        report.key_high = source.key_high
        report.order_sequence = source.order_sequence
        report.sequence = source.sequence
        report.timestamp = source.timestamp
        report.execution = source.execution
        report.price = source.price
        report.quantity = source.quantity
        report.leaves = source.leaves
        report.cumulative = source.cumulative
        record.batch = _U(batch)
        record.ordinal = np.uint32(ordinal)
        if refusals.shape[0] > 0:
            refusal = refusals[index]
            record.verdict = np.uint8(refusal.verdict)
            record.limit_high, record.value_high = refusal.limit_high, refusal.value_high
        else:
            record.verdict = ACCEPTED
            record.limit_high = record.value_high = 0
        publish_slot(outlet.slot_bytes[ring], SESSION_BYTES, slot, number >> lap_bits)
        outlet.written[ring] = number + 1
    return reports.shape[0], -1
