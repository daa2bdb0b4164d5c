"""``make formal``: proves what ``formal.specs`` states and ends in a table. Exit code 1: a proof failed, 2: no such
proof, no tools."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from formal import small

small.shrink()

from formal import prove  # noqa: E402
from formal.specification import Method, Proof  # noqa: E402
from formal.specs import NAMES  # noqa: E402
from sim import toolchain  # noqa: E402

FAILED, UNUSABLE = 1, 2

TABLE_WIDTH = 110
"""Columns that the table needs; a log has them, whatever its terminal says."""

FIXED_DEPTH = (Method.PDR, Method.K_INDUCTION)
"""Methods that are about any number of cycles: ``--depth`` does nothing for them."""


def proofs() -> dict[str, Proof]:
    """All proofs by name, in the order of the table."""
    found = [proof for name in NAMES for proof in import_module(f"formal.specs.{name}").PROOFS]
    return {proof.name: proof for proof in found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m formal.run", description=__doc__)
    parser.add_argument("--only", metavar="NAME", help="a proof or a block (default: all)")
    parser.add_argument(
        "--depth", metavar="N", type=int, help="at least so many cycles in bounded proofs (default: their own)"
    )
    parser.add_argument("--list", action="store_true", help="only say what would be proved")
    options = parser.parse_args(arguments)
    if options.depth is not None and options.depth < 1:
        print(f"depth is {options.depth}; it is a number of cycles", file=sys.stderr)
        return UNUSABLE
    known = proofs()
    chosen = [proof for proof in known.values() if options.only in (None, proof.name, proof.block)]
    if not chosen:
        blocks = dict.fromkeys(proof.block for proof in known.values())
        print(f"no proof or block '{options.only}' (there are {', '.join((*blocks, *known))})", file=sys.stderr)
        return UNUSABLE
    if options.list:
        for proof in chosen:
            print(f"{proof.name}  {proof.block}: {proof.claim} ({proof.method.value})")
        return 0
    try:
        prove.require_tools()
    except toolchain.ToolMissing as missing:
        print(missing, file=sys.stderr)
        return UNUSABLE
    toolchain.apply()
    # A process that is ended from outside ends its solvers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(UNUSABLE))
    return _run(chosen, options.depth)


def _run(chosen: list[Proof], depth: int | None) -> int:
    console = Console(soft_wrap=True)
    console.width = max(console.width, TABLE_WIDTH)
    began = time.perf_counter()

    def work(proof: Proof) -> prove.Outcome:
        own = proof.method in FIXED_DEPTH or depth is None
        outcome = prove.run(proof, proof.depth if own else max(depth or 0, proof.depth))
        console.print(f"{time.perf_counter() - began:5.0f} s  {proof.name}", highlight=False)
        return outcome

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # Deep ones take longest.
        running = {proof.name: pool.submit(work, proof) for proof in sorted(chosen, key=lambda proof: -proof.depth)}
        outcomes = [running[proof.name].result() for proof in chosen]
    failed = [outcome for outcome in outcomes if outcome.reason]
    console.print(_table(outcomes))
    for outcome in failed:
        console.print(f"[red]{outcome.proof.name} failed[/]: {escape(outcome.reason)}", highlight=False)
    console.print(f"{len(outcomes)} proofs in {time.perf_counter() - began:.0f} s", highlight=False)
    return FAILED if failed else 0


def _table(outcomes: list[prove.Outcome]) -> Table:
    table = Table("property", "block", "method", "result")
    table.add_column("seconds", justify="right")
    for outcome in outcomes:
        proof, method = outcome.proof, outcome.proof.method
        result = "[red]fails" if outcome.reason else outcome.note or "holds"
        depth = "" if method is Method.PDR else f", {outcome.depth} cycles"
        table.add_row(proof.claim, proof.block, method.value + depth, result, f"{outcome.seconds:.0f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
