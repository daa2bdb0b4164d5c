"""What may be ordered: limits of instruments, accounts, sessions and positions, as data that says the same everywhere.

Quantities are 1e-8, prices 1e-9, notionals (quantity × |price|) 1e-17. The rules are docs/gateway.md's.
"""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hdl.frame import crc64
from host.gateway.notional import NOTIONAL_DECIMALS, NOTIONAL_LIMIT
from host.gateway.risk_state import QUANTITY_LIMIT

WIDTH_LIMIT_PPM = 1_000_000
"""Widest collar and distance from the book: ±100 % of the price."""

RATE_LIMIT = 1_000_000_000
"""Highest order rate, orders a second: one a nanosecond, the clock's step."""

BURST_LIMIT = 1_000_000_000
"""Most orders at once."""

SESSION_LIMIT = 0xFFFE
"""Highest session number: the rows of the flow table, without NO_FLOW."""


def _check_notionals(name: str, *values: int) -> None:
    if not all(0 <= value <= NOTIONAL_LIMIT for value in values):
        raise ValueError(f"{name}: a notional limit is 0 to 2^127 - 1")


def _check_quantities(name: str, *values: int) -> None:
    if not all(0 <= value <= QUANTITY_LIMIT for value in values):
        raise ValueError(f"{name}: a quantity limit is 0 to 2^62 - 1")


def _check_rate(name: str, rate: int, burst: int) -> None:
    if not 0 <= rate <= RATE_LIMIT:
        raise ValueError(f"{name}: an order rate is 0 (any) to {RATE_LIMIT} a second")
    if not 1 <= burst <= BURST_LIMIT:
        raise ValueError(f"{name}: an order burst is 1 to {BURST_LIMIT}")


class SelfTrade(enum.IntEnum):
    """What is done when an account's order would trade with another one of the same account."""

    ALLOWED = 0
    CANCEL_NEWEST = 1
    CANCEL_OLDEST = 2
    CANCEL_BOTH = 3


@dataclass(frozen=True)
class Instrument:
    """What may be ordered of one instrument.

    ``reference_price`` is the collar's middle until the first trade; ``maximum_quantity`` and ``order_notional`` bound
    one order; ``collar_ppm`` is how far a limit price may be from the reference, in millionths of it (50_000 is
    ±5 %), ``fat_finger_ppm`` how far a buy price may be above the best ask and a sell price below the best bid; 0 for
    no such check. ``security_id`` is the instrument's number in the market data, whose trades move the reference;
    None if none are to. ``restricted``: nothing is ordered; ``shortable``: short sales need no locate.
    """

    symbol: str
    reference_price: int
    maximum_quantity: int
    collar_ppm: int = 0
    security_id: int | None = None
    fat_finger_ppm: int = 0
    order_notional: int = NOTIONAL_LIMIT
    restricted: bool = False
    shortable: bool = True

    def __post_init__(self) -> None:
        if not self.symbol:
            raise ValueError("an instrument needs a symbol")
        if not -(1 << 63) < self.reference_price < 1 << 63:
            raise ValueError(f"{self.symbol}: the reference price does not fit 64 bits")
        if not 0 < self.maximum_quantity <= QUANTITY_LIMIT:
            raise ValueError(f"{self.symbol}: the maximum quantity is not above 0 and below 2^62")
        if not 0 <= self.collar_ppm <= WIDTH_LIMIT_PPM:
            raise ValueError(f"{self.symbol}: a collar is 0 to {WIDTH_LIMIT_PPM} millionths")
        if not 0 <= self.fat_finger_ppm <= WIDTH_LIMIT_PPM:
            raise ValueError(f"{self.symbol}: the distance from the book is 0 to {WIDTH_LIMIT_PPM} millionths")
        if self.security_id is not None and not 0 < self.security_id < 1 << 64:
            raise ValueError(f"{self.symbol}: the security id does not fit 64 bits")
        _check_notionals(self.symbol, self.order_notional)

    @property
    def code(self) -> int:
        """What the frame's ``instrument`` says of an order for it: the CRC-64 of the symbol."""
        return crc64(self.symbol.encode())


@dataclass(frozen=True)
class Account:
    """What an account may order.

    ``order_notional`` and ``maximum_quantity`` bound one order, a market order valued at the reference price.
    ``notional`` bounds the sum over the day's accepted orders and replaces: the replaced order's share is not given
    back, and neither is a canceled one's. ``gross_notional`` bounds the worst case over all instruments,
    ``long_quantity`` and ``short_quantity`` that of each one. ``order_rate`` (orders a second, 0: any) and ``order_burst``
    (orders at once) bound new orders and replaces. ``mark_shorts``: what is sold beyond the position must have Side 5 or 6.
    """

    name: str
    order_notional: int = NOTIONAL_LIMIT
    notional: int = NOTIONAL_LIMIT
    gross_notional: int = NOTIONAL_LIMIT
    maximum_quantity: int = QUANTITY_LIMIT
    long_quantity: int = QUANTITY_LIMIT
    short_quantity: int = QUANTITY_LIMIT
    order_rate: int = 0
    order_burst: int = 1
    self_trade: SelfTrade = SelfTrade.ALLOWED
    mark_shorts: bool = False

    def __post_init__(self) -> None:
        _check_notionals(self.name, self.order_notional, self.notional, self.gross_notional)
        _check_quantities(self.name, self.maximum_quantity, self.long_quantity, self.short_quantity)
        _check_rate(self.name, self.order_rate, self.order_burst)


