"""RHS Research NiteFury II, a card for an M.2 slot: built by its vendor's tool."""

from hdl.boards.board import Board, Way

BOARD = Board(
    name="nitefury",
    title="RHS Research NiteFury II",
    platform="nitefury:NitefuryIIPlatform",
    device="XC7A200T-2 FBG484",
    ways=(
        Way(
            "pcie",
            62_500_000,
            flows=8,
            fix_width=64,
            sbe=True,
            beside_fix=True,
            # Of the pins B10 and A10, B6 and A6.
            transceiver="GTPE2_CHANNEL_X0Y6",
        ),
    ),
    lights=("led 0", "led 1", "led 2"),
    usb=None,
    built_here=False,
)
