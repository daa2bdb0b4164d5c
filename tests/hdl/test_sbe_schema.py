"""The schema compiler: what it reads, and what it refuses with file and line."""

from dataclasses import replace
from pathlib import Path

import pytest

from hdl.frame import Kind
from hdl.sbe_plan import Where, plan_frames
from hdl.sbe_schema import Field, Schema, SchemaError, Slot, ValueKind, load_schema

TYPES = """
<types>
  <composite name="messageHeader">
    <type name="blockLength" primitiveType="uint16"/>
    <type name="templateId" primitiveType="uint16"/>
    <type name="schemaId" primitiveType="uint16"/>
    <type name="version" primitiveType="uint16"/>
  </composite>
  <composite name="groupSizeEncoding">
    <type name="blockLength" primitiveType="uint16"/>
    <type name="numInGroup" primitiveType="uint8"/>
  </composite>
  <composite name="Price"><type name="mantissa" primitiveType="int64" presence="optional"/>
    <type name="exponent" primitiveType="int8" presence="constant">-4</type></composite>
  <composite name="Floating"><type name="mantissa" primitiveType="int64"/>
    <type name="exponent" primitiveType="int8"/></composite>
  <composite name="Small"><type name="mantissa" primitiveType="int64"/>
    <type name="exponent" primitiveType="int8" presence="constant">-10</type></composite>
  <type name="Level" primitiveType="uint8" presence="optional" nullValue="99"/>
  <type name="New" primitiveType="int8" presence="constant">0</type>
  <type name="Text" primitiveType="char" length="6"/>
  <enum name="EntryType" encodingType="char">
    <validValue name="Bid">0</validValue><validValue name="Trade">2</validValue>
  </enum>
  <enum name="Action" encodingType="Level"><validValue name="Change">1</validValue></enum>
  <set name="Bits" encodingType="uint32"><choice name="First">0</choice></set>
</types>
"""


def schema_file(folder: Path, body: str, attributes: str = 'byteOrder="littleEndian"', types: str = TYPES) -> Path:
    path = folder / "schema.xml"
    path.write_text(
        f'<sbe:messageSchema xmlns:sbe="http://fixprotocol.io/2016/sbe" package="p" id="7" version="3" {attributes}>'
        f"{types}{body}</sbe:messageSchema>"
    )
    return path


def one_message(folder: Path, body: str, attributes: str = 'id="1"') -> Schema:
    return load_schema(schema_file(folder, f'<sbe:message name="M" {attributes}>{body}</sbe:message>'))


def only_field(folder: Path, attributes: str) -> Field:
    return one_message(folder, f'<field name="F" id="44" {attributes}/>').messages[0].fields[0]


def test_the_schema_knows_its_id_version_and_header(tmp_path):
    schema = one_message(tmp_path, '<field name="F" id="48" type="uint32"/>')
    assert (schema.id, schema.version, schema.package) == (7, 3, "p")
    assert schema.header.size == 8
    assert (schema.header.template_id, schema.header.schema_id) == (Slot(2, 2), Slot(4, 2))


def test_a_header_of_another_name_and_order_is_read(tmp_path):
    header = """<types><composite name="framing"><type name="templateId" primitiveType="uint8"/>
      <type name="schemaId" offset="2" primitiveType="uint32"/><type name="blockLength" primitiveType="uint16"/>
      <type name="version" primitiveType="uint16"/></composite></types>"""
    path = schema_file(tmp_path, '<message name="M" id="1"/>', 'headerType="framing"', types=header)
    assert load_schema(path).header.block_length == Slot(6, 2)
    assert load_schema(path).header.size == 10


def test_offsets_run_unless_they_are_given_and_the_block_may_be_longer(tmp_path):
    message = one_message(
        tmp_path,
        '<field name="A" id="1" type="uint8"/><field name="C" id="2" type="New"/>'
        '<field name="B" id="3" type="uint32" offset="4"/><field name="D" id="4" type="Text"/>',
        'id="1" blockLength="20"',
    ).messages[0]
    assert [(field.offset, field.size) for field in message.fields] == [(0, 1), (0, 0), (4, 4), (8, 6)]
    assert message.block_length == 20
    assert one_message(tmp_path, '<field name="A" id="1" type="Price"/>').messages[0].block_length == 8


def test_decimals_have_their_exponent_and_null(tmp_path):
    field = only_field(tmp_path, 'type="Price"')
    assert (field.kind, field.exponent, field.size, field.null) == (ValueKind.DECIMAL, -4, 8, -(1 << 63))
    assert only_field(tmp_path, 'type="Price" presence="required"').null is None


