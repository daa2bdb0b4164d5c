"""Limits and kill switches written into the state of the risk pass, between two slices."""

from collections.abc import Iterable, Mapping

import numpy as np

from hdl.frame import crc64
from host.cluster.node import NO_NODE
from host.cluster.order_index import NONE
from host.gateway.notional import NOTIONAL_LIMIT, words
from host.gateway.risk_state import (
    ACCOUNT_KILLED,
    ACCOUNT_QUANTITY,
    ACCOUNT_RATE,
    ACCOUNT_RESTRICTED,
    CONFIGURED,
    DROP_ON_DISCONNECT,
    FAT_FINGER,
    INSTRUMENT_DTYPE,
    INSTRUMENT_KILLED,
    INSTRUMENT_NOTIONAL,
    LOCATED,
    MARK_SHORTS,
    NOT_SHORTABLE,
    OWN_LIMITS,
    QUANTITY_LIMIT,
    RESTRICTED,
    SESSION_KILLED,
    SESSION_NOTIONAL,
    SESSION_QUANTITY,
    SESSION_RATE,
    SLOT_DTYPE,
    TERMS_DTYPE,
    WITHDRAWN,
    RiskState,
    account_key,
    account_slot,
    enter_code,
    enter_position,
    position_home,
    position_slot,
    set_reference,
    set_top,
    table_size,
)
from host.gateway.terms import SESSION_LIMIT, Account, Instrument, Position, Session, Terms

SCOPES = ("all", "instrument", "account", "session")
"""What a kill switch stops."""

_NANOSECONDS = 1_000_000_000


def apply_terms(state: RiskState, old: Terms, new: Terms) -> RiskState:
    """Puts ``new`` in place of ``old`` and returns the state with it: some arrays may be others. Rows keep their numbers,
    kills and what has been booked stay. Raises ValueError, and changes nothing, where accounts or positions have no room."""
    _check_room(state, old, new)
    _write_account(state.default_account[0], new.default_account, 0)
    accounts = state.accounts
    known = (accounts["key_low"] != 0) | (accounts["key_high"] != 0)
    for slot in np.flatnonzero(known):
        _write_account(accounts[slot], new.default_account, 0)
    for account in new.accounts:
        _write_account(accounts[_account_row(state, account.name)], account, CONFIGURED)
    state = _apply_instruments(state, old, new)
    state.sessions["checks"] &= SESSION_KILLED
    for session in new.sessions:
        _write_session(state.sessions[session.flow], session)
    used = np.flatnonzero(state.positions["account"])
    rows = state.positions[used]
    owners = accounts[rows["slot"]]
    rows["long_limit"], rows["short_limit"], rows["checks"] = owners["long_limit"], owners["short_limit"], 0
    state.positions[used] = rows
    for position in new.positions:
        _write_position(state, position)
    return state


def named_account(state: RiskState, name: str) -> tuple[int, tuple[int, int]]:
    """(the slot of a named account or the empty one where it would go, its key)."""
    text = np.frombuffer(b"\x01" + name.encode(), np.uint8).copy()
    low, high = (int(word) for word in account_key(text, 0, 1, len(text), 0))
    return int(account_slot(state.accounts, np.uint64(low), np.uint64(high))), (low, high)


def parse_control(record: Mapping) -> tuple[str, str | int | None]:
    """(scope, name) of a record of type "kill" or "release". Raises ValueError where they do not fit each other."""
    kind, scope, name = record.get("type"), record.get("scope"), record.get("name")
    if scope not in SCOPES:
        raise ValueError(f"{kind}: scope '{scope}' is none of {', '.join(SCOPES)}")
    if scope == "session":
        fits = isinstance(name, int) and not isinstance(name, bool) and 0 <= name <= SESSION_LIMIT
    else:
        fits = name is None if scope == "all" else isinstance(name, str) and bool(name)
    if not fits:
        raise ValueError(f"{kind}: {name!r} is no {scope}" if scope != "all" else f"{kind}: 'all' takes no name")
    return scope, name


