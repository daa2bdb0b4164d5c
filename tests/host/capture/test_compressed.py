"""Compressed captures, pipes and standard input give the packets that the plain file gives."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from host.capture.reader import CaptureError, open_capture, open_captures, read_packets
from tests.host.capture.capture_files import (
    COMPRESSIONS,
    PACKETS,
    all_of,
    contents,
    enhanced,
    interface,
    pcap_file,
    section,
)

ROOT = Path(__file__).resolve().parents[3]
MANY = PACKETS * 40
PLAIN = pcap_file(packets=MANY)
EACH = pytest.mark.parametrize("name", COMPRESSIONS)


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "a.pcap"
    path.write_bytes(data)
    return path


@EACH
def test_compressed_captures_are_told_by_their_content(tmp_path, name):
    pcapng = section("<") + interface("<") + b"".join(enhanced("<", packet, 1) for packet in MANY)
    for data in (PLAIN, pcapng):
        path = write(tmp_path, COMPRESSIONS[name](data))
        capture = open_capture(path)
        assert contents(capture.packets) == MANY
        assert capture.warning is None
        assert capture.done_bytes == capture.total_bytes == path.stat().st_size


@EACH
def test_members_one_behind_the_other_are_one_capture(tmp_path, name):
    compress = COMPRESSIONS[name]
    path = write(tmp_path, compress(PLAIN[:1000]) + compress(b"") + compress(PLAIN[1000:]) + bytes(8))
    assert contents(read_packets(path)) == MANY


def test_frames_that_zstd_skips_may_stand_anywhere(tmp_path):
    skipped = b"\x5d\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    compress = COMPRESSIONS["zstd"]
    path = write(tmp_path, skipped + compress(PLAIN[:1000]) + skipped + compress(PLAIN[1000:]) + skipped)
    assert contents(read_packets(path)) == MANY


@EACH
def test_a_compressed_capture_cut_anywhere_is_read_as_far_as_it_goes(tmp_path, name):
    packets = [os.urandom(1000) for _ in range(1500)]
    whole = COMPRESSIONS[name](pcap_file(packets=packets))
    for size in [len(whole) - 1, len(whole) - 5000, *range(40, len(whole), len(whole) // 5)]:
        path = write(tmp_path, whole[:size])
        try:
            capture = open_capture(path)
        except CaptureError as error:
            refused, found = str(error), []
            assert re.match(
                rf"{path}: (the {name} data is cut at byte offset {size}|cut inside its file header)", refused
            )
        else:
            found = contents(capture.packets)
            assert found == packets[: len(found)]
            assert f"read the {len(found)} whole packets before it" in capture.warning
        # What cannot be decompressed is at most a block of bzip2, which is the longest: 900 kB.
        assert 1000 * len(found) > size - 920_000


@EACH
def test_damaged_data_is_refused_in_one_line(tmp_path, name):
    data = bytearray(COMPRESSIONS[name](pcap_file(packets=[os.urandom(1000)] * 2)))
    for place in range(len(data) // 2, len(data) // 2 + 200):
        data[place] ^= 0x5A
    with pytest.raises(CaptureError) as error:
        read_packets(write(tmp_path, bytes(data)))
    assert f"{name} data cannot be decompressed somewhere before byte offset" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_named_pipe_is_read_once_and_its_first_packets_can_be_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("host.capture.source.FIRST_WINDOW_BYTES", 1000)
    monkeypatch.setattr("host.capture.source.WINDOW_BYTES", 1000)
    monkeypatch.setattr("host.capture.reader.PREVIEW_PACKETS", 60)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(PLAIN,))
    writer.start()
    capture = open_capture(path)
    assert capture.total_bytes is None
    seen = [packet for packet, _ in all_of(capture.preview())]
    assert 60 <= len(seen) < len(MANY)
    assert [packet for packet, _ in all_of(capture.preview())] == seen == MANY[: len(seen)]
    assert [packet for packet, _ in all_of(capture.batches())] == MANY
    assert capture.done_bytes == len(PLAIN)
    with pytest.raises(CaptureError, match="can be read only once"):
        list(capture.batches())
    writer.join()


COUNT = """
import sys
from host.capture.reader import CaptureError, open_captures
try:
    captures = open_captures(sys.argv[1:])
    print(sum(len(packets) for packets in captures.batches()), captures.warnings)
except CaptureError as error:
    print(error)
"""


def count(data: bytes, *paths: str) -> str:
    command = [sys.executable, "-c", COUNT, *paths]
    return subprocess.run(command, cwd=ROOT, input=data, capture_output=True, check=True).stdout.decode().strip()


def test_standard_input_is_a_capture_too():
    assert count(COMPRESSIONS["zstd"](PLAIN), "-") == f"{len(MANY)} []"
    assert count(PLAIN[:-1], "-").startswith(f"{len(MANY) - 1} ['-: cut inside a packet")
    assert count(b"", "-") == "-: nothing came"
    assert count(b"", "-", "-") == "-: standard input can be one of the captures only once"


def test_too_many_captures_are_refused():
    with pytest.raises(CaptureError, match="300 captures, at most 256 are merged"):
        open_captures(["x"] * 300)
