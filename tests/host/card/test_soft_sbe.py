"""The soft card decodes SBE as docs/sbe.md says, rule by rule."""

import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sbe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.frame import MALFORMED_FLAGS, Flag, Kind
from hdl.sbe_venue import load_venue
from host.capture.reader import read_packets
from host.card import open_card

SCHEMA = """<messageSchema package="p" id="7" version="1">
<types>
  <composite name="messageHeader">
    <type name="blockLength" primitiveType="uint16"/><type name="templateId" primitiveType="uint16"/>
    <type name="schemaId" primitiveType="uint16"/><type name="version" primitiveType="uint16"/>
  </composite>
  <composite name="groupSizeEncoding">
    <type name="blockLength" primitiveType="uint16"/><type name="numInGroup" primitiveType="uint16"/>
  </composite>
  <composite name="Price"><type name="mantissa" primitiveType="int64" presence="optional"/>
    <type name="exponent" primitiveType="int8" presence="constant">-7</type></composite>
  <type name="Trade" presence="constant" primitiveType="char">2</type>
</types>
<message name="Book" id="1" semanticType="X">
  <field name="Instrument" id="48" type="int32"/>
  <group name="Entries" id="268">
    <field name="Px" id="270" type="Price"/><field name="Size" id="271" type="int32" presence="optional"/>
    <field name="Type" id="269" type="char"/><field name="Action" id="279" type="uint8"/>
    <field name="Level" id="1023" type="uint8"/><field name="Orders" id="346" type="int8"/>
    <field name="RptSeq" id="83" type="uint64"/>
  </group>
  <group name="Trades" id="269"><field name="Type" id="269" type="Trade"/><field name="Size" id="32" type="int32"/></group>
  <group name="Details" id="1"><field name="Id" id="37" type="uint64"/></group>
</message>
<message name="Order" id="2" semanticType="D">
  <field name="Px" id="44" type="Price"/><field name="Qty" id="38" type="uint64"/>
</message>
<message name="Logon" id="3" semanticType="A"/>
</messageSchema>"""

PROFILE = """
[framing]
packet = { size = 12, sequence = "u32@0" }
message = { size = 2, length = "u16@0", counts = "all" }
[frames]
"Book" = "by entry type"
"Order" = "other"
"Logon" = "session"
[fields]
price = [270, 44]
quantity = [271, 38, 32]
instrument = 48
entry_type = 269
update_action = 279
price_level = 1023
number_of_orders = 346
instrument_sequence = 83
"""

BOTH_ABSENT = Flag.PRICE_ABSENT | Flag.QUANTITY_ABSENT


@pytest.fixture
def decode(parse_sbe, tmp_path):
    """Decode payloads under the schema above."""
    path = tmp_path / "schema.xml"
    path.write_text(SCHEMA)
    path.with_suffix(".profile.toml").write_text(PROFILE)
    return lambda *payloads, **options: parse_sbe(*payloads, schema=path, **options)


def packet(*messages: bytes, sequence: int = 9) -> bytes:
    return struct.pack("<IQ", sequence, 0) + b"".join(struct.pack("<H", 2 + len(each)) + each for each in messages)


def header(template: int, block: int, schema: int = 7) -> bytes:
    return struct.pack("<HHHH", block, template, schema, 1)


def entry(price=4_000, size=5, kind=b"0", action=1, level=3, orders=2, rpt_seq=77) -> bytes:
    return struct.pack("<qicBBbQ", price, size, kind, action, level, orders, rpt_seq)


ENTRY = len(entry())


def group(block: int, *entries: bytes, count: int | None = None) -> bytes:
    return struct.pack("<HH", block, len(entries) if count is None else count) + b"".join(entries)


def book(*groups: bytes, instrument: int = -5, template: int = 1) -> bytes:
    return header(template, 4) + struct.pack("<i", instrument) + b"".join(groups)


def flags_of(parsed) -> list[int]:
    return [int(frame["flags"]) for frame, _ in parsed]


def test_an_entry_becomes_its_frame(decode):
    message = book(group(ENTRY, entry()))
    ((frame, raw),) = decode(packet(message))
    assert raw == message
    assert (frame["kind"], frame["flags"], frame["message_type"]) == (Kind.BOOK_UPDATE, 0, 1)
    assert (frame["price"], frame["quantity"]) == (4_000 * 100, 5 * 10**8)
    assert frame["instrument"] == 2**64 - 5
    assert (frame["entry_type"], frame["update_action"], frame["price_level"]) == (ord("0"), ord("1"), 3)
    assert (frame["number_of_orders"], frame["instrument_sequence"]) == (2, 77)
    assert (frame["sequence"], frame["entry_offset"], frame["payload_length"]) == (9, 16, len(message))


