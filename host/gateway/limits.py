"""The gateway's configuration file: which instruments, accounts and nodes there are, and their limits.

A TOML file with the tables ``nodes`` (number = weight), ``[[instrument]]`` and ``[[account]]``; prices, quantities
and notionals are decimal numbers as strings, so that none is rounded on the way. docs/gateway.md has an example.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS
from host.gateway.notional import NOTIONAL_DECIMALS, NOTIONAL_LIMIT
from host.gateway.risk import Account, Instrument, Risk
from host.gateway.router import Router


class LimitsError(ValueError):
    """A limits file that cannot be used; one line with the file, the place and the reason."""


DEFAULT_NODES = {0: 1, 1: 1, 2: 1}
"""Nodes and weights where a file says nothing of them."""


@dataclass(frozen=True)
class Limits:
    """What a limits file says."""

    instruments: tuple[Instrument, ...] = ()
    accounts: tuple[Account, ...] = ()
    nodes: Mapping[int, int] = field(default_factory=lambda: DEFAULT_NODES)

    def risk(self) -> Risk:
        """New risk state with these limits."""
        return Risk(self.instruments, self.accounts)

    def router(self) -> Router:
        """A router over these nodes."""
        return Router(self.nodes)


def load_limits(path: Path) -> Limits:
    """Read a limits file. Raises :class:`LimitsError`, or OSError where there is none."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LimitsError(f"{path}: not a TOML file: {error}") from None
    if unknown := sorted(set(content) - {"nodes", "instrument", "account"}):
        raise LimitsError(f"{path}: unknown table '{unknown[0]}' (there are nodes, instrument, account)")
    try:
        instruments = tuple(_instrument(row) for row in _rows(content, "instrument"))
        accounts = tuple(_account(row) for row in _rows(content, "account"))
        nodes = _nodes(content.get("nodes", {str(node): weight for node, weight in DEFAULT_NODES.items()}))
        limits = Limits(instruments, accounts, nodes)
        limits.risk()
        limits.router()
    except ValueError as error:
        raise LimitsError(f"{path}: {error}") from None
    return limits


def dump_limits(limits: Limits) -> str:
    """The limits file that says ``limits``."""
    lines = ["[nodes]", *(f"{node} = {weight}" for node, weight in limits.nodes.items())]
    for instrument in limits.instruments:
        lines += [
            "",
            "[[instrument]]",
            f'symbol = "{instrument.symbol}"',
            f'reference_price = "{_text(instrument.reference_price, PRICE_DECIMALS)}"',
            f'maximum_quantity = "{_text(instrument.maximum_quantity, QUANTITY_DECIMALS)}"',
            f"collar_ppm = {instrument.collar_ppm}",
        ]
        if instrument.security_id is not None:
            lines.append(f"security_id = {instrument.security_id}")
    for account in limits.accounts:
        lines += ["", "[[account]]", f'name = "{account.name}"']
        for name in ("order_notional", "notional"):
            if (value := getattr(account, name)) != NOTIONAL_LIMIT:
                lines.append(f'{name} = "{_text(value, NOTIONAL_DECIMALS)}"')
    return "\n".join(lines) + "\n"


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


def _instrument(row: dict) -> Instrument:
    where = f"instrument '{row.get('symbol', '?')}'"
    _only(row, where, ("symbol", "reference_price", "maximum_quantity"), ("collar_ppm", "security_id"))
    return Instrument(
        symbol=_string(row, where, "symbol"),
        reference_price=_fixed(row, where, "reference_price", PRICE_DECIMALS),
        maximum_quantity=_fixed(row, where, "maximum_quantity", QUANTITY_DECIMALS),
        collar_ppm=_integer(row, where, "collar_ppm", 0) or 0,
        security_id=_integer(row, where, "security_id", None),
    )


def _account(row: dict) -> Account:
    where = f"account '{row.get('name', '?')}'"
    _only(row, where, ("name",), ("order_notional", "notional"))
    given = {
        name: _fixed(row, where, name, NOTIONAL_DECIMALS) for name in ("order_notional", "notional") if name in row
    }
    return Account(_string(row, where, "name"), **given)


def _only(row: dict, where: str, needed: tuple[str, ...], possible: tuple[str, ...]) -> None:
    for name in needed:
        if name not in row:
            raise ValueError(f"{where}: '{name}' is missing")
    for name in row:
        if name not in needed + possible:
            raise ValueError(f"{where}: unknown key '{name}' (there are {', '.join(needed + possible)})")


def _string(row: dict, where: str, name: str) -> str:
    if not isinstance(row[name], str):
        raise ValueError(f"{where}: '{name}' must be a string")
    return row[name]


def _integer(row: dict, where: str, name: str, otherwise: int | None) -> int | None:
    value = row.get(name, otherwise)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"{where}: '{name}' must be an integer")
    return value


def _fixed(row: dict, where: str, name: str, decimals: int) -> int:
    text = row[name]
    try:
        number = Decimal(text if isinstance(text, str) else "?").scaleb(decimals)
    except InvalidOperation:
        raise ValueError(f"{where}: '{name}' must be a decimal number as a string, such as \"42.50\"") from None
    if not number.is_finite() or number != number.to_integral_value():
        raise ValueError(f"{where}: '{name}' has more than {decimals} decimals")
    return int(number)


def _text(value: int, decimals: int) -> str:
    text = f"{Decimal(value).scaleb(-decimals):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