@pytest.mark.parametrize(
    ("attributes", "kind", "size", "null", "constant"),
    [
        ('type="uint32"', ValueKind.INTEGER, 4, None, None),
        ('type="uint32" presence="optional"', ValueKind.INTEGER, 4, 0xFFFFFFFF, None),
        ('type="int16" presence="optional"', ValueKind.INTEGER, 2, -0x8000, None),
        ('type="char" presence="optional"', ValueKind.CHAR, 1, 0, None),
        ('type="Level"', ValueKind.INTEGER, 1, 99, None),
        ('type="Action"', ValueKind.INTEGER, 1, 99, None),
        ('type="EntryType"', ValueKind.CHAR, 1, None, None),
        ('type="Bits"', ValueKind.INTEGER, 4, None, None),
        ('type="New"', ValueKind.INTEGER, 0, None, 0),
        ('type="EntryType" presence="constant" valueRef="EntryType.Trade"', ValueKind.CHAR, 0, None, ord("2")),
        ('presence="constant" valueRef="Action.Change"', ValueKind.INTEGER, 0, None, 1),
        ('type="Text"', ValueKind.OTHER, 6, None, None),
        ('type="double"', ValueKind.OTHER, 8, None, None),
        ('type="Floating"', ValueKind.OTHER, 9, None, None),
    ],
)
def test_types_become_values(tmp_path, attributes, kind, size, null, constant):
    field = only_field(tmp_path, attributes)
    assert (field.kind, field.size, field.null, field.constant) == (kind, size, null, constant)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('<message name="M" id="1"><data name="D" id="5" type="x"/></message>', "var data ('D') is not supported"),
        (
            '<message name="M" id="1"><group name="G" id="2"><group name="H" id="3"/></group></message>',
            "a nested group ('H') is not supported",
        ),
        ('<message name="M" id="1"/><message name="N" id="1"/>', "template id 1 of 'N' is taken by 'M'"),
        ('<message name="M" id="x"/>', "id='x' is not a whole number"),
        ('<message name="M"/>', "<message> has no attribute 'id'"),
        ('<message name="M" id="1"><field name="F" id="1" type="Nil"/></message>', "unknown type 'Nil'"),
        ('<message name="M" id="1"><field name="F" id="1"/></message>', "field 'F' has no type"),
        (
            '<message name="M" id="1" blockLength="3"><field name="F" id="1" type="uint32"/></message>',
            "'M' has blockLength 3, but its fields need 4 bytes",
        ),
        (
            '<message name="M" id="1"><field name="F" id="1" type="uint32"/>'
            '<field name="E" id="2" type="uint32" offset="2"/></message>',
            "field 'E' overlaps field 'F'",
        ),
        (
            '<message name="M" id="1"><group name="G" id="2" dimensionType="Price"/></message>',
            "dimension 'Price' has no field 'blockLength' of an unsigned type",
        ),
        (
            '<message name="M" id="1"><group name="G" id="2" dimensionType="none"/></message>',
            "there is no composite 'none' for the dimension",
        ),
        (
            '<message name="M" id="1"><field name="F" id="1" type="EntryType" valueRef="EntryType.Offer"/></message>',
            "valueRef 'EntryType.Offer': enum 'EntryType' has no value 'Offer'",
        ),
        ("", "the schema has no messages"),
    ],
)
def test_what_is_wrong_or_not_supported_is_refused_with_its_line(tmp_path, body, reason):
    path = schema_file(tmp_path, body)
    with pytest.raises(SchemaError) as refusal:
        load_schema(path)
    file, line, text = str(refusal.value).split(":", 2)
    assert (file, text.strip().endswith(reason)) == (str(path), True), refusal.value
    assert 1 <= int(line) <= path.read_text().count("\n") + 1


def test_an_error_names_the_line_of_the_element(tmp_path):
    path = schema_file(tmp_path, '\n\n<message name="M"\n id="1"><data name="D" id="5" type="x"/></message>')
    line = path.read_text().split("<data")[0].count("\n") + 1
    with pytest.raises(SchemaError, match=f"schema.xml:{line}: var data"):
        load_schema(path)


def test_big_endian_foreign_and_broken_files_are_refused(tmp_path):
    with pytest.raises(SchemaError, match=r"schema.xml:1: byte order 'bigEndian' is not supported"):
        load_schema(schema_file(tmp_path, "", 'byteOrder="bigEndian"'))
    foreign = tmp_path / "foreign.xml"
    foreign.write_text("<html/>")
    with pytest.raises(SchemaError, match=r"foreign.xml:1: not an SBE schema: the root element is <html>"):
        load_schema(foreign)
    for content in (b"\xff\xfe\x00junk", b"", b"<messageSchema>\n<types>"):
        foreign.write_bytes(content)
        with pytest.raises(SchemaError, match=r"foreign.xml:\d+: not XML"):
            load_schema(foreign)


