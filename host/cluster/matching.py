"""Price-time-priority matching of one node, compiled, on the arrays of ``host.cluster.book``. docs/gateway.md, "Nodes", has the
rules; FIX 4.4, volume 4, order state changes, stands behind them.

What is done for nearly every order is inlined: a call hands over all arrays of the state, seven words each.
"""

import numpy as np
from numba import njit

from hdl.frame import Kind, OrderType, TimeInForce
from host.cluster.book import (
    MOST_DISPLAYS,
    QUANTITY_LIMIT,
    STOPS,
    direction_of,
    displays_of,
    find_book,
    free_order,
    make_book,
    take_order,
)
from host.cluster.ladder import find_level, move_to_end, rest, unrest
from host.cluster.order_index import NONE, find_order, index, unindex
from host.cluster.order_key import prefetch_message, prefetch_row, prefetch_to_read, text_key
from host.cluster.order_terms import read_terms
from host.cluster.report import Reason, ReportKind
from host.cluster.self_trade import CANCEL_NEWEST, CANCEL_OLDEST, tradable, would_self_trade
from host.journal.batch import ACCEPTED
from host.memory import INLINED, KERNEL

CAUSE_DTYPE = np.dtype(
    [
        ("written", "i8"),
        ("sequence", "u8"),
        ("timestamp", "u8"),
        ("instrument", "u8"),
        ("node", "i8"),
        ("account", "u4"),
        ("self_trade", "u4"),
    ]
)
"""How many reports are written, what stands in all reports that one message causes, and what risk decided of its order."""

_MOST = np.uint64(QUANTITY_LIMIT)
_MOST_DISPLAYS = np.uint64(MOST_DISPLAYS)
_CANCEL, _REPLACE = int(Kind.CANCEL), int(Kind.REPLACE)
_MARKET, _LIMIT = int(OrderType.MARKET), int(OrderType.LIMIT)
_STOP, _STOP_LIMIT = int(OrderType.STOP), int(OrderType.STOP_LIMIT)
_ABSENT, _DAY = int(TimeInForce.ABSENT), int(TimeInForce.DAY)
_IOC, _FOK = int(TimeInForce.IMMEDIATE_OR_CANCEL), int(TimeInForce.FILL_OR_KILL)
_NEW, _PARTIAL_FILL, _FILL = int(ReportKind.NEW), int(ReportKind.PARTIAL_FILL), int(ReportKind.FILL)
_CANCELED, _REPLACED, _TRIGGERED = int(ReportKind.CANCELED), int(ReportKind.REPLACED), int(ReportKind.TRIGGERED)
_REJECTED, _CANCEL_REJECTED = int(ReportKind.REJECTED), int(ReportKind.CANCEL_REJECTED)
_OK, _BY_CLIENT, _NOTHING = int(Reason.NONE), int(Reason.CANCELED_BY_CLIENT), int(Reason.NOTHING_TO_MATCH)
_NOT_WHOLE, _UNKNOWN, _DUPLICATE = int(Reason.NOT_FILLED_WHOLE), int(Reason.UNKNOWN_ORDER), int(Reason.DUPLICATE_ORDER)
_ORDERS_FULL, _INSTRUMENTS_FULL = int(Reason.ORDERS_FULL), int(Reason.INSTRUMENTS_FULL)
_QUANTITY, _BELOW_FILLED = int(Reason.QUANTITY_OUT_OF_RANGE), int(Reason.BELOW_FILLED)
_SIDE_CHANGED, _UNSUPPORTED_REPLACE = int(Reason.SIDE_CHANGED), int(Reason.UNSUPPORTED_REPLACE)
_NO_STOP_PRICE, _NO_STOP_ORDER = int(Reason.NO_STOP_PRICE), int(Reason.NO_STOP_ORDER)
_STOP_MUST_WAIT, _MUST_REST = int(Reason.STOP_MUST_WAIT), int(Reason.MUST_REST)
_DISPLAY_TOO_SMALL, _WOULD_TRADE = int(Reason.DISPLAY_TOO_SMALL), int(Reason.WOULD_TRADE)
_SELF_TRADE = int(Reason.SELF_TRADE)

