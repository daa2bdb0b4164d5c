"""Synthesizes a block in its harness: what it takes of a chip, and a netlist to place."""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from bitstreams import tools
from bitstreams.devices import Device
from bitstreams.harness import BLOCK

NETLIST = "netlist.json"

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
    """What yosys made of a block: cells of the chip (the harness's are not in it), and by which LUT mapper."""

    mapper: str
    lut4: int
    ff: int
    bram: int
    dsp: int

    def counts(self) -> dict[str, int]:
        return {"lut4": self.lut4, "ff": self.ff, "bram": self.bram, "dsp": self.dsp}


def folder_name(label: str, design: str, device: Device) -> str:
    """Where the results of ``design`` (RTLIL) are kept: by a hash of everything that they depend on."""
    parts = (design, SCRIPT, repr(device), tools.version("YOSYS"))
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    return f"{label}-{device.name}-{digest}"


def synthesize(design: str, device: Device, folder: Path) -> Synthesis:
    """Synthesize ``design`` into ``folder``, or read what is there. Raises :class:`bitstreams.tools.ToolFailed`."""
    result = folder / "synthesis.json"
    if not result.exists():
        _run(design, device, folder)
    return Synthesis(**json.loads(result.read_text()))


def _run(design: str, device: Device, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Others may synthesize the same at the same time: whoever is ready first puts the whole folder in place.
    work = Path(tempfile.mkdtemp(prefix=".synthesis-", dir=folder.parent))
    try:
        (work / "design.il").write_text(design)
        for mapper, commands in device.mappers.items():
            (work / "synthesis.ys").write_text(
                SCRIPT.format(block=BLOCK, device=device, mapper=commands, netlist=NETLIST)
            )
            code = tools.run("YOSYS", ["-l", f"{mapper}.log", "-s", "synthesis.ys"], work)
            # A mapper that dies may take yosys with it without an exit code.
            if code == 0 and (work / NETLIST).exists():
                break
        else:
            kept = folder.with_suffix(".log")
            shutil.copy(work / f"{mapper}.log", kept)
            raise tools.ToolFailed(f"yosys failed: {kept}")
        modules = json.loads((work / "statistics.json").read_text())["modules"]
        counts = device.count(modules[f"\\top.{BLOCK}"]["num_cells_by_type"])
        (work / "synthesis.json").write_text(json.dumps(asdict(Synthesis(mapper, **counts))))
        if not folder.exists():
            os.rename(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
