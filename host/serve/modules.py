"""The modules of a gateway as stages over the rings of a run directory, and the thread that runs each."""

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from host.card.ring import Ring
from host.cluster.matching_node import MatchingNode
from host.gateway.batch_ring import JOURNAL, BatchRing
from host.gateway.handover import Handover
from host.gateway.id_table import IdTable
from host.gateway.risk import Risk
from host.gateway.route_loop import SLICE
from host.gateway.session_ring import create_session_rings, open_session_rings
from host.gateway.stages import (
    JournalStage,
    NodeStage,
    RiskStage,
    Stage,
    keep_ids,
    recover_nodes,
    recover_risk,
    ring_base,
)
from host.gateway.state import FollowedState, OtherJournal
from host.gateway.terms import Terms
from host.generate.load import Load, load_lap
from host.journal import Journal, newest_snapshot, read_journal
from host.journal.follower import Follower
from host.journal.retention import Retention
from host.ring.mapping import SHARED_MEMORY
from host.ring.records import RecordRingError
from host.serve.balancer import DRAIN, RESTORE, Balancer
from host.serve.config import NODE_MODULES, SESSIONS, Config, ConfigError
from host.serve.control import Changes
from host.serve.status import DONE, SERVING, STARTING, Status

if TYPE_CHECKING:
    from hdl.sbe_venue import Venue
    from host.capture.packets import Packets
    from host.market_data import Books

BEAT_NS = 50_000_000
"""Between two signs of life."""

RING_WAIT_S = 0.002
"""Between two looks for a ring that another module makes."""

CARD, BATCHES, SESSION, FEEDBACK, STATUS = "card", "batches", "sessions", "feedback", "status"
IDS, BOOKS = "ids", "books"
"""Files of the run directory, and the folder in which books are handed over."""

HASHES = ".hashes"
"""What the file ends in to which a module of nodes writes the hashes of their states at its end."""

FEEDBACK_SLOTS = 1 << 16
"""Reports on their way back to risk: twice what a batch gives, and more."""

FOLLOWER = "snapshots"
"""No order waits for snapshots, but a restart reads all that lies behind the last one: so they have their share of the processors."""

PASSING_IDS = 1 << 16
"""Room for client order ids where they are only passing through: a table that stays in the caches."""

LEISURELY_S = {"sessions": 0.001, FOLLOWER: 0.05}
"""Modules that no order waits for, and how long they sleep between two looks, whatever the configuration says."""

STARTING_S = 0.001
"""How long a module with nothing to do sleeps while another one is being started, which needs the processors more."""

LOAD_STEP_NS = 2_000_000
"""How long a load writes before its thread looks around."""


class Stopped(Exception):
    """The module was told to end before it began."""


def ring_path(config: Config) -> Path:
    """Where the card's ring is."""
    card: str = config["gateway.card"]
    return Path(card.removeprefix("ring:")) if card.startswith("ring:") else config.run / CARD


def lap_path(run: Path, orders: int) -> Path:
    """Where a lap of made-up orders is kept."""
    return run / f"lap-{orders}.npz"


def prepare(config: Config) -> None:
    """Make what no module makes: the rings of reports to sessions and to risk, where there are none that fit.

    Raises ConfigError where batches are under way between other modules of nodes than there are now."""
    modules = len(config.node_modules)
    batches = config.run / BATCHES
    if batches.exists():
        with contextlib.suppress(RecordRingError), BatchRing.open(batches) as opened:
            if (cursors := opened.ring.cursors - JOURNAL - 1) != modules:
                raise ConfigError(
                    f"{config.path}: [nodes] modules is {modules}, and the rings of {config.run} are of {cursors}: "
                    "have the gateway end once more as it was, then remove them"
                )
    else:
        shutil.rmtree(config.run / BOOKS, ignore_errors=True)
    (config.run / BOOKS).mkdir(exist_ok=True)
    for module in NODE_MODULES:
        (config.run / f"{module}{HASHES}").unlink(missing_ok=True)
    for name, rings, slots in (
        (SESSION, modules * SESSIONS, config["rings.session_slots"]),
        (FEEDBACK, modules, FEEDBACK_SLOTS),
    ):
        path = config.run / name
        try:
            with open_session_rings(path) as there:
                if there.records.shape == (rings, slots):
                    continue
        except (FileNotFoundError, ValueError):
            pass
        create_session_rings(path, rings=rings, slots=slots, huge_pages=config["rings.huge_pages"]).close()


