"""Gaps, snapshots and resets, compiled: when a book is valid, and what waits until it is.

The rules are CME's ("MDP 3.0 - Recovery"): a book that may have missed an update is marked; its further updates are kept, and
a snapshot that is not older than the first of them makes it valid, whereupon those behind it are applied in order.
"""

import numpy as np
from numba import njit

from host.market_data.layout import (
    BOOKS,
    BY_ORDER,
    BY_ORDER_BOOK,
    BY_PRICE_BOOK,
    IMPLIED,
    NO_STATUS,
    NONE,
    OUTRIGHT,
    SAME_STATUS,
    SIDES,
    Mark,
    Violation,
)
from host.market_data.orders import apply_order, empty_of_orders, mix
from host.market_data.sides import (
    NO_LEVEL,
    NOTHING,
    apply_numbered,
    apply_priced,
    is_refreshed,
    make_stale,
    report,
)
from host.market_data.views import touch
from host.memory import INLINED, KERNEL

INVALID, REFRESHED, VALID = int(Mark.INVALID), int(Mark.REFRESHED), int(Mark.VALID)
SEQUENCE = int(Violation.SEQUENCE)


@njit(**INLINED)
def distance(later, earlier):
    """How far a 32 bit sequence number is ahead of another, by the shorter way round."""
    return np.int64(np.int32(np.uint32(later) - np.uint32(earlier)))


@njit(**INLINED)
def find_instrument(state, channel, instrument, depths):
    """An instrument's row, which is made if need be; NONE where the limit is reached."""
    mask = state.instrument_index.size - 1
    slot = np.int64(mix(instrument, channel) & np.uint64(mask))
    while state.instrument_index[slot] != NONE:
        row = state.instruments[state.instrument_index[slot]]
        if row.instrument == instrument and row.channel == channel:
            return np.int64(state.instrument_index[slot])
        slot = (slot + 1) & mask
    cursor = state.cursor[0]
    number = cursor.instruments
    if number == state.instruments.size:
        cursor.refused_instruments += 1
        return np.int64(NONE)
    cursor.instruments += 1
    state.instrument_index[slot] = number
    row = state.instruments[number]
    row.instrument = instrument
    row.channel = channel
    row.depth[OUTRIGHT] = depths[0]
    row.depth[IMPLIED] = depths[1]
    return np.int64(number)


@njit(**KERNEL)
def index_instruments(cursor, instruments, instrument_index):
    """Enter all instruments in an index that was made anew."""
    mask = instrument_index.size - 1
    for number in range(cursor[0].instruments):
        row = instruments[number]
        slot = np.int64(mix(row.instrument, row.channel) & np.uint64(mask))
        while instrument_index[slot] != NONE:
            slot = (slot + 1) & mask
        instrument_index[slot] = number


@njit(**INLINED)
def forget_waiting(state, book):
    """Give up what waits for a book."""
    if book.first != NONE:
        state.waiting[book.last].next = state.cursor[0].free_waiting
        state.cursor[0].free_waiting = book.first
        state.cursor[0].waiting -= book.waiting
    book.first = NONE
    book.last = NONE
    book.waiting = 0


@njit(**KERNEL)
def keep_waiting(state, book, update):
    """Keep an update until a snapshot comes. Without room, all that waits for the book is given up."""
    cursor = state.cursor[0]
    if cursor.free_waiting == NONE:
        cursor.lost_waiting += book.waiting + 1
        forget_waiting(state, book)
        book.complete_from = update.sequence + np.uint32(1)
        book.numbered_from = update.number + np.uint32(1) if update.number != 0 else np.uint32(0)
        return
    number = np.int32(cursor.free_waiting)
    cursor.free_waiting = state.waiting[number].next
    cursor.waiting += 1
    state.waiting[number] = update
    state.waiting[number].next = NONE
    if book.first == NONE:
        book.first = number
        if book.numbered_from == 0:
            book.numbered_from = update.number
    else:
        state.waiting[book.last].next = number
    book.last = number
    book.waiting += 1


@njit(**INLINED)
def layers_of(book):
    """The first layer of a book, and the one behind its last."""
    if book == BY_ORDER_BOOK:
        return BY_ORDER, BY_ORDER + 1
    return OUTRIGHT, IMPLIED + 1


