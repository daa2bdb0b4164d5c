"""The compiled pass over a slice of the ring: every check of every order, and the node of those that pass.

One pass, no allocation, all state in the flat arrays of :class:`RiskState`. ``host.gateway.risk`` makes them.

``_nrt=False`` compiles without Numba's runtime: no function here can allocate (Numba refuses to compile one that
does), and none counts references, which with so many arrays in one state took half of the time.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.fix_tags import BEGIN as BEGIN_TEXT
from hdl.frame import Flag, Kind, OrderType, Side, TimeInForce
from host.cluster.node import NO_NODE
from host.cluster.order_key import mix, prefetch_row, text_key
from host.gateway.notional import add, exceeds, magnitude, multiply
from host.gateway.verdict import Verdict

INSTRUMENT_DTYPE = np.dtype(
    [
        ("code", "u8"),
        ("maximum_quantity", "u8"),
        ("reference", "i8"),
        ("low", "i8"),
        ("high", "i8"),
        ("collar_ppm", "i8"),
        ("node", "u1"),
        ("reserved", "u1", (15,)),
    ]
)
"""An instrument, one cache line. ``low`` to ``high`` is what the collar allows (1e-9), ``reference`` its middle."""

ACCOUNT_DTYPE = np.dtype(
    [
        ("key_low", "u8"),
        ("key_high", "u8"),
        ("order_high", "u8"),
        ("order_low", "u8"),
        ("limit_high", "u8"),
        ("limit_low", "u8"),
        ("used_high", "u8"),
        ("used_low", "u8"),
    ]
)
"""An account, one cache line: the notional allowed an order, allowed in all, and used (pairs, 1e-17)."""

SLOT_DTYPE = np.dtype([("code", "u8"), ("row", "i8")])
"""A slot of a hash table from 64-bit codes to rows of the instruments; row -1 marks an empty one."""

COUNTER_DTYPE = np.dtype(
    [
        ("verdicts", "i8", (32,)),
        ("kinds", "i8", (256,)),
        ("causes", "i8", (16,)),
        ("client_order_ids", "i8"),
        ("accounts", "i8"),
        ("client_order_id_room", "i8"),
        ("account_room", "i8"),
    ]
)
"""Frames by verdict and by kind, malformed frames by flag bit, and what the tables hold and may hold."""

PROBE_LIMIT = 512
"""Longest search in the table of client order ids. At half load a run of 100 is not seen in a lifetime, so a longer
one is a client's choice of identifiers, and is refused rather than paid for by all."""

LOOKAHEAD = 16
"""Frames whose identifiers are hashed, and whose places in the table are fetched, before they are checked: one
fetch from memory takes as long as checking some four orders."""

_U = np.uint64
_NEW_ORDER, _CANCEL, _REPLACE = int(Kind.NEW_ORDER), int(Kind.CANCEL), int(Kind.REPLACE)
_TRADE, _MALFORMED_KIND = int(Kind.TRADE), int(Kind.MALFORMED)
_DUPLICATE_TAG, _PRICE_ABSENT = int(Flag.DUPLICATE_TAG), int(Flag.PRICE_ABSENT)
_BUY, _SELL, _SHORT, _EXEMPT = int(Side.BUY), int(Side.SELL), int(Side.SELL_SHORT), int(Side.SELL_SHORT_EXEMPT)
_MARKET, _LIMIT = int(OrderType.MARKET), int(OrderType.LIMIT)
_ABSENT, _DAY, _GTC = int(TimeInForce.ABSENT), int(TimeInForce.DAY), int(TimeInForce.GOOD_TILL_CANCEL)
_IOC, _FOK = int(TimeInForce.IMMEDIATE_OR_CANCEL), int(TimeInForce.FILL_OR_KILL)
_DELETED = ord("2")
_BEGIN = np.frombuffer(BEGIN_TEXT, np.uint8)
_LEAST_PRICE, _MOST_PRICE = -(1 << 63), (1 << 63) - 1

