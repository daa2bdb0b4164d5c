"""The soft card reads FIX as docs/fix.md says, row by row."""

import itertools
import random
from decimal import Decimal
from pathlib import Path

import pytest
import simplefix
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.frame import MALFORMED_FLAGS, Flag, Kind, crc64
from host.capture.flows import find_flows
from host.capture.packets import Packets
from host.capture.reader import read_packets
from host.capture.write import tcp_packet

ORDER = "35=D|49=C|56=G|34=7|52=20240102-12:00:00|11=ID1|1=ACC|55=ESZ4|54=1|38=100|40=2|44=4000.25|59=0|"
ABSENT = Flag.PRICE_ABSENT | Flag.QUANTITY_ABSENT


def test_an_order_becomes_its_frame(parse_fix, fix_message):
    message = fix_message(ORDER)
    ((frame, raw),) = parse_fix(message)
    assert raw == message
    assert frame["kind"] == Kind.NEW_ORDER
    assert frame["flags"] == 0
    assert frame["price"] == 4_000_250_000_000
    assert frame["quantity"] == 100 * 10**8
    assert frame["instrument"] == crc64(b"ESZ4")
    assert frame["sequence"] == 7
    assert (frame["side"], frame["order_type"], frame["time_in_force"]) == tuple(b"120")
    assert frame["message_type"] == ord("D")
    for name, value in (("client_order_id", b"ID1"), ("account", b"ACC"), ("symbol", b"ESZ4")):
        assert message[frame[name] :].startswith(value + b"\x01"), name
    assert frame["original_order_id"] == 0
    assert frame["payload_length"] == len(message)
    assert (frame["generation"], frame["entry_offset"], frame["spare"], frame["flow"]) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("msg_type", "kind", "number"),
    [
        ("D", Kind.NEW_ORDER, 0x44),
        ("F", Kind.CANCEL, 0x46),
        ("G", Kind.REPLACE, 0x47),
        ("8", Kind.EXECUTION, 0x38),
        ("9", Kind.CANCEL_REJECT, 0x39),
        ("0", Kind.SESSION, 0x30),
        ("5", Kind.SESSION, 0x35),
        ("A", Kind.SESSION, 0x41),
        ("6", Kind.OTHER, 0x36),
        ("AE", Kind.OTHER, 0x4541),
        ("D0", Kind.OTHER, 0x3044),
    ],
)
def test_msg_type_gives_the_kind(parse_fix, fix_message, msg_type, kind, number):
    ((frame, _),) = parse_fix(fix_message(f"35={msg_type}|"))
    assert (frame["kind"], frame["message_type"], frame["flags"]) == (kind, number, ABSENT)


@pytest.mark.parametrize(
    ("field", "name", "value", "flags"),
    [
        ("35=ABC", "message_type", 0, Flag.VALUE),
        ("34=4294967295", "sequence", 2**32 - 1, 0),
        ("34=4294967296", "sequence", 0, Flag.RANGE),
        ("34=0000000007", "sequence", 7, 0),
        ("34=00000000007", "sequence", 0, Flag.RANGE),
        ("34=-1", "sequence", 0, Flag.VALUE),
        ("34=1x", "sequence", 0, Flag.VALUE),
        ("54=12", "side", 0, Flag.VALUE),
        ("54=\xff", "side", 0xFF, 0),
        ("40=P", "order_type", ord("P"), 0),
        ("59==", "time_in_force", ord("="), 0),
        ("55=123456789", "instrument", crc64(b"123456789"), 0),
        ("44=-0.000000001", "price", -1, 0),
        ("44=.5", "price", 500_000_000, 0),
        ("44=5.", "price", 5_000_000_000, 0),
        ("44=1.1234567891", "price", 0, Flag.RANGE),
        ("44=1.12345678900", "price", 1_123_456_789, 0),
        ("44=9223372036.854775807", "price", 0, Flag.RANGE),
        ("44=922337203.6854775800", "price", 0, Flag.RANGE),
        ("44=9223372036.85477580", "price", 9_223_372_036_854_775_800, 0),
        ("44=9223372036.85477581", "price", 0, Flag.RANGE),
        ("44=-9223372036.8547758", "price", -9_223_372_036_854_775_800, 0),
        ("44=000000000000000001", "price", 10**9, 0),
        ("44=0000000000000000001", "price", 0, Flag.RANGE),
        ("44=0000000000000000000x", "price", 0, Flag.VALUE),
        ("44=00000000000000000000x", "price", 0, Flag.RANGE),
        ("44=+1", "price", 0, Flag.VALUE),
        ("44=1e3", "price", 0, Flag.VALUE),
        ("44=1-", "price", 0, Flag.VALUE),
        ("44=-", "price", 0, Flag.VALUE),
        ("44=.", "price", 0, Flag.VALUE),
        ("44=-.", "price", 0, Flag.VALUE),
        ("44=1.2.3", "price", 0, Flag.VALUE),
        ("44=-0", "price", 0, 0),
        ("38=-1", "quantity", 0, Flag.VALUE),
        ("38=0.00000001", "quantity", 1, 0),
        ("38=0.000000001", "quantity", 0, Flag.RANGE),
        ("38=99999999999.9999999", "quantity", 9_999_999_999_999_999_990, 0),
        ("38=100000000000", "quantity", 0, Flag.RANGE),
    ],
)
def test_values_have_their_form_and_range(parse_fix, fix_message, field, name, value, flags):
    ((frame, _),) = parse_fix(fix_message(f"{field}|" if field.startswith("35") else f"35=D|{field}|"))
    assert frame[name] == value
    absent = ABSENT & ~{"price": Flag.PRICE_ABSENT, "quantity": Flag.QUANTITY_ABSENT}.get(name, Flag(0))
    assert frame["flags"] == flags | absent
    assert (frame["kind"] == Kind.MALFORMED) == bool(flags & MALFORMED_FLAGS)


