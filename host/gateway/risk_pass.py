"""The compiled pass over a slice of the ring: every check of every order, and the node of those that pass.

One pass, no allocation, all state in the flat arrays of :class:`host.gateway.risk_state.RiskState`. The rules and their
order are docs/gateway.md's.
"""

import numpy as np
from numba import njit

from hdl.fix_tags import BEGIN as BEGIN_TEXT
from hdl.frame import Flag, Kind, OrderType, Side, TimeInForce
from host.cluster.node import NO_NODE
from host.cluster.order_index import NONE, find_order
from host.cluster.order_key import prefetch_message, prefetch_row, prefetch_to_read, text_key
from host.gateway.exposure import book_order, has_limit, value
from host.gateway.id_table import id_slot, note_id, remember_id, stored_id
from host.gateway.notional import add, exceeds, magnitude, multiply, subtract
from host.gateway.risk_state import (
    ACCOUNT_KILLED,
    ACCOUNT_QUANTITY,
    ACCOUNT_RATE,
    ACCOUNT_RESTRICTED,
    FAT_FINGER,
    INSTRUMENT_KILLED,
    INSTRUMENT_NOTIONAL,
    LOCATED,
    LOOKAHEAD,
    MARK_SHORTS,
    NOT_SHORTABLE,
    RESTRICTED,
    SESSION_KILLED,
    SESSION_NOTIONAL,
    SESSION_QUANTITY,
    SESSION_RATE,
    WITHDRAWN,
    account_key,
    account_slot,
    find_code,
    position_home,
    position_slot,
    set_reference,
)
from host.gateway.verdict import Verdict
from host.journal.batch import MARKED as MARKED_FLAG
from host.journal.batch import NOTED
from host.memory import INLINED, KERNEL

_U, _I = np.uint64, np.int64
_NEW_ORDER, _CANCEL, _REPLACE = int(Kind.NEW_ORDER), int(Kind.CANCEL), int(Kind.REPLACE)
_TRADE, _MALFORMED_KIND = int(Kind.TRADE), int(Kind.MALFORMED)
_DUPLICATE_TAG, _PRICE_ABSENT = int(Flag.DUPLICATE_TAG), int(Flag.PRICE_ABSENT)
_BUY, _SELL, _SHORT, _EXEMPT = int(Side.BUY), int(Side.SELL), int(Side.SELL_SHORT), int(Side.SELL_SHORT_EXEMPT)
_MARKET, _LIMIT = int(OrderType.MARKET), int(OrderType.LIMIT)
_STOP, _STOP_LIMIT = int(OrderType.STOP), int(OrderType.STOP_LIMIT)
_ABSENT, _DAY, _GTC = int(TimeInForce.ABSENT), int(TimeInForce.DAY), int(TimeInForce.GOOD_TILL_CANCEL)
_IOC, _FOK = int(TimeInForce.IMMEDIATE_OR_CANCEL), int(TimeInForce.FILL_OR_KILL)
_DELETED = ord("2")
_BEGIN = np.frombuffer(BEGIN_TEXT, np.uint8)

