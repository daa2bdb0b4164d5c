"""The parent of a gateway's processes: starts them, starts again what died, and ends them in the order of the data.

It has loaded all compiled loops before it forks, so a process that is started again begins at once with what
stands in the rings and the journal. Its processes end with it, however it ends.
"""

import ctypes
import fcntl
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from host.card.ring import Ring
from host.gateway.batch_ring import BatchRing
from host.generate.load import save_lap
from host.serve.config import Config, ConfigError
from host.serve.modules import BATCHES, STATUS, Runner, lap_path, prepare, ring_path
from host.serve.status import DONE, Status, resident_bytes

_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK = 1, 29
TIMER_SLACK_NS = 1000

SWITCH_S = 0.0005

WATCH_S = 0.01
"""Between two looks at the processes."""

QUICK_S, QUICK_DEATHS = 5.0, 5
"""A process that died so often in so short a time is not started again: it would only die again."""

DRAIN_S, END_S = 5.0, 5.0
"""How long the end waits until everything has been seen through, and then for processes to end."""


class ServeError(RuntimeError):
    """The gateway cannot go on; one line that says why."""


@dataclass
class Process:
    """A process of the gateway and the modules that it runs."""

    modules: tuple[str, ...]
    pid: int = 0
    deaths: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its modules, joined."""
        return "+".join(self.modules)


class Supervisor:
    """A gateway that runs. Raises ServeError where another one uses the run directory."""

    def __init__(self, config: Config) -> None:
        self.config = config
        config.run.mkdir(parents=True, exist_ok=True)
        self._lock = (config.run / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ServeError(f"{config.run}: another gateway runs here") from None
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()
        card = config["gateway.card"]
        if card.startswith("load:"):
            path = lap_path(config.run, config["traffic.lap_orders"])
            if not path.exists():
                from host.generate.lap import make_lap

                save_lap(make_lap(config["traffic.lap_orders"]), path)
        elif not card.startswith("ring:"):
            # Such a card begins anew with its process, and so does its ring.
            (config.run / "card").unlink(missing_ok=True)
        prepare(config)
        self.status = Status(config.run / STATUS, create=True)
        self.processes = [Process(group) for group in config.groups]
        self.restarts = 0
        self.endings: list[str] = []
        """What ended the processes that were started again, until somebody has shown it."""
        self.longest_stall_s = 0.0
        """By how much it was itself woken too late at most, since :meth:`run` showed: what the machine stalls."""
        self._looked = time.monotonic()

    def start(self) -> None:
        """Start every process."""
        # What is here now is shared with all children, and no collection touches it.
        gc.collect()
        gc.freeze()
        for process in self.processes:
            self._start(process)

    def watch(self) -> None:
        """Start again what has died. Raises ServeError for what dies again and again."""
        for process in self.processes:
            if process.pid and (status := _ended(process.pid)) is not None:
                process.pid = 0
                now = time.monotonic()
                process.deaths = [each for each in process.deaths if now - each < QUICK_S] + [now]
                error = self._error(process)
                if error and (len(process.deaths) > 1 or error.startswith("!")):
                    raise ServeError(error.lstrip("!"))
                if len(process.deaths) >= QUICK_DEATHS:
                    raise ServeError(f"{process.name} has ended {QUICK_DEATHS} times, with {_ending(status)}")
                self.restarts += 1
                self.endings.append(error or f"{process.name}: ended with {_ending(status)}")
                self._start(process)
        late = time.monotonic() - self._looked - WATCH_S
        self._looked = time.monotonic()
        self.longest_stall_s = max(self.longest_stall_s, late)

    def measure(self) -> None:
        """Note what each process has in memory."""
        for process in self.processes:
            rss = resident_bytes(process.pid) if process.pid else 0
            for module in process.modules:
                self.status.row(module)["rss"] = rss

    def run(self, stop: Callable[[], bool], show: Callable[["Supervisor"], None], every_s: float = 1.0) -> None:
        """Start, watch and show until ``stop``, or until a card that was fed is at its end; then end everything."""
        self.start()
        try:
            shown = time.monotonic()
            while not stop() and not self.is_done():
                self.watch()
                if time.monotonic() - shown >= every_s:
                    shown += every_s
                    self.measure()
                    show(self)
                    self.longest_stall_s = 0.0
                time.sleep(WATCH_S)
        finally:
            self.end()
        show(self)

    def is_done(self) -> bool:
        """Whether the card is at its end and everything was seen through."""
        serve = all(self.status.serves(each) for group in self.config.groups for each in group)
        return serve and int(self.status.row("card")["state"]) == DONE and self.is_drained()

    def is_drained(self) -> bool:
        """Whether every frame in the card's ring was looked at, and every order that came of it is durable and reported."""
        card = ring_path(self.config)
        if card.exists():
            with Ring.open(card) as ring:
                # What lies in a batch that is not yet published has not been released either.
                if len(ring.poll(1)):
                    return False
        return self._has_reported()

    def _has_reported(self) -> bool:
        """Whether all published batches are durable and reported."""
        batches = self.config.run / BATCHES
        if batches.exists():
            with BatchRing.open(batches) as opened:
                return opened.ring.written() == opened.ring.least_cursor()
        return True

    def end(self) -> None:
        """End the card first, then, when what it gave is seen through, risk, and when what that gave is, the others."""
        for process in self.processes:
            if "card" in process.modules and process.pid:
                os.kill(process.pid, signal.SIGUSR1)
        until = time.monotonic() + DRAIN_S
        still = 0
        while time.monotonic() < until and still < 3 and all(process.pid for process in self.processes):
            still = still + 1 if self.is_drained() else 0
            time.sleep(WATCH_S)
        self._end([process for process in self.processes if "risk" in process.modules])
        until = time.monotonic() + DRAIN_S
        while any(process.pid for process in self.processes) and not self._has_reported():
            if time.monotonic() > until:
                break
            time.sleep(WATCH_S)
        self._end(self.processes)

    def _end(self, processes: list[Process]) -> None:
        for process in processes:
            if process.pid:
                os.kill(process.pid, signal.SIGTERM)
        until = time.monotonic() + END_S
        for process in processes:
            while process.pid and _ended(process.pid) is None:
                if time.monotonic() > until:
                    os.kill(process.pid, signal.SIGKILL)
                time.sleep(WATCH_S / 10)
            process.pid = 0

    def _start(self, process: Process) -> None:
        self._error_file(process).unlink(missing_ok=True)
        parent = os.getpid()
        pid = os.fork()
        if pid:
            process.pid = pid
            return
        code = 1
        try:
            code = _child(self.config, process.modules, parent, self._error_file(process))
        finally:
            os._exit(code)

    def _error_file(self, process: Process) -> Path:
        return self.config.run / f"{process.name}.error"

    def _error(self, process: Process) -> str:
        try:
            return self._error_file(process).read_text().strip()
        except OSError:
            return ""


def _child(config: Config, modules: tuple[str, ...], parent: int, error_file: Path) -> int:
    """A process of the gateway, from its fork on; returns its exit code."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(_PR_SET_TIMERSLACK, TIMER_SLACK_NS)
    if os.getppid() != parent:
        return 1
    if len(modules) > 1:
        # Threads wait for one another's Python no longer than a batch is gathered for.
        sys.setswitchinterval(SWITCH_S)
    runner = Runner(config, modules)
    signal.signal(signal.SIGTERM, lambda *_: runner.stop())
    signal.signal(signal.SIGUSR1, lambda *_: runner.stop_intake())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us in order
    runner.run()
    if runner.error is None:
        return 0
    # What the user can mend ends everything; what cannot be told is tried again.
    lasting = isinstance(runner.error, (ValueError, ConfigError, FileNotFoundError))
    error_file.write_text(
        f"{'!' if lasting else ''}{'+'.join(modules)}: {runner.error or type(runner.error).__name__}\n"
    )
    return 1


def _ended(pid: int) -> int | None:
    """How a child ended (a wait status), None while it runs."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return status if found else None


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