LOOKAHEAD = 16
"""Orders whose identifiers are hashed, and whose places in the index and open orders are fetched, before they are applied: a
fetch from memory takes as long as much of what is done with an order."""

REPORTS_BESIDE = 2
"""Reports that one message causes beside its fills and what it triggers: NEW or REPLACED, and CANCELED."""

REPORTS_PER_DISPLAY = 4
"""Most reports for each time that an open order shows something: a trade ends what one of its two sides shows or has, and gives
two; an order that is triggered gives TRIGGERED and perhaps CANCELED besides."""


@njit(**INLINED)
def _key(frame, payload, offset):
    """The key of the identifier at ``offset`` of the frame's message."""
    begin = np.int64(frame.payload_offset)
    end = min(begin + np.int64(frame.payload_length), payload.shape[0])
    return text_key(payload, min(begin + np.int64(offset), end), end, np.uint64(frame.flow))


@njit(**INLINED)
def _terms(frame, payload):
    begin = np.int64(frame.payload_offset)
    return read_terms(payload, begin, min(begin + np.int64(frame.payload_length), payload.shape[0]))


@njit(**INLINED)
def _next_report(output):
    """A record of the report buffer, in which what all reports of a message share is written. Its room has been checked."""
    cause = output.cause[0]
    report = output.reports[cause.written]
    cause.written += 1
    report.node = cause.node
    report.instrument = cause.instrument
    report.sequence = cause.sequence
    report.timestamp = cause.timestamp
    return report


@njit(**KERNEL)
def _refuse(output, frame, kind, reason, low, high):
    """Reports that a message was rejected; ``low``, ``high`` is its own ClOrdID's key."""
    report = _next_report(output)
    report.kind = kind
    report.reason = reason
    report.side = frame.side
    report.flow = frame.flow
    report.key_low = low
    report.key_high = high
    report.order_sequence = report.sequence
    report.execution = 0
    report.price = frame.price
    report.quantity = frame.quantity
    report.leaves = 0
    report.cumulative = 0


@njit(**INLINED)
def _report(output, order, kind, reason, price, quantity, leaves, execution):
    """Reports what happened to an order (a record)."""
    report = _next_report(output)
    report.kind = kind
    report.reason = reason
    report.side = order.side
    report.flow = order.flow
    report.key_low = order.key_low
    report.key_high = order.key_high
    report.order_sequence = order.sequence
    report.execution = execution
    report.price = price
    report.quantity = quantity
    report.leaves = leaves
    report.cumulative = order.cumulative


@njit(**INLINED)
def _tell(output, order, kind, reason):
    """Reports an event of an order (a record) as it stands now."""
    _report(output, order, kind, reason, order.price, order.leaves + order.cumulative, order.leaves, 0)


@njit(**INLINED)
def _end(state, output, order, book, kind, reason):
    """Reports the end of an order that stands in no level and in no index any more, and gives its row back."""
    row = state.orders[order]
    _report(output, row, kind, reason, row.price, row.leaves + row.cumulative, np.uint64(0), 0)
    free_order(state, order, book)


@njit(**INLINED)
def _crosses(direction, limited, limit, price):
    """Whether an order of this direction trades at a resting order's ``price``."""
    if not limited:
        return True
    return price <= limit if direction == 0 else price >= limit


@njit(**INLINED)
def _would_trade(state, book, direction, limit):
    """Whether a limit order would trade as it comes."""
    level = state.books[book].best[1 - direction]
    return level != NONE and _crosses(direction, True, limit, state.levels[level].price)


@njit(**KERNEL)
def _available(state, book, direction, limited, order):
    """Whether an order (a record) would find as much as it wants, hidden quantity included."""
    quantity, wanted, limit = np.uint64(0), order.leaves, order.price
    level = state.books[book].best[1 - direction]
    while level != NONE and quantity < wanted and _crosses(direction, limited, limit, state.levels[level].price):
        more, goes_on = tradable(state, level, order)
        quantity += more
        if not goes_on:
            break
        level = state.levels[level].next
    return quantity >= wanted


@njit(**KERNEL)
def _trigger(state, order):
    """Takes a stop order out of its ladder and lets it wait until the present order is done."""
    counters = state.counters[0]
    unindex(state, order)
    unrest(state, order)
    _wait(state, counters, order)


