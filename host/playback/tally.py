"""Counts what comes out of the card: messages and frames by type, of each parser."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.flow import Flow, Parser
from hdl.frame import Kind

MESSAGE_TYPES = 1 << 16
NO_PARSER = 0
MALFORMED = int(Kind.MALFORMED)
GAP = int(Kind.GAP)

FIX_NAMES = {
    "0": "Heartbeat", "1": "TestRequest", "2": "ResendRequest", "3": "Reject", "4": "SequenceReset", "5": "Logout",
    "6": "IOI", "8": "ExecutionReport", "9": "OrderCancelReject", "A": "Logon", "B": "News", "D": "NewOrderSingle",
    "E": "NewOrderList", "F": "OrderCancelRequest", "G": "OrderCancelReplaceRequest", "H": "OrderStatusRequest",
    "R": "QuoteRequest", "S": "Quote", "V": "MarketDataRequest", "W": "MarketDataSnapshotFullRefresh",
    "X": "MarketDataIncrementalRefresh", "Y": "MarketDataRequestReject", "d": "SecurityDefinition",
    "f": "SecurityStatus", "j": "BusinessMessageReject",
}  # fmt: skip
"""Names of FIX message types that replays commonly show (FIX 4.4, volume 1)."""


class Counts(NamedTuple):
    """By parser and message type: ``messages``, ``entries``, ``frames``; by parser: ``payload_bytes``. ``last`` is the offset and
    length of the message before, which more frames may belong to."""

    messages: np.ndarray
    entries: np.ndarray
    frames: np.ndarray
    payload_bytes: np.ndarray
    last: np.ndarray


@njit(cache=True)
def count_frames(frames, parsers, counts):
    """Add a slice of the ring to ``counts``; ``parsers`` gives each flow's parser."""
    offset, length = counts.last[0], counts.last[1]
    for index in range(frames.size):
        frame = frames[index]
        parser = parsers[frame.flow]
        message = frame.kind != MALFORMED and frame.kind != GAP
        # The frames of one message point at the same bytes. Messages without bytes stand for themselves.
        if frame.payload_offset != offset or frame.payload_length != length or length == 0:
            offset, length = np.int64(frame.payload_offset), np.int64(frame.payload_length)
            counts.payload_bytes[parser] += length
            if message:
                counts.messages[parser, frame.message_type] += 1
        if message:
            counts.frames[parser, frame.message_type] += 1
            counts.entries[parser, frame.message_type] += frame.entry_offset != 0
    counts.last[0], counts.last[1] = offset, length


@dataclass(frozen=True)
class TypeCount:
    """How often a message type came: FIX MsgType or SBE template id, its messages, their group
    entries, and their frames (one an entry, one for a message without any)."""

    parser: Parser
    message_type: str
    name: str
    messages: int
    entries: int
    frames: int


class Tally:
    """Counts of a replay. ``names`` gives the templates' names."""

    def __init__(self, flows: list[Flow], names: dict[int, str]) -> None:
        self._names = names
        self._parsers = np.zeros(1 << 16, np.uint8)
        for number, flow in enumerate(flows):
            self._parsers[number] = flow.parser
        shape = (max(Parser) + 1, MESSAGE_TYPES)
        self._counts = Counts(
            messages=np.zeros(shape, np.int64),
            entries=np.zeros(shape, np.int64),
            frames=np.zeros(shape, np.int64),
            payload_bytes=np.zeros(shape[0], np.int64),
            last=np.full(2, -1, np.int64),
        )

    def add(self, frames: np.ndarray) -> None:
        """Count a slice of the ring, in the order of the ring."""
        count_frames(frames, self._parsers, self._counts)

    @property
    def messages(self) -> int:
        """Well-formed messages."""
        return int(self._counts.messages.sum())

    def payload_bytes(self, parser: Parser) -> int:
        """Bytes of raw messages, malformed ones too."""
        return int(self._counts.payload_bytes[parser])

    def by_type(self) -> list[TypeCount]:
        """The message types that came, by parser, the most frequent first."""
        rows = []
        for parser in Parser:
            for number in np.flatnonzero(self._counts.messages[parser]).tolist():
                text = number.to_bytes(2, "little").rstrip(b"\0").decode("latin-1")
                fix = parser is Parser.FIX
                rows.append(
                    TypeCount(
                        parser=parser,
                        message_type=text if fix else str(number),
                        name=FIX_NAMES.get(text, "") if fix else self._names.get(number, "unknown template"),
                        messages=int(self._counts.messages[parser, number]),
                        entries=int(self._counts.entries[parser, number]),
                        frames=int(self._counts.frames[parser, number]),
                    )
                )
        return sorted(rows, key=lambda row: (row.parser, -row.messages, row.message_type))
