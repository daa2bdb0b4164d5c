"""FIX in logs and byte streams becomes packets: the messages as they were on the wire, and a count of what was not used."""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import simplefix
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hdl.frame import Kind
from host.capture import fix_log
from host.capture.flows import find_flows
from host.capture.reader import Capture, CaptureError, open_capture
from host.card import open_card

TICKGATE = Path(sys.executable).with_name("tickgate")

KINDS = {b"D": Kind.NEW_ORDER, b"F": Kind.CANCEL, b"G": Kind.REPLACE, b"8": Kind.EXECUTION, b"9": Kind.CANCEL_REJECT}
"""docs/fix.md, "The frame"."""


def message(body: str, begin: str = "FIX.4.4") -> bytes:
    head = f"8={begin}\x019={len(body)}\x01{body}"
    return f"{head}10={sum(head.encode('latin-1')) % 256:03}\x01".encode("latin-1")


ORDER = message("35=D\x0134=2\x0149=BUY\x0156=SELL\x0152=20240102-03:04:05.678\x0111=a b\x0138=5\x0154=1\x0155=ELM\x01")
REPORT = message("35=8\x0134=7\x0149=SELL\x0156=BUY\x0152=20240102-03:04:05.679\x0137=1\x0155=ELM\x01")
BEAT = message("35=0\x0134=3\x0149=BUY\x0156=SELL\x01")


def opened(tmp_path: Path, data: bytes) -> Capture:
    path = tmp_path / "a.log"
    path.write_bytes(data)
    return open_capture(path)


def segments(capture: Capture) -> list[bytes]:
    """The packets' payloads: headers take 14, 20 and 20 bytes."""
    return [capture.packets.packet(index)[54:] for index in range(len(capture.packets))]


def frames_of(capture: Capture) -> list[tuple[np.void, bytes]]:
    found = []
    with open_card("soft:", find_flows(capture.packets, False).table()) as card:
        assert card.feed(capture.packets) == len(capture.packets)
        for frame in card.ring.read():
            found.append((frame.copy(), bytes(card.ring.message(frame))))
    return found


def kind_of(raw: bytes) -> Kind:
    parser = simplefix.FixParser()
    parser.append_buffer(raw)
    parsed = parser.get_message()
    assert parsed is not None
    kind = parsed.get(35)
    if kind in KINDS:
        return KINDS[kind]
    return Kind.SESSION if kind in (b"0", b"1", b"2", b"3", b"4", b"5", b"A") else Kind.OTHER


def shown(separator: str, raw: bytes = ORDER) -> bytes:
    return raw.replace(b"\x01", separator.encode())


