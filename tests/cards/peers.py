"""What decoders by others read in the raw messages, compared with the frames field by field."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import sbe
import simplefix

from hdl.frame import Flag, Kind, crc64
from tests.cards.comparison import Reading

SOH = b"\x01"
TEXTS = {11: "client_order_id", 41: "original_order_id", 55: "symbol", 1: "account"}
NUMBERS = {44: ("price", 10**9), 38: ("quantity", 10**8), 34: ("sequence", 1)}
CHARACTERS = {54: "side", 40: "order_type", 59: "time_in_force"}
TRAILER = b"10=000\x01"

FIRST_OF_ENTRY = {b"W": b"269", b"X": b"279"}
"""By MsgType, the tag with which an entry begins."""
ENTRY_NUMBERS = {
    270: ("price", 10**9), 271: ("quantity", 10**8), 1023: ("price_level", 1), 346: ("number_of_orders", 1),
    83: ("instrument_sequence", 1),
}  # fmt: skip
ENTRY_CHARACTERS = {269: "entry_type", 279: "update_action"}


def simplefix_message(raw: bytes) -> simplefix.FixMessage | None:
    """The message that simplefix finds in the bytes."""
    parser = simplefix.FixParser()
    parser.append_buffer(raw)
    return parser.get_message()


def lengths_and_sums_add_up(raw: bytes) -> bool:
    """Whether simplefix finds one message in the bytes, all of them, and BodyLength and CheckSum are right: those that it
    writes itself when it encodes the same fields, but for BodyLength's leading zeros."""
    parsed = simplefix_message(raw)
    if parsed is None:
        return False
    anew = simplefix.FixMessage()
    for tag, value in parsed.pairs:
        if tag not in (b"9", b"10"):
            anew.append_pair(tag, value)
    stated = parsed.get(9)
    head, _, rest = anew.encode().partition(SOH + b"9=")
    encoded = head + SOH + b"9=" + stated + rest[rest.index(SOH) : -len(TRAILER)]
    right = rest.partition(SOH)[0].lstrip(b"0") == stated.lstrip(b"0")
    return right and raw == encoded + b"10=%03d\x01" % (sum(encoded) % 256)


def number_of(value: bytes | None, unit: int) -> Decimal:
    """A number in its frame field's unit; 0 where the field is not there."""
    return Decimal((value or b"0").decode()) * unit


def agrees_with_own_fields(frame: np.void, raw: bytes, pairs: list[tuple[bytes, bytes]]) -> None:
    """Compare the frame that a message has for itself."""
    fields: dict[int, bytes] = {}
    for tag, value in pairs:
        fields.setdefault(int(tag), value)
    for tag, name in TEXTS.items():
        offset = int(frame[name])
        assert (raw[offset : raw.index(SOH, offset)] if offset else None) == fields.get(tag), (tag, raw)
    for tag, (name, unit) in NUMBERS.items():
        assert frame[name] == number_of(fields.get(tag), unit), (tag, raw)
    for tag, name in CHARACTERS.items():
        assert bytes([frame[name]]).rstrip(b"\0") == fields.get(tag, b""), (tag, raw)
    assert frame["instrument"] == crc64(fields.get(55, b""))
    assert bool(frame["flags"] & Flag.PRICE_ABSENT) == (44 not in fields)
    assert bool(frame["flags"] & Flag.QUANTITY_ABSENT) == (38 not in fields)