def read_hashes(run: Path) -> dict[str, str]:
    """The hash of each node's state at the end of the gateway, by its number."""
    found: dict[str, str] = {}
    for path in run.glob(f"*{HASHES}"):
        found |= json.loads(path.read_text())
    return found


def _wait_for(path: Path, stop: Callable[[], bool]) -> None:
    while not path.exists():
        if stop():
            raise Stopped
        time.sleep(RING_WAIT_S)


class LoadStage:
    """A card of orders that are made up."""

    name = "card"

    def __init__(self, config: Config) -> None:
        path = ring_path(config)
        ring = Ring.open(path) if path.exists() else _new_ring(config, path)
        self._load = Load(load_lap(lap_path(config.run, config["traffic.lap_orders"])), ring)
        self._begun = self._load.number
        self._until = config["traffic.orders"] or 1 << 62
        self._load.pace(config["traffic.orders_per_s"] or None, time.monotonic_ns())

    @property
    def done(self) -> bool:
        """Whether all was sent."""
        return self._load.number >= self._until

    def step(self, spin_ns: int) -> bool:
        """See :class:`host.gateway.stages.Stage`."""
        before = self._load.number
        return not self.done and self._load.run(self._until, max(spin_ns, LOAD_STEP_NS)) > before

    def figures(self) -> dict[str, int]:
        """See :class:`host.gateway.stages.Stage`."""
        return {"sent": self._load.number - self._begun}


def _new_ring(config: Config, path: Path) -> Ring:
    new = path.with_suffix(".new")
    Ring.create(
        new, config["rings.frame_slots"], config["rings.payload_bytes"], huge_pages=config["rings.huge_pages"]
    ).close()
    new.rename(path)
    return Ring.open(path)


class CardStage:
    """A card that is fed with captures."""

    name = "card"

    def __init__(self, config: Config) -> None:
        # Not for those who make orders up: they start sooner without.
        from host.capture.reader import open_captures
        from host.card import open_card
        from host.playback import flows_of

        venue = _venue(config)
        captures = open_captures([Path(each) for each in config["traffic.captures"]])
        flows, _left_out = flows_of(captures, venue)
        path = ring_path(config)
        new = path.with_suffix(".new")
        self._card = open_card(
            config["gateway.card"], flows, venue, ring=new,
            frame_slots=config["rings.frame_slots"], payload_bytes=config["rings.payload_bytes"],
        )  # fmt: skip
        new.rename(path)
        self._batches = captures.batches()
        self._packets: Packets | None = None
        self._done = 0
        self._sent = 0
        self.done = False

    def step(self, spin_ns: int) -> bool:
        """See :class:`host.gateway.stages.Stage`."""
        if self._packets is None or self._done == len(self._packets):
            self._packets, self._done = next(self._batches, None), 0
            if self._packets is None:
                self.done = True
                return False
        done = self._card.feed(self._packets, self._done)
        moved, self._done = done - self._done, done
        self._sent += moved
        return moved > 0

    def figures(self) -> dict[str, int]:
        """See :class:`host.gateway.stages.Stage`."""
        return {"sent": self._sent}


def _venue(config: Config) -> "Venue | None":
    from hdl.sbe_venue import load_venue

    schema = config["gateway.schema"]
    return load_venue(Path(schema), config["gateway.profile"]) if schema else None


def make_books(config: Config) -> "Books | None":
    """Empty books of the SBE flows of the captures; None where there is no schema, or nobody says which flows there are."""
    captures = config["traffic.captures"]
    # What comes through a pipe can be read once, and the card reads it.
    if not config["gateway.schema"] or not captures or not all(Path(each).is_file() for each in captures):
        return None
    from hdl.flow import Parser
    from host.capture.reader import open_captures
    from host.market_data import Books, Feed
    from host.playback import flows_of
    from host.playback.feeds import SAMPLE_PACKETS, channels_of, feeds_of, with_feeds

    venue = _venue(config)
    opened = open_captures([Path(each) for each in captures])
    flows, _left_out = flows_of(opened, venue)
    samples = [each.sample(SAMPLE_PACKETS) for each in opened.captures]
    # Copies of the same packets are one channel, whether the card arbitrates them or not.
    channels = channels_of(with_feeds(flows, feeds_of([], flows, samples, venue)))
    numbers = {channel: number for number, channel in enumerate(dict.fromkeys(channels))}
    feeds = {number: Feed(numbers[channels[number]]) for number, flow in enumerate(flows) if flow.parser is Parser.SBE}
    return Books(flows, venue, feeds=feeds, interval=0, trades=False) if feeds else None


