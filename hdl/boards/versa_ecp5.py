"""Lattice ECP5 Versa: two network ports."""

from hdl.boards.board import Board, Programmer, Usb, openfpgaloader

BOARD = Board(
    name="versa_ecp5",
    title="Lattice ECP5 Versa",
    platform="versa_ecp5:VersaECP5Platform",
    device="LFE5UM-45F-8 BG381",
    interfaces=("serial",),
    clock_hz=50_000_000,
    flows=4,
    fix_width=32,
    sbe=True,
    lights=("led 0", "led 1", "led 2"),
    usb=Usb(0x0403, 0x6010, "VERSA"),
    programmers=(
        Programmer(
            "openocd",
            ("-f", "{config}", "-c", "transport select jtag; init; svf -quiet {svf}; exit"),
            None,
            "your distribution's package openocd",
        ),
        openfpgaloader("--cable", "ft2232"),
    ),
)
