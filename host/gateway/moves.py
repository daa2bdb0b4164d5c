"""Moving instruments between nodes without one order out of its order.

Where an instrument's book is (:class:`Placement`) and where the router wants it (``Router.owners``) are two things. The
difference is planned as moves, each is journaled as a control record, and only then is the book carried over. So the
record stands between the instrument's last order for the old node and its first for the new one, and a replay of the
journal carries the same books over at the same places.
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from host.cluster.node import NO_NODE
from host.gateway.health import SECOND, Health
from host.gateway.node_state import NodeState
from host.gateway.router import Router
from host.journal.batch import ACCEPTED, Batch

MOVES_PER_SECOND = 1000
"""Instruments a second by default that are moved from living nodes."""

STEPS_PER_SECOND = 100
"""A step moves at most this part of a second's budget (but one instrument at least), however long the last is ago."""

RECORD_INSTRUMENTS = 1024
"""Most instruments of one record: 21 KiB of JSON."""


class MoveError(ValueError):
    """The journal's moves and orders do not fit together."""


class BookKeeper(Protocol):
    """What a node must do so that instruments can be moved from it and to it."""

    def take_book(self, instrument: int) -> np.ndarray:
        """Every open order of an instrument, in priority; the node has them no more."""
        ...

    def give_book(self, instrument: int, rows: np.ndarray) -> None:
        """Takes over what ``take_book`` gave. Raises ValueError, and changes nothing, where there is no room."""
        ...


@dataclass(frozen=True)
class Move:
    """Instruments (their 64-bit codes) whose books go from one node to another at one place of the journal."""

    source: int
    target: int
    instruments: tuple[int, ...]

    def record(self) -> dict:
        """The control record."""
        return {"type": "move", "from": self.source, "to": self.target, "instruments": list(self.instruments)}

    @classmethod
    def of(cls, record: Mapping) -> "Move":
        """From a control record of type "move"."""
        return cls(record["from"], record["to"], tuple(record["instruments"]))


class Placement:
    """Where each instrument's book is.

    Parameters: ``codes``, uint64, the instruments. Attribute: ``holders``, uint8, the node of each, NO_NODE as long as
    no order for it was applied and no move has named it. A replay brings it up to date: :meth:`follow` for every batch
    of orders, :func:`carry_out` for every "move" record.
    """

    def __init__(self, codes: np.ndarray) -> None:
        self.codes = np.array(codes, np.uint64)
        self.holders = np.full(len(self.codes), NO_NODE, np.uint8)
        self._sorted = np.argsort(self.codes)

    def rows(self, instruments: np.ndarray) -> np.ndarray:
        """Where the instruments (uint64) stand in ``codes``, -1 for those that do not."""
        if not len(self.codes):
            return np.full(len(instruments), -1, np.intp)
        places = np.searchsorted(self.codes, instruments, sorter=self._sorted)
        rows = self._sorted[np.minimum(places, len(self.codes) - 1)]
        return np.where(self.codes[rows] == instruments, rows, -1)

    def state_parts(self) -> dict[str, np.ndarray]:
        """What must survive, for a snapshot: the live arrays."""
        return {"codes": self.codes, "holders": self.holders}

    def load_parts(self, parts: Mapping[str, np.ndarray]) -> None:
        """Goes on from :meth:`state_parts` of a placement, be it of other instruments: those known here are taken over."""
        rows = self.rows(parts["codes"])
        self.holders[rows[rows >= 0]] = parts["holders"][rows >= 0]

    def follow(self, batch: Batch) -> None:
        """Learns from the accepted orders of a batch. Raises MoveError, naming the sequence, for one that went to
        another node than the one with its book."""
        accepted = np.flatnonzero(batch.decisions["verdict"] == ACCEPTED)
        rows = self.rows(batch.frames["instrument"][accepted])
        accepted, rows = accepted[rows >= 0], rows[rows >= 0]
        nodes = batch.decisions["node"][accepted]
        unknown = self.holders[rows] == NO_NODE
        # Of several orders the first one says it, so written last.
        self.holders[rows[unknown][::-1]] = nodes[unknown][::-1]
        if (wrong := np.flatnonzero(self.holders[rows] != nodes)).size:
            order = int(wrong[0])
            raise MoveError(
                f"sequence {batch.first_sequence + int(accepted[order])}: an order went to node {nodes[order]},"
                f" its instrument's book is on node {self.holders[rows[order]]}"
            )


def plan_moves(
    codes: np.ndarray,
    holders: np.ndarray,
    targets: np.ndarray,
    budget: int,
    urgent: Collection[int] = (),
) -> list[Move]:
    """The moves that bring books from ``holders`` to ``targets`` (uint8, one an instrument of ``codes``).

    All that are on nodes in ``urgent`` come first and count for no budget; of the others at most ``budget``, in the
    order of their codes. What has no book, or no node to go to (NO_NODE), stays.
    """
    moving = (holders != targets) & (holders != NO_NODE) & (targets != NO_NODE)
    hurried = moving & np.isin(holders, list(urgent))
    rows = [*_by_code(codes, np.flatnonzero(hurried)), *_by_code(codes, np.flatnonzero(moving & ~hurried))[:budget]]
    groups: dict[tuple[int, int], list[int]] = {}
    for row in rows:
        groups.setdefault((int(holders[row]), int(targets[row])), []).append(int(codes[row]))
    return [
        Move(source, target, instruments)
        for (source, target), group in groups.items()
        for instruments in _chunks(group)
    ]


