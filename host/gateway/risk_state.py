"""All state of the risk pass: flat arrays of rows that are whole cache lines, and the tables that find them.

What is checked of a row is said by bits of its ``checks``, so that a check that is not configured costs one branch.
Quantities are 1e-8, prices 1e-9, notionals pairs of words in 1e-17, times ns.

What every order goes through is compiled into one function: to hand on so many arrays in a call takes as long as many
checks do.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from host.cluster.order_index import unindex
from host.cluster.order_key import mix, text_key, upto_soh
from host.memory import INLINED, KERNEL

QUANTITY_LIMIT = (1 << 62) - 1
"""Most that an order, a position or an exposure may be: sums of two stay within 64 bits with a sign."""

INSTRUMENT_DTYPE = np.dtype(
    [
        ("code", "u8"),
        ("maximum_quantity", "u8"),
        ("reference", "i8"),
        ("low", "i8"),
        ("high", "i8"),
        ("buy_bound", "i8"),
        ("sell_bound", "i8"),
        ("checks", "u4"),
        ("node", "u1"),
        ("reserved", "u1", (3,)),
    ]
)
"""An instrument, one cache line. ``low`` to ``high`` is what the collar allows around ``reference``; ``buy_bound`` and
``sell_bound`` are the highest buy and the lowest sell price that the book allows."""

TERMS_DTYPE = np.dtype(
    [
        ("order_high", "u8"),
        ("order_low", "u8"),
        ("collar_ppm", "i8"),
        ("fat_finger_ppm", "i8"),
        ("best_bid", "i8"),
        ("best_ask", "i8"),
        ("changed", "u8"),
        ("book", "i4"),
        ("has_bid", "?"),
        ("has_ask", "?"),
        ("followed", "?"),
        ("noted", "?"),
    ]
)
"""What is seldom read of an instrument, same row: its notional an order, widths, and the book's best prices; whether these are
of a book that is followed now (else a journal gave them back), and whether an accepted order has noted them."""

ACCOUNT_DTYPE = np.dtype(
    [
        # The first line is what every order changes.
        ("key_low", "u8"),
        ("key_high", "u8"),
        ("used_high", "u8"),
        ("used_low", "u8"),
        ("gross_high", "u8"),
        ("gross_low", "u8"),
        ("due", "u8"),
        ("number", "u4"),
        ("checks", "u2"),
        ("self_trade", "u1"),
        ("reserved", "u1"),
        # The second line is what every order is compared with.
        ("order_high", "u8"),
        ("order_low", "u8"),
        ("limit_high", "u8"),
        ("limit_low", "u8"),
        ("gross_limit_high", "u8"),
        ("gross_limit_low", "u8"),
        ("interval", "u8"),
        ("tolerance", "u8"),
        # The third line is seldom read.
        ("maximum_quantity", "u8"),
        ("long_limit", "i8"),
        ("short_limit", "i8"),
        ("spare", "u8", (5,)),
    ]
)
"""An account, three cache lines. ``used`` is the day's notional, ``gross`` the exposure; ``due`` is the rate's clock."""

SESSION_DTYPE = np.dtype(
    [
        ("maximum_quantity", "u8"),
        ("order_high", "u8"),
        ("order_low", "u8"),
        ("due", "u8"),
        ("interval", "u8"),
        ("tolerance", "u8"),
        ("checks", "u4"),
        ("reserved", "u1", (12,)),
    ]
)
"""A session, one cache line; row ``flow``."""

POSITION_DTYPE = np.dtype(
    [
        ("account", "u4"),
        ("instrument", "u4"),
        ("position", "i8"),
        ("open_buy", "i8"),
        ("open_sell", "i8"),
        ("mark", "u8"),
        ("long_limit", "i8"),
        ("short_limit", "i8"),
        ("slot", "u4"),
        ("checks", "u4"),
    ]
)
"""What an account holds of an instrument, one cache line: ``account`` is its number plus 1 (0: an empty slot), ``slot``
its row, ``instrument`` the instrument's; ``mark`` is the price at which its exposure counts."""

ORDER_DTYPE = np.dtype(
    [
        ("key_low", "u8"),
        ("key_high", "u8"),
        ("quantity", "i8"),
        ("held", "i8"),
        ("position", "i4"),
        ("original", "i4"),
        ("next", "i4"),
        ("flow", "u2"),
        ("side", "u1"),
        ("state", "u1"),
        ("reserved", "u8", (2,)),
    ]
)
"""An open order, one cache line. ``quantity`` is what it asks for in all, ``held`` what it adds to its side's open
quantity, ``original`` the row of the order that a pending replace replaces (NONE: not known)."""

