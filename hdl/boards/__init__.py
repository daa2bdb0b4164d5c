"""Dev boards: a file each, and the one top that all of them have."""

from hdl.boards import (
    arty_a7,
    colorlight_5a75b_r7_0,
    ecpix5,
    ice40_hx8k_b_evn,
    icebreaker,
    nitefury,
    ulx3s_12f,
    ulx3s_85f,
    versa_ecp5,
)
from hdl.boards.board import Board

__all__ = ["BOARDS", "Board", "UnknownBoard", "find_board"]

BOARDS = {
    module.BOARD.name: module.BOARD
    for module in (
        versa_ecp5,
        ecpix5,
        colorlight_5a75b_r7_0,
        ulx3s_85f,
        ulx3s_12f,
        icebreaker,
        ice40_hx8k_b_evn,
        arty_a7,
        nitefury,
    )
}


class UnknownBoard(ValueError):
    """There is no such board. The text is one line and says what there is."""


def find_board(name: str) -> Board:
    """The board of this name. Raises :class:`UnknownBoard`."""
    if name not in BOARDS:
        raise UnknownBoard(f"no board '{name}' (there are {', '.join(BOARDS)})")
    return BOARDS[name]
