"""Price-time-priority matching of one node, compiled, on the arrays of ``host.cluster.book``.

Rules (FIX 4.4, volume 4, order state changes): the best price trades first, at one price the oldest order; a trade
has the resting order's price. Market and IOC orders cancel what they cannot trade at once, FOK orders trade whole
or not at all, Day and GTC limit orders rest (ending the day is not the node's business). A replace keeps its
priority only if the price stays and the quantity does not go up; otherwise it is as a new order, and may trade.
"""

import numpy as np
from numba import njit

from hdl.frame import Kind, OrderType, TimeInForce
from host.cluster.book import (
    BID,
    NONE,
    QUANTITY_LIMIT,
    direction_of,
    find_book,
    find_level,
    find_order,
    free_order,
    index,
    rest,
    take_order,
    unindex,
    unrest,
)
from host.cluster.order_key import text_key
from host.cluster.report import Reason, ReportKind
from host.journal.batch import ACCEPTED

_LIMIT_QUANTITY = np.uint64(QUANTITY_LIMIT)
_CANCEL, _REPLACE = int(Kind.CANCEL), int(Kind.REPLACE)
_LIMIT, _IOC, _FOK = int(OrderType.LIMIT), int(TimeInForce.IMMEDIATE_OR_CANCEL), int(TimeInForce.FILL_OR_KILL)
_NEW, _PARTIAL_FILL, _FILL = int(ReportKind.NEW), int(ReportKind.PARTIAL_FILL), int(ReportKind.FILL)
_CANCELED, _REPLACED = int(ReportKind.CANCELED), int(ReportKind.REPLACED)
_REJECTED, _CANCEL_REJECTED = int(ReportKind.REJECTED), int(ReportKind.CANCEL_REJECTED)
_OK, _BY_CLIENT, _NOTHING = int(Reason.NONE), int(Reason.CANCELED_BY_CLIENT), int(Reason.NOTHING_TO_MATCH)
_NOT_WHOLE, _UNKNOWN, _DUPLICATE = int(Reason.NOT_FILLED_WHOLE), int(Reason.UNKNOWN_ORDER), int(Reason.DUPLICATE_ORDER)
_ORDERS_FULL, _INSTRUMENTS_FULL = int(Reason.ORDERS_FULL), int(Reason.INSTRUMENTS_FULL)
_QUANTITY, _BELOW_FILLED = int(Reason.QUANTITY_OUT_OF_RANGE), int(Reason.BELOW_FILLED)
_SIDE_CHANGED, _UNSUPPORTED_REPLACE = int(Reason.SIDE_CHANGED), int(Reason.UNSUPPORTED_REPLACE)

_REPORTS_BESIDE_FILLS = 2
"""Reports that one message causes beside its fills: NEW or REPLACED, and CANCELED."""


@njit(cache=True, _nrt=False)
def _key(frame, payload, offset):
    """The key of the identifier at ``offset`` of the frame's message."""
    begin = np.int64(frame.payload_offset)
    end = min(begin + np.int64(frame.payload_length), payload.shape[0])
    return text_key(payload, min(begin + np.int64(offset), end), end, np.uint64(frame.flow))


@njit(cache=True, _nrt=False)
def _refuse(output, frame, sequence, kind, reason, low, high):
    """Reports that a message was rejected; ``low``, ``high`` is its own ClOrdID's key."""
    report = output.reports[output.written[0]]
    output.written[0] += 1
    report.kind = kind
    report.reason = reason
    report.side = frame.side
    report.node = output.node
    report.flow = frame.flow
    report.instrument = frame.instrument
    report.key_low = low
    report.key_high = high
    report.order_sequence = sequence
    report.sequence = sequence
    report.timestamp = frame.timestamp
    report.execution = 0
    report.price = frame.price
    report.quantity = frame.quantity
    report.leaves = 0
    report.cumulative = 0


@njit(cache=True, _nrt=False)
def _tell(output, frame, sequence, kind, reason, order, price, quantity, leaves, execution):
    """Reports what happened to an order (a record) because of the message ``frame``."""
    report = output.reports[output.written[0]]
    output.written[0] += 1
    report.kind = kind
    report.reason = reason
    report.side = order.side
    report.node = output.node
    report.flow = order.flow
    report.instrument = frame.instrument
    report.key_low = order.key_low
    report.key_high = order.key_high
    report.order_sequence = order.sequence
    report.sequence = sequence
    report.timestamp = frame.timestamp
    report.execution = execution
    report.price = price
    report.quantity = quantity
    report.leaves = leaves
    report.cumulative = order.cumulative


@njit(cache=True, _nrt=False)
def _crosses(direction, limited, limit, price):
    """Whether an order of this direction trades at a resting order's ``price``."""
    if not limited:
        return True
    return price <= limit if direction == BID else price >= limit


