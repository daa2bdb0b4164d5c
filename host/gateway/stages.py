"""The gateway's three stages, each to be run by a thread or a process of its own over the same rings.

    card's ring → RiskStage → batch ring → JournalStage → (durable) → NodeStage → sessions' rings
                      ↑                                                   │
                      └──────────────── reports, for risk ────────────────┘

A stage takes up what its predecessor left in the shared memory and the journal, so that one that was killed is simply made
again: no order is lost, none is applied or reported twice. ``step`` does what there is to do, waits at most as long as it is
told for something, and says whether it did anything.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hdl.frame import FRAME_DTYPE
from host.card.ring import Lapped, Ring
from host.cluster.matching_node import MatchingNode
from host.cluster.report import REPORT_DTYPE, ReportKind
from host.gateway.batch_ring import CARD_RING, CARD_RING_BATCH, JOURNAL, BatchRing
from host.gateway.handover import Handover
from host.gateway.id_table import IdTable
from host.gateway.risk import Risk
from host.gateway.route_loop import (
    LAPPED,
    NO_END,
    PLACE_DTYPE,
    SLICE,
    CardArrays,
    Watch,
    make_watch,
    publish_control,
    route_loop,
)
from host.gateway.session_ring import (
    DETACHED,
    NO_REFUSALS,
    REFUSAL_DTYPE,
    outlet_of,
    put_reports,
    refuse_orders,
    take_reports,
)
from host.gateway.state import (
    FORGETTING,
    GatewayState,
    NodesState,
    OtherJournal,
    StateBesideIds,
    carry_books,
    complete_control,
    recover,
    reroute,
)
from host.gateway.verdict import Verdict
from host.journal import Batch, Journal
from host.journal.batch import DECISION_DTYPE, BatchKind, control_batch
from host.journal.group_commit import GroupCommit
from host.journal.scan import Position
from host.memory import read_only
from host.ring.mapping import file_identity
from host.ring.records import RecordRings, has_room, move_cursor, wait_for_cursor, wait_for_record

if TYPE_CHECKING:
    from host.gateway.follow_loop import BookFollower
    from host.market_data import Books

SETTLE_NS = 1_000_000
"""How long the risk loop runs before it looks at what nodes reported."""

PATIENCE_NS = 200_000_000
"""How long a node waits for a session that does not read before it sends it no more."""

ROOM_WAIT_S = 50e-6
"""Between two looks at a ring that is full."""


class Stage(Protocol):
    """What a thread or process runs."""

    name: str

    def step(self, spin_ns: int) -> bool:
        """Do what there is to do, waiting up to ``spin_ns`` for it; whether anything was done."""

    def figures(self) -> dict[str, int]:
        """What it has done since it was made, by the names of ``host.gateway.status``."""


class RiskStage:
    """From the card's ring to published batches.

    ``batches`` and ``ring`` are taken up where a predecessor left them; ``risk`` must hold everything up to the last published
    batch already (:func:`recover_risk`). ``feedback`` has a ring for each module of nodes, ``watch`` is what a measurement wants of
    its loop, ``nodes`` are the nodes that books may be moved between, with their room for open orders. ``books``, new ones,
    follow the ring's market data, and risk their best prices. Orders are gathered for ``gather_ns`` before a batch that is not full is
    published.
    """

    name = "risk"

    def __init__(
        self,
        risk: Risk,
        ring: Ring,
        batches: BatchRing,
        feedback: RecordRings | None = None,
        watch: Watch | None = None,
        nodes: Mapping[int, int] | None = None,
        books: "Books | None" = None,
        gather_ns: int = 0,
    ) -> None:
        risk.reserve(SLICE)
        self.risk = risk
        self._feedback = feedback
        self._nodes = nodes or {}
        self._controls: deque[Mapping[str, Any]] = deque()
        self.refused: list[str] = []
        self._ring = ring
        self._batches = batches
        self._watch = make_watch() if watch is None else watch
        self._decisions = np.zeros(SLICE, DECISION_DTYPE)
        self._card = CardArrays(
            read_only(ring.frames, FRAME_DTYPE), ring.frame_bytes, read_only(ring.payload, np.uint8), ring.words
        )
        self.place = np.zeros(1, PLACE_DTYPE)
        published = batches.ring.written()
        identity = file_identity(ring.path)
        words = batches.arrays.words
        if words[CARD_RING] != identity:
            # Another ring: what older batches say of frames is of the one before.
            words[CARD_RING_BATCH] = published
            words[CARD_RING] = identity
        # What lies before the last batch's end has been taken, even if its credit was not given back.
        end = batches.frames_end()
        while ring.position < end:
            frames = ring.poll(end - ring.position)
            ring.release(len(frames))
        place = self.place[0]
        place["position"] = place["released"] = ring.position
        place["payload_read"] = place["payload_end"] = ring.payload_read
        place["batch"] = published
        place["until"] = NO_END
        place["gather_ns"] = gather_ns
        self._follower = None if books is None else self._follow(books)
        self._recovered = batches.ring.base + published
        """Reports of batches before this one have been settled by the recovery."""
        risk.vouch_for_ids(batches.identity)

    def control(self, record: Mapping[str, Any]) -> None:
        """Has a control record take effect, and journaled, between what was decided about before and what comes next: in one of
        the next steps. What risk can't do is not done, and is said in ``refused``. Raises ValueError for what is no record."""
        text = control_batch(record, 0, 0).payload
        if len(text) > self._batches.payload_room:
            raise ValueError(
                f"a control record of {len(text)} bytes does not fit a batch of {self._batches.payload_room}"
            )
        self._controls.append(dict(record))

    def step(self, spin_ns: int) -> bool:
        """See :class:`Stage`. Raises Lapped where the card has overrun the host."""
        frames = int(self.place["frames"][0])
        moved = self._settle() or self.take_controls()
        if self._follower is not None:
            answer = self._follower.run(spin_ns, SETTLE_NS)
        else:
            answer = route_loop(
                self._card, self.risk.state, self._batches.arrays, self.place, self._decisions, self._watch,
                spin_ns, SETTLE_NS,
            )  # fmt: skip
        if answer == LAPPED:
            raise Lapped(f"the card has overrun frame {self.place['position'][0]}, which was not released yet")
        return moved or int(self.place["frames"][0]) > frames

    def _follow(self, books: "Books") -> "BookFollower":
        # Books bring Arrow, and gateways without market data start sooner without.
        from host.gateway.follow_loop import BookFollower, RouteArguments

        route = RouteArguments(self._card, self._batches.arrays, self.place, self._decisions, self._watch)
        return BookFollower(books, self.risk, route)

    def _settle(self) -> bool:
        """Takes what nodes reported since."""
        if self._feedback is None:
            return False
        if len(self._feedback) > 1:
            return self._settle_merged(self._feedback)
        ring, settled = self._feedback[0], False
        while len(records := ring.poll()):
            self.risk.settle(records["report"][np.searchsorted(records["batch"], self._recovered) :])
            ring.release(len(records))
            settled = True
        return settled

    def _settle_merged(self, feedback: RecordRings) -> bool:
        """As :meth:`_settle`, where an instrument's reports may come from several modules, one after the other."""
        # Of batches before the slowest module's, all is there. Of its present one no instrument is reported by two.
        ring = self._batches.ring
        slowest = min(ring.cursor(1 + reader) for reader in range(len(feedback)))
        records = take_reports(feedback, ring.base + slowest)
        self.risk.settle(records["report"][np.searchsorted(records["batch"], self._recovered) :])
        return len(records) > 0

    def take_controls(self) -> bool:
        """Let the records that :meth:`control` was given take effect, as far as can be now; whether any did."""
        published = False
        while self._controls and self._may_publish():
            try:
                record = complete_control(self.risk, self._nodes, self._controls.popleft())
                self.risk.apply_control(record)
            except (ValueError, TypeError, KeyError) as error:
                self.refused.append(str(error))
                continue
            reroute(self.risk, record)
            text = control_batch(record, 0, 0).payload
            publish_control(self._card, self._batches.arrays, self.place, text)
            if record["type"] in FORGETTING:
                self.risk.vouch_for_ids(self._batches.identity)
            published = True
        return published

    def _may_publish(self) -> bool:
        """Whether all that was decided about is in batches, and there is room for one more."""
        place = self.place[0]
        ring = self._batches.ring
        following = int(place["batch"]) + (1 if place["count"] else 0)
        return bool(place["taken"] == place["decided"] and has_room(ring.words, ring.slots, following))

    def figures(self) -> dict[str, int]:
        """See :class:`Stage`."""
        counters, place = self.risk.state.counters[0], self.place[0]
        verdicts = counters["verdicts"]
        return {
            "frames": int(place["frames"]),
            "accepted": int(verdicts[Verdict.ACCEPTED]),
            "rejected": int(verdicts[Verdict.MALFORMED + 1 :].sum()),
            "malformed": int(verdicts[Verdict.MALFORMED]),
            "batches": int(place["batch"]),
            "waits": int(place["waits"]),
        }


