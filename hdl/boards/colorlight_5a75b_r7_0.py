"""Colorlight 5A-75B of revision 7.0: one of its network ports, whose PHY delays what goes; no USB, and the LED's and the key's pins at J19
are its UART's. A JTAG cable programs it."""

from hdl.boards.board import Board, Port, Usb, Way, openfpgaloader

BOARD = Board(
    name="colorlight_5a75b_r7_0",
    title="Colorlight 5A-75B R7.0",
    platform="colorlight_5a75b_r7_0:Colorlight_5A75B_R70Platform",
    device="LFE5U-25F-6 BG256",
    ways=(
        Way("eth", 50_000_000, flows=2, sbe=True, ports=(Port(0, rx_delay_ps=2000),)),
        Way("serial", 25_000_000, flows=2, fix_width=8, sbe=True),
    ),
    lights=(),
    usb=Usb(0x0403, 0x6014),
    programmers=(openfpgaloader("--cable", "ft232"),),
)
