"""The modules of a gateway as stages over the rings of a run directory, and the thread that runs each."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from host.card.ring import Ring
from host.cluster.matching_node import MatchingNode
from host.gateway.batch_ring import BatchRing
from host.gateway.risk import Risk
from host.gateway.session_ring import create_session_rings, open_session_rings
from host.gateway.stages import (
    JournalStage,
    NodeStage,
    RiskStage,
    Stage,
    recover_nodes,
    recover_risk,
    ring_base,
)
from host.generate.load import Load, load_lap
from host.journal import Journal
from host.serve.config import SESSIONS, Config
from host.serve.status import DONE, SERVING, STARTING, Status

if TYPE_CHECKING:
    from host.capture.packets import Packets

BEAT_NS = 50_000_000
"""Between two signs of life."""

RING_WAIT_S = 0.002
"""Between two looks for a ring that another module makes."""

CARD, BATCHES, SESSION, STATUS, HASHES = "card", "batches", "sessions", "status", "nodes.json"
"""Files of the run directory."""

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
    """Make what no module makes: the sessions' rings, where there are none that fit."""
    path = config.run / SESSION
    try:
        with open_session_rings(path) as there:
            if there.records.shape == (SESSIONS, config["rings.session_slots"]):
                return
    except (FileNotFoundError, ValueError):
        pass
    create_session_rings(
        path, rings=SESSIONS, slots=config["rings.session_slots"], huge_pages=config["rings.huge_pages"]
    ).close()


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
        from hdl.sbe_venue import load_venue
        from host.capture.reader import open_captures
        from host.card import open_card
        from host.replay import flows_of

        venue = (
            load_venue(Path(config["gateway.schema"]), config["gateway.profile"]) if config["gateway.schema"] else None
        )
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
    path = config.run / BATCHES
    if module == "journal":
        journal = Journal(config.journal)
        if not path.exists():
            new = path.with_suffix(".new")
            BatchRing.create(
                new, base=ring_base(journal), slots=config["rings.batch_slots"],
                slot_frames=config["rings.batch_frames"], huge_pages=config["rings.huge_pages"],
            ).close()  # fmt: skip
            new.rename(path)
        try:
            return JournalStage(journal, BatchRing.open(path))
        except ValueError as error:
            raise ValueError(f"{error}: if the rings of {config.run} are of another journal, remove them") from None
    _wait_for(path, stop)
    batches = BatchRing.open(path)
    if module == "nodes":
        nodes = [MatchingNode(number, orders=config["nodes.open_orders"]) for number in config.limits.nodes]
        before = batches.ring.base + batches.ring.cursor(1)
        status.row(module)["recovered"] = recover_nodes(nodes, config.journal, before)
        return NodeStage(
            nodes, batches, open_session_rings(config.run / SESSION), stop=stop,
            patience_ns=config["sessions.patience_ms"] * 1_000_000,
        )  # fmt: skip
    risk = Risk(config.limits.instruments, config.limits.accounts, client_order_ids=config["risk.client_order_ids"])
    risk.route(config.limits.router())
    status.row(module)["recovered"] = recover_risk(risk, config.journal, batches)
    _wait_for(ring_path(config), stop)
    return RiskStage(risk, Ring.open(ring_path(config)), batches)


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
        row["pid"], row["state"], row["began_ns"] = os.getpid(), STARTING, time.monotonic_ns()
        row["starts"] += 1
        stage = make_stage(module, self._config, self._status, self._stop.is_set)
        row["serving_ns"], row["state"] = time.monotonic_ns(), SERVING
        spin_ns, sleep_s = self._config["wait.spin_us"] * 1000, self._config["wait.sleep_us"] / 1e6
        beat = 0
        over = self._full if module == "card" else self._stop
        while not over.is_set() and not self._stop.is_set():
            moved = stage.step(spin_ns)
            now = time.monotonic_ns()
            if now - beat > BEAT_NS:
                beat = now
                self._status.beat(module, stage.figures())
                if getattr(stage, "done", False):
                    row["state"] = DONE
            if not moved and sleep_s:
                time.sleep(sleep_s)
        self._status.beat(module, stage.figures())
        if isinstance(stage, NodeStage):
            (self._config.run / HASHES).write_text(json.dumps(stage.state_hashes()))
