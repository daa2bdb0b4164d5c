"""Frames of the Ethernet link: the only definition of what host and board send each other (docs/eth.md).

The gateware (ethernet_link.py) and the host (host/card/eth_link.py) read these tables. All numbers behind the EtherType are little endian.
"""

from collections.abc import Sequence

from hdl.headers import ETHERTYPE_BYTES, ETHERTYPE_OFFSET
from hdl.link_frame import Up, pack, size
from hdl.mac import SHORTEST_PACKET, WORD_BYTES
from hdl.ring_layout import LINE_BYTES

LINK_VERSION = 1

ETHERTYPE = 0x88B5
"""IEEE 802's local experimental EtherType 1."""

MAC_BYTES = 6

BOARD_MAC = int.from_bytes(b"\x02TICK\x01", "big")
"""A board's address unless it is built with another: locally administered, and one of a pair of ports."""

BROADCAST = 2 ** (8 * MAC_BYTES) - 1

ETHERNET_BYTES = ETHERTYPE_OFFSET + ETHERTYPE_BYTES
"""In front of every frame's header: two addresses and the EtherType."""

DOWN_HEADER = {"kind": 8, "sequence": 8, "session": 32}

REGISTER_BODY = {"address": 32, "value": 64}
"""Of every frame. ``address`` and ``value``: of WRITE and READ a register's; of OPEN the number of the payload ring's first line and the time in ns; of MARK
nothing and what ``finished`` is to be (32 bits)."""

UP_HEADER = {
    "kind": 8,
    "count": 8,
    "session": 32,
    "sequence": 32,
    "following": 32,
    "frames": 32,
    "finished": 32,
    "lost": 16,
    "overflow": 16,
    "acknowledged": 8,
    "stalled": 8,
    "dropped": 8,
    "reads": 8,
    "value": 64,
}
"""``count`` lines follow, and ``sequence`` is the number of the first one; ``frames`` of the lines before it were frames. All else is how the
board stood when it began to send. ``following`` is the number behind all lines that the card had written: with these, ``finished`` (that of the
last MARK before which all packets were done) and ``stalled`` hold. ``lost`` packets were damaged or too short or long, ``overflow`` found no room;
``acknowledged`` is the numbered frame that is expected next, ``dropped`` counts those that came too early, ``reads`` READs, and ``value`` is that of the
last one. Counts go round."""

MEANING = {
    "kind": "what the frame is",
    "session": "chosen at random by the host with OPEN; frames of another one are dropped",
    "address": "of WRITE and READ: the register; of OPEN: the number of the payload ring's first line",
    "value": "of WRITE: what is written; of OPEN: the time in ns since 1970; of MARK: what `finished` is to be (32 bits)",
    "count": "lines that follow",
    "sequence": "number of the first line that follows, counted from the session's begin",
    "following": "number behind all lines that the card had written",
    "frames": "frames among the lines before `sequence`",
    "finished": "value of the last MARK before which all packets are done; holds when the lines before `following` are there",
    "lost": "packets that came with a wrong FCS, too short, too long or marked by the PHY, modulo 2^16",
    "overflow": "packets for which there was no room, modulo 2^16",
    "acknowledged": "the numbered frame that is expected next",
    "stalled": "1: the card waits for credit of the rings; holds like `finished`",
    "dropped": "numbered frames that came too early, modulo 256",
    "reads": "READs that were taken, modulo 256",
    "line": "where the line stands in the ring's file, divided by 64",
    "data": "its bytes",
}
"""What the fields of both directions say, for docs/eth_frames.md."""

DIFFERENT_DOWN = {"sequence": "number of a numbered frame (WRITE, READ, START), modulo 256; else 0"}
DIFFERENT_UP = {"value": "what the last READ gave"}
"""Meanings of fields that both directions have, where they are others there."""

LINE_BODY = {"line": 32, "data": 8 * LINE_BYTES}
"""A line of the ring's file: its offset divided by LINE_BYTES, and its bytes."""

MOST_BYTES = 1514
"""Of an Ethernet frame without FCS."""

MOST_LINES = (MOST_BYTES - ETHERNET_BYTES - size(UP_HEADER)) // size(LINE_BODY)
"""Lines that a frame holds."""

HEADER_WORDS = (ETHERNET_BYTES + size(UP_HEADER)) // WORD_BYTES
LINE_WORDS = size(LINE_BODY) // WORD_BYTES
"""The board makes frames of whole words."""

assert ETHERNET_BYTES + size(UP_HEADER) == HEADER_WORDS * WORD_BYTES
assert size(LINE_BODY) == LINE_WORDS * WORD_BYTES

LINE_STORE_WORDS = 1024
"""Words of 4 bytes of lines that the board keeps until they are sent, so 60 lines: while a full frame leaves, another one collects."""

STORE_UNIT = 1024
"""The host is told the size of the board's store of packets in KiB."""

STORE_WORDS = 2048
"""Words of 8 bytes of packets that wait for the card: 16 KiB."""

LINK_WORDS = 64
"""Words of the link's own packets that wait: of the shortest ones a window."""

FRAME_WINDOW = 4
"""Numbered frames that the host sends before one is acknowledged, so that the board has room for them."""

PORT_ROWS = 16
"""READs from ``OUTSIDE`` on give the counters of the port with the traffic, in the order of PORT_COUNTERS; so many further on those of the port
with the link, where that is another."""

SLOWEST_CLOCK = 40_000_000
"""Hz that a board's card needs, so that its words come in time for a gigabit."""

HOLD_NS = 2000
"""How long lines wait for others, so that a message's are in one frame. A full frame leaves at once."""


def lines_frame(
    lines: Sequence[tuple[int, bytes]], destination: int = BROADCAST, source: int = BOARD_MAC, **header: int
) -> bytes:
    """A frame from the board in plain Python: lines by number and bytes, and the header's other fields."""
    addresses = destination.to_bytes(MAC_BYTES, "big") + source.to_bytes(MAC_BYTES, "big")
    fields = pack(UP_HEADER, kind=Up.LINES, count=len(lines), **header)
    bodies = (number.to_bytes(LINE_BODY["line"] // 8, "little") + data for number, data in lines)
    return b"".join((addresses, ETHERTYPE.to_bytes(ETHERTYPE_BYTES, "big"), fields, *bodies)).ljust(
        SHORTEST_PACKET, b"\0"
    )
