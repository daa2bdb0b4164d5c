"""Instrument definitions, read from raw messages: they are rare, so this is plain Python.

Fields are found by their FIX ids, whichever names the venue has for them.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from hdl.sbe_encoding import Composite, Family, Simple, decimal_parts
from hdl.sbe_schema import Block, Data, Field, Group, Message, Schema, Slot

SYMBOL, SECURITY_ID, SECURITY_GROUP, ASSET, CURRENCY = 55, 48, 1151, 6937, 15
TICK, DISPLAY_FACTOR, CONTRACT_SIZE, CONTRACT_MULTIPLIER, UPDATE_ACTION = 969, 9787, 1147, 231, 980
FEED_TYPE, MARKET_DEPTH = 1022, 264
STATUS, SESSION_STATUS = 326, 1682
OUTRIGHT_FEED, IMPLIED_FEED = "GBX", "GBI"
"""MDFeedType (1022) of a depth: the real book, the implied one."""

Value = int | float | str | Decimal


@dataclass(frozen=True)
class Definition:
    """An instrument. ``tick`` is MinPriceIncrement, ``multiplier`` ContractMultiplier (231) or UnitOfMeasureQty (1147),
    ``display_factor`` what a price is multiplied by to be shown, depths MarketDepth by feed type; None where it is not told."""

    instrument: int
    symbol: str
    group: str = ""
    asset: str = ""
    currency: str = ""
    tick: Decimal | None = None
    multiplier: Decimal | None = None
    display_factor: Decimal | None = None
    outright_depth: int | None = None
    implied_depth: int | None = None
    is_deleted: bool = False


class MessageReader:
    """Reads whole raw messages of a schema, one at a time."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._messages = {message.id: message for message in schema.messages}

    def fields(self, raw: bytes) -> Iterator[tuple[int, Value]]:
        """(FIX id, value) of all fields that have one, those of groups behind the root's, in the schema's order. A message that is cut
        or of another schema has fewer or none."""
        header = self._schema.header
        if len(raw) < header.size:
            return
        message = self._messages.get(self._number(raw, header.template_id, 0))
        if message is None or self._number(raw, header.schema_id, 0) != self._schema.id:
            return
        version = self._number(raw, header.version, 0)
        size = self._number(raw, header.block_length, 0)
        yield from self._block(raw, message, header.size, size)
        yield from self._behind(raw, message, header.size + size, version)

    def _number(self, raw: bytes, slot: Slot, at: int) -> int:
        return int.from_bytes(raw[at + slot.offset : at + slot.offset + slot.size], self._schema.byte_order)

    def _behind(self, raw: bytes, block: Block, at: int, version: int) -> Generator[tuple[int, Value], None, int]:
        """What stands behind a block. The generator's return value is where it ends."""
        parts: tuple[Group | Data, ...] = (*block.groups, *block.data)
        for part in parts:
            if part.since_version > version or at >= len(raw):
                continue
            if isinstance(part, Data):
                at += part.prefix + self._number(raw, part.length, at)
                continue
            dimension = part.dimension
            size, count = (self._number(raw, slot, at) for slot in (dimension.block_length, dimension.count))
            at += dimension.size
            for _ in range(count):
                if at + size > len(raw):
                    return at
                yield from self._block(raw, part, at, size)
                at = yield from self._behind(raw, part, at + size, version)
        return at

    def _block(self, raw: bytes, block: Block | Message, at: int, size: int) -> Iterator[tuple[int, Value]]:
        for field in block.fields:
            if field.offset + field.size <= size:
                value = self._value(raw, field, at)
                if value is not None:
                    yield field.id, value

    def _value(self, raw: bytes, field: Field, at: int) -> Value | None:
        encoding = field.encoding
        if isinstance(encoding, Composite):
            if (parts := decimal_parts(encoding)) is None:
                return None
            mantissa, exponent = (
                self._simple(raw, each.encoding, at + field.offset + each.offset)
                for each in (parts.mantissa, parts.exponent)
                if isinstance(each.encoding, Simple)
            )
            if isinstance(mantissa, int) and isinstance(exponent, int):
                return Decimal(mantissa).scaleb(exponent)
            return None
        return self._simple(raw, encoding, at + field.offset)

    def _simple(self, raw: bytes, encoding: Simple, at: int) -> Value | None:
        constant = encoding.constant
        if constant is not None:
            return constant.decode("latin-1") if isinstance(constant, bytes) else constant
        content = raw[at : at + encoding.size]
        family = encoding.primitive.family
        if len(content) < encoding.size or (encoding.length != 1 and family is not Family.CHAR):
            return None
        if family is Family.CHAR:
            return content.split(b"\0")[0].decode("latin-1").strip() or None
        if family is Family.FLOATING:
            big = self._schema.byte_order == "big"
            number = float(np.frombuffer(content, f"{'>' if big else '<'}f{encoding.size}")[0])
            return None if number != number or number == encoding.null else number
        whole = int.from_bytes(content, self._schema.byte_order, signed=family is Family.SIGNED)
        return None if whole == encoding.null else whole


def read_definition(reader: MessageReader, raw: bytes) -> Definition | None:
    """The definition in a raw message; None where it has no security id."""
    first: dict[int, Value] = {}
    depths: dict[str, int] = {}
    feed_type = ""
    for number, value in reader.fields(raw):
        if number == FEED_TYPE:
            feed_type = str(value)
        elif number == MARKET_DEPTH and isinstance(value, int):
            depths[feed_type] = value
        first.setdefault(number, value)
    instrument = first.get(SECURITY_ID)
    if not isinstance(instrument, int):
        return None
    return Definition(
        instrument=instrument,
        symbol=str(first.get(SYMBOL, "")),
        group=str(first.get(SECURITY_GROUP, "")),
        asset=str(first.get(ASSET, "")),
        currency=str(first.get(CURRENCY, "")),
        tick=_decimal(first.get(TICK)),
        multiplier=_decimal(first.get(CONTRACT_MULTIPLIER, first.get(CONTRACT_SIZE))),
        display_factor=_decimal(first.get(DISPLAY_FACTOR)),
        outright_depth=depths.get(OUTRIGHT_FEED),
        implied_depth=depths.get(IMPLIED_FEED),
        is_deleted=first.get(UPDATE_ACTION) == "D",
    )


def _decimal(value: Value | None) -> Decimal | None:
    if isinstance(value, Decimal):
        return value
    return Decimal(value) if isinstance(value, int | float) else None
