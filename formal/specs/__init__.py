"""Specifications, one file a block, each with its ``PROOFS``."""

NAMES = ("flow_state", "flow_swap", "fix_rule", "fix_parser", "strip", "payload_store", "parsed_queue")
"""The files: what keeps flows apart, the parser, and the blocks around it in the order in which data meets them."""
