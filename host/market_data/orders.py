"""Orders of the books by order, compiled: each stands in the list of its price level, and in one index of all books."""

import numpy as np
from numba import njit

from host.market_data.layout import BID, KNOWN, NONE, Mark, Violation
from host.market_data.sides import (
    DELETE,
    NEW,
    NO_LEVEL,
    OVERLAY,
    PRICE,
    SIZE,
    UNSUPPORTED,
    close_slots,
    find_price,
    has_room,
    open_slot,
    report,
)
from host.memory import INLINED, KERNEL

ORDER_KNOWN, ORDER_UNKNOWN = int(Violation.ORDER_KNOWN), int(Violation.ORDER_UNKNOWN)
VALID = int(Mark.VALID)
NO_SIDE = 255


@njit(**INLINED)
def mix(first, second):
    """64 bits of two numbers, all of which depend on all of theirs."""
    value = np.uint64(first) ^ (np.uint64(second) * np.uint64(0x9E3779B97F4A7C15))
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(**INLINED)
def order_slot(orders, order_index, instrument, order_id):
    """The index slot that holds an order, or the empty one where it would go."""
    mask = order_index.size - 1
    slot = np.int64(mix(order_id, instrument) & np.uint64(mask))
    while order_index[slot] != NONE:
        order = orders[order_index[slot]]
        if order.id == order_id and order.instrument == instrument:
            break
        slot = (slot + 1) & mask
    return slot


@njit(**KERNEL)
def unindex(orders, order_index, number):
    """Take an order out of the index, moving later entries back so that no hole breaks a probe."""
    mask = order_index.size - 1
    hole = order_slot(orders, order_index, orders[number].instrument, orders[number].id)
    slot = hole
    while True:
        slot = (slot + 1) & mask
        other = order_index[slot]
        if other == NONE:
            break
        home = np.int64(mix(orders[other].id, orders[other].instrument) & np.uint64(mask))
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            order_index[hole] = other
            hole = slot
    order_index[hole] = NONE


@njit(**KERNEL)
def index_all(cursor, orders, order_index):
    """Enter all orders in an index that was made anew; the free ones are not in use."""
    for number in range(cursor[0].orders):
        if orders[number].side != NONE:
            slot = order_slot(orders, order_index, orders[number].instrument, orders[number].id)
            order_index[slot] = number


@njit(**INLINED)
def drop_order(state, number):
    """An order that stands in no level any more is gone."""
    unindex(state.orders, state.order_index, number)
    order = state.orders[number]
    order.side = NONE
    order.next = state.cursor[0].free_order
    state.cursor[0].free_order = number


@njit(**INLINED)
def link(state, number):
    """Put an order in its level, which is made if need be. Returns the level, or NONE where there is no room for one."""
    order = state.orders[number]
    side = state.sides[order.side]
    level, found = find_price(state, side, order.price, (order.side & 1) == BID)
    if not found:
        if not has_room(state, side):
            return NONE
        open_slot(state, side, level)
        slot = state.slots[side.begin + level]
        slot.price = order.price
        slot.quantity = 0
        slot.orders = 0
        slot.known = KNOWN
    slot = state.slots[side.begin + level]
    before = slot.last
    while before != NONE and state.orders[before].priority > order.priority:
        before = state.orders[before].previous
    after = slot.first if before == NONE else state.orders[before].next
    order.previous = before
    order.next = after
    if before == NONE:
        slot.first = number
    else:
        state.orders[before].next = number
    if after == NONE:
        slot.last = number
    else:
        state.orders[after].previous = number
    slot.quantity += order.quantity
    slot.orders += 1
    return level


@njit(**INLINED)
def unlink(state, number):
    """Take an order out of its level, and the level out of the side where it was the last one. Returns the level."""
    order = state.orders[number]
    side = state.sides[order.side]
    level, _ = find_price(state, side, order.price, (order.side & 1) == BID)
    slot = state.slots[side.begin + level]
    if order.previous == NONE:
        slot.first = order.next
    else:
        state.orders[order.previous].next = order.next
    if order.next == NONE:
        slot.last = order.previous
    else:
        state.orders[order.next].previous = order.previous
    slot.quantity -= order.quantity
    slot.orders -= 1
    if slot.first == NONE:
        close_slots(state, side, level, 1)
    return level


