"""The frame: what the card tells the host of one message, or of one entry of a message.

A frame is 64 bytes, little endian, one cache line. ``FIELDS`` below is its only definition:
the Amaranth layout, the NumPy dtype and the page ``docs/frame.md`` are derived from it.

Market data needs other fields than an order does, so bytes 45 to 59 have two views. Which view
holds follows from ``kind`` (:data:`MARKET_DATA`, else the order view); for SESSION, OTHER, GAP and
MALFORMED from the flow's parser: SBE frames have the market data view, FIX frames the order view. A frame of SBE that
is MALFORMED for RANGE alone has that of the kind which it would have had.

Which kind the messages of an SBE venue have is said by its profile; the meanings below name FIX's.
"""

import enum
import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from amaranth.lib import data

FRAME_BYTES = 64

PRICE_DECIMALS = 9
"""Prices are counted in 1e-9 (CME's PRICE9)."""

QUANTITY_DECIMALS = 8
"""Quantities are counted in 1e-8 (the eight decimals that crypto venues use)."""

NO_FLOW = 0xFFFF
"""The flow number of a frame that belongs to no flow."""


class Kind(enum.IntEnum):
    """What a frame is about."""

    EMPTY = 0
    NEW_ORDER = 1
    CANCEL = 2
    REPLACE = 3
    EXECUTION = 4
    CANCEL_REJECT = 5
    SESSION = 6
    BOOK_UPDATE = 7
    TRADE = 8
    STATISTIC = 9
    DEFINITION = 10
    STATUS = 11
    DETAIL = 12
    OTHER = 13
    GAP = 14
    MALFORMED = 15


KIND_MEANING = {
    Kind.EMPTY: "a slot that was never written",
    Kind.NEW_ORDER: "FIX D",
    Kind.CANCEL: "FIX F",
    Kind.REPLACE: "FIX G",
    Kind.EXECUTION: "FIX 8",
    Kind.CANCEL_REJECT: "FIX 9",
    Kind.SESSION: "FIX 0 to 5 and A: logon, heartbeat, sequence, logout and the like",
    Kind.BOOK_UPDATE: "an entry that changes a book (MDEntryType 0, 1, E, F, J)",
    Kind.TRADE: "a trade (MDEntryType 2)",
    Kind.STATISTIC: "any other market data entry: volume, settlement, open, high, low",
    Kind.DEFINITION: "an instrument's definition",
    Kind.STATUS: "an instrument's or a group's trading status",
    Kind.DETAIL: "an entry of a group that is not market data, such as an order's share in a trade",
    Kind.OTHER: "an application message with no kind of its own",
    Kind.GAP: "bytes or packets are missing before this point",
    Kind.MALFORMED: "not a message; the causes stand in `flags`, the bytes in the payload ring",
}

MARKET_DATA = (Kind.BOOK_UPDATE, Kind.TRADE, Kind.STATISTIC, Kind.DEFINITION, Kind.STATUS, Kind.DETAIL)
"""The kinds whose frames hold the market data view. The others hold the order view."""


class Side(enum.IntEnum):
    """Side, FIX tag 54, as its character. Any other character is passed on as it came."""

    ABSENT = 0
    BUY = ord("1")
    SELL = ord("2")
    SELL_SHORT = ord("5")
    SELL_SHORT_EXEMPT = ord("6")


class OrderType(enum.IntEnum):
    """OrdType, FIX tag 40, as its character."""

    ABSENT = 0
    MARKET = ord("1")
    LIMIT = ord("2")
    STOP = ord("3")
    STOP_LIMIT = ord("4")


class TimeInForce(enum.IntEnum):
    """TimeInForce, FIX tag 59, as its character. Absent means Day (FIX 4.4, volume 4)."""

    ABSENT = 0
    DAY = ord("0")
    GOOD_TILL_CANCEL = ord("1")
    IMMEDIATE_OR_CANCEL = ord("3")
    FILL_OR_KILL = ord("4")


class Flag(enum.IntFlag):
    """What was found out about a message. Those in ``MALFORMED_FLAGS`` make it malformed."""

    GARBAGE = 1 << 0
    LENGTH = 1 << 1
    CHECKSUM = 1 << 2
    TAG = 1 << 3
    VALUE = 1 << 4
    RANGE = 1 << 5
    TOO_LONG = 1 << 6
    STRUCTURE = 1 << 7
    TRUNCATED = 1 << 8
    TEMPLATE = 1 << 9
    FRAGMENT = 1 << 10
    DUPLICATE_TAG = 1 << 11
    PRICE_ABSENT = 1 << 12
    QUANTITY_ABSENT = 1 << 13


FLAG_MEANING = {
    Flag.GARBAGE: "bytes that belong to no message",
    Flag.LENGTH: "BodyLength, a message size, a block length or a group count does not add up",
    Flag.CHECKSUM: "CheckSum is not the sum of the bytes before it",
    Flag.TAG: "a tag is no positive number",
    Flag.VALUE: "a value is empty or not of its field's type",
    Flag.RANGE: "a number does not fit its frame field; the field is 0",
    Flag.TOO_LONG: "a field or message beyond the card's limit",
    Flag.STRUCTURE: "MsgType is not the first field of the body",
    Flag.TRUNCATED: "the packet ended inside the message",
    Flag.TEMPLATE: "the schema does not know the template; malformed where the schema id differs",
    Flag.FRAGMENT: "an IP fragment carried these bytes; what follows them is missing",
    Flag.DUPLICATE_TAG: "a tag that the frame carries came twice in the body; the first one counts",
    Flag.PRICE_ABSENT: "the message has no price, or a null one",
    Flag.QUANTITY_ABSENT: "the message has no quantity, or a null one",
}

