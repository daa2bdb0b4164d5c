"""Pre-trade risk: what may be ordered, and what has been. See docs/gateway.md for the checks and their order."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hdl.frame import FRAME_DTYPE, crc64
from host.cluster.node import NO_NODE
from host.gateway.notional import NOTIONAL_DECIMALS, NOTIONAL_LIMIT, words
from host.gateway.risk_pass import (
    ACCOUNT_DTYPE,
    COUNTER_DTYPE,
    INSTRUMENT_DTYPE,
    LOOKAHEAD,
    SLOT_DTYPE,
    RiskState,
    account_key,
    account_slot,
    enter_code,
    restore_orders,
    risk_pass,
    set_reference,
)
from host.gateway.router import Router
from host.gateway.verdict import VERDICT_TEXT, Verdict, verdict_text
from host.journal.batch import Batch

__all__ = ["DEFAULT_ACCOUNT", "VERDICT_TEXT", "Account", "Instrument", "Risk", "Verdict", "verdict_text"]

CLIENT_ORDER_IDS = 1 << 20
"""Client order ids remembered by default: 32 MiB, touched only as they come."""

ACCOUNTS = 4096
"""Accounts, named ones included, by default."""

COLLAR_LIMIT_PPM = 1_000_000
"""Widest collar: ±100 % of the reference price."""


@dataclass(frozen=True)
class Instrument:
    """What may be ordered of one instrument.

    ``reference_price`` (1e-9) is the collar's middle until the first trade; ``maximum_quantity`` (1e-8) is the most
    an order may ask for; ``collar_ppm`` is how far a limit price may be from the reference, in millionths of it
    (50_000 is ±5 %), 0 for no collar. ``security_id`` is the instrument's number in the market data, whose trades
    move the reference; None if none are to.
    """

    symbol: str
    reference_price: int
    maximum_quantity: int
    collar_ppm: int = 0
    security_id: int | None = None

    def __post_init__(self) -> None:
        if not self.symbol:
            raise ValueError("an instrument needs a symbol")
        if not -(1 << 63) < self.reference_price < 1 << 63:
            raise ValueError(f"{self.symbol}: the reference price does not fit 64 bits")
        if not 0 < self.maximum_quantity < 1 << 64:
            raise ValueError(f"{self.symbol}: the maximum quantity does not fit 64 bits")
        if not 0 <= self.collar_ppm <= COLLAR_LIMIT_PPM:
            raise ValueError(f"{self.symbol}: a collar is 0 to {COLLAR_LIMIT_PPM} millionths")

    @property
    def code(self) -> int:
        """What the frame's ``instrument`` says of an order for it: the CRC-64 of the symbol."""
        return crc64(self.symbol.encode())


@dataclass(frozen=True)
class Account:
    """What an account may order, in notional (quantity × |price|, 1e-17; a market order at the reference price).

    ``order_notional`` bounds one order. ``notional`` bounds the sum over all accepted orders and replaces: the
    replaced order's share is not given back, and neither is a canceled one's.
    """

    name: str
    order_notional: int = NOTIONAL_LIMIT
    notional: int = NOTIONAL_LIMIT

    def __post_init__(self) -> None:
        if not (0 <= self.order_notional <= NOTIONAL_LIMIT and 0 <= self.notional <= NOTIONAL_LIMIT):
            raise ValueError(f"{self.name}: a notional limit is 0 to 2^127 - 1")


DEFAULT_ACCOUNT = Account("", 10_000_000 * 10**NOTIONAL_DECIMALS, 1_000_000_000_000 * 10**NOTIONAL_DECIMALS)
"""Limits of accounts that are not configured: ten million an order, a million million in all."""


