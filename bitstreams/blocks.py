"""The blocks that are measured, and what is asked of them: one table."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from amaranth.hdl import DomainRenamer
from amaranth.lib import data, wiring

from bitstreams.devices import ICE40HX8K, ICE40UP5K, LFE5U_25F, LFE5UM5G_85F, Device
from hdl.beat import LANES
from hdl.card import Card
from hdl.dma_pcie import LineWriter
from hdl.ethernet import Ethernet, IpMeta
from hdl.ethernet_frame import ETHERTYPE, LINK_WORDS, STORE_WORDS
from hdl.feed_arbiter import FeedArbiter
from hdl.fix_entries import FixEntries
from hdl.fix_parser import FixParser, SmallFixParser
from hdl.fix_tokenizer import Tokenizer
from hdl.fixed_point import FixedPoint
from hdl.limits import FLOWS
from hdl.link_frame import Down
from hdl.mac_port import ReceivePath, TransmitPath
from hdl.payload_store import PayloadStore
from hdl.pcie_bar import BarTarget
from hdl.pcie_tlp import BEAT_BYTES
from hdl.registers import Registers
from hdl.ring_writer import RingWriter
from hdl.sbe_decoder import SbeDecoder
from hdl.sbe_venue import load_venue
from hdl.serial_fix_card import SerialFixCard
from hdl.strip import Strip
from hdl.tcp_sequence import TcpSequence

ROOT = Path(__file__).resolve().parent.parent
DEMO_SCHEMA = ROOT / "host" / "generate" / "demo_market_data.xml"


CME_SCHEMA = ROOT.parent / "shared" / "data" / "schemas" / "omi" / "Cme.Futures.Mdp3.Sbe.v1.6.xml"
"""CME's own schema, which does not come with the repository: its row is there where the file is."""


class UnknownBlock(Exception):
    """There is no such block. The text is one line and says what there is."""


@dataclass(frozen=True)
class Bound:
    """What a block has to keep: the median of its seeds' MHz, LUT4s, cycles of latency; and the MHz to reach some day."""

    mhz: float
    lut4: int
    latency_cycles: int
    goal_mhz: float


FIX_BOUND = Bound(mhz=156.25, lut4=8000, latency_cycles=8, goal_mhz=187.5)
"""64 bits at 156.25 MHz are 10 Gb/s; the goal leaves a fifth for what stands around the parser."""


@dataclass(frozen=True)
class Block:
    """A component on a device.

    ``data_width`` is that of its stream in bits, ``flows`` how many it keeps state of (None: of none). ``sources`` are
    files that it is made of beside ``hdl/``. It is not placed with more than ``most_seeds``; ``placing`` are options of nextpnr for it alone.
    """

    name: str
    component: Callable[[], wiring.Component]
    data_width: int = 64
    flows: int | None = None
    device: Device = LFE5UM5G_85F
    bound: Bound | None = None
    sources: tuple[Path, ...] = ()
    most_seeds: int | None = None
    placing: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The block's name among files and in lines; unlike that of any other row."""
        return f"{self.name}-{self.data_width}-{self.device.name}"


FLOWS_PLACED = 16
"""Flows of the payload store: that of 64 is 1 MiB, and the 85F has 416 KiB of block RAM. Of the registers too:
with 64, their flow table is 8,400 ports of a block placed alone, which take a quarter of an hour to route."""

CARD_FLOWS = 8
"""With 16, 201 of the 208 block RAMs are taken, and an hour does not route it."""

CARD_SEEDS = 1
"""Of whole cards, which take minutes."""

SMALL_FLOWS = 2
"""Flows on an iCE40, which has no distributed RAM to keep them in."""


SMALL_CLOCK = 12_000_000
"""Hz of the crystal of iCE40 boards, which is the card's clock."""

SMALL_SAMPLES = 12
"""Samples a bit at 1 Mbaud: a cycle each."""


def _fix_parser(
    data_width: int, flows: int = FLOWS, device: Device = LFE5UM5G_85F, bound: Bound | None = None
) -> Block:
    return Block("fix_parser", lambda: FixParser(data_width, flows), data_width, flows, device, bound)


CME_TEMPLATES = (12, 30, 32, 35, 37, 42)
"""Those of CME that come most: heartbeats, security status, and the incremental refreshes of books, session statistics, volumes
and trades."""

SBE_BOUND = Bound(mhz=187.5, lut4=6000, latency_cycles=4, goal_mhz=187.5)
"""For CME's busiest templates."""