_NOT_AN_ORDER, _ACCEPTED, _MALFORMED = int(Verdict.NOT_AN_ORDER), int(Verdict.ACCEPTED), int(Verdict.MALFORMED)
_CORRUPT_FRAME, _DUPLICATED, _NO_ID = (
    int(Verdict.CORRUPT_FRAME),
    int(Verdict.DUPLICATE_TAG),
    int(Verdict.NO_CLIENT_ORDER_ID),
)
_NO_ORIGINAL, _NO_SYMBOL, _BAD_SIDE = int(Verdict.NO_ORIGINAL_ORDER_ID), int(Verdict.NO_SYMBOL), int(Verdict.BAD_SIDE)
_BAD_QUANTITY, _BAD_TYPE = int(Verdict.BAD_QUANTITY), int(Verdict.UNSUPPORTED_ORDER_TYPE)
_NO_PRICE, _BAD_TIME = int(Verdict.NO_PRICE), int(Verdict.UNSUPPORTED_TIME_IN_FORCE)
_UNKNOWN, _MAXIMUM, _COLLAR = int(Verdict.UNKNOWN_INSTRUMENT), int(Verdict.MAXIMUM_QUANTITY), int(Verdict.PRICE_COLLAR)
_ORDER_NOTIONAL, _ACCOUNT_NOTIONAL = int(Verdict.ORDER_NOTIONAL), int(Verdict.ACCOUNT_NOTIONAL)
_NO_NODE, _ACCOUNTS_FULL = int(Verdict.NO_NODE), int(Verdict.ACCOUNTS_FULL)
_DUPLICATE_ID, _IDS_FULL = int(Verdict.DUPLICATE_CLIENT_ORDER_ID), int(Verdict.CLIENT_ORDER_IDS_FULL)

_ACCOUNT_SPACE = _U(1 << 32)
"""Account names are keyed apart from client order ids, whose space is the flow's number."""

_FLOW_ACCOUNT_SPACE = _U(1 << 33)
"""An order without an account counts for the flow's own account."""


class RiskState(NamedTuple):
    """All state of the pass."""

    instruments: np.ndarray
    symbols: np.ndarray
    securities: np.ndarray
    accounts: np.ndarray
    client_order_ids: np.ndarray
    keys: np.ndarray
    default_account: np.ndarray
    counters: np.ndarray


@njit(cache=True, _nrt=False)
def find_code(slots, code):
    """The row of a code, -1 when there is none."""
    mask = slots.shape[0] - 1
    slot = np.int64(mix(code) & _U(mask))
    while slots[slot].row >= 0 and slots[slot].code != code:
        slot = (slot + 1) & mask
    return slots[slot].row


@njit(cache=True, _nrt=False)
def enter_code(slots, code, row):
    """Enters a code; False when it is there already. The table is never full."""
    mask = slots.shape[0] - 1
    slot = np.int64(mix(code) & _U(mask))
    while slots[slot].row >= 0:
        if slots[slot].code == code:
            return False
        slot = (slot + 1) & mask
    slots[slot].code = code
    slots[slot].row = row
    return True


@njit(cache=True, _nrt=False)
def set_reference(instruments, row, price):
    """Moves an instrument's collar to a reference price: ±|price| × collar, rounded down, within 64 bits."""
    instrument = instruments[row]
    size, ppm = abs(price), instrument.collar_ppm
    width = size // 1_000_000 * ppm + size % 1_000_000 * ppm // 1_000_000
    instrument.reference = price
    instrument.low = price - width if ppm > 0 and price >= _LEAST_PRICE + width else _LEAST_PRICE
    instrument.high = price + width if ppm > 0 and price <= _MOST_PRICE - width else _MOST_PRICE


@njit(cache=True, _nrt=False)
def account_slot(accounts, low, high):
    """The slot that holds an account, or the empty one where it would go."""
    mask = accounts.shape[0] - 1
    slot = np.int64(low & _U(mask))
    while accounts[slot].key_low != 0 or accounts[slot].key_high != 0:
        if accounts[slot].key_low == low and accounts[slot].key_high == high:
            break
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, _nrt=False)
def account_key(payload, begin, offset, end, flow):
    """The key of the account named at ``offset`` (0: none) of the message from ``begin`` to ``end``."""
    if offset == 0:
        return text_key(payload, end, end, _FLOW_ACCOUNT_SPACE | _U(flow))
    return text_key(payload, begin + offset, end, _ACCOUNT_SPACE)


