"""Market data messages give one frame an entry: docs/fix.md, "Market data"."""

import pytest

from hdl.frame import Flag, Kind, crc64

ABSENT = Flag.PRICE_ABSENT | Flag.QUANTITY_ABSENT
MARKET_DATA = ("entry_type", "update_action", "price_level", "number_of_orders", "instrument_sequence")


def offsets(message: bytes, tag: bytes) -> list[int]:
    """Where fields with a tag begin."""
    found, at = [], -1
    while (at := message.find(b"\x01" + tag + b"=", at + 1)) >= 0:
        found.append(at + 1)
    return found


def test_a_snapshot_gives_a_frame_an_entry(parse_fix, fix_message):
    message = fix_message(
        "35=W|34=9|55=ESZ4|268=3|269=0|270=4000.25|271=12|1023=1|346=4|269=1|270=4000.5|271=7|83=8|269=2|270=-1|271=3|"
    )
    parsed = parse_fix(message)
    assert [raw for _, raw in parsed] == [message] * 3
    frames = [frame for frame, _ in parsed]
    assert [frame["kind"] for frame in frames] == [Kind.BOOK_UPDATE, Kind.BOOK_UPDATE, Kind.TRADE]
    assert [frame["price"] for frame in frames] == [4_000_250_000_000, 4_000_500_000_000, -(10**9)]
    assert [frame["quantity"] for frame in frames] == [12 * 10**8, 7 * 10**8, 3 * 10**8]
    assert [tuple(int(frame[name]) for name in MARKET_DATA) for frame in frames] == [
        (ord("0"), 0, 1, 4, 0),
        (ord("1"), 0, 0, 0, 8),
        (ord("2"), 0, 0, 0, 0),
    ]
    assert [int(frame["entry_offset"]) for frame in frames] == offsets(message, b"269")
    assert len({int(frame["payload_offset"]) for frame in frames}) == 1
    for frame in frames:
        assert (frame["sequence"], frame["message_type"], frame["flags"]) == (9, ord("W"), 0)
        assert (frame["instrument"], frame["payload_length"], frame["spare"]) == (crc64(b"ESZ4"), len(message), 0)


def test_an_update_begins_its_entries_with_the_action(parse_fix, fix_message):
    message = fix_message("35=X|268=3|279=0|269=1|55=AA|270=1|279=2|278=id7|279=1|269=J|55=BB|")
    frames = [frame for frame, _ in parse_fix(message)]
    assert [int(frame["entry_offset"]) for frame in frames] == offsets(message, b"279")
    assert [(frame["kind"], chr(frame["update_action"]), frame["entry_type"]) for frame in frames] == [
        (Kind.BOOK_UPDATE, "0", ord("1")),
        (Kind.BOOK_UPDATE, "2", 0),
        (Kind.BOOK_UPDATE, "1", ord("J")),
    ]
    assert [int(frame["instrument"]) for frame in frames] == [crc64(b"AA"), crc64(b"AA"), crc64(b"BB")]
    assert [int(frame["flags"]) for frame in frames] == [Flag.QUANTITY_ABSENT, ABSENT, ABSENT]


@pytest.mark.parametrize(
    ("entry_type", "kind"),
    [
        *((each, Kind.BOOK_UPDATE) for each in "01EFJ"),
        ("2", Kind.TRADE),
        *((each, Kind.STATISTIC) for each in "3456789ABCDGHIKe\0"),
    ],
)
def test_the_entry_type_gives_the_kind(parse_fix, fix_message, entry_type, kind):
    ((frame, _),) = parse_fix(fix_message(f"35=W|269={entry_type}|"))
    assert (frame["kind"], chr(frame["entry_type"]), frame["flags"]) == (kind, entry_type, ABSENT)


def test_the_message_has_an_instrument_for_entries_without_one(parse_fix, fix_message):
    frames = [frame for frame, _ in parse_fix(fix_message("35=W|55=M|269=0|269=0|55=N|269=0|"))]
    assert [int(frame["instrument"]) for frame in frames] == [ord("M"), ord("N"), ord("N")]
    frames = [frame for frame, _ in parse_fix(fix_message("35=W|269=0|269=0|55=N|"))]
    assert [int(frame["instrument"]) for frame in frames] == [0, ord("N")]


def test_a_tag_that_comes_again_in_an_entry_is_flagged_there(parse_fix, fix_message):
    body = "35=X|279=0|269=0|269=1|270=1|270=x|279=1|269=2|83=1|279=0|55=A|55=B|"
    frames = [frame for frame, _ in parse_fix(fix_message(body))]
    twice = [bool(frame["flags"] & Flag.DUPLICATE_TAG) for frame in frames]
    assert twice == [True, False, True]
    assert (chr(frames[0]["entry_type"]), frames[0]["price"], frames[2]["instrument"]) == ("0", 10**9, ord("A"))
    message = [frame for frame, _ in parse_fix(fix_message("35=W|34=1|34=2|269=0|269=1|"))]
    assert [int(frame["flags"]) for frame in message] == [Flag.DUPLICATE_TAG | ABSENT] * 2