class JournalStage:
    """Published batches become durable. Its journal's next batch must be one of the ring's: see :func:`ring_base`."""

    name = "journal"

    def __init__(self, journal: Journal, batches: BatchRing, *, grouped: bool = True) -> None:
        self._journal = journal
        self._batches = batches
        self._group = GroupCommit(journal, self._say) if grouped else None
        self._orders = 0
        position = journal.position
        self._next = position.batch - batches.ring.base
        published, durable = batches.ring.written(), batches.ring.cursor(JOURNAL)
        if not durable <= self._next <= published:
            raise OtherJournal(
                f"{journal.directory}: the journal's next batch is {position.batch}, the ring has durable ones to "
                f"{batches.ring.base + durable} and others to {batches.ring.base + published}"
            )
        # A batch that the predecessor wrote whole, and of which it could not say so any more, is durable now.
        records = batches.arrays.records
        sequence = position.sequence
        for number in range(self._next - 1, durable - 1, -1):
            record = records[number % len(records)]
            sequence -= int(record["count"])
            record["first_sequence"] = sequence
        self._say(position)

    def step(self, spin_ns: int) -> bool:
        """See :class:`Stage`. Raises JournalError."""
        ring = self._batches.ring
        count = int(wait_for_record(ring.slot_bytes, ring.slots, self._next, ring.slots, spin_ns))
        for _ in range(count):
            record = self._batches.arrays.records[self._next % ring.slots]
            # Before it is written: the thread that syncs may say it is durable, and nodes read this, at once.
            record["first_sequence"] = self._journal.next_sequence
            if record["kind"] == BatchKind.CONTROL:
                batch = self._append_control(self._next)
            else:
                batch = self._journal.append(self._batches.buffer(self._next))
            self._orders += len(batch)
            self._next += 1
        if self._group is not None:
            # While it syncs, the next batches are written.
            self._group.request()
        elif count:
            self._journal.commit()
            self._say(self._journal.committed)
        return count > 0

    def figures(self) -> dict[str, int]:
        """See :class:`Stage`."""
        return {
            "journaled": self._orders,
            "batches": self._batches.ring.cursor(JOURNAL),
            "bytes": self._journal.written_bytes,
            "sequence": self._journal.committed_sequence,
        }

    def close(self) -> None:
        """Make durable what was written, and end."""
        if self._group is not None:
            self._group.close()

    def _append_control(self, number: int) -> Batch:
        slot = number % self._batches.ring.slots
        text = self._batches.arrays.payload[slot, : int(self._batches.arrays.records[slot]["payload_bytes"])]
        return self._journal.append_control(json.loads(text.tobytes()))

    def _say(self, durable: Position) -> None:
        ring, now = self._batches.ring, time.monotonic_ns()
        for number in range(ring.cursor(JOURNAL), durable.batch - ring.base):
            ring.records["durable"][number % ring.slots] = now
        move_cursor(ring.words, JOURNAL, durable.batch - ring.base)


