"""The gateway's state as a pure function of its journal: risk and nodes, moved on batch by batch.

Whoever needs that state, and is not the live gateway, has it from here: a process that is started again, and the follower that
writes snapshots.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from host.cluster.matching_node import NODE_INSTRUMENTS, MatchingNode
from host.gateway.risk import Risk
from host.gateway.risk_control import parse_control
from host.gateway.terms import SESSION_LIMIT
from host.journal import Batch, Position, Snapshot, newest_snapshot, read_journal
from host.journal.batch import MERGED_ORDERS, merge_small
from host.journal.id_log import FLOW_NUMBERS, FORGOTTEN, read_ids, write_ids
from host.journal.scan import JournalReader

_RISK, _NODE = "risk.", "node{}."
"""Prefixes of the parts of a snapshot."""

FORGETTING = ("new_day", "session_day")
"""Control records that make client order ids be forgotten."""

FILE_IDS = 1 << 20
"""A follower writes so many client order ids to a file, where no snapshot is due before."""

_WEIGHTS = "weights"
"""The part that holds the last "weights" record as JSON, if there was one."""


def carry_books(nodes: Mapping[int, MatchingNode], control: Mapping[str, Any] | None) -> None:
    """Does what a "move" record says: the books of its instruments go from one node to another, which has room
    (:func:`complete_control`)."""
    if control is None or control["type"] != "move":
        return
    source, target = nodes[control["from"]], nodes[control["to"]]
    for instrument in control["instruments"]:
        target.give_book(instrument, source.take_book(instrument))


def complete_control(risk: Risk, nodes: Mapping[int, int], record: Mapping[str, Any]) -> dict[str, Any]:
    """A control record that came from outside, as it is to be journaled: with all that risk and nodes need of it.

    ``nodes`` is the room for open orders of each node. Raises ValueError for a record that cannot be carried out: once
    it is journaled, every restart would have to.
    """
    kind = record.get("type")
    if kind in ("kill", "release"):
        scope, name = parse_control(record)
        if kind == "kill":
            return risk.kill_record(scope, name, cancel=bool(record.get("cancel")))
        return risk.release_record(scope, name)
    if kind == "new_day":
        return risk.new_day_record()
    if kind in ("session_day", "disconnect"):
        flow = record.get("flow")
        if not isinstance(flow, int) or isinstance(flow, bool) or not 0 <= flow <= SESSION_LIMIT:
            raise ValueError(f"{kind}: {flow!r} is no session")
        return {"type": kind, "flow": flow}
    if kind == "move":
        source, target, codes = record.get("from"), record.get("to"), record.get("instruments")
        if (
            not (isinstance(source, int) and isinstance(target, int) and {source, target} <= nodes.keys())
            or source == target
            or not isinstance(codes, list)
        ):
            raise ValueError(
                f"move: from {source!r} to {target!r}: two of the nodes {sorted(nodes)} and an array are wanted"
            )
        held = set(risk.state.instruments["code"][risk.state.instruments["node"] == source].tolist())
        if strange := [code for code in codes if code not in held]:
            raise ValueError(f"move: node {source} does not have instrument {strange[0]!r}")
        _check_room(risk, nodes, target, codes)
        return {"type": kind, "from": source, "to": target, "instruments": codes}
    if kind in ("limits", "weights"):
        return dict(record)
    raise ValueError(f"there is no control record of type {kind!r}")


def _check_room(risk: Risk, nodes: Mapping[int, int], node: int, instruments: Sequence[int]) -> None:
    """Raises ValueError where a node might not take some more books. Risk holds an order open from its acceptance until a node has said
    that it is not, so no node ever has more open orders than risk counts for it."""
    state, room = risk.state, nodes[node]
    there = (state.instruments["node"] == node) | np.isin(state.instruments["code"], np.array(instruments, np.uint64))
    if np.count_nonzero(there) > NODE_INSTRUMENTS:
        raise ValueError(f"move: node {node} has room for {NODE_INSTRUMENTS} instruments")
    if int(state.tables["orders"][0]) <= room:
        return
    its = state.positions["instrument"][state.orders["position"][state.orders["state"] != 0]]
    if (count := np.count_nonzero(there[its])) > room:
        raise ValueError(f"move: node {node} has room for {room} open orders, and would have {count}")


def reroute(risk: Risk, control: Mapping[str, Any] | None) -> None:
    """Has orders go where a "move" record carries their books, and new instruments where a "weights" record wants them."""
    if control is None:
        return
    if control["type"] == "weights":
        risk.weigh(control)
    elif control["type"] == "move":
        moved = np.isin(risk.state.instruments["code"], np.array(control["instruments"], np.uint64))
        risk.state.instruments["node"][moved] = control["to"]


class NodesState:
    """Nodes alone, by number."""

    def __init__(self, nodes: Iterable[MatchingNode]) -> None:
        self.nodes = {node.number: node for node in nodes}

    def apply(self, batch: Batch) -> None:
        """Moves on by a batch."""
        for _ in self.reports(batch):
            pass

    def reports(self, batch: Batch) -> Iterator[np.ndarray]:
        """Moves on by a batch; what each node reports of it, a view that holds until that node's next."""
        carry_books(self.nodes, batch.control)
        yield from self.applied(batch)

    def applied(self, batch: Batch) -> Iterator[np.ndarray]:
        """As :meth:`reports`, of a batch whose books have been carried."""
        for node in self.nodes.values():
            yield node.apply(batch)

    def room(self) -> int:
        """How many orders :meth:`apply` may be given at once."""
        return MERGED_ORDERS

    def parts(self) -> dict[str, np.ndarray]:
        """The live arrays by name."""
        return {
            _NODE.format(number) + name: part
            for number, node in self.nodes.items()
            for name, part in node.state_parts().items()
        }

    def load(self, parts: Mapping[str, np.ndarray]) -> None:
        """Goes on from :meth:`parts`, or those of a :class:`GatewayState`. Raises ValueError for those of other nodes."""
        for number, node in self.nodes.items():
            node.load_parts(_below(parts, _NODE.format(number)))

    def begin(self, directory: Path, snapshot: Snapshot) -> None:
        """Goes on, newly made, from a snapshot of a journal's directory. Raises as :meth:`load`."""
        self.load(snapshot.parts)


