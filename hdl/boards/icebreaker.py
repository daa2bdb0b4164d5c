"""1BitSquared iCEBreaker with an iCE40UP5K: FIX of one flow, its host does the rest."""

from hdl.boards.board import Board, Usb, Way, iceprog, openfpgaloader

BOARD = Board(
    name="icebreaker",
    title="1BitSquared iCEBreaker",
    platform="icebreaker:ICEBreakerPlatform",
    device="iCE40UP5K SG48",
    ways=(Way("serial", 12_000_000, flows=1, fix_width=8, is_small=True),),
    lights=("led 1", "led 0"),
    usb=Usb(0x0403, 0x6010, "iCEBreaker"),
    programmers=(iceprog(has_sram=False), openfpgaloader("--board", "ice40_generic", has_sram=False)),
)
