"""make timing: one real synthesis and placement of a small block, and what is said of results."""

import io
import json
import os
import subprocess
from pathlib import Path

import pytest
from amaranth.hdl import Fragment, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from rich.console import Console

from bitstreams import measure, report, timing, tools
from bitstreams.blocks import BLOCKS, ROOT, Block, Bound, UnknownBlock, find
from bitstreams.devices import LFE5UM5G_85F
from bitstreams.measure import Measurement
from bitstreams.paths import Hop, TimingPath
from bitstreams.placement import Placement
from bitstreams.synthesis import Synthesis

BITS = 8
BOUND = Bound(mhz=156.25, lut4=8000, latency_cycles=8, goal_mhz=187.5)


class Register(wiring.Component):
    i: In(BITS + 1)
    o: Out(BITS + 1)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.i)
        return m


class Adder(wiring.Component):
    """The sum of two numbers, a cycle later."""

    LATENCY = 1
    a: In(BITS)
    b: In(BITS)
    sum: Out(BITS + 1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.register = register = Register()
        m.d.comb += [register.i.eq(self.a + self.b), self.sum.eq(register.o)]
        return m


COUNTS = {"lut4": 7000, "ff": 4000, "bram": 2, "dsp": 0}


def path() -> TimingPath:
    return TimingPath(
        "carry.tag",
        "message.kind",
        (Hop("carry.tag", "", 0.0, 0.3), Hop("~message.tag", "", 2.0, 0.2), Hop("message.kind", "", 1.5, 0.0)),
    )


def measured(mhz: tuple[float, ...] = (160.0, 150.0, 170.0), lut4: int = 7000, latency: int | None = 8) -> Measurement:
    block = Block("fix_parser", Adder, bound=BOUND)
    placements = [Placement(rate, (path(),)) for rate in mhz]
    return Measurement(
        block, latency, Synthesis("abc9", 9000, {"carry": COUNTS}, **COUNTS | {"lut4": lut4}), placements
    )


@pytest.fixture
def adder_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measurement:
    if missing := tools.missing(["YOSYS", LFE5UM5G_85F.placer]):
        pytest.skip(missing)
    monkeypatch.setattr(measure, "FOLDER", tmp_path)
    [row] = measure.measure([Block("adder", Adder, BITS)], 1, lambda line: None)
    return row


class TestMeasure:
    def test_a_block_is_counted_without_its_harness_and_its_clock_is_that_of_its_slowest_path(
        self, adder_row: Measurement
    ) -> None:
        assert adder_row.failure == ""
        assert adder_row.synthesis is not None
        assert adder_row.worst is not None
        # Nine registers of the sum; eight bits of carry chain are four CCU2C, one more gives the carry.
        assert adder_row.synthesis.counts() == {"lut4": 10, "ff": 9, "bram": 0, "dsp": 0}
        assert {part: counts["ff"] for part, counts in adder_row.synthesis.parts.items()}["register"] == 9
        assert adder_row.synthesis.mapper == "abc9"
        assert adder_row.latency_cycles == 1
        slowest = adder_row.worst.paths[0]
        assert slowest.ns == pytest.approx(1000 / adder_row.worst.mhz, abs=0.01)
        assert adder_row.mhz_worst is not None
        assert 200 < adder_row.mhz_worst < 2000

    def test_a_second_run_runs_no_tool(self, adder_row: Measurement, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tools, "run", None)
        said: list[str] = []
        [again] = measure.measure([adder_row.block], 1, said.append)
        assert (again.mhz, again.synthesis, said) == (adder_row.mhz, adder_row.synthesis, [])

    def test_a_failing_tool_is_a_row_that_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(measure, "FOLDER", tmp_path)

        def dies(variable: str, arguments: list[str], folder: Path) -> str:
            (folder / arguments[1]).write_text("abc9 ...\n")
            return ""

        monkeypatch.setattr(tools, "run", dies)
        monkeypatch.setattr(tools, "version", lambda variable: "0")
        [row] = measure.measure([Block("adder", Adder)], 1, lambda line: None)
        assert row.failure.startswith("yosys failed (it stopped): ")
        assert Path(row.failure.removeprefix("yosys failed (it stopped): ")).read_text() == "abc9 ...\n"

    def test_what_is_larger_than_the_chip_is_not_placed(self) -> None:
        assert LFE5UM5G_85F.lacks({"lut4": 100, "ff": 100, "bram": 512, "dsp": 0}) == "512 of 208 bram"


class TestBounds:
    def test_a_block_within_its_bounds_misses_none(self) -> None:
        assert report.missed(measured()) == []

    @pytest.mark.parametrize(
        ("row", "words"),
        [
            (measured(mhz=(150.0, 156.2, 170.0)), "median 156.2 MHz, at least 156.25 asked for"),
            (measured(lut4=8001), "8,001 LUT4, at most 8,000 allowed"),
            (measured(latency=9), "latency 9 cycles, at most 8 allowed"),
            (measured(latency=None), "latency - cycles, at most 8 allowed"),
        ],
        ids=["median", "LUT4", "latency", "no latency"],
    )
    def test_a_missed_bound_is_named(self, row: Measurement, words: str) -> None:
        assert report.missed(row) == [words]

    @pytest.mark.parametrize(("lut4", "code"), [(8000, 0), (8001, 1)])
    def test_the_exit_code_is_that_of_the_bounds(
        self,
        lut4: int,
        code: int,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(tools, "missing", lambda used: "")
        monkeypatch.setattr(tools, "version", lambda variable: f"{variable} 1.0")
        monkeypatch.setattr(measure, "measure", lambda blocks, seeds, say: [measured(lut4=lut4)])
        monkeypatch.setattr(measure, "FOLDER", tmp_path)
        monkeypatch.setattr(timing, "ROOT", tmp_path)
        monkeypatch.setattr(timing, "RESULT", tmp_path / "timing.json")
        assert timing.main(["--block", "strip"]) == code
        printed = capsys.readouterr().out
        assert ("misses a bound: 8,001 LUT4" in printed) == bool(code)
        assert "27.5 MHz below the goal of 187.5 MHz" in printed
        assert "not a link" in printed
        assert "carry.tag to message.kind through message.tag" in printed

    def test_the_fix_parser_has_them(self) -> None:
        assert [block.bound for block in BLOCKS if block.name == "fix_parser" and block.data_width == 64] == [BOUND]


class TestOutput:
    def test_json_has_the_agreed_names(self) -> None:
        row = json.loads(json.dumps(report.as_json(measured())))
        assert row["block"] == "fix_parser"
        assert (row["device"], row["speed_grade"], row["data_width"]) == ("LFE5UM5G-85F", "8", 64)
        assert (row["lut4"], row["ff"], row["bram"], row["dsp"]) == (7000, 4000, 2, 0)
        assert (row["mhz"], row["mhz_median"], row["mhz_worst"]) == ([160.0, 150.0, 170.0], 160.0, 150.0)
        assert row["latency_cycles"] == 8
        assert row["critical_path"] == {
            "from": "carry.tag",
            "to": "message.kind",
            "through": ["message.tag"],
            "logic_ns": 0.5,
            "routing_ns": 3.5,
        }

    def test_a_row_that_was_not_placed_has_nulls_and_a_reason(self) -> None:
        row = report.as_json(Measurement(Block("card", Adder), lacks="512 of 208 bram"))
        assert (row["lut4"], row["mhz"], row["mhz_median"]) == (None, [], None)
        assert row["not_placed"] == "does not fit: 512 of 208 bram"

    def test_paths_are_written_hop_by_hop(self, tmp_path: Path) -> None:
        report.write_paths(measured(), tmp_path / "paths.txt")
        text = (tmp_path / "paths.txt").read_text()
        assert "  7,000  4,000      2      0  carry\n" in text
        assert "1. carry.tag to message.kind\n" in text
        assert "     2.000    0.200    2.500  ~message.tag\n" in text

    def test_the_page_keeps_what_stands_around_the_table(self, tmp_path: Path) -> None:
        page = tmp_path / "timing.md"
        page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
        report.write_page([measured()], page, "yosys 1.0")
        text = page.read_text()
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
        assert "old" not in text
        assert "| `fix_parser` | 64 | - | LFE5UM5G-85F-8 | 7,000 | 4,000 | 2 | 0 | 160.0 | 150.0 | 8 |" in text

    def test_a_table_without_any_figure_is_a_table_too(self) -> None:
        console = Console(width=140, record=True, file=io.StringIO())
        report.show([Measurement(Block("card", Adder), lacks="512 of 208 bram")], console)
        assert "does not fit: 512 of 208 bram" in console.export_text()


class TestUsersErrors:
    def test_an_unknown_block_is_refused_with_the_names_that_there_are(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert timing.main(["--block", "fix_parsr"]) == 2
        assert "no block 'fix_parsr' (there are strip, ethernet" in capsys.readouterr().err

    def test_a_width_that_no_row_has_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert timing.main(["--block", "strip", "--width", "9"]) == 2
        assert "no block strip of 9 bits" in capsys.readouterr().err

    def test_a_page_with_half_the_rows_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert timing.main(["--docs", "--block", "strip"]) == 2
        assert "DOCS=1 goes alone" in capsys.readouterr().err

    def test_missing_tools_are_named_with_what_installs_them(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("NEXTPNR_ECP5", "no-such-nextpnr")
        assert timing.main(["--block", "strip"]) == 2
        assert "no-such-nextpnr not found: ./setup.sh boards" in capsys.readouterr().err

    def test_no_seeds_are_refused(self) -> None:
        with pytest.raises(SystemExit) as stopped:
            timing.main(["--seeds", "0"])
        assert stopped.value.code == 2


def test_make_hands_its_variables_on() -> None:
    command = ["make", "-n", "timing", "BLOCK=fix_parser", "WIDTH=64", "SEEDS=1", "DOCS=1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "./setup.sh boards" in ran.stdout
    assert "-m bitstreams.timing --block 'fix_parser' --width 64 --seeds 1 --docs" in " ".join(
        ran.stdout.replace("\\\n", "").split()
    )


class TestOneOffBlocks:
    def test_any_component_can_be_named_as_python(self) -> None:
        [block] = find("hdl.strip:Strip(data.StructLayout({}), data.StructLayout({}))")
        component = block.component()
        assert component.signature.members["o"].flow == Out
        Fragment.get(component, None)  # Amaranth complains of what is never elaborated

    @pytest.mark.parametrize("name", ["hdl.strip:LANES", "hdl.strip:NoSuch()", "hdl.nowhere:X()"])
    def test_what_is_none_is_refused(self, name: str) -> None:
        with pytest.raises(UnknownBlock, match="is no component"):
            find(name)


def test_every_row_of_the_table_can_be_told_from_the_others() -> None:
    assert len({block.label for block in BLOCKS}) == len(BLOCKS)