_NOT_AN_ORDER, _ACCEPTED, _MALFORMED = int(Verdict.NOT_AN_ORDER), int(Verdict.ACCEPTED), int(Verdict.MALFORMED)
_CORRUPT_FRAME, _DUPLICATED, _NO_ID = (
    int(Verdict.CORRUPT_FRAME),
    int(Verdict.DUPLICATE_TAG),
    int(Verdict.NO_CLIENT_ORDER_ID),
)
_NO_ORIGINAL, _NO_SYMBOL, _BAD_SIDE = int(Verdict.NO_ORIGINAL_ORDER_ID), int(Verdict.NO_SYMBOL), int(Verdict.BAD_SIDE)
_BAD_QUANTITY, _BAD_TYPE = int(Verdict.BAD_QUANTITY), int(Verdict.UNSUPPORTED_ORDER_TYPE)
_NO_PRICE, _BAD_TIME = int(Verdict.NO_PRICE), int(Verdict.UNSUPPORTED_TIME_IN_FORCE)
_UNKNOWN, _KILLED = int(Verdict.UNKNOWN_INSTRUMENT), int(Verdict.KILLED)
_INSTRUMENT_KILLED, _SESSION_KILLED = int(Verdict.INSTRUMENT_KILLED), int(Verdict.SESSION_KILLED)
_ACCOUNT_KILLED, _RESTRICTED = int(Verdict.ACCOUNT_KILLED), int(Verdict.RESTRICTED_INSTRUMENT)
_RESTRICTED_FOR_ACCOUNT, _MAXIMUM = int(Verdict.RESTRICTED_FOR_ACCOUNT), int(Verdict.MAXIMUM_QUANTITY)
_SESSION_QUANTITY, _ACCOUNT_QUANTITY = int(Verdict.SESSION_QUANTITY), int(Verdict.ACCOUNT_QUANTITY)
_COLLAR, _FAT_FINGER = int(Verdict.PRICE_COLLAR), int(Verdict.FAT_FINGER)
_INSTRUMENT_NOTIONAL, _SESSION_NOTIONAL = int(Verdict.INSTRUMENT_NOTIONAL), int(Verdict.SESSION_NOTIONAL)
_ORDER_NOTIONAL, _ACCOUNT_NOTIONAL = int(Verdict.ORDER_NOTIONAL), int(Verdict.ACCOUNT_NOTIONAL)
_ACCOUNT_CHANGED, _NOT_SHORTABLE = int(Verdict.ACCOUNT_CHANGED), int(Verdict.NOT_SHORTABLE)
_SHORT_NOT_MARKED, _LONG = int(Verdict.SHORT_NOT_MARKED), int(Verdict.LONG_EXPOSURE)
_SHORT_EXPOSURE, _GROSS = int(Verdict.SHORT_EXPOSURE), int(Verdict.GROSS_EXPOSURE)
_ACCOUNT_RATE, _SESSION_RATE, _NO_NODE = int(Verdict.ACCOUNT_RATE), int(Verdict.SESSION_RATE), int(Verdict.NO_NODE)
_ACCOUNTS_FULL, _POSITIONS_FULL = int(Verdict.ACCOUNTS_FULL), int(Verdict.POSITIONS_FULL)
_ORDERS_FULL, _DUPLICATE_ID = int(Verdict.ORDERS_FULL), int(Verdict.DUPLICATE_CLIENT_ORDER_ID)
_IDS_FULL = int(Verdict.CLIENT_ORDER_IDS_FULL)


@njit(**KERNEL)
def _refuse(reject, verdict, limit_high, limit_low, value_high, value_low):
    """Notes a rule's limit and the order's value, for whoever asks why; returns the verdict."""
    reject.limit_high, reject.limit_low = limit_high, limit_low
    reject.value_high, reject.value_low = value_high, value_low
    return verdict


@njit(**INLINED)
def _refuse_word(reject, verdict, limit, found):
    """The same for a limit and a value of 64 bits with a sign."""
    return _refuse(reject, verdict, limit >> 63, _U(limit), found >> 63, _U(found))


@njit(**INLINED)
def _refuse_plain(reject, verdict):
    """The same where there is no number to tell."""
    return _refuse(reject, verdict, _I(0), _U(0), _I(0), _U(0))


@njit(**KERNEL)
def _note_top(note, terms):
    """Notes the best prices that an accepted order was compared with."""
    note.limit_high, note.limit_low = _I(terms.has_bid), _U(terms.best_bid)
    note.value_high, note.value_low = _I(terms.has_ask), _U(terms.best_ask)
    terms.noted = True


