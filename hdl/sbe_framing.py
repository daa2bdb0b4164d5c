"""CME's framing of SBE in UDP: a packet header, then messages, each behind its size (docs/sbe.md)."""

PACKET_HEADER_BYTES = 12
"""u32 sequence number, u64 sending time."""

SEQUENCE_BYTES = 4

SIZE_BYTES = 2
"""u16 that counts itself, the SBE header and the body."""
