"""Places and routes a synthesized block, and asks how fast its clock may be."""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitstreams import tools
from bitstreams.devices import Device
from bitstreams.paths import TimingPath, read_delays, worst_paths
from bitstreams.synthesis import NETLIST

AIM_MHZ = 250
"""What nextpnr is asked for. More than any block reaches, so that it never rests."""

PATHS = 5
"""Slowest paths that are kept of a placement."""


@dataclass(frozen=True)
class Placement:
    """A placement of one seed: the clock's rate in MHz, and the slowest paths in words, hop by hop."""

    mhz: float
    paths: list[dict[str, Any]]


def place(folder: Path, device: Device, seed: int) -> Placement:
    """Place the netlist in ``folder``, or read what is there. Raises :class:`bitstreams.tools.ToolFailed`."""
    key = repr((device, AIM_MHZ, tools.version(device.placer)))
    name = f"seed{seed}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    result = folder / f"{name}.json"
    if not result.exists():
        work = Path(tempfile.mkdtemp(prefix=".placement-", dir=folder))
        try:
            _run(work, device, seed, folder / f"{name}.log")
            placed = _read(work)
            (work / "result.json").write_text(json.dumps(placed))
            os.replace(work / "result.json", result)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return Placement(**json.loads(result.read_text()))


def _run(work: Path, device: Device, seed: int, log: Path) -> None:
    inputs = ["--json", f"../{NETLIST}", "--seed", str(seed), "--freq", str(AIM_MHZ), "--timing-allow-fail"]
    outputs = ["--report", "report.json", "--sdf", "delays.sdf", "-q", "-l", "placement.log"]
    code = tools.run(device.placer, [*device.options, *inputs, *outputs], work)
    os.replace(work / "placement.log", log)
    if code != 0 or not (work / "delays.sdf").exists():
        errors = [line for line in log.read_text().splitlines() if line.startswith("ERROR")]
        raise tools.ToolFailed(f"nextpnr failed: {log}: {' '.join(errors)}")


def _read(work: Path) -> dict[str, Any]:
    [clock] = json.loads((work / "report.json").read_text())["fmax"].values()
    with open(work / "delays.sdf", encoding="utf-8") as lines:
        paths = worst_paths(read_delays(lines), PATHS)
    return {"mhz": clock["achieved"], "paths": [describe(path) for path in paths]}


def describe(path: TimingPath) -> dict[str, Any]:
    """A path as it is kept."""
    return {
        "start": path.start,
        "end": path.end,
        "through": path.through,
        "logic_ns": round(path.logic_ns, 3),
        "routing_ns": round(path.routing_ns, 3),
        "wires": path.wires,
        "sentence": path.sentence(),
        "hops": [[hop.place, "routing" if hop.routed else "logic", hop.ns] for hop in path.hops],
    }