@njit(**KERNEL)
def _check_fields(frame, room):
    """What the frame says of itself: flags, offsets, and the fields that its kind requires (FIX 4.4, D, F, G)."""
    length = frame.payload_length
    if np.int64(frame.payload_offset) + np.int64(length) > room:
        return _CORRUPT_FRAME
    if (
        (frame.client_order_id != 0 and frame.client_order_id >= length)
        or (frame.original_order_id != 0 and frame.original_order_id >= length)
        or (frame.account != 0 and frame.account >= length)
    ):
        return _CORRUPT_FRAME
    if frame.flags & _DUPLICATE_TAG:
        return _DUPLICATED
    if frame.client_order_id == 0:
        return _NO_ID
    if frame.original_order_id == 0 and frame.kind != _NEW_ORDER:
        return _NO_ORIGINAL
    if frame.instrument == 0:
        return _NO_SYMBOL
    side = frame.side
    if side != _BUY and side != _SELL and side != _SHORT and side != _EXEMPT:
        return _BAD_SIDE
    if frame.kind == _CANCEL:
        return _ACCEPTED
    if frame.quantity == 0:
        return _BAD_QUANTITY
    order_type = frame.order_type
    if order_type != _LIMIT and order_type != _MARKET and order_type != _STOP and order_type != _STOP_LIMIT:
        return _BAD_TYPE
    if has_limit(frame) and frame.flags & _PRICE_ABSENT:
        return _NO_PRICE
    time = frame.time_in_force
    if time != _ABSENT and time != _DAY and time != _GTC and time != _IOC and time != _FOK:
        return _BAD_TIME
    return _ACCEPTED


@njit(**INLINED)
def _blocked(tables, instrument, session, limits, position):
    """Whether nobody is to trade this, from here, for this account; ACCEPTED if not."""
    if tables.killed != 0:
        return _KILLED
    if instrument.checks & INSTRUMENT_KILLED:
        return _INSTRUMENT_KILLED
    if session.checks & SESSION_KILLED:
        return _SESSION_KILLED
    if limits.checks & ACCOUNT_KILLED:
        return _ACCOUNT_KILLED
    if instrument.checks & RESTRICTED:
        return _RESTRICTED
    if position.checks & ACCOUNT_RESTRICTED:
        return _RESTRICTED_FOR_ACCOUNT
    return _ACCEPTED


@njit(**INLINED)
def _check_id(state, reject, ahead, flow):
    """(verdict, where the client order id goes in its table)."""
    if find_order(state, ahead.id_low, ahead.id_high) != NONE:
        return _refuse_plain(reject, _DUPLICATE_ID), _I(0)
    place, known = id_slot(state.client_order_ids, ahead.id_low, stored_id(ahead.id_high, flow))
    if known:
        return _refuse_plain(reject, _DUPLICATE_ID), place
    tables = state.tables[0]
    if place < 0 or tables.client_order_ids >= tables.client_order_id_room:
        return _refuse_word(reject, _IDS_FULL, tables.client_order_id_room, tables.client_order_ids + 1), place
    return _ACCEPTED, place


@njit(**INLINED)
def _check_cancel(frame, frame_number, state, reject, ahead, decision):
    """A cancel only takes risk away: it needs a known instrument, a node, and an id of its own."""
    instrument = state.instruments[ahead.row]
    if instrument.node == NO_NODE:
        return _refuse_plain(reject, _NO_NODE)
    verdict, place = _check_id(state, reject, ahead, frame.flow)
    if verdict == _ACCEPTED:
        note_id(state, place, frame_number)
        remember_id(state, place, ahead.id_low, stored_id(ahead.id_high, frame.flow))
        decision.node = instrument.node
        decision.price = instrument.reference
    return verdict


@njit(**KERNEL)
def find_original(state, frame, payload, row):
    """The open order (a row) that a replace names, NONE where the node will refuse it anyway."""
    begin = _I(frame.payload_offset)
    end = begin + _I(frame.payload_length)
    low, high = text_key(payload, begin + _I(frame.original_order_id), end, _U(frame.flow))
    original = find_order(state, low, high)
    if original != NONE:
        order = state.orders[original]
        if order.side != frame.side or state.positions[order.position].instrument != row:
            return _I(NONE)
    return original


@njit(**INLINED)
def _too_soon(due, tolerance, now):
    """Whether a token bucket is empty: the generic cell rate algorithm (ITU-T I.371), one word a bucket."""
    return due > now and due - now > tolerance