def open_ids(config: Config, batches: BatchRing) -> tuple[IdTable, bool]:
    """The table of risk's client order ids, and whether it holds those of all batches; else it is empty.

    It is in the run directory where that is shared memory with room for it, and stays there from one process to the next, filled and with
    its pages at hand. Elsewhere it is in memory of this process."""
    room, undone = config["risk.client_order_ids"], batches.slot_frames + SLICE
    path = config.run / IDS
    if SHARED_MEMORY not in config.run.resolve().parents:
        return IdTable(room), False
    table = IdTable.open(path, room, undone)
    if table is not None:
        kept = keep_ids(table, batches)
        if not kept:
            table.clear()
        return table, kept
    path.unlink(missing_ok=True)
    if shutil.disk_usage(config.run).free < IdTable.size(room, undone):
        return IdTable(room), False
    return IdTable.create(path, room, undone, huge_pages=config["rings.huge_pages"]), False


def make_risk(config: Config, ids: IdTable, *, before: int | None = None) -> Risk:
    """Risk with nothing decided yet: with the limits of their file, or with none where the journal begins with some. It will be brought to
    where it was behind the batches with numbers below ``before``, by default behind all; ``ids`` as in :class:`Risk`."""
    rooms = {
        "account_room": config["risk.accounts"],
        "position_room": config["risk.positions"],
        "order_room": config["nodes.open_orders"] * len(config.limits.nodes),
    }
    # One that was written while the ring's cursor still lay behind it does not help: then the journal is read, for which there must be room.
    if newest_snapshot(config.journal, verify=False, fits=lambda each: before is None or each.batch <= before):
        # Its tables come from there, and need not be touched for nothing.
        rooms = dict.fromkeys(rooms, 1)
        terms = Terms()
    else:
        terms = Terms() if _begins_with_limits(config.journal) else config.limits.terms
    risk = Risk(
        terms.instruments, terms.accounts, sessions=terms.sessions, positions=terms.positions,
        default_account=terms.default_account, ids=ids, **rooms,
    )  # fmt: skip
    risk.route(config.limits.router())
    return risk


def _begins_with_limits(journal: Path) -> bool:
    first = next(read_journal(journal), None)
    return first is not None and first.control is not None and first.control["type"] == "limits"


def make_nodes(config: Config) -> list[MatchingNode]:
    """Empty nodes, one for each of the limits file."""
    return [MatchingNode(number, orders=config["nodes.open_orders"]) for number in config.limits.nodes]


class RiskModule(RiskStage):
    """The risk stage with the changes that come from outside, and those of the nodes' weights."""

    def __init__(
        self, config: Config, risk: Risk, batches: BatchRing, status: Status, books: "Books | None" = None
    ) -> None:
        super().__init__(
            risk,
            Ring.open(ring_path(config)),
            batches,
            open_session_rings(config.run / FEEDBACK),
            nodes=dict.fromkeys(config.limits.nodes, config["nodes.open_orders"]),
            books=books,
            gather_ns=config["rings.gather_us"] * 1000,
        )
        self._balancer = Balancer(config, risk, batches, status, time.monotonic_ns())
        self._changes = Changes(config.run, Path(config["gateway.limits"]))
        # A journal begins with its limits, and says what was changed in their file meanwhile.
        begins = not batches.ring.base + batches.ring.written()
        record = risk.terms.record() if begins else risk.limits_record(config.limits.terms)
        if record is not None:
            self.control(record)

    def control(self, record: Mapping[str, Any]) -> None:
        """See :meth:`RiskStage.control`. Where books are is the balancer's: what comes of a "drain" or "restore" is journaled."""
        kind = record.get("type")
        if kind == "weights" or (kind == "move" and self._balancer.moves_books):
            raise ValueError(f"{kind}: the router says where books are; drain a node, or set [health] moves_per_s = 0")
        if kind in (DRAIN, RESTORE):
            record = self._balancer.ask(record, time.monotonic_ns())
        super().control(record)

    def step(self, spin_ns: int) -> bool:
        """See :class:`host.gateway.stages.Stage`."""
        self._changes.take(self, self.risk)
        self._balance()
        return super().step(spin_ns)

    def figures(self) -> dict[str, int]:
        """See :class:`host.gateway.stages.Stage`."""
        return super().figures() | {"moved": self._balancer.moved}

    def _balance(self) -> None:
        """Has a record of the balancer take effect at once, so that it plans the next one from what is."""
        now = time.monotonic_ns()
        if not self._balancer.is_due(now) or self._controls or not self._may_publish():
            return
        if (record := self._balancer.step(now)) is not None:
            self.refused.clear()
            super().control(record)
            self.take_controls()
            if self.refused:
                self._balancer.refuse(record)
                self.refused.clear()


