"""Full decode: every field of real messages, against documented values and a decoder by others."""

import re
import struct
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import dpkt
import numpy as np
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest
import sbe

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.frame import Flag
from hdl.sbe_framing import Framing, read_framing
from hdl.sbe_profile import Profile
from hdl.sbe_schema import load_schema
from hdl.sbe_venue import Venue, load_venue
from host.capture.flows import find_flows
from host.capture.packets import Packets
from host.capture.reader import read_packets
from host.capture.write import udp_packet
from host.sbe import export as export_module
from host.sbe.arrow import arrow_table
from host.sbe.export import export
from host.sbe.full_decode import Decoded, FullDecoder

SOURCE, FEED = Endpoint.parse("10.0.0.2:40000"), Endpoint.parse("224.0.0.1:9000")
FLOWS = (Flow(Protocol.UDP, FEED, Parser.SBE),)

SOFH = read_framing(
    {
        "byte_order": "big",
        "message": {"size": 6, "length": "u32@0", "counts": "all", "magic": "u16@4 = 0xEB50"},
    }
)


def decode(schema: Path, *payloads: bytes, framing: Framing | None = None) -> Decoded:
    """Decode payloads of one flow; without a framing each is one message."""
    venue = Venue.of(load_schema(schema), Profile("test", (), framing or Framing()))
    return FullDecoder(venue, FLOWS).decode(Packets.of([udp_packet(each, SOURCE, FEED) for each in payloads]))


def rows(decoded: Decoded, name: str) -> list[dict[str, Any]]:
    """A table's rows without the columns that are not of the message."""
    return [
        {column: value for column, value in row.items() if not column.startswith("@")}
        for row in arrow_table(decoded, name).to_pylist()
    ]


