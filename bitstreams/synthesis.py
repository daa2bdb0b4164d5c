"""Synthesizes a block in its harness: what it takes of a chip, and a netlist to place."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bitstreams import tools
from bitstreams.devices import Device
from bitstreams.harness import BLOCK

DESIGN = "design.il"
"""As :data:`SCRIPT` has it."""

NETLIST = "netlist.json"
FIELDS = "fields.json"
"""Of bits that have two names, as ``beat[17]`` and ``beat.count[1]`` have: the first to the second."""

BIT_NAME = re.compile(r"(?P<vector>.+?)(?:\[\d+\])+")
RESULT = "synthesis.json"
FORMAT = 4
"""Of what is kept; raised when that changes, so that older results are left alone."""

MODULE = re.compile(rf"^module \\top\.{BLOCK}\.(\S+)", re.MULTILINE)
"""A submodule in RTLIL: its path within the block."""

SCRIPT = """
read_rtlil design.il
setattr -mod -set keep_hierarchy 1 top.{block}
{device.script}
splitnets
{mapper}
{device.finish}
tee -q -o statistics.json stat -json
setattr -mod -unset keep_hierarchy top.{block}
flatten
write_json {netlist}
"""
"""The block stays a module until its cells have been counted, so that none of the harness is among them. Both
have only registers at the border, so nothing could have been optimized across it.
abc9 of Yosys 0.69 stops in an assertion over nets of several bits, hence splitnets."""


@dataclass(frozen=True)
class Synthesis:
    """What a block takes of the chip, without its harness. ``mapper`` mapped its LUTs; the netlist has ``cells`` cells, the
    harness's among them. ``parts`` counts by submodule, as far as names tell."""

    mapper: str
    cells: int
    parts: dict[str, dict[str, int]]
    lut4: int
    ff: int
    bram: int
    dsp: int

    def counts(self) -> dict[str, int]:
        return {"lut4": self.lut4, "ff": self.ff, "bram": self.bram, "dsp": self.dsp}


def folder_name(label: str, design: str, device: Device) -> str:
    """Where the results of a design are kept, by a hash of everything that they depend on; ``design`` is that of its RTLIL."""
    parts = (FORMAT, design, SCRIPT, repr(device), tools.version("YOSYS"))
    return f"{label}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"


def synthesized(folder: Path) -> Synthesis | None:
    """What is in ``folder``, if there is something."""
    result = folder / RESULT
    return Synthesis(**json.loads(result.read_text())) if result.exists() else None


def synthesize(design: str, device: Device, folder: Path) -> Synthesis:
    """Synthesize ``design`` (RTLIL) into ``folder``. Raises :class:`bitstreams.tools.ToolFailed`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Others may synthesize the same at the same time: whoever is ready first puts the whole folder in place.
    work = Path(tempfile.mkdtemp(prefix=".synthesis-", dir=folder.parent))
    try:
        (work / DESIGN).write_text(design)
        found = _run(design, work, device, folder.with_suffix(".log"))
        (work / RESULT).write_text(json.dumps(asdict(found)))
        (work / DESIGN).unlink()  # some are tens of megabytes, and it can be elaborated again
        if not folder.exists():
            os.rename(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return found


def _run(design: str, work: Path, device: Device, kept_log: Path) -> Synthesis:
    for mapper, commands in device.mappers.items():
        (work / "synthesis.ys").write_text(SCRIPT.format(block=BLOCK, device=device, mapper=commands, netlist=NETLIST))
        failure = tools.run("YOSYS", ["-l", f"{mapper}.log", "-s", "synthesis.ys"], work)
        # A mapper that dies may take yosys with it, and its exit code.
        if not failure and (work / NETLIST).exists():
            statistics = json.loads((work / "statistics.json").read_text())
            block = statistics["modules"][f"\\top.{BLOCK}"]["num_cells_by_type"]
            netlist = json.loads((work / NETLIST).read_text())["modules"]["top"]
            (work / FIELDS).write_text(json.dumps(_fields(netlist["netnames"])))
            cells = {name: cell["type"] for name, cell in netlist["cells"].items()}
            return Synthesis(mapper, len(cells), _parts(cells, design, device), **device.count(block))
    shutil.copy(work / f"{mapper}.log", kept_log)
    raise tools.ToolFailed(f"yosys failed ({failure or 'it stopped'}): {kept_log}")


def _parts(cells: Mapping[str, str], design: str, device: Device) -> dict[str, dict[str, int]]:
    """What each submodule takes, without its own submodules; ``cells`` are types by name. A cell that belongs to
    two counts where the signal is that it is named after."""
    modules = set(MODULE.findall(design))
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for name, kind in cells.items():
        inside = name.removeprefix(f"{BLOCK}.")
        if inside != name:
            path = inside.split(".")[:-1]
            while path and ".".join(path) not in modules:
                path.pop()
            kinds[".".join(path)][kind] += 1
    return {part: device.count(counts) for part, counts in sorted(kinds.items())}


def _fields(netnames: Mapping[str, Any]) -> dict[str, str]:
    """Names of bits of structures by their numbers, see :data:`FIELDS`; of several the one that says most."""
    named: dict[int, list[str]] = defaultdict(list)
    for name, net in netnames.items():
        for n, bit in enumerate(net["bits"]):
            if isinstance(bit, int):
                named[bit].append(name if len(net["bits"]) == 1 else f"{name}[{n}]")
    found = {}
    for names in named.values():
        for name in names:
            if bit_name := BIT_NAME.fullmatch(name):
                inner = [other for other in names if other.startswith(bit_name["vector"] + ".")]
                if inner:
                    found[name] = max(inner, key=len)
    return found
