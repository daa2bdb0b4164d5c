"""The gateway's configuration file: which instruments, accounts, sessions and nodes there are, and their limits.

A TOML file with the tables ``nodes`` (number = weight), ``default_account``, ``[[instrument]]``, ``[[account]]``,
``[[session]]`` and ``[[position]]``; prices, quantities and notionals are decimal numbers as strings, so that none is rounded
on the way. docs/gateway.md has an example.
"""

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS
from host.gateway.notional import NOTIONAL_DECIMALS
from host.gateway.reject import decimal_text
from host.gateway.risk import Risk
from host.gateway.router import Router
from host.gateway.terms import DEFAULT_ACCOUNT, Account, Instrument, Position, SelfTrade, Session, Terms


class LimitsError(ValueError):
    """A limits file that cannot be used; one line with the file, the place and the reason."""


_EXACT = Context(prec=100)
"""Digits of a number in a file: so many that none which a limit can have is rounded."""

DEFAULT_NODES = {0: 1, 1: 1, 2: 1}
"""Nodes and weights where a file says nothing of them."""


@dataclass(frozen=True)
class Limits:
    """What a limits file says."""

    instruments: tuple[Instrument, ...] = ()
    accounts: tuple[Account, ...] = ()
    nodes: Mapping[int, int] = field(default_factory=lambda: DEFAULT_NODES)
    sessions: tuple[Session, ...] = ()
    positions: tuple[Position, ...] = ()
    default_account: Account = DEFAULT_ACCOUNT

    @property
    def terms(self) -> Terms:
        """What risk is to enforce: :meth:`Risk.limits_record` makes the control record that puts it in force."""
        return Terms(self.instruments, self.accounts, self.sessions, self.positions, self.default_account)

    def risk(self, **rooms: Any) -> Risk:
        """New risk state with these limits; ``rooms`` as in :class:`Risk`."""
        return Risk(
            self.instruments,
            self.accounts,
            sessions=self.sessions,
            positions=self.positions,
            default_account=self.default_account,
            **rooms,
        )

    def router(self) -> Router:
        """A router over these nodes."""
        return Router(self.nodes)


def load_limits(path: Path) -> Limits:
    """Read a limits file. Raises :class:`LimitsError`, or OSError where there is none."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LimitsError(f"{path}: not a TOML file: {error}") from None
    if unknown := sorted(set(content) - set(_TABLES)):
        raise LimitsError(f"{path}: unknown table '{unknown[0]}' (there are {', '.join(_TABLES)})")
    try:
        rows = {name: [_row(kind, row) for row in _rows(content, kind.table)] for name, kind in _KINDS.items()}
        default = content.get("default_account", {})
        if not isinstance(default, dict) or "name" in default:
            raise ValueError("'default_account' must be a table without a name")
        fallback = {name: getattr(DEFAULT_ACCOUNT, name) for name in ("order_notional", "notional")}
        limits = Limits(
            instruments=tuple(Instrument(**row) for row in rows["instruments"]),
            accounts=tuple(Account(**row) for row in rows["accounts"]),
            nodes=_nodes(content.get("nodes", {str(node): weight for node, weight in DEFAULT_NODES.items()})),
            sessions=tuple(Session(**row) for row in rows["sessions"]),
            positions=tuple(Position(**row) for row in rows["positions"]),
            default_account=Account(**(fallback | _row(_KINDS["accounts"], {"name": "", **default}))),
        )
        # What they say is checked there; room for orders would only take time to be made.
        limits.risk(client_order_ids=1, order_room=1)
        limits.router()
    except ValueError as error:
        raise LimitsError(f"{path}: {error}") from None
    return limits


def dump_limits(limits: Limits) -> str:
    """The limits file that says ``limits``."""
    lines = ["[nodes]", *(f"{node} = {weight}" for node, weight in limits.nodes.items())]
    if limits.default_account != DEFAULT_ACCOUNT:
        lines += ["", "[default_account]", *_lines(_KINDS["accounts"], limits.default_account, DEFAULT_ACCOUNT)]
    for name, kind in _KINDS.items():
        for row in getattr(limits, name):
            lines += ["", f"[[{kind.table}]]", *_lines(kind, row, None)]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Field:
    """A key of a row: how its value is read and written, and whether it must be there."""

    read: Callable[[dict, str, str], Any]
    write: Callable[[Any], str] = str
    needed: bool = False
    key: str | None = None
    """The name in the row's class, where it is another."""


@dataclass(frozen=True)
class _Kind:
    """A table of the file: its name there, what says which row an error is in, and its keys."""

    table: str
    named_by: tuple[str, ...]
    fields: Mapping[str, _Field]
    make: Callable[..., Any]


def _row(kind: _Kind, row: dict) -> dict[str, Any]:
    """A row's values as its class takes them."""
    where = f"{kind.table} '{' in '.join(str(row.get(name, '?')) for name in kind.named_by)}'"
    for name, its in kind.fields.items():
        if its.needed and name not in row:
            raise ValueError(f"{where}: '{name}' is missing")
    for name in row:
        if name not in kind.fields:
            raise ValueError(f"{where}: unknown key '{name}' (there are {', '.join(kind.fields)})")
    return {kind.fields[name].key or name: kind.fields[name].read(row, where, name) for name in row}


