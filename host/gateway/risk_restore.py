"""What a journal accepted, booked again: the same state as when it was decided, without checking anything."""

import numpy as np
from numba import njit

from hdl.frame import Kind
from host.cluster.order_index import NONE
from host.gateway.exposure import book_order
from host.gateway.id_table import enter_id, stored_id
from host.gateway.risk_pass import fetch_ahead, find_original
from host.gateway.risk_state import (
    LOOKAHEAD,
    account_slot,
    position_home,
    position_slot,
    set_reference,
    set_top,
)
from host.journal.batch import ACCEPTED, NOTED, read_note
from host.memory import KERNEL

_I = np.int64
_CANCEL, _REPLACE = int(Kind.CANCEL), int(Kind.REPLACE)


@njit(**KERNEL, nogil=True)
def restore_orders(frames, decisions, payload, state, decision):
    """Books accepted orders; ``decision`` is a row to write to. Returns how many had no room or no instrument."""
    lost, tables = 0, state.tables[0]
    for index in range(frames.shape[0]):
        place = index % LOOKAHEAD
        if place == 0:
            fetch_ahead(frames, payload, state, index, min(index + LOOKAHEAD, frames.shape[0]))
        frame, made = frames[index], decisions[index]
        if made.verdict != ACCEPTED:
            continue
        ahead = state.ahead[place]
        if ahead.row < 0:
            lost += 1
            continue
        row = ahead.row
        stored = stored_id(ahead.id_high, frame.flow)
        if not enter_id(state, ahead.id_low, stored):
            lost += 1
            continue
        # Its book is where it was applied, whatever the router makes of it now.
        state.instruments[row].node = made.node
        if state.instruments[row].reference != made.price:
            set_reference(state, row, made.price)
        if made.flags & NOTED:
            bid, has_bid, ask, has_ask = read_note(frame, payload)
            set_top(state, row, has_bid != 0, _I(bid), has_ask != 0, _I(ask))
            state.terms[row].noted = True
        if frame.kind == _CANCEL:
            continue
        slot = account_slot(state.accounts, ahead.account_low, ahead.account_high)
        original, more = _I(NONE), _I(frame.quantity)
        if frame.kind == _REPLACE:
            original = find_original(state, frame, payload, row)
            if original != NONE:
                more = max(more - state.orders[original].quantity, _I(0))
                slot = _I(state.positions[state.orders[original].position].slot)
        account = state.accounts[slot]
        new = account.key_low == 0 and account.key_high == 0
        number = tables.accounts if new else _I(account.number)
        key_low = ahead.account_low if new else account.key_low
        home = position_home(state.positions, key_low, frame.instrument)
        its, has_position = position_slot(state.positions, home, number, row)
        if (
            (new and tables.accounts >= tables.account_room)
            or (not has_position and tables.positions >= tables.position_room)
            or tables.free_order == NONE
        ):
            lost += 1
            continue
        decision[0].price = made.price
        decision[0].flags = made.flags
        book_order(state, frame, ahead, slot, its, original, more, decision[0])
    return lost
