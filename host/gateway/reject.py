"""Why an order was refused: the rule, its limit and the order's value, as numbers and in words."""

from dataclasses import dataclass

import numpy as np

from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS
from host.gateway.notional import NOTIONAL_DECIMALS
from host.gateway.verdict import VERDICT_TEXT, Verdict
from host.journal.batch import NOTED, Batch

_NOTIONAL = frozenset(
    {
        Verdict.INSTRUMENT_NOTIONAL,
        Verdict.SESSION_NOTIONAL,
        Verdict.ORDER_NOTIONAL,
        Verdict.ACCOUNT_NOTIONAL,
        Verdict.GROSS_EXPOSURE,
    }
)
DECIMALS: dict[Verdict, int] = {
    **dict.fromkeys(_NOTIONAL, NOTIONAL_DECIMALS),
    Verdict.MAXIMUM_QUANTITY: QUANTITY_DECIMALS,
    Verdict.SESSION_QUANTITY: QUANTITY_DECIMALS,
    Verdict.ACCOUNT_QUANTITY: QUANTITY_DECIMALS,
    Verdict.PRICE_COLLAR: PRICE_DECIMALS,
    Verdict.FAT_FINGER: PRICE_DECIMALS,
    Verdict.NOT_SHORTABLE: QUANTITY_DECIMALS,
    Verdict.SHORT_NOT_MARKED: QUANTITY_DECIMALS,
    Verdict.LONG_EXPOSURE: QUANTITY_DECIMALS,
    Verdict.SHORT_EXPOSURE: QUANTITY_DECIMALS,
    Verdict.ACCOUNT_RATE: 9,
    Verdict.SESSION_RATE: 9,
    Verdict.ACCOUNTS_FULL: 0,
    Verdict.POSITIONS_FULL: 0,
    Verdict.ORDERS_FULL: 0,
    Verdict.CLIENT_ORDER_IDS_FULL: 0,
}
"""The rules that have a limit and a value, and how many decimals these are counted with."""


@dataclass(frozen=True)
class Reject:
    """A refused order: ``verdict`` is the rule, ``limit`` and ``value`` are what it allows and what would have been, in
    10^-:data:`DECIMALS`; None where the rule compares nothing. A rate's limit is the time (ns) from which on it allows an order,
    its value the order's."""

    verdict: Verdict
    limit: int | None
    value: int | None

    @property
    def text(self) -> str:
        """For tag 58 (Text) of a reject."""
        words = VERDICT_TEXT[self.verdict]
        if self.limit is None or self.value is None:
            return words
        if self.verdict in (Verdict.ACCOUNT_RATE, Verdict.SESSION_RATE):
            return f"{words}: the next order may come {self.limit - self.value} ns later"
        value, limit = (decimal_text(number, DECIMALS[self.verdict]) for number in (self.value, self.limit))
        return f"{words}: {value}, limit {limit}"


def reject_of(note: np.void) -> Reject:
    """The reject that a note (NOTE_DTYPE) of the pass says."""
    limit, value = (int(note[f"{name}_high"]) << 64 | int(note[f"{name}_low"]) for name in ("limit", "value"))
    return _reject(Verdict(int(note["verdict"])), limit, value)


def told_reject(record: np.void) -> Reject:
    """The reject that a session's record (host.gateway.session_ring.SESSION_DTYPE) says."""
    limit = int(record["limit_high"]) << 64 | int(record["report"]["leaves"])
    value = int(record["value_high"]) << 64 | int(record["report"]["cumulative"])
    return _reject(Verdict(int(record["verdict"])), limit, value)


def journaled_reject(batch: Batch, index: int) -> Reject:
    """The reject of a refused order of a batch. Without its numbers where the journal is older than these are."""
    limit = value = 0
    if batch.decisions["flags"][index] & NOTED:
        limit, value = batch.note(index)
    return _reject(Verdict(int(batch.decisions["verdict"][index])), limit, value)


def journaled_numbers(batch: Batch, index: int) -> tuple[str | None, str | None]:
    """(value, limit) of a refused order of a batch as one writes them, None where its rule compares nothing."""
    reject = journaled_reject(batch, index)
    if reject.limit is None or reject.value is None:
        return None, None
    decimals = DECIMALS[reject.verdict]
    return decimal_text(reject.value, decimals), decimal_text(reject.limit, decimals)


def _reject(verdict: Verdict, limit: int, value: int) -> Reject:
    if verdict not in DECIMALS or limit == value:
        return Reject(verdict, None, None)
    if verdict in _NOTIONAL:  # these have no sign and may use all 128 bits
        limit, value = limit % (1 << 128), value % (1 << 128)
    return Reject(verdict, limit, value)


def decimal_text(value: int, decimals: int) -> str:
    """A number counted in 10^-decimals as one writes it, exactly."""
    sign, digits = "-" if value < 0 else "", str(abs(value)).rjust(decimals + 1, "0")
    whole, part = digits[: len(digits) - decimals], digits[len(digits) - decimals :].rstrip("0")
    return f"{sign}{whole}.{part}" if part else f"{sign}{whole}"