@pytest.mark.parametrize(
    ("body", "flags"),
    [
        ("34=1|35=D|", Flag.STRUCTURE),
        ("35=|34=1|", Flag.STRUCTURE | Flag.VALUE),
        ("x=1|35=D|", Flag.STRUCTURE | Flag.TAG),
        ("35=D|34|", Flag.TAG),
        ("35=D|=5|", Flag.TAG),
        ("35=D|034=5|", Flag.TAG),
        ("35=D|3 4=5|", Flag.TAG),
        ("35=D|1234567890=5|", Flag.TAG),
        ("35=D|123456789=5|", 0),
        ("35=D|58=|", Flag.VALUE),
        ("35=D||", Flag.TAG),
        ("35=D|34=1|34=2|", Flag.DUPLICATE_TAG),
        ("35=D|58=a|58=b|", 0),
        ("35=D|10=000|", 0),
        ("", Flag.STRUCTURE),
    ],
)
def test_fields_and_structure_are_checked(parse_fix, fix_message, body, flags):
    message = fix_message(body)
    ((frame, raw),) = parse_fix(message)
    assert (frame["flags"], raw) == (flags | ABSENT, message)
    assert (frame["kind"] == Kind.MALFORMED) == bool(flags & MALFORMED_FLAGS)


@pytest.mark.parametrize("zeros", ["0", "0000000"])
def test_a_body_length_may_have_leading_zeros_up_to_nine_digits(parse_fix, zeros):
    body = b"35=0\x0134=7\x01"
    head = b"8=FIX.4.4\x019=%s10\x01" % zeros.encode() + body
    message = head + b"10=%03d\x01" % (sum(head) % 256)
    ((frame, raw),) = parse_fix(message)
    assert (frame["kind"], frame["sequence"], raw) == (Kind.SESSION, 7, message)


def test_what_the_session_layer_wants_is_not_the_parsers_business(parse_fix, fix_message):
    ((frame, _),) = parse_fix(fix_message("35=D|55=A|"))
    assert (frame["kind"], frame["sequence"], frame["flags"]) == (Kind.NEW_ORDER, 0, ABSENT)


def test_the_first_of_two_fields_counts_and_an_empty_one_does_not(parse_fix, fix_message):
    ((frame, _),) = parse_fix(fix_message("35=D|44=|44=1|44=2|44=x|38=y|38=5|"))
    assert frame["price"] == 10**9
    assert frame["quantity"] == 0
    assert frame["flags"] == Flag.VALUE | Flag.DUPLICATE_TAG


@pytest.mark.parametrize("check", [b"000", b"1a2", b"999", b"-01", b" 16"])
def test_a_wrong_check_sum_ends_the_message_all_the_same(parse_fix, fix_message, check):
    wrong = fix_message("35=0|", check=check)
    ((frame, raw),) = parse_fix(wrong)
    assert (raw, frame["flags"], frame["kind"]) == (wrong, Flag.CHECKSUM | ABSENT, Kind.MALFORMED)


