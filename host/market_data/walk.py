"""The walk over frames, compiled: packets and messages in their order, and what each entry does to the books."""

import numpy as np
from numba import njit

from hdl.frame import NO_FLOW as FRAME_NO_FLOW
from hdl.frame import Flag, Kind
from host.market_data.layout import (
    BOOKS,
    BY_ORDER_BOOK,
    BY_PRICE_BOOK,
    NONE,
    SEQUENCE_WINDOW,
    SIDES,
    STATISTIC_COLUMN,
    STATISTIC_IS_QUANTITY,
    Need,
    Role,
)
from host.market_data.orders import NO_SIDE
from host.market_data.places import (
    AGGRESSOR,
    CHUNK,
    CHUNKS,
    END_OF_EVENT,
    ENTRY,
    LAST_SEQUENCE,
    ORDER_ID,
    PRIORITY,
    STATUS,
)
from host.market_data.reading import read_entry_id, read_place
from host.market_data.recovery import (
    VALID,
    apply,
    begin_snapshot,
    distance,
    find_instrument,
    finish_snapshot,
    judge_number,
    reset,
    reset_channel,
    set_status,
    take_number,
    take_update,
)
from host.market_data.sides import DELETE, NEW, NOTHING, OVERLAY
from host.market_data.views import end_event, end_event_here, end_interval
from host.memory import INLINED, KERNEL

BOOK_UPDATE, TRADE, STATISTIC = int(Kind.BOOK_UPDATE), int(Kind.TRADE), int(Kind.STATISTIC)
DEFINITION, STATUS_KIND, DETAIL, OTHER = int(Kind.DEFINITION), int(Kind.STATUS), int(Kind.DETAIL), int(Kind.OTHER)
GAP, MALFORMED = int(Kind.GAP), int(Kind.MALFORMED)
NO_FLOW = FRAME_NO_FLOW
NO_PRICE, NO_QUANTITY = int(Flag.PRICE_ABSENT), int(Flag.QUANTITY_ABSENT)
INCREMENTAL = int(Role.INCREMENTAL)

ZERO = ord("0")
BID_ENTRY, ASK_ENTRY, IMPLIED_BID_ENTRY, IMPLIED_ASK_ENTRY, RESET_ENTRY = (ord(each) for each in "01EFJ")
FIX_SNAPSHOT, FIX_UPDATE = ord("W"), ord("X")
SIDE_OF_ENTRY = np.full(256, NO_SIDE, np.uint8)
SIDE_OF_ENTRY[[BID_ENTRY, ASK_ENTRY, IMPLIED_BID_ENTRY, IMPLIED_ASK_ENTRY]] = 0, 1, 2, 3

DONE = int(Need.NOTHING)
INSTRUMENTS, SLOTS, ORDERS = int(Need.INSTRUMENTS), int(Need.SLOTS), int(Need.ORDERS)
ROWS, TRADES, LOOK = int(Need.ROWS), int(Need.TRADES), int(Need.LOOK)


@njit(**INLINED)
def needs(state):
    """What there may be too little room of for the next frame."""
    cursor = state.cursor[0]
    settings = state.settings[0]
    if cursor.instruments == state.instruments.size and cursor.instruments < settings.most_instruments:
        return INSTRUMENTS
    # The end of a snapshot lets all that waits follow.
    following = cursor.waiting if cursor.loading != NONE else 0
    wanted = cursor.slots + 4 * (cursor.largest_room + following) + 64
    if wanted > state.slots.size and state.slots.size < settings.most_slots:
        return SLOTS
    wanted = cursor.orders + 1 + following
    if wanted > state.orders.size and state.orders.size < settings.most_orders:
        return ORDERS
    if settings.record and cursor.rows + cursor.touched + cursor.due + 4 > state.rows.size:
        return ROWS
    if settings.record_trades and cursor.trades == state.trades.size:
        return TRADES
    return DONE


@njit(**KERNEL)
def end_snapshot(state):
    """A message with a snapshot is whole."""
    cursor = state.cursor[0]
    for book in range(BOOKS):
        if cursor.load_ends and cursor.loading_books >> book & 1:
            finish_snapshot(
                state, cursor.loading, book, cursor.load_dated, cursor.loading_sequence, cursor.loading_number
            )
    cursor.loading = NONE


@njit(**INLINED)
def end_message(state):
    """The message in hand has no more frames: a snapshot is whole, and perhaps an event has ended."""
    cursor = state.cursor[0]
    if cursor.loading != NONE:
        end_snapshot(state)
    if cursor.message_offset != NONE and cursor.message_ends_event:
        end_event_here(state, cursor.message_channel)
    cursor.message_offset = NONE
    cursor.entries = 0