def test_entries_of_all_groups_share_the_raw_message(decode):
    message = book(group(ENTRY, entry(), entry(kind=b"E")), group(4, struct.pack("<i", 6)), group(8, bytes(8)))
    parsed = decode(packet(message, header(3, 0)))
    assert [frame["kind"] for frame, _ in parsed] == [
        Kind.BOOK_UPDATE,
        Kind.BOOK_UPDATE,
        Kind.TRADE,
        Kind.DETAIL,
        Kind.SESSION,
    ]
    assert {raw for _, raw in parsed[:4]} == {message}
    assert len({int(frame["payload_offset"]) for frame, _ in parsed[:4]}) == 1
    assert flags_of(parsed) == [0, 0, Flag.PRICE_ABSENT, BOTH_ABSENT, BOTH_ABSENT]
    assert parsed[2][0]["quantity"] == 6 * 10**8
    assert parsed[3][0]["instrument"] == 2**64 - 5


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(kind, Kind.BOOK_UPDATE) for kind in (b"0", b"1", b"E", b"F", b"J")]
    + [(b"2", Kind.TRADE), (b"4", Kind.STATISTIC), (b"\0", Kind.STATISTIC)],
)
def test_the_entry_type_gives_the_kind(decode, kind, expected):
    assert decode(packet(book(group(ENTRY, entry(kind=kind)))))[0][0]["kind"] == expected


