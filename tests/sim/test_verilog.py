"""What Verilator would simulate wrongly is rewritten, or refused, when RTL becomes Verilog."""

import subprocess
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from sim import toolchain
from sim.shared_library import VERILATOR_FLAGS
from sim.verilog import convert

HALVES = data.StructLayout({"low": 8, "high": 8})

MAIN = """
#include "Vmixed.h"
#include <cstdio>

int main() {
    Vmixed model;
    model.i = 5;
    model.eval();
    std::printf("%x", model.o);
    return 0;
}
"""


class Mixed(wiring.Component):
    """Some bits of its output are constant."""

    i: In(8)
    o: Out(16)

    def elaborate(self, platform):
        m = Module()
        halves = Signal(HALVES)
        m.d.comb += [halves.low.eq(0x22), self.o.eq(halves)]
        with m.If(self.i[0]):
            m.d.comb += halves.high.eq(self.i)
        return m


class SelfReading(wiring.Component):
    """One half of a signal follows from the other."""

    i: In(8)
    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        halves = Signal(HALVES)
        m.d.comb += [halves.low.eq(self.i), self.o.eq(halves.high)]
        with m.If(halves.low == 3):
            m.d.comb += halves.high.eq(7)
        with m.Switch(halves.low):
            with m.Case(4):
                m.d.comb += halves.high.eq(8)
        return m


def test_bits_that_are_constant_are_set(tmp_path: Path) -> None:
    (tmp_path / "mixed.v").write_text(convert(Mixed(), "mixed"))
    (tmp_path / "main.cpp").write_text(MAIN)
    command = ["verilator", "--exe", *VERILATOR_FLAGS, "-Mdir", "obj", "--top-module", "mixed", "mixed.v", "main.cpp"]
    built = subprocess.run(
        command, cwd=tmp_path, env=toolchain.environment(), capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    ran = subprocess.run([tmp_path / "obj" / "Vmixed"], capture_output=True, text=True, check=True)
    assert ran.stdout == "522"


def test_bits_that_follow_from_others_of_their_signal_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^self_reading: set depending on other bits of the same signal: halves$"):
        convert(SelfReading(), "self_reading")
