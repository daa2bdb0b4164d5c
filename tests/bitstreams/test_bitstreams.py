"""The bitstreams that come with the project are those of its sources."""

import re
import shutil

import pytest

from bitstreams import manifest
from bitstreams.build import Design, build, export
from bitstreams.make import shipped, staleness
from hdl.boards import BOARDS, find_board

ENTRIES = manifest.load()


def test_the_manifest_names_boards_and_clocks_that_are_met():
    assert ENTRIES
    for entry in ENTRIES:
        assert entry.board in BOARDS
        assert re.fullmatch(r"[0-9a-f]{40}", entry.source_hash)
        assert entry.luts <= entry.luts_available
        assert entry.clocks
        assert all(clock.mhz >= clock.target_mhz for clock in entry.clocks.values()), entry.board


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.board for entry in ENTRIES])
def test_a_bitstream_is_that_of_the_sources(entry):
    why = staleness(entry, shipped(find_board(entry.board)))
    assert not why, f"{why}: make bitstreams"


@pytest.mark.slow
def test_the_smallest_chip_is_built_for_again_byte_for_byte(tmp_path):
    smallest = min(ENTRIES, key=lambda entry: entry.luts_available)
    built = build(shipped(find_board(smallest.board)), tmp_path / "board", print)
    assert manifest.sha256(built.file) == smallest.sha256
    assert (built.seed, built.luts) == (smallest.seed, smallest.luts)


@pytest.mark.slow
def test_what_the_vendors_tool_builds_is_written(tmp_path):
    board = find_board("arty_a7")
    names = {file.name for file in export(Design(board, board.way()), tmp_path / "arty")}
    assert {"top.v", "top.xdc", "top.tcl", "build_top.sh"} <= names
    assert "module top(" in (tmp_path / "arty" / "top.v").read_text()
    assert "PLLE2_BASE" in (tmp_path / "arty" / "top.v").read_text()
    assert "create_clock" in (tmp_path / "arty" / "top.xdc").read_text()


@pytest.mark.slow
def test_a_card_for_a_slot_is_written_with_the_script_that_makes_its_block(tmp_path):
    board = find_board("nitefury")
    names = {file.name for file in export(Design(board, board.way()), tmp_path / "nitefury")}
    assert {"top.v", "top.xdc", "top.tcl", "build_top.sh"} <= names
    assert "  pcie_7x_0 block (" in (tmp_path / "nitefury" / "top.v").read_text()
    script = (tmp_path / "nitefury" / "top.tcl").read_text()
    steps = (
        "create_ip",
        "CONFIG.",
        "synth_ip",
        "synth_design",
        "reset_property LOC",
        "set_property LOC",
        "place_design",
    )
    places = [script.index(step) for step in steps]
    assert places == sorted(places)


def test_a_stale_bitstream_is_found(tmp_path, monkeypatch):
    [entry] = [entry for entry in ENTRIES if entry.board == "icebreaker"]
    monkeypatch.setattr(manifest, "FOLDER", tmp_path)
    design = shipped(find_board(entry.board))
    assert "is not there" in staleness(entry, design)
    shutil.copy(manifest.__file__, tmp_path / entry.file)
    assert "another SHA-256" in staleness(entry, design)


def test_what_does_not_fit_is_refused_before_it_is_built():
    board = find_board("icebreaker")
    with pytest.raises(ValueError, match="icebreaker has no interface 'eth'"):
        board.way("eth")
    with pytest.raises(ValueError, match="an SBE decoder does not fit on iCE40UP5K"):
        board.fix_width(board.way(), has_sbe=True)
    colorlight = find_board("colorlight_5a75b_r7_0")
    with pytest.raises(ValueError, match="a FIX parser does not fit on LFE5U-25F-6 BG256 with eth"):
        colorlight.fix_width(colorlight.way("eth"), has_sbe=False)