SLOT_DTYPE = np.dtype([("code", "u8"), ("row", "i8")])
"""A slot of a hash table from 64-bit codes to rows of the instruments; row -1 marks an empty one."""

COUNTER_DTYPE = np.dtype([("verdicts", "i8", (64,)), ("kinds", "i8", (256,)), ("causes", "i8", (16,))])
"""Frames by verdict and by kind, malformed frames by flag bit. They count the ring, and no journal gives them back."""

TABLE_DTYPE = np.dtype(
    [
        ("client_order_ids", "i8"),
        ("client_order_id_room", "i8"),
        ("accounts", "i8"),
        ("account_room", "i8"),
        ("positions", "i8"),
        ("position_room", "i8"),
        ("orders", "i8"),
        ("free_order", "i8"),
        ("killed", "i8"),
        ("unmatched", "i8"),
        ("notes", "i8"),
    ]
)
"""What the tables hold and may hold; ``killed``: all orders are refused; ``unmatched`` counts reports of orders that
are not known; ``notes`` are written of the last slice."""

AHEAD_DTYPE = np.dtype(
    [("id_low", "u8"), ("id_high", "u8"), ("account_low", "u8"), ("account_high", "u8"), ("row", "i8")]
)
"""What is found out of a frame before it is checked: the keys of its client order id and account, its instrument."""

INSTRUMENT_KILLED, WITHDRAWN, RESTRICTED, FAT_FINGER, INSTRUMENT_NOTIONAL, NOT_SHORTABLE = 1, 2, 4, 8, 16, 32
"""Bits of an instrument's ``checks``."""

ACCOUNT_KILLED, CONFIGURED, ACCOUNT_QUANTITY, ACCOUNT_RATE, MARK_SHORTS = 1, 2, 4, 8, 16
"""Bits of an account's ``checks``."""

SESSION_KILLED, SESSION_QUANTITY, SESSION_NOTIONAL, SESSION_RATE, DROP_ON_DISCONNECT = 1, 2, 4, 8, 16
"""Bits of a session's ``checks``."""

ACCOUNT_RESTRICTED, LOCATED, OWN_LIMITS = 1, 2, 4
"""Bits of a position's ``checks``."""

LIVE, PENDING_REPLACE = 1, 2
"""States of an open order."""

LOOKAHEAD = 16
"""Frames whose keys are hashed, and whose rows are fetched, before they are checked: one fetch from memory takes as
long as checking some four orders."""

_U = np.uint64
_LEAST_PRICE, _MOST_PRICE = -(1 << 63), (1 << 63) - 1

_ACCOUNT_SPACE = _U(1 << 32)
"""Account names are keyed apart from client order ids, whose space is the flow's number."""

_FLOW_ACCOUNT_SPACE = _U(1 << 33)
"""An order without an account counts for the flow's own account."""

_ODD = _U(0x9E3779B97F4A7C15)


class RiskState(NamedTuple):
    """All state of the pass."""

    instruments: np.ndarray
    terms: np.ndarray
    symbols: np.ndarray
    securities: np.ndarray
    accounts: np.ndarray
    default_account: np.ndarray
    sessions: np.ndarray
    positions: np.ndarray
    client_order_ids: np.ndarray
    id_words: np.ndarray
    id_notes: np.ndarray
    orders: np.ndarray
    order_index: np.ndarray
    tables: np.ndarray
    counters: np.ndarray
    notes: np.ndarray
    ahead: np.ndarray


def table_size(room: int) -> int:
    """Slots of a hash table that is at most half full."""
    if room < 1:
        raise ValueError("a table has room for at least one entry")
    return 1 << (2 * room - 1).bit_length()


@njit(**INLINED)
def find_code(slots, code):
    """The row of a code, -1 when there is none."""
    mask = slots.shape[0] - 1
    slot = np.int64(mix(code) & _U(mask))
    while slots[slot].row >= 0 and slots[slot].code != code:
        slot = (slot + 1) & mask
    return slots[slot].row


@njit(**KERNEL)
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


@njit(**INLINED)
def width(price, ppm):
    """|price| × ppm / 10^6, rounded down."""
    size = abs(price)
    return size // 1_000_000 * ppm + size % 1_000_000 * ppm // 1_000_000