class Risk:
    """The checks with their state, in flat arrays that the compiled pass works on.

    Parameters: ``instruments`` and ``accounts`` that are known; ``default_account``, whose limits every other account
    has; ``client_order_ids``, room for identifiers that are remembered to find duplicates; ``account_room``, most
    accounts. What has no room is rejected with its own verdict. No order passes before :meth:`route`.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        accounts: Iterable[Account] = (),
        *,
        default_account: Account = DEFAULT_ACCOUNT,
        client_order_ids: int = CLIENT_ORDER_IDS,
        account_room: int = ACCOUNTS,
    ) -> None:
        self.instruments = tuple(instruments)
        rows = np.zeros(len(self.instruments), INSTRUMENT_DTYPE)
        for row, instrument in zip(rows, self.instruments, strict=True):
            row["code"], row["maximum_quantity"] = instrument.code, instrument.maximum_quantity
            row["collar_ppm"], row["node"] = instrument.collar_ppm, NO_NODE
        self.state = RiskState(
            instruments=rows,
            symbols=_slots(self.instruments, [each.code for each in self.instruments]),
            securities=_slots(self.instruments, [each.security_id for each in self.instruments]),
            accounts=np.zeros(_table_size(account_room), ACCOUNT_DTYPE),
            client_order_ids=np.zeros((_table_size(client_order_ids), 2), np.uint64),
            keys=np.zeros((LOOKAHEAD, 2), np.uint64),
            default_account=np.zeros(1, ACCOUNT_DTYPE),
            counters=np.zeros(1, COUNTER_DTYPE),
        )
        for index, instrument in enumerate(self.instruments):
            set_reference(rows, index, instrument.reference_price)
        self.state.counters["client_order_id_room"] = client_order_ids
        self.state.counters["account_room"] = account_room
        _set_limits(self.state.default_account[0], default_account)
        for account in accounts:
            self._add(account)

    def route(self, router: Router) -> None:
        """Gives every instrument its node; the table equals ``router.node`` of each instrument's code."""
        nodes = np.zeros(len(self.state.instruments), np.uint8)
        router.assign(np.ascontiguousarray(self.state.instruments["code"]), nodes)
        self.state.instruments["node"] = nodes

    def decide(self, frames: np.ndarray, payload: np.ndarray, decisions: np.ndarray) -> None:
        """Checks and routes a slice of the ring in one pass that allocates nothing.

        ``frames`` has FRAME_DTYPE, ``payload`` is the payload ring (uint8). Writes a :class:`Verdict`, a node
        (NO_NODE unless accepted) and the price of valuation for each frame to ``decisions`` (DECISION_DTYPE).
        """
        if frames.dtype != FRAME_DTYPE:
            raise TypeError(f"frames have dtype {frames.dtype}, not FRAME_DTYPE")
        if len(decisions) < len(frames):
            raise ValueError(f"{len(frames)} frames do not fit {len(decisions)} decisions")
        risk_pass(frames, payload, self.state, decisions)

    def restore(self, batch: Batch) -> None:
        """Books a journaled batch's accepted orders again, as after a restart. Market orders are valued at the present
        reference price. Raises ValueError when there is no room for them."""
        lost = restore_orders(batch.frames, np.ascontiguousarray(batch.decisions["verdict"]), batch.payload, self.state)
        if lost:
            raise ValueError(f"no room for {lost} of the journal's client order ids or accounts: make more")

    def notional_used(self, account: str) -> int:
        """What a named account has used of its notional, 1e-17."""
        row = self.state.accounts[self._slot(account)[0]]
        return int(row["used_high"]) << 64 | int(row["used_low"])

    def reference_price(self, symbol: str) -> int:
        """The middle of an instrument's collar now, 1e-9."""
        index = [instrument.symbol for instrument in self.instruments].index(symbol)
        return int(self.state.instruments["reference"][index])

    def _slot(self, name: str) -> tuple[int, tuple[int, int]]:
        text = np.frombuffer(b"\x01" + name.encode(), np.uint8).copy()
        key = account_key(text, 0, 1, len(text), 0)
        return account_slot(self.state.accounts, *map(np.uint64, key)), key

    def _add(self, account: Account) -> None:
        if not account.name:
            raise ValueError("an account needs a name")
        counters = self.state.counters[0]
        if counters["accounts"] >= counters["account_room"]:
            raise ValueError(f"more than {counters['account_room']} accounts")
        slot, key = self._slot(account.name)
        row = self.state.accounts[slot]
        if row["key_low"] or row["key_high"]:
            raise ValueError(f"account {account.name} is configured twice")
        row["key_low"], row["key_high"] = key
        _set_limits(row, account)
        counters["accounts"] += 1


def _table_size(room: int) -> int:
    """Slots of a hash table that is at most half full."""
    if room < 1:
        raise ValueError("a table has room for at least one entry")
    return 1 << (2 * room - 1).bit_length()


def _slots(instruments: tuple[Instrument, ...], codes: list[int | None]) -> np.ndarray:
    """A hash table from codes to rows; None has no entry."""
    slots = np.zeros(_table_size(max(len(codes), 1)), SLOT_DTYPE)
    slots["row"] = -1
    for row, code in enumerate(codes):
        if code is not None and not enter_code(slots, np.uint64(code), row):
            raise ValueError(f"{instruments[row].symbol}: another instrument has the same symbol, code or security id")
    return slots


def _set_limits(row: np.void, account: Account) -> None:
    row["order_high"], row["order_low"] = words(account.order_notional)
    row["limit_high"], row["limit_low"] = words(account.notional)
