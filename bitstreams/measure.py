"""Measures blocks: elaborates, synthesizes and places what ``build/timing`` does not have yet."""

import hashlib
import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from amaranth.back import rtlil

from bitstreams import blocks, harness, tools
from bitstreams.blocks import Block
from bitstreams.placement import Placement, place, placed
from bitstreams.synthesis import Synthesis, folder_name, synthesize, synthesized
from hdl.sources import closure, content_hash

FOLDER = blocks.ROOT / "build" / "timing"

PROCESSES = 2
"""Most tools at once. nextpnr takes up to 2 GB."""

CELLS_OF_START = 4000
"""What a placement costs before its first cell, in cells; for the time that is left."""


@dataclass
class Measurement:
    """What is known of a block. Why the rest is not: ``failure`` of a tool, or what the chip ``lacks``, in words."""

    block: Block
    latency_cycles: int | None = None
    synthesis: Synthesis | None = None
    placements: list[Placement] = field(default_factory=list)
    failure: str = ""
    lacks: str = ""

    @property
    def mhz(self) -> list[float]:
        """The clock's rate, a value a seed."""
        return [round(each.mhz, 2) for each in self.placements]

    @property
    def mhz_median(self) -> float | None:
        return round(statistics.median(self.mhz), 2) if self.placements else None

    @property
    def mhz_worst(self) -> float | None:
        return min(self.mhz, default=None)

    @property
    def worst(self) -> Placement | None:
        """The seed with the lowest rate."""
        return min(self.placements, key=lambda each: each.mhz, default=None)


def measure(chosen: Sequence[Block], seeds: int, say: Callable[[str], None]) -> list[Measurement]:
    """Measure ``chosen`` with seeds 1 to ``seeds``, or as many as a block has at most.

    ``say`` gets a line whenever something begins or ends.
    """
    return _Session(seeds, say).run(chosen)


class _Session:
    def __init__(self, seeds: int, say: Callable[[str], None]):
        self._most_seeds = seeds
        self._say = say
        self._elaborating = threading.Lock()  # Amaranth is not made for threads
        self._counting = threading.Lock()
        self._cells_left = self._cells_placed = 0
        self._seconds = 0.0

    def run(self, chosen: Sequence[Block]) -> list[Measurement]:
        with ThreadPoolExecutor(PROCESSES) as pool:
            try:
                netlists = [(Measurement(block), pool.submit(self._netlist, block)) for block in chosen]
                waiting = [(row, self._placements(pool, row, netlist)) for row, netlist in netlists]
                for row, futures in waiting:
                    self._collect(row, futures)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [row for row, _ in waiting]

    def _netlist(self, block: Block) -> tuple[int | None, Path, Synthesis]:
        """The block's latency, the folder of its netlist, and what yosys counted."""
        with self._elaborating:
            known, design = _known(block), None
            folder = _folder(block, known) if known else None
            if known is None or folder is None or synthesized(folder) is None:
                self._say(f"{block.label}: elaborating")
                component = block.component()
                design = rtlil.convert(harness.Harness(component), name="top", emit_src=False)
                known = _remember(block, design, getattr(component, "LATENCY", None))
                folder = _folder(block, known)
        found = synthesized(folder)
        if found is None:
            assert design is not None
            self._say(f"{block.label}: synthesizing")
            began = time.perf_counter()
            found = synthesize(design, block.device, folder)
            counts = ", ".join(f"{number:,} {kind}" for kind, number in found.counts().items())
            self._say(f"{block.label}: {counts} ({found.mapper}, {time.perf_counter() - began:.0f} s)")
        return known.latency_cycles, folder, found

    def _placements(
        self, pool: ThreadPoolExecutor, row: Measurement, netlist: Future[tuple[int | None, Path, Synthesis]]
    ) -> list[Future[Placement]]:
        try:
            row.latency_cycles, folder, row.synthesis = netlist.result()
        except tools.ToolFailed as failed:
            row.failure = str(failed)
            return []
        row.lacks = row.block.device.lacks(row.synthesis.counts())
        if row.lacks:
            return []
        cells = CELLS_OF_START + row.synthesis.cells
        seeds = range(1, min(self._most_seeds, row.block.most_seeds or self._most_seeds) + 1)
        with self._counting:
            self._cells_left += cells * sum(
                placed(folder, row.block.device, seed, row.block.placing) is None for seed in seeds
            )
        return [pool.submit(self._place, row.block, folder, cells, seed) for seed in seeds]

    def _place(self, block: Block, folder: Path, cells: int, seed: int) -> Placement:
        found = placed(folder, block.device, seed, block.placing)
        if found is not None:
            return found
        began = time.perf_counter()
        try:
            found = place(folder, block.device, seed, block.placing)
        finally:
            with self._counting:
                self._cells_left -= cells
                self._cells_placed += cells
                self._seconds += time.perf_counter() - began
                left = self._seconds / self._cells_placed * self._cells_left / PROCESSES
        self._say(f"{block.label}: seed {seed}: {found.mhz:.1f} MHz{f', about {_duration(left)} left' if left else ''}")
        return found

    def _collect(self, row: Measurement, futures: Sequence[Future[Placement]]) -> None:
        for future in futures:
            try:
                row.placements.append(future.result())
            except tools.ToolFailed as failed:
                row.failure = str(failed)
        if row.failure:
            row.placements.clear()


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _sources(block: Block) -> str:
    """A hash of all that a block's RTLIL is made of; a hash of the RTLIL itself says whether that made a difference."""
    files = closure([Path(str(module.__file__)) for module in (blocks, harness)] + list(block.sources))
    return f"{content_hash(files)} {metadata.version('amaranth')}"


@dataclass(frozen=True)
class _Design:
    """What is remembered of a block's last elaboration: hashes of its sources and of its RTLIL, and its latency."""

    sources: str
    rtlil: str
    latency_cycles: int | None


def _note(block: Block) -> Path:
    return FOLDER / f"{block.label}.design.json"


def _folder(block: Block, design: _Design) -> Path:
    return FOLDER / folder_name(block.label, design.rtlil, block.device)


def _known(block: Block) -> _Design | None:
    """What the last elaboration gave, where it was of the same sources."""
    try:
        design = _Design(**json.loads(_note(block).read_text()))
    except (FileNotFoundError, TypeError):  # TypeError: an older version of this file wrote it
        return None
    return design if design.sources == _sources(block) else None


def _remember(block: Block, text: str, latency_cycles: int | None) -> _Design:
    design = _Design(_sources(block), hashlib.sha256(text.encode()).hexdigest(), latency_cycles)
    FOLDER.mkdir(parents=True, exist_ok=True)
    written = _note(block).with_suffix(f".{os.getpid()}")
    written.write_text(json.dumps(asdict(design)))
    os.replace(written, _note(block))
    return design