@njit(**KERNEL)
def invalidate(state, number, book, sequence, rpt_seq):
    """A book may have missed what came before packet ``sequence`` and the instrument's number ``rpt_seq`` (0: not known)."""
    its = state.books[number * BOOKS + book]
    its.gap = state.channels[state.instruments[number].channel].gap
    its.mark = INVALID
    its.loading = False
    its.complete_from = sequence
    its.numbered_from = rpt_seq
    forget_waiting(state, its)
    first, end = layers_of(book)
    for side in range(number * SIDES + 2 * first, number * SIDES + 2 * end):
        make_stale(state, state.sides[side])


@njit(**KERNEL)
def empty(state, number, book, timestamp):
    """Take all levels and orders of a book away."""
    first, end = layers_of(book)
    for layer in range(first, end):
        for side in range(number * SIDES + 2 * layer, number * SIDES + 2 * layer + 2):
            if book == BY_ORDER_BOOK:
                empty_of_orders(state, state.sides[side])
            state.sides[side].count = 0
            state.sides[side].complete = False
        touch(state, number, layer, 0, timestamp)


@njit(**KERNEL)
def reset(state, number, timestamp):
    """An instrument's books are empty, and known to be."""
    state.instruments[number].whole = True
    for book in range(BOOKS):
        its = state.books[number * BOOKS + book]
        if its.used:
            empty(state, number, book, timestamp)
            forget_waiting(state, its)
            its.mark = VALID
            its.loading = False
            its.gap = state.channels[state.instruments[number].channel].gap


@njit(**KERNEL)
def reset_channel(state, channel_number, timestamp):
    """All books of a channel are empty, and known to be; all instruments' numbers begin anew."""
    channel = state.channels[channel_number]
    channel.resets += 1
    channel.anew = True
    for number in range(state.cursor[0].instruments):
        instrument = state.instruments[number]
        if instrument.channel == channel_number:
            reset(state, number, timestamp)
            instrument.sequence = 0


@njit(**INLINED)
def judge_number(state, number, rpt_seq, update):
    """Look whether an instrument's updates are without holes; False for one that is older than what is known."""
    instrument = state.instruments[number]
    if rpt_seq == 0:
        return True
    before = instrument.sequence
    if before == 0:
        instrument.sequence = rpt_seq
        instrument.whole |= rpt_seq == 1
        return True
    ahead = distance(rpt_seq, before)
    if ahead <= 0:
        state.cursor[0].stale_updates += 1
        return False
    instrument.sequence = rpt_seq
    gap = state.channels[instrument.channel].gap
    if ahead == 1:
        for book in range(number * BOOKS, number * BOOKS + BOOKS):
            # Packets were missed, but none of this instrument was in them.
            if state.books[book].numbered:
                state.books[book].gap = gap
        return True
    instrument.whole = False
    mark = np.int64(INVALID)
    for book in range(BOOKS):
        its = state.books[number * BOOKS + book]
        if its.used and its.numbered:
            mark = max(mark, np.int64(its.mark))
            invalidate(state, number, book, state.cursor[0].packet_sequence, rpt_seq)
    report(state, update, SEQUENCE, mark)
    return True


@njit(**INLINED)
def open_book(state, number, book, update):
    """The book that an update is for, marked as it must be."""
    its = state.books[number * BOOKS + book]
    instrument = state.instruments[number]
    channel = state.channels[instrument.channel]
    if not its.used:
        its.used = True
        its.numbered = update.number != 0
        whole = instrument.whole if its.numbered else channel.whole and channel.gap == 0
        its.mark = VALID if whole else INVALID
        its.gap = channel.gap
        its.complete_from = channel.complete_from
        its.numbered_from = update.number
    elif its.gap != channel.gap:
        invalidate(state, number, book, channel.complete_from, update.number)
    return its


@njit(**INLINED)
def apply_here(state, update, mark):
    """Do what an update says to the book. Returns False where it could not be followed."""
    number = np.int64(update.instrument)
    if update.action == NOTHING:
        return True
    if update.book == BY_ORDER_BOOK:
        level, done = apply_order(state, update, mark)
        layer = np.int64(BY_ORDER)
    else:
        side = state.sides[number * SIDES + update.side]
        layer = np.int64(update.side >> 1)
        if update.level != NONE:
            side.by_level = True
            level, done = apply_numbered(state, update, side, state.instruments[number].depth[layer], mark)
        else:
            level, done = apply_priced(state, update, side, mark)
    if level != NO_LEVEL:
        touch(state, number, layer, level, update.timestamp)
    return done


