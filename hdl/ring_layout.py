"""The shared-memory file that holds both rings. See docs/ring.md for the protocol.

    byte 0                header: one page
    frames_offset         frame_slots × 64 bytes
    payload_offset        payload_bytes, messages beginning on 64-byte lines

Credits stand in the header on cache lines of their own: the host writes them, the card reads them.
"""

import numpy as np

RING_MAGIC = int.from_bytes(b"TICKRING", "little")
RING_VERSION = 1
HEADER_BYTES = 4096
LINE_BYTES = 64
"""A raw message begins on a line of its own, so that the card writes whole lines only."""

HEADER_DTYPE = np.dtype(
    {
        "names": [
            "magic",
            "version",
            "frame_slots",
            "payload_bytes",
            "frames_offset",
            "payload_offset",
            "frames_read",
            "payload_read",
        ],
        "formats": ["<u8"] * 8,
        "offsets": [0, 8, 16, 24, 32, 40, 128, 192],
        "itemsize": HEADER_BYTES,
    }
)
"""``frames_read`` counts frames, ``payload_read`` bytes, both since the ring was made; neither wraps."""


def header_offset(name: str) -> int:
    """Where a field of the header stands in the file, in bytes."""
    assert HEADER_DTYPE.fields is not None
    return HEADER_DTYPE.fields[name][1]
