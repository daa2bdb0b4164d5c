"""The gateway beside the same checks in plain Python, and beside SQLite as the journal."""

import sqlite3
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from hdl.frame import Kind
from hdl.sbe_venue import load_venue
from host.bench.measure import Row, compare
from host.card import open_card
from host.cluster.matching_node import MatchingNode
from host.demo import DEMO_LIMITS
from host.gateway.pipeline import Gateway
from host.gateway.router import Router
from host.gateway.verdict import Verdict
from host.generate import SCHEMA, generate
from host.journal import Journal
from host.journal.batch import DECISION_DTYPE

ORDERS = 30_000
PLAIN_FRAMES = 10_000
SLICE = 8192
"""Frames that the gateway is given at a time."""


class Traffic:
    """Generated traffic as it stands in the rings."""

    def __init__(self) -> None:
        made = generate(ORDERS, seed=7)
        self.card = open_card("soft:", made.flows, load_venue(SCHEMA), frame_slots=1 << 18, payload_bytes=1 << 26)
        self.card.feed(made.packets)
        self.frames = self.card.ring.poll(1 << 18)
        self.payload = self.card.ring.payload
        orders = np.isin(self.frames["kind"], (Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE))
        self.orders = int(np.count_nonzero(orders))


def risk_route_row(traffic: Traffic) -> Row:
    """Frames a second through all checks and the router, orders and market data mixed as generated."""
    frames, payload = traffic.frames, traffic.payload
    decisions = np.zeros(len(frames), DECISION_DTYPE)
    decided: list[np.ndarray] = []

    def compiled() -> tuple[int, float]:
        risk = DEMO_LIMITS.risk()
        risk.route(DEMO_LIMITS.router())
        begin = time.perf_counter()
        risk.decide(frames, payload, decisions)
        seconds = time.perf_counter() - begin
        decided[:] = [decisions["verdict"]]
        return len(frames), seconds

    sample = frames[:PLAIN_FRAMES]

    def plain() -> tuple[int, float]:
        checks = PlainPython(DEMO_LIMITS.router())
        begin = time.perf_counter()
        accepted = sum(checks.accepts(frame, payload) for frame in sample)
        seconds = time.perf_counter() - begin
        expected = int(np.count_nonzero(decided[0][:PLAIN_FRAMES] == Verdict.ACCEPTED))
        if accepted != expected:
            raise RuntimeError(f"the peer accepts {accepted} orders, not {expected}: it does not do the same work")
        return len(sample), seconds

    return compare("gateway.risk_route.frames_per_s", "frames/s", compiled, "the same checks in plain Python", plain)


class PlainPython:
    """The checks as one writes them first: dictionaries and Python numbers."""

    def __init__(self, router: Router) -> None:
        self._instruments = {each.code: each for each in DEMO_LIMITS.instruments}
        self._reference = {each.security_id: each.reference_price for each in DEMO_LIMITS.instruments}
        self._nodes = {code: router.node(code) for code in self._instruments}
        self._accounts = {each.name.encode(): each for each in DEMO_LIMITS.accounts}
        self._used: defaultdict[bytes, int] = defaultdict(int)
        self._ids: set[tuple[int, bytes]] = set()

    def accepts(self, frame: np.void, payload: np.ndarray) -> bool:
        """Whether a frame is an order that passes."""
        kind = frame["kind"]
        if kind == Kind.TRADE and frame["price"] > 0 and int(frame["instrument"]) in self._reference:
            self._reference[int(frame["instrument"])] = int(frame["price"])
        if kind not in (Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE):
            return False
        start = int(frame["payload_offset"])
        raw = payload[start : start + int(frame["payload_length"])].tobytes()
        client_order_id = _text(raw, int(frame["client_order_id"]))
        instrument = self._instruments.get(int(frame["instrument"]))
        if instrument is None or (int(frame["flow"]), client_order_id) in self._ids:
            return False
        if kind != Kind.CANCEL:
            quantity, price = int(frame["quantity"]), int(frame["price"])
            reference = self._reference[instrument.security_id]
            if quantity > instrument.maximum_quantity:
                return False
            limit = frame["order_type"] == ord("2")
            if limit and abs(price - reference) * 1_000_000 > instrument.collar_ppm * reference:
                return False
            name = _text(raw, int(frame["account"]))
            notional = quantity * (price if limit else reference)
            if name in self._accounts and notional > self._accounts[name].order_notional:
                return False
            self._used[name] += notional
        self._ids.add((int(frame["flow"]), client_order_id))
        return self._nodes[instrument.code] is not None


def _text(raw: bytes, offset: int) -> bytes:
    return raw[offset : raw.index(b"\x01", offset)] if offset else b""


def journaled_row(traffic: Traffic) -> Row:
    """Orders a second from the ring to applied by their node, each batch durable before; the peer stores the same order
    frames and raw messages in SQLite, one transaction (synchronous=FULL, WAL) a batch."""
    frames, payload = traffic.frames, traffic.payload

    def gateway() -> tuple[int, float]:
        with tempfile.TemporaryDirectory(prefix="tickgate-bench-", dir=".") as folder, Journal(folder) as journal:
            nodes = [MatchingNode(number) for number in DEMO_LIMITS.nodes]
            whole = Gateway(DEMO_LIMITS.risk(), DEMO_LIMITS.router(), journal, nodes)
            begin = time.perf_counter()
            for first in range(0, len(frames), SLICE):
                whole.process(frames[first : first + SLICE], payload)
            return traffic.orders, time.perf_counter() - begin

    def sqlite() -> tuple[int, float]:
        with tempfile.TemporaryDirectory(prefix="tickgate-bench-", dir=".") as folder:
            database = sqlite3.connect(Path(folder) / "journal.db", isolation_level=None)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute("CREATE TABLE orders (sequence INTEGER PRIMARY KEY, frame BLOB, message BLOB)")
            begin = time.perf_counter()
            for first in range(0, len(frames), SLICE):
                part = frames[first : first + SLICE]
                orders = part[np.isin(part["kind"], (Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE))]
                rows = [
                    (frame.tobytes(), payload[start : start + length].tobytes())
                    for frame, start, length in zip(
                        orders, orders["payload_offset"].tolist(), orders["payload_length"].tolist(), strict=True
                    )
                ]
                database.execute("BEGIN")
                database.executemany("INSERT INTO orders (frame, message) VALUES (?, ?)", rows)
                database.execute("COMMIT")
            seconds = time.perf_counter() - begin
            database.close()
            return traffic.orders, seconds

    return compare("gateway.journaled.orders_per_s", "orders/s", gateway, "SQLite alone (WAL, FULL)", sqlite)
