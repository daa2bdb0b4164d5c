"""A reader of the journal written from docs/journal.md alone: struct and zlib, none of the project's code."""

import re
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parents[3] / "docs" / "journal.md"

FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Order(NamedTuple):
    """An order as it was read."""

    sequence: int
    frame: bytes
    decision: bytes
    message: bytes


def tables() -> list[dict[str, tuple[int, int]]]:
    """The tables of the page: offset and bytes of each field."""
    found = []
    for block in re.findall(r"\| byte \| field \| bytes \|\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE.read_text()):
        rows = re.findall(r"\| (\d+) \| `(\w+)` \| (\d+) \|", block)
        found.append({name: (int(offset), int(size)) for offset, name, size in rows})
    return found


SEGMENT, BATCH, DECISION = tables()[:3]


def number(data: bytes, at: int, layout: dict[str, tuple[int, int]], field: str) -> int:
    offset, size = layout[field]
    return int(struct.unpack_from("<" + FORMATS[size], data, at + offset)[0])


def read(directory: Path) -> tuple[list[Order], list[bytes]]:
    """All orders of the whole batches, and the control records, up to the first place that holds no whole batch."""
    orders: list[Order] = []
    controls: list[bytes] = []
    expected = chain = 0
    for path in sorted(directory.glob("*.journal")):
        data = path.read_bytes()
        if not any(data[:64]):
            break
        assert data[:8] == b"TICKJRNL"
        assert zlib.crc32(data[:60]) == number(data, 0, SEGMENT, "crc")
        assert number(data, 0, SEGMENT, "version") == 2
        assert number(data, 0, SEGMENT, "bytes") == len(data)
        assert number(data, 0, SEGMENT, "first_batch") == expected
        assert number(data, 0, SEGMENT, "chain") == chain
        place = 64
        while place < len(data):
            if not any(data[place : place + 64]):
                place = -(-place // 4096) * 4096
            header = data[place : place + 64]
            if len(header) < 64 or header[:4] != b"TKBT" or zlib.crc32(header[:60]) != number(header, 0, BATCH, "crc"):
                break
            end = place + number(header, 0, BATCH, "total_bytes")
            body = data[place + 64 : end]
            if zlib.crc32(body) != number(header, 0, BATCH, "body_crc"):
                break
            assert body[-1] == 0xE5
            assert number(header, 0, BATCH, "batch") == expected
            assert number(header, 0, BATCH, "chain") == chain
            expected, chain = expected + 1, number(header, 0, BATCH, "crc")
            count, payload_bytes = number(header, 0, BATCH, "count"), number(header, 0, BATCH, "payload_bytes")
            payload = body[count * 80 :][:payload_bytes]
            if number(header, 0, BATCH, "kind") == 1:
                controls.append(payload)
            sequence = number(header, 0, BATCH, "first_sequence")
            for index in range(count):
                frame = body[index * 64 :][:64]
                decision = body[count * 64 + index * 16 :][:16]
                offset, length = struct.unpack_from("<I", frame, OFFSET)[0], struct.unpack_from("<H", frame, LENGTH)[0]
                orders.append(Order(sequence + index, frame, decision, payload[offset : offset + length]))
            place = end
    return orders, controls


def _frame_field(name: str) -> int:
    """Where a field of a frame lies, as docs/frame.md says."""
    text = (PAGE.parent / "frame.md").read_text()
    found = re.search(rf"\| (\d+) \| \d+ \| `{name}` \|", text)
    assert found
    return int(found[1])


OFFSET, LENGTH = _frame_field("payload_offset"), _frame_field("payload_length")
