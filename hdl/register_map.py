"""The card's registers: 64 bits each, addressed by number. The only definition.

The gateware (registers.py) and the host read this table; docs/registers.md is made from it.
"""

from collections.abc import Iterable
from typing import NamedTuple

from hdl.flow import Parser
from hdl.limits import FLOWS

IDENTITY = int.from_bytes(b"TICKGATE", "little")
VERSION = 2


class Register(NamedTuple):
    """One register, or an array of ``rows`` registers a step of ``ROW_STRIDE`` apart."""

    name: str
    address: int
    access: str
    meaning: str
    rows: int = 1


COUNTERS = {
    "packets": "packets taken",
    "other": "not IPv4, or neither TCP nor UDP",
    "damaged": "headers that do not add up, or are cut off",
    "oversize": "IPv4 packets above the limit",
    "fragments": "later fragments of a fragmented packet",
    "unmatched": "no row of the flow table fits",
    "empty": "a flow's packets without payload",
    "repeated": "TCP segments whose bytes had all come before, and packets of a feed that were left to the other one",
    "parsed": "packets whose payload went to a parser",
    "gaps": "holes in the bytes of TCP flows, and in the packets of channels of two feeds",
    "fix_bytes": "payload bytes that went to the FIX parser",
    "frames": "frames written to the ring",
    "payload_bytes": "bytes of raw messages written to the ring, without padding",
    "credit_stalls": "cycles in which a frame or message waited for credit (0 on a card without a clock)",
}
"""Counters of the card, in the order of their registers. Every card reports the same names."""

ROW_STRIDE = 4
FLOW_TABLE = 64
COUNTER_BASE = 32

REGISTERS = (
    Register("identity", 0, "read", "the letters TICKGATE"),
    Register("version", 1, "read", "version of this register map"),
    Register("frames_base", 2, "write", "bus address of the frame ring"),
    Register("frame_slots_log2", 3, "write", "log2 of the frame ring's slots"),
    Register("payload_base", 4, "write", "bus address of the payload ring"),
    Register("payload_bytes_log2", 5, "write", "log2 of the payload ring's bytes"),
    Register("frames_read", 6, "write", "credit: frames that the host has released, ever"),
    Register("payload_read", 7, "write", "credit: bytes of the payload ring that the host has released, ever"),
    Register("flow_rows", 8, "read", "rows of the flow table"),
    Register("parsers", 9, "read", "bit 1: FIX flows are parsed, bit 2: SBE flows"),
    Register("venue", 10, "read", "32 bits that tell the schema and profile of SBE flows from others; 0: none"),
    Register("source", 11, "read", "the first 64 bits of the hash of what the card was built from; 0: not told"),
    Register("channels", 12, "read", "of how many channels the A and B feeds are arbitrated; 0: of none"),
    *(Register(name, COUNTER_BASE + index, "read", meaning) for index, (name, meaning) in enumerate(COUNTERS.items())),
    Register("flow_control", FLOW_TABLE + 0, "write", "bits 7:0 protocol (6, 17; 0: row unused), 15:8 parser (1 FIX, 2 SBE), 16 arbitrated, 17 feed (0 A, 1 B), 23:18 channel", FLOWS),
    Register("flow_destination", FLOW_TABLE + 1, "write", "bits 31:0 address, 47:32 port", FLOWS),
    Register("flow_source", FLOW_TABLE + 2, "write", "bits 31:0 address, 47:32 port; 0 fits any", FLOWS),
)  # fmt: skip

BUILT = ("flow_rows", "parsers", "venue", "source", "channels")
"""Registers that say what the card was built as."""


def parsers_code(parsers: Iterable[Parser]) -> int:
    """What the register ``parsers`` says."""
    return sum(1 << parser for parser in parsers)


ADDRESS = {register.name: register.address for register in REGISTERS}
"""Address of each register (of row 0, for the flow table) by its name."""