@pytest.mark.parametrize(
    ("field", "cause"),
    [
        ("269=10", Flag.VALUE),
        ("279=10", Flag.VALUE),
        ("270=1x", Flag.VALUE),
        ("270=0.0000000001", Flag.RANGE),
        ("271=-1", Flag.VALUE),
        ("271=100000000000", Flag.RANGE),
        ("1023=256", Flag.RANGE),
        ("1023=x", Flag.VALUE),
        ("346=4294967296", Flag.RANGE),
        ("346=00000000001", Flag.RANGE),
        ("83=-1", Flag.VALUE),
    ],
)
def test_a_bad_entry_makes_the_whole_message_one_malformed_frame(parse_fix, fix_message, field, cause):
    rest = "269=0|" if not field.startswith("269") else ""
    message = fix_message(f"35=W|34=5|11=id|44=3|269=0|270=1|{rest}{field}|269=1|270=1|")
    ((frame, raw),) = parse_fix(message)
    assert (raw, frame["kind"], frame["flags"]) == (message, Kind.MALFORMED, cause | Flag.QUANTITY_ABSENT)
    assert (frame["sequence"], frame["price"], frame["entry_offset"], frame["side"]) == (5, 3 * 10**9, 0, 0)
    assert message[frame["client_order_id"] :].startswith(b"id\x01")


def test_the_causes_of_all_entries_come_together(parse_fix, fix_message):
    ((frame, _),) = parse_fix(fix_message("35=X|279=0|270=x|279=0|1023=256|270=1|270=2|"))
    assert frame["flags"] == Flag.VALUE | Flag.RANGE | ABSENT


def test_limits_of_the_entries_numbers(parse_fix, fix_message):
    ((frame, _),) = parse_fix(fix_message("35=X|279=0|1023=255|346=4294967295|83=0000000001|"))
    assert (frame["price_level"], frame["number_of_orders"], frame["instrument_sequence"]) == (255, 2**32 - 1, 1)


@pytest.mark.parametrize(
    ("body", "flags"),
    [
        ("35=W|269=0|58=|269=1|", Flag.VALUE),
        ("35=W|269=0|0=x|", Flag.TAG),
        ("35=W|269=|269=0|", Flag.VALUE),
        ("35=W|34=x|269=0|", Flag.VALUE),
        ("34=1|35=W|269=0|", Flag.STRUCTURE),
        ("35=W|269=0|95=x|96=a|", Flag.VALUE),
    ],
)
def test_a_malformed_message_has_no_entries(parse_fix, fix_message, body, flags):
    ((frame, _),) = parse_fix(fix_message(body))
    assert (frame["kind"], frame["flags"], frame["entry_offset"]) == (Kind.MALFORMED, flags | ABSENT, 0)
    ((frame, _),) = parse_fix(fix_message("35=W|269=0|269=1|", check=b"000"))
    assert (frame["kind"], frame["flags"]) == (Kind.MALFORMED, Flag.CHECKSUM | ABSENT)


def test_behind_the_first_entry_nothing_is_taken_for_the_message(parse_fix, fix_message):
    ((frame, _),) = parse_fix(fix_message("35=W|269=0|44=x|34=5|34=y|11=a|54=toolong|38=1|"))
    assert (frame["kind"], frame["sequence"], frame["flags"]) == (Kind.BOOK_UPDATE, 0, ABSENT)


@pytest.mark.parametrize(
    "body", ["35=W|55=A|268=0|", "35=X|269=0|270=1|", "35=D|269=0|279=1|", "35=WX|269=0|", "35=V|269=0|"]
)
def test_other_messages_have_no_entries(parse_fix, fix_message, body):
    ((frame, _),) = parse_fix(fix_message(body))
    assert frame["kind"] in (Kind.OTHER, Kind.NEW_ORDER)
    assert (frame["flags"], frame["entry_offset"]) == (ABSENT, 0)


def test_data_within_entries_is_not_read_for_entries(parse_fix, fix_message):
    body = b"35=W\x01269=0\x01354=15\x01355=a\x01269=1\x01270=9\x01b\x01270=5\x01269=2\x01"
    frames = [frame for frame, _ in parse_fix(fix_message(body))]
    assert [(frame["kind"], int(frame["price"])) for frame in frames] == [
        (Kind.BOOK_UPDATE, 5 * 10**9),
        (Kind.TRADE, 0),
    ]


def most_entries(fix_message) -> bytes:
    """The message of the most entries."""
    return fix_message("35=W|" + "269=0|" * 677)


@pytest.mark.parametrize(("frame_slots", "payload_bytes"), [(2, 1 << 15), (4, 1 << 15), (1 << 10, 1 << 15)])
def test_a_message_with_more_entries_than_the_ring_has_slots(parse_fix, fix_message, frame_slots, payload_bytes):
    message = most_entries(fix_message)
    assert 4096 - 6 < len(message) <= 4096
    order = fix_message("35=D|")
    stream = (order + message) * 5 + order
    pieces = [stream[at : at + 1400] for at in range(0, len(stream), 1400)]
    parsed = parse_fix(*pieces, frame_slots=frame_slots, payload_bytes=payload_bytes)
    expected = ([(0, order)] + [(at, message) for at in offsets(message, b"269")]) * 5 + [(0, order)]
    assert [(int(frame["entry_offset"]), raw) for frame, raw in parsed] == expected


def test_every_frame_of_a_message_has_the_time_of_its_first_byte(parse_fix, fix_message):
    message = fix_message("35=W|269=0|269=1|")
    frames = [frame for frame, _ in parse_fix(message, message[:9], message[9:])]
    assert [int(frame["timestamp"]) for frame in frames] == [0, 0, 1, 1]
