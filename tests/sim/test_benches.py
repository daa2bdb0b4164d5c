"""The benches run, their exit codes say what came of them, and they fail where the design is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Module, Mux

from hdl.fixed_point import Form
from sim import cocotb_verilator, run
from sim.benches import BENCHES, NAMES, Bench
from sim.benches.fixed_point import Converters
from sim.benches.packing import packing

ROOT = Path(__file__).resolve().parents[2]


class WrongPrice(Converters):
    """Prices are counted as quantities are, so with one decimal too few."""

    def elaborate(self, platform):
        m = Module()
        m.submodules.right = right = Converters()
        m.d.comb += [
            right.enable.eq(self.enable),
            right.number.eq(self.number),
            right.form.eq(Mux(self.form == Form.PRICE, Form.QUANTITY, self.form)),
            self.results.eq(right.results),
        ]
        return m


def test_benches_pass_and_end_in_a_table():
    result = subprocess.run(
        [sys.executable, "-m", "sim.run", "--bench", "fixed_point"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "seed 1" in result.stdout
    row = next(line for line in result.stdout.splitlines() if "fixed_point" in line and "│" in line)
    tests, passed, failed, cycles, rate = (int(cell.replace(",", "")) for cell in row.strip("│ ").split("│")[1:])
    assert (tests, passed, failed) == (3, 3, 0)
    assert cycles > 1000
    assert rate > 0


def test_a_second_run_compiles_nothing(capfd):
    for _ in range(2):
        assert run.main(["--bench", "strip", "--seed", "2"]) == 0
    assert "compiling" not in capfd.readouterr().out.rpartition("seed 2")[2]


def test_a_wrong_design_fails(monkeypatch, capfd, tmp_path):
    monkeypatch.setenv("TICKGATE_SIM_CACHE", str(tmp_path))
    monkeypatch.setitem(BENCHES, "fixed_point", Bench("sim.benches.fixed_point", WrongPrice))
    assert run.main(["--bench", "fixed_point"]) == 1
    out = capfd.readouterr().out
    assert "fixed_point.chosen_numbers failed: PRICE '" in out
    assert "run.log" in out


def test_an_unknown_bench_is_named(capfd):
    assert run.main(["--bench", "fix_praser"]) == 2
    error = capfd.readouterr().err
    assert "no bench 'fix_praser'" in error
    assert all(name in error for name in NAMES)


def test_missing_tools_are_named(monkeypatch, capfd):
    from sim import toolchain

    def nothing_there():
        raise toolchain.ToolMissing("g++ not found")

    monkeypatch.setattr(toolchain, "require_compiler", nothing_there)
    assert run.main(["--bench", "strip"]) == 2
    assert capfd.readouterr().err == "g++ not found\n"


def test_every_bench_file_is_listed():
    """A file with cocotb tests is a bench."""
    files = (ROOT / "sim" / "benches").glob("*.py")
    assert {path.stem for path in files if "@cocotb.test" in path.read_text()} == set(NAMES)


def test_only_ports_are_public():
    verilog = (
        "module inner(x);\n  input x;\nendmodule\nmodule bench(clk, o__payload);\n  input clk;\n  wire clk;\n"
        "  output [66:0] o__payload;\n  wire [66:0] o__payload;\n  reg hidden;\nendmodule\n"
    )
    assert cocotb_verilator.ports(verilog) == ["clk", "o__payload"]


@pytest.mark.parametrize("value", [0, 1, (1 << 69) - 1, 0x1234567890ABCDEF12])
def test_ports_are_packed_as_amaranth_lays_them_out(value):
    from hdl.beat import PacketBeat

    bits = value & (1 << PacketBeat.size) - 1
    fields = packing(PacketBeat).unpack(bits)
    assert packing(PacketBeat).pack(fields) == bits
    constant = PacketBeat.from_bits(bits)
    assert fields["timestamp"] == constant.timestamp
    assert fields["count"] == constant.count
    assert fields["data"] == bytes(constant.data[lane] for lane in range(8))
