"""Radiona ULX3S with an LFE5U-85F: room for both parsers, but at this speed grade the router finds no way for them beside each other."""

from hdl.boards.board import Board, Usb, Way, openfpgaloader

BOARD = Board(
    name="ulx3s_85f",
    title="Radiona ULX3S 85F",
    platform="ulx3s:ULX3S_85F_Platform",
    device="LFE5U-85F-6 BG381",
    ways=(Way("serial", 25_000_000, flows=4, fix_width=32, sbe=True),),
    lights=("led 0", "led 1", "led 2"),
    usb=Usb(0x0403, 0x6015, "ULX3S FPGA 85K"),
    programmers=(openfpgaloader("--board", "ulx3s"),),
)
