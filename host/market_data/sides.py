"""The sides of books, compiled: levels that the venue numbers, and levels that are found by their price."""

import numpy as np
from numba import njit

from host.market_data.layout import (
    BID,
    FIRST_ROOM,
    KNOWN,
    NONE,
    SLOT_DTYPE,
    STALE,
    UNKNOWN,
    Mark,
    Violation,
)
from host.memory import INLINED, KERNEL, copy_bytes

NEW, CHANGE, DELETE, DELETE_THRU, DELETE_FROM, OVERLAY, NOTHING = 0, 1, 2, 3, 4, 5, 255
"""MDUpdateAction; NOTHING is an update that only has a RptSeq."""

NO_LEVEL = 1 << 30
"""No level was touched."""

SLOT_BYTES = SLOT_DTYPE.itemsize
SIZE, PRICE, PRICE_CHANGED = int(Violation.SIZE), int(Violation.PRICE), int(Violation.PRICE_CHANGED)
DEPTH, LEVEL_HOLE, LEVEL_ABSENT = int(Violation.DEPTH), int(Violation.LEVEL_HOLE), int(Violation.LEVEL_ABSENT)
UNSUPPORTED = int(Violation.UNSUPPORTED)
INVALID = int(Mark.INVALID)


@njit(**KERNEL)
def list_violation(cursor, violations, instruments, update, cause, mark):
    """Enter a violation of a book that claims to be right in the list, while there is room."""
    if cursor[0].listed == violations.size:
        return
    row = violations[cursor[0].listed]
    cursor[0].listed += 1
    row.timestamp = update.timestamp
    row.instrument = instruments[update.instrument].instrument
    row.channel = instruments[update.instrument].channel
    row.price = update.price
    row.sequence = update.sequence
    row.number = update.number
    row.cause = cause
    row.mark = mark
    row.side = update.side
    row.level = update.level + 1


@njit(**INLINED)
def report(state, update, cause, mark):
    """Count a violation."""
    state.violation_counts[cause, mark] += 1
    if mark != INVALID:
        list_violation(state.cursor, state.violations, state.instruments, update, cause, mark)


@njit(**KERNEL)
def grow(cursor, slots, free_runs, side):
    """Give a side twice the room, or its first; False where there is none."""
    size_class = 0 if side.begin == NONE else side.size_class + 1
    room = FIRST_ROOM << size_class
    begin = free_runs[size_class]
    if begin != NONE:
        free_runs[size_class] = slots[begin].price
    elif cursor[0].slots + room <= slots.size:
        begin = cursor[0].slots
        cursor[0].slots += room
    else:
        cursor[0].refused_levels += 1
        return False
    if side.begin != NONE:
        copy_bytes(slots, begin, slots, side.begin, side.count * SLOT_BYTES)
        slots[side.begin].price = free_runs[side.size_class]
        free_runs[side.size_class] = side.begin
    side.begin = begin
    side.size_class = size_class
    if room > cursor[0].largest_room:
        cursor[0].largest_room = room
    return True


@njit(**INLINED)
def has_room(state, side):
    """Whether a side has room for one more level, which may have to be made."""
    if side.begin != NONE and side.count < FIRST_ROOM << side.size_class:
        return True
    return grow(state.cursor, state.slots, state.free_runs, side)


@njit(**INLINED)
def open_slot(state, side, level):
    """Move the levels from ``level`` on down by one; there is room."""
    at = side.begin + level
    copy_bytes(state.slots, at + 1, state.slots, at, (side.count - level) * SLOT_BYTES)
    side.count += 1
    slot = state.slots[at]
    slot.first = NONE
    slot.last = NONE


@njit(**INLINED)
def close_slots(state, side, level, count):
    """Take ``count`` levels from ``level`` on out."""
    at = side.begin + level
    copy_bytes(state.slots, at, state.slots, at + count, (side.count - level - count) * SLOT_BYTES)
    side.count -= count


@njit(**INLINED)
def set_slot(state, side, level, update):
    """A level's price, quantity and number of orders are the update's."""
    slot = state.slots[side.begin + level]
    slot.price = update.price
    slot.quantity = update.quantity
    slot.orders = update.orders
    slot.known = KNOWN


