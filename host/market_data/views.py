"""Books as they are looked at, compiled: the levels of a view, an event's end with its invariants, and rows for tables."""

import numpy as np
from numba import njit

from host.market_data.layout import (
    ASK,
    BID,
    BOOKS,
    BY_ORDER,
    BY_ORDER_BOOK,
    BY_PRICE_BOOK,
    IMPLIED,
    NO_STATUS,
    NONE,
    OUTRIGHT,
    READY_TO_TRADE,
    SIDES,
    UNKNOWN,
    UNKNOWN_STATUS,
    Mark,
    View,
    Violation,
)
from host.market_data.sides import NO_LEVEL, report
from host.memory import INLINED, KERNEL

COMBINED, VIEW_BY_ORDER = int(View.COMBINED), int(View.BY_ORDER)
CROSSED, IMPLIED_CROSSED = int(Violation.CROSSED), int(Violation.IMPLIED_CROSSED)
LEVEL_ORDER = int(Violation.LEVEL_ORDER)
INVALID = int(Mark.INVALID)


@njit(**INLINED)
def mark_of(state, number, book):
    """How far an instrument's book can be trusted, a gap that it has not seen yet included."""
    its = state.books[number * BOOKS + book]
    if not its.used or its.gap != state.channels[state.instruments[number].channel].gap:
        return np.int64(INVALID)
    return np.int64(its.mark)


@njit(**INLINED)
def book_of_view(view):
    """The book that has a view's sides."""
    return BY_ORDER_BOOK if view == VIEW_BY_ORDER else BY_PRICE_BOOK


@njit(**KERNEL)
def read_side(state, number, side_number, levels):
    """The levels of one side, the best first, the rest of ``levels`` empty."""
    side = state.sides[number * SIDES + side_number]
    count = min(side.count, levels.size)
    for level in range(count):
        slot = state.slots[side.begin + level]
        row = levels[level]
        row.price = slot.price
        row.quantity = slot.quantity
        row.orders = slot.orders
        row.known = slot.known
    for level in range(count, levels.size):
        levels[level].known = UNKNOWN


@njit(**KERNEL)
def read_combined(state, number, direction, levels):
    """The levels of an outright side and its implied one, merged."""
    outright = state.sides[number * SIDES + 2 * OUTRIGHT + direction]
    implied = state.sides[number * SIDES + 2 * IMPLIED + direction]
    first, second, level = 0, 0, 0
    while level < levels.size and (first < outright.count or second < implied.count):
        # Holes have no price to merge by.
        if first < outright.count and state.slots[outright.begin + first].known == UNKNOWN:
            first += 1
            continue
        if second < implied.count and state.slots[implied.begin + second].known == UNKNOWN:
            second += 1
            continue
        row = levels[level]
        takes_first, takes_second = first < outright.count, second < implied.count
        if takes_first and takes_second:
            one = state.slots[outright.begin + first].price
            other = state.slots[implied.begin + second].price
            if one != other:
                takes_first = (one > other) == (direction == BID)
                takes_second = not takes_first
        row.quantity = 0
        row.orders = 0
        row.known = 2
        if takes_second:
            slot = state.slots[implied.begin + second]
            row.price = slot.price
            row.quantity = slot.quantity
            row.known = slot.known
            second += 1
        if takes_first:
            slot = state.slots[outright.begin + first]
            row.price = slot.price
            row.quantity += slot.quantity
            row.orders = slot.orders
            row.known = min(row.known, slot.known)
            first += 1
        level += 1
    for rest in range(level, levels.size):
        levels[rest].known = UNKNOWN


@njit(**KERNEL)
def read_levels(state, number, view, levels):
    """Fill ``levels[BID]`` and ``levels[ASK]`` with an instrument's."""
    for direction in (BID, ASK):
        if view == COMBINED:
            read_combined(state, number, direction, levels[direction])
        else:
            layer = BY_ORDER if view == VIEW_BY_ORDER else view
            read_side(state, number, 2 * layer + direction, levels[direction])


@njit(**INLINED)
def add_row(state, number, timestamp):
    """Record an instrument's levels; there is room."""
    cursor = state.cursor[0]
    settings = state.settings[0]
    instrument = state.instruments[number]
    row = state.rows[cursor.rows]
    row.instrument = instrument.instrument
    row.timestamp = timestamp
    row.channel = instrument.channel
    row.status = instrument.status
    row.mark = mark_of(state, number, book_of_view(settings.row_view))
    read_levels(state, number, settings.row_view, state.row_levels[cursor.rows])
    cursor.rows += 1


@njit(**INLINED)
def best_of(state, number, side_number):
    """(whether a side has a best level, its price)."""
    side = state.sides[number * SIDES + side_number]
    if side.count == 0 or state.slots[side.begin].known == UNKNOWN:
        return False, np.int64(0)
    return True, state.slots[side.begin].price