@njit(**INLINED)
def _check_order(frame, frame_number, payload, state, reject, ahead, decision):
    """The verdict of a new order or a replace of a known instrument, and its ``decision``. State changes only when it is
    accepted."""
    row = ahead.row
    instrument, session, tables = state.instruments[row], state.sessions[frame.flow], state.tables[0]
    slot = account_slot(state.accounts, ahead.account_low, ahead.account_high)
    original, changed = _I(NONE), False
    if frame.kind == _REPLACE:
        original = find_original(state, frame, payload, row)
        if original != NONE:
            its = _I(state.positions[state.orders[original].position].slot)
            if frame.account == 0:
                slot = its
            changed = slot != its
    account = state.accounts[slot]
    new_account = account.key_low == 0 and account.key_high == 0
    limits = state.default_account[0] if new_account else account
    number = tables.accounts if new_account else _I(account.number)
    key_low = ahead.account_low if new_account else account.key_low
    place, has_position = position_slot(
        state.positions, position_home(state.positions, key_low, frame.instrument), number, row
    )
    position = state.positions[place]

    verdict = _blocked(tables, instrument, session, limits, position)
    if verdict != _ACCEPTED:
        return _refuse_plain(reject, verdict)
    quantity, price, limited, buy = frame.quantity, frame.price, has_limit(frame), frame.side == _BUY
    if quantity > instrument.maximum_quantity:
        return _refuse(reject, _MAXIMUM, _I(0), instrument.maximum_quantity, _I(0), quantity)
    if session.checks & SESSION_QUANTITY and quantity > session.maximum_quantity:
        return _refuse(reject, _SESSION_QUANTITY, _I(0), session.maximum_quantity, _I(0), quantity)
    if limits.checks & ACCOUNT_QUANTITY and quantity > limits.maximum_quantity:
        return _refuse(reject, _ACCOUNT_QUANTITY, _I(0), limits.maximum_quantity, _I(0), quantity)
    if limited:
        if price < instrument.low or price > instrument.high:
            return _refuse_word(reject, _COLLAR, instrument.low if price < instrument.low else instrument.high, price)
        if instrument.checks & FAT_FINGER:
            if buy and price > instrument.buy_bound:
                return _refuse_word(reject, _FAT_FINGER, instrument.buy_bound, price)
            if not buy and price < instrument.sell_bound:
                return _refuse_word(reject, _FAT_FINGER, instrument.sell_bound, price)

    high, low = multiply(quantity, magnitude(price if limited else instrument.reference))
    if instrument.checks & INSTRUMENT_NOTIONAL:
        terms = state.terms[row]
        if exceeds(high, low, terms.order_high, terms.order_low):
            return _refuse(reject, _INSTRUMENT_NOTIONAL, _I(terms.order_high), terms.order_low, _I(high), low)
    if session.checks & SESSION_NOTIONAL and exceeds(high, low, session.order_high, session.order_low):
        return _refuse(reject, _SESSION_NOTIONAL, _I(session.order_high), session.order_low, _I(high), low)
    if exceeds(high, low, limits.order_high, limits.order_low):
        return _refuse(reject, _ORDER_NOTIONAL, _I(limits.order_high), limits.order_low, _I(high), low)
    used_high, used_low = add(high, low, account.used_high, account.used_low)
    if exceeds(used_high, used_low, limits.limit_high, limits.limit_low):
        return _refuse(reject, _ACCOUNT_NOTIONAL, _I(limits.limit_high), limits.limit_low, _I(used_high), used_low)
    if changed:
        return _refuse_plain(reject, _ACCOUNT_CHANGED)

    # What the order adds: a replace of a known order only what it asks for beyond it.
    more = _I(quantity)
    if original != NONE:
        more = max(more - state.orders[original].quantity, _I(0))
    if not buy and more > 0:
        sold = position.open_sell + more
        beyond = sold > position.position
        if instrument.checks & NOT_SHORTABLE and (beyond or frame.side != _SELL) and not position.checks & LOCATED:
            return _refuse_word(reject, _NOT_SHORTABLE, max(position.position, _I(0)), sold)
        if beyond and frame.side == _SELL and limits.checks & MARK_SHORTS:
            return _refuse_word(reject, _SHORT_NOT_MARKED, max(position.position, _I(0)), sold)
    buys = position.position + position.open_buy
    sells = position.open_sell - position.position
    before = max(buys, sells)
    if buy:
        buys += more
        limit = position.long_limit if has_position else limits.long_limit
        if more > 0 and buys > limit:
            return _refuse_word(reject, _LONG, limit, buys)
    else:
        sells += more
        limit = position.short_limit if has_position else limits.short_limit
        if more > 0 and sells > limit:
            return _refuse_word(reject, _SHORT_EXPOSURE, limit, sells)
    after = max(buys, sells)
    marked = after > before
    if marked:
        mark = value(frame, instrument.reference)
        less_high, less_low = multiply(_U(before), position.mark)
        high, low = multiply(_U(after), mark)
        gross_high, gross_low = subtract(account.gross_high, account.gross_low, less_high, less_low)
        gross_high, gross_low = add(gross_high, gross_low, high, low)
        if exceeds(gross_high, gross_low, limits.gross_limit_high, limits.gross_limit_low):
            return _refuse(
                reject, _GROSS, _I(limits.gross_limit_high), limits.gross_limit_low, _I(gross_high), gross_low
            )

    now = frame.timestamp
    if limits.checks & ACCOUNT_RATE and _too_soon(account.due, limits.tolerance, now):
        return _refuse(reject, _ACCOUNT_RATE, _I(0), account.due - limits.tolerance, _I(0), now)
    if session.checks & SESSION_RATE and _too_soon(session.due, session.tolerance, now):
        return _refuse(reject, _SESSION_RATE, _I(0), session.due - session.tolerance, _I(0), now)
    if instrument.node == NO_NODE:
        return _refuse_plain(reject, _NO_NODE)
    if new_account and tables.accounts >= tables.account_room:
        return _refuse_word(reject, _ACCOUNTS_FULL, tables.account_room, tables.accounts + 1)
    if not has_position and tables.positions >= tables.position_room:
        return _refuse_word(reject, _POSITIONS_FULL, tables.position_room, tables.positions + 1)
    if tables.free_order == NONE:
        return _refuse_word(reject, _ORDERS_FULL, _I(state.orders.shape[0]), tables.orders + 1)
    verdict, id_place = _check_id(state, reject, ahead, frame.flow)
    if verdict != _ACCEPTED:
        return verdict

    note_id(state, id_place, frame_number)
    remember_id(state, id_place, ahead.id_low, stored_id(ahead.id_high, frame.flow))
    decision.node = instrument.node
    decision.price = instrument.reference
    decision.flags = MARKED_FLAG if marked else 0
    if instrument.checks & FAT_FINGER and not state.terms[row].noted:
        _note_top(reject, state.terms[row])
        decision.flags |= NOTED
    book_order(state, frame, ahead, slot, place, original, more, decision)
    return _ACCEPTED


