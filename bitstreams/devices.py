"""The FPGAs that blocks are placed on, and how each is synthesized for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Device:
    """A chip of a speed grade.

    ``script`` synthesizes the module ``top`` up to where LUTs are mapped, ``mappers`` are ways to map them, the
    best first, ``finish`` does the rest. ``lut4``, ``ff``, ``bram`` and ``dsp`` say how many of each a cell of the
    netlist takes, ``has`` how many the chip has.
    """

    name: str
    speed_grade: str
    script: str
    mappers: Mapping[str, str]
    finish: str
    placer: str
    options: tuple[str, ...]
    lut4: Mapping[str, int]
    ff: tuple[str, ...]
    bram: tuple[str, ...]
    dsp: tuple[str, ...]
    has: Mapping[str, int]

    def count(self, cells: Mapping[str, int]) -> dict[str, int]:
        """What a netlist with so many ``cells`` of each type takes of the chip."""
        return {
            "lut4": sum(number * self.lut4.get(kind, 0) for kind, number in cells.items()),
            "ff": sum(number for kind, number in cells.items() if kind.startswith(self.ff)),
            "bram": sum(number for kind, number in cells.items() if kind in self.bram),
            "dsp": sum(number for kind, number in cells.items() if kind in self.dsp),
        }

    def lacks(self, counts: Mapping[str, int]) -> str:
        """What of ``counts`` the chip has not enough of, in words; empty when all fits."""
        short = [
            f"{number:,} of {self.has[kind]:,} {kind}" for kind, number in counts.items() if number > self.has[kind]
        ]
        return ", ".join(short)


ECP5_LUT4 = {
    "LUT4": 1,
    "CCU2C": 2,  # a carry cell is two LUT4s with their carry chain
    "TRELLIS_DPR16X4": 6,  # 16 words of 4 bits: a LUT4 a bit, and the two LUT4s of the slice that takes the write port
}
"""LUT4s of an ECP5 that a cell takes. PFUMX and L6MUX21 are multiplexers beside the LUT4s."""

ICE40_LUT4 = {"SB_LUT4": 1}
"""LUT4s of an iCE40; SB_CARRY lies in the same logic cell as its LUT4."""

WIRE_PS = 600
"""The delay of a wire that abc9 reckons with: placed blocks take more time for wires than for LUTs."""

ABC9_SCRIPT = "+" + ";,".join(
    commands.replace(" ", ",") for commands in ("&scorr", "&sweep", "&b -d", "&dch -f -r", "&if {W} {D} {R} -v", "&mfs")
)
"""Yosys's own, but that ABC balances what it finds for delay instead of rewriting it for area, which leaves late signals in front."""

LFE5UM5G_85F = Device(
    name="LFE5UM5G-85F",
    speed_grade="8",
    script="synth_ecp5 -top top -run begin:map_luts",
    mappers={
        "abc9": f"techmap -map +/lattice/latches_map.v; abc9 -W {WIRE_PS} -script {ABC9_SCRIPT}; clean",
        "abc": "techmap -map +/lattice/latches_map.v; abc -dress -lut 4:7; clean",
    },
    finish="synth_ecp5 -top top -run map_cells:",
    placer="NEXTPNR_ECP5",
    options=("--um5g-85k", "--package", "CABGA756", "--speed", "8", "--out-of-context"),
    lut4=ECP5_LUT4,
    ff=("TRELLIS_FF",),
    bram=("DP16KD", "PDPW16KD"),
    dsp=("MULT18X18D", "ALU54B"),
    has={"lut4": 83_640, "ff": 83_640, "bram": 208, "dsp": 156},
)

LFE5U_25F = replace(
    LFE5UM5G_85F,
    name="LFE5U-25F",
    speed_grade="6",
    options=("--25k", "--package", "CABGA256", "--speed", "6", "--out-of-context"),
    has={"lut4": 24_288, "ff": 24_288, "bram": 56, "dsp": 28},
)
"""The chip of the smallest boards with a gigabit port."""

ICE40HX8K = Device(
    name="iCE40HX8K",
    speed_grade="HX",
    script="synth_ice40 -top top -run begin:map_luts",
    mappers={
        "abc9": "synth_ice40 -top top -run map_luts:map_cells",
        "abc": "techmap -map +/ice40/latches_map.v; abc -dress -lut 4; ice40_wrapcarry -unwrap; "
        "techmap -map +/ice40/ff_map.v; clean; opt_lut -tech ice40",
    },
    finish="synth_ice40 -top top -run map_cells:",
    placer="NEXTPNR_ICE40",
    options=("--hx8k", "--package", "ct256", "--pcf-allow-unconstrained"),
    lut4=ICE40_LUT4,
    ff=("SB_DFF",),
    bram=("SB_RAM40_4K",),
    dsp=(),
    has={"lut4": 7_680, "ff": 7_680, "bram": 32, "dsp": 0},
)

ICE40UP5K = replace(
    ICE40HX8K,
    name="iCE40UP5K",
    speed_grade="UP",
    options=("--up5k", "--package", "sg48", "--pcf-allow-unconstrained"),
    has={"lut4": 5_280, "ff": 5_280, "bram": 30, "dsp": 8},
)
