"""Payloads that an SBE decoder of the soft card once got wrong, each with what docs/sbe.md says of it."""

from pathlib import Path

import pytest

from hdl.frame import Flag, Kind

TYPES = """<types>
  <composite name="messageHeader"><type name="blockLength" primitiveType="uint16"/><type name="templateId" primitiveType="uint16"/>
    <type name="schemaId" primitiveType="uint16"/><type name="version" primitiveType="uint16"/></composite>
  <composite name="groupSizeEncoding"><type name="blockLength" primitiveType="uint32"/><type name="numInGroup" primitiveType="uint32"/></composite>
  <composite name="Text"><type name="length" primitiveType="uint16"/><type name="varData" primitiveType="char" length="0" offset="4"/></composite>
  <composite name="Pair"><type name="first" primitiveType="uint8" offset="2"/></composite>
  <composite name="Wire"><type name="mantissa" primitiveType="int64"/><type name="exponent" primitiveType="int8"/></composite>
  <type name="Half" primitiveType="double" presence="constant">1.5</type>
  <type name="Five" primitiveType="uint8" presence="constant">5</type>
  <type name="Exponent" primitiveType="int8" presence="optional"/>
</types>"""

BY_STRUCTURE = """<messageSchema package="p" id="7">{types}
<message name="Wide" id="1"><group name="G" id="1"><field name="a" id="2" type="uint8"/></group></message>
<message name="Hollow" id="2"><group name="G" id="1"><data name="d" id="2" type="Text"/></group></message>
<message name="Shifted" id="3"><data name="d" id="2" type="Text"/></message>
</messageSchema>"""

BY_PACKET = """<messageSchema package="p" id="7">{types}
<message name="Constant" id="1"><field name="half" id="1" type="Half"/></message>
<message name="Exponent" id="2"><field name="e" id="1" type="Exponent"/><field name="five" id="2" type="Five" exponent="e"/></message>
<message name="Order" id="3"><field name="pair" id="1" type="Pair"/></message>
<message name="Tiny" id="4"><field name="wire" id="1" type="Wire"/></message>
</messageSchema>"""

PROFILES = {
    BY_STRUCTURE: '[framing]\nmessage = { end = "structure" }\n',
    BY_PACKET: """[framing]
packet = { size = 4 }
message = { size = 2, sequence = "u16@0", end = "packet" }
[frames]
"Order" = "new order"
[fields]
price = ["half", "five", "wire"]
client_order_id = "pair"
""",
}

PREFIX = "00000000" + "0500"

REST = "00" * 5000


@pytest.mark.parametrize(
    ("schema", "payload", "frames", "flags", "length"),
    [
        # A block length and a count whose product wraps.
        (BY_STRUCTURE, "0000010007000100" + "ffffffff" * 2, 1, Flag.TRUNCATED, 16),
        # As many entries of no length as 32 bits count.
        (BY_STRUCTURE, "0000020007000100" + "00000000ffffffff", 512, Flag.TOO_LONG, 16),
        (BY_STRUCTURE, "0000030007000100" + "0100ffff" + "41", 1, Flag.PRICE_ABSENT | Flag.QUANTITY_ABSENT, 13),
        # Long packets whose message ends nowhere.
        (BY_STRUCTURE, "0000090007000100" + REST, 1, Flag.TEMPLATE, 4096),
        (BY_STRUCTURE, "0000010008000100" + REST, 1, Flag.TEMPLATE, 4096),
        (BY_STRUCTURE, "0000010007000100" + "0000000003000000" + REST, 1, Flag.LENGTH, 4096),
        (BY_PACKET, "050001", 1, Flag.TRUNCATED, 3),
    ],
)
def test_lengths_and_counts(tmp_path, parse_sbe, schema, payload, frames, flags, length):
    parsed = decode(tmp_path, parse_sbe, schema, payload)
    assert len(parsed) == frames
    frame, raw = parsed[-1]
    assert (frame["flags"], len(raw), frame["sequence"]) == (flags, length, 0)


@pytest.mark.parametrize(
    ("payload", "kind", "flags", "price", "order"),
    [
        ("0000010007000100", Kind.OTHER, 0, 1_500_000_000, 0),
        ("0800010007000100" + "0000000000001d40", Kind.OTHER, 0, 1_500_000_000, 0),
        ("0100020007000100" + "01", Kind.OTHER, 0, 50_000_000_000, 0),
        ("0000020007000100", Kind.OTHER, Flag.PRICE_ABSENT, 0, 0),
        ("0100020007000100" + "80", Kind.OTHER, Flag.PRICE_ABSENT, 0, 0),
        ("0300030007000100" + "000000", Kind.NEW_ORDER, Flag.PRICE_ABSENT, 0, 8),
        ("0200030007000100" + "0000", Kind.NEW_ORDER, Flag.PRICE_ABSENT, 0, 0),
        ("0900040007000100" + "ce04000000000000" + "f6", Kind.MALFORMED, Flag.RANGE, 0, 0),
        ("0900040007000100" + "0000000000000000" + "f6", Kind.OTHER, 0, 0, 0),
    ],
)
def test_constants_exponents_and_composites(tmp_path, parse_sbe, payload, kind, flags, price, order):
    ((frame, _),) = decode(tmp_path, parse_sbe, BY_PACKET, PREFIX + payload)
    assert (frame["kind"], frame["flags"]) == (
        kind,
        flags | Flag.QUANTITY_ABSENT * (kind is not Kind.MALFORMED or flags == Flag.RANGE),
    )
    assert (frame["price"], frame["sequence"]) == (price, 5)
    assert (frame["client_order_id"] if kind is Kind.NEW_ORDER else 0) == order


def decode(folder: Path, parse_sbe, schema: str, payload: str):
    """The frames of one packet."""
    path = folder / "schema.xml"
    path.write_text(schema.format(types=TYPES))
    path.with_suffix(".profile.toml").write_text(PROFILES[schema])
    return parse_sbe(bytes.fromhex(payload), schema=path)