@njit(**INLINED)
def fill_holes(state, side, level):
    """See to it that the levels above ``level`` are there; False where there is no room."""
    while side.count < level:
        if not has_room(state, side):
            return False
        open_slot(state, side, np.int64(side.count))
        slot = state.slots[side.begin + side.count - 1]
        slot.price = 0
        slot.quantity = 0
        slot.orders = 0
        slot.known = UNKNOWN
    return True


@njit(**INLINED)
def find_price(state, side, price, is_bid):
    """(the place of a price in a side by price, whether there is such a level)."""
    low, high = np.int64(0), np.int64(side.count)
    while low < high:
        middle = (low + high) >> 1
        here = state.slots[side.begin + middle].price
        if here == price:
            return middle, True
        if (here > price) == is_bid:
            low = middle + 1
        else:
            high = middle
    return low, False


@njit(**INLINED)
def apply_numbered(state, update, side, depth, mark):
    """An update of a level that the venue numbers. Returns the best level that changed, and False where it could not be followed."""
    level, action = np.int64(update.level), update.action
    if action == DELETE_THRU:
        side.count = 0
        return 0, True
    if action > OVERLAY:
        report(state, update, UNSUPPORTED, mark)
        return NO_LEVEL, False
    if depth != 0 and level >= depth:
        report(state, update, DEPTH, mark)
        return NO_LEVEL, True
    if action in (DELETE, DELETE_FROM):
        if level >= side.count:
            report(state, update, LEVEL_ABSENT, mark)
            if action == DELETE:
                return NO_LEVEL, True
            side.count = 0
            return 0, True
        if action == DELETE:
            close_slots(state, side, level, 1)
            return level, True
        close_slots(state, side, 0, level + 1)
        return 0, True
    if not update.has_price:
        report(state, update, PRICE, mark)
    if update.quantity == 0:
        report(state, update, SIZE, mark)
    if action == NEW:
        if level > side.count:
            report(state, update, LEVEL_HOLE, mark)
            if not fill_holes(state, side, level):
                return NO_LEVEL, False
        if depth != 0 and side.count == depth:
            # What the new level pushes out is no longer part of the book.
            side.count -= 1
        if not has_room(state, side):
            return NO_LEVEL, False
        open_slot(state, side, level)
    elif level >= side.count:
        report(state, update, LEVEL_ABSENT, mark)
        if not fill_holes(state, side, level + 1):
            return NO_LEVEL, False
    elif action == CHANGE:
        slot = state.slots[side.begin + level]
        if slot.known == KNOWN and slot.price != update.price:
            report(state, update, PRICE_CHANGED, mark)
    set_slot(state, side, level, update)
    return level, True


@njit(**INLINED)
def apply_priced(state, update, side, mark):
    """An update of a level that is found by its price; a quantity of 0 deletes it. As :func:`apply_numbered`."""
    action = update.action
    if action == DELETE_THRU:
        side.count = 0
        return 0, True
    if action == DELETE_FROM or action > OVERLAY:
        report(state, update, UNSUPPORTED, mark)
        return NO_LEVEL, False
    if not update.has_price:
        report(state, update, PRICE, mark)
        return NO_LEVEL, False
    level, found = find_price(state, side, update.price, (update.side & 1) == BID)
    if action == DELETE or update.quantity == 0:
        if found:
            close_slots(state, side, level, 1)
            return level, True
        report(state, update, LEVEL_ABSENT, mark)
        return NO_LEVEL, True
    if not found:
        if not has_room(state, side):
            return NO_LEVEL, False
        open_slot(state, side, level)
    set_slot(state, side, level, update)
    return level, True


@njit(**INLINED)
def make_stale(state, side):
    """What a side shows is from before a gap."""
    side.complete = False
    for level in range(side.count):
        slot = state.slots[side.begin + level]
        if slot.known == KNOWN:
            slot.known = STALE


@njit(**INLINED)
def is_refreshed(state, side, depth):
    """Whether all levels of a side were set since it was doubtful."""
    if side.complete:
        return True
    if depth == 0 or side.count < depth:
        return False
    for level in range(side.count):
        if state.slots[side.begin + level].known != KNOWN:
            return False
    side.complete = True
    return True
