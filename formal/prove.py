"""Runs one proof: the specification to RTLIL, sby, and what came of it."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from formal import yosys_abc
from formal.replay import UnreadableWitness, Violation, replay
from formal.specification import TOP, Method, Proof
from sim import toolchain

ROOT = Path(__file__).parent.parent

ENGINES = {
    Method.K_INDUCTION: ("prove", "smtbmc z3"),
    Method.PDR: ("prove", "abc pdr"),
    Method.BOUNDED: ("bmc", "abc bmc3 -g"),
    Method.REACHED: ("bmc", "abc bmc3 -g"),
}
"""sby's mode and engine of each method. ABC's bmc3 has three SAT solvers; Glucose (-g) took half the time of its own one."""

LOG = "logfile.txt"
NEVER_REACHED = "never reached"
NO_VERDICT = "no verdict"

_amaranth = threading.Lock()


class Outcome(NamedTuple):
    """What came of a proof. ``reason`` is empty where it holds, else it says in a line why not and where to look;
    ``note`` is what else there is to say."""

    proof: Proof
    depth: int
    reason: str
    note: str
    seconds: float


def folder() -> Path:
    """Where the proofs' files are."""
    return Path(os.environ.get("TICKGATE_FORMAL", ROOT / "build" / "formal"))


def require_tools() -> None:
    """Raise :class:`sim.toolchain.ToolMissing` unless proofs can run here."""
    environment = toolchain.environment()
    wanted = ["yowasp-sby", environment["YOSYS"], environment["SMTBMC"], environment["WITNESS"], "z3"]
    missing = [tool for tool in wanted if shutil.which(tool, path=environment["PATH"]) is None]
    if missing:
        raise toolchain.ToolMissing(
            f"{', '.join(missing)} not found, nothing can be proved: pip install 'tickgate[hdl,formal]'"
        )


def run(proof: Proof, depth: int) -> Outcome:
    """Prove ``proof`` for ``depth`` cycles."""
    began = time.perf_counter()
    mode, engine = ENGINES[proof.method]
    place = folder() / proof.name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    # Amaranth is not meant for several threads.
    with _amaranth:
        (place / "top.il").write_text(proof.build().rtlil())
    (place / "proof.sby").write_text(
        f"[options]\nmode {mode}\ndepth {depth}\naigsmt none\n"
        f"[engines]\n{engine}\n[script]\nread_rtlil top.il\nprep -top {TOP}\n[files]\ntop.il\n"
    )
    environment = toolchain.environment()
    tools = {"--yosys": environment["YOSYS"], "--smtbmc": environment["SMTBMC"], "--witness": environment["WITNESS"]}
    abc = shlex.join([sys.executable, yosys_abc.__file__])
    options = [word for option in tools.items() for word in option]
    _call(["yowasp-sby", "-d", "run", *options, "--abc", abc, "proof.sby"], place, environment)
    reason, note = _judge(proof, place / "run", environment)
    return Outcome(proof, depth, reason, note, time.perf_counter() - began)


def _call(command: list[str], place: Path, environment: dict[str, str]) -> None:
    """Run a program. Its processes end with it, also where we are interrupted: a solver would go on for hours."""
    with subprocess.Popen(
        command,
        cwd=place,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _judge(proof: Proof, place: Path, environment: dict[str, str]) -> tuple[str, str]:
    """Why the proof failed, or nothing; and what else is to be said. ``place`` is sby's folder."""
    status = place / "status"
    verdict = status.read_text().split()[0] if status.exists() else "ERROR"
    if proof.method is Method.REACHED:
        if verdict == "FAIL":
            violation, waves = _trace(proof, place, environment)
            return (
                ("", f"in cycle {violation.cycle}, {waves}")
                if violation
                else (f"the simulator does not reach it, {waves}", "")
            )
        return (NEVER_REACHED if verdict == "PASS" else f"{NO_VERDICT}, see {place / LOG}"), ""
    if verdict == "FAIL":
        try:
            violation, waves = _trace(proof, place, environment)
        except UnreadableWitness as unreadable:
            return f"fails, but its counterexample cannot be read: {unreadable}", ""
        at = (
            f"{violation.file}:{violation.line} in cycle {violation.cycle}"
            if violation
            else "only before Amaranth's simulator begins"
        )
        return f"{at}, waves: {waves}", ""
    if verdict == "PASS":
        return "", ""
    return f"not inductive, or {NO_VERDICT}: see {place / LOG}", ""


def _trace(proof: Proof, place: Path, environment: dict[str, str]) -> tuple[Violation | None, Path]:
    """The counterexample in Amaranth's simulator, and where its waves are."""
    engine = place / "engine_0"
    witness, waves = engine / "trace.yw", engine / "trace.vcd"
    if (engine / "trace.aiw").exists():
        command = [
            environment["WITNESS"],
            "aiw2yw",
            "engine_0/trace.aiw",
            "model/design_aiger.ywa",
            "engine_0/trace.yw",
        ]
        _call(command, place, environment)
    with _amaranth:
        return replay(proof.build, witness, waves), waves
