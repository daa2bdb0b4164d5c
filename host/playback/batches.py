"""Captures as batches: packets, their frames as the card has them, and tables of every field.

from host import replay

for batch in replay("day.pcap.zst", schema="venue.xml"):
    batch.frames["price"]                         # NumPy, a view of the card's ring
    batch.table("MDIncrementalRefreshBook46")     # Arrow
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from hdl.flow import Flow
from hdl.frame import FRAME_DTYPE
from hdl.sbe_venue import Venue, load_venue
from host.capture.packets import Packets, sliced
from host.capture.reader import AnyPath, Captures, open_captures
from host.card import Card, open_card
from host.playback.replay import flows_of
from host.playback.selection import EVERYTHING, Chooser, Selection, SelectionError, channel_name, parse_time
from host.sbe.arrow import ArrowTables, Decimals
from host.sbe.full_decode import Decoded, FullDecoder

BATCH_PACKETS = 1 << 13
"""Packets of a batch at most: few enough for caches."""

TABLE_PACKETS = 1 << 15
"""The same where tables are made, which takes its time by table and column, too."""

FRAME_SLOTS = 1 << 18
PAYLOAD_BYTES = 1 << 25
"""The ring: a batch's frames are in it at once, and seldom across its end."""


class Batch:
    """Some packets and what the card made of them. Frames and payload are the card's memory: they count until the next
    batch is asked for; copy what is to stay. Packets and tables stay.

    Attributes:
        packets: the :class:`~host.capture.packets.Packets`, all of them, whatever was selected.
        frames: of FRAME_DTYPE; a view of the ring, a copy where they lie across its end or some were left out.
        payload: the ring's raw bytes, which ``payload_offset`` points into.
        flows: the flow table, by whose rows frames name their flow.
    """

    def __init__(
        self,
        packets: Packets,
        frames: np.ndarray,
        payload: np.ndarray,
        flows: Sequence[Flow],
        decode: Callable[[Packets], Decoded],
        tables: ArrowTables,
    ) -> None:
        self.packets = packets
        self.frames = frames
        self.payload = payload
        self.flows = tuple(flows)
        self._decode = decode
        self._tables = tables

    @functools.cached_property
    def decoded(self) -> Decoded:
        """Every field of the messages, as NumPy has them (host/sbe/full_decode.py). Raises SelectionError without a schema."""
        return self._decode(self.packets)

    @property
    def table_names(self) -> list[str]:
        """The tables that have rows: ``Template`` and ``Template.Group``."""
        return [name for name, table in self.decoded.tables.items() if len(table)]

    def table(self, name: str) -> pa.Table:
        """All messages of a template (or entries of a group, ``Template.Group``) as an Arrow table with every field. ``@parent``
        is a row of this batch's table above. Raises SelectionError where the schema has none of that name."""
        if name not in self.decoded.tables:
            raise SelectionError(f"there is no table {name}; of this batch there are {', '.join(self.table_names)}")
        return self._tables.table(self.decoded, name)

    def message(self, frame: np.void) -> bytes:
        """The raw message of a frame."""
        start = int(frame["payload_offset"])
        return self.payload[start : start + int(frame["payload_length"])].tobytes()


