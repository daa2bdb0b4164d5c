"""``make sim BENCH=boards``: runs the tops of all boards, at each of their interfaces, and compares their frames with those of ``soft:``."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hdl.boards import BOARDS, Board
from hdl.boards.board import Way
from hdl.flow import Flow, Parser
from hdl.frame import FRAME_DTYPE
from hdl.sbe_venue import Venue, load_venue
from host.capture.packets import Packets
from host.card import Card, CardError, open_card
from host.card.pcie import PcieCard
from host.card.ring import FRAME_SLOTS, PAYLOAD_BYTES, Ring, ring_bytes
from host.generate import SCHEMA, generate
from sim import ethernet_board, pcie_card
from sim.ethernet_board import EthernetBoard
from sim.pcie_card import SimulatedDevice
from sim.serial_board import SerialBoard
from sim.toolchain import ToolMissing
from sim.veth import NoVeth, VethPair

ORDERS = 20
"""Orders of the traffic: a UART at the pace of a simulation takes a minute for some hundred packets."""

WITHOUT_CARD_CLOCK = ("timestamp",)
"""Fields that a board on a network fills by its own clock."""


@dataclass(frozen=True)
class Run:
    """What came of a board at an interface: frames that were compared, and what was wrong, if anything."""

    board: str
    interface: str
    parsers: str
    frames: int
    seconds: float
    failure: str = ""


def variants() -> Iterator[tuple[Board, Way]]:
    """Every board at every interface."""
    for board in BOARDS.values():
        for way in board.ways:
            yield board, way


def run(board: Board, way: Way, say: Callable[[str], None]) -> Run:
    """Have a board read generated traffic, and see that its frames are right.

    Raises NoVeth where this machine lets nobody make network interfaces, ToolMissing without a compiler.
    """
    venue = load_venue(SCHEMA) if way.decodes_sbe else None
    parsers = {Parser.FIX} if board.fix_width(way, venue is not None) is not None else set()
    parsers |= {Parser.SBE} if venue is not None else set()
    traffic = generate(orders=ORDERS, sessions=max(1, min(way.flows - 1, 4)), seed=7, malformed=0.1)
    flows = [flow for flow in traffic.flows if flow.parser in parsers][: way.flows]
    say("compiling and running")
    began = time.perf_counter()
    with _running(board, way, flows, venue) as opened:
        frames, failure = _compared(opened, flows, venue, traffic.packets, way.interface == "eth")
    named = " and ".join(parser.name for parser in sorted(parsers))
    return Run(board.name, way.interface, named, frames, time.perf_counter() - began, failure)


@contextmanager
def _running(board: Board, way: Way, flows: Sequence[Flow], venue: Venue | None) -> Iterator[Callable[[], Card]]:
    """The board, and what opens its card."""
    if way.interface == "serial":
        with SerialBoard(board, venue) as serial:
            yield lambda: open_card(serial.url, flows, venue)
    elif way.interface == "eth":
        with VethPair() as pair, EthernetBoard(pair.board, venue, model=ethernet_board.board_model(board)):
            yield lambda: open_card(f"eth:{pair.host}", flows, venue)
    else:
        device = SimulatedDevice(venue, ring_bytes(FRAME_SLOTS, PAYLOAD_BYTES), model=pcie_card.board_model(board))
        ring = Ring.within(device.memory, FRAME_SLOTS, PAYLOAD_BYTES)
        yield lambda: PcieCard(f"pcie:{board.name}", flows, venue, device, ring)


def _compared(
    opened: Callable[[], Card], flows: Sequence[Flow], venue: Venue | None, packets: Packets, has_own_clock: bool
) -> tuple[int, str]:
    """How many frames a card gives, and how they differ from those of ``soft:``."""
    with open_card("soft:", flows, venue) as card:
        wanted = _read(card, packets)
    with opened() as card:
        found = _read(card, packets)
    if not len(wanted):
        return 0, "no frame was to come"
    if len(found) != len(wanted):
        return len(found), f"{len(found)} frames of {len(wanted)}"
    for name in FRAME_DTYPE.names or ():
        if has_own_clock and name in WITHOUT_CARD_CLOCK:
            continue
        differing = np.flatnonzero(found[name] != wanted[name])
        if len(differing):
            at = differing[0]
            return len(found), f"frame {at}: {name} is {found[name][at]}, not {wanted[name][at]}"
    return len(found), ""


def _read(card: Card, packets: Packets) -> np.ndarray:
    frames, done = [], 0
    while True:
        done = card.feed(packets, done)
        while len(some := card.ring.poll()):
            frames.append(some.copy())
            card.ring.release(len(some))
        if done == len(packets):
            return np.concatenate(frames) if frames else np.empty(0, FRAME_DTYPE)


def run_all(console: Console) -> bool:
    """Run every board at every interface, and print a table; whether all frames were right."""
    began = time.perf_counter()
    runs = []
    for board, way in variants():
        label = f"{board.name} {way.interface}"

        def say(line: str, label: str = label) -> None:
            console.print(f"{time.perf_counter() - began:5.0f} s  {escape(f'{label}: {line}')}", highlight=False)

        try:
            runs.append(run(board, way, say))
        except (CardError, NoVeth, ToolMissing) as error:
            runs.append(Run(board.name, way.interface, "", 0, 0, str(error)))
        say(runs[-1].failure or f"{runs[-1].frames} frames are those of soft:")
    table = Table("board", "interface", "parsers")
    for column in ("frames", "seconds"):
        table.add_column(column, justify="right")
    table.add_column("result")
    for each in runs:
        result = f"[red]{escape(each.failure)}[/]" if each.failure else "as soft:"
        table.add_row(each.board, each.interface, each.parsers, f"{each.frames:,}", f"{each.seconds:.0f}", result)
    console.print(table)
    return not any(each.failure for each in runs)
