"""Transaction layer packets of PCI Express: the only definition of their headers and of the numbers around them.

By the PCI Express Base Specification 3.1, whose sections are named. The gateware, the simulated root complex and the benches read these
tables. A header's fields stand from the lowest bit of its first dword on; a dword's bits are numbered as the specification's drawings
have them, whose byte 0 is the dword's highest.
"""

import enum

from amaranth.hdl import unsigned
from amaranth.lib import data

from hdl.ring_layout import LINE_BYTES

DWORD_BYTES = 4

BEAT_DWORDS = 4
"""A beat is 128 bits: the longest header, and a quarter of a line."""

BEAT_BYTES = BEAT_DWORDS * DWORD_BYTES
LINE_BEATS = LINE_BYTES // BEAT_BYTES
LINE_DWORDS = LINE_BYTES // DWORD_BYTES

BOUNDARY_BYTES = 4096
"""No request crosses a multiple of this (2.2.7)."""

SMALLEST_MAX_PAYLOAD = 128
"""Max_Payload_Size is this, times two for each step of its code (7.8.4)."""

LARGEST_MAX_PAYLOAD = 512
"""Most that the card makes use of: with 512 bytes the header is 4 % of a packet."""

COMPLETION_BOUNDARY_BYTES = 128
"""An endpoint may divide what answers a read at multiples of this (2.3.1.1), which is also what any max payload has room for."""

CREDIT_BYTES = 16
"""A credit for data stands for so many bytes (2.6.1)."""

HEADER_CREDIT_BITS, DATA_CREDIT_BITS = 8, 12
"""Credits are counted modulo these powers of two (2.6.1)."""


class Fmt(enum.IntEnum):
    """Format: length of the header, and whether data follows (table 2-2)."""

    THREE_DWORDS = 0b000
    FOUR_DWORDS = 0b001
    THREE_DWORDS_DATA = 0b010
    FOUR_DWORDS_DATA = 0b011


HAS_DATA, HAS_FOUR_DWORDS = 0b010, 0b001
"""Bits of the format."""


class Type(enum.IntEnum):
    """Type, together with the format (table 2-3)."""

    MEMORY = 0b00000
    MEMORY_LOCKED = 0b00001
    IO = 0b00010
    COMPLETION = 0b01010
    COMPLETION_LOCKED = 0b01011
    FETCH_ADD = 0b01100
    SWAP = 0b01101
    COMPARE_SWAP = 0b01110
    MESSAGE = 0b10000


MESSAGE_BIT = 0b10000
"""All types with this bit are messages: posted, whatever they say."""


class Status(enum.IntEnum):
    """Completion Status (table 2-28)."""

    SUCCESSFUL = 0b000
    UNSUPPORTED_REQUEST = 0b001


COMMON = {
    "length": 10,
    "address_type": 2,
    "attributes": 2,
    "poisoned": 1,
    "digest": 1,
    "hints": 1,
    "lightweight": 1,
    "attribute_2": 1,
    "tag_8": 1,
    "traffic_class": 3,
    "tag_9": 1,
    "type": 5,
    "fmt": 3,
}
"""The first dword of every header (2.2.1). ``length`` is in dwords, 1024 is 0."""

REQUEST = COMMON | {
    "first_enable": 4,
    "last_enable": 4,
    "tag": 8,
    "requester": 16,
    "address_first": 32,
    "address_second": 32,
}
"""Memory requests (2.2.7). Of an address below 4 GiB ``address_first`` is the address, else it is the upper half and ``address_second`` the
lower one; its lowest two bits are 0. The tag of a write means nothing to others."""

COMPLETION = COMMON | {
    "byte_count": 12,
    "modified": 1,
    "status": 3,
    "completer": 16,
    "lower_address": 7,
    "reserved": 1,
    "tag": 8,
    "requester": 16,
    "unused": 32,
}
"""Completions (2.2.9). ``byte_count``: bytes that are still to come, those of this one too; 4096 is 0."""

RequestHeader = data.StructLayout(REQUEST)
CompletionHeader = data.StructLayout(COMPLETION)

TlpBeat = data.StructLayout({"data": 8 * BEAT_BYTES, "count": unsigned(3), "header": 1, "last": 1})
"""A TLP's beats: first its header alone, then its data in a row, 16 bytes a beat, the first in the lowest byte. ``count`` dwords hold
something: fewer than 4 only in a header of three and in the ``last`` beat."""


def place(fields: dict[str, int], name: str) -> int:
    """Where a field of a table begins, in bits."""
    at = 0
    for each, bits in fields.items():
        if each == name:
            return at
        at += bits
    raise KeyError(name)


def pack(fields: dict[str, int], **values: int) -> int:
    """A header as a number; fields that are left out are 0."""
    return sum(values.get(name, 0) % (1 << bits) << place(fields, name) for name, bits in fields.items())


def unpack(fields: dict[str, int], header: int) -> dict[str, int]:
    """The fields of a header."""
    return {name: header >> place(fields, name) & (1 << bits) - 1 for name, bits in fields.items()}
