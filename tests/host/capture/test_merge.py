"""Captures are merged by time, as sorting all their packets would do it, without holding them all."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from host.capture.merge import merge
from host.capture.packets import Packets
from host.capture.reader import open_captures
from host.capture.write import write_pcap
from tests.host.capture.capture_files import all_of


@dataclass
class Batches:
    """A capture in memory, which says when it is opened."""

    parts: list[list[tuple[bytes, int]]]
    opened: list["Batches"] = field(default_factory=list)

    @property
    def first_time(self):
        return next((time for part in self.parts for _, time in part), None)

    def batches(self):
        self.opened.append(self)
        for part in self.parts:
            yield Packets.of([packet for packet, _ in part], [time for _, time in part])


TIMES = st.lists(st.lists(st.lists(st.integers(0, 30), max_size=5), max_size=4), max_size=4)


@settings(deadline=None)
@given(times=TIMES, in_order=st.booleans())
def test_a_merge_is_a_stable_sort_that_keeps_each_capture_s_own_order(times, in_order):
    captures, keyed = [], []
    for number, parts in enumerate(times):
        latest, made = 0, []
        flat = sorted(time for part in parts for time in part)
        for part in parts:
            made.append([])
            for time in part:
                time = flat.pop(0) if in_order else time
                latest = max(latest, time)
                packet = b"%d %d" % (number, len(keyed))
                made[-1].append((packet, time))
                keyed.append((latest, number, len(keyed), (packet, time)))
        captures.append(Batches(made))
    assert all_of(merge(captures)) == [packet for *_, packet in sorted(keyed)]


def test_parts_of_a_rotated_capture_are_opened_one_after_another():
    opened = []
    parts = [Batches([[(b"a", 10 * n), (b"b", 10 * n + 5)]], opened) for n in range(5)]
    seen = []
    for packets in merge([parts[3], parts[0], parts[4], parts[2], parts[1]]):
        seen += packets.timestamp.tolist()
        assert len(opened) == len(seen) // 2
    assert seen == [time for n in range(5) for time in (10 * n, 10 * n + 5)]


def test_files_are_merged_and_their_bytes_counted(tmp_path):
    write_pcap(tmp_path / "a.pcap", Packets.of([b"one", b"three"], [1, 3]))
    write_pcap(tmp_path / "b.pcap", Packets.of([b"two", b"three too", b"four"], [2, 3, 4]))
    write_pcap(tmp_path / "none.pcap", Packets.of([]))
    captures = open_captures([tmp_path / name for name in ("a.pcap", "none.pcap", "b.pcap")])
    for _ in range(2):
        assert all_of(captures.batches()) == [
            (b"one", 1), (b"two", 2), (b"three", 3), (b"three too", 3), (b"four", 4),
        ]  # fmt: skip
        assert captures.total_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
        assert captures.done_bytes == captures.total_bytes
        assert captures.counts.packets == 5