def _sbe_decoder(name: str, schema: Path, *templates: int, bound: Bound | None = None) -> Block:
    def decoder() -> SbeDecoder:
        venue = load_venue(schema)
        return SbeDecoder(venue.only(*templates) if templates else venue)

    return Block(name, decoder, bound=bound, sources=(schema,))


PCIE_BITS = 8 * BEAT_BYTES

MAC_BOUND = Bound(mhz=125, lut4=2000, latency_cycles=40, goal_mhz=150)
"""125 MHz is the clock of gigabit Ethernet's RGMII; the goal leaves a fifth for the rest of a full chip."""


def _on_its_clock(domain: str, path: wiring.Component) -> wiring.Component:
    """A path between two domains whose ``domain`` is on the clock that is measured. The other one has a clock of its own."""
    return DomainRenamer({domain: "sync", "sync": "card"})(path)


BLOCKS = (
    Block("strip", lambda: Strip(data.StructLayout({}), IpMeta)),
    Block("ethernet", Ethernet, flows=FLOWS),
    Block("tcp_sequence", TcpSequence, flows=FLOWS),
    Block(
        "feed_arbiter",
        lambda: FeedArbiter(load_venue(DEMO_SCHEMA).profile.framing),
        flows=FLOWS,
        sources=(DEMO_SCHEMA,),
    ),
    Block("payload_store", lambda: PayloadStore(FLOWS_PLACED), flows=FLOWS_PLACED),
    Block("tokenizer", lambda: Tokenizer(LANES), flows=FLOWS),
    Block("fixed_point", FixedPoint),
    Block("fix_entries", FixEntries),
    _fix_parser(64, bound=FIX_BOUND),
    _fix_parser(32),
    _fix_parser(8),
    _fix_parser(8, SMALL_FLOWS, ICE40HX8K),
    Block("fix_parser_small", SmallFixParser, 8, 1, ICE40UP5K),
    *(
        Block(
            "serial_fix_card",
            lambda: SerialFixCard(SMALL_CLOCK, samples=SMALL_SAMPLES),
            8,
            1,
            device,
            most_seeds=CARD_SEEDS,
        )
        for device in (ICE40UP5K, ICE40HX8K)
    ),
    _sbe_decoder("sbe_decoder", DEMO_SCHEMA),
    *([_sbe_decoder("sbe_decoder_cme", CME_SCHEMA, *CME_TEMPLATES, bound=SBE_BOUND)] if CME_SCHEMA.exists() else []),
    Block("ring_writer", RingWriter),
    Block("dma_pcie", LineWriter, data_width=PCIE_BITS),
    Block("pcie_bar", BarTarget, data_width=PCIE_BITS),
    Block("registers", lambda: Registers(FLOWS_PLACED), flows=FLOWS_PLACED),
    Block(
        "mac_receive",
        lambda: _on_its_clock("rx", ReceivePath(ETHERTYPE, Down.MARK, STORE_WORDS, LINK_WORDS)),
        device=LFE5U_25F,
        bound=MAC_BOUND,
        data_width=8,
    ),
    Block("mac_transmit", lambda: _on_its_clock("tx", TransmitPath()), device=LFE5U_25F, bound=MAC_BOUND, data_width=8),
    Block(
        "card",
        lambda: Card(load_venue(DEMO_SCHEMA), CARD_FLOWS),
        flows=CARD_FLOWS,
        sources=(DEMO_SCHEMA,),
        most_seeds=CARD_SEEDS,
        placing=("--placer", "static"),
    ),
)
"""Parts first, then blocks in the order in which data meets them, then the card."""


def find(name: str) -> Sequence[Block]:
    """The rows of a block.

    One that is no row is named as Python: ``hdl.fix_parser:Framer()`` is evaluated in that module. Raises
    :class:`UnknownBlock`.
    """
    found = [block for block in BLOCKS if block.name == name]
    if found:
        return found
    module_name, _, expression = name.partition(":")
    if not expression:
        names = ", ".join(dict.fromkeys(block.name for block in BLOCKS))
        raise UnknownBlock(f"no block '{name}' (there are {names}; or one as hdl.fix_parser:FixParser())")
    try:
        module = importlib.import_module(module_name)
        component = eval(expression, vars(module))
    except Exception as error:
        raise UnknownBlock(f"'{name}' is no component: {error}") from error
    if not isinstance(component, wiring.Component):
        raise UnknownBlock(f"'{name}' is no component, but a {type(component).__name__}")
    label = "".join(character if character.isalnum() else "_" for character in expression).strip("_")
    return [Block(label, lambda: component, sources=(Path(str(module.__file__)),))]
