"""Frames of the serial link: the only definition of what host and board send each other (docs/serial.md).

The gateware (serial_link.py) and the host (host/card/serial_link.py) read these tables. All numbers are little endian. The encoding
in plain Python stands here too, beside its gateware in cobs.py.
"""

import enum
import zlib

from hdl.ring_layout import LINE_BYTES

LINK_VERSION = 1

DEFAULT_BAUD = 1_000_000
"""What USB bridges of dev boards can all do."""

LINE_WINDOW = 32
"""Lines that the board keeps until they are acknowledged: at 3 Mbaud as long as a USB bridge takes to answer, 8 ms."""

FRAME_WINDOW = 32
"""Numbered frames that the host sends before one is acknowledged."""

PACKET_BUFFER_BYTES = 4096
"""Bytes of packets that the board keeps until the card takes them."""

CHUNK_BYTES = 128
"""Most bytes of packets in a frame: the frame around them is a tenth, and a lost one costs little."""

CRC_BYTES = 4
"""CRC-32 of ISO 3309 (Ethernet's), over header and body."""

PACKET_CREDIT = PACKET_BUFFER_BYTES - CRC_BYTES
"""Most bytes of packets that may be on their way or in the buffer. The board writes a body there as it comes, and its CRC behind it,
before it knows which is which."""

DELIMITER = 0

LONGEST_BLOCK = 254
"""Bytes other than 0 behind one code byte of COBS."""

DOWN_HEADER = {"kind": 8, "sequence": 8, "acknowledged": 8, "session": 32}
"""Fields and their bits. ``acknowledged``: the line that is expected next."""

REGISTER_BODY = {"address": 16, "value": 64}
"""Of WRITE and READ (whose value does not matter)."""

UP_HEADER = {"kind": 8, "sequence": 8, "acknowledged": 8, "taken": 16, "session": 32}
"""``acknowledged``: the numbered frame that is expected next. ``taken``: bytes of packets that have left the buffer."""

STATUS_BODY = {"finished": 32, "stalled": 8, "dropped": 8, "reads": 8, "value": 64}

LINE_BODY = {"line": 32, "data": 8 * LINE_BYTES}
"""A line of the ring's file: its offset divided by LINE_BYTES, and its bytes."""

PACKET_HEADER = {"length": 32, "timestamp": 64}
"""In front of a packet's bytes in the stream that PACKETS frames carry."""

SEGMENT_HEADER = {"length": 16, "flags": 8, "missing": 32, "timestamp": 64}
"""In front of a segment's bytes, of which there is one at least, in the stream that PACKETS frames carry to a board that reads FIX.
``flags`` is a Segment; ``missing``: bytes that were lost before a GAP, modulo 2^32."""


class Segment(enum.IntFlag):
    """What is to be said of a segment."""

    GAP = 1
    FRAGMENT = 2


ENTRIES = 1
"""In a record's ``generation``: the message's entries are still to be read (``Message.entries``)."""


def encode(content: bytes) -> bytes:
    """``content`` with its CRC, by COBS, with the delimiter behind it."""
    content += zlib.crc32(content).to_bytes(CRC_BYTES, "little")
    encoded = bytearray()
    for run in content.split(b"\0"):
        at = 0
        while len(run) - at >= LONGEST_BLOCK:
            encoded += b"\xff" + run[at : at + LONGEST_BLOCK]
            at += LONGEST_BLOCK
        encoded.append(len(run) - at + 1)
        encoded += run[at:]
    encoded.append(DELIMITER)
    return bytes(encoded)


def decode(encoded: bytes) -> bytes | None:
    """What :func:`encode` was given, from the bytes before a delimiter; None where these are damaged."""
    content = bytearray()
    at = 0
    while at < len(encoded):
        code = encoded[at]
        content += encoded[at + 1 : at + code]
        at += code
        if code <= LONGEST_BLOCK and at < len(encoded):
            content.append(0)
    body = bytes(content[:-CRC_BYTES])
    whole = at == len(encoded) and len(content) > CRC_BYTES
    return body if whole and zlib.crc32(body).to_bytes(CRC_BYTES, "little") == content[-CRC_BYTES:] else None
