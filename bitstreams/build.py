"""Builds a board's card: from Amaranth to the file that programs the chip."""

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bitstreams import devices, tools
from bitstreams.devices import LFE5UM5G_85F
from bitstreams.manifest import Clock, source_of
from bitstreams.tools import ToolFailed
from hdl.boards import Board, pcie_7x
from hdl.boards.board import Way
from hdl.boards.on_platform import OnPlatform
from hdl.boards.top import make_top
from hdl.sbe_venue import Venue, venue_code
from hdl.sources import ROOT, closure, content_hash
from sim import toolchain

FOLDER = ROOT / "build" / "boards"

SEEDS = 3
"""So many placements are tried until one meets the clocks."""

PACKAGES = ("amaranth", "amaranth-boards")
"""Those that make the RTL and the constraints."""

TOP = "top"
REPORT = "report.json"

FILES = {"ecp5": f"{TOP}.bit", "ice40": f"{TOP}.bin"}
"""What is programmed into a chip of each family."""

LUTS = {"ecp5": "TRELLIS_COMB", "ice40": "ICESTORM_LC"}
"""What nextpnr calls the cells that it counts LUTs in."""

ECP5_OPTIONS = {
    "script_after_read": "\n".join(
        (
            # A queue never reads the row that it writes. Yosys cannot know, and would keep both rows of 400 bits beside each.
            "setparam -set COLLISION_X_MASK 1'1 *_queue.frames/t:$memrd_v2",
            LFE5UM5G_85F.script,
            # Without the chip's multiplexers, which make wider LUTs of up to eight: those bind slices together that the placer
            # then cannot spread, and routers find no way. For these clocks LUT4s alone are fast enough, and fewer.
            "techmap -map +/lattice/latches_map.v; abc -dress -lut 4; clean",
        )
    ),
    "synth_opts": "-run map_cells:",
    "ecppack_opts": "--compress",
}

USED = re.compile(r"Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%")


class BuildError(ValueError):
    """A card cannot be built for a board. The text is one line and says by how much it misses."""


@dataclass(frozen=True)
class Built:
    """What came of a build: the file, the seed that met all clocks, LUTs used and there, and the clocks by their names."""

    file: Path
    seed: int
    luts: int
    luts_available: int
    clocks: dict[str, Clock]


@dataclass(frozen=True)
class Design:
    """A board with what is to be on it."""

    board: Board
    way: Way
    venue: Venue | None = None

    @cached_property
    def source_hash(self) -> str:
        """A hash of everything that decides what is built, but for the tools: RTL, constraints and scripts. 40 hexadecimal digits.

        Names of files and lines are not in it, so a comment changes nothing. Its first 64 bits are what the card's register
        ``source`` says."""
        return self._plan(0).digest(20).hex()

    @cached_property
    def sources(self) -> str:
        """A hash of the files that :attr:`source_hash` follows from, comments and all."""
        boards = ROOT / "hdl" / "boards"
        files = closure([boards / f"{self.board.name}.py", boards / "on_platform.py"])
        files += [Path(__file__), Path(devices.__file__)]
        said = repr((self.way, self.venue and venue_code(self.venue), [version(name) for name in PACKAGES]))
        return hashlib.sha256((content_hash(files) + said).encode()).hexdigest()[:20]

    @property
    def source(self) -> int:
        """What the register ``source`` says."""
        return source_of(self.source_hash)

    @cached_property
    def plan(self) -> Any:
        """Amaranth's build plan: the files and the commands. The first access elaborates, which is not made for threads."""
        return self._plan(self.source)

    def _plan(self, source: int) -> Any:
        toolchain.apply()
        platform = self.board.make_platform()
        top = make_top(self.board, self.way, self.venue, source)
        options = ECP5_OPTIONS if getattr(platform, "family", "") == "ecp5" else {}
        if self.way.transceiver:
            options = {
                "script_after_read": pcie_7x.creating_script(),
                "script_after_synth": pcie_7x.placing_script(self.way.transceiver),
            }
        return platform.build(OnPlatform(top), name=TOP, do_build=False, emit_src=False, debug_verilog=False, **options)