def _lines(kind: _Kind, row: Any, default: Any) -> list[str]:
    """The lines that say a row; what is as in ``default`` (None: a row with nothing but what it needs) is left out."""
    if default is None:
        needed = {its.key or name: getattr(row, its.key or name) for name, its in kind.fields.items() if its.needed}
        default = kind.make(**needed)
    lines = []
    for name, its in kind.fields.items():
        value = getattr(row, its.key or name)
        if (its.needed and value != "") or value != getattr(default, its.key or name):
            lines.append(f"{name} = {its.write(value)}")
    return lines


def _rows(content: dict, name: str) -> list[dict]:
    rows = content.get(name, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"'{name}' must be an array of tables: [[{name}]]")
    return rows


def _nodes(table: object) -> dict[int, int]:
    if not isinstance(table, dict) or not table:
        raise ValueError("'nodes' must be a table of node numbers and weights")
    for node, weight in table.items():
        if not node.isdigit() or not isinstance(weight, int):
            raise ValueError(f"nodes: '{node} = {weight}' is not a node number and a weight")
    return {int(node): weight for node, weight in table.items()}


def _string(row: dict, where: str, name: str) -> str:
    if not isinstance(row[name], str):
        raise ValueError(f"{where}: '{name}' must be a string")
    return row[name]


def _integer(row: dict, where: str, name: str) -> int:
    if not isinstance(row[name], int) or isinstance(row[name], bool):
        raise ValueError(f"{where}: '{name}' must be an integer")
    return row[name]


def _fixed(row: dict, where: str, name: str, decimals: int) -> int:
    text = row[name]
    try:
        number = Decimal(text if isinstance(text, str) else "?").scaleb(decimals, _EXACT)
    except InvalidOperation:
        raise ValueError(f"{where}: '{name}' must be a decimal number as a string, such as \"42.50\"") from None
    if not number.is_finite() or number != number.to_integral_value():
        raise ValueError(f"{where}: '{name}' has more than {decimals} decimals")
    return int(number)


def _boolean(row: dict, where: str, name: str) -> bool:
    if not isinstance(row[name], bool):
        raise ValueError(f"{where}: '{name}' must be true or false")
    return row[name]


def _self_trade(row: dict, where: str, name: str) -> SelfTrade:
    names = {each.name.lower(): each for each in SelfTrade}
    if not isinstance(row[name], str) or row[name] not in names:
        raise ValueError(f"{where}: '{name}' must be one of {', '.join(names)}")
    return names[row[name]]


def _decimal(decimals: int, needed: bool = False) -> _Field:
    return _Field(
        lambda row, where, name: _fixed(row, where, name, decimals),
        lambda value: f'"{decimal_text(value, decimals)}"',
        needed,
    )


_NAME = _Field(_string, json.dumps, needed=True)
_NUMBER = _Field(_integer)
_SWITCH = _Field(_boolean, lambda value: str(value).lower())
_PRICE = _decimal(PRICE_DECIMALS, needed=True)
_QUANTITY, _NOTIONAL = _decimal(QUANTITY_DECIMALS), _decimal(NOTIONAL_DECIMALS)
_RATE = {"order_rate": _NUMBER, "order_burst": _NUMBER}

_KINDS = {
    "instruments": _Kind(
        "instrument",
        ("symbol",),
        {
            "symbol": _NAME,
            "reference_price": _PRICE,
            "maximum_quantity": _decimal(QUANTITY_DECIMALS, needed=True),
            "collar_ppm": _NUMBER,
            "security_id": _NUMBER,
            "fat_finger_ppm": _NUMBER,
            "order_notional": _NOTIONAL,
            "restricted": _SWITCH,
            "shortable": _SWITCH,
        },
        Instrument,
    ),
    "accounts": _Kind(
        "account",
        ("name",),
        {
            "name": _NAME,
            "order_notional": _NOTIONAL,
            "notional": _NOTIONAL,
            "gross_notional": _NOTIONAL,
            "maximum_quantity": _QUANTITY,
            "long_quantity": _QUANTITY,
            "short_quantity": _QUANTITY,
            **_RATE,
            "self_trade": _Field(_self_trade, lambda value: f'"{value.name.lower()}"'),
            "mark_shorts": _SWITCH,
        },
        Account,
    ),
    "sessions": _Kind(
        "session",
        ("session",),
        {
            "session": _Field(_integer, needed=True, key="flow"),
            **_RATE,
            "maximum_quantity": _QUANTITY,
            "order_notional": _NOTIONAL,
            "drop_on_disconnect": _SWITCH,
        },
        Session,
    ),
    "positions": _Kind(
        "position",
        ("account", "instrument"),
        {
            "account": _NAME,
            "instrument": _NAME,
            "long_quantity": _QUANTITY,
            "short_quantity": _QUANTITY,
            "restricted": _SWITCH,
            "located": _SWITCH,
        },
        Position,
    ),
}
"""The rows of a file, by their names in :class:`Limits`."""

_TABLES = ("nodes", "default_account", *(kind.table for kind in _KINDS.values()))
