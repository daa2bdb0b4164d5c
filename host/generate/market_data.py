"""The market of the demo: a price walk, and the SBE packets that tell of it (``demo_market_data.xml``)."""

import struct
from collections import Counter
from pathlib import Path
from random import Random

from host.generate.instruments import INSTRUMENTS, Instrument

SCHEMA = Path(__file__).with_name("demo_market_data.xml")
"""The schema of the demo's market data."""

SCHEMA_ID, SCHEMA_VERSION = 77, 1
HEARTBEAT, SECURITY_STATUS, BOOK_REFRESH, TRADE_SUMMARY, SESSION_STATISTICS = 1, 2, 3, 4, 5
"""Template ids of the schema."""

PRICE_UNIT = 100
"""The market data counts prices in 1e-7."""

NULL_PRICE, NULL_SIZE = 2**63 - 1, 2**31 - 1

LEVELS = 5
"""Price levels of the book on each side."""

WALK_LIMIT = 33
"""Prices stay within a 33rd part (3 %) of the reference price, so that ordinary orders pass a 10 % collar."""

NEW, CHANGE, DELETE = 0, 1, 2
"""MDUpdateAction."""

HALT, READY_TO_TRADE = 2, 17
"""SecurityTradingStatus."""

LAST_TRADE, LAST_QUOTE, END_OF_EVENT = 0x01, 0x04, 0x80
"""MatchEventIndicator's bits."""

PACKET_HEADER = struct.Struct("<IQ")
MESSAGE_HEADER = struct.Struct("<HHHHH")  # the message size, then SBE's header
ROOT = struct.Struct("<QB2x")
STATUS = struct.Struct("<QiBB")
DIMENSION = struct.Struct("<HB")
DIMENSION_8_BYTE = struct.Struct("<H5xB")
BOOK_ENTRY = struct.Struct("<qiiIiBBc5x")
TRADE_ENTRY = struct.Struct("<qiiIiBB6x")
ORDER_ENTRY = struct.Struct("<Qi4x")
STATISTICS_ENTRY = struct.Struct("<qiiIB3x")