class Playback:
    """Captures, a card and what is wanted of them; :meth:`batches` plays them once.

    Attributes:
        flows: the card's flow table, of the channels that are wanted.
        left_out: flows that found no row in it.
        chooser: what is kept behind the card.
    """

    def __init__(
        self,
        captures: Captures,
        venue: Venue | None,
        card: str = "soft:",
        selection: Selection = EVERYTHING,
        decimals: Decimals = Decimals.DECIMAL128,
        flows: Sequence[Flow] | None = None,
    ) -> None:
        self.captures = captures
        self.venue = venue
        self.url = card
        self.left_out = 0
        if flows is None:
            found, self.left_out = flows_of(captures, venue)
            flows = selection.flows(found)
        self.flows = list(flows)
        self.chooser = Chooser(selection, venue, self.flows)
        self.tables = ArrowTables(decimals, [channel_name(flow) for flow in self.flows])
        self.decimals = decimals

    def open_card(self) -> Card:
        """The card, with a ring that has room for batches."""
        return open_card(self.url, self.flows, self.venue, frame_slots=FRAME_SLOTS, payload_bytes=PAYLOAD_BYTES)

    def packets(self, most: int = BATCH_PACKETS) -> Iterator[Packets]:
        """The packets of the times that are wanted, at most so many at once."""
        return sliced(self.chooser.selection.packets(self.captures.batches()), most)

    def batches(self, packets: Iterable[Packets] | None = None, frames: bool = True) -> Iterator[Batch]:
        """The batches; of ``packets``, unless they are the captures'. Without ``frames`` no card is opened, and there are none."""
        decode = self._decoding()
        if packets is None:
            packets = self.packets()
        if not frames:
            none = np.empty(0, FRAME_DTYPE)
            for part in packets:
                yield Batch(part, none, np.empty(0, np.uint8), self.flows, decode, self.tables)
            return
        with self.open_card() as card:
            for part in packets:
                done = -1
                while done != len(part):
                    first = max(done, 0)
                    done = card.feed(part, first)
                    found, pieces = _frames(card)
                    taken = part if (first, done) == (0, len(part)) else part.slice(first, done)
                    chosen = self.chooser.frames(found)
                    yield Batch(taken, chosen, card.ring.payload, self.flows, decode, self.tables)
                    for count in pieces:
                        card.ring.release(count)

    def _decoding(self) -> Callable[[Packets], Decoded]:
        if self.venue is None:
            return _refuse
        decoder = FullDecoder(self.venue, self.flows)
        return lambda packets: self.chooser.decoded(decoder.decode(packets))


def _refuse(packets: Packets) -> Decoded:
    raise SelectionError("tables are those of a schema: give one")


def _frames(card: Card) -> tuple[np.ndarray, list[int]]:
    """All frames that are in the ring, and the pieces in which they are to be released."""
    ring = card.ring
    first = ring.poll(FRAME_SLOTS)
    second = ring.poll(FRAME_SLOTS, len(first)) if len(first) else first
    if not len(second):
        return first, [len(first)]
    return np.concatenate([first, second]), [len(first), len(second)]


def replay(
    *captures: AnyPath,
    schema: AnyPath | None = None,
    profile: str | None = None,
    card: str = "soft:",
    instruments: Iterable[int | str] = (),
    templates: Iterable[int | str] = (),
    channels: Iterable[str] = (),
    start: str | int | None = None,
    end: str | int | None = None,
    as_captured: bool = False,
    decimals: str = "decimal128",
) -> Iterator[Batch]:
    """Play captures (merged by time) through a card, batch by batch.

    Parameters:
        captures: pcap, pcapng, FIX text, compressed or not (docs/captures.md).
        schema: SBE schema of the UDP flows; without one UDP is passed over and there are no tables.
        profile: a shipped profile or a file; by default the schema's own.
        card: its URL.
        instruments: security ids or symbols. templates: names or ids. channels: ``ADDRESS:PORT``. Empty: all.
        start, end: of packets, ISO 8601 (UTC) or ns since 1970; ``end`` is not included.
        as_captured: neither put TCP segments in order nor IPv4 fragments together.
        decimals: ``decimal128``, or ``int64`` with the exponent in the column's metadata.

    Raises ValueErrors of one line each: CaptureError, SchemaError, CardError, SelectionError.
    """
    selection = Selection(
        tuple(map(str, instruments)),
        tuple(map(str, templates)),
        tuple(channels),
        None if start is None else parse_time(str(start)),
        None if end is None else parse_time(str(end)),
    )
    venue = load_venue(Path(schema), profile) if schema is not None else None
    opened = open_captures(captures, as_captured)
    return Playback(opened, venue, card, selection, Decimals(decimals)).batches()
