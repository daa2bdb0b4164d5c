"""The table ``books`` of a conversion: books by price from its frames (docs/books.md)."""

import numpy as np
import pyarrow as pa

from host.market_data import Books, as_decimals
from host.playback.batches import Batch, Playback
from host.playback.partition import Run, keys_of, runs_of
from host.playback.selection import channel_name
from host.sbe.arrow import Decimals, Names

BOOKS = "books"
LEVELS = 10


class BookTables:
    """Builds books from batches and gives their rows: one for each change of the best ten levels."""

    def __init__(self, playback: Playback) -> None:
        self._books = Books(playback.flows, playback.venue, levels=LEVELS, trades=False)
        self._flows = Names({number: channel_name(flow) for number, flow in enumerate(playback.flows)})
        self._decimals = playback.decimals

    def rows(self, batch: Batch | None) -> tuple[pa.Table, list[Run]]:
        """The rows of a batch, by partition; with None those that the end of the data brings."""
        if batch is None:
            self._books.finish()
        else:
            self._books.update(batch.frames, batch.payload)
        table = self._books.table()
        times = table.column("timestamp").cast(pa.int64()).to_numpy().astype(np.uint64)
        channels = table.column("channel").to_numpy()
        order, runs = runs_of(keys_of(channels, times))
        # Each flow is a channel of its own. `channel` is what the folders are called by.
        place = table.schema.get_field_index("channel")
        table = table.set_column(place, "flow", self._flows.column(channels))
        if order is not None:
            table = table.take(pa.array(order))
        return (as_decimals(table) if self._decimals is Decimals.DECIMAL128 else table), runs


def books_of(playback: Playback) -> BookTables | None:
    """Books of a playback; None where frames that they need are left out."""
    return None if playback.chooser.selection.templates else BookTables(playback)
