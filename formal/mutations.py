"""``make mutate``: seeds a fault into a copy of the sources and sees that a proof or a bench finds it, for each fault listed
here. Exit code 1: one was not found, 2: no such fault, no tools."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from formal import prove
from sim import toolchain

ROOT = Path(__file__).parent.parent
COPIED = ("hdl", "formal", "sim", "host", "tests")

SURVIVED, UNUSABLE = 1, 2

PROOF, BENCH = "formal.run --only", "sim.run --bench"
"""What can find a fault: a module and its option, whose value is a proof's or a bench's name."""


class Fault(NamedTuple):
    """One change to one file, and who finds it. ``old`` stands in ``file`` exactly once; ``found_by`` is a finder and a name."""

    name: str
    file: str
    old: str
    new: str
    found_by: tuple[str, str]


FAULTS = (
    Fault(
        "a commit writes another flow's row",
        "hdl/flow_state.py",
        "write.addr.eq(self.flow)",
        "write.addr.eq(self.flow ^ 1)",
        (PROOF, "flow_state_row"),
    ),
    Fault(
        "a flow takes the row of the one before it",
        "hdl/flow_swap.py",
        "same.eq(self.waits | ~self.coming | (self.coming_flow == held_flow))",
        "same.eq(self.waits | ~self.coming | self.valid)",
        (PROOF, "flow_swap"),
    ),
    Fault(
        "a row just computed is not seen",
        "hdl/flow_swap.py",
        "from_stage.eq(self.valid & (self.coming_flow == here_flow))",
        "from_stage.eq(0)",
        (PROOF, "flow_swap"),
    ),
    Fault(
        "a row on its way to the memory is not seen",
        "hdl/flow_swap.py",
        "from_left.eq(leaves & (self.coming_flow == left_flow))",
        "from_left.eq(0)",
        (PROOF, "flow_swap"),
    ),
    Fault(
        "a row from before the reset is seen",
        "hdl/flow_swap.py",
        "self.advance & ~stays & near_new",
        "self.advance & ~stays & near_new & from_stage",
        (PROOF, "flow_swap"),
    ),
    Fault(
        "a row goes to the flow behind it",
        "hdl/flow_swap.py",
        "write.addr.eq(left_flow)",
        "write.addr.eq(here_flow)",
        (PROOF, "flow_swap"),
    ),
    Fault(
        "a frame changes while it waits",
        "hdl/fix_frames.py",
        "m.d.comb += advance.eq(~self.o.valid | self.o.ready)",
        "m.d.comb += advance.eq(1)",
        (PROOF, "parser_waits"),
    ),
    Fault(
        "a beat overwrites what is not released",
        "hdl/payload_store.py",
        "room = used <= STORE_BYTES - LANES",
        "room = used <= STORE_BYTES",
        (PROOF, "store_bytes"),
    ),
    Fault(
        "a packet has a turn with each beat",
        "hdl/payload_store.py",
        "within_packet.eq(~beat.last)",
        "within_packet.eq(0)",
        (PROOF, "store_turn"),
    ),
    Fault(
        "a beat is handed over twice",
        "hdl/payload_store.py",
        "m.d.sync += output.valid.eq(taken & chosen)",
        "m.d.sync += output.valid.eq(self.i.valid & chosen)",
        (PROOF, "store_once"),
    ),
    Fault(
        "a message is lost when its queue is full",
        "hdl/ring_writer.py",
        "self.i.ready.eq(frames.w_rdy & messages.w_rdy)",
        "self.i.ready.eq(messages.w_rdy)",
        (PROOF, "queue_once"),
    ),
    Fault(
        "a packet's last bytes come twice",
        "hdl/trim.py",
        "silent.eq(beat.last)",
        "silent.eq(0)",
        (PROOF, "strip_bytes"),
    ),
)
"""The faults, in the order of the blocks that data meets."""


class Verdict(NamedTuple):
    """What came of a fault."""

    fault: Fault
    found: bool
    note: str
    seconds: float


def seed(fault: Fault, root: Path) -> None:
    """Change the copy of the sources in ``root``. Raises ValueError where ``old`` does not stand there once."""
    path = root / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1:
        raise ValueError(f"'{fault.old}' stands {text.count(fault.old)} times in {fault.file}, not once")
    path.write_text(text.replace(fault.old, fault.new))


def find(fault: Fault) -> Verdict:
    """Seed a fault and run what should find it."""
    began = time.perf_counter()
    finder, name = fault.found_by
    with tempfile.TemporaryDirectory(prefix="tickgate-fault-") as folder:
        root = Path(folder)
        for part in COPIED:
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        seed(fault, root)
        environment = toolchain.environment() | {
            "TICKGATE_FORMAL": str(root / "build" / "formal"),
            "TICKGATE_SIM_CACHE": str(root / "build" / "sim"),
        }
        module, option = finder.split()
        result = subprocess.run(
            [sys.executable, "-m", module, option, name],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    # Not the exit code alone: a design that cannot even be built shows nothing about who finds faults.
    found = result.returncode == 1 and re.search(rf"^{name}(\.\w+)? failed", result.stdout, re.MULTILINE) is not None
    lines = (result.stdout + result.stderr).strip().splitlines()
    note = next((line for line in lines if "failed" in line), lines[-1] if lines else "")
    return Verdict(fault, found, note, time.perf_counter() - began)


def main(arguments: Sequence[str] | None = None) -> int:
    """Look for the faults that the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m formal.mutations", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", help="only faults whose name or file has this text (default: all)")
    options = parser.parse_args(arguments)
    chosen = [
        fault for fault in FAULTS if options.only is None or options.only in fault.name or options.only in fault.file
    ]
    if not chosen:
        print(f"no fault with '{options.only}' in its name or file", file=sys.stderr)
        return UNUSABLE
    try:
        prove.require_tools()
        toolchain.require_compiler()
    except toolchain.ToolMissing as missing:
        print(missing, file=sys.stderr)
        return UNUSABLE
    console = Console(soft_wrap=True)
    console.width = max(console.width, 110)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = []
        for verdict in pool.map(find, chosen):
            verdicts.append(verdict)
            console.print(f"{verdict.fault.name}: {'found' if verdict.found else 'NOT FOUND'}", highlight=False)
    table = Table("fault", "file", "found by")
    table.add_column("seconds", justify="right")
    for verdict in verdicts:
        fault = verdict.fault
        by = " ".join(fault.found_by[1:]) if verdict.found else f"[red]not by {fault.found_by[1]}"
        table.add_row(fault.name, fault.file, by, f"{verdict.seconds:.0f}")
    console.print(table)
    for verdict in verdicts:
        if not verdict.found:
            console.print(f"[red]not found[/]: {verdict.fault.name} ({verdict.note})", highlight=False)
    return 0 if all(verdict.found for verdict in verdicts) else SURVIVED


if __name__ == "__main__":
    sys.exit(main())
