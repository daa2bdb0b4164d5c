"""The card's limits. Each number stands here once, with its reason."""

FLOWS = 16
"""Rows of the flow table."""

MESSAGE_LIMIT = 4096
"""Longest well-formed message in bytes; a longer one is flagged TOO_LONG."""

FIELD_LIMIT = 2048
"""Longest FIX field in bytes, tag and SOH included. Half of MESSAGE_LIMIT, so that a span of
garbage that is cut after a whole field stays below 6144 bytes."""

PACKET_LIMIT = 9216
"""Longest IPv4 packet in bytes (jumbo frames); a longer one is passed over and counted."""

STORE_BYTES = 16384
"""Bytes kept a flow until their message is complete: one packet and one span of garbage fit."""

ENTRY_LIMIT = 512
"""Most frames a message; what goes beyond is flagged TOO_LONG."""

HEADER_LIMIT = 8
"""Longest SBE message header and group dimension in bytes: the card reads each in one beat."""