@njit(**INLINED)
def check_order(state, number, side_number, update, mark):
    """Whether each level of a side with numbered levels is worse than the one above it."""
    side = state.sides[number * SIDES + side_number]
    if not side.by_level:
        return
    for level in range(1, side.count):
        above, here = state.slots[side.begin + level - 1], state.slots[side.begin + level]
        if above.known == UNKNOWN or here.known == UNKNOWN:
            continue
        if above.price <= here.price if side_number & 1 == BID else above.price >= here.price:
            update.side = side_number
            update.level = level
            update.price = here.price
            report(state, update, LEVEL_ORDER, mark)


@njit(**INLINED)
def check(state, number, sequence):
    """The invariants of an instrument whose sides an event has changed."""
    instrument = state.instruments[number]
    update = state.update[1]
    update.instrument = number
    update.timestamp = instrument.changed
    update.sequence = sequence
    update.number = instrument.sequence
    trading = instrument.status in (READY_TO_TRADE, NO_STATUS, UNKNOWN_STATUS)
    for book in range(BOOKS):
        layer = BY_ORDER if book == BY_ORDER_BOOK else OUTRIGHT
        touched = instrument.best_touched[layer] != NO_LEVEL
        implied_touched = book == BY_PRICE_BOOK and instrument.best_touched[IMPLIED] != NO_LEVEL
        if not touched and not implied_touched:
            continue
        mark = mark_of(state, number, book)
        for direction in (BID, ASK):
            if touched:
                check_order(state, number, 2 * layer + direction, update, mark)
            if implied_touched:
                check_order(state, number, 2 * IMPLIED + direction, update, mark)
        if not trading:
            continue
        has_bid, bid = best_of(state, number, 2 * layer + BID)
        has_ask, ask = best_of(state, number, 2 * layer + ASK)
        update.side = 2 * layer + BID
        update.level = 0
        update.price = bid
        if has_bid and has_ask and bid >= ask:
            if touched:
                report(state, update, CROSSED, mark)
        elif book == BY_PRICE_BOOK:
            has_implied, implied = best_of(state, number, 2 * IMPLIED + BID)
            if has_implied:
                bid = max(bid, implied) if has_bid else implied
            has_implied_ask, implied = best_of(state, number, 2 * IMPLIED + ASK)
            if has_implied_ask:
                ask = min(ask, implied) if has_ask else implied
            if (has_bid or has_implied) and (has_ask or has_implied_ask) and bid >= ask:
                update.price = bid
                report(state, update, IMPLIED_CROSSED, mark)


@njit(**INLINED)
def touch(state, number, layer, level, timestamp):
    """An update has changed an instrument's side from ``level`` on."""
    instrument = state.instruments[number]
    channel = state.channels[instrument.channel]
    instrument.changed = timestamp
    if not instrument.is_touched:
        instrument.is_touched = True
        instrument.next_touched = channel.touched
        channel.touched = number
        state.cursor[0].touched += 1
        for each in range(3):
            instrument.best_touched[each] = NO_LEVEL
    if level < instrument.best_touched[layer]:
        instrument.best_touched[layer] = level


@njit(**INLINED)
def is_seen(state, instrument):
    """Whether an event has changed what the recorded view shows."""
    settings = state.settings[0]
    view, levels = settings.row_view, settings.levels
    if view == COMBINED:
        return instrument.best_touched[OUTRIGHT] < levels or instrument.best_touched[IMPLIED] < levels
    return instrument.best_touched[BY_ORDER if view == VIEW_BY_ORDER else view] < levels


@njit(**INLINED)
def end_event_here(state, channel_number):
    """Check and record all that a channel's event has changed."""
    cursor = state.cursor[0]
    settings = state.settings[0]
    channel = state.channels[channel_number]
    number = np.int64(channel.touched)
    while number != NONE:
        instrument = state.instruments[number]
        check(state, number, channel.last)
        if settings.record and is_seen(state, instrument):
            if settings.interval == 0:
                add_row(state, number, instrument.changed)
            elif not instrument.is_due:
                instrument.is_due = True
                instrument.next_due = cursor.first_due
                cursor.first_due = number
                cursor.due += 1
        instrument.is_touched = False
        cursor.touched -= 1
        number = np.int64(instrument.next_touched)
    channel.touched = NONE


@njit(**KERNEL)
def end_event(state, channel_number):
    """The same, where it is seldom: a call passes all arrays, which takes as long as an update."""
    end_event_here(state, channel_number)


@njit(**KERNEL)
def end_interval(state):
    """Record all that has changed since the grid's last point, as it is at its next."""
    cursor = state.cursor[0]
    number = np.int64(cursor.first_due)
    while number != NONE:
        add_row(state, number, cursor.grid)
        instrument = state.instruments[number]
        instrument.is_due = False
        number = np.int64(instrument.next_due)
    cursor.first_due = NONE
    cursor.due = 0
