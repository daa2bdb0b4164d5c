"""The card's limits. Each number stands here once, with its reason."""

FLOWS = 64
"""Rows of the flow table."""

MESSAGE_LIMIT = 4096
"""Longest well-formed message in bytes; a longer one is flagged TOO_LONG."""

FIELD_LIMIT = 2048
"""Longest FIX field in bytes, tag and SOH included. Half of MESSAGE_LIMIT, so that what is reported as one
malformed span stays within 8192 bytes: a message, the field that failed, and another one."""

PACKET_LIMIT = 9216
"""Longest IPv4 packet in bytes (jumbo frames); a longer one is passed over and counted."""

STORE_BYTES = 16384
"""Bytes kept a flow until their message is complete: the longest span of garbage fits, and what comes meanwhile."""

ENTRY_LIMIT = 512
"""Most frames an SBE message; what goes beyond is flagged TOO_LONG."""

PREFIX_LIMIT = 64
"""Longest packet header, and longest framing in front of an SBE message, in bytes."""

FEED_WINDOW = 64
"""Sequence numbers that feeds of a channel may lie apart while one is waited for. The copies of real feeds come within a few
packets of each other; and a channel that begins anew is only known to once it has gone on for so long."""