@njit(**INLINED)
def look_ahead(frame, payload, state, ahead):
    """Writes the keys and the instrument of an order frame to ``ahead``; False for a corrupt frame, which has no instrument."""
    begin = _I(frame.payload_offset)
    end = begin + _I(frame.payload_length)
    text, account = begin + _I(frame.client_order_id), begin + _I(frame.account)
    if end > payload.shape[0] or text >= end or account >= end:
        ahead.row = -1
        return False  # no check will look at its keys
    ahead.row = find_code(state.symbols, frame.instrument)
    ahead.id_low, ahead.id_high = text_key(payload, text, end, _U(frame.flow))
    ahead.account_low, ahead.account_high = account_key(payload, begin, _I(frame.account), end, frame.flow)
    return True


@njit(**INLINED)
def fetch_ahead(frames, payload, state, begin, end):
    """Writes what is found out of the frames beforehand to ``state.ahead``, and begins to fetch the rows that they need and
    the texts that the frames behind them point to."""
    ids, index, accounts = state.client_order_ids, state.order_index, state.accounts
    if begin == 0:
        # Nobody has asked for these yet. Their lines, which the card's processor has, come side by side.
        for number in range(end):
            if _NEW_ORDER <= frames[number].kind <= _REPLACE:
                prefetch_message(frames[number], payload)
    for number in range(begin, end):
        frame = frames[number]
        if not _NEW_ORDER <= frame.kind <= _REPLACE:
            continue
        ahead = state.ahead[number - begin]
        if look_ahead(frame, payload, state, ahead):
            prefetch_row(index, _I(ahead.id_low & _U(index.shape[0] - 1)))
            prefetch_row(accounts, _I(ahead.account_low & _U(accounts.shape[0] - 1)))
            prefetch_row(state.positions, position_home(state.positions, ahead.account_low, frame.instrument))
    # In a loop of their own: so close together all their searches for a page, in a table of gigabytes, are under way at once.
    for place in range(end - begin):
        prefetch_row(ids, _I(state.ahead[place].id_low & _U(ids.shape[0] - 1)))
    for number in range(end, min(end + LOOKAHEAD, frames.shape[0])):
        frame = frames[number]
        if _NEW_ORDER <= frame.kind <= _REPLACE:
            prefetch_message(frame, payload)
        elif frame.kind == _TRADE:
            prefetch_to_read(payload, _I(frame.payload_offset))


