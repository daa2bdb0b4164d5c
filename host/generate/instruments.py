"""What the demo trades: its instruments, accounts and their limits, as data for whoever checks risk."""

from dataclasses import dataclass

ONE_PRICE = 10**9
"""One unit of currency, in 1e-9."""

ONE_QUANTITY = 10**8
"""A quantity of one, in 1e-8."""


@dataclass(frozen=True)
class Instrument:
    """An instrument of the demo.

    Attributes:
        symbol: FIX tag 55, at most eight characters.
        security_id: SecurityID in the market data.
        reference_price: yesterday's settlement, in 1e-9; the day's prices stay within 4 % of it.
        tick: smallest step of a price, in 1e-9; a multiple of 100, for the market data counts in 1e-7.
        maximum_quantity: most that one order may ask for, in 1e-8.
        collar_ppm: how far a limit price may be from the reference price, in millionths of it.
    """

    symbol: str
    security_id: int
    reference_price: int
    tick: int
    maximum_quantity: int
    collar_ppm: int


MAXIMUM_QUANTITY = 1_000_000 * ONE_QUANTITY
"""Most that one order may ask for, in 1e-8."""

COLLAR_PPM = 100_000
"""±10 %."""

# Symbol: reference price and tick, in 1e-2 and in 1e-5 (the last rows, quoted like currencies).
_CENTS = {
    "ACORN": (4_250, 1), "ALDER": (18_710, 1), "AMBER": (9_935, 1), "ASPEN": (27_340, 1), "AZURE": (6_120, 1),
    "BASALT": (3_380, 1), "BIRCH": (14_405, 1), "BRASS": (7_760, 1), "CEDAR": (52_180, 5), "CLOVER": (2_915, 1),
    "COBALT": (88_650, 5), "COPPER": (11_275, 1), "CORAL": (5_540, 1), "DUNE": (8_890, 1), "EBONY": (33_065, 5),
    "ELM": (4_715, 1), "FERN": (2_460, 1), "FLINT": (16_230, 1), "GARNET": (71_400, 5), "GRANITE": (12_980, 1),
    "HAZEL": (3_645, 1), "HERON": (22_505, 1), "INDIGO": (41_070, 5), "IVORY": (6_855, 1), "JADE": (95_325, 5),
    "JUNIPER": (10_490, 1), "KELP": (2_735, 1), "LARCH": (5_195, 1), "LINDEN": (19_860, 1), "MAPLE": (29_415, 1),
    "MARBLE": (13_625, 1), "NICKEL": (620_000, 25), "OAK": (8_345, 1), "ONYX": (540_500, 25), "PEARL": (36_980, 5),
    "QUARTZ": (61_755, 5),
}  # fmt: skip
_CURRENCIES = {"EUR/USD": (108_450, 1), "GBP/USD": (127_120, 1), "AUD/USD": (65_880, 1), "USD/CHF": (88_040, 1)}


def _instruments() -> dict[str, Instrument]:
    listed = [(symbol, price, tick, 10**7) for symbol, (price, tick) in _CENTS.items()]
    listed += [(symbol, price, tick, 10**4) for symbol, (price, tick) in _CURRENCIES.items()]
    return {
        symbol: Instrument(
            symbol,
            security_id=1000 + number,
            reference_price=price * unit,
            tick=tick * unit,
            maximum_quantity=MAXIMUM_QUANTITY,
            collar_ppm=COLLAR_PPM,
        )
        for number, (symbol, price, tick, unit) in enumerate(listed)
    }


INSTRUMENTS: dict[str, Instrument] = _instruments()
"""The instruments by symbol. Orders for any other symbol are for an unknown instrument."""

UNKNOWN_SYMBOL = "ZZZZ"

ORDER_NOTIONAL = 10_000_000
"""Currency units that one order may be worth (price × quantity): more than any ordinary order of the demo is, and
far less than its excessive ones are."""

ACCOUNTS: dict[str, int] = dict.fromkeys(
    ("ALPHA-1", "ALPHA-2", "BETA", "GAMMA-EU", "GAMMA-US", "DELTA", "EPSILON", "HOUSE"), ORDER_NOTIONAL
)
"""Most that one order of each account may be worth, in currency units."""


def price_text(price: int) -> str:
    """A price in 1e-9 as FIX writes it, without zeros behind the last digit that counts."""
    whole, fraction = divmod(price, ONE_PRICE)
    return f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")
