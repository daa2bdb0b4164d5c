"""A matching node in this process."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from hdl.frame import TimeInForce, crc64
from host.cluster.book import Books, books_layout, make_books
from host.cluster.book_rows import book_rows, give_rows, take_rows
from host.cluster.matching import CAUSE_DTYPE, LOOKAHEAD, apply_orders, end_orders, find_orders
from host.cluster.node import NO_NODE
from host.cluster.order_index import NONE
from host.cluster.report import REPORT_DTYPE, Reason, ReportKind
from host.journal.batch import Batch

NODE_ORDERS = 1 << 17
"""Most open orders of a node by default: 20 MiB of orders, levels, branches and index."""

NODE_INSTRUMENTS = 4096
"""Most instruments of a node by default."""

REPORTS = 1 << 14
"""Room for reports that a node begins with; it grows when one batch may give more."""


class Output(NamedTuple):
    """Where the compiled functions write reports, and the keys of the orders that come next."""

    reports: np.ndarray
    cause: np.ndarray
    keys: np.ndarray


class MatchingNode:
    """A node: applies the orders that were routed to it, in journal sequence, each once, and keeps a price-time-priority book for
    each instrument.

    Parameters: ``number``, 0 to 254; ``orders``, most open orders, and ``instruments``, most instruments: what goes
    beyond is reported as REJECTED.
    """

    def __init__(self, number: int, *, orders: int = NODE_ORDERS, instruments: int = NODE_INSTRUMENTS) -> None:
        if not 0 <= number < NO_NODE:
            raise ValueError(f"node number {number} is not between 0 and {NO_NODE - 1}")
        if orders < 1 or instruments < 1:
            raise ValueError("a node has room for at least one order and one instrument")
        self._number = number
        self._room = orders, instruments
        self._output = Output(
            np.zeros(REPORTS, REPORT_DTYPE), np.zeros(1, CAUSE_DTYPE), np.zeros((LOOKAHEAD, 4), np.uint64)
        )
        self._output.cause["node"] = number
        self._places = np.zeros(0, np.int32)

    @cached_property
    def state(self) -> Books:
        """All its books: made when they are first asked for, as a node that goes on from a snapshot never needs them."""
        return make_books(*self._room)

    @property
    def number(self) -> int:
        """This node's number, 0 to 254."""
        return self._number

    @property
    def applied(self) -> int:
        """How many orders it has applied."""
        return int(self.state.counters["applied"][0])

    @property
    def repeated(self) -> int:
        """Orders that came again and were passed over."""
        return int(self.state.counters["repeated"][0])

    @property
    def trades(self) -> int:
        """How many trades it has made; each gives two fill reports."""
        return int(self.state.counters["trades"][0])

    @property
    def open_orders(self) -> int:
        """Orders that rest in the books or wait to be triggered now."""
        return int(self.state.counters["open_orders"][0])

    def prepare(self) -> None:
        """Has its books be there before an order is."""
        self.state_parts()

    def apply(self, batch: Batch) -> np.ndarray:
        """Applies those orders of a committed batch that are accepted and routed to this node.

        Orders with a sequence that was applied before are passed over. Returns reports (``REPORT_DTYPE``), a view that holds until
        the next call.

        Of control batches "new_day" expires all Day orders, "disconnect" cancels all orders of its ``flow``, and "kill" with
        "cancel" those of its scope, the order with the lowest sequence first; others change nothing. One whose number is not above the last one's is passed over.
        """
        self._output.cause["written"] = 0
        if batch.control is not None:
            self._apply_control(batch, batch.control)
            return self._reports()
        if len(self._places) < len(batch):
            self._places = np.zeros(len(batch), np.int32)
        places = self._places[: find_orders(batch.decisions, self._number, self._places)]
        done = 0
        while True:
            done, needed = apply_orders(
                self.state,
                self._output,
                batch.frames,
                batch.decisions,
                batch.payload,
                batch.first_sequence,
                places,
                done,
            )
            if done == len(places):
                return self._reports()
            self._grow(needed)

    def take_book(self, instrument: int) -> np.ndarray:
        """Everything of an instrument (``host.cluster.book_rows``), which this node has no more."""
        return take_rows(self.state, instrument)

    def give_book(self, instrument: int, rows: np.ndarray) -> None:
        """Takes over what another node's :meth:`take_book` gave: orders keep priority, hidden quantity and stop prices.

        Raises ValueError, and nothing is changed, when there is no room or an order or book is here already.
        """
        give_rows(self.state, instrument, rows)

    def state_parts(self) -> dict[str, np.ndarray]:
        """Everything that must survive, as the live arrays."""
        return self.state._asdict()

    def load_parts(self, parts: Mapping[str, np.ndarray]) -> None:
        """Goes on from what :meth:`state_parts` of a node with the same room was; the arrays must be writable, and are taken over.

        Raises ValueError for parts that are not those of such a node.
        """
        loaded = {}
        for name, (rows, dtype) in books_layout(*self._room).items():
            part = np.asarray(parts[name]) if name in parts else None
            if part is None or part.dtype != dtype or part.shape != (rows,):
                found = "missing" if part is None else f"{part.shape} of {part.dtype.itemsize} bytes each"
                raise ValueError(f"node {self._number}: part '{name}' is {found}, expected {(rows,)}")
            if not part.flags.writeable or not part.flags.c_contiguous or not part.flags.aligned:
                raise ValueError(f"node {self._number}: part '{name}' cannot be written to")
            loaded[name] = part
        self.state = Books(**loaded)

    def state_hash(self) -> str:
        """BLAKE2b over the rows of all books by instrument, and the counters of what was applied."""
        books = np.flatnonzero(self.state.books["in_use"])
        digest = hashlib.blake2b(digest_size=16)
        for book in books[np.argsort(self.state.books["instrument"][books])]:
            digest.update(book_rows(self.state, int(book)).data)
        for name in ("last_sequence", "applied", "trades"):
            digest.update(int(self.state.counters[name][0]).to_bytes(8, "little"))
        return digest.hexdigest()

    def _apply_control(self, batch: Batch, control: Mapping[str, Any]) -> None:
        counters = self.state.counters[0]
        if batch.number <= counters["last_control"]:
            return
        counters["last_control"] = batch.number
        found = self._ended(control)
        if found is None:
            return
        ended, kind, reason = found
        orders = self.state.orders
        rows = np.flatnonzero(ended & (orders["level"] != NONE))
        rows = rows[np.argsort(orders["sequence"][rows])]
        if len(rows) > len(self._output.reports):
            self._grow(len(rows))
        self._output.cause["sequence"] = batch.first_sequence - 1
        self._output.cause["timestamp"] = control.get("timestamp", 0)
        end_orders(self.state, self._output, rows, int(kind), int(reason))

    def _ended(self, control: Mapping[str, Any]) -> tuple[np.ndarray, ReportKind, Reason] | None:
        """Which order rows a control ends (free ones too), and as what; None where it ends none."""
        orders = self.state.orders
        if control["type"] == "new_day":
            return orders["time_in_force"] == TimeInForce.DAY, ReportKind.EXPIRED, Reason.END_OF_DAY
        if control["type"] == "disconnect":
            return orders["flow"] == control["flow"], ReportKind.CANCELED, Reason.DISCONNECTED
        if control["type"] == "kill" and control.get("cancel"):
            match control["scope"]:
                case "instrument":
                    books = self.state.levels["book"][orders["level"]]
                    killed = self.state.books["instrument"][books] == crc64(control["name"].encode())
                case "account":
                    killed = orders["account"] == control["account"]
                case "session":
                    killed = orders["flow"] == control["name"]
                case _:
                    killed = np.ones(len(orders), bool)
            return killed, ReportKind.CANCELED, Reason.KILLED
        return None

    def _reports(self) -> np.ndarray:
        return self._output.reports[: int(self._output.cause["written"][0])]

    def _grow(self, needed: int) -> None:
        """Room for so many reports beside those written."""
        written = self._reports()
        reports = np.zeros(max(2 * len(self._output.reports), len(written) + needed), REPORT_DTYPE)
        reports[: len(written)] = written
        self._output = self._output._replace(reports=reports)