def test_a_type_that_contains_itself_is_refused(tmp_path):
    types = TYPES.replace("</types>", '<enum name="Loop" encodingType="Loop"/></types>')
    with pytest.raises(SchemaError, match="type 'Loop' contains itself"):
        load_schema(
            schema_file(tmp_path, '<message name="M" id="1"><field name="F" id="1" type="Loop"/></message>', "", types)
        )


GROUP = (
    '<field name="Id" id="48" type="uint32"/><field name="Px" id="44" type="Price"/><group name="G" id="268">{}</group>'
)


def test_an_entry_takes_price_from_itself_only_and_the_instrument_from_the_root_too(tmp_path):
    schema = one_message(
        tmp_path, GROUP.format('<field name="T" id="269" type="EntryType"/>'), 'id="1" semanticType="X"'
    )
    plan = plan_frames(schema)[0]
    assert plan.root.price is not None
    assert plan.root.price.scale == 10**5
    assert plan.root.kind is Kind.OTHER
    assert plan.groups[0].price is None
    assert plan.groups[0].instrument is not None
    assert plan.groups[0].instrument.where is Where.ROOT
    assert plan.groups[0].kind is None


def test_the_preferred_id_wins_whatever_the_order_of_the_fields(tmp_path):
    entry = '<field name="A" id="31" type="Price"/><field name="B" id="270" type="uint16"/>'
    plan = plan_frames(one_message(tmp_path, GROUP.format(entry), 'id="1" semanticType="X"'))[0].groups[0]
    assert plan.price is not None
    assert (plan.price.field.name, plan.price.scale) == ("B", 10**9)
    assert plan.kind is Kind.DETAIL


@pytest.mark.parametrize(
    ("semantic_type", "kind"), [("d", Kind.DEFINITION), ("f", Kind.STATUS), ("5", Kind.SESSION), ("D", Kind.OTHER)]
)
def test_other_messages_have_one_kind_for_all_frames(tmp_path, semantic_type, kind):
    plan = plan_frames(one_message(tmp_path, GROUP.format(""), f'id="1" semanticType="{semantic_type}"'))[0]
    assert plan.root.kind is plan.groups[0].kind is kind


@pytest.mark.parametrize("type_name", ["Floating", "double", "Text", "Small"])
def test_a_price_without_a_fixed_scale_is_refused(tmp_path, type_name):
    schema = one_message(tmp_path, f'<field name="Px" id="44" type="{type_name}"/>')
    with pytest.raises(SchemaError, match="'Px'"):
        plan_frames(schema)


def test_headers_and_dimensions_of_more_than_a_beat_are_refused(tmp_path):
    schema = one_message(tmp_path, GROUP.format(""))
    with pytest.raises(SchemaError, match="a header of 12 bytes; at most 8"):
        plan_frames(replace(schema, header=replace(schema.header, size=12)))
    (message,) = schema.messages
    (group,) = message.groups
    large = replace(group, dimension=replace(group.dimension, size=10))
    with pytest.raises(SchemaError, match=f"group '{group.name}' has a dimension of 10 bytes; at most 8"):
        plan_frames(replace(schema, messages=(replace(message, groups=(large,)),)))


def test_the_schema_of_cme_mdp3_is_read_completely(shared_data):
    schema = load_schema(shared_data / "schemas/omi/Cme.Futures.Mdp3.Sbe.v1.6.xml")
    assert (schema.id, schema.version, schema.package, len(schema.messages)) == (1, 6, "mktdata", 17)
    messages = {message.template_id: message for message in schema.messages}
    trade = messages[42]
    assert (trade.block_length, trade.semantic_type) == (11, "X")
    assert [group.block_length for group in trade.groups] == [32, 16]
    assert trade.groups[1].dimension.count == Slot(7, 1)
    assert trade.groups[1].dimension.size == 8
    assert trade.groups[0].fields[-1].constant == ord("2")
    plan = next(plan for plan in plan_frames(schema) if plan.message.template_id == 32).groups[0]
    assert {name: source.field.offset for name, source in plan.sources()} == {
        "price": 0,
        "quantity": 8,
        "instrument": 12,
        "entry_type": 26,
        "update_action": 25,
        "price_level": 24,
        "number_of_orders": 20,
        "instrument_sequence": 16,
    }