def dumps(page: Path) -> list[bytes]:
    """The messages behind a SOFH that a page shows as hex dumps."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [
        bytes.fromhex("".join(line.split(" :")[0] for line in block.splitlines()))
        for block in blocks
        if re.match(r"(?:[0-9a-f]{2} ){4}eb 50", block)
    ]


ORDER = {
    "ClOrdId": "ORD00001",
    "Account": "ACCT01",
    "Symbol": "GEM4",
    "Side": "Buy",
    "OrderQty": Decimal(7),
    "OrdType": "Limit",
    "Price": Decimal("99.610"),
    "StopPx": None,
}
REPORT = {
    "OrderID": "O0000001",
    "ExecID": "EXEC0000",
    "ExecType": "Trade",
    "OrdStatus": "PartialFilled",
    "Symbol": "GEM4",
    "MaturityMonthYear.year": 2014,
    "MaturityMonthYear.month": 6,
    "Side": "Buy",
    "LeavesQty": Decimal(1),
    "CumQty": Decimal(6),
    "TradeDate": 15989,
}
FILLS = [
    {"FillPx": Decimal("99.610"), "FillQty": Decimal(2)},
    {"FillPx": Decimal("99.620"), "FillQty": Decimal(4)},
]
REJECT = {
    "BusinesRejectRefId": "ORD00001",
    "BusinessRejectReason": "NotAuthorized",
    "Text": b"Not authorized to trade that instrument",
}


@pytest.mark.parametrize("edition", ["v1-0-STANDARD", "v2-0-RC2"])
def test_the_standard_s_worked_examples_have_their_documented_values(shared_data, edition):
    folder = shared_data / "sbe_examples" / edition
    messages = dumps(folder / "doc" / "examples.md")
    decoded = decode(folder / "src/main/resources/Examples.xml", *messages, framing=SOFH)
    assert len(messages) == 3
    assert (decoded.messages, len(decoded.problems)) == (3, 0)
    tables = {name: rows(decoded, name) for name, table in decoded.tables.items() if len(table)}
    by_first = {next(iter(its_rows[0])): its_rows for its_rows in tables.values()}
    for expected in ([ORDER], [REPORT], FILLS, [REJECT]):
        found = by_first[next(iter(expected[0]))]
        assert [{name: row[name] for name in wanted} for row, wanted in zip(found, expected, strict=True)] == expected


FUEL = [(30, "35.9", "Urban Cycle"), (55, "49.0", "Combined Cycle"), (75, "40.0", "Highway Cycle")]
ACCELERATION = [(0, 30, "4.0"), (0, 60, "7.5"), (0, 100, "12.2"), (1, 30, "3.8"), (1, 60, "7.1"), (1, 100, "11.8")]


@pytest.mark.parametrize(
    ("file", "numbers"),
    [("car_example_baseline_data.sbe", [1, 2, 3, 4]), ("car_example_extension_data.sbe", [0, 1, 2, 3])],
)
def test_real_logic_s_car_has_its_documented_values(shared_data, tmp_path, file, numbers):
    folder = shared_data / "schemas/reallogic"
    # Written when someNumbers had four elements, as their blockLength of 45 says; the schema beside them has five.
    text = (folder / "example-schema.xml").read_text()
    schema = tmp_path / "car.xml"
    schema.write_text(text.replace('primitiveType="uint32" length="5"', 'primitiveType="uint32" length="4"'))
    decoded = decode(schema, (folder / file).read_bytes())
    assert (decoded.messages, len(decoded.problems)) == (1, 0)
    ((car,), fuel, performance, acceleration) = (
        arrow_table(decoded, name).to_pylist()
        for name in ("Car", "Car.fuelFigures", "Car.performanceFigures", "Car.performanceFigures.acceleration")
    )
    expected = {
        "serialNumber": 1234,
        "modelYear": 2013,
        "someNumbers": numbers,
        "vehicleCode": "abcdef",
        "extras": 6,
        "discountedModel": "C",
        "engine.capacity": 2000,
        "engine.numCylinders": 4,
        "engine.maxRpm": 9000,
        "engine.manufacturerCode": "123",
        "engine.fuel": "Petrol",
        "engine.efficiency": 35,
        "engine.boosterEnabled": "T",
        "engine.booster.BoostType": "NITROUS",
        "engine.booster.horsePower": 200,
        "manufacturer": "Honda",
        "model": "Civic VTi",
        "activationCode": "abcdef",
    }
    assert {name: car[name] for name in expected} == expected
    assert [(row["speed"], f"{row['mpg']:.1f}", row["usageDescription"]) for row in fuel] == FUEL
    assert [row["octaneRating"] for row in performance] == [95, 99]
    assert [(row["@parent"], row["mph"], f"{row['seconds']:.1f}") for row in acceleration] == ACCELERATION
    assert [row["@index"] for row in acceleration] == [0, 1, 2, 0, 1, 2]


def raw_messages(packets: Packets, packet_header: int, prefix: int) -> Iterator[bytes]:
    """The whole SBE messages of a capture whose framing has a little-endian u16 that counts all of the message."""
    for index in range(len(packets)):
        ip = dpkt.ethernet.Ethernet(packets.packet(index)).ip
        payload = ip.data.data[packet_header:]
        while payload:
            size = int.from_bytes(payload[:2], "little")
            if size <= len(payload):
                yield payload[prefix:size]
            payload = payload[size:]


class Comparison:
    """Compares tables with what the `sbe` package reads in the raw messages, in their order."""

    def __init__(self, decoded: Decoded, schema: sbe.Schema) -> None:
        self.values = 0
        self._decoded = decoded
        self._schema = schema
        self._next: Counter[str] = Counter()

    def message(self, raw: bytes) -> None:
        """Compare the next message, field by field, entry by entry."""
        theirs = self._schema.decode(raw)
        template = self._schema.messages[theirs.header["templateId"]]
        self._block(template, theirs.value, template.name)

    def all_rows_were_compared(self) -> bool:
        """Whether no table has a row more."""
        return all(len(table) == self._next[name] for name, table in self._decoded.tables.items())

    def _block(self, block: Any, values: dict[str, Any], name: str) -> None:
        row = self._next[name]
        self._next[name] += 1
        for each in block.fields:
            if isinstance(each, sbe.Group):
                for entry in values[each.name]:
                    self._block(each, entry, f"{name}.{each.name}")
            elif each.name in values:
                self._field(each, values[each.name], name, row)

    def _field(self, field: Any, value: Any, name: str, row: int) -> None:
        if isinstance(value, dict):
            for member, its_value in value.items():
                self._value(its_value, name, f"{field.name}.{member}", row)
        elif isinstance(value, list):
            chosen = {choice.name: choice.value for choice in field.type.choices} if value else {}
            assert self._decoded.tables[name].rows[field.name][row] == sum(1 << chosen[each] for each in value)
            self.values += 1
        elif isinstance(field.type, sbe.Enum) and value in [each.name for each in field.type.valid_values]:
            number = field.type.find_value_by_name(value)
            self._value(number, name, field.name, row)
        elif isinstance(field.type, sbe.Enum) and value is None:
            # The package gives None for numbers that are none of the enum's, too.
            table = self._decoded.tables[name]
            known = [each.value for each in field.type.valid_values]
            assert table.is_null(field.name)[row] or str(table.rows[field.name][row]) not in known
        else:
            self._value(value, name, field.name, row)

    def _value(self, value: Any, name: str, column: str, row: int) -> None:
        table = self._decoded.tables[name]
        ours = table.rows[column][row]
        if value is None:
            assert table.is_null(column)[row], (name, column, row, ours)
        elif isinstance(ours, bytes):
            text = value.decode() if isinstance(value, bytes) else str(value)
            assert ours.decode("latin-1") == text.rstrip("\0"), (name, column, row)
        else:
            assert ours == value, (name, column, row)
        self.values += 1


@pytest.mark.parametrize(
    ("schema", "captures", "packet_header", "prefix"),
    [
        ("omi/Cme.Futures.Mdp3.Sbe.v1.6.xml", "cme_mdp3/*.pcap", 12, 2),
        ("omi/Cme.Futures.iLink3.Sbe.v8.5.xml", "omi_packets/Cme/iLink3.Sbe.8.5/*.pcap", 0, 4),
    ],
)
def test_every_value_is_that_of_the_sbe_package(shared_data, schema, captures, packet_header, prefix):
    path = shared_data / "schemas" / schema
    with path.open() as file:
        theirs = sbe.Schema.parse(file)
    for capture in sorted(shared_data.glob(captures)):
        packets = read_packets(capture).slice(0, 1500)
        flows = find_flows(packets, sbe=True, sbe_streams=True).table()
        decoded = FullDecoder(load_venue(path), flows).decode(packets)
        # One segment of the captures ends within a message.
        assert all(problem["flags"] == Flag.TRUNCATED for problem in decoded.problems)
        comparison = Comparison(decoded, theirs)
        for raw in raw_messages(packets, packet_header, prefix):
            comparison.message(raw)
        assert comparison.all_rows_were_compared()
        assert comparison.values > 2


SCHEMA = """<messageSchema package="decoded" id="3" version="2" byteOrder="bigEndian">
<types>
  <composite name="messageHeader"><type name="blockLength" primitiveType="uint16"/><type name="templateId" primitiveType="uint16"/>
    <type name="schemaId" primitiveType="uint16"/><type name="version" primitiveType="uint16"/></composite>
  <composite name="groupSizeEncoding"><type name="blockLength" primitiveType="uint8"/><type name="numInGroup" primitiveType="uint32"/></composite>
  <composite name="Text"><type name="length" primitiveType="uint8"/><type name="varData" primitiveType="char" length="0"/></composite>
  <composite name="Bytes"><type name="length" primitiveType="uint8"/><type name="varData" primitiveType="uint8" length="0"/></composite>
  <composite name="Wire"><type name="mantissa" primitiveType="int16" presence="optional"/><type name="exponent" primitiveType="int8"/></composite>
  <composite name="Fixed"><type name="mantissa" primitiveType="uint64"/><type name="exponent" primitiveType="int8" presence="constant">-2</type></composite>
  <type name="Ratio" primitiveType="double" presence="optional"/>
  <type name="Pair" primitiveType="int16" length="2"/>
  <type name="Letter" primitiveType="char" presence="optional"/>
  <type name="Word" primitiveType="char" length="4"/>
  <type name="Count" primitiveType="uint8" presence="optional" nullValue="9"/>