@njit(**INLINED)
def take_order(state):
    """A free order, or NONE."""
    cursor = state.cursor[0]
    number = cursor.free_order
    if number != NONE:
        cursor.free_order = state.orders[number].next
    elif cursor.orders < state.orders.size:
        number = cursor.orders
        cursor.orders += 1
    else:
        cursor.refused_orders += 1
    return number


@njit(**INLINED)
def keeps_place(order, update):
    """Whether an order stays where it is in its queue: price and priority stay, or, where no priority is told, it does not grow."""
    if update.has_price and update.price != order.price:
        return False
    if update.side != NO_SIDE and update.instrument * 6 + update.side != order.side:
        return False
    if update.priority != 0:
        return update.priority == order.priority
    return not update.has_quantity or update.quantity <= order.quantity


@njit(**INLINED)
def resize(state, number, update, mark):
    """Give an order another quantity where it stands. Returns its level."""
    order = state.orders[number]
    side = state.sides[order.side]
    level, _ = find_price(state, side, order.price, (order.side & 1) == BID)
    if update.has_quantity:
        if update.quantity == 0:
            report(state, update, SIZE, mark)
        slot = state.slots[side.begin + level]
        slot.quantity += update.quantity - order.quantity
        order.quantity = update.quantity
    return level


@njit(**KERNEL)
def apply_order(state, update, mark):
    """An update of an order. Returns the best level that changed, and False where it could not be followed."""
    action = update.action
    slot = order_slot(state.orders, state.order_index, update.instrument, update.order_id)
    number = np.int64(state.order_index[slot])
    if action > OVERLAY or (action > DELETE and action < OVERLAY):
        report(state, update, UNSUPPORTED, mark)
        return NO_LEVEL, False
    if action == DELETE:
        if number == NONE:
            report(state, update, ORDER_UNKNOWN, mark)
            return NO_LEVEL, True
        level = unlink(state, number)
        drop_order(state, number)
        return level, True
    if number != NONE and action != NEW and keeps_place(state.orders[number], update):
        return resize(state, number, update, mark), True
    level = NO_LEVEL
    old_price, old_priority, has_old = np.int64(0), np.uint64(0), number != NONE
    if has_old:
        if action == NEW:
            report(state, update, ORDER_KNOWN, mark)
        order = state.orders[number]
        old_price, old_priority = order.price, order.priority
        old_side = order.side
        level = unlink(state, number)
    elif action != NEW:
        report(state, update, ORDER_UNKNOWN, mark)
    if not update.has_price and not (has_old and action != NEW):
        report(state, update, PRICE, mark)
        if has_old:
            drop_order(state, number)
        return level, False
    if update.side == NO_SIDE and not has_old:
        return level, False
    if not has_old:
        number = take_order(state)
        if number == NONE:
            return level, False
        order = state.orders[number]
        order.id = update.order_id
        order.instrument = update.instrument
        old_side = 0
        state.order_index[slot] = number
    order = state.orders[number]
    if update.has_quantity or action == NEW or not has_old:
        order.quantity = update.quantity
        if update.quantity == 0:
            report(state, update, SIZE, mark)
    order.price = update.price if update.has_price else old_price
    order.priority = update.priority if update.priority != 0 or not has_old else old_priority
    order.side = old_side if update.side == NO_SIDE else update.instrument * 6 + update.side
    placed = link(state, number)
    if placed == NONE:
        drop_order(state, number)
        return level, False
    return min(level, placed), True


@njit(**INLINED)
def empty_of_orders(state, side):
    """Take all orders and levels of a side away."""
    for level in range(side.count):
        number = np.int64(state.slots[side.begin + level].first)
        while number != NONE:
            following = np.int64(state.orders[number].next)
            drop_order(state, number)
            number = following
    side.count = 0
