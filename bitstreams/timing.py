"""``make timing``: synthesizes and places blocks, and ends in a table. Exit code 1: a bound was missed or a tool
failed, 2: no such block, no tools."""

import argparse
import json
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from bitstreams import measure, report, tools
from bitstreams.blocks import BLOCKS, ROOT, Block, UnknownBlock, find
from sim import toolchain

SEEDS = 5
RESULT = ROOT / "build" / "timing.json"
PAGE = ROOT / "docs" / "timing.md"
LOG_WIDTH = 140
"""Characters of a line where there is no terminal."""
MISSED, UNUSABLE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure blocks as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bitstreams.timing", description=__doc__)
    parser.add_argument(
        "--block", metavar="NAME", help="only this one, or Python: hdl.module:Component() (default: all)"
    )
    parser.add_argument("--width", metavar="BITS", type=int, help="only rows of this data width (default: all)")
    parser.add_argument(
        "--seeds", metavar="N", type=_seeds, default=SEEDS, help="placements a row (default: %(default)s)"
    )
    parser.add_argument("--docs", action="store_true", help="write the table into docs/timing.md")
    options = parser.parse_args(arguments)
    if options.docs and (options.block or options.width or options.seeds != SEEDS):
        print(f"docs/timing.md has all blocks with {SEEDS} seeds: DOCS=1 goes alone", file=sys.stderr)
        return UNUSABLE
    try:
        chosen = _choose(options.block, options.width)
    except UnknownBlock as unknown:
        print(unknown, file=sys.stderr)
        return UNUSABLE
    used = ["YOSYS", *sorted({block.device.placer for block in chosen})]
    if missing := tools.missing(used):
        print(missing, file=sys.stderr)
        return UNUSABLE
    toolchain.apply()
    return _run(chosen, options.seeds, used, options.docs)


def _seeds(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _choose(name: str | None, width: int | None) -> list[Block]:
    chosen = [block for block in (BLOCKS if name is None else find(name)) if width in (None, block.data_width)]
    if not chosen:
        raise UnknownBlock(f"no block {name or ''} of {width} bits")
    return chosen


def _run(chosen: Sequence[Block], seeds: int, used: Sequence[str], docs: bool) -> int:
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else LOG_WIDTH)
    began = time.perf_counter()

    def say(line: str) -> None:
        console.print(f"{time.perf_counter() - began:5.0f} s  {escape(line)}", highlight=False)

    for tool in used:
        if tools.compiles_first(tool):
            say(f"the first call of {tools.name(tool)} compiles WebAssembly, about a minute")
        else:
            say(tools.version(tool))
    rows = measure.measure(chosen, seeds, say)

    RESULT.write_text(json.dumps([report.as_json(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    report.show(rows, console)
    for row in rows:
        if row.synthesis:
            report.write_paths(row, measure.FOLDER / f"{row.block.label}.paths.txt")
    if docs:
        report.write_page(rows, PAGE, ", ".join(tools.version(tool) for tool in used))
    console.print(
        f"{len(rows)} {'row' if len(rows) == 1 else 'rows'} in {time.perf_counter() - began:.0f} s: {RESULT.relative_to(ROOT)}; "
        f"parts, and paths hop by hop: {measure.FOLDER.relative_to(ROOT)}/*.paths.txt",
        highlight=False,
    )
    return MISSED if any(row.failure or report.missed(row) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