class GatewayState(NodesState):
    """Risk and the nodes that it hears of."""

    def __init__(self, risk: Risk, nodes: Iterable[MatchingNode]) -> None:
        super().__init__(nodes)
        self.risk = risk
        self._forgotten = np.zeros(FLOW_NUMBERS, np.uint64)

    def apply(self, batch: Batch) -> None:
        """Moves on by a batch. Raises ValueError where risk has no room for it."""
        self.risk.restore(batch)
        if batch.control is not None and batch.control["type"] == "new_day":
            self._forgotten[:] = batch.first_sequence
        elif batch.control is not None and batch.control["type"] == "session_day":
            self._forgotten[batch.control["flow"]] = batch.first_sequence
        reroute(self.risk, batch.control)
        for reports in self.reports(batch):
            self.risk.settle(reports)

    def room(self) -> int:
        """See :meth:`NodesState.room`. Risk holds them all open until it hears what became of them."""
        return len(self.risk.state.orders) - int(self.risk.state.tables["orders"][0])

    def parts(self) -> dict[str, np.ndarray]:
        """The live arrays by name, without client order ids."""
        parts = (
            super().parts()
            | {FORGOTTEN: self._forgotten}
            | {_RISK + name: part for name, part in self.risk.state_parts().items()}
        )
        if self.risk.weights_record is not None:
            parts[_WEIGHTS] = np.frombuffer(json.dumps(self.risk.weights_record).encode(), np.uint8)
        return parts

    def load(self, parts: Mapping[str, np.ndarray]) -> None:
        """Goes on from :meth:`parts`. Raises ValueError for those of another gateway."""
        super().load(parts)
        if FORGOTTEN not in parts:
            raise ValueError(f"the state has no part '{FORGOTTEN}'")
        self._forgotten = parts[FORGOTTEN]
        mine = _below(parts, _RISK)
        nodes = mine["instruments"]["node"].copy()
        self.risk.load_parts(mine)
        if _WEIGHTS in parts:
            self.risk.weigh(json.loads(parts[_WEIGHTS].tobytes()))
        # Where moves have carried the books, which the router knows nothing of.
        self.risk.state.instruments["node"] = nodes

    def begin(self, directory: Path, snapshot: Snapshot) -> None:
        """See :meth:`NodesState.begin`. Raises CorruptJournal where client order ids are missing."""
        super().begin(directory, snapshot)
        for ids in read_ids(directory, self._forgotten, snapshot.position.sequence):
            self.risk.remember_client_order_ids(ids)


