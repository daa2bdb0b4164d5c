"""Captures as batches: packets, their frames as the card has them, and tables of every field.

from host import replay

for batch in replay("day.pcap.zst", schema="venue.xml"):
    batch.frames["price"]                         # NumPy, a view of the card's ring
    batch.table("MDIncrementalRefreshBook46")     # Arrow
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from hdl.flow import Flow
from hdl.frame import FRAME_DTYPE
from hdl.sbe_venue import Venue, load_venue
from host.capture.packets import Packets, sliced
from host.capture.reader import AnyPath, Captures, open_captures
from host.card import Card, open_card
from host.market_data.arbitration import RACE_DTYPE, ChannelReport, FeedArbiter
from host.playback.book_table import BookRows, BookTable, BookTables, parse_grid
from host.playback.feeds import SAMPLE_PACKETS, arbitrable, channels_of, with_feeds
from host.playback.replay import flows_of
from host.playback.selection import EVERYTHING, Chooser, Selection, SelectionError, channel_name, parse_time
from host.playback.symbols import find_symbols
from host.sbe.arrow import ArrowTables, Decimals
from host.sbe.full_decode import Decoded, FullDecoder

BATCH_PACKETS = 1 << 13
"""Packets of a batch at most: few enough for caches."""

TABLE_PACKETS = 1 << 15
"""The same where tables are made, which takes its time by table and column, too."""

NO_FRAMES = np.empty(0, FRAME_DTYPE)
NO_BYTES = np.empty(0, np.uint8)
NO_RACES = np.empty(0, RACE_DTYPE)

FRAME_SLOTS = 1 << 18
PAYLOAD_BYTES = 1 << 25
"""The ring: a batch's frames are in it at once, and seldom across its end."""


class Batch:
    """Some packets and what the card made of them. Frames and payload are the card's memory: they count until the next
    batch is asked for; copy what is to stay. Packets and tables stay.

    Attributes:
        packets: the :class:`~host.capture.packets.Packets`, all of them, whatever was selected.
        frames: of FRAME_DTYPE; a view of the ring, a copy where they lie across its end or some were left out. Of channels that are
            arbitrated, one copy of each message, and GAP frames.
        payload: the ring's raw bytes, which ``payload_offset`` points into.
        races: RACE_DTYPE, of numbers that both feeds of a channel have brought (``races_table`` of host/market_data/arbitration.py).
        flows: the flow table, by whose rows frames name their flow.
    """

    def __init__(
        self,
        playback: "Playback",
        packets: Packets,
        passed: np.ndarray | None,
        frames: np.ndarray,
        payload: np.ndarray,
        races: np.ndarray,
        books: BookTable | None,
    ) -> None:
        self.packets = packets
        self.frames = frames
        self.payload = payload
        self.races = races
        self.flows = tuple(playback.flows)
        self.book_table = books
        self._passed = passed
        self._playback = playback

    @functools.cached_property
    def decoded(self) -> Decoded:
        """Every field of the messages, as NumPy has them (host/sbe/full_decode.py). Raises SelectionError without a schema."""
        passed = self.packets if self._passed is None else self.packets.take(np.flatnonzero(self._passed))
        return self._playback.decode(passed)

    @property
    def table_names(self) -> list[str]:
        """The tables that have rows: ``Template`` and ``Template.Group``."""
        return [name for name, table in self.decoded.tables.items() if len(table)]

    def table(self, name: str) -> pa.Table:
        """All messages of a template (or entries of a group, ``Template.Group``) as an Arrow table with every field. ``@parent``
        is a row of this batch's table above. Raises SelectionError where the schema has none of that name."""
        if name not in self.decoded.tables:
            raise SelectionError(f"there is no table {name}; of this batch there are {', '.join(self.table_names)}")
        return self._playback.tables.table(self.decoded, name)

    @property
    def books(self) -> pa.Table:
        """The rows of books that this batch brings (docs/books.md). Raises SelectionError where none were asked for."""
        if self.book_table is None:
            raise SelectionError("no books were asked for: replay(..., levels=10)")
        return self.book_table.rows

    def report(self) -> tuple[ChannelReport, ...]:
        """What each feed of an arbitrated channel was worth, from the beginning to the packets that were played last."""
        return self._playback.report()

    def message(self, frame: np.void) -> bytes:
        """The raw message of a frame."""
        start = int(frame["payload_offset"])
        return self.payload[start : start + int(frame["payload_length"])].tobytes()


