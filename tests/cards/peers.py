"""What decoders by others read in the raw messages, compared with the frames field by field."""

from decimal import Decimal
from pathlib import Path

import sbe
import simplefix

from hdl.frame import Flag, Kind
from tests.cards.comparison import Reading

SOH = b"\x01"
TEXTS = {11: "client_order_id", 41: "original_order_id", 55: "symbol", 1: "account"}
NUMBERS = {44: ("price", 10**9), 38: ("quantity", 10**8), 34: ("sequence", 1)}
CHARACTERS = {54: "side", 40: "order_type", 59: "time_in_force"}


def simplefix_message(raw: bytes) -> simplefix.FixMessage | None:
    """The message that simplefix finds in the bytes."""
    parser = simplefix.FixParser()
    parser.append_buffer(raw)
    return parser.get_message()


def lengths_and_sums_add_up(raw: bytes) -> bool:
    """Whether simplefix, encoding the fields anew in their order, gets the same BodyLength and CheckSum."""
    parsed = simplefix_message(raw)
    if parsed is None:
        return False
    anew = simplefix.FixMessage()
    for tag, value in parsed.pairs:
        if tag not in (b"9", b"10"):
            anew.append_pair(tag, value)
    return anew.encode() == raw


def frames_that_agree_with_simplefix(reading: Reading) -> int:
    """Compare every FIX frame with simplefix; returns how many well-formed ones there are."""
    well_formed = 0
    for frame, raw in zip(reading.frames, reading.messages, strict=True):
        assert lengths_and_sums_add_up(raw) == (frame["kind"] != Kind.MALFORMED), raw
        if frame["kind"] == Kind.MALFORMED:
            continue
        well_formed += 1
        fields: dict[int, bytes] = {}
        for tag, value in simplefix_message(raw).pairs:
            fields.setdefault(int(tag), value)
        assert int(frame["message_type"]).to_bytes(2, "little").rstrip(b"\0") == fields[35]
        for tag, name in TEXTS.items():
            offset = int(frame[name])
            assert (raw[offset : raw.index(SOH, offset)] if offset else None) == fields.get(tag), (tag, raw)
        for tag, (name, unit) in NUMBERS.items():
            assert frame[name] == Decimal(fields.get(tag, b"0").decode()) * unit, (tag, raw)
        for tag, name in CHARACTERS.items():
            assert bytes([frame[name]]).rstrip(b"\0") == fields.get(tag, b""), (tag, raw)
        assert bool(frame["flags"] & Flag.PRICE_ABSENT) == (44 not in fields)
        assert bool(frame["flags"] & Flag.QUANTITY_ABSENT) == (38 not in fields)
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