@dataclass(frozen=True)
class Session:
    """What a session may order; ``flow`` is the frame's. ``drop_on_disconnect``: its open orders end with it."""

    flow: int
    order_rate: int = 0
    order_burst: int = 1
    maximum_quantity: int = QUANTITY_LIMIT
    order_notional: int = NOTIONAL_LIMIT
    drop_on_disconnect: bool = False

    def __post_init__(self) -> None:
        name = f"session {self.flow}"
        if not 0 <= self.flow <= SESSION_LIMIT:
            raise ValueError(f"{name}: a session is 0 to {SESSION_LIMIT}")
        _check_notionals(name, self.order_notional)
        _check_quantities(name, self.maximum_quantity)
        _check_rate(name, self.order_rate, self.order_burst)


@dataclass(frozen=True)
class Position:
    """What an account may order of one instrument where that differs: exposures instead of the account's (None: as the
    account), ``restricted``: nothing; ``located``: shares to borrow have been found, so short sales are allowed."""

    account: str
    instrument: str
    long_quantity: int | None = None
    short_quantity: int | None = None
    restricted: bool = False
    located: bool = False

    def __post_init__(self) -> None:
        _check_quantities(
            f"{self.account} in {self.instrument}",
            *(value for value in (self.long_quantity, self.short_quantity) if value is not None),
        )


DEFAULT_ACCOUNT = Account("", 10_000_000 * 10**NOTIONAL_DECIMALS, 1_000_000_000_000 * 10**NOTIONAL_DECIMALS)
"""Limits of accounts that are not configured: ten million an order, a million million a day."""


@dataclass(frozen=True)
class Terms:
    """All limits of one moment. Raises ValueError for what is there twice, or of something that is not there."""

    instruments: tuple[Instrument, ...] = ()
    accounts: tuple[Account, ...] = ()
    sessions: tuple[Session, ...] = ()
    positions: tuple[Position, ...] = ()
    default_account: Account = field(default=DEFAULT_ACCOUNT)

    def __post_init__(self) -> None:
        symbols = _once("instrument", (each.symbol for each in self.instruments))
        _once("instrument with code", (each.code for each in self.instruments))
        _once("security id", (each.security_id for each in self.instruments if each.security_id is not None))
        names = _once("account", (each.name for each in self.accounts))
        if "" in names:
            raise ValueError("an account needs a name")
        _once("session", (each.flow for each in self.sessions))
        _once("position", (f"{each.account} in {each.instrument}" for each in self.positions))
        for each in self.positions:
            if each.account not in names:
                raise ValueError(f"position {each.account} in {each.instrument}: there is no account '{each.account}'")
            if each.instrument not in symbols:
                raise ValueError(
                    f"position {each.account} in {each.instrument}: there is no instrument '{each.instrument}'"
                )

    def record(self, before: "Terms | None" = None) -> dict[str, object] | None:
        """The control record that changes ``before`` (None: nothing) into these limits; None when they are the same.

        It holds only what differs: rows that are new or changed, and under ``withdrawn`` the keys of those that are gone.
        """
        old = Terms() if before is None else before
        record: dict[str, object] = {}
        withdrawn: dict[str, list] = {}
        for name, (_, key) in _ROWS.items():
            rows, olds = ({key(each): each for each in getattr(terms, name)} for terms in (self, old))
            if changed := [asdict(row) for its, row in rows.items() if olds.get(its) != row]:
                record[name] = changed
            if gone := [its if isinstance(its, str | int) else list(its) for its in olds if its not in rows]:
                withdrawn[name] = gone
        if before is None or self.default_account != old.default_account:
            record["default_account"] = asdict(self.default_account)
        if withdrawn:
            record["withdrawn"] = withdrawn
        return {"type": "limits", **record} if record else None

    def changed(self, record: Mapping) -> "Terms":
        """The limits after a control record of type "limits"."""
        parts: dict[str, object] = {}
        for name, (make, key) in _ROWS.items():
            rows = {key(each): each for each in getattr(self, name)}
            for gone in record.get("withdrawn", {}).get(name, ()):
                rows.pop(tuple(gone) if isinstance(gone, list) else gone, None)
            for row in record.get(name, ()):
                made = make(**row)
                rows[key(made)] = made
            parts[name] = tuple(rows.values())
        if "default_account" in record:
            parts["default_account"] = _account(**record["default_account"])
        return replace(self, **parts)  # type: ignore[arg-type]


def _account(**row: object) -> Account:
    made = Account(**row)  # type: ignore[arg-type]
    return replace(made, self_trade=SelfTrade(made.self_trade))


_ROWS: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "instruments": (Instrument, lambda each: each.symbol),
    "accounts": (_account, lambda each: each.name),
    "sessions": (Session, lambda each: each.flow),
    "positions": (Position, lambda each: (each.account, each.instrument)),
}
"""The lists of :class:`Terms`: what makes a row of a mapping, and what names it."""


def _once(what: str, keys: Iterable[object]) -> set[object]:
    seen: set[object] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"{what} {key} is configured twice")
        seen.add(key)
    return seen
