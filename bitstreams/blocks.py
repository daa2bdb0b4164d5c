"""The blocks that are measured, and what is asked of them: one table."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from amaranth.lib import data, wiring

from bitstreams.devices import LFE5UM5G_85F, Device
from hdl.card import Card
from hdl.ethernet import Ethernet, IpMeta
from hdl.fix_tokenizer import Tokenizer
from hdl.fixed_point import FixedPoint
from hdl.payload_store import PayloadStore
from hdl.registers import Registers
from hdl.ring_writer import RingWriter
from hdl.sbe_decoder import SbeDecoder
from hdl.sbe_schema import load_schema
from hdl.strip import Strip

ROOT = Path(__file__).resolve().parent.parent
DEMO_SCHEMA = ROOT / "host" / "generate" / "demo_market_data.xml"


class UnknownBlock(Exception):
    """There is no such block. The text is one line and says what there is."""


@dataclass(frozen=True)
class Bound:
    """What a block has to keep: the median of its seeds' MHz, LUT4s, cycles of latency; and the MHz to reach some day."""

    mhz: float
    lut4: int
    latency_cycles: int
    goal_mhz: float


@dataclass(frozen=True)
class Block:
    """A component on a device. ``data_width`` is that of its stream in bits; ``sources`` are files that it is made of
    beside ``hdl/``."""

    name: str
    component: Callable[[], wiring.Component]
    data_width: int = 64
    device: Device = LFE5UM5G_85F
    bound: Bound | None = None
    sources: tuple[Path, ...] = ()

    @property
    def label(self) -> str:
        """The block's name among files and in lines; unlike that of any other row."""
        return f"{self.name}-{self.data_width}-{self.device.name}"


BLOCKS = (
    Block("strip", lambda: Strip(data.StructLayout({}), IpMeta)),
    Block("ethernet", Ethernet),
    Block("payload_store", PayloadStore),
    Block("tokenizer", Tokenizer),
    Block("fixed_point", FixedPoint),
    Block("sbe_decoder", lambda: SbeDecoder(load_schema(DEMO_SCHEMA)), sources=(DEMO_SCHEMA,)),
    Block("ring_writer", RingWriter),
    Block("registers", Registers),
    Block("card", lambda: Card(load_schema(DEMO_SCHEMA)), sources=(DEMO_SCHEMA,)),
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