@pytest.mark.parametrize("trailer", [b"10=1", b"10=0163", b"10=", b"10", b"010=16", b"11=163", b"1=00163", b""])
def test_a_trailer_is_seven_bytes_or_the_body_length_is_wrong(parse_fix, fix_message, trailer):
    wrong = fix_message("35=0|")[:-7] + trailer + b"\x01"
    (first, raw), (second, _) = parse_fix(wrong + fix_message("35=1|"))
    assert (raw, first["flags"], first["kind"]) == (wrong, Flag.LENGTH | ABSENT, Kind.MALFORMED)
    assert (second["kind"], second["flags"]) == (Kind.SESSION, ABSENT)


@pytest.mark.parametrize(
    ("broken", "flags"),
    [
        (b"8=FIX.4.4\x019=4\x0135=0\x01", Flag.LENGTH),
        (b"8=FIX.4.4\x019=20\x0135=0\x0110=000\x01", Flag.LENGTH),
        (b"8=FIX.4.4\x019=5\x0135=0\x0134=1\x0110=000\x01", Flag.LENGTH),
        (b"8=FIX.4.4\x019=\x01", Flag.LENGTH),
        (b"8=FIX.4.4\x019=1a\x01", Flag.LENGTH),
        (b"8=FIX.4.4\x019=0000000005\x01", Flag.LENGTH),
        (b"8=FIX.4.4\x0135=0\x01", Flag.LENGTH),
        (b"8=FIX.4.4\x019=4073\x01", Flag.TOO_LONG),
        (b"8=FIX.4.4\x019=999999999\x01", Flag.TOO_LONG),
        (b"junk\x01", Flag.GARBAGE),
        (b"junk", Flag.GARBAGE),
        (b"\x01", Flag.GARBAGE),
        (b"8=FIX8=FIX", None),
    ],
)
def test_a_broken_message_is_reported_when_the_next_begins(parse_fix, fix_message, broken, flags):
    good = fix_message("35=1|")
    *before, (frame, raw) = parse_fix(broken + good)
    assert (frame["kind"], frame["flags"]) == (Kind.SESSION, ABSENT)
    if flags is not None:
        ((bad, bytes_of_it),) = before
        assert (bad["kind"], bad["flags"] & MALFORMED_FLAGS, bytes_of_it) == (Kind.MALFORMED, flags, broken)
        assert raw == good


def test_what_was_taken_stays_in_a_malformed_frame(parse_fix, fix_message):
    broken = fix_message(ORDER, length=len(ORDER) + 10)
    (frame, raw), _ = parse_fix(broken + fix_message("35=1|"))
    assert raw == broken
    assert (frame["kind"], frame["flags"], frame["price"]) == (Kind.MALFORMED, Flag.LENGTH, 4_000_250_000_000)
    assert (frame["message_type"], frame["sequence"]) == (ord("D"), 7)


def test_garbage_is_cut_after_the_field_that_makes_it_2048_bytes_or_more(parse_fix):
    field = b"x" * 99 + b"\x01"
    ((frame, raw),) = parse_fix(field * 21 + b"y" * 50)
    assert (len(raw), frame["flags"], frame["kind"]) == (2100, Flag.GARBAGE | ABSENT, Kind.MALFORMED)
    ((_, raw),) = parse_fix(b"z" * 2049)
    assert len(raw) == 2048


def test_a_field_without_soh_is_cut_after_2048_bytes(parse_fix, fix_message):
    longest = b"35=D\x0158=" + b"t" * 2044 + b"\x01"
    ((frame, _),) = parse_fix(fix_message(longest))
    assert frame["flags"] == ABSENT
    head = b"8=FIX.4.4\x019=3000\x0135=D\x01"
    (frame, raw), *_ = parse_fix(head + b"58=" + b"t" * 2045 + b"rest\x01" + fix_message("35=1|"))
    assert (frame["kind"], frame["flags"]) == (Kind.MALFORMED, Flag.TOO_LONG | ABSENT)
    assert frame["message_type"] == ord("D")
    assert raw == head + b"58=" + b"t" * 2045


