"""Orders for journals: frames as they stand in the ring, and what was decided about them."""

from pathlib import Path

import numpy as np

from hdl.frame import FRAME_DTYPE, Kind
from host.journal import Batch, BatchBuffer, Journal
from host.journal.batch import ACCEPTED, DECISION_DTYPE

SEGMENT = 64 << 10


def slice_of(*messages: bytes, kind: Kind = Kind.NEW_ORDER) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a ring slice and the payload ring that holds their messages."""
    frames = np.zeros(len(messages), FRAME_DTYPE)
    payload = np.zeros(sum(-(-len(m) // 64) * 64 for m in messages) + 64, np.uint8)
    offset = 64
    for frame, message in zip(frames, messages, strict=True):
        frame["kind"], frame["generation"] = kind, 1
        frame["payload_offset"], frame["payload_length"] = offset, len(message)
        payload[offset : offset + len(message)] = np.frombuffer(message, np.uint8)
        offset += -(-len(message) // 64) * 64
    return frames, payload


def decisions_of(count: int) -> np.ndarray:
    """Accepted, each for a node of its own, at a price of its own."""
    decisions = np.zeros(count, DECISION_DTYPE)
    decisions["verdict"], decisions["node"], decisions["price"] = ACCEPTED, np.arange(count), np.arange(count) - 1
    return decisions


def filled(*messages: bytes) -> BatchBuffer:
    """A buffer with one accepted order for each message."""
    frames, payload = slice_of(*messages)
    buffer = BatchBuffer(max(64, len(messages)))
    count = len(messages)
    assert buffer.take(frames, payload, decisions_of(count)) == count
    return buffer


def messages_of(batch: Batch) -> list[bytes]:
    """The raw messages of a batch's orders."""
    return [bytes(batch.payload[f["payload_offset"] :][: f["payload_length"]]) for f in batch.frames]


def write(directory: Path, *batches: tuple[bytes, ...], segment_bytes: int = SEGMENT) -> None:
    """Batches, each committed before the next is written."""
    with Journal(directory, segment_bytes=segment_bytes) as journal:
        for messages in batches:
            journal.append(filled(*messages))
            journal.commit()


def random_orders(seed: int, count: int, first: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orders with times, flows, client order ids (some of them twice, some absent) and symbols: frames, payload and
    decisions. They are in the order of their times, but for some."""
    random = np.random.default_rng(seed)
    messages = []
    for number in range(first, first + count):
        name = number if random.random() < 0.9 else random.integers(0, number + 1)
        text = f"8=FIX.4.4\x0111=id-{name}\x0155=SYM{number % 7}\x011=acc\x01"
        messages.append(text.encode())
    frames, payload = slice_of(*messages)
    for frame, message in zip(frames, messages, strict=True):
        frame["client_order_id"] = message.index(b"\x0111=") + 4
        frame["symbol"] = message.index(b"\x0155=") + 4
        frame["account"] = message.index(b"\x011=") + 3
    frames["timestamp"] = 10**18 + (np.arange(count) + first + random.integers(-3, 4, count)) * 1000
    frames["flow"] = random.integers(0, 5, count)
    frames["side"] = ord("1")
    frames["client_order_id"][random.random(count) < 0.05] = 0
    frames["kind"] = random.integers(1, 4, count)
    frames["price"], frames["quantity"] = random.integers(-5, 100, count) * 10**9, random.integers(1, 9, count) * 10**8
    decisions = decisions_of(count)
    decisions["verdict"] = random.integers(1, 5, count)
    return frames, payload, decisions


def write_random(directory: Path, orders: int, *, batch: int = 37, segment_bytes: int = SEGMENT, seed: int = 1) -> None:
    """A journal of random orders, with control records between some batches."""
    with Journal(directory, segment_bytes=segment_bytes) as journal:
        buffer = BatchBuffer(batch)
        for first in range(journal.recovered, journal.recovered + orders, batch):
            frames, payload, decisions = random_orders(seed + first, batch, first)
            buffer.clear()
            buffer.take(frames, payload, decisions)
            journal.append(buffer)
            if first % 5 == 0:
                journal.append_control({"type": "weights", "first": first})
            if first % 3 == 0:
                journal.commit()
        journal.commit()