@pytest.mark.parametrize(
    ("values", "field", "value", "flags"),
    [
        ({"price": -(2**63)}, "price", 0, Flag.PRICE_ABSENT),
        ({"price": (2**63 - 1) // 100}, "price", (2**63 - 1) // 100 * 100, 0),
        ({"price": (2**63 - 1) // 100 + 1}, "price", 0, Flag.RANGE),
        ({"price": -(2**63 // 100)}, "price", -(2**63 // 100) * 100, 0),
        ({"price": -(2**63 // 100) - 1}, "price", 0, Flag.RANGE),
        ({"size": -(2**31)}, "quantity", 0, Flag.QUANTITY_ABSENT),
        ({"size": -1}, "quantity", 0, Flag.RANGE),
        ({"action": 9}, "update_action", ord("9"), 0),
        ({"action": 10}, "update_action", 0, 0),
        ({"orders": -1}, "number_of_orders", 2**32 - 1, 0),
        ({"rpt_seq": 2**32 + 3}, "instrument_sequence", 3, 0),
    ],
)
def test_nulls_ranges_and_widths(decode, values, field, value, flags):
    ((frame, _),) = decode(packet(book(group(ENTRY, entry(**values)))))
    assert (frame[field], frame["flags"]) == (value, flags)
    assert frame["kind"] == (Kind.MALFORMED if flags & MALFORMED_FLAGS else Kind.BOOK_UPDATE)
    assert frame["price_level"] == 3


def test_a_quantity_of_64_bits_has_its_range(decode):
    for quantity, flags in ((184_467_440_737, 0), (184_467_440_738, Flag.RANGE)):
        ((frame, _),) = decode(packet(header(2, 16) + struct.pack("<qQ", 5, quantity)))
        assert (frame["kind"], frame["flags"]) == (Kind.MALFORMED if flags else Kind.OTHER, flags)
        assert frame["quantity"] == (0 if flags else quantity * 10**8)
        assert (frame["price"], frame["entry_offset"]) == (500, 0)


def test_fields_beyond_a_shorter_block_are_absent_and_a_longer_one_is_skipped(decode):
    short = decode(packet(book(group(12, entry()[:12], entry(price=7)[:12]))))
    assert [int(frame["price"]) for frame, _ in short] == [400_000, 700]
    assert {(int(frame["entry_type"]), int(frame["kind"])) for frame, _ in short} == {(0, Kind.STATISTIC)}
    long = decode(packet(book(group(ENTRY + 3, entry() + b"new", entry(price=7) + b"new"), b"")))
    assert [int(frame["price"]) for frame, _ in long] == [400_000, 700]
    ((frame, _),) = decode(packet(header(1, 2) + b"\1\1" + group(ENTRY, entry())))
    assert frame["instrument"] == 0


def test_groups_that_are_not_there_and_bytes_behind_the_last_are_no_error(decode):
    for message in (book(), book(group(ENTRY)), book(group(0), group(0), group(0)), book(*[group(0)] * 3, b"newer")):
        ((frame, _),) = decode(packet(message))
        assert (frame["kind"], frame["flags"], frame["entry_offset"]) == (Kind.OTHER, BOTH_ABSENT, 0)
        assert frame["instrument"] == 2**64 - 5


@pytest.mark.parametrize(
    ("message", "entries", "flag", "kind"),
    [
        (header(9, 4) + bytes(4), 0, Flag.TEMPLATE, Kind.OTHER),
        (header(1, 4, schema=8) + bytes(4), 0, Flag.TEMPLATE, Kind.MALFORMED),
        (header(9, 4, schema=8), 0, Flag.TEMPLATE, Kind.MALFORMED),
        (header(1, 5) + bytes(4), 0, Flag.LENGTH, Kind.MALFORMED),
        (book(b"\1"), 0, Flag.LENGTH, Kind.MALFORMED),
        (book(group(ENTRY, entry(), entry()[:-1], count=2)), 1, Flag.LENGTH, Kind.MALFORMED),
        (book(group(ENTRY, entry(), count=2)), 1, Flag.LENGTH, Kind.MALFORMED),
        (book(group(ENTRY, entry()), group(0, count=1)), 1, Flag.LENGTH, Kind.MALFORMED),
        (book(group(ENTRY, entry()), b"\1\1\1"), 1, Flag.LENGTH, Kind.MALFORMED),
    ],
)
def test_a_message_that_does_not_add_up_ends_in_one_frame_and_the_next_follows(decode, message, entries, flag, kind):
    parsed = decode(packet(message, header(3, 0)))
    assert flags_of(parsed) == [0] * entries + [flag, BOTH_ABSENT]
    frame = parsed[entries][0]
    assert (frame["kind"], frame["message_type"]) == (kind, int.from_bytes(message[2:4], "little"))
    assert (frame["instrument"], frame["price"], frame["entry_offset"], frame["sequence"]) == (0, 0, 0, 9)
    assert parsed[-1][0]["kind"] == Kind.SESSION


@pytest.mark.parametrize("length", range(1, 12))
def test_a_packet_shorter_than_its_header_is_one_frame(decode, length):
    ((frame, raw),) = decode(packet()[:length])
    assert (frame["flags"], frame["sequence"], len(raw)) == (Flag.TRUNCATED, 0, length)


def test_a_packet_cut_anywhere_gives_its_whole_entries_and_one_truncated_frame(decode):
    message = book(group(ENTRY, entry(), entry()), group(4, struct.pack("<i", 6)))
    whole = packet(message)
    starts = [16 + ENTRY, 16 + 2 * ENTRY, 16 + 2 * ENTRY + 8]
    for length in range(13, len(whole)):
        there = max(length - 14, 0)
        parsed = decode(whole[:length])
        assert flags_of(parsed)[-1] == Flag.TRUNCATED
        assert len(parsed) == 1 + sum(there >= end for end in starts)
        raw = message[:there] if length >= 14 else whole[12:13]
        assert {each for _, each in parsed} == {raw}
        assert parsed[-1][0]["message_type"] == (1 if there >= 8 else 0)
    assert decode(packet()) == []


def test_truncated_is_the_only_cause_of_a_message_that_is_not_whole(decode):
    for message in (header(9, 0) + bytes(9), header(1, 0, schema=3) + bytes(9), header(1, 500) + bytes(9)):
        ((frame, _),) = decode(packet(message)[:-1])
        assert (frame["flags"], frame["kind"]) == (Flag.TRUNCATED, Kind.MALFORMED)


@pytest.mark.parametrize(
    ("size", "flag"), [(0, Flag.LENGTH), (9, Flag.LENGTH), (4099, Flag.TOO_LONG), (65535, Flag.TOO_LONG)]
)
def test_a_size_that_no_message_has_ends_the_packet(decode, size, flag):
    rest = header(3, 0) + bytes(5000)
    ((frame, raw),) = decode(packet() + struct.pack("<H", size) + rest)
    assert (frame["flags"], frame["message_type"], raw) == (flag, 0, rest[:4096])


def test_the_longest_message_is_read(decode):
    ((frame, raw),) = decode(packet(header(3, 0) + bytes(4088)))
    assert (frame["kind"], len(raw)) == (Kind.SESSION, 4096)


@pytest.mark.parametrize("count", [511, 512, 513, 60_000])
def test_the_512th_frame_of_a_message_says_that_it_is_too_long(decode, count):
    there = min(count, 520)
    parsed = decode(
        packet(header(1, 0) + group(ENTRY) + group(4) + group(7, bytes(7 * there), count=count), header(3, 0))
    )
    frames = min(count, 511)
    assert flags_of(parsed) == [BOTH_ABSENT] * frames + [Flag.TOO_LONG] * (count > 511) + [BOTH_ABSENT]


def test_a_tiny_ring_changes_no_frame(decode):
    message = book(group(ENTRY, *[entry(price=number) for number in range(100)]), group(4, bytes(4)))
    payloads = [packet(message, header(3, 0), message)[:cut] for cut in (9000, 5000, 100, 3)] * 4
    plenty = decode(*payloads, frame_slots=1 << 14, payload_bytes=1 << 20)
    tiny = decode(*payloads, frame_slots=2, payload_bytes=1 << 15)
    names = [name for name in plenty[0][0].dtype.names if name not in ("payload_offset", "generation")]
    for (one, one_raw), (other, other_raw) in zip(plenty, tiny, strict=True):
        assert one_raw == other_raw
        assert [one[name] for name in names] == [other[name] for name in names]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.builds(lambda body, template: header(template, 4) + body, st.binary(max_size=80), st.integers(0, 4)),
            st.builds(
                lambda size, count, body: book(group(size, body, count=count)),
                st.integers(0, 30),
                st.integers(0, 9),
                st.binary(max_size=90),
            ),
        ),
        max_size=5,
    ),
    st.integers(0, 600),
    st.booleans(),
)
def test_any_packet_is_whole_in_its_raw_messages(decode, messages, cut, cut_it):
    payload = packet(*messages)
    payload = payload[:cut] if cut_it else payload
    parsed = decode(payload)
    assert all(raw in payload for _, raw in parsed)
    assert all(
        (frame["kind"] == Kind.MALFORMED) >= bool(frame["flags"] & MALFORMED_FLAGS & ~Flag.TEMPLATE)
        for frame, _ in parsed
    )
    assert bool(parsed) == (bool(payload) and len(payload) != 12)


CME_FLOWS = [
    Flow(Protocol.UDP, Endpoint.parse("224.0.31.64:14340"), Parser.SBE),
    Flow(Protocol.UDP, Endpoint.parse("224.0.32.64:15340"), Parser.SBE),
]


@pytest.fixture(scope="module")
def cme(shared_data):
    """The CME capture's frames and raw messages, and its schema."""
    schema = Path(shared_data, "schemas/omi/Cme.Futures.Mdp3.Sbe.v1.6.xml")
    packets = read_packets(Path(shared_data, "cme_mdp3/Cme.Mdp3.Sbe.v6.1.pcap"))
    with open_card("soft:", CME_FLOWS, load_venue(schema)) as card:
        assert card.feed(packets) == len(packets) == 10_000
        frames = card.ring.read()
        messages = [bytes(card.ring.message(frame)) for frame in frames]
        assert card.counters()["parsed"] == 10_000
    return frames, messages, schema


def test_the_cme_capture_has_its_messages_and_entries(cme):
    frames, _, _ = cme
    first = np.r_[True, np.diff(frames["payload_offset"]) != 0]
    assert Counter(frames["message_type"][first].tolist()) == {32: 19_138, 35: 614, 37: 388, 42: 388, 12: 18}
    assert first.sum() == 20_546
    assert ((frames["message_type"] == 32) & (frames["entry_offset"] > 0)).sum() == 29_148
    assert not (frames["flags"] & MALFORMED_FLAGS).any()


def test_the_cme_capture_agrees_with_the_sbe_package(cme):
    frames, messages, path = cme
    with path.open() as file:
        schema = sbe.Schema.parse(file)
    constant_types = {42: b"2", 37: b"e"}
    row = 0
    while row < len(frames):
        template = int(frames[row]["message_type"])
        decoded = schema.decode(messages[row]).value
        entries = decoded.get("NoMDEntries", [])
        for expected in entries:
            frame = frames[row]
            assert frame["entry_offset"]
            price = expected.get("MDEntryPx", {}).get("mantissa")
            assert frame["price"] == (price or 0) * 100
            assert bool(frame["flags"] & Flag.PRICE_ABSENT) == (price is None)
            size = expected.get("MDEntrySize")
            assert frame["quantity"] == (size or 0) * 10**8
            assert bool(frame["flags"] & Flag.QUANTITY_ABSENT) == (size is None)
            assert frame["instrument"] == expected["SecurityID"]
            assert frame["instrument_sequence"] == expected["RptSeq"]
            assert frame["number_of_orders"] == (expected.get("NumberOfOrders") or 0)
            assert frame["price_level"] == expected.get("MDPriceLevel", 0)
            action = schema.types["MDUpdateAction"].find_value_by_name(expected["MDUpdateAction"])
            assert chr(frame["update_action"]) == str(action)
            name = "MDEntryTypeStatistics" if template == 35 else "MDEntryTypeBook"
            kind = constant_types.get(template) or (schema.types[name].find_value_by_name(expected["MDEntryType"]))
            assert bytes([frame["entry_type"]]) == kind
            row += 1
        for expected in decoded.get("NoOrderIDEntries", []):
            assert frames[row]["kind"] == Kind.DETAIL
            assert frames[row]["quantity"] == expected["LastQty"] * 10**8
            row += 1
        if not entries:
            assert frames[row]["entry_offset"] == 0
            row += 1
