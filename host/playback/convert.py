"""Captures to tables: batch after batch to a sink, in constant memory."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from hdl.frame import Flag
from host.capture.packets import Packets
from host.playback.batches import TABLE_PACKETS, Batch, Playback
from host.playback.book_table import BOOKS, BookTable
from host.playback.dataset import Sink
from host.playback.frame_table import FrameTables
from host.playback.partition import keys_of, partitioned, runs_of
from host.playback.replay import Progress
from host.sbe.full_decode import Decoded

FRAMES = "frames"
"""The table of frames. No template is called so: their names are those of a schema's messages, which begin with capitals or are prefixed."""


@dataclass
class Converted:
    """What was written: rows by table; messages, those of ``problems`` (by cause) among them; seconds."""

    rows: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    packets: int = 0
    bytes: int = 0
    seconds: float = 0.0
    interrupted: bool = False


class Conversion:
    """Plays captures into a sink. Set ``stop``, and it ends after the present batch."""

    def __init__(self, playback: Playback, sink: Sink, frames: bool = True) -> None:
        self._needs_card = frames or playback.books is not None
        self._playback = playback
        self._sink = sink
        self._frames = FrameTables(playback.flows, playback.venue, playback.decimals) if frames else None
        self._done = Converted()
        self.stop = False

    def run(
        self,
        show: Callable[[Progress], None] = lambda progress: None,
        pace: Callable[[Iterator[Packets]], Iterator[Packets]] = lambda packets: packets,
    ) -> Converted:
        """Play everything; ``show`` is called after each batch, ``pace`` says when packets are due. Raises SelectionError where no instrument that was asked for came, OSError, and what cards raise."""
        done, captures = self._done, self._playback.captures
        begin = time.perf_counter()
        try:
            packets = pace(self._playback.packets(TABLE_PACKETS))
            for batch in self._playback.batches(packets, self._needs_card):
                if self.stop:
                    done.interrupted = True
                    break
                self._add(batch)
                done.packets += len(batch.packets)
                done.bytes += int(batch.packets.length.sum())
                show(Progress(done.packets, done.bytes, done.messages, captures.done_bytes, captures.total_bytes))
            else:
                self._playback.chooser.check_met()
                self._sink.finish()
        finally:
            self._sink.close()
        done.seconds = time.perf_counter() - begin
        return done

    def _add(self, batch: Batch) -> None:
        if self._frames is not None and len(batch.frames):
            self._add_frames(batch)
        if batch.book_table is not None:
            self._add_books(batch.book_table)
        if self._playback.venue is not None:
            self._add_tables(batch.decoded)
        else:
            done = self._done
            done.messages = done.rows[FRAMES]

    def _add_frames(self, batch: Batch) -> None:
        assert self._frames is not None
        order, runs = runs_of(keys_of(self._playback.channels[batch.frames["flow"]], batch.frames["timestamp"]))
        self._done.rows[FRAMES] += len(batch.frames)
        if self._sink.wants(FRAMES, runs):
            frames = batch.frames if order is None else batch.frames[order]
            self._sink.add(FRAMES, self._frames.table(frames, batch.payload), runs)

    def _add_books(self, books: BookTable) -> None:
        table = books.rows
        self._done.rows[BOOKS] += len(table)
        times = table.column("timestamp").cast(pa.int64()).to_numpy().astype(np.uint64)
        order, runs = runs_of(keys_of(books.channels, times))
        if self._sink.wants(BOOKS, runs):
            self._sink.add(BOOKS, table if order is None else table.take(pa.array(order)), runs)

    def _add_tables(self, decoded: Decoded) -> None:
        done = self._done
        done.messages += decoded.messages
        done.problems.update(Flag(int(flags)).name or str(flags) for flags in decoded.problems["flags"])
        by_partition, runs = partitioned(decoded, done.rows, self._playback.channels)
        parents = {table.layout.parent for table in decoded.tables.values()}
        for name, table in by_partition.tables.items():
            first = done.rows[name]
            done.rows[name] += len(table)
            if not self._sink.wants(name, runs[name]):
                continue
            columns = self._playback.tables.table(by_partition, name)
            if name in parents:
                numbers = np.arange(first, first + len(table), dtype=np.uint64)
                columns = columns.append_column("@row", pa.array(numbers))
            self._sink.add(name, columns, runs[name])
