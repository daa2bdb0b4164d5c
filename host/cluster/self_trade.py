"""Self-trade prevention: what happens where an order would trade with a resting one of the same account.

Risk says so in each decision (``DECISION_DTYPE``): 0 lets them trade; else the resting order (CANCEL_OLDEST), the
incoming one (CANCEL_NEWEST) or both are canceled. An order that was triggered or loses its priority is the incoming one.
"""

import numpy as np
from numba import njit

from host.cluster.order_index import NONE
from host.memory import INLINED, KERNEL

ALLOWED, CANCEL_NEWEST, CANCEL_OLDEST, CANCEL_BOTH = 0, 1, 2, 3


@njit(**INLINED)
def would_self_trade(taking, making):
    """Whether two orders (records) must not trade with each other; the incoming one's account says so."""
    return taking.self_trade != ALLOWED and taking.account != 0 and taking.account == making.account


@njit(**KERNEL)
def tradable(state, level, taking):
    """(quantity that an order finds at a level, whether it could go on to the next one)."""
    if taking.self_trade == ALLOWED or taking.account == 0:
        return state.levels[level].quantity, True
    own, ahead = np.uint64(0), np.uint64(0)
    order = state.levels[level].first
    while order != NONE:
        row = state.orders[order]
        if row.account == taking.account:
            if taking.self_trade != CANCEL_OLDEST:
                # What icebergs ahead of it hide comes behind it.
                return ahead, False
            own += row.leaves
        ahead += row.shown
        order = row.next
    return state.levels[level].quantity - own, True
