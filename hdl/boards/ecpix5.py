"""LambdaConcept ECPIX-5 with an LFE5UM5G-85F: one network port, whose PHY delays what comes."""

from hdl.boards.board import Board, Port, Usb, Way, openfpgaloader

BOARD = Board(
    name="ecpix5",
    title="LambdaConcept ECPIX-5 (85F)",
    platform="ecpix5:ECPIX585Platform",
    device="LFE5UM5G-85F-8 BG554",
    # FIX of 32 bits a cycle is 1.6 Gb/s: more than the port carries.
    ways=(
        Way("eth", 50_000_000, flows=8, fix_width=32, sbe=True, beside_fix=True, ports=(Port(0, tx_delay_ps=2000),)),
        Way("serial", 50_000_000, flows=8, fix_width=32, sbe=True, beside_fix=True),
    ),
    lights=("rgb_led 0 g", "rgb_led 1 g", "rgb_led 2 g"),
    usb=Usb(0x0403, 0x6010, "ECPIX"),
    programmers=(openfpgaloader("--board", "ecpix5"),),
)