@njit(**INLINED)
def begin_packet(state, channel_number, role, sequence, flow, timestamp):
    """Judge a packet by its number: whether packets are missing before it, and whether it is a copy of one that came."""
    cursor = state.cursor[0]
    channel = state.channels[channel_number]
    cursor.packet_sequence = sequence
    cursor.packet_flow = flow
    cursor.packet_timestamp = timestamp
    cursor.packet_passed = False
    channel.packets += 1
    if role != INCREMENTAL or sequence == 0:
        return
    ahead = distance(sequence, channel.last)
    if not channel.known:
        channel.known = True
        channel.whole = sequence == 1
        channel.complete_from = sequence
        if not channel.whole:
            # Books that a snapshot has made already cannot tell what came between.
            channel.gap += 1
    elif ahead == 1 or (channel.anew and ahead < 0):
        channel.anew = False
    elif -SEQUENCE_WINDOW < ahead <= 0:
        channel.duplicates += 1
        cursor.packet_passed = True
        return
    else:
        end_event(state, channel_number)
        channel.gap += 1
        channel.complete_from = sequence
        channel.whole = False
        if ahead > 0:
            channel.gaps += 1
            channel.missing += ahead - 1
        else:
            channel.sequence_resets += 1
    channel.last = sequence
    channel.timestamp = timestamp


@njit(**KERNEL)
def doubt_all(state, channel_number):
    """Something of a channel (NONE: of all) was lost, or could not be read."""
    for number in range(state.channels.size):
        if channel_number == NONE or number == channel_number:
            channel = state.channels[number]
            end_event(state, number)
            channel.gap += 1
            channel.complete_from = channel.last + np.uint32(1)
            channel.whole = False


@njit(**KERNEL)
def take_trade(state, number, frame, aggressor, is_live):
    """A trade, or one of a snapshot: the last one."""
    instrument = state.instruments[number]
    has_price = frame.flags & NO_PRICE == 0
    has_quantity = frame.flags & NO_QUANTITY == 0
    if is_live or instrument.trades == 0:
        if has_price:
            instrument.last_price = frame.price
        instrument.last_quantity = frame.quantity
        instrument.trades += 1 if is_live else 0
        if frame.update_action != ZERO + DELETE and is_live:
            instrument.volume += frame.quantity
    if not is_live or not state.settings[0].record_trades:
        return
    cursor = state.cursor[0]
    row = state.trades[cursor.trades]
    cursor.trades += 1
    row.instrument = frame.instrument
    row.timestamp = frame.timestamp
    row.price = frame.price
    row.quantity = frame.quantity
    row.orders = frame.number_of_orders
    row.channel = instrument.channel
    row.action = frame.update_action
    row.aggressor = aggressor
    row.has_price = has_price
    row.has_quantity = has_quantity


@njit(**KERNEL)
def take_statistic(state, number, frame):
    """A statistic's new value, or that it has none any more."""
    column = STATISTIC_COLUMN[frame.entry_type]
    if column == NONE:
        return
    instrument = state.instruments[number]
    is_quantity = STATISTIC_IS_QUANTITY[frame.entry_type]
    absent = frame.flags & (NO_QUANTITY if is_quantity else NO_PRICE)
    bit = np.uint32(1) << np.uint32(column)
    if absent or frame.update_action == ZERO + DELETE:
        instrument.present &= ~bit
        instrument.statistics[column] = 0
    else:
        instrument.present |= bit
        instrument.statistics[column] = np.int64(frame.quantity) if is_quantity else frame.price


@njit(**INLINED)
def fill_update(state, update, frame, number, rpt_seq):
    """What an entry's frame says of a book."""
    update.timestamp = frame.timestamp
    update.price = frame.price
    update.quantity = frame.quantity
    update.orders = frame.number_of_orders
    update.sequence = frame.sequence
    update.number = rpt_seq
    update.instrument = number
    update.level = np.int32(frame.price_level) - np.int32(1)
    update.side = SIDE_OF_ENTRY[frame.entry_type]
    update.action = frame.update_action - np.uint8(ZERO) if frame.update_action >= ZERO else np.uint8(NEW)
    update.has_price = frame.flags & NO_PRICE == 0
    update.has_quantity = frame.flags & NO_QUANTITY == 0
    update.order_id = 0
    update.priority = 0
    update.book = BY_PRICE_BOOK


@njit(**INLINED)
def make_by_order(update, order_id, priority):
    """It is an order's update."""
    update.book = BY_ORDER_BOOK
    update.order_id = order_id
    update.priority = priority
    update.level = NONE
    if update.side != NO_SIDE:
        update.side = np.uint8(4) + (update.side & np.uint8(1))