@njit(**KERNEL)
def _wait(state, counters, order):
    """Puts a triggered order, which stands in no ladder, behind those that were triggered before."""
    state.orders[order].next = NONE
    if counters.last_triggered == NONE:
        counters.first_triggered = order
    else:
        state.orders[counters.last_triggered].next = order
    counters.last_triggered = order


@njit(**INLINED)
def _is_reached(direction, stop_price, price):
    """Whether a trade at ``price`` triggers a stop order."""
    return price >= stop_price if direction == 0 else price <= stop_price


@njit(**KERNEL)
def _trigger_at(state, book, price):
    """Triggers what a trade at ``price`` reaches: buy stops from the lowest stop price up, then sell stops from the highest down;
    at one stop price the oldest first."""
    for direction in range(2):
        while True:
            level = state.books[book].best[STOPS + direction]
            if level == NONE or not _is_reached(direction, state.levels[level].price, price):
                break
            _trigger(state, np.int64(state.levels[level].first))


@njit(**INLINED)
def _match(state, output, taker, book, direction, limited):
    """Trades an order that does not rest yet against the other side, until it is filled or nothing crosses. Returns whether
    it is to be canceled, because it would trade with its own account."""
    taking = state.orders[taker]
    limit = taking.price
    row = state.books[book]
    while taking.leaves > 0:
        level = np.int64(row.best[1 - direction])
        if level == NONE or not _crosses(direction, limited, limit, state.levels[level].price):
            break
        price = state.levels[level].price
        maker = np.int64(state.levels[level].first)
        making = state.orders[maker]
        if would_self_trade(taking, making):
            if taking.self_trade != CANCEL_NEWEST:
                _remove(state, output, maker, _CANCELED, _SELF_TRADE)
            if taking.self_trade != CANCEL_OLDEST:
                return True
            continue
        traded = min(taking.leaves, making.shown)
        state.levels[level].quantity -= traded
        state.counters[0].trades += np.uint64(1)
        execution = state.counters[0].trades
        taking.leaves -= traded
        taking.cumulative += traded
        making.leaves -= traded
        making.shown -= traded
        making.cumulative += traded
        row.last_price = price
        row.traded = 1
        kind = _FILL if taking.leaves == 0 else _PARTIAL_FILL
        _report(output, taking, kind, _OK, price, traded, taking.leaves, execution)
        kind = _FILL if making.leaves == 0 else _PARTIAL_FILL
        _report(output, making, kind, _OK, price, traded, making.leaves, execution)
        if making.leaves == 0:
            unindex(state, maker)
            unrest(state, maker)
            free_order(state, maker, book)
        elif making.shown == 0:
            making.shown = min(making.display, making.leaves)
            move_to_end(state, maker)
        if row.best[STOPS] != NONE or row.best[STOPS + 1] != NONE:
            _trigger_at(state, book, price)
    return False


@njit(**KERNEL)
def _enter(state, output, order, book):
    """Lets a market or limit order trade, and what is left of it rest or end."""
    row = state.orders[order]
    direction = direction_of(row.side)
    limited = row.order_type == _LIMIT
    reason = _NOTHING
    if row.time_in_force == _FOK and not _available(state, book, direction, limited, row):
        reason = _NOT_WHOLE
    elif row.post_only and _would_trade(state, book, direction, row.price):
        reason = _WOULD_TRADE
    elif _match(state, output, order, book, direction, limited):
        reason = _SELF_TRADE
    else:
        if row.leaves == 0:
            return free_order(state, order, book)
        if limited and row.time_in_force != _IOC and row.time_in_force != _FOK:
            row.shown = min(row.display, row.leaves)
            if rest(state, order, book, direction, row.price):
                return index(state, order)
            reason = _QUANTITY
    _end(state, output, order, book, _CANCELED, reason)


@njit(**KERNEL)
def _enter_stop(state, output, order, book, stop_price):
    """Lets a stop order wait, or triggers it where the last trade has reached its stop price already."""
    row = state.orders[order]
    row.shown = 0
    direction = direction_of(row.side)
    if state.books[book].traded and _is_reached(direction, stop_price, state.books[book].last_price):
        _wait(state, state.counters[0], order)
    elif rest(state, order, book, STOPS + direction, stop_price):
        index(state, order)
    else:
        _end(state, output, order, book, _CANCELED, _QUANTITY)


