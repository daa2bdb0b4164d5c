"""Makes up traffic for demos and tests: FIX orders over TCP, market data in SBE over UDP, from a seed."""

from host.generate.instruments import ACCOUNTS, INSTRUMENTS, Instrument
from host.generate.market_data import SCHEMA
from host.generate.traffic import Generated, Sent, generate

__all__ = ["generate", "Generated", "Sent", "INSTRUMENTS", "Instrument", "ACCOUNTS", "SCHEMA"]