@njit(**KERNEL)
def start_snapshot(state, places, row, frame, payload, number, rpt_seq, is_fix):
    """The first frame of a message that has an instrument's whole book."""
    cursor = state.cursor[0]
    cursor.loading = NONE
    sequence, chunk, chunks = np.uint64(0), np.uint64(1), np.uint64(1)
    books, dated = 1 << BY_PRICE_BOOK, False
    if is_fix:
        has_id, _ = read_entry_id(payload, frame)
        if has_id:
            books = 1 << BY_ORDER_BOOK
        for book in range(BOOKS):
            # It replaces whatever was said of the instrument before.
            if state.books[number * BOOKS + book].used:
                books |= 1 << book
    else:
        template = places.templates[row]
        dated = template.is_dated
        if template.is_by_order:
            books = 1 << BY_ORDER_BOOK
        its = places.places[row, frame.kind]
        _, sequence = read_place(places, its[LAST_SEQUENCE], payload, frame)
        has_chunk, value = read_place(places, its[CHUNK], payload, frame)
        if has_chunk:
            chunk = value
            has_chunk, value = read_place(places, its[CHUNKS], payload, frame)
            chunks = value if has_chunk else chunk
        has_status, value = read_place(places, its[STATUS], payload, frame)
        if has_status:
            set_status(state, number, np.uint8(value))
    loading = 0
    for book in range(BOOKS):
        if books >> book & 1:
            if begin_snapshot(
                state, number, book, dated, np.uint32(sequence), rpt_seq, np.int64(chunk), frame.timestamp
            ):
                loading |= 1 << book
            else:
                state.channels[state.instruments[number].channel].snapshots_passed += 1
    if loading:
        cursor.loading = number
        cursor.loading_books = loading
        cursor.loading_sequence = np.uint32(sequence)
        cursor.loading_number = rpt_seq
        cursor.load_dated = dated
        cursor.load_ends = chunk == chunks


@njit(**INLINED)
def take_order_id(state, places, row, frame, payload, update, is_fix):
    """See whether an update is an order's, and whose."""
    if is_fix:
        has_id, order_id = read_entry_id(payload, frame)
        if has_id:
            make_by_order(update, order_id, np.uint64(0))
    elif row != NONE:
        its = places.places[row, frame.kind]
        has_id, order_id = read_place(places, its[ORDER_ID], payload, frame)
        if has_id:
            _, priority = read_place(places, its[PRIORITY], payload, frame)
            make_by_order(update, order_id, priority)


@njit(**KERNEL)
def take_order_entry(state, update):
    """An order's share of a level's update."""
    take_update(state, update)


@njit(**KERNEL)
def take_snapshot_entry(state, places, row, frame, payload, update, is_fix):
    """A level or an order of a snapshot that is being loaded."""
    take_order_id(state, places, row, frame, payload, update, is_fix)
    number = np.int64(update.instrument)
    update.action = NEW
    if (
        update.level != NONE
        and update.side != NO_SIDE
        and update.level < state.sides[number * SIDES + update.side].count
    ):
        # It was a hole until now.
        update.action = OVERLAY
    state.books[number * BOOKS + update.book].used = True
    if update.side == NO_SIDE or not apply(state, update, VALID):
        state.cursor[0].load_ends = False