@njit(**KERNEL)
def _enter_triggered(state, output, book):
    """Lets triggered orders enter one after the other, those that they trigger too. Each was a stop order and none is one again,
    so it ends."""
    counters = state.counters[0]
    while counters.first_triggered != NONE:
        order = counters.first_triggered
        row = state.orders[order]
        counters.first_triggered = np.int64(row.next)
        if row.next == NONE:
            counters.last_triggered = NONE
        row.order_type = _LIMIT if row.order_type == _STOP_LIMIT else _MARKET
        _tell(output, row, _TRIGGERED, _OK)
        _enter(state, output, order, book)


@njit(**INLINED)
def _is_stop(order_type):
    return order_type in (_STOP, _STOP_LIMIT)


@njit(**KERNEL)
def _misfit(frame, stopped, display, post_only, leaves):
    """Why an order's terms do not fit it, or Reason.NONE."""
    waiting = _is_stop(frame.order_type)
    at_once = frame.time_in_force == _IOC or frame.time_in_force == _FOK
    if waiting and not stopped:
        return _NO_STOP_PRICE
    if stopped and not waiting:
        return _NO_STOP_ORDER
    if waiting and at_once:
        return _STOP_MUST_WAIT
    limited = frame.order_type == _LIMIT or frame.order_type == _STOP_LIMIT
    if (post_only or display != _MOST) and (at_once or not limited):
        return _MUST_REST
    if leaves > display and (leaves - np.uint64(1)) // display >= _MOST_DISPLAYS:
        return _DISPLAY_TOO_SMALL
    return _OK


@njit(**INLINED)
def _write_terms(row, frame, low, high, cause, display, post_only):
    """Enters in an order what a message says of it, and what risk decided."""
    row.key_low = low
    row.key_high = high
    row.sequence = cause.sequence
    row.account = cause.account
    row.self_trade = cause.self_trade
    row.price = frame.price if frame.order_type == _LIMIT or frame.order_type == _STOP_LIMIT else 0
    row.order_type = frame.order_type
    row.time_in_force = _DAY if frame.time_in_force == _ABSENT else frame.time_in_force
    row.display = display
    row.post_only = post_only


@njit(**KERNEL)
def _new_order(state, output, frame, payload, low, high):
    quantity = frame.quantity
    if quantity == 0 or quantity > _MOST:
        return _refuse(output, frame, _REJECTED, _QUANTITY, low, high)
    if find_order(state, low, high) != NONE:
        return _refuse(output, frame, _REJECTED, _DUPLICATE, low, high)
    reason, stopped, stop_price, display, post_only = _terms(frame, payload)
    if reason == _OK:
        reason = _misfit(frame, stopped, display, post_only, quantity)
    if reason != _OK:
        return _refuse(output, frame, _REJECTED, reason, low, high)
    book = make_book(state, frame.instrument)
    if book == NONE:
        return _refuse(output, frame, _REJECTED, _INSTRUMENTS_FULL, low, high)
    direction = direction_of(frame.side)
    if post_only and frame.order_type == _LIMIT and _would_trade(state, book, direction, frame.price):
        return _refuse(output, frame, _REJECTED, _WOULD_TRADE, low, high)
    order = take_order(state, book, displays_of(quantity, display))
    if order == NONE:
        return _refuse(output, frame, _REJECTED, _ORDERS_FULL, low, high)
    row = state.orders[order]
    _write_terms(row, frame, low, high, output.cause[0], display, post_only)
    row.leaves = quantity
    row.cumulative = 0
    row.flow = frame.flow
    row.side = frame.side
    _tell(output, row, _NEW, _OK)
    if stopped:
        _enter_stop(state, output, order, book, stop_price)
    else:
        _enter(state, output, order, book)
    if state.counters[0].first_triggered != NONE:
        _enter_triggered(state, output, book)


@njit(**INLINED)
def _open_order(state, frame, low, high):
    """The open order of the frame's instrument that has this key, or NONE."""
    order = find_order(state, low, high)
    if order == NONE:
        return order
    book = state.levels[state.orders[order].level].book
    return order if state.books[book].instrument == frame.instrument else np.int64(NONE)


