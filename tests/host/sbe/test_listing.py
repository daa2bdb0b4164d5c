"""What `tickgate schema` prints."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hdl.sbe_venue import load_venue
from host.cli import app

SCHEMA = """<messageSchema package="listed" id="5" version="4" semanticVersion="x.y">
<types>
  <composite name="messageHeader">
    <type name="blockLength" primitiveType="uint16"/><type name="templateId" primitiveType="uint16"/>
    <type name="schemaId" primitiveType="uint16"/><type name="version" primitiveType="uint16"/>
  </composite>
  <composite name="groupSizeEncoding">
    <type name="blockLength" primitiveType="uint16"/><type name="numInGroup" primitiveType="uint8"/>
  </composite>
  <composite name="Text"><type name="length" primitiveType="uint8"/><type name="varData" primitiveType="char" length="0"/></composite>
  <composite name="Price"><type name="mantissa" primitiveType="int64" presence="optional"/>
    <type name="exponent" primitiveType="int8" presence="constant">-9</type></composite>
  <type name="Ratio" primitiveType="double" presence="optional"/>
  <enum name="Side" encodingType="char"><validValue name="Buy">1</validValue><validValue name="Sell">2</validValue></enum>
</types>
<message name="Order" id="10" semanticType="D">
  <field name="side" id="54" type="Side"/>
  <field name="price" id="44" type="Price" offset="4" sinceVersion="2"/>
  <field name="ratio" id="7" type="Ratio"/>
</message>
<message name="Legs" id="11" blockLength="2" sinceVersion="3" deprecated="4">
  <group name="legs" id="555"><field name="legPrice" id="566" type="Price"/><data name="note" id="58" type="Text"/></group>
</message>
</messageSchema>"""

PROFILE = """
title = "Listed"
[framing]
packet = { size = 12, sequence = "u32@0" }
message = { size = 2, length = "u16@0", counts = "all" }
[frames]
"Legs.legs" = "detail"
[fields]
price = ["price", "legPrice"]
"""

ORDER = """\
10 Order: 20 bytes
offset  size  id  since  field      type          absent
     0     1  54         side       enum of char
     4     8  44      2  price      decimal
     4     8          2  .mantissa  int64         null -9223372036854775808
           0          2  .exponent  int8          always -9
    12     8   7         ratio      double        null NaN
"""


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "listed.xml"
    path.write_text(SCHEMA)
    path.with_suffix(".profile.toml").write_text(PROFILE)
    return path


def printed(*arguments: object) -> str:
    done = CliRunner(env={"COLUMNS": "100"}).invoke(app, ["schema", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return "".join(line.rstrip() + "\n" for line in done.output.splitlines())


def test_all_messages_and_fields_are_listed(path):
    text = printed(path)
    assert f"{path}: package listed, schema 5, version 4 (x.y), little endian\n" in text
    assert "header of 8 bytes: blockLength uint16, templateId uint16, schemaId uint16, version uint16\n" in text
    assert ORDER in text
    assert f"profile Listed ({path.with_suffix('.profile.toml')})\n" in text
    listed = [line.split() for line in text.splitlines()]
    assert ["10", "Order", "other", "20", "0", "0", "yes"] in listed
    assert ["11", "Legs", "detail", "3", "deprecated", "4", "2", "1", "1", "yes"] in listed
    legs = text.split("11 Legs: 2 bytes\n")[1]
    for words in (
        "555 legs: group, 8 bytes an entry",
        "0 8 566 legPrice decimal",
        "58 note text behind a length of 1 bytes",
    ):
        assert words in [" ".join(line.split()) for line in legs.splitlines()]


def test_one_message_is_listed_by_name_or_number(path):
    assert printed(path, "--message", "Order") == printed(path, "--message", "10")
    assert "Legs" not in printed(path, "--message", "10")
    done = CliRunner().invoke(app, ["schema", str(path), "--message", "Nothing"])
    assert done.exit_code == 2


def test_json_has_what_the_tables_have(path):
    listed = json.loads(printed(path, "--json"))
    assert (listed["id"], listed["version"], listed["byte_order"], listed["header"]["size"]) == (5, 4, "little", 8)
    order, legs = listed["messages"]
    assert [(field["name"], field["offset"], field["size"], field["since_version"]) for field in order["fields"]] == [
        ("side", 0, 1, 0),
        ("price", 4, 8, 2),
        ("ratio", 12, 8, 0),
    ]
    assert order["fields"][0]["values"][0]["values"] == {"Buy": ord("1"), "Sell": ord("2")}
    assert [(leaf["name"], leaf["null"], leaf["constant"]) for leaf in order["fields"][1]["values"]] == [
        ("price.mantissa", -(1 << 63), None),
        ("price.exponent", None, -9),
    ]
    assert order["fields"][2]["values"][0]["null"] == "NaN"
    assert (order["rtl"], order["rtl_reason"], order["frames"]) == (True, None, "other")
    assert (legs["block_length"], legs["deprecated"], legs["rtl"], legs["frames"]) == (2, 4, True, "detail")
    assert legs["groups"][0]["dimension"] == {
        "size": 3,
        "block_length": {"offset": 0, "size": 2},
        "count": {"offset": 2, "size": 1},
    }
    assert legs["groups"][0]["data"][0]["name"] == "note"


def test_all_errors_are_printed_and_the_exit_code_is_2(path):
    path.write_text(SCHEMA.replace('type="Side"', 'type="Site"').replace('type="Ratio"', 'type="Ration"'))
    done = CliRunner().invoke(app, ["schema", str(path)])
    assert done.exit_code == 2
    first, second = done.stderr.splitlines()
    assert first.endswith("listed.xml:17: unknown type 'Site'")
    assert second.endswith("listed.xml:19: unknown type 'Ration'")


def test_a_schema_without_a_profile_is_listed_with_a_hint(path):
    path.with_suffix(".profile.toml").unlink()
    text = printed(path)
    assert "no profile is for package 'listed'" in text
    assert "--suggest-profile" in text
    assert "rtl" not in json.loads(printed(path, "--json"))["messages"][0]


def test_a_suggested_profile_is_one(path):
    beside = path.with_suffix(".profile.toml")
    beside.write_text(printed(path, "--suggest-profile"))
    listed = {message["name"]: message for message in json.loads(printed(path, "--json"))["messages"]}
    assert listed["Order"]["frames"] == "new order"
    venue = load_venue(path)
    order, legs = venue.plans
    assert {name: source.value.leaf.name for name, source in order.root.sources.items()} == {
        "price": "price.mantissa",
        "side": "side",
    }
    assert legs.entries[0].sources["price"].value.leaf.name == "legPrice.mantissa"


def test_a_framing_that_rtl_cannot_read_is_told(path):
    beside = path.with_suffix(".profile.toml")
    beside.write_text(PROFILE.replace('length = "u16@0"', 'length = "u16@7"'))
    assert "Not for rtl: the framing of a message is read from 9 bytes; the card looks at 8" in printed(path)
    message = json.loads(printed(path, "--json"))["messages"][0]
    assert (message["rtl"], message["rtl_reason"][:11]) == (False, "the framing")