@njit(cache=True, _nrt=False)
def _id_slot(ids, low, high):
    """(slot, whether it holds the key); slot -1 when no place was found within PROBE_LIMIT."""
    mask = ids.shape[0] - 1
    slot = np.int64(low & _U(mask))
    for _ in range(min(PROBE_LIMIT, ids.shape[0])):
        if ids[slot, 0] == low and ids[slot, 1] == high:
            return slot, True
        if ids[slot, 0] == 0 and ids[slot, 1] == 0:
            return slot, False
        slot = (slot + 1) & mask
    return np.int64(-1), False


@njit(cache=True, _nrt=False)
def _notional(frame, reference):
    """Quantity × |price| as (high, low); a market order is valued at the reference price."""
    return multiply(frame.quantity, magnitude(frame.price if frame.order_type == _LIMIT else reference))


@njit(cache=True, _nrt=False)
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
    if frame.order_type != _LIMIT and frame.order_type != _MARKET:
        return _BAD_TYPE
    if frame.order_type == _LIMIT and frame.flags & _PRICE_ABSENT:
        return _NO_PRICE
    time = frame.time_in_force
    if time != _ABSENT and time != _DAY and time != _GTC and time != _IOC and time != _FOK:
        return _BAD_TIME
    return _ACCEPTED


@njit(cache=True, _nrt=False)
def _check_order(frame, payload, state, id_low, id_high):
    """(verdict, node) of an order frame, whose client order id has the key ``id_low``, ``id_high``. State changes only when the order is accepted."""
    verdict = _check_fields(frame, payload.shape[0])
    if verdict != _ACCEPTED:
        return verdict, NO_NODE
    row = find_code(state.symbols, frame.instrument)
    if row < 0:
        return _UNKNOWN, NO_NODE
    instrument = state.instruments[row]
    counters = state.counters[0]
    begin = np.int64(frame.payload_offset)
    end = begin + np.int64(frame.payload_length)
    slot = np.int64(-1)
    used_high = used_low = account_low = account_high = _U(0)
    new_account = False
    if frame.kind != _CANCEL:
        if frame.quantity > instrument.maximum_quantity:
            return _MAXIMUM, NO_NODE
        if frame.order_type == _LIMIT and (frame.price < instrument.low or frame.price > instrument.high):
            return _COLLAR, NO_NODE
        high, low = _notional(frame, instrument.reference)
        account_low, account_high = account_key(payload, begin, np.int64(frame.account), end, frame.flow)
        slot = account_slot(state.accounts, account_low, account_high)
        account = state.accounts[slot]
        new_account = account.key_low == 0 and account.key_high == 0
        limits = state.default_account[0] if new_account else account
        if exceeds(high, low, limits.order_high, limits.order_low):
            return _ORDER_NOTIONAL, NO_NODE
        used_high, used_low = add(high, low, account.used_high, account.used_low)
        if exceeds(used_high, used_low, limits.limit_high, limits.limit_low):
            return _ACCOUNT_NOTIONAL, NO_NODE
    if instrument.node == NO_NODE:
        return _NO_NODE, NO_NODE
    if new_account and counters.accounts >= counters.account_room:
        return _ACCOUNTS_FULL, NO_NODE
    place, known = _id_slot(state.client_order_ids, id_low, id_high)
    if known:
        return _DUPLICATE_ID, NO_NODE
    if place < 0 or counters.client_order_ids >= counters.client_order_id_room:
        return _IDS_FULL, NO_NODE
    state.client_order_ids[place, 0] = id_low
    state.client_order_ids[place, 1] = id_high
    counters.client_order_ids += 1
    if slot >= 0:
        _use_account(state, slot, new_account, account_low, account_high, used_high, used_low)
    return _ACCEPTED, np.int64(instrument.node)


@njit(cache=True, _nrt=False)
def _use_account(state, slot, new, key_low, key_high, used_high, used_low):
    """Books what an account has used, entering it with the default limits if it is new."""
    account = state.accounts[slot]
    if new:
        account.key_low, account.key_high = key_low, key_high
        account.order_high = state.default_account[0].order_high
        account.order_low = state.default_account[0].order_low
        account.limit_high = state.default_account[0].limit_high
        account.limit_low = state.default_account[0].limit_low
        state.counters[0].accounts += 1
    account.used_high, account.used_low = used_high, used_low