@njit(cache=True, _nrt=False)
def _available(state, book, direction, limited, limit, wanted):
    """(quantity, orders) that an order would find, counted by levels until ``wanted`` is reached."""
    quantity, orders = np.uint64(0), 0
    level = state.books[book].best[1 - direction]
    while level != NONE and quantity < wanted and _crosses(direction, limited, limit, state.levels[level].price):
        quantity += state.levels[level].quantity
        order = state.levels[level].first
        while order != NONE:
            orders += 1
            order = state.orders[order].next
        level = state.levels[level].next
    return quantity, orders


@njit(cache=True, _nrt=False)
def _match(state, output, frame, sequence, taker, book, direction, limited, limit):
    """Trades an order that does not rest yet against the other side, until it is filled or nothing crosses."""
    taking = state.orders[taker]
    while taking.leaves > 0:
        level = state.books[book].best[1 - direction]
        if level == NONE or not _crosses(direction, limited, limit, state.levels[level].price):
            break
        price = state.levels[level].price
        maker = state.levels[level].first
        making = state.orders[maker]
        traded = min(taking.leaves, making.leaves)
        state.levels[level].quantity -= traded
        state.counters[0].trades += np.uint64(1)
        execution = state.counters[0].trades
        taking.leaves -= traded
        taking.cumulative += traded
        making.leaves -= traded
        making.cumulative += traded
        kind = _FILL if taking.leaves == 0 else _PARTIAL_FILL
        _tell(output, frame, sequence, kind, _OK, taking, price, traded, taking.leaves, execution)
        kind = _FILL if making.leaves == 0 else _PARTIAL_FILL
        _tell(output, frame, sequence, kind, _OK, making, price, traded, making.leaves, execution)
        if making.leaves == 0:
            unindex(state, maker)
            unrest(state, maker)
            free_order(state, maker)


@njit(cache=True, _nrt=False)
def _settle(state, output, frame, sequence, order, book, direction, resting, reason):
    """After matching: what is left rests or is canceled."""
    row = state.orders[order]
    if row.leaves > 0 and resting:
        rest(state, order, book, direction)
        index(state, order)
        return
    if row.leaves > 0:
        whole = row.leaves + row.cumulative
        _tell(output, frame, sequence, _CANCELED, reason, row, row.price, whole, np.uint64(0), 0)
    free_order(state, order)


@njit(cache=True, _nrt=False)
def _new_order(state, output, frame, payload, sequence):
    low, high = _key(frame, payload, frame.client_order_id)
    quantity = frame.quantity
    limited = frame.order_type == _LIMIT
    resting = limited and frame.time_in_force != _IOC and frame.time_in_force != _FOK
    direction = direction_of(frame.side)
    if quantity == 0 or quantity > _LIMIT_QUANTITY:
        return _refuse(output, frame, sequence, _REJECTED, _QUANTITY, low, high)
    if find_order(state, low, high) != NONE:
        return _refuse(output, frame, sequence, _REJECTED, _DUPLICATE, low, high)
    book = find_book(state, frame.instrument, True)
    if book == NONE:
        return _refuse(output, frame, sequence, _REJECTED, _INSTRUMENTS_FULL, low, high)
    if resting:
        level, _ = find_level(state, book, direction, frame.price)
        if level != NONE and state.levels[level].quantity + quantity > _LIMIT_QUANTITY:
            return _refuse(output, frame, sequence, _REJECTED, _QUANTITY, low, high)
    order = take_order(state)
    if order == NONE:
        return _refuse(output, frame, sequence, _REJECTED, _ORDERS_FULL, low, high)
    row = state.orders[order]
    row.key_low = low
    row.key_high = high
    row.price = frame.price if limited else 0
    row.leaves = quantity
    row.cumulative = 0
    row.sequence = sequence
    row.flow = frame.flow
    row.side = frame.side
    _tell(output, frame, sequence, _NEW, _OK, row, row.price, quantity, quantity, 0)
    reason = _NOTHING
    if frame.time_in_force == _FOK and _available(state, book, direction, limited, frame.price, quantity)[0] < quantity:
        reason = _NOT_WHOLE
    else:
        _match(state, output, frame, sequence, order, book, direction, limited, frame.price)
    _settle(state, output, frame, sequence, order, book, direction, resting, reason)


@njit(cache=True, _nrt=False)
def _open_order(state, frame, payload):
    """The open order that a cancel or replace names by OrigClOrdID (tag 41), or NONE."""
    low, high = _key(frame, payload, frame.original_order_id)
    order = find_order(state, low, high)
    if order == NONE:
        return order
    book = state.levels[state.orders[order].level].book
    return order if state.books[book].instrument == frame.instrument else np.int64(NONE)


@njit(cache=True, _nrt=False)
def _cancel(state, output, frame, payload, sequence):
    order = _open_order(state, frame, payload)
    if order == NONE:
        low, high = _key(frame, payload, frame.client_order_id)
        return _refuse(output, frame, sequence, _CANCEL_REJECTED, _UNKNOWN, low, high)
    row = state.orders[order]
    whole = row.leaves + row.cumulative
    _tell(output, frame, sequence, _CANCELED, _BY_CLIENT, row, row.price, whole, np.uint64(0), 0)
    unindex(state, order)
    unrest(state, order)
    free_order(state, order)


