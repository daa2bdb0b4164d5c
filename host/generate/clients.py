"""The clients of the demo: each a FIX 4.4 session that sends orders to the gateway."""

from collections import Counter, deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random

from hdl.flow import Endpoint
from host.generate.faults import FAULTS, encode
from host.generate.instruments import (
    ACCOUNTS,
    INSTRUMENTS,
    MAXIMUM_QUANTITY,
    ONE_QUANTITY,
    UNKNOWN_SYMBOL,
    price_text,
)
from host.generate.market_data import Quote

GATEWAY_COMP_ID = b"TICKGATE"
HEARTBEAT_INTERVAL = 30
"""HeartBtInt in seconds. Heartbeats come more often than that, which FIX allows, so that a short capture has some."""

REMEMBERED = 256
"""Orders of a session that it may still cancel or replace; older ones are left alone."""

CANCEL_SHARE, REPLACE_SHARE = 0.12, 0.12
"""Shares of cancels and replaces among a session's order messages, where it has orders to name."""

EXCESSIVE_SHARE = 0.01
"""Share of new orders that risk must reject."""

EXCESSIVE = ("unknown instrument", "quantity", "collar", "notional", "duplicate")
"""Why risk must reject an order: a symbol that is not listed, ten times the maximum quantity, three times the
reference price, a notional beyond the account's limit for one order, a ClOrdID that was used before."""

BUY, SELL = b"1", b"2"
DAY, GOOD_TILL_CANCEL, IMMEDIATE_OR_CANCEL, FILL_OR_KILL = b"0", b"1", b"3", b"4"

TIMES_IN_FORCE = (*(None,) * 6, *(DAY,) * 6, *(GOOD_TILL_CANCEL,) * 4, *(IMMEDIATE_OR_CANCEL,) * 3, FILL_OR_KILL)
"""What a limit order draws from: most are for the day, half of which do not say so."""

HEAD_FIELDS = 5
"""Fields of the header behind BodyLength: MsgType, SenderCompID, TargetCompID, MsgSeqNum, SendingTime."""

WAYS = list(FAULTS)

DEAREST = max(INSTRUMENTS.values(), key=lambda instrument: instrument.reference_price).symbol.encode()


@dataclass(frozen=True)
class Order:
    """An order as its client means it.

    Attributes:
        identifier: ClOrdID.
        account: tag 1.
        symbol: tag 55.
        side: tag 54, ``1`` buy or ``2`` sell.
        quantity: tag 38, as text.
        price: tag 44 in 1e-9; None: a market order.
        time_in_force: tag 59; None: left out, which means Day.
    """

    identifier: bytes
    account: bytes
    symbol: bytes
    side: bytes
    quantity: bytes
    price: int | None
    time_in_force: bytes | None


@dataclass
class Tally:
    """What the clients have sent.

    Attributes:
        messages: well-formed messages by MsgType.
        malformed: malformed things by name (``faults.FAULTS``).
        excessive: well-formed orders that risk must reject, by reason (``EXCESSIVE``).
    """

    messages: Counter[str]
    malformed: Counter[str]
    excessive: Counter[str]


