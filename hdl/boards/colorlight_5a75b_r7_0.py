"""Colorlight 5A-75B of revision 7.0: two network ports, no USB; programmed by a JTAG cable at J27 to J30."""

from hdl.boards.board import Board, Usb, openfpgaloader

BOARD = Board(
    name="colorlight_5a75b_r7_0",
    title="Colorlight 5A-75B R7.0",
    platform="colorlight_5a75b_r7_0:Colorlight_5A75B_R70Platform",
    device="LFE5U-25F-6 BG256",
    interfaces=("serial",),
    clock_hz=25_000_000,
    flows=2,
    fix_width=8,
    sbe=True,
    lights=(),
    usb=Usb(0x0403, 0x6014),
    programmers=(openfpgaloader("--cable", "ft232"),),
)