def agree_with_entries(frames: list[np.void], raw: bytes, pairs: list[tuple[bytes, bytes]], first_tag: bytes) -> None:
    """Compare the frames of a market data message with its entries, which ``first_tag`` begins."""
    common: dict[int, bytes] = {}
    entries: list[dict[int, bytes]] = []
    for tag, value in pairs:
        if tag == first_tag:
            entries.append({})
        (entries[-1] if entries else common).setdefault(int(tag), value)
    assert len(frames) == len(entries), raw
    symbol = common.get(55, b"")
    for frame, fields in zip(frames, entries, strict=True):
        symbol = fields.get(55, symbol)
        assert frame["instrument"] == crc64(symbol), raw
        assert frame["sequence"] == number_of(common.get(34), 1)
        for tag, (name, unit) in ENTRY_NUMBERS.items():
            assert frame[name] == number_of(fields.get(tag), unit), (tag, raw)
        for tag, name in ENTRY_CHARACTERS.items():
            assert bytes([frame[name]]).rstrip(b"\0") == fields.get(tag, b""), (tag, raw)
        assert raw[frame["entry_offset"] :].startswith(first_tag + b"=" + fields[int(first_tag)] + SOH)
        assert bool(frame["flags"] & Flag.PRICE_ABSENT) == (270 not in fields)
        assert bool(frame["flags"] & Flag.QUANTITY_ABSENT) == (271 not in fields)


def frames_that_agree_with_simplefix(reading: Reading) -> int:
    """Compare all FIX frames with simplefix; returns how many messages are well-formed."""
    well_formed = 0
    together: list[tuple[bytes, list[np.void]]] = []  # the frames of a message share its bytes
    for number, (frame, raw) in enumerate(zip(reading.frames, reading.messages, strict=True)):
        if number and frame["entry_offset"] and frame["payload_offset"] == reading.frames[number - 1]["payload_offset"]:
            together[-1][1].append(frame)
        else:
            together.append((raw, [frame]))
    for raw, frames in together:
        malformed = any(frame["kind"] == Kind.MALFORMED for frame in frames)
        assert lengths_and_sums_add_up(raw) != malformed, raw
        if malformed:
            continue
        well_formed += 1
        pairs = simplefix_message(raw).pairs
        msg_type = dict(reversed(pairs))[b"35"]
        assert all(int(frame["message_type"]).to_bytes(2, "little").rstrip(b"\0") == msg_type for frame in frames)
        first_tag = FIRST_OF_ENTRY.get(msg_type)
        if first_tag is not None and any(tag == first_tag for tag, _ in pairs):
            agree_with_entries(frames, raw, pairs, first_tag)
        else:
            assert len(frames) == 1
            agrees_with_own_fields(frames[0], raw, pairs)
    return well_formed


CME_CONSTANT_ENTRY_TYPES = {42: b"2", 37: b"e"}
"""MDEntryType of the templates whose schema has it as a constant, which the package does not give."""


def entries_that_agree_with_sbe(reading: Reading, schema_path: Path) -> int:
    """Compare the frames of CME's NoMDEntries with the `sbe` package; returns how many entries there are.

    Prices are the package's mantissas of 1e-7, quantities whole.
    """
    with schema_path.open() as file:
        schema = sbe.Schema.parse(file)
    compared = row = 0
    while row < len(reading.frames):
        frame = reading.frames[row]
        decoded = schema.decode(reading.messages[row])
        template = decoded.header["templateId"]
        assert template == frame["message_type"]
        entries = decoded.value.get("NoMDEntries", [])
        for entry in entries:
            frame = reading.frames[row]
            price, size = entry.get("MDEntryPx", {}).get("mantissa"), entry.get("MDEntrySize")
            assert frame["price"] == (price or 0) * 100
            assert bool(frame["flags"] & Flag.PRICE_ABSENT) == (price is None)
            assert frame["quantity"] == (size or 0) * 10**8
            assert bool(frame["flags"] & Flag.QUANTITY_ABSENT) == (size is None)
            assert frame["instrument"] == entry["SecurityID"]
            action = schema.types["MDUpdateAction"].find_value_by_name(entry["MDUpdateAction"])
            assert chr(frame["update_action"]) == str(action)
            names = schema.types["MDEntryTypeStatistics" if template == 35 else "MDEntryTypeBook"]
            constant = CME_CONSTANT_ENTRY_TYPES.get(template)
            assert bytes([frame["entry_type"]]) == (constant or names.find_value_by_name(entry["MDEntryType"]))
            row += 1
        compared += len(entries)
        row += len(decoded.value.get("NoOrderIDEntries", [])) or not entries
    return compared