class StateBesideIds(GatewayState):
    """The state of a gateway whose client order ids are elsewhere: those of ``risk`` here are only passing through."""

    def apply(self, batch: Batch) -> None:
        """See :meth:`GatewayState.apply`."""
        if self.risk.client_order_ids + len(batch) > self.risk.ids.room:
            self._pass_on(self.risk.take_client_order_ids())
        super().apply(batch)

    def begin(self, directory: Path, snapshot: Snapshot) -> None:
        """See :meth:`NodesState.begin`."""
        self.load(snapshot.parts)

    def _pass_on(self, ids: np.ndarray) -> None:
        """These were journaled since the last ones."""


class FollowedState(StateBesideIds):
    """The state of a follower of ``directory``: it writes client order ids beside the segments, each once."""

    def __init__(self, risk: Risk, nodes: Iterable[MatchingNode], directory: Path) -> None:
        super().__init__(risk, nodes)
        self._directory = directory
        self._begin: int | None = None
        self._end = 0
        self._taken: list[np.ndarray] = []

    def apply(self, batch: Batch) -> None:
        """See :meth:`GatewayState.apply`. Raises OSError, too."""
        if self._begin is None:
            self._begin = self._end = batch.first_sequence
        if batch.control is not None and batch.control["type"] in FORGETTING:
            # What is forgotten ends with a file, and needs not be looked for in it.
            self._write_ids()
        super().apply(batch)
        self._end += len(batch)

    def parts(self) -> dict[str, np.ndarray]:
        """See :meth:`GatewayState.parts`. What a snapshot of them needs of client order ids is durable then. Raises OSError."""
        self._write_ids()
        return super().parts()

    def _pass_on(self, ids: np.ndarray) -> None:
        self._taken.append(ids)
        if sum(map(len, self._taken)) >= FILE_IDS:
            self._write_ids()

    def _write_ids(self) -> None:
        if self._begin is not None and self._end > self._begin:
            ids = np.concatenate([*self._taken, self.risk.take_client_order_ids()])
            write_ids(self._directory, self._begin, self._end, ids)
            self._begin = self._end
            self._taken.clear()


class OtherJournal(ValueError):
    """A journal that is not the one of the rings."""


def begin_at_snapshot(state: NodesState, directory: Path, fits: Callable[[Position], bool]) -> Position | None:
    """Loads the newest whole snapshot whose position fits into a new state; that position, None where there is no such snapshot."""
    snapshot = newest_snapshot(directory, verify=False, fits=fits)
    if snapshot is None:
        return None
    state.begin(directory, snapshot)
    return snapshot.position


def recover(state: NodesState, directory: Path, before: int) -> tuple[int, Position]:
    """Moves a new state on by all durable batches with numbers below ``before``: from the newest snapshot that is not beyond, then from the
    journal. Returns how many orders the journal had to be read for, and the position behind.

    Raises OtherJournal where the journal ends before."""
    reader = read_journal(directory, begin_at_snapshot(state, directory, lambda each: each.batch <= before))
    orders = 0
    for batch in merge_small(_batches_before(reader, before), state.room):
        state.apply(batch)
        orders += len(batch)
    if reader.position.batch != before:
        raise OtherJournal(f"{directory}: ends at batch {reader.position.batch}, and batch {before - 1} was durable")
    return orders, reader.position


def _batches_before(reader: JournalReader, before: int) -> Iterator[Batch]:
    while reader.position.batch < before and (batch := next(reader, None)) is not None:
        yield batch


def _below(parts: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}
