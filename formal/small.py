"""The card with small limits, for proofs: what a bounded proof should reach must come within its bound.

The limits are constants of ``hdl.limits`` that layouts and blocks are made with as they are imported, so they are replaced
before any of those is. A process that has called :func:`shrink` proves; it does nothing else with ``hdl``.
"""

import sys

LIMITS = {
    "FLOWS": 2,
    "FIELD_LIMIT": 32,
    "MESSAGE_LIMIT": 64,
    "PACKET_LIMIT": 256,
    "ENTRY_LIMIT": 4,
    "STORE_BYTES": 16,
}
"""Two flows, since one is watched and the other may do anything. Powers of two, in the proportions of the card's own."""


def shrink() -> None:
    """Make :data:`LIMITS` those of this process. Raises RuntimeError where hardware was imported already."""
    from hdl import limits

    if all(getattr(limits, name) == value for name, value in LIMITS.items()):
        return
    if "hdl.beat" in sys.modules:
        raise RuntimeError("hdl.beat was imported with the card's own limits before formal.small.shrink()")
    for name, value in LIMITS.items():
        setattr(limits, name, value)
