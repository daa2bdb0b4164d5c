"""Beats: how bytes move through the card, eight a cycle, the first in the lowest byte."""

from amaranth.hdl import unsigned
from amaranth.lib import data

from hdl.flow import Parser
from hdl.frame import frame_layout
from hdl.limits import FLOWS

LANES = 8
"""Bytes a beat."""

POSITION_BITS = 16
"""Positions in a flow's stream are counted modulo 2^16, far above what is kept of a flow."""

MISSING_BITS = 32
"""A gap beat counts at most so many bytes."""

PacketBeat = data.StructLayout(
    {
        "data": data.ArrayLayout(8, LANES),
        "count": unsigned(4),
        "last": 1,
        "timestamp": 64,
    }
)
"""Bytes of a packet. ``count`` bytes (1 to 8) hold data, fewer than 8 only in the packet's ``last``
beat; ``timestamp`` (ns) stands in all beats."""

RoutedBeat = data.StructLayout(
    {
        "data": data.ArrayLayout(8, LANES),
        "count": unsigned(4),
        "last": 1,
        "timestamp": 64,
        "flow": range(FLOWS),
        "fragment": 1,
        "gap": 1,
        "parser": Parser,
    }
)
"""Payload bytes of one packet, whose flow and parser are known.

A packet in front of which bytes of the flow are missing begins with a ``gap`` beat: it has no bytes (``count``
is 0, and it is not the ``last``), and the low 32 bits of ``data`` say how many are missing."""


def payload_beat(lanes: int) -> data.StructLayout:
    """``PayloadBeat`` of ``lanes`` bytes. ``data`` has room for a gap beat's 32 bits, whatever the lanes."""
    return data.StructLayout(
        {
            "data": data.ArrayLayout(8, max(lanes, MISSING_BITS // 8)),
            "count": unsigned(lanes.bit_length()),
            "last": 1,
            "timestamp": 64,
            "flow": range(FLOWS),
            "position": POSITION_BITS,
            "fragment": 1,
            "gap": 1,
        }
    )


PayloadBeat = payload_beat(LANES)
"""Payload bytes of one packet of a flow; ``position`` is the first byte's place in the flow's stream. ``gap`` as
in ``RoutedBeat``."""

Message = data.StructLayout(
    {
        "flow": range(FLOWS),
        "start": POSITION_BITS,
        "length": 16,
        "frames": 16,
        "entries": 1,
        "packet_end": 1,
        "release": POSITION_BITS,
    }
)
"""What a parser says when a message is complete: its bytes are ``[start, start + length)`` of the flow's stream,
and so many ``frames`` were handed over for it (0: no message, only a packet's end). ``entries``: the message is a
FIX market data message whose entries are still to be read from its bytes; its one frame is what they have in common. With
``packet_end`` the packet is done: bytes before ``release`` are not needed any more."""

Parsed = data.StructLayout({"has_frame": 1, "frame": frame_layout(), "has_message": 1, "message": Message})
"""What a parser hands over in one cycle: a frame, or the end of a message or packet, or both (then the
frame is the message's last). Frames come without ``payload_offset``, ``payload_length`` and ``generation``."""