def mark_kill(state: RiskState, terms: Terms, scope: str, name: str | int | None, *, kill: bool) -> None:
    """Sets or clears a kill switch. Raises ValueError for an instrument or an account that is not there."""
    if scope == "all":
        state.tables["killed"] = int(kill)
        return
    rows, row, bit = _switch(state, scope, name)
    rows["checks"][row] = (
        rows["checks"][row] | bit if kill else rows["checks"][row] & ~np.array(bit, rows["checks"].dtype)
    )


def is_killed(state: RiskState, terms: Terms, scope: str, name: str | int | None) -> bool:
    """Whether a kill switch is set."""
    if scope == "all":
        return bool(state.tables["killed"][0])
    rows, row, bit = _switch(state, scope, name)
    return bool(rows["checks"][row] & bit)


def _switch(state: RiskState, scope: str, name: str | int | None) -> tuple[np.ndarray, int, int]:
    if scope == "session":
        return state.sessions, int(name or 0), SESSION_KILLED
    if scope == "account":
        slot, _ = named_account(state, str(name))
        if not (state.accounts["key_low"][slot] or state.accounts["key_high"][slot]):
            raise ValueError(f"there is no account '{name}'")
        return state.accounts, slot, ACCOUNT_KILLED
    found = np.flatnonzero(state.instruments["code"] == np.uint64(crc64(str(name).encode())))
    if not len(found):
        raise ValueError(f"there is no instrument '{name}'")
    return state.instruments, int(found[0]), INSTRUMENT_KILLED


def _check_room(state: RiskState, old: Terms, new: Terms) -> None:
    tables = state.tables[0]
    slots = [named_account(state, account.name) for account in new.accounts]
    fresh = sum(1 for slot, _ in slots if not (state.accounts["key_low"][slot] or state.accounts["key_high"][slot]))
    if tables["accounts"] + fresh > tables["account_room"]:
        raise ValueError(f"more than {tables['account_room']} accounts")
    pairs, had = ({(each.account, each.instrument) for each in terms.positions} for terms in (new, old))
    if tables["positions"] + len(pairs - had) > tables["position_room"]:
        raise ValueError(f"more than {tables['position_room']} positions")


def _account_row(state: RiskState, name: str) -> int:
    """The slot of a named account, which is entered if it is new."""
    slot, key = named_account(state, name)
    row, tables = state.accounts[slot], state.tables[0]
    if not (row["key_low"] or row["key_high"]):
        row["key_low"], row["key_high"] = key
        row["number"] = tables["accounts"]
        tables["accounts"] += 1
    return slot


def _write_account(row: np.void, account: Account, configured: int) -> None:
    row["order_high"], row["order_low"] = words(account.order_notional)
    row["limit_high"], row["limit_low"] = words(account.notional)
    row["gross_limit_high"], row["gross_limit_low"] = words(account.gross_notional)
    row["maximum_quantity"] = account.maximum_quantity
    row["long_limit"], row["short_limit"] = account.long_quantity, account.short_quantity
    row["interval"], row["tolerance"] = _bucket(account.order_rate, account.order_burst)
    row["self_trade"] = account.self_trade
    row["checks"] = (
        (int(row["checks"]) & ACCOUNT_KILLED)
        | configured
        | (ACCOUNT_QUANTITY if account.maximum_quantity < QUANTITY_LIMIT else 0)
        | (ACCOUNT_RATE if account.order_rate else 0)
        | (MARK_SHORTS if account.mark_shorts else 0)
    )


def _write_session(row: np.void, session: Session) -> None:
    row["maximum_quantity"] = session.maximum_quantity
    row["order_high"], row["order_low"] = words(session.order_notional)
    row["interval"], row["tolerance"] = _bucket(session.order_rate, session.order_burst)
    row["checks"] = (
        (int(row["checks"]) & SESSION_KILLED)
        | (SESSION_QUANTITY if session.maximum_quantity < QUANTITY_LIMIT else 0)
        | (SESSION_NOTIONAL if session.order_notional < NOTIONAL_LIMIT else 0)
        | (SESSION_RATE if session.order_rate else 0)
        | (DROP_ON_DISCONNECT if session.drop_on_disconnect else 0)
    )


