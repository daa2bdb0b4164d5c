"""Journaled orders as Arrow tables, in words: what ``tickgate journal show`` prints and ``export`` writes."""

import enum
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS, Flag, Kind, OrderType, Side, TimeInForce
from host.journal.batch import ACCEPTED, NOTED, Batch

NO_NODE = 255
SOH = 1
NOT_ASCII = 0x80
INSTEAD = ord("?")

Numbers = Callable[[Batch, int], tuple[str | None, str | None]]
"""The value and the limit of a refused order of a batch, as one writes them; None where its rule compares nothing."""

TEXTS = {
    "symbol": "symbol",
    "client_order_id": "client_order_id",
    "original_order_id": "original_order_id",
    "account": "account",
}
"""Columns that are texts of the raw message, and the frame's field that points to each."""


def words(values: type[enum.IntEnum] | Mapping[Any, str]) -> pa.Array:
    """256 words for the values of a byte: those of an enum in small letters, or as given; others as their numbers."""
    known: dict[int, str] = {}
    if isinstance(values, Mapping):
        known = {int(value): text for value, text in values.items()}
    else:
        known = {int(value): value.name.lower().replace("_", " ") for value in values}
    return pa.array([known.get(value, str(value)) for value in range(256)])


_KINDS, _SIDES, _TYPES, _TIMES = (words(each) for each in (Kind, Side, OrderType, TimeInForce))


def order_table(
    batch: Batch, verdicts: pa.Array, numbers: Numbers, places: np.ndarray | None = None, *, raw: bool = False
) -> pa.Table:
    """The orders of a batch, or those at ``places``, a row each.

    ``verdicts`` are :func:`words` of verdicts, ``numbers`` says what broke a rule; ``raw`` adds the raw message. Prices and quantities are exact decimals,
    absent ones null. Bytes of a text beyond ASCII are shown as ``?``; the raw message has them as they came.
    """
    frames, decisions = batch.frames, batch.decisions
    sequence = batch.first_sequence + np.arange(len(batch), dtype=np.uint64)
    if places is not None:
        frames, decisions, sequence = frames[places], decisions[places], sequence[places]
    count = len(frames)
    present = {flag: frames["flags"] & int(flag) == 0 for flag in (Flag.PRICE_ABSENT, Flag.QUANTITY_ABSENT)}
    columns: dict[str, Any] = {
        "sequence": sequence,
        "time": pa.array(frames["timestamp"].astype(np.int64), pa.timestamp("ns", "UTC")),
        "kind": _KINDS.take(pa.array(frames["kind"])),
        "flow": np.ascontiguousarray(frames["flow"]),
        "message_sequence": np.ascontiguousarray(frames["sequence"]),
        "side": _SIDES.take(pa.array(frames["side"])),
        "order_type": _TYPES.take(pa.array(frames["order_type"])),
        "time_in_force": _TIMES.take(pa.array(frames["time_in_force"])),
        "quantity": _decimals(frames["quantity"], QUANTITY_DECIMALS, present[Flag.QUANTITY_ABSENT]),
        "price": _decimals(frames["price"], PRICE_DECIMALS, present[Flag.PRICE_ABSENT]),
    }
    for column, field in TEXTS.items():
        columns[column] = _texts(frames, batch.payload, np.ascontiguousarray(frames[field]))
    columns["verdict"] = verdicts.take(pa.array(decisions["verdict"]))
    columns["value"], columns["limit"] = _refusals(batch, numbers, places)
    columns["node"] = pa.array(decisions["node"], mask=decisions["node"] == NO_NODE)
    columns["valued_price"] = _decimals(decisions["price"], PRICE_DECIMALS, np.ones(count, bool))
    columns["batch"] = np.full(count, batch.number, np.uint64)
    columns["epoch"] = np.full(count, batch.epoch, np.uint32)
    if raw:
        begins, lengths = frames["payload_offset"].tolist(), frames["payload_length"].tolist()
        messages = [
            batch.payload[begin : begin + length].tobytes() for begin, length in zip(begins, lengths, strict=True)
        ]
        columns["message"] = pa.array(messages, pa.binary())
    return pa.table(columns)


def _refusals(batch: Batch, numbers: Numbers, places: np.ndarray | None) -> tuple[pa.Array, pa.Array]:
    """Values and limits of those orders that were refused for what they are noted to have exceeded."""
    decisions = batch.decisions if places is None else batch.decisions[places]
    found: list[tuple[str | None, str | None]] = [(None, None)] * len(decisions)
    for row in np.flatnonzero((decisions["verdict"] != ACCEPTED) & (decisions["flags"] & NOTED != 0)).tolist():
        found[row] = numbers(batch, row if places is None else int(places[row]))
    values, limits = zip(*found, strict=True) if found else ((), ())
    return pa.array(values, pa.string()), pa.array(limits, pa.string())


def _decimals(values: np.ndarray, scale: int, present: np.ndarray) -> pa.Array:
    """Fixed-point numbers of 64 bits as decimals."""
    wide = np.zeros((len(values), 2), np.int64)
    wide[:, 0] = values.view(np.int64) if values.flags.c_contiguous else np.ascontiguousarray(values).view(np.int64)
    if values.dtype.kind == "i":
        wide[:, 1] = wide[:, 0] >> 63
    digits = 19 if values.dtype.kind == "i" else 20
    return pa.Array.from_buffers(pa.decimal128(digits, scale), len(values), [_bits(present), pa.py_buffer(wide)])


def _texts(frames: np.ndarray, payload: np.ndarray, offsets: np.ndarray) -> pa.Array:
    """The texts that ``offsets`` into the raw messages point to, null where that is 0."""
    frames = np.ascontiguousarray(frames)
    ends = np.zeros(len(frames) + 1, np.int32)
    measure_texts(frames, payload, offsets, ends)
    text = np.zeros(int(ends[-1]), np.uint8)
    copy_texts(frames, payload, offsets, ends, text)
    buffers = [_bits(offsets != 0), pa.py_buffer(ends), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.string(), len(frames), buffers)


def _bits(present: np.ndarray) -> pa.Buffer:
    return pa.py_buffer(np.packbits(present, bitorder="little"))


@njit(cache=True, nogil=True, _nrt=False)
def measure_texts(frames, payload, offsets, ends):
    """Writes where each text ends when they stand one behind the other."""
    total = 0
    for row in range(frames.shape[0]):
        if offsets[row]:
            begin = np.int64(frames[row].payload_offset)
            place = begin + np.int64(offsets[row])
            end = min(begin + np.int64(frames[row].payload_length), payload.shape[0])
            while place < end and payload[place] != SOH:
                place += 1
                total += 1
        ends[row + 1] = total


@njit(cache=True, nogil=True, _nrt=False)
def copy_texts(frames, payload, offsets, ends, out):
    """Writes the texts one behind the other."""
    for row in range(frames.shape[0]):
        begin = np.int64(frames[row].payload_offset) + np.int64(offsets[row])
        for place in range(ends[row], ends[row + 1]):
            byte = payload[begin + place - ends[row]]
            out[place] = byte if byte < NOT_ASCII else INSTEAD
