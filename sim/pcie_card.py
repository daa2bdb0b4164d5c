"""A PCIe card that is not there: its RTL in Verilator, in the slot of a small root complex, reached as `pcie:sim`."""

import ctypes
import mmap
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hdl.boards.board import Board
from hdl.limits import FLOWS
from hdl.pcie_tlp import (
    BEAT_BYTES,
    COMPLETION,
    CREDIT_BYTES,
    HAS_DATA,
    HAS_FOUR_DWORDS,
    REQUEST,
    Status,
    TlpBeat,
    Type,
    place,
)
from hdl.sbe_venue import Venue
from host.card.pcie_device import HIGH_ADDRESS, allocate
from sim.shared_library import Model, card_library, on_board


def _constants(flows: int) -> dict[str, int]:
    """What the root complex has to know of packets, and how large the card is."""
    beat = 8 * BEAT_BYTES
    found = {
        f"{kind}_{name.upper()}_{what}": value
        for kind, table in (("REQUEST", REQUEST), ("COMPLETION", COMPLETION))
        for name, bits in table.items()
        for what, value in (("AT", place(table, name)), ("BITS", bits))
    }
    return found | {
        "HAS_DATA": HAS_DATA,
        "HAS_FOUR_DWORDS": HAS_FOUR_DWORDS,
        "MEMORY_TYPE": Type.MEMORY,
        "SUCCESSFUL": Status.SUCCESSFUL,
        "CREDIT_BYTES": CREDIT_BYTES,
        # Above a beat's data.
        "BEAT_HEADER": 1 << TlpBeat["header"].offset - beat,
        "BEAT_LAST": 1 << TlpBeat["last"].offset - beat,
        "ROWS": flows,
    }


def _pcie_card(flows: int, venue: Venue | None) -> Any:
    from hdl.card import Card
    from hdl.pcie_card import PcieCard

    return PcieCard(Card(venue, flows))


def pcie_card_model(flows: int = FLOWS) -> Model:
    """The card with so many rows in its flow table."""
    return Model(
        "pcie_card",
        ("hdl/pcie_card.py",),
        "sim/pcie_card.cpp",
        partial(_pcie_card, flows),
        _constants(flows),
        optimization="-O1",
    )


def board_model(board: Board) -> Model:
    """The top of a board that is in a slot, with the root complex in the place of the hard block."""
    way = board.way("pcie")
    return replace(pcie_card_model(way.flows), **on_board(board, way))


class SimulatedDevice:
    """The card in its slot, with so many ``flows`` or another ``model``: the ports of :class:`host.card.pcie_device.PcieDevice`.

    ``busy`` is the chance that the root complex takes nothing in a cycle, ``max_payload`` is in bytes, ``bus_address`` where the ring lies
    for the card. Raises ToolMissing without a compiler.
    """

    def __init__(
        self,
        venue: Venue | None,
        memory_bytes: int,
        *,
        flows: int = FLOWS,
        model: Model | None = None,
        max_payload: int = 256,
        busy: float = 0.0,
        bus_address: int = HIGH_ADDRESS,
        seed: int = 1,
        path: Path | None = None,
    ) -> None:
        self._library = library = ctypes.CDLL(str(card_library(venue, model or pcie_card_model(flows))))
        pointer, u64, u32, real = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_double
        for name, result, arguments in (
            ("open", pointer, [pointer, u64, u64, u32, real, u64]),
            ("close", None, [pointer]),
            ("load", u64, [pointer, u64]),
            ("store", None, [pointer, u64, u64]),
            ("copy", None, [pointer, u64, pointer, u64]),
            ("master", None, [pointer, ctypes.c_int]),
            ("link", None, [pointer, ctypes.c_int]),
            ("reset", None, [pointer]),
            ("run", None, [pointer, u64]),
            ("cycles", u64, [pointer]),
            ("faults", u64, [pointer]),
            ("requests", u64, [pointer]),
            ("cut_off", u64, [pointer]),
        ):
            function = getattr(library, f"tickgate_pcie_{name}")
            function.restype, function.argtypes = result, arguments
        self.memory: mmap.mmap = allocate(memory_bytes, path)
        self._bus_address = bus_address
        code = (max_payload // 128).bit_length() - 1
        at = np.frombuffer(self.memory, np.uint8).ctypes.data
        self._handle = library.tickgate_pcie_open(at, len(self.memory), bus_address, code, busy, seed)
        self.set_bus_master(True)

    @property
    def cycles(self) -> int:
        """Clock cycles so far."""
        return self._library.tickgate_pcie_cycles(self._handle)

    @property
    def faults(self) -> int:
        """Requests of the card against the rules, or outside the memory that it was given."""
        return self._library.tickgate_pcie_faults(self._handle)

    @property
    def requests(self) -> int:
        """Memory writes of the card."""
        return self._library.tickgate_pcie_requests(self._handle)

    @property
    def cut_off(self) -> int:
        """Those that did not go out for want of Bus Master Enable."""
        return self._library.tickgate_pcie_cut_off(self._handle)

    def load(self, offset: int) -> int:
        """See PcieDevice."""
        return self._library.tickgate_pcie_load(self._handle, offset)

    def store(self, offset: int, value: int) -> None:
        """See PcieDevice."""
        self._library.tickgate_pcie_store(self._handle, offset, value)

    def copy(self, offset: int, words: np.ndarray) -> None:
        """See PcieDevice."""
        words = np.ascontiguousarray(words, np.uint64)
        self._library.tickgate_pcie_copy(self._handle, offset, words.ctypes.data, words.nbytes)

    def bus_address(self, offset: int, length: int) -> int:
        """See PcieDevice."""
        return self._bus_address + offset

    def set_bus_master(self, enable: bool) -> None:
        """Bus Master Enable, as a driver sets it."""
        self._library.tickgate_pcie_master(self._handle, enable)

    def pull(self) -> None:
        """The link goes down and comes up again, as when the card is pulled out of a slot and put back."""
        self._library.tickgate_pcie_link(self._handle, False)
        self._library.tickgate_pcie_link(self._handle, True)

    def cut(self) -> None:
        """The link goes down for good."""
        self._library.tickgate_pcie_link(self._handle, False)

    def reset(self) -> None:
        """A function level reset."""
        self._library.tickgate_pcie_reset(self._handle)

    def run(self, cycles: int) -> None:
        """Let time pass."""
        self._library.tickgate_pcie_run(self._handle, cycles)

    def close(self) -> None:
        """See PcieDevice."""
        if self._handle:
            self._library.tickgate_pcie_close(self._handle)
            self._handle = None