@njit(**KERNEL)
def walk(state, places, depths, frames, payload, first, looked):
    """Take frames from ``first`` on. Returns the index of the first one that is not taken, and why (Need). ``looked``: the first one
    has been looked at in Python."""
    cursor = state.cursor[0]
    contiguous = state.settings[0].contiguous
    update = state.update[0]
    for index in range(first, frames.size):
        frame = frames[index]
        kind = frame.kind
        flow = np.int64(frame.flow)
        if flow >= state.feeds.size or state.feeds[flow].channel == NONE:
            if kind == GAP and flow == NO_FLOW:
                doubt_all(state, NONE)
            continue
        need = needs(state)
        if need != DONE:
            return index, need
        feed = state.feeds[flow]
        channel_number = np.int64(feed.channel)
        is_new_message = (
            cursor.message_offset != np.int64(frame.payload_offset)
            or cursor.message_flow != flow
            or cursor.message_timestamp != frame.timestamp
        )
        if is_new_message and cursor.message_offset != NONE:
            end_message(state)
            # What the message's end took may have to be made again.
            need = needs(state)
            if need != DONE:
                return index, need
        interval = state.settings[0].interval
        if interval != 0 and frame.timestamp >= cursor.grid:
            end_interval(state)
            cursor.grid = (frame.timestamp // interval + np.uint64(1)) * interval
        # What FIX could not read has no number, and in a GAP frame it is a count of bytes.
        is_counted = kind != GAP and not (kind == MALFORMED and feed.fix)
        if is_counted and (
            cursor.packet_sequence != frame.sequence
            or cursor.packet_flow != flow
            or cursor.packet_timestamp != frame.timestamp
        ):
            begin_packet(state, channel_number, feed.role, frame.sequence, flow, frame.timestamp)
        if is_counted and cursor.packet_passed:
            continue
        if kind in (GAP, MALFORMED):
            if kind == MALFORMED:
                cursor.malformed += 1
            doubt_all(state, channel_number)
            continue
        is_fix = feed.fix
        row = np.int64(NONE)
        if not is_fix and np.int64(frame.message_type) < places.rows.size:
            row = np.int64(places.rows[frame.message_type])
        if is_new_message:
            cursor.message_offset = np.int64(frame.payload_offset)
            cursor.message_flow = flow
            cursor.message_timestamp = frame.timestamp
            cursor.message_channel = channel_number
            cursor.message_ends_event = True
            if row != NONE:
                there, value = read_place(places, places.places[row, kind, END_OF_EVENT], payload, frame)
                if there:
                    cursor.message_ends_event = (value >> np.uint64(places.end_of_event_bit)) & np.uint64(1) != 0
        is_for_python = kind == DEFINITION or (kind == STATUS_KIND and frame.instrument == 0)
        if is_for_python and is_new_message and not (looked and index == first):
            # It comes again, as a message that has not begun.
            cursor.message_offset = NONE
            return index, LOOK
        if kind == DEFINITION:
            continue

        is_snapshot = (
            frame.message_type == FIX_SNAPSHOT if is_fix else row != NONE and places.templates[row].is_snapshot
        )
        if kind == DETAIL:
            if row == NONE:
                continue
            there, reference = read_place(places, places.places[row, kind, ENTRY], payload, frame)
            if not there or reference == 0 or reference > np.uint64(cursor.entries):
                continue
            entry = state.entries[np.int64(reference) - 1]
            number = find_instrument(state, channel_number, entry.instrument, depths)
            if number == NONE:
                continue
            fill_update(state, update, frame, number, np.uint32(0))
            update.side = SIDE_OF_ENTRY[entry.entry_type]
            update.price = entry.price
            update.has_price = entry.has_price
            take_order_id(state, places, row, frame, payload, update, is_fix)
            if update.book == BY_ORDER_BOOK:
                take_order_entry(state, update)
            continue
        is_empty_snapshot = kind == OTHER and is_snapshot
        if kind not in (BOOK_UPDATE, TRADE, STATISTIC, STATUS_KIND) and not is_empty_snapshot:
            continue
        if frame.instrument == 0:
            if kind == BOOK_UPDATE and frame.entry_type == RESET_ENTRY:
                reset_channel(state, channel_number, frame.timestamp)
            continue
        number = find_instrument(state, channel_number, frame.instrument, depths)
        if number == NONE:
            continue
        rpt_seq = frame.instrument_sequence if contiguous else np.uint32(0)
        if kind == STATUS_KIND:
            if row != NONE:
                there, value = read_place(places, places.places[row, kind, STATUS], payload, frame)
                if there:
                    set_status(state, number, np.uint8(value))
            continue
        if cursor.entries < state.entries.size:
            entry = state.entries[cursor.entries]
            cursor.entries += 1
            entry.instrument = frame.instrument
            entry.price = frame.price
            entry.entry_type = frame.entry_type
            entry.has_price = frame.flags & NO_PRICE == 0
        aggressor = np.uint64(0)
        if kind == TRADE and row != NONE:
            _, aggressor = read_place(places, places.places[row, kind, AGGRESSOR], payload, frame)
        fill_update(state, update, frame, number, rpt_seq)
        if is_snapshot:
            if is_new_message:
                start_snapshot(state, places, row, frame, payload, number, rpt_seq, is_fix)
            if cursor.loading != number:
                continue
            if kind == BOOK_UPDATE and frame.entry_type != RESET_ENTRY:
                take_snapshot_entry(state, places, row, frame, payload, update, is_fix)
            elif kind == TRADE:
                take_trade(state, number, frame, np.uint8(0), False)
            elif kind == STATISTIC:
                take_statistic(state, number, frame)
            continue
        if not judge_number(state, number, rpt_seq, update):
            continue
        if kind == BOOK_UPDATE and frame.entry_type != RESET_ENTRY:
            take_order_id(state, places, row, frame, payload, update, is_fix)
            if update.side == NO_SIDE and update.book == BY_PRICE_BOOK:
                continue
            take_update(state, update)
            continue
        if kind == BOOK_UPDATE:
            reset(state, number, frame.timestamp)
        elif kind == TRADE:
            take_trade(state, number, frame, np.uint8(aggressor), True)
        else:
            take_statistic(state, number, frame)
        update.action = NOTHING
        update.book = BY_PRICE_BOOK
        take_number(state, update)
    return frames.size, DONE


@njit(**KERNEL)
def finish(state):
    """There are no more frames: end what is open."""
    end_message(state)
    for channel in range(state.channels.size):
        end_event(state, channel)
    if state.settings[0].interval != 0:
        end_interval(state)
