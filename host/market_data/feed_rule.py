"""What becomes of a packet of one of a channel's two feeds, compiled: docs/feeds.md, rule by rule."""

import numpy as np
from numba import njit

from hdl.limits import FEED_WINDOW
from host.memory import INLINED

CHANNEL_DTYPE = np.dtype([("passed", np.int64), ("begun", np.bool_)])
"""A channel: the last number that was passed on, once one was."""

SIDE_DTYPE = np.dtype([("last", np.int64), ("present", np.bool_), ("old", np.bool_)])
"""A feed: the last number that it brought, once it has brought one, and whether the channel has begun anew without it since."""

IN_ORDER, GAP, RESET, REPEATED, EARLY, OLD = range(6)
"""What becomes of a packet. The first three are passed on, GAP behind numbers that are missing, RESET as the first of a channel
that begins anew."""


@njit(**INLINED)
def judge(channel, own, other, number):
    """What becomes of a packet with this number; ``own`` is the feed that brings it. Changes nothing."""
    if not channel.begun or number == channel.passed + 1:
        return IN_ORDER
    went_back = own.present and number + FEED_WINDOW <= own.last
    if number <= channel.passed:
        if went_back and not own.old and number + FEED_WINDOW <= channel.passed:
            return RESET
        return REPEATED
    if own.old and not went_back and number - FEED_WINDOW <= own.last:
        return OLD
    if other.present and not other.old and other.last <= channel.passed and number - FEED_WINDOW <= other.last:
        return EARLY
    return GAP


@njit(**INLINED)
def settle(channel, own, other, number, verdict):
    """What a packet that was judged so leaves behind."""
    if verdict == OLD:
        return
    if verdict == RESET:
        other.old = other.present
    if not own.present or own.old or number > own.last or number + FEED_WINDOW <= own.last:
        own.last = number
    own.present = True
    own.old = False
    if verdict <= RESET:
        channel.passed = number
        channel.begun = True
