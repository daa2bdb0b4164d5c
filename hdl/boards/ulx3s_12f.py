"""Radiona ULX3S with an LFE5U-12F, on which a whole card has no room for its wires: FIX of one flow, its host does the rest."""

from hdl.boards.board import Board, Usb, Way, openfpgaloader

BOARD = Board(
    name="ulx3s_12f",
    title="Radiona ULX3S 12F",
    platform="ulx3s:ULX3S_12F_Platform",
    device="LFE5U-12F-6 BG381",
    ways=(Way("serial", 25_000_000, flows=1, fix_width=8, is_small=True),),
    lights=("led 0", "led 1", "led 2"),
    usb=Usb(0x0403, 0x6015, "ULX3S FPGA 12K"),
    programmers=(openfpgaloader("--board", "ulx3s"),),
)
