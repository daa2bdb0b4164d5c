"""A dev board that is not there: the Ethernet card's RTL in Verilator, its RGMII pins tied to an interface of this machine.

``python -m sim.ethernet_board [SCHEMA]`` makes a pair of virtual interfaces, has a board at one end and prints the card's URL at the other.
"""

import ctypes
import socket
import sys
import threading
import time
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from hdl.boards import Board
from hdl.limits import FLOWS
from hdl.link_frame import Down
from hdl.sbe_venue import Venue, load_venue
from host.closing import Closing
from sim.shared_library import Model, card_library, on_board
from sim.veth import NoVeth, VethPair

CLOCK = 62_500_000
"""The card's clock: a cycle in two byte times."""

STEP_BYTES = 20_000
"""How long the board runs between looking at what the caller wants."""

RECEIVED_BYTES = 1 << 22
"""What the interface keeps for the board, which is slower than a wire."""

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23

DIRECTIONS = ("link_down", "link_up", "traffic")
"""What the faults of a board are counted by, in its own order."""


@dataclass(frozen=True)
class Faults:
    """How probable it is that a frame is lost, is damaged, and comes twice; or how many were."""

    lost: float = 0
    damaged: float = 0
    repeated: float = 0


def board_model(board: Board) -> Model:
    """The top of a board with a network port, but for its clock."""
    return replace(ethernet_model(), **on_board(board, replace(board.way("eth"), clock_hz=CLOCK)))


def _ethernet_card(flows: int) -> Any:
    def component(venue: Venue | None) -> Any:
        from hdl.card import Card
        from hdl.ethernet_card import EthernetCard

        return EthernetCard(Card(venue, flows), CLOCK)

    return component


def ethernet_model(flows: int = FLOWS) -> Model:
    """The card with so many rows of the flow table."""
    return Model(
        "ethernet_card",
        ("hdl/ethernet_card.py",),
        "sim/ethernet_board.cpp",
        _ethernet_card(flows),
        constants={"MARK": int(Down.MARK)},
        variant=str(flows),
        optimization="-O1",
    )


class EthernetBoard(Closing):
    """A board at an interface, that runs in a thread of its own until it is closed.

    It is the Ethernet card with all FLOWS, or another ``model`` with its ports. Of the frames of the link downwards, of the link upwards, and
    of the traffic some have faults, by ``seed`` and by when they come.
    Raises ToolMissing without a compiler, OSError where there is no interface or no permission.
    """

    def __init__(
        self,
        interface: str,
        venue: Venue | None = None,
        *,
        model: Model | None = None,
        link_down: Faults = Faults(),
        link_up: Faults = Faults(),
        traffic: Faults = Faults(),
        seed: int = 1,
    ) -> None:
        self._library = library = ctypes.CDLL(str(card_library(venue, model or ethernet_model())))
        pointer, u64, real, integer = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_double, ctypes.c_int
        for name, result, arguments in (
            ("open", pointer, [integer, u64]),
            ("close", None, [pointer]),
            ("disturb", None, [pointer, integer, real, real, real]),
            ("faults", None, [pointer, pointer]),
            ("frames_up", u64, [pointer]),
            ("broken_up", u64, [pointer]),
            ("run", None, [pointer, u64]),
        ):
            function = getattr(library, f"tickgate_board_{name}")
            function.restype, function.argtypes = result, arguments
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES)
        self._socket.bind((interface, ETH_P_ALL))
        self._seed = seed
        self._faults = (link_down, link_up, traffic)
        self._power_on()
        self._restarts = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def faults(self) -> dict[str, Faults]:
        """What happened so far."""
        counts = (ctypes.c_uint64 * 9)()
        self._library.tickgate_board_faults(self._handle, counts)
        return {name: Faults(*counts[3 * n : 3 * n + 3]) for n, name in enumerate(DIRECTIONS)}

    @property
    def broken(self) -> int:
        """Frames that the board sent and that were none, without those that were damaged on the wire."""
        return self._library.tickgate_board_broken_up(self._handle) - int(self.faults()["link_up"].damaged)

    @property
    def frames_up(self) -> int:
        """Frames that the board has sent."""
        return self._library.tickgate_board_frames_up(self._handle)

    def restart(self) -> None:
        """Have the board lose its power, and all that it knows; returns when it is on again."""
        self._restarts = True
        while self._restarts:
            time.sleep(0.001)

    def close(self) -> None:
        """Stop the board."""
        self._closing = True
        self._thread.join()
        self._socket.close()
        self._library.tickgate_board_close(self._handle)

    def _power_on(self) -> None:
        self._handle = self._library.tickgate_board_open(self._socket.fileno(), self._seed)
        for number, faults in enumerate(self._faults):
            self._library.tickgate_board_disturb(self._handle, number, *astuple(faults))

    def _run(self) -> None:
        while not self._closing:
            self._library.tickgate_board_run(self._handle, STEP_BYTES)
            if self._restarts:
                self._library.tickgate_board_close(self._handle)
                self._power_on()
                self._restarts = False


def main(arguments: list[str]) -> int:
    """Run a board until it is interrupted."""
    try:
        with VethPair() as pair:
            with EthernetBoard(pair.board, load_venue(Path(arguments[0])) if arguments else None):
                print(f"a board is at eth:{pair.host}", flush=True)
                threading.Event().wait()
    except NoVeth as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
