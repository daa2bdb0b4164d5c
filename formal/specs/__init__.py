"""Specifications, one file a block, each with its ``PROOFS``."""

NAMES = (
    "flow_state",
    "flow_swap",
    "fix_rule",
    "fix_parser",
    "packet_history",
    "sbe_walker",
    "sbe_decoder",
    "strip",
    "feed_arbiter",
    "payload_store",
    "parsed_queue",
    "line_writer",
)
"""The files: what keeps flows apart, the parsers, and the blocks around them in the order in which data meets them."""