@njit(**KERNEL)
def apply(state, update, mark):
    """The same, where it is seldom: a call passes all arrays, which takes as long as an update."""
    return apply_here(state, update, mark)


@njit(**KERNEL)
def look_for_refresh(state, number, its):
    """Mark a book as refreshed once all levels of all its sides have been set."""
    depth = state.instruments[number].depth
    for side in range(2 * OUTRIGHT, 2 * IMPLIED + 2):
        row = state.sides[number * SIDES + side]
        if (side >= 2 * IMPLIED and row.count == 0) and not row.complete:
            continue
        if not is_refreshed(state, row, depth[side >> 1]):
            return
    its.mark = REFRESHED


@njit(**INLINED)
def take_update(state, update):
    """An update of a book, which may not be valid."""
    number = np.int64(update.instrument)
    its = open_book(state, number, np.int64(update.book), update)
    state.cursor[0].updates += 1
    if its.mark != VALID and state.settings[0].recovers:
        keep_waiting(state, its, update)
    if its.loading:
        return
    if not apply_here(state, update, np.int64(its.mark)):
        invalidate(state, number, np.int64(update.book), update.sequence + np.uint32(1), np.uint32(0))
    elif its.mark == INVALID and update.book == BY_PRICE_BOOK:
        look_for_refresh(state, number, its)


@njit(**KERNEL)
def take_number(state, update):
    """Something of an instrument that changes no book: those that are not valid keep its number."""
    if not state.settings[0].recovers or update.number == 0:
        return
    for book in range(BOOKS):
        its = state.books[np.int64(update.instrument) * BOOKS + book]
        if its.used and its.numbered and its.mark != VALID:
            keep_waiting(state, its, update)


@njit(**KERNEL)
def begin_snapshot(state, number, book, dated, sequence, rpt_seq, chunk, timestamp):
    """Whether a snapshot is to be loaded: the book needs it, and it is not too old. ``sequence``: the last packet that is in it
    (where ``dated``); ``rpt_seq``: the instrument's last number in it; ``chunk``: which part it is, from 1."""
    its = state.books[number * BOOKS + book]
    instrument = state.instruments[number]
    channel = state.channels[instrument.channel]
    if chunk > 1:
        goes_on = its.loading and its.chunk + 1 == chunk and its.snapshot == sequence
        its.chunk = chunk
        its.loading = goes_on
        return goes_on
    if not its.used:
        its.used = True
        its.numbered = rpt_seq != 0
        its.gap = channel.gap
        its.mark = INVALID
        its.complete_from = channel.complete_from
        its.numbered_from = 0
    elif its.gap != channel.gap:
        invalidate(state, number, book, channel.complete_from, np.uint32(0))
    if dated:
        fits = its.mark != VALID
        if fits and rpt_seq != 0 and its.numbered and its.numbered_from != 0:
            fits = distance(rpt_seq + np.uint32(1), its.numbered_from) >= 0
        elif fits and channel.known:
            fits = distance(sequence + np.uint32(1), its.complete_from) >= 0
        if not fits:
            return False
    empty(state, number, book, timestamp)
    its.loading = True
    its.chunk = chunk
    its.snapshot = sequence
    return True


@njit(**KERNEL)
def finish_snapshot(state, number, book, dated, sequence, rpt_seq):
    """A book is what its snapshot said; now the updates behind it."""
    its = state.books[number * BOOKS + book]
    instrument = state.instruments[number]
    its.loading = False
    its.mark = VALID
    its.gap = state.channels[instrument.channel].gap
    if rpt_seq != 0:
        its.numbered = True
        if instrument.sequence == 0 or distance(rpt_seq, instrument.sequence) > 0:
            instrument.sequence = rpt_seq
    waiting = np.int64(its.first)
    while waiting != NONE and dated:
        update = state.waiting[waiting]
        if update.number != 0 and rpt_seq != 0:
            later = distance(update.number, rpt_seq) > 0
        else:
            later = distance(update.sequence, sequence) > 0
        if not later:
            state.cursor[0].stale_updates += 1
        elif not apply(state, update, VALID):
            its.mark = INVALID
        waiting = np.int64(update.next)
    forget_waiting(state, its)
    state.channels[instrument.channel].snapshots += 1


@njit(**INLINED)
def set_status(state, number, status):
    """An instrument's SecurityTradingStatus."""
    if status != SAME_STATUS and status != NO_STATUS:
        state.instruments[number].status = status
