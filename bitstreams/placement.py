"""Places and routes a synthesized block, and asks how fast its clock may be."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bitstreams import tools
from bitstreams.devices import Device
from bitstreams.paths import Hop, TimingPath, read_delays, worst_paths
from bitstreams.synthesis import FIELDS, NETLIST

AIM_MHZ = 250
"""What nextpnr is asked for. Placements at 160 and at 400 MHz were the same, so this only has to be something."""

CLOCK = "clk"
"""The harness's; a block may have others."""

CLOCK_PORTS = ("CLK", "CLKA", "CLKB", "CLKR", "CLKW", "WCK")
"""Ports of cells for a clock."""

PATHS = 5
"""Slowest paths that are kept of a placement."""


@dataclass(frozen=True)
class Placement:
    """What one seed gave: the clock's rate, and the slowest paths, the slowest first."""

    mhz: float
    paths: tuple[TimingPath, ...]

    @classmethod
    def load(cls, file: Path) -> "Placement":
        """What was kept of a placement."""
        kept = json.loads(file.read_text())
        paths = (TimingPath(**each | {"hops": tuple(Hop(**hop) for hop in each["hops"])}) for each in kept["paths"])
        return cls(kept["mhz"], tuple(paths))


def _name(device: Device, seed: int, options: Sequence[str]) -> str:
    key = repr((device, AIM_MHZ, tools.version(device.placer), *options))
    return f"seed{seed}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def placed(folder: Path, device: Device, seed: int, options: Sequence[str] = ()) -> Placement | None:
    """What ``folder`` has of this seed with these ``options`` of nextpnr, if anything."""
    result = folder / f"{_name(device, seed, options)}.json"
    return Placement.load(result) if result.exists() else None


def place(folder: Path, device: Device, seed: int, options: Sequence[str] = ()) -> Placement:
    """Place the netlist in ``folder``, with more ``options`` of nextpnr. Raises :class:`bitstreams.tools.ToolFailed`."""
    name = _name(device, seed, options)
    work = Path(tempfile.mkdtemp(prefix=".placement-", dir=folder))
    try:
        _run(work, device, [*options, "--seed", str(seed)], folder / f"{name}.log")
        found = _read(work)
        (work / "result.json").write_text(json.dumps(asdict(found)))
        os.replace(work / "result.json", folder / f"{name}.json")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return found


def _run(work: Path, device: Device, options: Sequence[str], log: Path) -> None:
    inputs = ["--json", f"../{NETLIST}", *options, "--freq", str(AIM_MHZ), "--timing-allow-fail"]
    outputs = ["--report", "report.json", "--sdf", "delays.sdf", "-q", "-l", "placement.log"]
    failure = tools.run(device.placer, [*device.options, *inputs, *outputs], work)
    os.replace(work / "placement.log", log)
    if failure or not (work / "delays.sdf").exists():
        raise tools.ToolFailed(f"nextpnr failed ({failure}): {log}")


def _read(work: Path) -> Placement:
    clocks = json.loads((work / "report.json").read_text())["fmax"]
    fields = json.loads((work.parent / FIELDS).read_text())
    with open(work / "delays.sdf", encoding="utf-8") as lines:
        delays = read_delays(lines)
    if len(clocks) > 1:
        delays = delays.without(_on_other_clocks(work.parent / NETLIST))
        clocks = {CLOCK: clocks[CLOCK]}
    [clock] = clocks.values()
    return Placement(clock["achieved"], tuple(worst_paths(delays, PATHS, fields)))


def _on_other_clocks(netlist: Path) -> set[str]:
    """Cells that another clock than the harness's drives as well or alone."""
    module = json.loads(netlist.read_text())["modules"]["top"]
    clock = module["ports"][CLOCK]["bits"]
    return {
        name
        for name, cell in module["cells"].items()
        for port, bits in cell["connections"].items()
        if port in CLOCK_PORTS and bits != clock
    }
