"""Radiona ULX3S with an LFE5U-85F: room for all parsers; 8 bits of FIX a cycle are a hundred times what its UART carries."""

from hdl.boards.board import Board, Usb, Way, openfpgaloader

BOARD = Board(
    name="ulx3s_85f",
    title="Radiona ULX3S 85F",
    platform="ulx3s:ULX3S_85F_Platform",
    device="LFE5U-85F-6 BG381",
    ways=(Way("serial", 25_000_000, flows=8, fix_width=8, sbe=True, beside_fix=True),),
    lights=("led 0", "led 1", "led 2"),
    usb=Usb(0x0403, 0x6015, "ULX3S FPGA 85K"),
    programmers=(openfpgaloader("--board", "ulx3s"),),
)
