"""Lattice iCE40-HX8K breakout board: FIX of one flow, its host does the rest."""

from hdl.boards.board import Board, Usb, Way, iceprog, openfpgaloader

BOARD = Board(
    name="ice40_hx8k_b_evn",
    title="Lattice iCE40-HX8K Breakout Board",
    platform="ice40_hx8k_b_evn:ICE40HX8KBEVNPlatform",
    device="iCE40HX8K CT256",
    ways=(Way("serial", 12_000_000, flows=1, fix_width=8, is_small=True),),
    lights=("led 0", "led 1", "led 2"),
    usb=Usb(0x0403, 0x6010, "Lattice"),
    programmers=(iceprog(), openfpgaloader("--board", "ice40_generic", has_sram=False)),
)