class SnapshotStage:
    """Follows the journal, writes snapshots of the state behind it, and keeps its directory within the budget."""

    name = "snapshots"

    def __init__(self, config: Config) -> None:
        state = FollowedState(make_risk(config, IdTable(PASSING_IDS)), make_nodes(config), config.journal)
        budget = config["journal.retain_bytes"]
        self._follower = Follower(
            config.journal, load=state.load, apply=state.apply, parts=state.parts,
            snapshot_segments=config["journal.snapshot_segments"],
            retention=Retention(total_bytes=budget) if budget else None,
        )  # fmt: skip

    def step(self, spin_ns: int) -> bool:
        """See :class:`host.gateway.stages.Stage`."""
        return self._follower.step() > 0

    def figures(self) -> dict[str, int]:
        """See :class:`host.gateway.stages.Stage`."""
        return {"sequence": self._follower.position.sequence - 1}


class SessionStage:
    """Reads all sessions' reports and counts them, in the place of sessions."""

    name = "sessions"

    def __init__(self, config: Config) -> None:
        self._rings = open_session_rings(config.run / SESSION)
        self._read = 0

    def step(self, spin_ns: int) -> bool:
        """See :class:`host.gateway.stages.Stage`."""
        before = self._read
        for number in range(len(self._rings)):
            ring = self._rings[number]
            count = len(ring.poll())
            if count:
                ring.release(count)
                self._read += count
        return self._read > before

    def figures(self) -> dict[str, int]:
        """See :class:`host.gateway.stages.Stage`."""
        return {"read": self._read}


def make_stage(module: str, config: Config, status: Status, stop: Callable[[], bool]) -> Stage:
    """A module, from what its predecessor left in the rings and the journal. Raises what its parts raise; Stopped."""
    if module == "card":
        return LoadStage(config) if config["gateway.card"].startswith("load:") else CardStage(config)
    if module == "sessions":
        return SessionStage(config)
    if module == FOLLOWER:
        return SnapshotStage(config)
    path = config.run / BATCHES
    if module == "journal":
        journal = Journal(config.journal, segment_bytes=config["journal.segment_bytes"])
        if not path.exists():
            new = path.with_suffix(".new")
            BatchRing.create(
                new, base=ring_base(journal), nodes=len(config.node_modules), slots=config["rings.batch_slots"],
                slot_frames=config["rings.batch_frames"], huge_pages=config["rings.huge_pages"],
            ).close()  # fmt: skip
            new.rename(path)
        return JournalStage(journal, BatchRing.open(path))
    _wait_for(path, stop)
    batches = BatchRing.open(path)
    recovered = status.row(module)
    if module in config.node_modules:
        return _node_stage(module, config, batches, recovered, stop)
    before = batches.ring.base + batches.ring.cursor(JOURNAL)
    ids, kept = open_ids(config, batches)
    risk = make_risk(config, IdTable(PASSING_IDS) if kept else ids, before=before)
    recovered["recovered"] = recover_risk(risk, make_nodes(config), config.journal, batches, kept=ids if kept else None)
    books = make_books(config)
    _wait_for(ring_path(config), stop)
    return RiskModule(config, risk, batches, status, books)


