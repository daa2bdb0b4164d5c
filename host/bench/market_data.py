"""The SBE decoders beside the sbe package: real market data where a capture is at hand, else generated."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sbe

from hdl.flow import Flow, Parser
from hdl.sbe_venue import Venue, load_venue
from hdl.sources import ROOT
from host.bench.cards import drain
from host.bench.measure import Row, compare, timed
from host.capture.flows import find_flows
from host.capture.packets import Packets
from host.capture.reader import read_packets
from host.card import open_card
from host.generate import SCHEMA, generate
from host.sbe.full_decode import FullDecoder

DATA = ROOT.parent / "shared/data"
CAPTURE, CAPTURE_SCHEMA = "cme_mdp3/Cme.Mdp3.Sbe.v6.1.pcap", "schemas/omi/Cme.Futures.Mdp3.Sbe.v1.6.xml"
"""CME MDP 3.0 as the exchange sent it: one or two short messages a packet. Public, but not ours to distribute."""

GENERATED_ORDERS = 20_000
PEER_MESSAGES = 2_000


@dataclass(frozen=True)
class MarketData:
    """Packets in memory, all of SBE flows, and what they are."""

    name: str
    packets: Packets
    flows: tuple[Flow, ...]
    venue: Venue
    schema: Path

    @classmethod
    def at_hand(cls) -> "MarketData":
        """The capture beside the repository, or generated packets."""
        if (DATA / CAPTURE).exists() and (DATA / CAPTURE_SCHEMA).exists():
            packets = read_packets(DATA / CAPTURE)
            flows = tuple(find_flows(packets, sbe=True).table())
            return cls(CAPTURE, packets, flows, load_venue(DATA / CAPTURE_SCHEMA), DATA / CAPTURE_SCHEMA)
        made = generate(GENERATED_ORDERS, sessions=1, malformed=0.0)
        tagged = [index for index in range(len(made.packets)) if made.packets.packet(index)[12:14] == b"\x81\x00"]
        packets = Packets(
            made.packets.data,
            made.packets.offset[tagged],
            made.packets.length[tagged],
            made.packets.timestamp[tagged],
        )
        flows = tuple(flow for flow in made.flows if flow.parser is Parser.SBE)
        return cls(f"generated (there is no {DATA / CAPTURE})", packets, flows, load_venue(SCHEMA), SCHEMA)

    def peer_schema(self) -> sbe.Schema:
        """The sbe package's schema."""
        with self.schema.open() as file:
            return sbe.Schema.parse(file)

    def peer(self) -> tuple[sbe.Schema, list[bytes]]:
        """The sbe package's schema, and the first raw messages for it."""
        schema = self.peer_schema()
        with open_card("soft:", self.flows, self.venue) as card:
            card.feed(self.packets)
            frames = card.ring.read()
            _, first = np.unique(frames["payload_offset"], return_index=True)
            return schema, [bytes(card.ring.message(frames[index])) for index in first[:PEER_MESSAGES].tolist()]


def entries_row(data: MarketData) -> Row:
    """SBE group entries a second: packets to frames in the ring; the peer decodes the same messages to dictionaries."""
    card = open_card("soft:", data.flows, data.venue)
    schema, messages = data.peer()

    def with_sbe() -> int:
        return sum(
            len(entries)
            for message in messages
            for entries in schema.decode(message).value.values()
            if isinstance(entries, list)
        )

    return compare(
        "soft.sbe.entries_per_s",
        "entries/s",
        timed(lambda: drain(card, data.packets, lambda frames: int(np.count_nonzero(frames["entry_offset"])))),
        "sbe (PyPI)",
        timed(with_sbe),
    )


def full_decode_row(data: MarketData) -> Row:
    """SBE messages a second with every field: packets to tables; the peer decodes the same messages to dictionaries."""
    decoder = FullDecoder(data.venue, data.flows)
    schema, messages = data.peer()

    def with_sbe() -> int:
        return sum(1 for message in messages if schema.decode(message).value)

    return compare(
        "soft.sbe.full_decode.messages_per_s",
        "messages/s",
        timed(lambda: decoder.decode(data.packets).messages),
        "sbe (PyPI)",
        timed(with_sbe),
    )