@njit(cache=True, _nrt=False)
def _key_ahead(frames, payload, state, begin, end):
    """Writes the keys of client order ids to ``state.keys`` and begins to fetch their places in the table."""
    mask = state.client_order_ids.shape[0] - 1
    for index in range(begin, end):
        frame = frames[index]
        if not _NEW_ORDER <= frame.kind <= _REPLACE:
            continue
        message = np.int64(frame.payload_offset)
        message_end = message + np.int64(frame.payload_length)
        text = message + np.int64(frame.client_order_id)
        if message_end > payload.shape[0] or text >= message_end:
            continue  # a corrupt frame: no check will look at its key
        low, high = text_key(payload, text, message_end, _U(frame.flow))
        state.keys[index - begin, 0] = low
        state.keys[index - begin, 1] = high
        prefetch_row(state.client_order_ids, np.int64(low & _U(mask)))


@njit(cache=True, _nrt=False)
def _is_fix(frame, payload):
    """Whether a frame's message is FIX. An SBE message that began so would have a block beyond the card's limit."""
    begin = np.int64(frame.payload_offset)
    if begin + _BEGIN.size > payload.shape[0]:
        return False
    same = 0
    while same < _BEGIN.size and payload[begin + same] == _BEGIN[same]:
        same += 1
    return same == _BEGIN.size


@njit(cache=True, nogil=True, _nrt=False)
def risk_pass(frames, payload, state, decisions):
    """Writes the verdict and the node of every frame, and moves collars to the trades that pass by."""
    counters = state.counters[0]
    for index in range(frames.shape[0]):
        ahead = index % LOOKAHEAD
        if ahead == 0:
            _key_ahead(frames, payload, state, index, min(index + LOOKAHEAD, frames.shape[0]))
        frame = frames[index]
        kind = frame.kind
        verdict, node, price = _NOT_AN_ORDER, NO_NODE, np.int64(0)
        if _NEW_ORDER <= kind <= _REPLACE:
            verdict, node = _check_order(frame, payload, state, state.keys[ahead, 0], state.keys[ahead, 1])
            row = find_code(state.symbols, frame.instrument)
            market = frame.order_type != _LIMIT and row >= 0
            price = state.instruments[row].reference if market else frame.price
        elif kind == _MALFORMED_KIND:
            verdict = _MALFORMED
            for bit in range(16):
                counters.causes[bit] += (np.int64(frame.flags) >> bit) & 1
        elif kind == _TRADE and not frame.flags & _PRICE_ABSENT and frame.update_action != _DELETED:
            row = find_code(state.securities, frame.instrument)
            # A FIX entry's instrument is a symbol's code, and any client may send one.
            if row >= 0 and not _is_fix(frame, payload):
                set_reference(state.instruments, row, frame.price)
        decisions[index].verdict = verdict
        decisions[index].node = node
        decisions[index].price = price
        counters.verdicts[verdict] += 1
        counters.kinds[kind] += 1


@njit(cache=True, nogil=True, _nrt=False)
def restore_orders(frames, verdicts, payload, state):
    """Books identifiers and notionals of journaled orders again, without checking. Returns orders that had no room."""
    lost = 0
    counters = state.counters[0]
    for index in range(frames.shape[0]):
        frame = frames[index]
        if verdicts[index] != _ACCEPTED:
            continue
        begin = np.int64(frame.payload_offset)
        end = begin + np.int64(frame.payload_length)
        low, high = text_key(payload, begin + np.int64(frame.client_order_id), end, _U(frame.flow))
        place, known = _id_slot(state.client_order_ids, low, high)
        if not known:
            if place < 0 or counters.client_order_ids >= counters.client_order_id_room:
                lost += 1
                continue
            state.client_order_ids[place, 0] = low
            state.client_order_ids[place, 1] = high
            counters.client_order_ids += 1
        row = find_code(state.symbols, frame.instrument)
        if frame.kind == _CANCEL or row < 0:
            continue
        low, high = account_key(payload, begin, np.int64(frame.account), end, frame.flow)
        slot = account_slot(state.accounts, low, high)
        new = state.accounts[slot].key_low == 0 and state.accounts[slot].key_high == 0
        if new and counters.accounts >= counters.account_room:
            lost += 1
            continue
        more_high, more_low = _notional(frame, state.instruments[row].reference)
        account = state.accounts[slot]
        used_high, used_low = add(account.used_high, account.used_low, more_high, more_low)
        _use_account(state, slot, new, low, high, used_high, used_low)
    return lost