def _node_stage(
    module: str, config: Config, batches: BatchRing, recovered: np.void, stop: Callable[[], bool]
) -> NodeStage:
    modules = config.node_modules
    reader = 1 + list(modules).index(module)
    # The journal says where books were, so all nodes are made again: a move may have brought one from any of them.
    nodes = make_nodes(config)
    recovered["recovered"] = recover_nodes(nodes, config.journal, batches.ring.base + batches.ring.cursor(reader))
    return NodeStage(
        [node for node in nodes if node.number in modules[module]],
        batches, open_session_rings(config.run / SESSION), open_session_rings(config.run / FEEDBACK),
        reader=reader, readers=len(modules), stop=stop, patience_ns=config["sessions.patience_ms"] * 1_000_000,
        handover=Handover(config.run / BOOKS, {node: its for its, share in modules.items() for node in share}),
    )  # fmt: skip


class Runner:
    """Runs the modules of one process, a thread each. ``error`` is what ended one of them, if anything did."""

    def __init__(self, config: Config, modules: tuple[str, ...]) -> None:
        self._config = config
        self._modules = modules
        self._stop = threading.Event()
        self._full = threading.Event()
        self._status = Status(config.run / STATUS)
        self.error: BaseException | None = None

    def stop(self) -> None:
        """End after the present step."""
        self._stop.set()

    def stop_intake(self) -> None:
        """End the card, so that what it gave can be seen through."""
        self._full.set()

    def run(self) -> None:
        """Run until :meth:`stop`, or until a module fails: then ``error`` is set."""
        threads = [threading.Thread(target=self._guard, args=(each,), name=each) for each in self._modules]
        for thread in threads:
            thread.start()
        for thread in threads:
            # With a time limit, so that signals are seen.
            while thread.is_alive():
                thread.join(0.1)

    def _are_starting(self) -> bool:
        """Whether a module that orders wait for does not serve yet, or not again."""
        modules = (each for group in self._config.groups for each in group if each not in LEISURELY_S)
        return not all(map(self._status.serves, modules))

    def _guard(self, module: str) -> None:
        try:
            self._serve(module)
        except Stopped:
            pass
        except BaseException as error:  # every module ends with the one that failed
            self.error = self.error or error
            self._stop.set()

    def _serve(self, module: str) -> None:
        processor = self._config.pin(module)
        if processor is not None:
            os.sched_setaffinity(0, {processor})
        row = self._status.row(module)
        # The state first: nobody is to take its predecessor's for this one's.
        row["state"], row["pid"], row["began_ns"] = STARTING, os.getpid(), time.monotonic_ns()
        row["starts"] += 1
        try:
            stage = make_stage(module, self._config, self._status, self._stop.is_set)
        except (OtherJournal, RecordRingError) as error:
            rings = self._config.run
            raise OtherJournal(f"{error}: if the rings of {rings} are of another journal, remove them") from None
        row["serving_ns"], row["state"] = time.monotonic_ns(), SERVING
        spin_ns, sleep_s = self._config["wait.spin_us"] * 1000, self._config["wait.sleep_us"] / 1e6
        if module in LEISURELY_S:
            spin_ns, sleep_s = 0, LEISURELY_S[module]
        if not spin_ns:
            # Who sleeps between any two looks need not take the processor from another at once: caches are kept longer.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        beat, starting = 0, True
        over = self._full if module == "card" else self._stop
        while not over.is_set() and not self._stop.is_set():
            waits = starting and module == FOLLOWER
            moved = not waits and stage.step(0 if starting else spin_ns)
            now = time.monotonic_ns()
            if now - beat > BEAT_NS:
                beat = now
                self._status.beat(module, stage.figures())
                starting = self._are_starting()
                if getattr(stage, "done", False):
                    row["state"] = DONE
            # Who never polls gathers meanwhile: a look costs more than some orders.
            if starting and not moved:
                time.sleep(STARTING_S)
            elif sleep_s and (not spin_ns or not moved):
                time.sleep(sleep_s)
        if isinstance(stage, JournalStage):
            stage.close()
        self._status.beat(module, stage.figures())
        if isinstance(stage, NodeStage):
            (self._config.run / f"{module}{HASHES}").write_text(json.dumps(stage.state_hashes()))
