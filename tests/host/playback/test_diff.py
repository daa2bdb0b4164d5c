"""Two playbacks compared, packets paced and sent again."""

import socket
from pathlib import Path

import numpy as np
import pytest

from hdl.sbe_venue import load_venue
from host.capture.packets import Packets
from host.capture.reader import read_packets
from host.capture.write import write_pcap
from host.generate import SCHEMA, generate
from host.playback.commands import Comparing, PacketSender
from host.playback.diff import describe
from host.playback.pace import paced, parse_speed
from host.playback.selection import EVERYTHING, Selection, SelectionError, parse_time
from sim.veth import NoVeth, VethPair


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("made") / "made.pcap"
    generate(300, malformed=0.02).write(path)
    return path


def compare(first: Path, second: Path, *ignored: str, cards: tuple[str, str] = ("soft:", "soft:")):
    comparing = Comparing([first], [second], load_venue(SCHEMA), cards, EVERYTHING, ignored)
    return comparing, comparing.run()


def changed(capture: Path, path: Path, change) -> Path:
    packets = read_packets(capture)
    write_pcap(path, change(packets))
    return path


def market_data(packets: Packets) -> list[int]:
    """Indices of the packets of the feed, which are tagged."""
    return [index for index in range(len(packets)) if packets.packet(index)[12:14] == b"\x81\x00"]


def test_a_capture_is_equal_to_itself(capture):
    _, found = compare(capture, capture)
    assert found.complete
    assert found.differences == []
    assert found.equal > 500


@pytest.mark.slow
def test_both_cards_give_the_same_frames(capture):
    _, found = compare(capture, capture, cards=("soft:", "rtl:"))
    assert found.complete
    assert found.differences == []


def test_a_changed_byte_is_shown_with_its_raw_bytes(capture, tmp_path):
    def flip(packets: Packets) -> Packets:
        data = packets.data.copy()
        index = market_data(packets)[20]
        # Within the last entry.
        data[int(packets.offset[index]) + int(packets.length[index]) - 30] ^= 1
        return Packets(data, packets.offset, packets.length, packets.timestamp)

    other = changed(capture, tmp_path / "flipped.pcap", flip)
    comparing, found = compare(capture, other)
    assert found.complete
    assert 1 <= len(found.differences) <= 3
    for difference in found.differences:
        assert difference.first.message != difference.second.message
        text = describe(difference, ("A", "B"), comparing.playbacks[0].flows)
        assert difference.first.message.hex(" ") in text
        assert difference.second.message.hex(" ") in text


def test_missing_messages_do_not_make_all_that_follow_differ(capture, tmp_path):
    packets = read_packets(capture)
    index = market_data(packets)[20]
    without = [number for number in range(len(packets)) if number != index]
    other = changed(capture, tmp_path / "without.pcap", lambda packets: packets.take(np.array(without)))
    _, found = compare(capture, other)
    assert found.complete
    assert found.differences
    assert all(each.second is None for each in found.differences)
    _, turned = compare(other, capture)
    assert [each.second.number for each in turned.differences] == [each.first.number for each in found.differences]


def test_ignored_fields_may_differ(capture, tmp_path):
    def later(packets: Packets) -> Packets:
        return Packets(packets.data, packets.offset, packets.length, packets.timestamp + np.uint64(1000))

    other = changed(capture, tmp_path / "later.pcap", later)
    _, found = compare(capture, other)
    assert found.differences[0].fields == ("timestamp",)
    assert not found.complete
    _, found = compare(capture, other, "timestamp")
    assert (found.complete, found.differences) == (True, [])
    with pytest.raises(SelectionError, match="no field time; there are timestamp, price"):
        compare(capture, other, "time")


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_packets_come_when_they_are_due(speed):
    clock = Clock()
    times = [0, 5, 4, 2_000_000_000, 2_000_000_000, 3_500_000_000]
    batches = [Packets.of([b"x"] * 4, times[:4]), Packets.of([b"x"] * 2, times[4:])]
    came = []
    for packets in paced(batches, speed, lambda: clock.now, clock.sleep):
        came += [(time, clock.now - 100.0) for time in packets.timestamp.tolist()]
    assert [time for time, _ in came] == times
    for time, now in came:
        assert now == pytest.approx(time / 1e9 / speed, abs=1e-6)


def test_speeds_and_times_that_are_none_say_what_is():
    assert (parse_speed("max"), parse_speed("0.5x")) == (None, 0.5)
    for text in ("fast", "0x", "10"):
        with pytest.raises(SelectionError, match="give 1x"):
            parse_speed(text)
    assert parse_time("1970-01-01T00:00:01.000000005") == 1_000_000_005
    assert parse_time("1970-01-01T01:00:01+01:00") == 1_000_000_000
    assert parse_time("1970-01-02") == 86_400_000_000_000
    for text in ("noon", "2026-13-01", "2026-01-01T00:00:00."):
        with pytest.raises(SelectionError, match="is no time"):
            parse_time(text)


def test_packets_go_out_on_an_interface_as_they_were_captured(capture, tmp_path):
    try:
        pair = VethPair()
    except NoVeth as reason:
        pytest.skip(str(reason))
    with pair, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        receiver.bind((pair.board, 3))
        receiver.settimeout(5)
        sender = PacketSender([capture], f"eth:{pair.host}", Selection(), None)
        packets = read_packets(capture)
        sent = sender.run(lambda progress: None)
        assert (sent.packets, sent.bytes) == (len(packets), int(packets.length.sum()))
        untagged = [index for index in range(len(packets)) if packets.packet(index)[12:14] != b"\x81\x00"]
        received = [receiver.recv(2048) for _ in range(len(packets))]
        # A socket is handed the VLAN tag beside the packet.
        assert [each for each in received if each in {packets.packet(index) for index in untagged}] == [
            packets.packet(index) for index in untagged
        ]


@pytest.mark.parametrize(
    ("to", "reason"), [("soft:", "play into a card with --card soft:"), ("eth:none0", "there is no interface none0")]
)
def test_nothing_to_send_to(capture, to, reason):
    with pytest.raises(SelectionError, match=reason):
        PacketSender([capture], to, Selection(), None)


def test_what_is_sent_is_chosen_by_time_alone(capture):
    with pytest.raises(SelectionError, match="only --start and --end choose"):
        PacketSender([capture], "eth:lo", Selection(templates=("BookRefresh",)), None)
