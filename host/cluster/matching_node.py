"""A matching node in this process."""

import hashlib
from typing import NamedTuple

import numpy as np

from host.cluster.book import make_books
from host.cluster.matching import apply_orders, dump_orders
from host.cluster.node import NO_NODE
from host.cluster.report import REPORT_DTYPE
from host.journal.batch import Batch

NODE_ORDERS = 1 << 17
"""Most open orders of a node by default: 13 MiB of orders, levels and index."""

NODE_INSTRUMENTS = 4096
"""Most instruments of a node by default."""

REPORTS = 1 << 14
"""Room for reports that a node begins with; it doubles when one batch gives more."""


class Output(NamedTuple):
    """Where the compiled functions write reports."""

    reports: np.ndarray
    written: np.ndarray
    node: int


class MatchingNode:
    """A node (see :class:`host.cluster.node.Node`) that keeps a price-time-priority book for each instrument.

    Parameters: ``number``, 0 to 254; ``orders``, most open orders, and ``instruments``, most instruments: what goes
    beyond is reported as REJECTED.
    """

    def __init__(self, number: int, *, orders: int = NODE_ORDERS, instruments: int = NODE_INSTRUMENTS) -> None:
        if not 0 <= number < NO_NODE:
            raise ValueError(f"node number {number} is not between 0 and {NO_NODE - 1}")
        if orders < 1 or instruments < 1:
            raise ValueError("a node has room for at least one order and one instrument")
        self._number = number
        self.state = make_books(orders, instruments)
        self._output = Output(np.zeros(REPORTS, REPORT_DTYPE), np.zeros(1, np.int64), number)

    @property
    def number(self) -> int:
        return self._number

    @property
    def applied(self) -> int:
        return int(self.state.counters["applied"][0])

    @property
    def repeated(self) -> int:
        """Orders that came again and were passed over."""
        return int(self.state.counters["repeated"][0])

    @property
    def trades(self) -> int:
        return int(self.state.counters["trades"][0])

    @property
    def open_orders(self) -> int:
        """Orders that rest in the books now."""
        return int(self.state.counters["open_orders"][0])

    def apply(self, batch: Batch) -> np.ndarray:
        """See :meth:`host.cluster.node.Node.apply`."""
        self._output.written[0] = 0
        position = 0
        while True:
            position, needed = apply_orders(
                self.state, self._output, batch.frames, batch.decisions, batch.payload, batch.first_sequence, position
            )
            if position == len(batch):
                return self._output.reports[: self._output.written[0]]
            self._grow(needed)

    def state_hash(self) -> str:
        """BLAKE2b over open orders in priority, books by instrument, and the counters of what was applied."""
        counters = self.state.counters[0]
        books = self.state.books[: int(counters["books"])]
        rows = np.zeros((int(counters["open_orders"]), 8), np.uint64)
        dump_orders(self.state, np.argsort(books["instrument"]), rows)
        digest = hashlib.blake2b(rows.data, digest_size=16)
        digest.update(np.sort(books["instrument"]).tobytes())
        for name in ("last_sequence", "applied", "trades"):
            digest.update(int(counters[name]).to_bytes(8, "little"))
        return digest.hexdigest()

    def _grow(self, needed: int) -> None:
        reports = np.zeros(max(2 * len(self._output.reports), len(self._output.reports) + needed), REPORT_DTYPE)
        reports[: len(self._output.reports)] = self._output.reports
        self._output = self._output._replace(reports=reports)