def _write_position(state: RiskState, position: Position) -> None:
    slot, (low, _) = named_account(state, position.account)
    code = np.uint64(crc64(position.instrument.encode()))
    row = int(np.flatnonzero(state.instruments["code"] == code)[0])
    home = position_home(state.positions, np.uint64(low), code)
    place, known = position_slot(state.positions, home, int(state.accounts["number"][slot]), row)
    if not known:
        enter_position(state, place, slot, row)
    rows = state.positions
    if position.long_quantity is not None:
        rows["long_limit"][place] = position.long_quantity
    if position.short_quantity is not None:
        rows["short_limit"][place] = position.short_quantity
    rows["checks"][place] = (
        (ACCOUNT_RESTRICTED if position.restricted else 0)
        | (LOCATED if position.located else 0)
        | (OWN_LIMITS if position.long_quantity is not None or position.short_quantity is not None else 0)
    )


def _bucket(rate: int, burst: int) -> tuple[int, int]:
    """(ns that an order takes, rounded up so that no second has more than the rate; ns that orders may run ahead)."""
    interval = -(-_NANOSECONDS // rate) if rate else 0
    return interval, interval * (burst - 1)


def _apply_instruments(state: RiskState, old: Terms, new: Terms) -> RiskState:
    rows = {int(code): row for row, code in enumerate(state.instruments["code"])}
    before = {each.code: each for each in old.instruments}
    fresh = [each for each in new.instruments if each.code not in rows]
    if fresh:
        count = len(rows)
        instruments = np.zeros(count + len(fresh), INSTRUMENT_DTYPE)
        terms = np.zeros(count + len(fresh), TERMS_DTYPE)
        instruments[:count], terms[:count] = state.instruments, state.terms
        for row, each in enumerate(fresh, count):
            rows[each.code] = row
            instruments[row]["code"], instruments[row]["node"] = each.code, NO_NODE
        state = state._replace(instruments=instruments, terms=terms)
    state.terms["book"] = NONE
    state.instruments["checks"] = state.instruments["checks"] & INSTRUMENT_KILLED | WITHDRAWN
    for each in new.instruments:
        _write_instrument(state, rows[each.code], each, before.get(each.code))
    securities = [(each.security_id, rows[each.code]) for each in new.instruments if each.security_id is not None]
    return state._replace(symbols=_slots(rows.items()), securities=_slots(securities))


def _write_instrument(state: RiskState, number: int, instrument: Instrument, before: Instrument | None) -> None:
    row, terms = state.instruments[number], state.terms[number]
    row["maximum_quantity"] = instrument.maximum_quantity
    terms["order_high"], terms["order_low"] = words(instrument.order_notional)
    terms["collar_ppm"], terms["fat_finger_ppm"] = instrument.collar_ppm, instrument.fat_finger_ppm
    row["checks"] = (
        (int(row["checks"]) & INSTRUMENT_KILLED)
        | (RESTRICTED if instrument.restricted else 0)
        | (FAT_FINGER if instrument.fat_finger_ppm else 0)
        | (INSTRUMENT_NOTIONAL if instrument.order_notional < NOTIONAL_LIMIT else 0)
        | (0 if instrument.shortable else NOT_SHORTABLE)
    )
    # A reference that trades have moved stays, unless the file names another one than before.
    is_new = before is None or before.reference_price != instrument.reference_price
    set_reference(state, number, instrument.reference_price if is_new else int(row["reference"]))
    bid, ask = (int(terms[name]) for name in ("best_bid", "best_ask"))
    set_top(state, number, bool(terms["has_bid"]), bid, bool(terms["has_ask"]), ask)


def _slots(codes: Iterable[tuple[int, int]]) -> np.ndarray:
    """A hash table from codes to rows."""
    codes = list(codes)
    slots = np.zeros(table_size(max(len(codes), 1)), SLOT_DTYPE)
    slots["row"] = NONE
    for code, row in codes:
        enter_code(slots, np.uint64(code), row)
    return slots