@pytest.mark.parametrize(
    ("before", "flags"),
    [
        (b"", Flag.TOO_LONG),
        (b"junk\x01", Flag.TOO_LONG | Flag.GARBAGE),
        (b"8=FIX.4.4\x01", Flag.TOO_LONG),
        (b"8=FIX.4.4\x019=3000\x0158=1\x01", Flag.TOO_LONG | Flag.STRUCTURE),
        (b"8=FIX.4.4\x019=5\x0135=0\x01", Flag.TOO_LONG),
        (b"8=FIX.4.4\x019=3000\x0135=0\x0195=2040\x01", Flag.TOO_LONG),
        (b"8=FIX.4.4\x019=3000\x0135=0\x0195=2100\x0196=a\x01", Flag.TOO_LONG),
    ],
)
def test_an_overrun_is_cut_in_every_phase_whatever_it_holds(parse_fix, fix_message, before, flags):
    overrun = b"96=" + b"x" * 1000 + b"8=FIX.4.4" + b"y" * 1036
    good = fix_message("35=1|")
    (frame, raw), (after, raw_after) = parse_fix(before + overrun + good)
    assert (raw, frame["kind"], frame["flags"] & MALFORMED_FLAGS) == (before + overrun, Kind.MALFORMED, flags)
    assert (raw_after, after["kind"]) == (good, Kind.SESSION)


def test_a_message_that_fails_is_not_cut_before_the_field_behind_it_ends(parse_fix, fix_message):
    head = b"8=FIX.4.4\x019=3000\x0135=D\x0158=" + b"a" * 2000 + b"\x01"
    failing = b"58=" + b"b" * 1500 + b"\x01"
    assert parse_fix(head + failing) == []
    good = fix_message("35=1|")
    (frame, raw), _ = parse_fix(head + failing + good)
    assert (raw, frame["flags"] & MALFORMED_FLAGS) == (head + failing, Flag.LENGTH)
    ((frame, raw),) = parse_fix(head + failing + b"x\x01" + b"y\x01")
    assert (raw, frame["flags"] & MALFORMED_FLAGS) == (head + failing + b"x\x01", Flag.LENGTH)


def test_the_longest_message_is_well_formed(parse_fix, fix_message):
    body = b"35=D|" + b"58=" + b"x" * 2040 + b"|" + b"59=0|"
    message = fix_message(body + b"96=" + b"y" * (4096 - 28 - len(body)) + b"|")
    assert len(message) == 4096
    ((frame, raw),) = parse_fix(message)
    assert (frame["kind"], raw) == (Kind.NEW_ORDER, message)


def test_a_frame_carries_the_time_of_the_packet_in_which_its_message_began(parse_fix, fix_message):
    message = fix_message(ORDER)
    frames = parse_fix(message[:3], message[3:] + message[:1], message[1:] + message, message)
    assert [int(frame["timestamp"]) for frame, _ in frames] == [0, 1, 2, 3]


def test_flows_do_not_mix(parse_packets, fix_message):
    ends = [Endpoint.parse(f"10.0.0.1:{5000 + number}") for number in range(16)]
    flows = [Flow(Protocol.TCP, end, Parser.FIX) for end in ends]
    streams = [fix_message(f"35=D|34={number}|") for number in range(16)]
    packets = [
        tcp_packet(streams[number][at : at + 1], Endpoint.parse("10.0.0.2:1"), ends[number], sequence=0)
        for at in range(max(map(len, streams)))
        for number in range(16)
    ]
    parsed = parse_packets(Packets.of(packets), flows=flows)
    assert sorted((int(frame["flow"]), int(frame["sequence"])) for frame, _ in parsed) == [(n, n) for n in range(16)]
    assert all(frame["kind"] == Kind.NEW_ORDER for frame, _ in parsed)


def mixed_stream(fix_message, seed: int) -> bytes:
    """Good messages, damaged ones and junk."""
    choice = random.Random(seed)
    parts = []
    for number in range(12):
        message = bytearray(fix_message(ORDER.replace("34=7", f"34={number}")))
        match choice.randrange(5):
            case 0:
                message[choice.randrange(len(message))] = choice.randrange(256)
            case 1:
                del message[choice.randrange(len(message)) :]
            case 2:
                parts.append(choice.randbytes(choice.randrange(400)))
            case 3:
                parts.append(b"\x018=FIX" * choice.randrange(3) + b"q" * choice.randrange(3000))
        parts.append(bytes(message))
    return b"".join(parts)


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_cut_at_every_byte_gives_the_same_frames(parse_fix, fix_message, without_time_and_place, seed):
    stream = mixed_stream(fix_message, seed)
    whole = without_time_and_place(parse_fix(*(stream[at : at + 9000] for at in range(0, len(stream), 9000))))
    assert without_time_and_place(parse_fix(*(stream[at : at + 1] for at in range(len(stream))))) == whole
    for cut in range(0, min(len(stream), 9000), 53):
        pieces = (stream[:cut], stream[cut : cut + 9000], stream[cut + 9000 :])
        assert without_time_and_place(parse_fix(*pieces)) == whole


