"""What an account has ordered and holds: positions, open quantities, worst case and gross exposure, compiled.

Risk books what it accepts (:func:`book_order`), the nodes' reports settle it (:func:`settle_reports`), and a replayed
journal books it again (:func:`restore_orders`). In one instrument an account may come to be long its position and all
open buys, or short its open sells less its position; the worse of the two is what it counts with, at ``mark``, and the
sum over all instruments is its gross exposure. Reports only ever make it smaller.
"""

import numpy as np
from numba import njit

from hdl.frame import Kind, OrderType, Side
from host.cluster.order_index import NONE, find_order, index
from host.cluster.order_key import prefetch_row
from host.cluster.report import ReportKind
from host.gateway.notional import add, magnitude, multiply, subtract
from host.gateway.risk_state import (
    ACCOUNT_RATE,
    LIVE,
    LOOKAHEAD,
    PENDING_REPLACE,
    SESSION_RATE,
    enter_account,
    enter_position,
    remove_order,
)
from host.journal.batch import MARKED
from host.memory import INLINED, KERNEL

_U, _I = np.uint64, np.int64
_REPLACE, _BUY = int(Kind.REPLACE), int(Side.BUY)
_LIMIT, _STOP_LIMIT = int(OrderType.LIMIT), int(OrderType.STOP_LIMIT)
_NEW, _PARTIAL_FILL, _FILL = int(ReportKind.NEW), int(ReportKind.PARTIAL_FILL), int(ReportKind.FILL)
_REPLACED, _REJECTED = int(ReportKind.REPLACED), int(ReportKind.REJECTED)
_CANCEL_REJECTED = int(ReportKind.CANCEL_REJECTED)


@njit(**INLINED)
def has_limit(frame):
    """Whether an order has a limit price."""
    return frame.order_type == _LIMIT or frame.order_type == _STOP_LIMIT


@njit(**INLINED)
def value(frame, reference):
    """The price (uint64) at which an order's instrument counts: the larger of reference and limit price, in size."""
    size = magnitude(reference)
    return max(size, magnitude(frame.price)) if has_limit(frame) else size


@njit(**INLINED)
def worst_case(position):
    """The most that a position can come to, long or short (uint64)."""
    return _U(max(position.position + position.open_buy, position.open_sell - position.position))


@njit(**INLINED)
def _take_out(state, position):
    """Takes a position out of its account's gross exposure; :func:`_put_in` gives it back after a change."""
    account = state.accounts[position.slot]
    high, low = multiply(worst_case(position), position.mark)
    account.gross_high, account.gross_low = subtract(account.gross_high, account.gross_low, high, low)


@njit(**INLINED)
def _put_in(state, position):
    account = state.accounts[position.slot]
    high, low = multiply(worst_case(position), position.mark)
    account.gross_high, account.gross_low = add(account.gross_high, account.gross_low, high, low)


@njit(**INLINED)
def _open(position, side, quantity):
    """Adds to what is open of a side."""
    if side == _BUY:
        position.open_buy += quantity
    else:
        position.open_sell += quantity


@njit(**INLINED)
def book_order(state, frame, ahead, slot, place, original, more, decision):
    """Books an accepted new order or replace, and writes to ``decision`` what the node needs of its account.

    ``slot`` and ``place`` are the account's and the position's slots, which are entered if they are empty; ``more`` is
    what the order adds to its side. There is room for everything.
    """
    row = ahead.row
    if state.accounts[slot].key_low == 0 and state.accounts[slot].key_high == 0:
        enter_account(state, slot, ahead.account_low, ahead.account_high)
    account, position, session = state.accounts[slot], state.positions[place], state.sessions[frame.flow]
    if position.account == 0:
        enter_position(state, place, slot, row)
    high, low = multiply(frame.quantity, magnitude(frame.price if has_limit(frame) else decision.price))
    account.used_high, account.used_low = add(account.used_high, account.used_low, high, low)
    _take_out(state, position)
    _open(position, frame.side, more)
    if decision.flags & MARKED:
        position.mark = value(frame, decision.price)
    _put_in(state, position)
    if account.checks & ACCOUNT_RATE:
        account.due = max(account.due, frame.timestamp) + account.interval
    if session.checks & SESSION_RATE:
        session.due = max(session.due, frame.timestamp) + session.interval
    decision.account = account.number + 1
    decision.self_trade = account.self_trade

    tables = state.tables[0]
    number = tables.free_order
    order = state.orders[number]
    tables.free_order = order.next
    prefetch_row(state.orders, _I(order.next))
    tables.orders += 1
    order.key_low, order.key_high = ahead.id_low, ahead.id_high
    order.quantity = _I(frame.quantity)
    order.held = more
    order.position = place
    order.original = original
    order.flow, order.side = frame.flow, frame.side
    order.state = PENDING_REPLACE if frame.kind == _REPLACE else LIVE
    index(state, number)


@njit(**INLINED)
def _adopt(state, order, report):
    """A replace has been done: its order takes the place of the one before."""
    total = order.held
    if order.original != NONE:
        total += state.orders[order.original].held
        remove_order(state, order.original)
    leaves = _I(report.leaves)
    _open(state.positions[order.position], order.side, leaves - total)
    order.held = leaves
    order.quantity = _I(report.quantity)
    order.original = NONE
    order.state = LIVE


@njit(**INLINED)
def _fetch_ahead(reports, state, begin, end):
    """Begins to fetch the orders of some reports."""
    index, mask = state.order_index, _U(state.order_index.shape[0] - 1)
    for number in range(begin, end):
        prefetch_row(index, _I(reports[number].key_low & mask))
    for number in range(begin, end):
        order = index[_I(reports[number].key_low & mask)]
        if order != NONE:
            prefetch_row(state.orders, _I(order))


@njit(**KERNEL, nogil=True)
def settle_reports(reports, state):
    """Moves positions by fills and gives back what is not open any more."""
    for number in range(reports.shape[0]):
        if number % LOOKAHEAD == 0:
            _fetch_ahead(reports, state, number, min(number + LOOKAHEAD, reports.shape[0]))
        report = reports[number]
        kind = report.kind
        row = find_order(state, report.key_low, report.key_high)
        if row == NONE:
            # A refused cancel is reported by its own id, which no open order has.
            if kind != _CANCEL_REJECTED:
                state.tables[0].unmatched += 1
            continue
        order = state.orders[row]
        if kind == _NEW or (kind == _CANCEL_REJECTED and order.state != PENDING_REPLACE):
            continue
        position = state.positions[order.position]
        _take_out(state, position)
        ends = kind in (_REJECTED, _CANCEL_REJECTED) or report.leaves == 0
        if kind == _REPLACED:
            _adopt(state, order, report)
        elif kind in (_PARTIAL_FILL, _FILL):
            filled = _I(report.quantity)
            position.position += filled if order.side == _BUY else -filled
            _open(position, order.side, -min(filled, order.held))
            order.held -= min(filled, order.held)
        if ends:
            _open(position, order.side, -order.held)
            remove_order(state, row)
        _put_in(state, position)