@njit(**INLINED)
def _remove(state, output, order, kind, reason):
    """Ends an open order."""
    book = np.int64(state.levels[state.orders[order].level].book)
    unindex(state, order)
    unrest(state, order)
    _end(state, output, order, book, kind, reason)


@njit(**KERNEL)
def _cancel(state, output, frame, low, high, original_low, original_high):
    order = _open_order(state, frame, original_low, original_high)
    if order == NONE:
        return _refuse(output, frame, _CANCEL_REJECTED, _UNKNOWN, low, high)
    _remove(state, output, order, _CANCELED, _BY_CLIENT)


@njit(**KERNEL)
def _replace(state, output, frame, payload, low, high, original_low, original_high):
    order = _open_order(state, frame, original_low, original_high)
    if order == NONE:
        return _refuse(output, frame, _CANCEL_REJECTED, _UNKNOWN, low, high)
    row = state.orders[order]
    if frame.order_type != row.order_type or frame.time_in_force == _IOC or frame.time_in_force == _FOK:
        return _refuse(output, frame, _CANCEL_REJECTED, _UNSUPPORTED_REPLACE, low, high)
    if frame.side != row.side:
        return _refuse(output, frame, _CANCEL_REJECTED, _SIDE_CHANGED, low, high)
    quantity = frame.quantity
    if quantity == 0 or quantity > _MOST:
        return _refuse(output, frame, _CANCEL_REJECTED, _QUANTITY, low, high)
    other = find_order(state, low, high)
    if other != NONE and other != order:
        return _refuse(output, frame, _CANCEL_REJECTED, _DUPLICATE, low, high)
    leaves = quantity - row.cumulative if quantity > row.cumulative else np.uint64(0)
    reason, stopped, stop_price, display, post_only = _terms(frame, payload)
    if reason == _OK:
        reason = _misfit(frame, stopped, display, post_only, leaves)
    if reason != _OK:
        return _refuse(output, frame, _CANCEL_REJECTED, reason, low, high)
    level = np.int64(row.level)
    book = np.int64(state.levels[level].book)
    ladder = np.int64(state.levels[level].ladder)
    direction = direction_of(row.side)
    ladder_price = stop_price if stopped else frame.price
    shows_more = not stopped and display > row.display and row.shown < row.leaves
    keeps_priority = ladder_price == state.levels[level].price and leaves <= row.leaves and not shows_more
    if not keeps_priority and leaves > 0:
        if post_only and not stopped and _would_trade(state, book, direction, frame.price):
            return _refuse(output, frame, _CANCEL_REJECTED, _WOULD_TRADE, low, high)
        place = find_level(state, book, ladder, ladder_price)
        if place != NONE:
            beside = state.levels[place].quantity
            if place == level:
                beside -= row.leaves
            if beside + leaves > _MOST:
                return _refuse(output, frame, _CANCEL_REJECTED, _QUANTITY, low, high)
    unindex(state, order)
    if keeps_priority and leaves > 0:
        state.levels[level].quantity -= row.leaves - leaves
    else:
        unrest(state, order)
    displays = displays_of(leaves, display)
    state.books[book].displays += np.int64(displays) - np.int64(row.displays)
    row.displays = displays
    row.leaves = leaves
    _write_terms(row, frame, low, high, output.cause[0], display, post_only)
    _tell(output, row, _REPLACED, _OK if leaves > 0 else _BELOW_FILLED)
    if leaves == 0:
        free_order(state, order, book)
    elif keeps_priority:
        row.shown = min(row.shown, min(display, leaves))
        index(state, order)
    elif stopped:
        _enter_stop(state, output, order, book, stop_price)
    else:
        _enter(state, output, order, book)
    if state.counters[0].first_triggered != NONE:
        _enter_triggered(state, output, book)


@njit(**INLINED)
def _most_reports(state, frame):
    """At most so many reports can come of this message."""
    if frame.kind == _CANCEL:
        return REPORTS_BESIDE
    book = find_book(state, frame.instrument)
    open_displays = np.int64(0)
    if book != NONE:
        open_displays = state.books[book].displays
    return REPORTS_BESIDE + REPORTS_PER_DISPLAY * (open_displays + MOST_DISPLAYS + 1)


