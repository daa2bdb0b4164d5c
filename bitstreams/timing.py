"""``make timing``: synthesizes and places the blocks, and ends in a table."""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from amaranth.back import rtlil
from rich.console import Console
from rich.markup import escape

from bitstreams import tools
from bitstreams.blocks import BLOCKS, Block
from bitstreams.harness import Harness
from bitstreams.placement import Placement, place
from bitstreams.synthesis import folder_name, synthesize
from sim import toolchain

FOLDER = Path(__file__).resolve().parent.parent / "build" / "timing"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bitstreams.timing", description=__doc__)
    parser.add_argument("--block", metavar="NAME")
    parser.add_argument("--seeds", metavar="N", type=int, default=5)
    options = parser.parse_args(arguments)
    toolchain.apply()
    console = Console(soft_wrap=True)
    began = time.perf_counter()
    for block in BLOCKS:
        if options.block not in (None, block.name):
            continue
        design = rtlil.convert(Harness(block.component()), name="top", emit_src=False)
        folder = FOLDER / folder_name(block.label, design, block.device)
        synthesis = synthesize(design, block.device, folder)
        console.print(f"{time.perf_counter() - began:5.0f} s", block.label, synthesis)
        if lacks := block.device.lacks(synthesis.counts()):
            console.print("does not fit:", lacks)
            continue
        with ThreadPoolExecutor(2) as pool:
            placements = list(pool.map(lambda seed: place(folder, block.device, seed), range(1, options.seeds + 1)))
        console.print(f"{time.perf_counter() - began:5.0f} s", block.label, [round(p.mhz, 1) for p in placements])
        worst = min(placements, key=lambda p: p.mhz)
        file = FOLDER / f"{block.label}.paths.txt"
        with open(file, "w") as out:
            for path in worst.paths:
                console.print("  ", path["sentence"], markup=False)
                print(path["sentence"], file=out)
                for place_, kind, ns in path["hops"]:
                    print(f"    {ns:6.3f} ns  {kind:8} {place_}", file=out)
        console.print(f"hop by hop: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