def commands(plan: Any) -> Iterator[tuple[str, list[str]]]:
    """The tools that a plan calls, by the variables of sim/toolchain.py, with their arguments."""
    for line in plan.files[f"{plan.script}.sh"].splitlines():
        if line.startswith('"$'):
            variable, *arguments = shlex.split(line)
            yield variable.removeprefix("$"), arguments


def build(design: Design, folder: Path, say: Callable[[str], None], *, first_seed: int = 1) -> Built:
    """Build a design in ``folder``; ``say`` gets a line for each step. ``first_seed`` is tried before the others: one that is known to meet
    the clocks.

    Raises :class:`BuildError` where it does not fit or misses a clock, :class:`bitstreams.tools.ToolFailed` where a tool does.
    """
    say("elaborating")
    export(design, folder)
    (synthesis, synthesis_arguments), (placer, placer_arguments), *packers = commands(design.plan)
    say("synthesizing")
    _run(synthesis, synthesis_arguments, folder)
    for seed in dict.fromkeys((first_seed, *range(1, SEEDS + 1))):
        say(f"placing, seed {seed}")
        options = ["--seed", str(seed), "--report", REPORT, "--timing-allow-fail"]
        failure = tools.run(placer, [*placer_arguments, *options], folder)
        used = _used(folder / f"{TOP}.tim")
        over = [f"{kind} {number:,} of {there:,}" for kind, (number, there) in used.items() if number > there]
        if over:
            raise BuildError(f"{design.board.name}: does not fit on {design.board.device}: {', '.join(over)}")
        if failure:
            raise ToolFailed(f"{tools.name(placer)} failed ({failure}): {folder / f'{TOP}.tim'}")
        clocks = _clocks(folder)
        missed = {name: clock for name, clock in clocks.items() if clock.mhz < clock.target_mhz}
        if not missed:
            break
    else:
        misses = ", ".join(
            f"{name} reaches {clock.mhz:.1f} MHz, {clock.target_mhz - clock.mhz:.1f} less than {clock.target_mhz:g}"
            for name, clock in missed.items()
        )
        raise BuildError(f"{design.board.name}: {misses} (the last of {SEEDS} seeds)")
    say("packing")
    for packer, arguments in packers:
        _run(packer, arguments, folder)
    family = "ecp5" if placer == "NEXTPNR_ECP5" else "ice40"
    return Built(folder / FILES[family], seed, *used[LUTS[family]], clocks)


def export(design: Design, folder: Path) -> list[Path]:
    """Write what tools build a board of, and nothing else, into ``folder``: RTL, constraints, scripts."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    design.plan.extract(str(folder))
    return [folder / name for name in design.plan.files]


def tool_versions(board: Board) -> dict[str, str]:
    """Names and versions of what a board's designs are built with; the packer comes with the placer."""
    synthesis, placer, *_packers = board.make_platform().required_tools
    named = (tools.version(tool.upper().replace("-", "_")).rpartition(" ") for tool in (synthesis, placer))
    return {name: version for name, _, version in named}


def _run(variable: str, arguments: list[str], folder: Path) -> None:
    if failure := tools.run(variable, arguments, folder):
        raise ToolFailed(f"{tools.name(variable)} failed ({failure}): {folder}")


def _used(log: Path) -> dict[str, tuple[int, int]]:
    """What of the chip is used, and how many there are, by kind, as far as the log of nextpnr says."""
    found = {}
    if log.exists():
        for kind, number, there in USED.findall(log.read_text()):
            found[kind] = int(number), int(there)
    return found


def _clocks(folder: Path) -> dict[str, Clock]:
    report = json.loads((folder / REPORT).read_text())
    return {
        name.removeprefix("$glbnet$"): Clock(round(clock["achieved"], 2), clock["constraint"])
        for name, clock in report["fmax"].items()
    }