@njit(**KERNEL)
def _look_ahead(orders, order_index, keys, frames, places, payload, begin):
    """Writes the keys of ClOrdID and OrigClOrdID of the next LOOKAHEAD orders to ``keys`` and begins to fetch what they lead to,
    the messages of those behind them, and the frames of those behind these."""
    mask = np.uint64(order_index.shape[0] - 1)
    count = min(LOOKAHEAD, places.shape[0] - begin)
    for ahead in range(begin + 2 * LOOKAHEAD, min(begin + 3 * LOOKAHEAD, places.shape[0])):
        prefetch_to_read(frames, np.int64(places[ahead]))
    for ahead in range(begin + LOOKAHEAD if begin > 0 else 0, min(begin + 2 * LOOKAHEAD, places.shape[0])):
        prefetch_message(frames[places[ahead]], payload)
    for ahead in range(count):
        frame = frames[places[begin + ahead]]
        keys[ahead, 0], keys[ahead, 1] = _key(frame, payload, frame.client_order_id)
        prefetch_row(order_index, np.int64(keys[ahead, 0] & mask))
        if frame.kind == _CANCEL or frame.kind == _REPLACE:
            keys[ahead, 2], keys[ahead, 3] = _key(frame, payload, frame.original_order_id)
            prefetch_row(order_index, np.int64(keys[ahead, 2] & mask))
    for ahead in range(count):
        kind = frames[places[begin + ahead]].kind
        if kind in (_CANCEL, _REPLACE):
            order = order_index[np.int64(keys[ahead, 2] & mask)]
            if order != NONE:
                prefetch_row(orders, np.int64(order))


@njit(nogil=True, **KERNEL)
def find_orders(decisions, node, places):
    """Writes the places of the orders of a batch that are accepted and routed to a node; returns how many there are. There are no
    branches in it: which node is next cannot be foreseen."""
    count = 0
    for place in range(decisions.shape[0]):
        places[count] = place
        count += (decisions[place].verdict == ACCEPTED) & (decisions[place].node == node)
    return count


@njit(nogil=True, **KERNEL)
def apply_orders(state, output, frames, decisions, payload, first_sequence, places, begin):
    """Applies the orders at some places of a batch, from the one with index ``begin`` on.

    Returns (next index, room needed): less than all orders when ``output.reports`` may not have room for the next one's.
    """
    counters = state.counters[0]
    cause = output.cause[0]
    keys = output.keys
    for turn in range(begin, places.shape[0]):
        ahead = (turn - begin) % LOOKAHEAD
        if ahead == 0:
            _look_ahead(state.orders, state.order_index, keys, frames, places, payload, turn)
        position = np.int64(places[turn])
        sequence = np.uint64(first_sequence) + np.uint64(position)
        if sequence <= counters.last_sequence:
            counters.repeated += np.uint64(1)
            continue
        frame = frames[position]
        needed = _most_reports(state, frame)
        if output.reports.shape[0] - cause.written < needed:
            return turn, needed
        counters.last_sequence = sequence
        counters.applied += np.uint64(1)
        cause.sequence = sequence
        cause.timestamp = frame.timestamp
        cause.instrument = frame.instrument
        low, high = keys[ahead, 0], keys[ahead, 1]
        cause.account = decisions[position].account
        cause.self_trade = decisions[position].self_trade
        if frame.kind == _CANCEL:
            _cancel(state, output, frame, low, high, keys[ahead, 2], keys[ahead, 3])
        elif frame.kind == _REPLACE:
            _replace(state, output, frame, payload, low, high, keys[ahead, 2], keys[ahead, 3])
        else:
            _new_order(state, output, frame, payload, low, high)
    return places.shape[0], 0


@njit(nogil=True, **KERNEL)
def end_orders(state, output, orders, kind, reason):
    """Ends open orders, one report each, in the order given. There is room for the reports."""
    for order in orders:
        output.cause[0].instrument = state.books[state.levels[state.orders[order].level].book].instrument
        _remove(state, output, np.int64(order), kind, reason)
