"""Captures larger than the address space that the process may have are read in it."""

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from hdl.flow import Endpoint
from host.capture.write import udp_packet

ROOT = Path(__file__).resolve().parents[3]
SPACE = 1 << 30

READ = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({SPACE}, {SPACE}))
from host.capture.flows import Survey
from host.capture.reader import open_captures
captures, survey, count = open_captures(sys.argv[1:]), Survey(), 0
for packets in captures.batches():
    survey.add(packets)
    count += len(packets)
print(count, captures.warnings, survey.found(True).describe())
"""

HEADER = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28) + struct.pack("<IIHHII", 1, 20, 1, 0, 0, 20)
PACKET = udp_packet(b"x" * 8000, Endpoint.parse("10.0.0.1:4"), Endpoint.parse("239.1.2.3:5"))


def block(packet: bytes, size: int, time: int) -> bytes:
    """An enhanced packet block but for what is behind the ``packet``'s first bytes: zeros, and the block's length."""
    return struct.pack("<7I", 6, 32 + size, 0, 0, time, size, size) + packet


def read(path: Path, **more) -> str:
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_file_of_four_times_the_address_space(tmp_path):
    """Packets of 256 KiB, whose bytes are holes in the file: little is on the disk."""
    path, size, packets = tmp_path / "large.pcapng", 1 << 18, 4 * SPACE >> 18
    with path.open("wb") as file:
        file.write(HEADER)
        for number in range(packets):
            begin = len(HEADER) + number * (size + 32)
            file.seek(begin)
            file.write(block(PACKET, size, number))
            file.seek(begin + 28 + size)
            file.write(struct.pack("<I", size + 32))
    assert path.stat().st_size > 4 * SPACE
    assert read(path) == f"{packets} [] UDP to 239.1.2.3:5 ({packets} packets)"


@pytest.mark.parametrize("piped", [False, True], ids=["file", "standard input"])
def test_compressed_data_of_twice_the_address_space(tmp_path, piped):
    """A gzip file of one member after another, each of 64 MiB of packets."""
    one = block(PACKET, len(PACKET) + -len(PACKET) % 4, 1).ljust(28 + len(PACKET) + -len(PACKET) % 4, b"\0")
    one += struct.pack("<I", len(one) + 4)
    a_member = (64 << 20) // len(one)
    member, members = gzip.compress(one * a_member, 1), 2 * SPACE // (64 << 20)
    path = tmp_path / "large.gz"
    with path.open("wb") as file:
        file.write(gzip.compress(HEADER))
        for _ in range(members):
            file.write(member)
    expected = f"{members * a_member} [] UDP to 239.1.2.3:5 ({members * a_member} packets)"
    if piped:
        with path.open("rb") as file:
            assert read(Path("-"), stdin=file) == expected
    else:
        assert read(path) == expected
