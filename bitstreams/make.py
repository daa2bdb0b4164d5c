"""``make bitstreams``: builds what is stale in ``bitstreams/`` for every board, two at a time."""

import argparse
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.table import Table

from bitstreams import manifest, tools
from bitstreams.blocks import DEMO_SCHEMA
from bitstreams.build import FOLDER, BuildError, Built, Design, build, tool_versions
from bitstreams.manifest import Entry, sha256
from bitstreams.measure import PROCESSES
from hdl.boards import BOARDS, Board, find_board
from hdl.sbe_venue import load_venue

NEEDED = ("YOSYS", "NEXTPNR_ECP5", "ECPPACK", "NEXTPNR_ICE40", "ICEPACK")


def shipped(board: Board) -> Design:
    """What is built for a board when nobody asks for something else: its first interface, and the demo's schema where
    SBE fits beside FIX, or FIX does not fit."""
    way = board.way()
    return Design(board, way, load_venue(DEMO_SCHEMA) if way.decodes_sbe else None)


def parsers_text(design: Design) -> tuple[str, ...]:
    """The parsers of a design in words."""
    width = design.board.fix_width(design.way, design.venue is not None)
    fix = () if width is None else (f"FIX, {width} bits",)
    sbe = () if design.venue is None else (f"SBE, {design.venue.schema.package}",)
    return fix + sbe


def entry_of(design: Design, built: Built, name: str) -> Entry:
    """What the manifest says of a build."""
    return Entry(
        board=design.board.name,
        file=name,
        sha256=sha256(built.file),
        interface=design.way.interface,
        parsers=parsers_text(design),
        flows=design.way.flows,
        sources=design.sources,
        source_hash=design.source_hash,
        tools=tool_versions(design.board),
        seed=built.seed,
        luts=built.luts,
        luts_available=built.luts_available,
        clocks=built.clocks,
    )


def staleness(entry: Entry, design: Design) -> str:
    """Why a bitstream is not what would be built of ``design`` today, in words; empty where it is.

    Where its files are those that it was built from nothing is elaborated, which takes seconds.
    """
    file = manifest.FOLDER / entry.file
    if not file.exists():
        return f"{file} is not there"
    if sha256(file) != entry.sha256:
        return f"{file} has another SHA-256 than the manifest says"
    if entry.sources != design.sources and entry.source_hash != design.source_hash:
        return f"{file} was built from other sources"
    return ""


def make(boards: Sequence[Board], *, anew: bool, console: Console) -> bool:
    """Build those of ``boards`` whose sources or tools have changed, or with ``anew`` all; whether all was well."""
    begun = time.monotonic()
    entries = {entry.board: entry for entry in manifest.load()}
    elaborating = threading.Lock()  # Amaranth is not made for threads
    failures = []

    def say(board: Board, text: str) -> None:
        console.print(f"{time.monotonic() - begun:5.0f} s  {board.name}: {text}", highlight=False)

    def one(board: Board) -> None:
        with elaborating:
            design = shipped(board)
            entry = entries.get(board.name)
            is_stale = entry is None or bool(staleness(entry, design)) or entry.tools != tool_versions(board)
            if not is_stale and not anew:
                say(board, "nothing has changed")
                return
            design.plan  # noqa: B018 - elaborated here, so that no other thread does it meanwhile
        try:
            # What was built of the same sources before is built again at once, and to the byte.
            seed = entry.seed if entry is not None and entry.source_hash == design.source_hash else 1
            built = build(design, FOLDER / board.name, lambda text: say(board, text), first_seed=seed)
            name = f"{board.name}{built.file.suffix}"
            shutil.copyfile(built.file, manifest.FOLDER / name)
            with elaborating:
                entries[board.name] = entry_of(design, built, name)
                manifest.put(entries[board.name])
            say(board, "built")
        except (BuildError, tools.ToolFailed) as error:
            failures.append(error)
            say(board, f"failed: {error}")

    with ThreadPoolExecutor(PROCESSES) as pool:
        list(pool.map(one, boards))
    print_entries([entries[board.name] for board in boards if board.name in entries], console)
    for failure in failures:
        console.print(f"tickgate: {failure}", style="red", highlight=False, markup=False)
    return not failures


def print_entries(entries: Sequence[Entry], console: Console) -> None:
    """A table of bitstreams."""
    table = Table(show_lines=True)
    table.add_column("bitstream", no_wrap=True)
    for title in ("parsers", "flows", "LUTs", "clock: MHz of what it needs", "seed"):
        table.add_column(title)
    for entry in entries:
        table.add_row(
            f"{entry.file}\n[dim]{entry.interface}[/dim]",
            "\n".join(entry.parsers),
            str(entry.flows),
            entry.luts_text,
            "\n".join(f"{name}: {clock}" for name, clock in entry.clocks.items()),
            str(entry.seed),
        )
    console.print(table)


def main() -> int:
    """Exit code 1 where a board missed its clock or did not fit, 2 for an unknown one."""
    parser = argparse.ArgumentParser(prog="python -m bitstreams.make", description=__doc__)
    parser.add_argument("--board", action="append", metavar="NAME", help="only this one (may be given again)")
    parser.add_argument("--anew", action="store_true", help="build what has not changed, too")
    arguments = parser.parse_args()
    console = Console()
    if absent := tools.missing(NEEDED):
        console.print(f"tickgate: {absent}", style="red", highlight=False)
        return 2
    try:
        boards = [find_board(name) for name in arguments.board or BOARDS if find_board(name).built_here]
    except ValueError as error:
        console.print(f"tickgate: {error}", style="red", highlight=False)
        return 2
    return 0 if make(boards, anew=arguments.anew, console=console) else 1


if __name__ == "__main__":
    sys.exit(main())