class Clock:
    """FIX timestamps of the capture's time; the text of a millisecond is made once."""

    def __init__(self) -> None:
        self._millisecond = -1
        self._text = b""

    def text(self, now: int) -> bytes:
        """``now`` (ns since 1970) as a UTCTimestamp with milliseconds (FIX 4.4, volume 1)."""
        millisecond = now // 1_000_000
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            moment = datetime.fromtimestamp(millisecond // 1000, UTC)
            self._text = moment.strftime("%Y%m%d-%H:%M:%S").encode() + b".%03d" % (millisecond % 1000)
        return self._text


class Client:
    """One FIX session: what it has to say, as bytes that wait to be sent.

    A malformed message carries the MsgSeqNum that the next well-formed one repeats, because the gateway ignores it
    (FIX 4.4, volume 2, "garbled messages"), so the session has no gap.

    Attributes:
        number: from 1 on.
        address: where it sends from.
        pending: bytes of its stream that were not yet sent.
        sent_bytes: bytes of its stream that were sent.
    """

    def __init__(self, number: int, random: Random, quotes: dict[str, Quote], clock: Clock, tally: Tally) -> None:
        self.number = number
        self.address = Endpoint((10 << 24) + (1 << 16) + number, 40000 + 17 * number)
        self.pending = bytearray()
        self.sent_bytes = 0
        self._random = random
        self._clock = clock
        self._tally = tally
        self._sequence = 1
        self._identifiers = 0
        self._live: deque[Order] = deque(maxlen=REMEMBERED)
        self._last: Order | None = None
        self._books = {symbol.encode(): quote for symbol, quote in quotes.items()}
        self._symbols = list(self._books)
        accounts = [account.encode() for account in ACCOUNTS]
        self._accounts = (accounts[number % len(accounts)], accounts[(number + 3) % len(accounts)])
        self._sender = b"49=CLIENT%d" % number

    def logon(self, now: int) -> None:
        """The session's first message."""
        self._send([*self._head(b"A", now), b"98=0", b"108=%d" % HEARTBEAT_INTERVAL, b"141=Y"])

    def heartbeat(self, now: int) -> None:
        """A heartbeat that nobody asked for."""
        self._send(self._head(b"0", now))

    def logout(self, now: int) -> None:
        """The session's last message, well-formed like the first one."""
        self._send(self._head(b"5", now))

    def order_message(self, now: int) -> None:
        """A new order, a cancel or a replace."""
        draw = self._random.random()
        if self._live and draw < CANCEL_SHARE:
            self._send(self._cancel(now))
        elif self._live and draw < CANCEL_SHARE + REPLACE_SHARE:
            self._send(self._replace(now))
        elif draw < 1 - EXCESSIVE_SHARE:
            order = self._draw()
            self._send(self._new_order(order, now))
            self._last = order
            if order.price is not None and order.time_in_force not in (IMMEDIATE_OR_CANCEL, FILL_OR_KILL):
                self._live.append(order)
        else:
            self._send(self._new_order(self._excessive(), now))

    def malformed(self, now: int) -> None:
        """Something malformed. A well-formed message must follow."""
        name = self._random.choice(WAYS)
        self.pending += FAULTS[name](self._random, self._new_order(self._draw(), now))
        self._tally.malformed[name] += 1

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes of the stream, to be sent now."""
        segment = bytes(self.pending[:size])
        del self.pending[:size]
        self.sent_bytes += len(segment)
        return segment

    def _send(self, fields: list[bytes]) -> None:
        self.pending += encode(fields)
        self._sequence += 1
        self._tally.messages[fields[0][3:].decode()] += 1

    def _head(self, message_type: bytes, now: int) -> list[bytes]:
        return [
            b"35=" + message_type,
            self._sender,
            b"56=" + GATEWAY_COMP_ID,
            b"34=%d" % self._sequence,
            b"52=" + self._clock.text(now),
        ]

    def _next_identifier(self) -> bytes:
        self._identifiers += 1
        return b"C%d-%06d" % (self.number, self._identifiers)

    def _below(self, limit: int) -> int:
        # A fifth of the time that randrange takes; its bias is of no account here.
        return int(self._random.random() * limit)

    def _draw(self) -> Order:
        """An ordinary order that risk has nothing against."""
        symbol = self._symbols[self._below(len(self._symbols))]
        side = BUY if self._below(2) else SELL
        market = self._below(12) == 0
        return Order(
            identifier=self._next_identifier(),
            account=self._accounts[self._below(2)],
            symbol=symbol,
            side=side,
            quantity=self._quantity(),
            price=None if market else self._limit_price(symbol, side),
            time_in_force=IMMEDIATE_OR_CANCEL if market else TIMES_IN_FORCE[self._below(len(TIMES_IN_FORCE))],
        )

    def _excessive(self) -> Order:
        """An order that risk must reject, for one reason of ``EXCESSIVE``."""
        order = self._draw()
        reason = EXCESSIVE[self._below(len(EXCESSIVE))]
        if reason == "duplicate" and self._last is None:
            reason = "unknown instrument"
        self._tally.excessive[reason] += 1
        if reason == "unknown instrument":
            return replace(order, symbol=UNKNOWN_SYMBOL.encode())
        if reason == "quantity":
            return replace(order, quantity=b"%d" % (10 * MAXIMUM_QUANTITY // ONE_QUANTITY))
        if reason == "collar":
            return replace(order, price=3 * INSTRUMENTS[order.symbol.decode()].reference_price)
        if reason == "notional":
            # The dearest instrument, within its quantity and collar.
            return replace(order, symbol=DEAREST, quantity=b"900000", price=self._limit_price(DEAREST, order.side))
        assert self._last is not None
        return replace(order, identifier=self._last.identifier, account=self._last.account)

    def _quantity(self) -> bytes:
        # Now and then a fraction: quantities have eight decimals.
        if self._below(20) == 0:
            return b"%d.%02d" % (1 + self._below(100), 1 + self._below(99))
        return b"%d" % (10 * (1 + self._below(100)))

    def _limit_price(self, symbol: bytes, side: bytes) -> int:
        """In 1e-9, from eight ticks behind the middle to eight beyond it, so that many orders find the other side."""
        behind = self._below(9) - self._below(9)
        return self._books[symbol].price(-behind if side == BUY else behind)

    def _new_order(self, order: Order, now: int) -> list[bytes]:
        """NewOrderSingle's fields (FIX 4.4, volume 4)."""
        fields = [
            *self._head(b"D", now),
            b"11=" + order.identifier,
            b"1=" + order.account,
            b"21=1",
            b"55=" + order.symbol,
            b"54=" + order.side,
            b"60=" + self._clock.text(now),
            b"38=" + order.quantity,
        ]
        if order.price is None:
            fields.append(b"40=1")
        else:
            fields += [b"40=2", b"44=" + price_text(order.price).encode()]
        if order.time_in_force is not None:
            fields.append(b"59=" + order.time_in_force)
        return fields

    def _cancel(self, now: int) -> list[bytes]:
        """OrderCancelRequest's fields; the order may have been filled meanwhile, as in life."""
        place = self._below(len(self._live))
        order = self._live[place]
        del self._live[place]
        return [
            *self._head(b"F", now),
            b"41=" + order.identifier,
            b"11=" + self._next_identifier(),
            b"1=" + order.account,
            b"55=" + order.symbol,
            b"54=" + order.side,
            b"60=" + self._clock.text(now),
            b"38=" + order.quantity,
        ]

    def _replace(self, now: int) -> list[bytes]:
        """OrderCancelReplaceRequest's fields: another price and quantity under a new ClOrdID."""
        place = self._below(len(self._live))
        old = self._live[place]
        new = replace(
            old,
            identifier=self._next_identifier(),
            quantity=self._quantity(),
            price=self._limit_price(old.symbol, old.side),
        )
        self._live[place] = new
        fields = self._new_order(new, now)
        fields[0] = b"35=G"
        fields.insert(HEAD_FIELDS, b"41=" + old.identifier)
        return fields