@njit(**INLINED)
def _is_fix(frame, payload):
    """Whether a frame's message is FIX. An SBE message that began so would have a block beyond the card's limit."""
    begin = np.int64(frame.payload_offset)
    if begin + _BEGIN.size > payload.shape[0]:
        return False
    same = 0
    while same < _BEGIN.size and payload[begin + same] == _BEGIN[same]:
        same += 1
    return same == _BEGIN.size


@njit(**INLINED)
def _decide(frame, frame_number, payload, state, reject, ahead, decision):
    """The verdict of an order frame."""
    verdict = _check_fields(frame, payload.shape[0])
    if verdict != _ACCEPTED:
        return _refuse_plain(reject, verdict)
    if ahead.row < 0:
        return _refuse_plain(reject, _UNKNOWN)
    if frame.kind == _CANCEL:
        return _check_cancel(frame, frame_number, state, reject, ahead, decision)
    if state.instruments[ahead.row].checks & WITHDRAWN:
        return _refuse_plain(reject, _UNKNOWN)
    return _check_order(frame, frame_number, payload, state, reject, ahead, decision)


@njit(**KERNEL, nogil=True)
def risk_pass(frames, first, payload, state, decisions):
    """Writes the decision on every frame, and moves collars to the trades that pass by; ``first`` is the first one's number in its ring."""
    counters, tables = state.counters[0], state.tables[0]
    tables.notes = 0
    for index in range(frames.shape[0]):
        place = index % LOOKAHEAD
        if place == 0:
            fetch_ahead(frames, payload, state, index, min(index + LOOKAHEAD, frames.shape[0]))
        frame, decision = frames[index], decisions[index]
        kind = frame.kind
        verdict = _NOT_AN_ORDER
        decision.node = NO_NODE
        decision.self_trade = 0
        decision.flags = 0
        decision.account = 0
        decision.price = 0
        if _NEW_ORDER <= kind <= _REPLACE:
            reject = state.notes[tables.notes]
            verdict = _decide(frame, first + index, payload, state, reject, state.ahead[place], decision)
            # A rule that compares nothing has no numbers; where one does, they differ.
            if verdict != _ACCEPTED and (
                reject.limit_low != reject.value_low or reject.limit_high != reject.value_high
            ):
                decision.flags = NOTED
            if verdict != _ACCEPTED or decision.flags & NOTED:
                reject.index = index
                reject.verdict = verdict
                tables.notes += 1
        elif kind == _MALFORMED_KIND:
            verdict = _MALFORMED
            for bit in range(16):
                counters.causes[bit] += (_I(frame.flags) >> bit) & 1
        elif kind == _TRADE and not frame.flags & _PRICE_ABSENT and frame.update_action != _DELETED:
            row = find_code(state.securities, frame.instrument)
            # A FIX entry's instrument is a symbol's code, and any client may send one.
            if row >= 0 and not _is_fix(frame, payload):
                set_reference(state, row, frame.price)
        decision.verdict = verdict
        counters.verdicts[verdict] += 1
        counters.kinds[kind] += 1