LAYOUTS = {
    "a message a line": (ORDER + b"\n" + REPORT + b"\n", [ORDER, REPORT]),
    "lines that end as in Windows": (ORDER + b"\r\n" + REPORT + b"\r\n", [ORDER, REPORT]),
    "timestamps, levels and arrows": (
        b"2024-01-02 03:04:05,678 INFO [io-1] -> " + ORDER + b"\n04/10/2006  15:20:27:   <== " + REPORT,
        [ORDER, REPORT],
    ),
    "zero bytes in front": (b"20240102-03:04:05 ->\0 \0" + ORDER + b"\n", [ORDER]),
    "junk behind": (shown("|") + b"   JUNK\n" + ORDER + b"JUNK\n", [ORDER, ORDER]),
    "junk right behind tag 10": (shown("|")[:-1] + b'"}\n' + shown("|")[:-1] + b"JUNK\n", [ORDER, ORDER]),
    "no separator at the end": (shown("|")[:-1] + b"\n" + shown("^A", REPORT)[:-2], [ORDER, REPORT]),
    "pipes in the prefix": (b"10:00|INFO|" + shown("^A") + b"|ok\n", [ORDER]),
    "several messages on a line": (b"got " + shown("|") + b" and " + shown("|", REPORT) + b"\n", [ORDER, REPORT]),
    "several behind a separator that ends with a digit": (b"> " + shown("\\001") + shown("\\001", BEAT), [ORDER, BEAT]),
    "broken anywhere": (
        shown("|").replace(b"FIX.", b"FIX.\n").replace(b"|10=", b"|1\r\n0=").replace(b"35=D", b"35=\nD") + b"\n\nend",
        [ORDER],
    ),
    "broken within 8=FIX": (b"x\n" + shown("^A").replace(b"8=FIX", b"8=F\nIX"), [ORDER]),
    "broken in a separator": (b"x\n" + shown("^A").replace(b"^A34", b"^\nA34") + b"\n", [ORDER]),
    "broken in the first separator": (b"x\n" + shown("^A").replace(b"^A", b"^\nA", 1) + b"\n", [ORDER]),
    "broken within the checksum": (b"x\n" + shown("|")[:-2] + b"\n" + shown("|")[-2:] + b"\n", [ORDER]),
    "broken and indented": (b"x\n" + shown("|").replace(b"|34", b"\n    |34").replace(b"|55", b"\n\t|55"), [ORDER]),
    "broken where a value has a blank": (b"x\n" + shown("|").replace(b"a b", b"a\n b"), [ORDER]),
    "a line feed in a value": (b"x\n" + message("35=B\x0158=one\ntwo\x01"), [message("35=B\x0158=one\ntwo\x01")]),
    "a separator in a value": (b"x\n" + shown("|").replace(b"a b", b"a|b"), None),
    "a wrong checksum": (b"x " + ORDER[:-4] + b"999\x01\n", [ORDER[:-4] + b"999\x01"]),
    "a checksum of two digits": (shown("|")[:-5] + b"=12\n2024 next line\n", [ORDER[:-5] + b"=12\x01"]),
    "a checksum of four digits": (b"x " + ORDER[:-1] + b"4\x01\n", [ORDER[:-1] + b"4\x01"]),
    "a wrong length": (b"> " + ORDER.replace(b"\x019=", b"\x019=1") + b"\n", [ORDER.replace(b"\x019=", b"\x019=1")]),
    "fields without a tag": (
        b"> " + ORDER.replace(b"11=a b", b"\x01ab") + b"\n",
        [ORDER.replace(b"11=a b", b"\x01ab")],
    ),
    "108=FIX within": (b"> " + message("35=A\x01108=FIX|4\x01") + b"\n", [message("35=A\x01108=FIX|4\x01")]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_gives_the_bytes_of_the_wire(tmp_path, name):
    data, expected = LAYOUTS[name]
    if expected is None:
        body = ORDER[ORDER.index(b"35=") : -7].decode().replace("a b", "a|b")
        expected = [message(body)]
        data = b"x\n" + expected[0].replace(b"\x01", b"|")
    assert segments(opened(tmp_path, data)) == expected


@pytest.mark.parametrize("separator", [each.decode() for each in fix_log.SEPARATORS])
def test_every_separator_is_found_by_the_begin_of_the_message(tmp_path, separator):
    capture = opened(tmp_path, b"sent: " + shown(separator) + b"\nreceived: " + shown(separator, REPORT) + b"\n")
    assert segments(capture) == [ORDER, REPORT]
    assert capture.warning.endswith("FIX log, 2 messages in 2 flows, 0 lines could not be used")


def test_lines_that_were_not_used_are_counted_and_the_first_is_named(tmp_path):
    capture = opened(tmp_path, b"\n# a log\n\n> " + ORDER + b" <\nin\nbetween\n \n" + REPORT + b"\n\nend\n")
    assert segments(capture) == [ORDER, REPORT]
    assert "4 lines could not be used (the first is line 2)" in capture.warning


def test_a_message_without_tag_10_is_counted_and_not_made_up(tmp_path):
    capture = opened(tmp_path, b"start\n> " + shown("|")[:60] + b"\n> " + shown("|") + b"\n> " + shown("|")[:70])
    assert segments(capture) == [ORDER]
    assert "3 lines could not be used (the first is line 1)" in capture.warning
    assert "2 messages have no end (the first begins in line 2)" in capture.warning


def test_a_message_that_ends_within_tag_10_is_counted_and_not_made_up(tmp_path):
    capture = opened(tmp_path, b"> " + shown("|") + b"\n> " + shown("|")[:-4] + b"\n\n")
    assert segments(capture) == [ORDER]
    assert "1 message has no end (the first begins in line 2)" in capture.warning


def test_an_empty_line_ends_a_message(tmp_path):
    capture = opened(tmp_path, b"> " + shown("|")[:60] + b"\n\n|10=123|\n> " + shown("|"))
    assert segments(capture) == [ORDER]


def test_each_direction_of_each_session_is_a_flow_with_running_sequence_numbers(tmp_path):
    other = message("35=0\x0149=THIRD\x0156=SELL\x01")
    capture = opened(tmp_path, b"\n".join([ORDER, REPORT, other, BEAT, ORDER]) + b"\n")
    flows = [found.flow for found in find_flows(capture.packets, False)]
    assert [(str(flow.source), str(flow.destination)) for flow in flows] == [
        ("127.0.0.1:9878", "127.0.0.2:9878"),
        ("127.0.0.2:9878", "127.0.0.1:9878"),
        ("127.0.0.3:9878", "127.0.0.2:9878"),
    ]
    packets = [capture.packets.packet(index) for index in range(5)]
    sequences = [int.from_bytes(packet[38:42], "big") for packet in packets]
    assert sequences == [0, 0, 0, 1 + len(ORDER), 1 + len(ORDER) + len(BEAT)]


def test_a_second_log_between_the_same_ends_is_another_connection(tmp_path):
    packets = opened(tmp_path, b"\n".join([ORDER, BEAT, ORDER]) + b"\n").packets
    flows = find_flows(packets, False).table()
    with open_card("soft:", flows) as card:
        for _ in range(2):
            assert card.feed(packets) == len(packets)
        assert card.ring.poll()["kind"].tolist() == [
            *(Kind.NEW_ORDER, Kind.SESSION, Kind.NEW_ORDER, Kind.GAP),
            *(Kind.NEW_ORDER, Kind.SESSION, Kind.NEW_ORDER),
        ]
        assert (card.counters()["repeated"], card.counters()["gaps"]) == (0, 1)


def test_time_is_the_sending_time_or_a_nanosecond_after_the_message_before(tmp_path):
    times = (
        "20240102-03:04:05",
        "20240102-03:04:05.123456789",
        "20240230-00:00:00",
        "20161231-23:59:60",
        "99991231-00:00:00",
    )
    bodies = ["35=0\x01", *(f"35=0\x0152={when}\x01" for when in times)]
    capture = opened(tmp_path, b"\n".join(map(message, bodies)) + b"\n")
    second = 1704164645 * 10**9
    leap = 1483228800 * 10**9
    assert capture.packets.timestamp.tolist() == [
        0, second, second + 123456789, second + 123456790, leap, leap + 1
    ]  # fmt: skip


def test_a_long_message_is_cut_into_segments(tmp_path):
    long = message("35=B\x01" + "58=" + "x" * 5000 + "\x01")
    capture = opened(tmp_path, b"> " + long + b"\n")
    assert b"".join(segments(capture)) == long
    assert max(map(len, segments(capture))) <= fix_log.SEGMENT_BYTES


@pytest.mark.parametrize(
    "data",
    [ORDER, ORDER + REPORT, b"5=garbage\x01" + ORDER + b"no more" + REPORT, ORDER + REPORT[:40], ORDER * 50],
    ids=["one", "two", "garbage", "cut", "long"],
)
def test_a_byte_stream_is_one_flow_with_its_bytes_unchanged(tmp_path, data):
    capture = opened(tmp_path, data)
    assert b"".join(segments(capture)) == data
    assert len(find_flows(capture.packets, False)) == 1
    assert "byte stream" in capture.warning


@pytest.mark.parametrize("data", [b"nothing here\n", b"8=FIX stands in a text\n", shown("|")[:50], b"108=FIX|10=1|\n"])
def test_a_text_without_a_whole_message_is_refused(tmp_path, data):
    with pytest.raises(CaptureError, match=r"text.* at byte offset 0, not a packet capture"):
        opened(tmp_path, data)


def test_binary_data_with_fix_in_it_is_no_log(tmp_path):
    with pytest.raises(CaptureError, match="neither pcap nor pcapng"):
        opened(tmp_path, b"\x7fELF" + bytes(200) + ORDER + bytes(200))


def test_a_text_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(fix_log, "TEXT_BYTES_MAX", 100)
    with pytest.raises(CaptureError, match="at most 100 are read at once"):
        opened(tmp_path, b"> " + ORDER + REPORT + b"\n")


def test_many_messages_without_an_end_take_no_longer_than_others(tmp_path):
    begin = time.perf_counter()
    for data in (shown("|")[:40] * 20_000, b"8=FIX|\n" * 100_000, b"8=FIX|" + b"\n \t" * 300_000, b"08=FIX|" * 100_000):
        with pytest.raises(CaptureError):
            opened(tmp_path, b"> " + data)
    assert time.perf_counter() - begin < 10


pieces = st.one_of(
    st.sampled_from([b"8=FIX", b"8=FIX.4.4", b"|", b"^A", b"\x01", b"9=5", b"10=", b"10=123", b"\n", b"\r\n", b" ", b"1",
                     b"49=", b"52=20240102-03:04:05", ORDER, shown("|"), shown("\\001")]),
    st.text(max_size=8).map(lambda text: text.encode("utf-8", "replace")),
    st.binary(max_size=8),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(data=st.lists(pieces, max_size=20).map(b"".join))
@example(b"8=FIX|10=")
def test_no_text_raises_anything_but_a_capture_error(tmp_path, data):
    try:
        capture = opened(tmp_path, data)
    except CaptureError:
        return
    assert "\n" not in capture.warning
    for payload in segments(capture):
        assert payload


def is_consistent(raw: bytes) -> bool:
    """Whether BodyLength and CheckSum are those of the message."""
    trailer = raw.rindex(b"10=")
    length = int(re.search(rb"\x019=(\d+)\x01", raw)[1])
    return sum(raw[:trailer]) % 256 == int(raw[trailer + 3 : -1]) and trailer - raw.index(b"35=") == length


INCONSISTENT = {"FIX44-FXSpot-WithSubparties.log": 1}
"""Public logs with messages whose BodyLength or CheckSum is wrong in the log itself, and how many."""


def shared(folder: str, found: str) -> list[str]:
    where = Path(__file__).resolve().parents[4] / "shared" / "data" / folder
    return sorted(path.name for path in where.glob(found)) or ["none"]


@pytest.mark.parametrize("name", shared("fix_logs", "*.log"))
def test_public_logs(shared_data, name):
    path = shared_data / "fix_logs" / name
    expected = int(re.search(rb"ExpectedMessageCount=(\d+)", path.read_bytes())[1])
    if expected == 0:
        with pytest.raises(CaptureError, match="text at byte offset 0, not a packet capture"):
            open_capture(path)
        return
    capture = open_capture(path)
    raws = segments(capture)
    assert len(raws) == expected == path.read_bytes().count(b"8=FIX")
    assert f"{expected} message" in capture.warning
    # A message whose length is wrong is reported when the next one of its flow begins: the last one never is.
    consistent = [raw for raw in raws if is_consistent(raw)]
    assert len(raws) - len(consistent) == INCONSISTENT.get(name, 0)
    frames = frames_of(capture)
    good = [(raw, Kind(frame["kind"])) for frame, raw in frames if frame["kind"] != Kind.MALFORMED]
    assert sorted(good) == sorted((raw, kind_of(raw)) for raw in consistent)
    assert all(raw in raws and raw not in consistent for frame, raw in frames if frame["kind"] == Kind.MALFORMED)


@pytest.mark.parametrize("name", shared("fix_streams", "fix.*"))
def test_public_streams(shared_data, name):
    data = (shared_data / "fix_streams" / name).read_bytes()
    capture = open_capture(shared_data / "fix_streams" / name)
    assert b"".join(segments(capture)) == data
    frames = frames_of(capture)
    expected = [each.group() for each in re.finditer(rb"8=FIX.*?\x0110=\d{3}\x01", data, re.DOTALL)]
    assert [raw for _, raw in frames] == expected
    assert [Kind(frame["kind"]) for frame, _ in frames] == [kind_of(raw) for raw in expected]


def test_the_command_plays_a_log_and_says_how_many_lines_were_not_used(tmp_path):
    (tmp_path / "x.log").write_bytes(b"# a log\n10:00 -> " + shown("|") + b"\n10:01 <- " + shown("^A", REPORT) + b"\n")
    done = subprocess.run(
        [TICKGATE, "replay", "x.log", "--card", "soft:"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 messages in 2 flows, 1 line could not be used (the first is line 1)" in done.stderr
    assert "FIX D NewOrderSingle" in done.stdout
    assert "FIX 8 ExecutionReport" in done.stdout