@pytest.mark.parametrize("seed", range(8))
def test_a_tiny_ring_changes_no_frame(parse_fix, fix_message, seed):
    stream = mixed_stream(fix_message, seed) + b"\x01" * 5000 + b"8=FIX" * 300
    pieces = [stream[at : at + 1400] for at in range(0, len(stream), 1400)]
    plenty = parse_fix(*pieces, frame_slots=1 << 14, payload_bytes=1 << 22)
    tiny = parse_fix(*pieces, frame_slots=2, payload_bytes=1 << 15)
    ignored = ("payload_offset", "generation")
    names = [name for name in plenty[0][0].dtype.names if name not in ignored]
    for (one, one_raw), (other, other_raw) in zip(plenty, tiny, strict=True):
        assert one_raw == other_raw
        assert [one[name] for name in names] == [other[name] for name in names]


PIECES = st.sampled_from(
    [
        b"8=FIX.4.4\x01",
        b"8=FIX",
        b"9=5\x01",
        b"35=D\x01",
        b"10=000\x01",
        b"44=1.5\x01",
        b"\x01",
        b"=",
        b"x" * 700,
        b"9=0\x01",
    ]
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(PIECES, st.binary(max_size=40)), max_size=30), st.lists(st.integers(1, 3000), max_size=4))
def test_any_bytes_belong_to_one_message_each_whatever_the_packets(parse_fix, without_time_and_place, parts, cuts):
    stream = b"".join(parts)[:9000]
    whole = parse_fix(stream)
    joined = b"".join(raw for _, raw in whole)
    assert stream.startswith(joined)
    assert all(0 < len(raw) <= 8192 for _, raw in whole)
    edges = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    pieces = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert without_time_and_place(parse_fix(*pieces)) == without_time_and_place(whole)


def fields_of(message: bytes) -> dict[int, bytes]:
    """The first value of each tag, as simplefix reads it."""
    parser = simplefix.FixParser()
    parser.append_buffer(message)
    parsed = parser.get_message()
    return {int(tag): value for tag, value in reversed(parsed.pairs)}


def agree_with_simplefix(parsed) -> int:
    """Compare every well-formed frame with simplefix's reading of its bytes; returns how many."""
    compared = 0
    for frame, raw in parsed:
        if frame["kind"] == Kind.MALFORMED:
            continue
        compared += 1
        fields = fields_of(raw)
        assert int(frame["message_type"]).to_bytes(2, "little").rstrip(b"\0") == fields[35]
        for tag, name in ((11, "client_order_id"), (41, "original_order_id"), (55, "symbol"), (1, "account")):
            offset = int(frame[name])
            assert (raw[offset : raw.index(b"\x01", offset)] if offset else None) == fields.get(tag), (tag, raw)
        for tag, name, unit in ((44, "price", 10**9), (38, "quantity", 10**8), (34, "sequence", 1)):
            assert frame[name] == Decimal(fields.get(tag, b"0").decode()) * unit, (tag, raw)
        for tag, name in ((54, "side"), (40, "order_type"), (59, "time_in_force")):
            assert bytes([frame[name]]).rstrip(b"\0") == fields.get(tag, b"")
    return compared


@pytest.mark.parametrize("name", ["fix.4.1.set.1", "fix.5.0.set.2"])
def test_real_streams_agree_with_simplefix(parse_fix, shared_data, name):
    stream = Path(shared_data, "fix_streams", name).read_bytes()
    assert agree_with_simplefix(parse_fix(*(stream[at : at + 1400] for at in range(0, len(stream), 1400))))


@pytest.mark.parametrize(("name", "messages"), [("trace-fix4.2.pcap", 4), ("trace-fix4.4.pcap", 5)])
def test_real_captures_agree_with_simplefix(parse_packets, shared_data, name, messages):
    packets = read_packets(Path(shared_data, "fix_tcp", name))
    flows = [found.flow for found in find_flows(packets, sbe=False).flows]
    assert agree_with_simplefix(parse_packets(packets, flows=flows)) == messages