@njit(cache=True, _nrt=False)
def _replace(state, output, frame, payload, sequence):
    low, high = _key(frame, payload, frame.client_order_id)
    order = _open_order(state, frame, payload)
    if order == NONE:
        return _refuse(output, frame, sequence, _CANCEL_REJECTED, _UNKNOWN, low, high)
    if frame.order_type != _LIMIT or frame.time_in_force == _IOC or frame.time_in_force == _FOK:
        return _refuse(output, frame, sequence, _CANCEL_REJECTED, _UNSUPPORTED_REPLACE, low, high)
    row = state.orders[order]
    quantity = frame.quantity
    if frame.side != row.side:
        return _refuse(output, frame, sequence, _CANCEL_REJECTED, _SIDE_CHANGED, low, high)
    if quantity <= row.cumulative:
        return _refuse(output, frame, sequence, _CANCEL_REJECTED, _BELOW_FILLED, low, high)
    other = find_order(state, low, high)
    if other != NONE and other != order:
        return _refuse(output, frame, sequence, _CANCEL_REJECTED, _DUPLICATE, low, high)
    leaves = quantity - row.cumulative
    book = np.int64(state.levels[row.level].book)
    direction = np.int64(state.levels[row.level].direction)
    level, _ = find_level(state, book, direction, frame.price)
    beside = np.uint64(0)
    if level != NONE:
        beside = state.levels[level].quantity
    if level == row.level:
        beside -= row.leaves
    if quantity > _LIMIT_QUANTITY or beside + leaves > _LIMIT_QUANTITY:
        return _refuse(output, frame, sequence, _CANCEL_REJECTED, _QUANTITY, low, high)
    keeps_priority = frame.price == row.price and leaves <= row.leaves
    unindex(state, order)
    if keeps_priority:
        state.levels[level].quantity -= row.leaves - leaves
    else:
        unrest(state, order)
    row.key_low = low
    row.key_high = high
    row.sequence = sequence
    row.price = frame.price
    row.leaves = leaves
    _tell(output, frame, sequence, _REPLACED, _OK, row, row.price, quantity, leaves, 0)
    if keeps_priority:
        index(state, order)
        return
    _match(state, output, frame, sequence, order, book, direction, True, frame.price)
    _settle(state, output, frame, sequence, order, book, direction, True, _NOTHING)


@njit(cache=True, _nrt=False)
def _reports_needed(state, frame):
    """At most so many reports can come of this message."""
    if frame.kind == _CANCEL:
        return _REPORTS_BESIDE_FILLS
    book = find_book(state, frame.instrument, False)
    direction = direction_of(frame.side)
    if book == NONE or state.books[book].orders[1 - direction] == 0:
        return _REPORTS_BESIDE_FILLS
    limited = frame.order_type == _LIMIT
    return _REPORTS_BESIDE_FILLS + 2 * _available(state, book, direction, limited, frame.price, frame.quantity)[1]


@njit(cache=True, nogil=True, _nrt=False)
def apply_orders(state, output, frames, decisions, payload, first_sequence, begin):
    """Applies the node's orders of a batch from index ``begin`` on.

    Returns (next index, reports needed): less than all orders when ``output.reports`` has no room for that many more.
    """
    counters = state.counters[0]
    for position in range(begin, frames.shape[0]):
        if decisions[position].verdict != ACCEPTED or decisions[position].node != output.node:
            continue
        sequence = np.uint64(first_sequence) + np.uint64(position)
        if sequence <= counters.last_sequence:
            counters.repeated += np.uint64(1)
            continue
        frame = frames[position]
        room = output.reports.shape[0] - output.written[0]
        # Few orders can fill more than what is always left over; only near the end is it counted.
        if room < _REPORTS_BESIDE_FILLS + 2 * counters.open_orders:
            needed = _reports_needed(state, frame)
            if room < needed:
                return position, needed
        counters.last_sequence = sequence
        counters.applied += np.uint64(1)
        if frame.kind == _CANCEL:
            _cancel(state, output, frame, payload, sequence)
        elif frame.kind == _REPLACE:
            _replace(state, output, frame, payload, sequence)
        else:
            _new_order(state, output, frame, payload, sequence)
    return frames.shape[0], 0


@njit(cache=True, _nrt=False)
def dump_orders(state, books, rows):
    """Writes every open order, book by book and in priority, as 8 words a row; returns the rows written."""
    count = 0
    for book in books:
        for direction in range(2):
            level = state.books[book].best[direction]
            while level != NONE:
                order = state.levels[level].first
                while order != NONE:
                    row = state.orders[order]
                    rows[count, 0] = state.books[book].instrument
                    rows[count, 1] = row.key_low
                    rows[count, 2] = row.key_high
                    rows[count, 3] = np.uint64(row.price)
                    rows[count, 4] = row.leaves
                    rows[count, 5] = row.cumulative
                    rows[count, 6] = row.sequence
                    rows[count, 7] = np.uint64(row.flow) | (np.uint64(row.side) << np.uint64(16))
                    count += 1
                    order = row.next
                level = state.levels[level].next
    return count
