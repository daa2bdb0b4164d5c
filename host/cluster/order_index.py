"""The index from the key of an open order (``host.cluster.order_key``) to its row: open addressing, at most half full.

For any ``state`` with ``orders``, whose rows have ``key_low`` and ``key_high``, and ``order_index``, a power of two of row
numbers.
"""

import numpy as np
from numba import njit

from host.memory import INLINED, KERNEL

NONE = -1
"""No row."""


@njit(**INLINED)
def order_slot(state, low, high):
    """The slot that holds the key, or the empty one where it would go."""
    mask = state.order_index.shape[0] - 1
    slot = np.int64(low & np.uint64(mask))
    while state.order_index[slot] != NONE:
        order = state.orders[state.order_index[slot]]
        if order.key_low == low and order.key_high == high:
            break
        slot = (slot + 1) & mask
    return slot


@njit(**INLINED)
def find_order(state, low, high):
    """The open order with this key, or NONE."""
    return np.int64(state.order_index[order_slot(state, low, high)])


@njit(**INLINED)
def index(state, order):
    """Enters an order's key."""
    state.order_index[order_slot(state, state.orders[order].key_low, state.orders[order].key_high)] = order


@njit(**KERNEL)
def unindex(state, order):
    """Takes an order's key out, moving later entries back so that no hole breaks a search."""
    mask = state.order_index.shape[0] - 1
    hole = order_slot(state, state.orders[order].key_low, state.orders[order].key_high)
    slot = hole
    while True:
        slot = (slot + 1) & mask
        other = state.order_index[slot]
        if other == NONE:
            break
        home = np.int64(state.orders[other].key_low & np.uint64(mask))
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            state.order_index[hole] = other
            hole = slot
    state.order_index[hole] = NONE
