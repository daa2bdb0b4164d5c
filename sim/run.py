"""``make sim``: runs the benches and ends in a table. Exit code 1: a test failed, 2: no such bench, no tools."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sim import toolchain
from sim.benches import BENCHES

BOARDS = "boards"
"""The tops of all boards, which are run by the host and not by cocotb; only where they are asked for, because each is compiled for minutes."""

DEFAULT_SEED = 1
FAILED, UNUSABLE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benches as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sim.run", description=__doc__)
    parser.add_argument("--bench", metavar="NAME", help="only this bench (default: all)")
    parser.add_argument("--waves", action="store_true", help="record waves")
    parser.add_argument(
        "--seed", metavar="N", type=int, default=DEFAULT_SEED, help="of gaps and data (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.bench is not None and options.bench not in (*BENCHES, BOARDS):
        print(f"no bench '{options.bench}' (there are {', '.join(BENCHES)}, {BOARDS})", file=sys.stderr)
        return UNUSABLE
    try:
        toolchain.require_compiler()
    except toolchain.ToolMissing as missing:
        print(missing, file=sys.stderr)
        return UNUSABLE
    if options.bench == BOARDS:
        from sim.boards import run_all

        return 0 if run_all(Console(soft_wrap=True)) else FAILED
    if find_spec("cocotb") is None:
        print("cocotb not found, the benches cannot run: pip install 'tickgate[hdl,sim]'", file=sys.stderr)
        return UNUSABLE
    toolchain.apply()
    return _run([options.bench] if options.bench else list(BENCHES), options.waves, options.seed)


def _run(names: list[str], waves: bool, seed: int) -> int:
    from sim import cocotb_verilator

    cocotb_verilator.prepare()
    console = Console(soft_wrap=True)
    console.print(f"seed {seed}")
    began = time.perf_counter()
    results, broken = [], 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def say(line: str) -> None:
            console.print(f"{time.perf_counter() - began:5.0f} s  {escape(line)}", highlight=False)

        runs = {
            name: pool.submit(cocotb_verilator.run, name, BENCHES[name], waves=waves, seed=seed, say=say)
            # The card, which is the last, takes longest to compile.
            for name in reversed(names)
        }
        for name in names:
            try:
                results.append(runs[name].result())
            except cocotb_verilator.BuildError as error:
                broken += 1
                console.print(f"[red]{escape(str(error))}")

    for result in results:
        for outcome in result.outcomes:
            if outcome.failure:
                console.print(f"[red]{result.bench}.{outcome.test} failed[/]: {escape(outcome.failure)}")
        if result.failed:
            console.print(f"  log: {result.log}", highlight=False)
        if result.waves is not None:
            console.print(
                f"waves of {result.bench}: gtkwave {result.waves} (or: surfer {result.waves})", highlight=False
            )
    for result in results:
        if result.coverage:
            console.print(_coverage_table(result))
    console.print(_table(results))
    console.print(f"{len(results)} benches in {time.perf_counter() - began:.0f} s", highlight=False)
    return FAILED if broken or any(result.failed for result in results) else 0


def _coverage_table(result) -> Table:
    groups = result.coverage
    bins, hit = (sum(group[column] for group in groups) for column in (1, 2))
    table = Table(f"coverage of {result.bench}", show_footer=True)
    table.columns[0].footer = "all"
    for title, total in (("bins", f"{bins:,}"), ("hit", f"{hit:,}"), ("%", f"{100 * hit / bins:.1f}")):
        table.add_column(title, total, justify="right")
    for name, of_group, hit_of_group in groups:
        share = f"{100 * hit_of_group / of_group:.1f}"
        table.add_row(
            name, f"{of_group:,}", f"{hit_of_group:,}", share if hit_of_group == of_group else f"[red]{share}[/]"
        )
    return table


def _table(results) -> Table:
    table = Table("bench")
    for column in ("tests", "passed", "failed", "cycles", "cycles/s"):
        table.add_column(column, justify="right")
    for result in results:
        tests = len(result.outcomes)
        table.add_row(
            result.bench,
            str(tests),
            str(tests - result.failed),
            f"[red]{result.failed}[/]" if result.failed else "0",
            f"{result.cycles:,}",
            f"{result.cycles / result.seconds:,.0f}" if result.seconds else "-",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