class NodeStage:
    """Durable batches are applied by some nodes, and reported to the sessions and to risk.

    ``reader`` is its cursor in the batch ring, from 1; the first one's also reports what risk refused. ``nodes`` must hold
    everything before that cursor already (:func:`recover_nodes`). ``sessions`` are as many sets of rings as there
    are such stages, ``feedback`` a ring for each, read by risk. ``handover`` carries books between stages; without
    it, all nodes are here.
    """

    def __init__(
        self,
        nodes: Sequence[MatchingNode],
        batches: BatchRing,
        sessions: RecordRings,
        feedback: RecordRings | None = None,
        *,
        reader: int = 1,
        readers: int = 1,
        handover: Handover | None = None,
        stop: Callable[[], bool] = lambda: False,
        patience_ns: int = PATIENCE_NS,
    ) -> None:
        self.name = "nodes" if reader == 1 else f"nodes-{reader}"
        self._nodes = NodesState(nodes)
        for node in nodes:
            node.prepare()
        self._batches = batches
        self._outlets = [outlet_of(sessions, reader - 1, readers)]
        if feedback is not None:
            # An order that rests is what risk has booked it as.
            self._outlets.append(outlet_of(feedback, reader - 1, readers, unwanted=(ReportKind.NEW,)))
        self._reader = reader
        self._handover = handover
        self._stop = stop
        self._patience_ns = patience_ns
        self._next = batches.ring.cursor(reader)
        self._refused = np.zeros(batches.slot_frames, REPORT_DTYPE)
        self._refusals = np.zeros(batches.slot_frames, REFUSAL_DTYPE)
        self._reports = self._detached = self._latency_ns = 0

    def step(self, spin_ns: int) -> bool:
        """See :class:`Stage`."""
        there = int(wait_for_cursor(self._batches.ring.words, JOURNAL, self._next, spin_ns))
        if there <= self._next:
            return False
        while self._next < there:
            batch = self._batches.batch(self._next)
            if not self._apply(batch):
                return True
            durable = int(self._batches.ring.records["durable"][self._next % self._batches.ring.slots])
            self._latency_ns += time.monotonic_ns() - durable
            self._next += 1
            move_cursor(self._batches.ring.words, self._reader, self._next)
        return True

    def figures(self) -> dict[str, int]:
        """See :class:`Stage`."""
        return {
            "applied": sum(node.applied for node in self._nodes.nodes.values()),
            "trades": sum(node.trades for node in self._nodes.nodes.values()),
            "open": sum(node.open_orders for node in self._nodes.nodes.values()),
            "batches": self._next,
            "reports": self._reports,
            "detached": self._detached,
            "latency_ns": self._latency_ns,
        }

    def state_hashes(self) -> dict[str, str]:
        """The hash of each node's state, by its number."""
        return {str(node.number): node.state_hash() for node in self._nodes.nodes.values()}

    def _apply(self, batch: Batch) -> bool:
        """Applies a batch and tells of it; False where the stage was stopped meanwhile."""
        ordinal = 0
        if self._reader == 1:
            count = refuse_orders(
                batch.frames, batch.decisions, batch.payload, batch.first_sequence, self._refused, self._refusals
            )
            if not self._tell(self._refused[:count], self._refusals[:count], batch.number, ordinal, self._outlets[:1]):
                return False
            ordinal += int(count)
        if self._handover is None:
            carry_books(self._nodes.nodes, batch.control)
        elif not self._handover.carry(self._nodes.nodes, batch, self._stop):
            return False
        for reports in self._nodes.applied(batch):
            if not self._tell(reports, NO_REFUSALS, batch.number, ordinal, self._outlets):
                return False
            ordinal += len(reports)
        self._reports += ordinal
        return True

    def _tell(self, reports: np.ndarray, refusals: np.ndarray, batch: int, ordinal: int, outlets: list) -> bool:
        for outlet in outlets:
            begin, waited_since = 0, 0
            while True:
                begin, ring = put_reports(outlet, reports, refusals, batch, ordinal, begin)
                if ring < 0:
                    break
                if self._stop():
                    return False
                now = time.monotonic_ns()
                waited_since = waited_since or now
                if outlet is self._outlets[0] and now - waited_since > self._patience_ns:
                    outlet.words[ring, DETACHED] = 1
                    self._detached += 1
                    waited_since = 0
                time.sleep(ROOM_WAIT_S)
        return True