def carry_out(move: Move, nodes: Mapping[int, BookKeeper], placement: Placement) -> list[int]:
    """Carries the books of a journaled move over, and returns the instruments that stay because the new node has no room.

    The live gateway and every replay call this between the same two orders, with nodes in the same state, so that
    the same books stay. Raises MoveError for an instrument that is not on the node it is to be moved from.
    """
    rows = placement.rows(np.array(move.instruments, np.uint64))
    for instrument, row in zip(move.instruments, rows.tolist(), strict=True):
        holder = move.source if row < 0 else int(placement.holders[row])
        if holder not in (move.source, NO_NODE):
            raise MoveError(f"instrument {instrument} is to be moved from node {move.source}, but is on node {holder}")
    staying = []
    for instrument, row in zip(move.instruments, rows.tolist(), strict=True):
        book = nodes[move.source].take_book(instrument)
        try:
            nodes[move.target].give_book(instrument, book)
            holder = move.target
        except ValueError:
            nodes[move.source].give_book(instrument, book)
            staying.append(instrument)
            holder = move.source
        if row >= 0:
            placement.holders[row] = holder
    return staying


class Mover:
    """Brings books to where the router wants them, a few at a time, and says where orders go meanwhile.

    Parameters: ``placement``, as a replay of the journal has left it; ``routes``, uint8, one an instrument of it: the
    table by which orders are routed (a view of the risk state), which this alone writes; ``nodes``, by number; ``write``,
    appends control records to the journal and returns when they are durable; ``remake``, gives a node as it would
    be had it not died, made from snapshot and journal; ``rate``, instruments a second that may be moved from living
    nodes; ``now``, ns. Attribute: ``moved``, instruments moved so far.

    Books of a dead node are taken from the remade one; it goes into ``nodes`` in the dead one's place. Where a book is
    that no living node has room for, nothing is routed (NO_NODE) when its node is dead.
    """

    def __init__(
        self,
        placement: Placement,
        routes: np.ndarray,
        router: Router,
        health: Health,
        nodes: MutableMapping[int, BookKeeper],
        write: Callable[[Sequence[Mapping]], None],
        remake: Callable[[int], BookKeeper],
        *,
        rate: int = MOVES_PER_SECOND,
        now: int = 0,
    ) -> None:
        if rate < 1:
            raise ValueError("at least one instrument a second must be allowed to move")
        self.moved = 0
        self._placement = placement
        self._routes = routes
        self._router = router
        self._health = health
        self._nodes = nodes
        self._write = write
        self._remake = remake
        self._rate = rate
        self._allowance = 0.0
        self._now = now
        self._targets = np.zeros(len(placement.codes), np.uint8)
        self._owners = np.zeros(0, np.uint8)
        self._remade: set[int] = set()
        self._refused: set[tuple[int, int]] = set()
        self._states: dict[int, NodeState] = {}
        self._settled = False
        self.step(now)

    @property
    def pending(self) -> int:
        """Instruments that are not where the router wants them and could be moved there."""
        wanted = self._wanted()
        return int(np.count_nonzero((self._placement.holders != wanted) & (wanted != NO_NODE)))

    def step(self, now: int) -> list[Move]:
        """Moves what is due; to be called between two batches, when every order taken before is journaled and handed on
        to its node, and none after it has been routed. Returns the moves."""
        self._allowance += self._rate * (now - self._now) / SECOND
        self._allowance = min(self._allowance, max(1.0, self._rate / STEPS_PER_SECOND))
        self._now = now
        placement = self._placement
        states = self._health.states
        if not np.array_equal(self._owners, self._router.owners):
            self._owners = self._router.owners.copy()
            self._router.assign(placement.codes, self._targets)
            self._refused.clear()
        elif self._settled and states == self._states:
            return []
        # What has no book is nowhere yet, and needs no move.
        placement.holders[:] = np.where(placement.holders == NO_NODE, self._targets, placement.holders)
        held = set(np.unique(placement.holders).tolist()) - {NO_NODE}
        dead = {node for node in held if states.get(node) in (None, NodeState.DEAD)}
        self._remade &= dead
        moves = plan_moves(placement.codes, placement.holders, self._wanted(), int(self._allowance), dead)
        if moves:
            for node in {move.source for move in moves} & dead - self._remade:
                self._nodes[node] = self._remake(node)
                self._remade.add(node)
            self._write([move.record() for move in moves])
            for move in moves:
                staying = carry_out(move, self._nodes, placement)
                self._refused.update((instrument, move.target) for instrument in staying)
                self.moved += len(move.instruments) - len(staying)
                if move.source not in dead:
                    self._allowance -= len(move.instruments)
            held = set(np.unique(placement.holders).tolist())
        for node, state in states.items():
            if state is NodeState.DRAINING and node not in held:
                self._health.emptied(node)
        serving = [node for node in held if states.get(node) in (NodeState.ACTIVE, NodeState.DRAINING)]
        self._routes[:] = np.where(np.isin(placement.holders, serving), placement.holders, NO_NODE)
        self._states = self._health.states
        self._settled = self.pending == 0
        return moves

    def _wanted(self) -> np.ndarray:
        """The targets without those that had no room: there it is not tried again until the router's table changes."""
        if not self._refused:
            return self._targets
        wanted = self._targets.copy()
        for instrument, target in self._refused:
            row = self._placement.rows(np.array([instrument], np.uint64))[0]
            if wanted[row] == target:
                wanted[row] = NO_NODE
        return wanted


def _by_code(codes: np.ndarray, rows: np.ndarray) -> list[int]:
    return rows[np.argsort(codes[rows])].tolist()


def _chunks(instruments: list[int]) -> Iterator[tuple[int, ...]]:
    rest = iter(instruments)
    while chunk := tuple(itertools.islice(rest, RECORD_INSTRUMENTS)):
        yield chunk
