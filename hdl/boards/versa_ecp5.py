"""Lattice ECP5 Versa: one network port takes traffic in, the other one carries frames out. Their PHYs delay both clocks."""

from hdl.boards.board import Board, Port, Usb, Way, openfpgaloader

BOARD = Board(
    name="versa_ecp5",
    title="Lattice ECP5 Versa",
    platform="versa_ecp5:VersaECP5Platform",
    device="LFE5UM-45F-8 BG381",
    ways=(
        Way("eth", 50_000_000, flows=4, fix_width=32, sbe=True, ports=(Port(1), Port(0))),
        Way("serial", 50_000_000, flows=4, fix_width=32, sbe=True),
    ),
    lights=("led 0", "led 1", "led 2"),
    usb=Usb(0x0403, 0x6010, "VERSA"),
    programmers=(openfpgaloader("--cable", "ft2232"),),
)
