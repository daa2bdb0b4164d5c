"""A dev board that is not there: the RTL of its top in Verilator, the UART's pins tied to a pseudo-terminal.

``python -m sim.serial_board BOARD [SCHEMA]`` prints the card's URL; ``tickgate replay --card URL`` then finds a board there.
"""

import ctypes
import os
import sys
import tempfile
import threading
import time
import tty
from dataclasses import replace
from pathlib import Path

from hdl.boards import Board, find_board
from hdl.sbe_venue import Venue, load_venue
from host.closing import Closing
from sim.shared_library import Model, card_library, on_board

SAMPLES = 4
"""Samples a bit, the fewest: the simulated clock is that much slower than 16 would want, and the run that much faster."""

BAUD = 1_000_000
"""A bit is SAMPLES cycles, whatever this number is."""

LINE_BAUD = 9600
"""What the simulated line does on a busy machine: the rate that a host should believe in, which waits accordingly."""

STEP_BITS = 2000
"""How long the board runs between looking at what the caller wants."""

FOREVER = 2**64 - 1


def model(board: Board) -> Model:
    """The top of a board, but for its clock, which is slower."""
    top = on_board(replace(board, baud=BAUD), replace(board.way("serial"), clock_hz=SAMPLES * BAUD))
    return Model("serial_top", harness="sim/serial_board.cpp", optimization="-O1", **top)


class SerialBoard(Closing):
    """A board that runs in a thread of its own until it is closed.

    ``bit_errors`` and ``byte_losses`` are probabilities, of each bit on either wire to be wrong and of each byte to be lost; what
    happens follows from ``seed`` and from when bytes come. Raises ToolMissing without a compiler.

    Attributes:
        url: of the card that it is.
        path: the terminal's name, the same one after the cable was pulled.
        cuts: how often it was.
    """

    def __init__(
        self, board: Board, venue: Venue | None = None, *, bit_errors: float = 0, byte_losses: float = 0, seed: int = 1
    ) -> None:
        self._library = library = ctypes.CDLL(str(card_library(venue, model(board))))
        pointer, u64, real = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_double
        for name, result, arguments in (
            ("open", pointer, [ctypes.c_int, u64]),
            ("close", None, [pointer]),
            ("connect", None, [pointer, ctypes.c_int]),
            ("disturb", None, [pointer, real, real]),
            ("faults", u64, [pointer]),
            ("bytes_up", u64, [pointer]),
            ("run", None, [pointer, u64, u64]),
        ):
            function = getattr(library, f"tickgate_board_{name}")
            function.restype, function.argtypes = result, arguments
        self._seed = seed
        self._handle = library.tickgate_board_open(SAMPLES, seed)
        library.tickgate_board_disturb(self._handle, bit_errors, byte_losses)
        self._disturbances = bit_errors, byte_losses
        self._folder = tempfile.TemporaryDirectory(prefix="tickgate-board-")
        self.path = Path(self._folder.name) / "tty"
        self.url = f"serial:{self.path}?baud={LINE_BAUD}"
        self.cuts = 0
        self._cut_at = FOREVER
        self._cut_seconds = 0.0
        self._restarts = False
        self._closing = False
        self._terminal: tuple[int, int] | None = None
        self._plug_in()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def faults(self) -> int:
        """Wrong bits and lost bytes so far."""
        return self._library.tickgate_board_faults(self._handle)

    @property
    def bytes_up(self) -> int:
        """Bytes that the board has sent so far."""
        return self._library.tickgate_board_bytes_up(self._handle)

    def cut(self, after: int, seconds: float, *, power: bool = False) -> None:
        """Pull the cable for some seconds, once ``after`` more bytes have come up, wherever in a frame that is; with ``power`` the
        board loses all that it knows as well."""
        self._cut_seconds, self._restarts = seconds, power
        self._cut_at = self.bytes_up + after

    def close(self) -> None:
        """Stop the board; its terminal goes."""
        self._closing = True
        self._thread.join()
        self._pull_out()
        self._folder.cleanup()
        self._library.tickgate_board_close(self._handle)

    def _run(self) -> None:
        library = self._library
        while not self._closing:
            library.tickgate_board_run(self._handle, STEP_BITS, self._cut_at)
            if self.bytes_up < self._cut_at:
                continue
            self._cut_at = FOREVER
            self._pull_out()
            # What is under way is lost.
            library.tickgate_board_run(self._handle, STEP_BITS, FOREVER)
            if self._restarts:
                library.tickgate_board_close(self._handle)
                self._handle = library.tickgate_board_open(SAMPLES, self._seed)
                library.tickgate_board_disturb(self._handle, *self._disturbances)
            time.sleep(self._cut_seconds)
            self._plug_in()
            self.cuts += 1

    def _plug_in(self) -> None:
        """A new terminal under the old name, as udev gives one."""
        board, host = os.openpty()
        tty.setraw(host)
        os.set_blocking(board, False)
        self._terminal = board, host
        self.path.symlink_to(os.ttyname(host))
        self._library.tickgate_board_connect(self._handle, board)

    def _pull_out(self) -> None:
        self._library.tickgate_board_connect(self._handle, -1)
        self.path.unlink(missing_ok=True)
        for end in self._terminal or ():
            os.close(end)
        self._terminal = None


def main(arguments: list[str]) -> int:
    """Run a board until it is interrupted."""
    name, *schema = arguments
    with SerialBoard(find_board(name), load_venue(Path(*schema)) if schema else None) as board:
        print(f"{name} is at {board.url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