class Quote:
    """An instrument's market: its middle price and the day's trades."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.reference = instrument.reference_price // instrument.tick
        self.middle = self.reference
        self.instrument_sequence = 0
        self.volume = 0
        self.notional = 0

    def step(self, random: Random) -> None:
        """Walk up to two ticks either way, and back where the limit is reached."""
        self.middle += int(random.random() * 5) - 2
        limit = self.reference // WALK_LIMIT
        self.middle = min(max(self.middle, self.reference - limit), self.reference + limit)

    def price(self, ticks: int) -> int:
        """The price ``ticks`` above the middle, in 1e-9; at least one tick."""
        return max(self.middle + ticks, 1) * self.instrument.tick

    def next_sequence(self) -> int:
        """The next RptSeq."""
        self.instrument_sequence += 1
        return self.instrument_sequence


class MarketData:
    """Lets prices walk and writes packets about them.

    Attributes:
        quotes: the market of each instrument, by symbol.
        messages: messages written, by template id.
        entries: group entries written, by template id.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.quotes = {symbol: Quote(instrument) for symbol, instrument in INSTRUMENTS.items()}
        self.listed = list(self.quotes.values())
        self.messages: Counter[int] = Counter()
        self.entries: Counter[int] = Counter()
        self.packet_sequence = 0
        self.order_id = 0

    def packet(self, now: int) -> bytes:
        """The payload of the next packet, at time ``now`` in ns since 1970: one to four messages."""
        self.packet_sequence += 1
        parts = [PACKET_HEADER.pack(self.packet_sequence, now)]
        draw = self.random.random()
        if draw < 0.02:
            parts.append(self._message(HEARTBEAT, b""))
        elif draw < 0.04:
            parts.append(self._status(now))
        else:
            quote = self._pick()
            quote.step(self.random)
            if draw < 0.3:
                parts.append(self._trade(quote, now))
                if draw < 0.15:
                    parts.append(self._statistics(quote, now))
            parts.append(self._book(quote, now))
            if draw > 0.8:
                quote = self._pick()
                quote.step(self.random)
                parts.append(self._book(quote, now))
        return b"".join(parts)

    def _below(self, limit: int) -> int:
        # A fifth of the time that randrange takes; its bias is of no account here.
        return int(self.random.random() * limit)

    def _pick(self) -> Quote:
        return self.listed[self._below(len(self.listed))]

    def _message(self, template: int, body: bytes, block_length: int = 0, entries: int = 0) -> bytes:
        self.messages[template] += 1
        if entries:
            self.entries[template] += entries
        size = MESSAGE_HEADER.size + len(body)
        return MESSAGE_HEADER.pack(size, block_length, template, SCHEMA_ID, SCHEMA_VERSION) + body

    def _status(self, now: int) -> bytes:
        status = HALT if self._below(10) == 0 else READY_TO_TRADE
        body = STATUS.pack(now, self._pick().instrument.security_id, status, END_OF_EVENT)
        return self._message(SECURITY_STATUS, body, STATUS.size)

    def _book(self, quote: Quote, now: int) -> bytes:
        security_id = quote.instrument.security_id
        count = 1 + self._below(3)
        parts = [ROOT.pack(now, LAST_QUOTE | END_OF_EVENT), DIMENSION.pack(BOOK_ENTRY.size, count)]
        for _ in range(count):
            sequence = quote.next_sequence()
            if self._below(100) == 0:
                parts.append(BOOK_ENTRY.pack(NULL_PRICE, NULL_SIZE, security_id, sequence, NULL_SIZE, 0, NEW, b"J"))
                continue
            bid, level, action = self._below(2) == 0, 1 + self._below(LEVELS), self._below(3)
            price = quote.price(-level if bid else level) // PRICE_UNIT
            size, orders = (NULL_SIZE, NULL_SIZE) if action == DELETE else (100 * level, 1 + self._below(50))
            side = b"0" if bid else b"1"
            parts.append(BOOK_ENTRY.pack(price, size, security_id, sequence, orders, level, action, side))
        return self._message(BOOK_REFRESH, b"".join(parts), ROOT.size, count)

    def _trade(self, quote: Quote, now: int) -> bytes:
        aggressor = 1 + self._below(2)
        shares = [10 * (1 + self._below(40)) for _ in range(1 + self._below(3))]
        price = quote.price(1 if aggressor == 1 else -1) // PRICE_UNIT
        size = sum(shares)
        quote.volume += size
        quote.notional += size * price
        sequence = quote.next_sequence()
        parts = [
            ROOT.pack(now, LAST_TRADE),
            DIMENSION.pack(TRADE_ENTRY.size, 1),
            TRADE_ENTRY.pack(price, size, quote.instrument.security_id, sequence, len(shares), aggressor, NEW),
            DIMENSION_8_BYTE.pack(ORDER_ENTRY.size, len(shares)),
        ]
        for share in shares:
            self.order_id += 1
            parts.append(ORDER_ENTRY.pack(self.order_id, share))
        return self._message(TRADE_SUMMARY, b"".join(parts), ROOT.size, 1 + len(shares))

    def _statistics(self, quote: Quote, now: int) -> bytes:
        """The volume-weighted average price of this instrument and of another one, which may not have traded."""
        parts = [ROOT.pack(now, 0), DIMENSION.pack(STATISTICS_ENTRY.size, 2)]
        for each in (quote, self._pick()):
            price = each.notional // each.volume if each.volume else NULL_PRICE
            size = min(each.volume, NULL_SIZE - 1) or NULL_SIZE
            parts.append(STATISTICS_ENTRY.pack(price, size, each.instrument.security_id, each.next_sequence(), CHANGE))
        return self._message(SESSION_STATISTICS, b"".join(parts), ROOT.size, 2)
