"""The blocks that are measured: one table."""

from collections.abc import Callable
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

DEMO_SCHEMA = Path(__file__).parent.parent / "host" / "generate" / "demo_market_data.xml"


@dataclass(frozen=True)
class Block:
    """A row of the table: a component on a device. ``data_width`` is that of its stream in bits."""

    name: str
    component: Callable[[], wiring.Component]
    data_width: int = 64
    device: Device = LFE5UM5G_85F

    @property
    def label(self) -> str:
        return f"{self.name}-{self.data_width}"


BLOCKS = (
    Block("strip", lambda: Strip(data.StructLayout({}), IpMeta)),
    Block("ethernet", Ethernet),
    Block("payload_store", PayloadStore),
    Block("tokenizer", Tokenizer),
    Block("fixed_point", FixedPoint),
    Block("sbe_decoder", lambda: SbeDecoder(load_schema(DEMO_SCHEMA))),
    Block("ring_writer", RingWriter),
    Block("registers", Registers),
    Block("card", lambda: Card(load_schema(DEMO_SCHEMA))),
)