def ring_base(journal: Journal) -> int:
    """The number of the first batch of a new batch ring."""
    return journal.position.batch


def recover_nodes(nodes: Iterable[MatchingNode], directory: Path, before: int) -> int:
    """Brings new nodes to where they were behind the batches with numbers below ``before``; returns how many orders the
    journal had to be read for."""
    return recover(NodesState(nodes), directory, before)[0]


def recover_risk(
    risk: Risk, nodes: Iterable[MatchingNode], directory: Path, batches: BatchRing, kept: IdTable | None = None
) -> int:
    """Brings a new risk to where it was behind the last published batch: durable ones from snapshot and journal, the others from
    the ring. ``nodes`` are new ones whose reports it needs meanwhile. ``kept``: a table that holds the client order ids already
    (:func:`keep_ids`), which it takes over. Returns how many orders were read."""
    state = GatewayState(risk, nodes) if kept is None else StateBesideIds(risk, nodes)
    durable = batches.ring.cursor(JOURNAL)
    orders, position = recover(state, directory, batches.ring.base + durable)
    sequence = position.sequence
    for number in range(durable, batches.ring.written()):
        batch = batches.batch(number, sequence)
        state.apply(batch)
        sequence += len(batch)
        orders += len(batch)
    if kept is not None:
        risk.take_over(kept)
    return orders


def keep_ids(ids: IdTable, batches: BatchRing) -> bool:
    """Makes a predecessor's table that of the orders in published batches; False where it has to be filled anew."""
    return ids.keep(batches.identity, batches.frames_end())