@njit(**INLINED)
def set_reference(state, row, price):
    """Moves an instrument's collar to a reference price: ±|price| × collar, rounded down, within 64 bits."""
    instrument, ppm = state.instruments[row], state.terms[row].collar_ppm
    wide = width(price, ppm)
    instrument.reference = price
    instrument.low = price - wide if ppm > 0 and price >= _LEAST_PRICE + wide else _LEAST_PRICE
    instrument.high = price + wide if ppm > 0 and price <= _MOST_PRICE - wide else _MOST_PRICE


@njit(**KERNEL)
def set_top(state, row, has_bid, bid, has_ask, ask):
    """Moves an instrument's bounds to a book's best prices; a side without one bounds nothing."""
    instrument, terms = state.instruments[row], state.terms[row]
    if terms.has_bid != has_bid or terms.best_bid != bid or terms.has_ask != has_ask or terms.best_ask != ask:
        terms.noted = False
    terms.has_bid, terms.best_bid = has_bid, bid
    terms.has_ask, terms.best_ask = has_ask, ask
    wide = width(ask, terms.fat_finger_ppm)
    instrument.buy_bound = ask + wide if has_ask and ask <= _MOST_PRICE - wide else _MOST_PRICE
    wide = width(bid, terms.fat_finger_ppm)
    instrument.sell_bound = bid - wide if has_bid and bid >= _LEAST_PRICE + wide else _LEAST_PRICE


@njit(**INLINED)
def account_key(payload, begin, offset, end, flow):
    """The key of the account named at ``offset`` (0: none) of the message from ``begin`` to ``end``.

    A name of up to 15 characters is its own key, the first eight mixed, so that no two have the same; a longer one is hashed.
    """
    if offset == 0:
        return mix(_FLOW_ACCOUNT_SPACE | _U(flow)), _U(0)
    position, second = begin + offset, _U(0)
    ended, first = upto_soh(payload, position, end)
    if not ended:
        ended, second = upto_soh(payload, position + 8, end)
    if ended:
        return mix(first ^ (second * _ODD)), second
    return text_key(payload, position, end, _ACCOUNT_SPACE)


@njit(**INLINED)
def account_slot(accounts, low, high):
    """The slot that holds an account, or the empty one where it would go."""
    mask = accounts.shape[0] - 1
    slot = np.int64(low & _U(mask))
    while accounts[slot].key_low != 0 or accounts[slot].key_high != 0:
        if accounts[slot].key_low == low and accounts[slot].key_high == high:
            break
        slot = (slot + 1) & mask
    return slot


@njit(**KERNEL)
def enter_account(state, slot, low, high):
    """Enters a new account with the default limits."""
    account, default = state.accounts[slot], state.default_account[0]
    account.key_low, account.key_high = low, high
    account.number = state.tables[0].accounts
    state.tables[0].accounts += 1
    set_limits(account, default)


@njit(**KERNEL)
def set_limits(account, source):
    """Takes over another row's limits; whether the account is killed stays as it is."""
    account.checks = (account.checks & ACCOUNT_KILLED) | (source.checks & ~ACCOUNT_KILLED)
    account.self_trade = source.self_trade
    account.order_high, account.order_low = source.order_high, source.order_low
    account.limit_high, account.limit_low = source.limit_high, source.limit_low
    account.gross_limit_high, account.gross_limit_low = source.gross_limit_high, source.gross_limit_low
    account.interval, account.tolerance = source.interval, source.tolerance
    account.maximum_quantity = source.maximum_quantity
    account.long_limit, account.short_limit = source.long_limit, source.short_limit


@njit(**INLINED)
def position_home(positions, account_low, code):
    """Where the search for an account's position in an instrument begins."""
    return np.int64(mix(account_low ^ code) & _U(positions.shape[0] - 1))


@njit(**INLINED)
def position_slot(positions, home, number, row):
    """(the slot that holds a position or the empty one where it would go, whether it holds it)."""
    mask = positions.shape[0] - 1
    slot = home
    while positions[slot].account != 0:
        if positions[slot].account == number + 1 and positions[slot].instrument == row:
            return slot, True
        slot = (slot + 1) & mask
    return slot, False


@njit(**KERNEL)
def enter_position(state, slot, account, row):
    """Enters a position of nothing with the limits of its account (a slot)."""
    position, its = state.positions[slot], state.accounts[account]
    position.account, position.instrument = its.number + 1, row
    position.slot = account
    position.long_limit, position.short_limit = its.long_limit, its.short_limit
    state.tables[0].positions += 1


@njit(**KERNEL)
def remove_order(state, row):
    """Takes an open order out."""
    unindex(state, row)
    state.orders[row].state = 0
    state.orders[row].next = state.tables[0].free_order
    state.tables[0].free_order = row
    state.tables[0].orders -= 1
