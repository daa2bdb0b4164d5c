"""The schema compiler: what it reads, and what it refuses with file and line."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from hdl.sbe_encoding import NAN, Composite, Presence, Simple, decimal_parts
from hdl.sbe_schema import Field, Schema, SchemaError, Slot, load_schema

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
  <type name="Motto" primitiveType="char" presence="constant">Never</type>
  <type name="Forgotten" primitiveType="int32" nullValue="-1"/>
  <type name="Half" primitiveType="float" nullValue="0.5"/>
  <type name="Grade" primitiveType="uint8" minValue="1" maxValue="6"/>
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
    assert [(field.offset, field.size) for field in message.fields] == [(0, 1), (1, 0), (4, 4), (8, 6)]
    assert message.block_length == 20
    assert one_message(tmp_path, '<field name="A" id="1" type="Price"/>').messages[0].block_length == 8


def simple(field: Field) -> Simple:
    assert isinstance(field.encoding, Simple)
    return field.encoding


def test_a_decimal_has_a_mantissa_and_an_exponent(tmp_path):
    field = only_field(tmp_path, 'type="Price"')
    parts = decimal_parts(field.encoding)
    assert parts is not None
    mantissa, exponent = parts.mantissa.encoding, parts.exponent.encoding
    assert isinstance(mantissa, Simple)
    assert isinstance(exponent, Simple)
    assert (field.size, mantissa.null, exponent.constant) == (8, -(1 << 63), -4)
    assert field.encoding.described() == "decimal"


@pytest.mark.parametrize(("presence", "null"), [("required", None), ("optional", -(1 << 63))])
def test_what_a_field_says_of_presence_goes_for_the_mantissa(tmp_path, presence, null):
    for type_name in ("Price", "Floating"):
        parts = decimal_parts(only_field(tmp_path, f'type="{type_name}" presence="{presence}"').encoding)
        assert parts is not None
        assert isinstance(parts.mantissa.encoding, Simple)
        assert parts.mantissa.encoding.null == null


@pytest.mark.parametrize(
    ("attributes", "described", "size", "null", "constant"),
    [
        ('type="uint32"', "uint32", 4, None, None),
        ('type="uint32" presence="optional"', "uint32", 4, 0xFFFFFFFF, None),
        ('type="uint32" presence="optional" nullValue="0"', "uint32", 4, 0, None),
        ('type="int16" presence="optional"', "int16", 2, -0x8000, None),
        ('type="char" presence="optional"', "char", 1, 0, None),
        ('type="Level"', "uint8", 1, 99, None),
        ('type="Level" presence="required"', "uint8", 1, None, None),
        ('type="Forgotten"', "int32", 4, -1, None),
        ('type="Forgotten" presence="required"', "int32", 4, None, None),
        ('type="Action"', "enum of uint8", 1, 99, None),
        ('type="EntryType"', "enum of char", 1, None, None),
        ('type="EntryType" presence="optional"', "enum of char", 1, 0, None),
        ('type="Bits"', "set of uint32", 4, None, None),
        ('type="New"', "int8", 0, None, 0),
        ('type="New" presence="optional"', "int8", 0, None, 0),
        ('type="Motto"', "char[5]", 0, None, b"Never"),
        ('type="EntryType" presence="constant" valueRef="EntryType.Trade"', "enum of char", 0, None, b"2"),
        ('presence="constant" valueRef="Action.Change"', "enum of uint8", 0, None, 1),
        ('type="Text"', "char[6]", 6, None, None),
        ('type="double"', "double", 8, None, None),
        ('type="double" presence="optional"', "double", 8, NAN, None),
        ('type="Half" presence="optional"', "float", 4, 0.5, None),
    ],
)
def test_types_become_encodings(tmp_path, attributes, described, size, null, constant):
    field = only_field(tmp_path, attributes)
    encoding = simple(field)
    assert (encoding.described(), field.size, encoding.constant) == (described, size, constant)
    assert encoding.null is null if null is NAN else encoding.null == null
    assert (encoding.presence is Presence.CONSTANT) == (constant is not None)


def test_ranges_are_the_types_or_the_fields_own(tmp_path):
    assert (
        simple(only_field(tmp_path, 'type="Grade"')).minimum,
        simple(only_field(tmp_path, 'type="Grade"')).maximum,
    ) == (1, 6)
    encoding = simple(only_field(tmp_path, 'type="Grade" maxValue="4"'))
    assert (encoding.minimum, encoding.maximum) == (1, 4)


def test_values_and_choices_have_their_numbers(tmp_path):
    assert [(value.name, value.number) for value in simple(only_field(tmp_path, 'type="EntryType"')).values] == [
        ("Bid", ord("0")),
        ("Trade", ord("2")),
    ]
    assert [(choice.name, choice.number) for choice in simple(only_field(tmp_path, 'type="Bits"')).choices] == [
        ("First", 0)
    ]


NESTED = """<types>
  <composite name="Inner"><type name="a" primitiveType="uint8"/><type name="b" primitiveType="uint16" offset="2"/></composite>
  <composite name="Outer">
    <enum name="one" encodingType="char"><validValue name="X">x</validValue></enum>
    <composite name="two"><type name="c" primitiveType="int8"/><type name="d" primitiveType="int8" presence="constant">5</type></composite>
    <ref name="three" type="Inner" offset="3" sinceVersion="2"/>
    <ref name="four" type="uint32"/>
  </composite></types>"""


def test_composites_nest_refer_and_have_offsets(tmp_path):
    path = schema_file(
        tmp_path,
        '<message name="M" id="1"><field name="F" id="9" type="Outer" offset="10"/></message>',
        types=TYPES + NESTED,
    )
    (field,) = load_schema(path).messages[0].fields
    assert isinstance(field.encoding, Composite)
    assert field.size == 11
    assert [(leaf.name, leaf.offset, leaf.encoding.size, leaf.since_version) for leaf in field.leaves()] == [
        ("F.one", 10, 1, 0),
        ("F.two.c", 11, 1, 0),
        ("F.two.d", 12, 0, 0),
        ("F.three.a", 13, 1, 2),
        ("F.three.b", 15, 2, 2),
        ("F.four", 17, 4, 0),
    ]


VAR_DATA = """<types>
  <composite name="Bytes"><type name="length" primitiveType="uint32" maxValue="9"/><type name="varData" primitiveType="uint8" length="0"/></composite>
  <composite name="Words"><type name="length" primitiveType="uint8"/><type name="varData" primitiveType="char" length="0"/></composite>
  <composite name="groupSize8Byte"><type name="blockLength" primitiveType="uint16"/><type name="numInGroup" primitiveType="uint8" offset="7"/></composite>
  </types>"""


def test_groups_nest_and_have_dimensions_and_var_data(tmp_path):
    body = """<message name="M" id="1"><field name="A" id="1" type="uint8"/>
      <group name="G" id="2" dimensionType="groupSize8Byte" blockLength="9"><field name="B" id="3" type="uint16"/>
        <group name="H" id="4"><field name="B" id="5" type="char"/><data name="W" id="6" type="Words"/></group>
        <data name="V" id="7" type="Bytes" sinceVersion="2" deprecated="3"/></group>
      <group name="I" id="8"/><data name="U" id="9" type="Bytes"/></message>"""
    (message,) = load_schema(schema_file(tmp_path, body, types=TYPES + VAR_DATA)).messages
    outer, other = message.groups
    assert (outer.dimension.size, outer.dimension.count, outer.block_length) == (8, Slot(7, 1), 9)
    (inner,) = outer.groups
    assert (inner.name, inner.block_length, inner.dimension.size, inner.data[0].is_text) == ("H", 1, 3, True)
    data = outer.data[0]
    assert (data.length, data.prefix, data.is_text, data.since_version, data.deprecated) == (Slot(0, 4), 4, False, 2, 3)
    assert (other.block_length, other.fields, message.data[0].name) == (0, (), "U")


def test_a_header_may_count_groups_and_have_more_fields(tmp_path):
    types = """<types><composite name="messageHeader"><type name="length" primitiveType="int16"/>
      <type name="blockLength" primitiveType="uint16"/><type name="templateId" primitiveType="uint8"/>
      <type name="schemaId" primitiveType="uint8"/><type name="version" primitiveType="uint16"/>
      <type name="numGroups" primitiveType="uint16"/><type name="numVarDataFields" primitiveType="uint16"/></composite></types>"""
    schema = load_schema(schema_file(tmp_path, '<message name="M" id="1"/>', 'byteOrder="bigEndian"', types=types))
    header = schema.header
    assert (schema.byte_order, header.size, header.template_id) == ("big", 12, Slot(4, 1))
    assert (header.num_groups, header.num_var_data) == (Slot(8, 2), Slot(10, 2))
    assert [leaf.name for leaf in header.leaves][:2] == ["length", "blockLength"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('<message name="M" id="1"/><message name="N" id="1"/>', "template id 1 of 'N' is taken by 'M'"),
        ('<message name="M" id="x"/>', "id='x' is not a whole number"),
        ('<message name="M"/>', "<message> has no attribute 'id'"),
        ('<message name="M" id="1"><field name="F" id="1" type="Nil"/></message>', "unknown type 'Nil'"),
        ('<message name="M" id="1"><field name="F" id="1"/></message>', "field 'F' has no type"),
        (
            '<message name="M" id="1" blockLength="3"><field name="F" id="1" type="uint32"/></message>',
            "'M' has blockLength 3, but its fields need 4 bytes",
        ),
        ('<message name="M" id="1" blockLength="65537"/>', "'M' has blockLength 65537; at most 65536 is possible"),
        (
            '<message name="M" id="1" alignment="8"/>',
            "alignment of 'M' is not supported: say it with offset and blockLength",
        ),
        (
            '<message name="M" id="1"><field name="F" id="1" type="uint32"/>'
            '<field name="E" id="2" type="uint32" offset="2"/></message>',
            "field 'E' overlaps the field before it: offset 2, but 4 is free",
        ),
        (
            '<message name="M" id="1"><field name="F" id="1" type="char"/><field name="F" id="2" type="char"/></message>',
            "'F' stands twice in its block",
        ),
        (
            '<message name="M" id="1"><group name="G" id="2"/><field name="F" id="1" type="char"/></message>',
            "field 'F' stands behind a group",
        ),
        (
            '<message name="M" id="1"><data name="D" id="2" type="Bytes"/><group name="G" id="1"/></message>',
            "group 'G' stands behind var data",
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
            '<message name="M" id="1"><data name="D" id="2" type="Price"/></message>',
            "var data 'Price' needs a 'length' of an unsigned type, and 'varData'",
        ),
        (
            '<message name="M" id="1"><field name="F" id="1" type="EntryType" valueRef="EntryType.Offer"/></message>',
            "valueRef 'EntryType.Offer': enum 'EntryType' has no value 'Offer'",
        ),
        (
            '<message name="M" id="1"><field name="F" id="1" type="char" valueRef="Price.Offer"/></message>',
            "valueRef 'Price.Offer' names no enum",
        ),
        (
            '<message name="M" id="1"><field name="F" id="1" type="char" presence="constant"/></message>',
            "constant field 'F' has no value",
        ),
        (
            '<message name="M" id="1"><field name="F" id="1" type="Price" presence="constant">5</field></message>',
            "constant field 'F' is a composite",
        ),
        (
            '<message name="M" id="1"><field name="F" id="1" type="char" presence="maybe"/></message>',
            "presence 'maybe' is none of required, optional, constant",
        ),
        (
            '<message name="M" id="1"><field name="F" id="1" type="uint8" minValue="7" maxValue="6"/></message>',
            "minValue 7 is above maxValue 6",
        ),
        (
            '<message name="M" id="1"><field name="F" id="1" type="uint8" nullValue="256"/></message>',
            "'256' is not a number of type uint8",
        ),
        ("", "the schema has no messages"),
    ],
)
def test_what_is_wrong_or_not_supported_is_refused_with_its_line(tmp_path, body, reason):
    path = schema_file(tmp_path, body, types=TYPES + VAR_DATA)
    with pytest.raises(SchemaError) as refusal:
        load_schema(path)
    file, line, text = str(refusal.value).split(":", 2)
    assert (file, text.strip().endswith(reason)) == (str(path), True), refusal.value
    assert 1 <= int(line) <= path.read_text().count("\n") + 1


@pytest.mark.parametrize(
    ("types", "reason"),
    [
        ('<type name="T" primitiveType="uint9"/>', "type 'T' has the unknown primitive type 'uint9'"),
        (
            '<type name="T" primitiveType="char" length="65537"/>',
            "type 'T' has length 65537; at most 65536 is possible",
        ),
        ('<type name="T" primitiveType="int8" presence="constant"/>', "constant type 'T' has no value"),
        ('<type name="T" primitiveType="int8" presence="constant">200</type>', "'200' is not a number of type int8"),
        ('<type name="T" primitiveType="float" presence="constant">x</type>', "'x' is not a number of type float"),
        (
            '<type name="T" primitiveType="int8" length="2" presence="constant">1</type>',
            "constant type 'T' is an array of numbers",
        ),
        (
            '<type name="T" primitiveType="char" length="2" presence="constant">abc</type>',
            "constant type 'T' has 3 characters, but its length is 2",
        ),
        ('<type name="Price" primitiveType="char"/>', "type 'Price' is defined twice (first in "),
        ('<enum name="T" encodingType="char"/>', "enum 'T' has no values"),
        ('<enum name="T" encodingType="char"><validValue name="A">ab</validValue></enum>', "'ab' is not one character"),
        (
            '<enum name="T" encodingType="Price"><validValue name="A">1</validValue></enum>',
            "enum 'T' is encoded neither by a number nor by a char",
        ),
        (
            '<enum name="T" encodingType="uint8"><validValue name="A">1</validValue><validValue name="B">1</validValue></enum>',
            "'B' has the value of 'A'",
        ),
        (
            '<enum name="T" encodingType="uint8"><validValue name="A">1</validValue><validValue name="A">2</validValue></enum>',
            "'A' stands twice in enum 'T'",
        ),
        (
            '<set name="T" encodingType="int8"><choice name="A">1</choice></set>',
            "set 'T' is encoded by int8, not by an unsigned number",
        ),
        ('<set name="T" encodingType="uint8"><choice name="A">8</choice></set>', "bit 8 of 'A' does not fit uint8"),
        ('<enum name="Loop" encodingType="Loop"/>', "type 'Loop' contains itself"),
        (
            '<composite name="A"><ref name="b" type="B"/></composite><composite name="B"><ref name="a" type="A"/></composite>',
            "type 'A' contains itself",
        ),
        (
            '<composite name="A"><type name="b" primitiveType="char"/><type name="b" primitiveType="char"/></composite>',
            "'b' stands twice in composite 'A'",
        ),
        (
            '<composite name="A"><type name="b" primitiveType="int32"/><type name="c" primitiveType="char" offset="3"/></composite>',
            "'c' overlaps the member before it: offset 3, but 4 is free",
        ),
    ],
)
def test_types_are_checked_though_nothing_uses_them(tmp_path, types, reason):
    path = schema_file(tmp_path, '<message name="M" id="1"/>', types=TYPES.replace("</types>", f"\n{types}</types>"))
    with pytest.raises(SchemaError) as refusal:
        load_schema(path)
    line = path.read_text().split("\n" + types)[0].count("\n") + 2
    (problem,) = refusal.value.problems
    assert str(problem).startswith(f"{path}:{line}: {reason}")


def test_all_errors_are_told_each_once_with_its_line(tmp_path):
    types = TYPES.replace("</types>", '<type name="Bad" primitiveType="u7"/></types>')
    body = """
