"""Books by price of a playback, as tables: a row for each change of the best levels, or at each point of a time grid (docs/books.md)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from hdl.flow import Flow
from hdl.sbe_venue import Venue
from host.market_data import Books, Feed, Violation, as_decimals
from host.playback.selection import SelectionError, channel_name
from host.sbe.arrow import Decimals, Names

BOOKS = "books"
LEVELS = 10

GRID_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}


@dataclass(frozen=True)
class BookRows:
    """Which rows books are to give: ``levels`` of each side, at every change or at each multiple of ``grid`` ns (since 1970)."""

    levels: int = LEVELS
    grid: int | None = None


def parse_grid(text: str) -> int:
    """ns of ``100ms``, ``1s`` and the like. Raises SelectionError."""
    match = re.fullmatch(r"(\d+)(ns|us|ms|s|m|h)", text)
    if match is None or not (grid := int(match[1]) * GRID_UNITS[match[2]]) or grid >= 1 << 62:
        raise SelectionError(f"'{text}' is no time grid; give a number of {', '.join(GRID_UNITS)}, such as 100ms")
    return grid


class BookTable(NamedTuple):
    """Rows of books, and by row the number of the flow after which its channel is called."""

    rows: pa.Table
    channels: np.ndarray


class BookTables:
    """Builds books of a flow table from frames.

    Parameters:
        channels: by flow, the number of the flow that it makes one channel with (its own, where it is one by itself).
    """

    def __init__(
        self, flows: Sequence[Flow], channels: Sequence[int], venue: Venue | None, wanted: BookRows, decimals: Decimals
    ) -> None:
        feeds = {number: Feed(channel) for number, channel in enumerate(channels)}
        self._books = Books(flows, venue, feeds=feeds, levels=wanted.levels, interval=wanted.grid or None, trades=False)
        self._names = Names({number: channel_name(flow) for number, flow in enumerate(flows)})
        self._decimals = decimals

    def update(self, frames: np.ndarray, payload: np.ndarray) -> BookTable:
        """Take frames; the rows that they give."""
        self._books.update(frames, payload)
        return self._rows()

    def finish(self) -> BookTable:
        """There are no more frames; the rows that the end brings."""
        self._books.finish()
        return self._rows()

    def counters(self) -> dict[str, int]:
        """What was taken and refused so far (:meth:`host.market_data.Books.counters`)."""
        return self._books.counters()

    def violations(self) -> dict[Violation, int]:
        """What books did so far that they must not."""
        return self._books.violation_counts()

    def _rows(self) -> BookTable:
        table = self._books.table()
        channels = table.column("channel").to_numpy()
        # `channel` is what the folders are called by.
        place = table.schema.get_field_index("channel")
        table = table.set_column(place, "flow", self._names.column(channels))
        return BookTable(as_decimals(table) if self._decimals is Decimals.DECIMAL128 else table, channels)