</types>
<message name="M" id="5">
  <field name="fixed" id="1" type="Fixed"/><field name="ratio" id="2" type="Ratio"/><field name="letter" id="3" type="Letter"/>
  <field name="word" id="4" type="Word" offset="20"/><field name="pair" id="5" type="Pair"/><field name="count" id="6" type="Count"/>
  <field name="wire" id="7" type="Wire" sinceVersion="1"/>
  <group name="outer" id="8"><field name="a" id="9" type="uint8"/>
    <group name="inner" id="10"><field name="b" id="11" type="uint16"/><data name="note" id="12" type="Text"/></group>
    <data name="blob" id="13" type="Bytes"/></group>
  <group name="empty" id="14"><data name="only" id="15" type="Text"/></group>
  <data name="tail" id="16" type="Text" sinceVersion="2"/>
</message>
</messageSchema>"""


def header(block: int, version: int = 2, template: int = 5) -> bytes:
    return struct.pack(">HHHH", block, template, 3, version)


def root(fixed=12345, ratio=0.5, letter=b"x", word=b"word", pair=(1, -2), count=7, wire=(125, -2)) -> bytes:
    return struct.pack(">Qdc3x4shhBhb", fixed, ratio, letter, word, *pair, count, *wire)


def group(block: int, *entries: bytes, count: int | None = None) -> bytes:
    return struct.pack(">BI", block, len(entries) if count is None else count) + b"".join(entries)


def text(data: bytes) -> bytes:
    return bytes([len(data)]) + data


WHOLE = (
    header(len(root()))
    + root()
    + group(
        1,
        b"\x01" + group(2, b"\x00\x0a" + text(b"one"), b"\x00\x0b" + text(b"")) + text(b"\xff\x00"),
        b"\x02" + group(2) + text(b""),
    )
    + group(0, text(b"left"), text(b"right"))
    + text("Grüße".encode())
)


@pytest.fixture
def schema(tmp_path) -> Path:
    path = tmp_path / "decoded.xml"
    path.write_text(SCHEMA)
    return path


def test_every_kind_of_field_group_and_var_data_has_its_column(schema):
    decoded = decode(schema, WHOLE)
    assert len(decoded.problems) == 0
    assert rows(decoded, "M") == [
        {
            "fixed": Decimal("123.45"),
            "ratio": 0.5,
            "letter": "x",
            "word": "word",
            "pair": [1, -2],
            "count": 7,
            "wire.mantissa": 125,
            "wire.exponent": -2,
            "tail": "Grüße",
        }
    ]
    entries = {name: arrow_table(decoded, f"M.{name}").to_pylist() for name in ("outer", "outer.inner", "empty")}
    assert entries == {
        "outer": [
            {"a": 1, "blob": b"\xff\x00", "@parent": 0, "@index": 0},
            {"a": 2, "blob": b"", "@parent": 0, "@index": 1},
        ],
        "outer.inner": [
            {"b": 10, "note": "one", "@parent": 0, "@index": 0},
            {"b": 11, "note": "", "@parent": 0, "@index": 1},
        ],
        "empty": [{"only": "left", "@parent": 0, "@index": 0}, {"only": "right", "@parent": 0, "@index": 1}],
    }


def test_nulls_and_what_an_older_version_does_not_have_are_null(schema):
    nulls = header(len(root())) + root(ratio=float("nan"), letter=b"\0", count=9, wire=(-(2**15), 3))
    older = header(30, version=0) + root()[:30]
    decoded = decode(schema, nulls, older)
    first, second = rows(decoded, "M")
    assert {name for name, value in first.items() if value is None} == {
        "ratio",
        "letter",
        "count",
        "wire.mantissa",
        "tail",
    }
    # Two of the 29 bytes up to the count are there of `wire`: less than a whole member.
    assert {name for name, value in second.items() if value is None} == {"wire.mantissa", "wire.exponent", "tail"}
    table = decoded.tables["M"]
    assert table.is_null("wire.exponent").tolist() == [False, True]
    assert [int(row["@version"]) for row in table.rows] == [2, 0]
    with pytest.raises(KeyError):
        table.is_null("nothing")


def test_var_data_and_groups_of_a_later_version_are_not_read_in_older_messages(schema):
    message = header(len(root()), version=1) + root() + group(1) + group(0) + text(b"of no version")
    decoded = decode(schema, message)
    assert rows(decoded, "M")[0]["tail"] is None
    assert len(decoded.problems) == 0


def test_text_that_is_no_utf_8_is_latin_1(schema):
    decoded = decode(schema, header(len(root())) + root(word=b"Z\xfcr"), WHOLE)
    assert [row["word"] for row in rows(decoded, "M")] == ["Zür", "word"]


@pytest.mark.parametrize(
    ("payload", "flags", "whole"),
    [
        (header(99) + root(), Flag.LENGTH, {}),
        (header(0, template=6), Flag.TEMPLATE, {}),
        (WHOLE[:5], Flag.TRUNCATED, {}),
        (header(0) + group(1, b"\x01", count=2), Flag.LENGTH, {"M": 1, "M.outer": 1}),
        (header(0) + group(1) + group(0, text(b"a"), count=600), Flag.TOO_LONG, {"M": 1, "M.empty": 511}),
        (header(0) + group(1) + group(0) + b"\x05four", Flag.LENGTH, {"M": 1}),
    ],
)
def test_what_is_wrong_is_listed_and_what_was_whole_is_kept(schema, payload, flags, whole):
    decoded = decode(schema, WHOLE, payload)
    (problem,) = decoded.problems
    assert problem["flags"] == flags
    assert decoded.messages == 2
    assert bytes(decoded.data[problem["offset"] : problem["offset"] + problem["length"]]) == payload
    complete = decode(schema, WHOLE)
    assert {name: len(table) - len(complete.tables[name]) for name, table in decoded.tables.items()} == {
        "M": 0,
        "M.outer": 0,
        "M.outer.inner": 0,
        "M.empty": 0,
        **whole,
    }


BY_STRUCTURE = read_framing({"message": {"end": "structure"}})
LONG = header(0) + group(1, *[b"\x01" + group(2) + text(b"x" * 200)] * 30)
"""A message of more than 4096 bytes: the blocks of 20 entries of ``outer`` are whole in them."""


@pytest.mark.parametrize(
    ("payload", "messages", "length", "flags", "whole"),
    [
        (WHOLE + WHOLE, 2, 0, 0, {"M": 2, "M.outer": 4}),
        (WHOLE + WHOLE[:-1], 2, len(WHOLE) - 1, Flag.TRUNCATED, {"M": 2, "M.outer": 4}),
        (WHOLE + header(0, template=6) + WHOLE, 2, 8 + len(WHOLE), Flag.TEMPLATE, {"M": 1, "M.outer": 2}),
        (WHOLE + LONG + WHOLE, 2, 4096, Flag.TOO_LONG, {"M": 2, "M.outer": 22}),
        (WHOLE + LONG[:4096], 2, 4096, Flag.TRUNCATED, {"M": 2, "M.outer": 22}),
        (header(9999) + b"\0" * 9000, 1, 4096, Flag.TOO_LONG, {"M": 0, "M.outer": 0}),
        (header(0, template=6) + b"\0" * 9000, 1, 4096, Flag.TEMPLATE, {"M": 0, "M.outer": 0}),
        (header(0) + group(1) + group(0, *[text(b"")] * 600), 1, 618, Flag.TOO_LONG, {"M": 1, "M.outer": 0}),
    ],
)
def test_a_message_that_ends_by_its_structure_has_4096_bytes(schema, payload, messages, length, flags, whole):
    decoded = decode(schema, payload, framing=BY_STRUCTURE)
    assert decoded.messages == messages
    assert [(each["flags"], each["length"]) for each in decoded.problems] == ([(flags, length)] if flags else [])
    assert {name: len(decoded.tables[name]) for name in whole} == whole


def test_tables_grow_as_messages_come(schema):
    venue = Venue.of(load_schema(schema), Profile("test", (), Framing()))
    decoder = FullDecoder(venue, FLOWS)
    one = decoder.decode(Packets.of([udp_packet(WHOLE, SOURCE, FEED)]))
    packets = Packets.of([udp_packet(WHOLE, SOURCE, FEED), udp_packet(WHOLE[:-1], SOURCE, FEED)] * 6000)
    for _ in range(2):
        many = decoder.decode(packets)
        assert (many.messages, len(many.problems)) == (12_000, 6_000)
        for name, table in many.tables.items():
            rows = one.tables[name].rows
            assert len(table) == 12_000 * len(rows)
            for column in ("@index", "a", "b", "pair"):
                if column in rows.dtype.names:
                    assert (table.rows[column].reshape(12_000, *rows[column].shape) == rows[column]).all()
            if "@parent" in rows.dtype.names:
                parents = len(one.tables[table.layout.parent])
                expected = np.arange(12_000)[:, None] * parents + rows["@parent"]
                assert (table.rows["@parent"] == expected.ravel()).all()


@pytest.mark.parametrize("file_format", ["parquet", "arrow", "csv"])
def test_files_have_all_slices_and_parents_count_through(schema, tmp_path, monkeypatch, file_format):
    monkeypatch.setattr(export_module, "SLICE_PACKETS", 2)
    packets = Packets.of([udp_packet(WHOLE, SOURCE, FEED)] * 5)
    venue = Venue.of(load_schema(schema), Profile("test", (), Framing()))
    seen: list[int] = []
    done = export(
        FullDecoder(venue, FLOWS),
        [packets, packets],
        tmp_path / "out",
        file_format,
        lambda count, *_: seen.append(count),
    )
    assert seen == [2, 4, 5, 7, 9, 10]
    assert done.rows == {"M": 10, "M.outer": 20, "M.outer.inner": 20, "M.empty": 20}
    assert (done.messages, done.problems) == (10, {})
    paths = {path.name for path in (tmp_path / "out").iterdir()}
    assert paths == {f"{name}.{file_format}" for name in done.rows}
    readers = {
        "parquet": pyarrow.parquet.read_table,
        "arrow": lambda path: pyarrow.ipc.open_file(path).read_all(),
        "csv": pyarrow.csv.read_csv,
    }
    read = readers[file_format](tmp_path / "out" / f"M.outer.{file_format}")
    assert read.column("@parent").to_pylist() == [number // 2 for number in range(20)]
    read = readers[file_format](tmp_path / "out" / f"M.outer.inner.{file_format}")
    assert read.column("@parent").to_pylist() == [number // 2 * 2 for number in range(20)]
    assert read.column("note").to_pylist()[:2] == ["one", ""]
