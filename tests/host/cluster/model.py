"""The rules of docs/gateway.md, "Nodes", as plainly as they can be written: one list of open orders, sorted whenever asked."""

from dataclasses import dataclass
from typing import Any

from hdl.frame import Kind
from tests.host.cluster.orders import ABSENT, BUY, DAY, FOK, IOC, LIMIT, MARKET, STOP, STOP_LIMIT, Message

LIMIT_QUANTITY = 2**63 - 1


@dataclass(eq=False)
class Order:
    message: Message
    sequence: int
    stamp: int
    leaves: int
    cumulative: int = 0
    shown: int = 0
    waiting: bool = False

    @property
    def sign(self) -> int:
        return 1 if self.message.side == BUY else -1

    @property
    def display(self) -> int:
        return LIMIT_QUANTITY if self.message.display is None else self.message.display

    @property
    def level(self) -> int:
        return self.message.stop if self.waiting else self.message.price  # type: ignore[return-value]

    def refill(self) -> None:
        self.shown = min(self.display, self.leaves)

    def reached(self, price: int) -> bool:
        return self.sign * price >= self.sign * self.message.stop  # type: ignore[operator]


class Exchange:
    """All instruments of a node."""

    def __init__(self, orders: int, instruments: int) -> None:
        self.most_orders, self.most_instruments = orders, instruments
        self.open: list[Order] = []
        self.triggered: list[Order] = []
        self.last: dict[str, int] = {}
        self.symbols: set[str] = set()
        self.stamp = 0
        self.reports: list[tuple] = []

    def apply(self, message: Message, sequence: int) -> list[tuple]:
        self.reports = []
        self.message, self.sequence = message, sequence
        if message.order_type not in (LIMIT, STOP_LIMIT):
            message = message._replace(price=0)
        if message.time_in_force == ABSENT:
            message = message._replace(time_in_force=DAY)
        {Kind.NEW_ORDER: self.new, Kind.CANCEL: self.cancel, Kind.REPLACE: self.replace}[message.kind](message)
        while self.triggered:
            order = self.triggered.pop(0)
            order.message = order.message._replace(order_type=MARKET if order.message.order_type == STOP else LIMIT)
            self.tell(order, "TRIGGERED")
            self.enter(order)
        return self.reports

    def control(self, record: dict[str, Any]) -> list[tuple]:
        self.reports = []
        for order in sorted(self.open, key=lambda order: order.sequence):
            if record["type"] == "new_day" and order.message.time_in_force == DAY:
                self.end(order, "EXPIRED", "END_OF_DAY")
            if record["type"] == "disconnect" and order.message.flow == record["flow"]:
                self.end(order, "CANCELED", "DISCONNECTED")
            if record["type"] == "kill" and "cancel" in record and self.is_killed(order, record):
                self.end(order, "CANCELED", "KILLED")
        return self.reports

    @staticmethod
    def is_killed(order: Order, record: dict[str, Any]) -> bool:
        message = order.message
        return {
            "all": True,
            "instrument": message.symbol == record.get("name"),
            "session": message.flow == record.get("name"),
            "account": message.account == record.get("account"),
        }[record["scope"]]

    def queue(self, symbol: str) -> list[tuple]:
        ladders: list[list[Order]] = [[], [], [], []]
        for order in self.open:
            if order.message.symbol == symbol:
                ladders[2 * order.waiting + (order.sign < 0)].append(order)
        return [
            (number, order.level, order.sequence, order.leaves, order.shown)
            for number, ladder in enumerate(ladders)
            for order in self.sorted(ladder, high_first=number in (0, 3))
        ]

    # What a message asks for.

    def new(self, message: Message) -> None:
        reason = "NONE"
        if not 0 < message.quantity <= LIMIT_QUANTITY:
            reason = "QUANTITY_OUT_OF_RANGE"
        elif self.find(message.order_id):
            reason = "DUPLICATE_ORDER"
        elif misfit(message, message.quantity):
            reason = misfit(message, message.quantity)
        elif message.symbol not in self.symbols and len(self.symbols) == self.most_instruments:
            reason = "INSTRUMENTS_FULL"
        else:
            self.symbols.add(message.symbol)
            if message.post_only and message.order_type == LIMIT and self.opposite(message):
                reason = "WOULD_TRADE"
            elif len(self.open) == self.most_orders:
                reason = "ORDERS_FULL"
        if reason != "NONE":
            return self.refuse("REJECTED", reason)
        order = Order(message, self.sequence, 0, message.quantity)
        self.tell(order, "NEW")
        self.enter_stop(order) if message.stop is not None else self.enter(order)

    def cancel(self, message: Message) -> None:
        order = self.find(message.original)
        if not order or order.message.symbol != message.symbol:
            return self.refuse("CANCEL_REJECTED", "UNKNOWN_ORDER")
        self.end(order, "CANCELED", "CANCELED_BY_CLIENT")

    def replace(self, message: Message) -> None:
        order = self.find(message.original)
        if not order or order.message.symbol != message.symbol:
            return self.refuse("CANCEL_REJECTED", "UNKNOWN_ORDER")
        if message.order_type != order.message.order_type or message.time_in_force in (IOC, FOK):
            return self.refuse("CANCEL_REJECTED", "UNSUPPORTED_REPLACE")
        if message.side != order.message.side:
            return self.refuse("CANCEL_REJECTED", "SIDE_CHANGED")
        if not 0 < message.quantity <= LIMIT_QUANTITY:
            return self.refuse("CANCEL_REJECTED", "QUANTITY_OUT_OF_RANGE")
        if self.find(message.order_id) not in (None, order):
            return self.refuse("CANCEL_REJECTED", "DUPLICATE_ORDER")
        leaves = max(message.quantity - order.cumulative, 0)
        if reason := misfit(message, leaves):
            return self.refuse("CANCEL_REJECTED", reason)
        price = message.stop if order.waiting else message.price
        display = LIMIT_QUANTITY if message.display is None else message.display
        shows_more = not order.waiting and display > order.display and order.shown < order.leaves
        keeps = price == order.level and leaves <= order.leaves and not shows_more
        if leaves and not keeps and message.post_only and not order.waiting and self.opposite(message):
            return self.refuse("CANCEL_REJECTED", "WOULD_TRADE")
        order.message, order.sequence, order.leaves = message, self.sequence, leaves
        self.tell(order, "REPLACED", "NONE" if leaves else "BELOW_FILLED")
        if keeps and leaves:
            order.shown = min(order.shown, display, leaves)
            return
        self.open.remove(order)
        if leaves:
            self.enter_stop(order) if order.waiting else self.enter(order)

    # What happens to an order.

    def enter_stop(self, order: Order) -> None:
        order.shown, order.waiting = 0, True
        last = self.last.get(order.message.symbol)
        if last is not None and order.reached(last):
            order.waiting = False
            self.triggered.append(order)
        else:
            self.put(order)

    def enter(self, order: Order) -> None:
        message = order.message
        others = self.opposite(message)
        reason = "NOTHING_TO_MATCH"
        if message.time_in_force == FOK and sum(other.leaves for other in others) < order.leaves:
            reason = "NOT_FILLED_WHOLE"
        elif message.post_only and others:
            reason = "WOULD_TRADE"
        else:
            while order.leaves and (others := self.opposite(message)):
                self.trade(order, others[0])
            if message.order_type == LIMIT and message.time_in_force not in (IOC, FOK):
                if order.leaves:
                    order.refill()
                    self.put(order)
                return
        if order.leaves:
            self.end(order, "CANCELED", reason)

    def trade(self, taker: Order, maker: Order) -> None:
        traded, price = min(taker.leaves, maker.shown), maker.message.price
        maker.shown -= traded
        for order in (taker, maker):
            order.leaves -= traded
            order.cumulative += traded
        for order in (taker, maker):
            self.tell(order, "PARTIAL_FILL" if order.leaves else "FILL", price=price, quantity=traded)
        if not maker.leaves:
            self.open.remove(maker)
        elif not maker.shown:
            maker.refill()
            self.stamp += 1
            maker.stamp = self.stamp
        self.last[maker.message.symbol] = price
        for sign in (1, -1):
            stops = [
                order
                for order in self.open
                if order.waiting and order.sign == sign and order.message.symbol == maker.message.symbol
            ]
            for stop in self.sorted(stops, high_first=sign < 0):
                if stop.reached(price):
                    self.open.remove(stop)
                    stop.waiting = False
                    self.triggered.append(stop)

    def put(self, order: Order) -> None:
        self.stamp += 1
        order.stamp = self.stamp
        self.open.append(order)

    # What is asked and said.

    def find(self, order_id: str) -> Order | None:
        ours = (order for order in self.open if order.message.flow == self.message.flow)
        return next((order for order in ours if order.message.order_id == order_id), None)

    def opposite(self, message: Message) -> list[Order]:
        """The orders with which one trades, the first one first."""
        sign = 1 if message.side == BUY else -1
        found = [
            order
            for order in self.open
            if not order.waiting and order.message.symbol == message.symbol and order.sign != sign
            if message.order_type == MARKET or sign * order.message.price <= sign * message.price
        ]
        return self.sorted(found, high_first=sign < 0)

    @staticmethod
    def sorted(orders: list[Order], *, high_first: bool) -> list[Order]:
        return sorted(orders, key=lambda order: (-order.level if high_first else order.level, order.stamp))

    def end(self, order: Order, kind: str, reason: str) -> None:
        quantity, order.leaves = order.leaves + order.cumulative, 0
        if order in self.open:
            self.open.remove(order)
        self.tell(order, kind, reason, quantity=quantity)

    def tell(
        self, order: Order, kind: str, reason: str = "NONE", price: int | None = None, quantity: int | None = None
    ) -> None:
        price = order.message.price if price is None else price
        quantity = order.leaves + order.cumulative if quantity is None else quantity
        self.reports.append((kind, reason, order.sequence, price, quantity, order.leaves, order.cumulative))

    def refuse(self, kind: str, reason: str) -> None:
        self.reports.append((kind, reason, self.sequence, self.message.price, self.message.quantity, 0, 0))


def misfit(message: Message, leaves: int) -> str:
    """Why an order's terms do not fit it."""
    waits, at_once = message.order_type in (STOP, STOP_LIMIT), message.time_in_force in (IOC, FOK)
    if waits and message.stop is None:
        return "NO_STOP_PRICE"
    if message.stop is not None and not waits:
        return "NO_STOP_ORDER"
    if waits and at_once:
        return "STOP_MUST_WAIT"
    rests = message.order_type in (LIMIT, STOP_LIMIT) and not at_once
    if (message.post_only or message.display is not None) and not rests:
        return "MUST_REST"
    if message.display is not None and leaves > 100 * message.display:
        return "DISPLAY_TOO_SMALL"
    return ""
