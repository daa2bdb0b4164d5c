"""Digilent Arty A7-100T: built by its vendor's tool."""

from hdl.boards.board import Board, Usb, Way, openfpgaloader

BOARD = Board(
    name="arty_a7",
    title="Digilent Arty A7-100T",
    platform="arty_a7:ArtyA7_100Platform",
    device="XC7A100TI-1L CSG324",
    ways=(Way("serial", 50_000_000, flows=8, fix_width=64, sbe=True, beside_fix=True),),
    lights=("led 0", "led 1", "led 2"),
    usb=Usb(0x0403, 0x6010, "Digilent"),
    programmers=(openfpgaloader("--board", "arty_a7_100t"),),
    built_here=False,
)