class Playback:
    """Captures, a card and what is wanted of them; :meth:`batches` plays them once.

    Parameters:
        flows: the card's flow table, as it is; without it, what is found in the captures.
        feeds: channels to arbitrate, as ``--feed`` describes them; None arbitrates nothing, () what is found.
        books: the rows of books that are wanted, if any.

    Attributes:
        flows: the card's flow table, of the channels that are wanted.
        channels: by flow number, the number of the flow after which its channel is called; of 65,536 entries.
        left_out: flows that found no row in the table.
        chooser: what is kept behind the card.
        books: builds the books that are wanted.
    """

    def __init__(
        self,
        captures: Captures,
        venue: Venue | None,
        card: str = "soft:",
        selection: Selection = EVERYTHING,
        decimals: Decimals = Decimals.DECIMAL128,
        flows: Sequence[Flow] | None = None,
        feeds: Sequence[str] | None = None,
        books: BookRows | None = None,
    ) -> None:
        self.captures = captures
        self.venue = venue
        self.url = card
        self.left_out = 0
        found: Sequence[Flow] = flows or ()
        if flows is None:
            found, self.left_out = flows_of(captures, venue)
            flows = selection.flows(found)
        self.flows = list(flows)
        self._arbiter: FeedArbiter | None = None
        if feeds is not None:
            samples = (capture.sample(SAMPLE_PACKETS) for capture in captures.captures)
            pairs = arbitrable(feeds, self.flows, samples, venue)
            self.flows = with_feeds(self.flows, pairs)
            if pairs and venue is not None:
                self._arbiter = FeedArbiter(pairs, venue.profile.framing)
        own = channels_of(self.flows)
        self.channels = np.arange(1 << 16, dtype=np.uint16)
        self.channels[: len(own)] = own
        # Definitions may come by a channel that is not wanted.
        symbols = {} if venue is None else find_symbols(selection.instruments, captures, found, venue)
        self.chooser = Chooser(selection, venue, self.flows, symbols)
        self.tables = ArrowTables(decimals, [channel_name(flow) for flow in self.flows])
        self.decimals = decimals
        self.books = None if books is None else BookTables(self.flows, own, venue, books, decimals)

    def open_card(self) -> Card:
        """The card, with a ring that has room for batches."""
        return open_card(self.url, self.flows, self.venue, frame_slots=FRAME_SLOTS, payload_bytes=PAYLOAD_BYTES)

    def packets(self, most: int = BATCH_PACKETS) -> Iterator[Packets]:
        """The packets of the times that are wanted, at most so many at once."""
        return sliced(self.chooser.selection.packets(self.captures.batches()), most)

    def batches(self, packets: Iterable[Packets] | None = None, frames: bool = True) -> Iterator[Batch]:
        """The batches; of ``packets``, unless they are the captures'. Without ``frames`` no card is opened, and there are none, nor
        books. The last batch is without packets where the end brings rows of books."""
        if packets is None:
            packets = self.packets()
        if not frames:
            for part in packets:
                passed, races = self._arbitrated(part)
                yield Batch(self, part, passed, NO_FRAMES, NO_BYTES, races, None)
            return
        with self.open_card() as card:
            for part in packets:
                passed, races = self._arbitrated(part)
                done = -1
                while done != len(part):
                    first = max(done, 0)
                    done = card.feed(part, first)
                    found, pieces = _frames(card)
                    books = None if self.books is None else self._chosen(self.books.update(found, card.ring.payload))
                    chosen = self.chooser.frames(found)
                    taken = part if (first, done) == (0, len(part)) else part.slice(first, done)
                    its = None if passed is None else passed[first:done]
                    yield Batch(self, taken, its, chosen, card.ring.payload, races if first == 0 else races[:0], books)
                    for count in pieces:
                        card.ring.release(count)
        if self.books is not None and len((books := self._chosen(self.books.finish())).rows):
            yield Batch(self, Packets.of([]), None, NO_FRAMES, NO_BYTES, NO_RACES, books)

    def decode(self, packets: Packets) -> Decoded:
        """Every field of the messages of some packets. Raises SelectionError without a schema."""
        return self.chooser.decoded(self._decoder.decode(packets))

    def report(self) -> tuple[ChannelReport, ...]:
        """What became of each channel that is arbitrated, so far."""
        return () if self._arbiter is None else self._arbiter.report()

    @functools.cached_property
    def _decoder(self) -> FullDecoder:
        if self.venue is None:
            raise SelectionError("tables are those of a schema: give one")
        return FullDecoder(self.venue, self.flows)

    def _arbitrated(self, packets: Packets) -> tuple[np.ndarray | None, np.ndarray]:
        """By packet whether it is passed on (None: all are), and the races. It is the card's rule, so the card passes on the same."""
        if self._arbiter is None:
            return None, NO_RACES
        races, passed = self._arbiter.arbitrate(packets)
        return (None if passed.all() else passed), races

    def _chosen(self, books: BookTable) -> BookTable:
        """The rows of instruments that are wanted: all books are built, since packets are counted by channel."""
        wanted = self.chooser.wanted(books.rows.column("instrument").to_numpy())
        if wanted is None:
            return books
        return BookTable(books.rows.filter(pa.array(wanted)), books.channels[wanted])


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
    feeds: Iterable[str] = (),
    arbitrate: bool = True,
    levels: int | None = None,
    grid: str | None = None,
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
        feeds: A and B feeds of channels, ``A=ADDRESS:PORT,B=ADDRESS:PORT``. Empty: those that are found.
        arbitrate: whether of two feeds one copy of each message is passed on (docs/feeds.md).
        levels: how many price levels :attr:`Batch.books` has; without it no books are built.
        grid: a row of each book that has changed at each multiple of this time, such as ``100ms``; by default one at every change.
        as_captured: neither put TCP segments in order nor IPv4 fragments together.
        decimals: ``decimal128``, or ``int64`` with the exponent in the column's metadata.

    Raises ValueErrors of one line each: CaptureError, SchemaError, CardError, FeedError, BooksError, SelectionError.
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
    books = None if levels is None else BookRows(levels, None if grid is None else parse_grid(grid))
    described = tuple(feeds) if arbitrate else None
    return Playback(opened, venue, card, selection, Decimals(decimals), feeds=described, books=books).batches()