MALFORMED_FLAGS = 0x01FF
"""A message with one of these flags (GARBAGE to TRUNCATED) has kind MALFORMED."""


class Field(NamedTuple):
    """One field of the frame: its offset in bytes, width in bits, signedness, unit and meaning."""

    name: str
    offset: int
    bits: int
    signed: bool
    unit: str
    meaning: str
    view: str = "both"


FIELDS = (
    Field("timestamp", 0, 64, False, "ns", "when the first byte came in, by the card's clock (in a replay: the capture's)"),
    Field("price", 8, 64, True, "1e-9", "tag 44, MDEntryPx; 0 when absent"),
    Field("quantity", 16, 64, False, "1e-8", "tag 38, MDEntrySize; 0 when absent"),
    Field("instrument", 24, 64, False, "", "SBE security id, or the CRC-64 of tag 55's text; 0 when absent"),
    Field("payload_offset", 32, 32, False, "bytes", "where the raw message begins in the payload ring"),
    Field("payload_length", 36, 16, False, "bytes", "length of the raw message"),
    Field("flow", 38, 16, False, "", "the row of the flow table that the bytes came by"),
    Field("sequence", 40, 32, False, "", "MsgSeqNum, or the packet's sequence number; 0 when absent. In a GAP frame of FIX: bytes that are missing; in one of SBE: packets that are missing; in one of no flow: frames that a link lost in a row"),
    Field("kind", 44, 8, False, "Kind", "what the frame is about"),
    Field("side", 45, 8, False, "Side", "tag 54", "order"),
    Field("order_type", 46, 8, False, "OrderType", "tag 40", "order"),
    Field("time_in_force", 47, 8, False, "TimeInForce", "tag 59", "order"),
    Field("entry_type", 45, 8, False, "char", "MDEntryType; 0 when absent", "market data"),
    Field("update_action", 46, 8, False, "char", "MDUpdateAction, `0` new, `1` change, `2` delete; 0 when absent", "market data"),
    Field("price_level", 47, 8, False, "", "MDPriceLevel, 1 is the best; 0 when absent", "market data"),
    Field("flags", 48, 16, False, "Flag", "what was found out about the message"),
    Field("message_type", 50, 16, False, "", "FIX MsgType (first character in the low byte) or SBE template id"),
    Field("client_order_id", 52, 16, False, "bytes", "offset of tag 11's value in the raw message, 0 when absent", "order"),
    Field("original_order_id", 54, 16, False, "bytes", "offset of tag 41's value, 0 when absent", "order"),
    Field("symbol", 56, 16, False, "bytes", "offset of tag 55's value, 0 when absent", "order"),
    Field("account", 58, 16, False, "bytes", "offset of tag 1's value, 0 when absent", "order"),
    Field("number_of_orders", 52, 32, False, "", "NumberOfOrders; 0 when absent", "market data"),
    Field("instrument_sequence", 56, 32, False, "", "RptSeq, the instrument's own sequence; 0 when absent. In a GAP frame of SBE: the first packet's number that is missing", "market data"),
    Field("entry_offset", 60, 16, False, "bytes", "where this frame's group entry begins in the raw message; 0: the frame is the message's"),
    Field("spare", 62, 8, False, "", "always 0"),
    Field("generation", 63, 8, False, "", "the ring's lap, modulo 256, beginning with 1; written last"),
)  # fmt: skip


def _numpy_dtype() -> np.dtype:
    return np.dtype(
        {
            "names": [field.name for field in FIELDS],
            "formats": [f"<{'i' if field.signed else 'u'}{field.bits // 8}" for field in FIELDS],
            "offsets": [field.offset for field in FIELDS],
            "itemsize": FRAME_BYTES,
        }
    )


FRAME_DTYPE = _numpy_dtype()
"""The frame as a NumPy structured dtype, 64 bytes; both views are named fields of it."""


@functools.cache
def frame_layout() -> "data.Layout":
    """The frame as an Amaranth layout of 512 bits; bit 0 is the lowest bit of byte 0.

    A function, so that a host without a simulator can read frames without Amaranth.
    """
    from amaranth.hdl import signed, unsigned
    from amaranth.lib import data

    return data.FlexibleLayout(
        FRAME_BYTES * 8,
        {
            field.name: data.Field(signed(field.bits) if field.signed else unsigned(field.bits), field.offset * 8)
            for field in FIELDS
        },
    )


def crc64(text: bytes) -> int:
    """CRC-64 with ISO 3309's polynomial x^64 + x^4 + x^3 + x + 1, most significant bit first,
    initial value 0, no final inversion.

    So a symbol of up to eight characters is its own code: its text as a big-endian number.
    """
    state = 0
    for byte in text:
        state = (state << 8) | byte
        overflow = state >> 64
        state = (state & (1 << 64) - 1) ^ overflow ^ overflow << 1 ^ overflow << 3 ^ overflow << 4
    return state