<message name="M" id="1">
  <field name="A" id="1" type="Bad"/>
  <field name="B" id="y" type="char"/>
  <group name="G" id="2"><field name="C" id="3" type="Bad"/>
    <field name="D" id="4" type="Nowhere"/></group>
</message>
<message name="N" id="1" blockLength="1"><field name="E" id="5" type="uint16"/></message>"""
    path = schema_file(tmp_path, body, types=types)
    with pytest.raises(SchemaError) as refusal:
        load_schema(path)
    first = types.count("\n") + 1
    assert str(refusal.value).splitlines() == [
        f"{path}:{first - 1}: type 'Bad' has the unknown primitive type 'u7'",
        f"{path}:{first + 3}: id='y' is not a whole number",
        f"{path}:{first + 5}: unknown type 'Nowhere'",
        f"{path}:{first + 7}: 'N' has blockLength 1, but its fields need 2 bytes",
    ]


def test_foreign_and_broken_files_are_refused(tmp_path):
    with pytest.raises(SchemaError, match=r"schema.xml:1: byteOrder 'middle' is neither littleEndian nor bigEndian"):
        load_schema(schema_file(tmp_path, '<message name="M" id="1"/>', 'byteOrder="middle"'))
    foreign = tmp_path / "foreign.xml"
    foreign.write_text("<html/>")
    with pytest.raises(SchemaError, match=r"foreign.xml:1: not an SBE schema: the root element is <html>"):
        load_schema(foreign)
    for content in (b"\xff\xfe\x00junk", b"", b"<messageSchema>\n<types>"):
        foreign.write_bytes(content)
        with pytest.raises(SchemaError, match=r"foreign.xml:\d+: not XML"):
            load_schema(foreign)


INCLUDE = '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" {}/>'


def test_files_are_included_and_errors_in_them_name_them(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "types.xml").write_text(TYPES)
    (tmp_path / "more" / "messages.xml").write_text(
        '<messages>\n<message name="M" id="1"><field name="F" id="2" type="Level"/></message></messages>'
    )
    includes = INCLUDE.format('href="types.xml"') + INCLUDE.format('href="more/messages.xml" parse="xml"')
    path = schema_file(tmp_path, includes, types="")
    assert load_schema(path).messages[0].fields[0].size == 1
    (tmp_path / "types.xml").write_text(TYPES.replace('name="Level"', 'name="Lever"'))
    with pytest.raises(SchemaError, match=r"more/messages.xml:2: unknown type 'Level'"):
        load_schema(path)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ('href="none.xml"', "none.xml' cannot be included: No such file or directory"),
        ('href="schema.xml"', "schema.xml' includes itself"),
        ('href="types.xml" xpointer="x"', "an include with 'xpointer' is not supported, only whole files"),
        ('href="types.xml" parse="text"', "an include of text is not supported, only parse='xml'"),
        ("", "<include> has no attribute 'href'"),
    ],
)
def test_includes_that_lead_nowhere_are_refused(tmp_path, attributes, reason):
    path = schema_file(tmp_path, "\n" + INCLUDE.format(attributes))
    with pytest.raises(SchemaError, match=f"schema.xml:{TYPES.count(chr(10)) + 2}: .*{reason}"):
        load_schema(path)


def test_the_schema_of_cme_mdp3_is_read_completely(shared_data):
    schema = load_schema(shared_data / "schemas/omi/Cme.Futures.Mdp3.Sbe.v1.6.xml")
    assert (schema.id, schema.version, schema.package, len(schema.messages)) == (1, 6, "mktdata", 17)
    messages = {message.id: message for message in schema.messages}
    trade = messages[42]
    assert (trade.block_length, trade.semantic_type) == (11, "X")
    assert [group.block_length for group in trade.groups] == [32, 16]
    assert trade.groups[1].dimension.count == Slot(7, 1)
    assert trade.groups[1].dimension.size == 8
    assert simple(trade.groups[0].fields[-1]).constant == b"2"


NO_SCHEMA = {
    "messages-include.xml": "not an SBE schema: the root element is <messages>",
    "types-include.xml": "not an SBE schema: the root element is <types>",
}
"""Files among the schemas that are parts of one, for others to include."""


def test_every_schema_at_hand_compiles_or_is_refused_for_a_true_reason(shared_data):
    files = [*shared_data.glob("schemas/**/*.xml"), *shared_data.glob("sbe_examples/**/*.xml")]
    assert len(files) > 20
    for path in files:
        if (reason := NO_SCHEMA.get(path.name)) is not None:
            with pytest.raises(SchemaError, match=reason):
                load_schema(path)
            continue
        schema = load_schema(path)
        declared = ElementTree.parse(path).getroot()
        assert (schema.id, schema.version) == (int(declared.get("id", "")), int(declared.get("version", "0")))
        own = [element for element in declared.iter() if element.tag.rpartition("}")[2] == "message"]
        assert {int(element.get("id", "")) for element in own} <= {message.id for message in schema.messages}
        assert all(
            message.fields or message.groups or message.data or not message.block_length for message in schema.messages
        )
