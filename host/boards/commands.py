"""The commands ``tickgate boards``, ``build`` and ``flash``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from bitstreams.manifest import Entry
    from hdl.boards import Board
    from hdl.boards.board import Way

console = Console()


def list_boards(udev: bool) -> None:
    """What there is for each board."""
    from bitstreams import manifest
    from hdl.boards import BOARDS
    from host.boards.usb import udev_rules

    if udev:
        print(udev_rules(list(BOARDS.values())), end="")
        return
    built = {(entry.board, entry.interface): entry for entry in manifest.load()}
    table = Table(show_lines=True)
    table.add_column("board, device", no_wrap=True)
    for title in ("interface", "parsers", "flows", "clock", "LUTs"):
        table.add_column(title)
    for board in BOARDS.values():
        names = f"{board.name}\n[dim]{board.device}[/dim]"
        for index, way in enumerate(board.ways):
            reached = _reached(board, way, built.get((board.name, way.interface)))
            table.add_row("" if index else names, way.interface, way.parsers_text, str(way.flows), *reached)
    console.print(table)
    console.print("clock: reached, of what is needed, by what is in bitstreams/", style="dim")


def _reached(board: "Board", way: "Way", entry: "Entry | None") -> tuple[str, str]:
    if entry is None:
        what = "not built" if board.built_here else "by the vendor's tool"
        return f"{way.clock_hz / 1e6:g} MHz, {what}", "-"
    return "\n".join(f"{clock} MHz" for clock in entry.clocks.values()), entry.luts_text


def flash_board(name: str, *, dry_run: bool, persistent: bool, url: str | None, folder: Path | None) -> None:
    """Program a board, and read back what is on it."""
    from bitstreams import manifest
    from hdl.boards import find_board
    from host.boards import usb
    from host.boards.flash import FlashError, plan_flash, program

    board = find_board(name)
    plan = plan_flash(board, persistent=persistent, folder=folder or manifest.FOLDER)
    console.print(f"{plan.file.name}: {', '.join(plan.entry.parsers)}; SHA-256 as in the manifest", highlight=False)
    console.print(shlex.join(plan.command), highlight=False, soft_wrap=True)
    if dry_run:
        try:
            device = usb.find_board(board)
            console.print(f"would program '{device.text}' at {device.node}", highlight=False)
        except usb.UsbError as error:
            console.print(f"not to be programmed now: {error}", highlight=False, soft_wrap=True)
        return
    device = usb.find_board(board)
    program(plan)
    if url is None:
        if plan.entry.interface != "serial" or not device.ports:
            raise FlashError(
                f"programmed, but not read back: say where the card is, --card {plan.entry.interface}:DEVICE"
            )
        # A bridge with several ports programs by its first one.
        url = f"serial:{device.ports[-1]}?baud={board.baud}"
    console.print(f"{url}: {read_back(url, plan.entry)}", highlight=False)


def read_back(url: str, entry: "Entry") -> str:
    """What the card at a URL says that it is. Raises FlashError where it is not the one of the manifest."""
    from host.boards.flash import check
    from host.card.registers import open_registers

    with open_registers(url) as read:
        return check(entry, read)


def build_board(name: str, interface: str | None, schema: Path | None, profile: str | None, out: Path) -> None:
    """Build a card for a board into a folder, with a manifest."""
    import shutil
    import time

    from bitstreams import manifest, tools
    from bitstreams.build import FOLDER, Design, build, export
    from bitstreams.make import NEEDED, entry_of, print_entries
    from hdl.boards import find_board
    from hdl.sbe_venue import load_venue
    from sim.toolchain import ToolMissing

    board = find_board(name)
    design = Design(board, board.way(interface), load_venue(schema, profile) if schema else None)
    if not board.built_here:
        files = export(design, out / board.name)
        console.print(
            f"{', '.join(file.name for file in files)} in {out / board.name}", highlight=False, soft_wrap=True
        )
        console.print(
            f"{board.device} is built by its vendor's tool, which is not here: none of this has been built. Run build_top.sh there.",
            highlight=False,
        )
        return
    if absent := tools.missing(NEEDED):
        raise ToolMissing(absent)
    begun = time.monotonic()
    built = build(
        design,
        FOLDER / f"{board.name}-{design.way.interface}",
        lambda text: console.print(f"{time.monotonic() - begun:5.0f} s  {text}", highlight=False),
    )
    out.mkdir(parents=True, exist_ok=True)
    entry = entry_of(design, built, f"{board.name}{built.file.suffix}")
    shutil.copyfile(built.file, out / entry.file)
    manifest.put(entry, out)
    print_entries([entry], console)
    place = "" if out == manifest.FOLDER else f" --from {shlex.quote(str(out))}"
    console.print(f"tickgate flash {board.name}{place}", highlight=False)
