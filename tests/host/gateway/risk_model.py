"""The whole of risk once more, as docs/gateway.md says it: dictionaries and Python's integers, nothing shared with the pass."""

from collections import defaultdict
from dataclasses import dataclass, field

from hdl.frame import Kind, OrderType, Side
from host.gateway import Account, Position, Session, Terms, Verdict

SECOND = 10**9


@dataclass
class Message:
    """An order message, as its sender means it."""

    kind: Kind
    flow: int
    id: str
    symbol: str = "AAA"
    account: str = ""
    original: str = ""
    side: int = Side.BUY
    order_type: int = OrderType.LIMIT
    price: int = 0
    quantity: int = 0
    timestamp: int = 0


@dataclass
class Held:
    """An exposure of one account in one instrument."""

    position: int = 0
    open_buy: int = 0
    open_sell: int = 0
    mark: int = 0

    @property
    def worst(self) -> int:
        return max(self.position + self.open_buy, self.open_sell - self.position)

    @property
    def gross(self) -> int:
        return self.worst * self.mark


@dataclass
class Open:
    """An order that has been accepted and is not over."""

    account: str | tuple[str, int]
    symbol: str
    side: int
    quantity: int
    held: int
    pending: bool
    original: str


@dataclass
class Model:
    """Risk state; accounts are named, or ("flow", number) for orders without one."""

    terms: Terms
    nodes: dict[str, bool]
    account_room: int
    order_room: int
    references: dict[str, int] = field(default_factory=dict)
    tops: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)
    kills: set = field(default_factory=set)
    ids: set = field(default_factory=set)
    held: dict = field(default_factory=lambda: defaultdict(Held))
    used: dict = field(default_factory=lambda: defaultdict(int))
    due: dict = field(default_factory=lambda: defaultdict(int))
    orders: dict = field(default_factory=dict)
    seen: list = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limit(self.terms)

    def limit(self, terms: Terms) -> None:
        """Puts limits in force."""
        for each in terms.instruments:
            before = [old for old in self.terms.instruments if old.symbol == each.symbol]
            if each.symbol not in self.references or not before or before[0].reference_price != each.reference_price:
                self.references[each.symbol] = each.reference_price
        self.terms = terms
        self.seen += [each.name for each in terms.accounts if each.name not in self.seen]

    def account(self, name: object) -> Account:
        return next((each for each in self.terms.accounts if each.name == name), self.terms.default_account)

    def session(self, flow: int) -> Session:
        return next((each for each in self.terms.sessions if each.flow == flow), Session(flow))

    def special(self, name: object, symbol: str) -> Position | None:
        return next((p for p in self.terms.positions if (p.account, p.instrument) == (name, symbol)), None)

    def gross(self, name: object) -> int:
        return sum(held.gross for (account, _), held in self.held.items() if account == name)

    def decide(self, message: Message) -> tuple[Verdict, int | None, int | None]:
        """(verdict, limit, value), and books what is accepted."""
        instrument = next((each for each in self.terms.instruments if each.symbol == message.symbol), None)
        if instrument is None and (message.kind != Kind.CANCEL or message.symbol not in self.references):
            return Verdict.UNKNOWN_INSTRUMENT, None, None
        if message.kind == Kind.CANCEL:
            if not self.nodes.get(message.symbol):
                return Verdict.NO_NODE, None, None
            if self._is_duplicate(message):
                return Verdict.DUPLICATE_CLIENT_ORDER_ID, None, None
            self.ids.add((message.flow, message.id))
            return Verdict.ACCEPTED, None, None
        assert instrument is not None
        name: object = message.account or ("flow", message.flow)
        original = None
        if message.kind == Kind.REPLACE:
            original = self.orders.get((message.flow, message.original))
            if original is not None and (original.symbol, original.side) != (message.symbol, message.side):
                original = None
            if original is not None and not message.account:
                name = original.account
        account, session = self.account(name), self.session(message.flow)
        special = self.special(name, message.symbol)
        for kill, verdict in (
            ("all", Verdict.KILLED),
            (("instrument", message.symbol), Verdict.INSTRUMENT_KILLED),
            (("session", message.flow), Verdict.SESSION_KILLED),
            (("account", name), Verdict.ACCOUNT_KILLED),
        ):
            if kill in self.kills:
                return verdict, None, None
        if instrument.restricted:
            return Verdict.RESTRICTED_INSTRUMENT, None, None
        if special is not None and special.restricted:
            return Verdict.RESTRICTED_FOR_ACCOUNT, None, None
        for limit, verdict in (
            (instrument.maximum_quantity, Verdict.MAXIMUM_QUANTITY),
            (session.maximum_quantity, Verdict.SESSION_QUANTITY),
            (account.maximum_quantity, Verdict.ACCOUNT_QUANTITY),
        ):
            if message.quantity > limit:
                return verdict, limit, message.quantity
        reference = self.references[message.symbol]
        buy, limited = message.side == Side.BUY, message.order_type == OrderType.LIMIT
        if limited:
            width = abs(reference) * instrument.collar_ppm // 10**6
            if instrument.collar_ppm and abs(message.price - reference) > width:
                end = reference + width if message.price > reference else reference - width
                return Verdict.PRICE_COLLAR, end, message.price
            bid, ask = self.tops.get(message.symbol, (None, None))
            if instrument.fat_finger_ppm and buy and ask is not None:
                bound = ask + abs(ask) * instrument.fat_finger_ppm // 10**6
                if message.price > bound:
                    return Verdict.FAT_FINGER, bound, message.price
            if instrument.fat_finger_ppm and not buy and bid is not None:
                bound = bid - abs(bid) * instrument.fat_finger_ppm // 10**6
                if message.price < bound:
                    return Verdict.FAT_FINGER, bound, message.price
        notional = message.quantity * abs(message.price if limited else reference)
        for limit, sum_, verdict in (
            (instrument.order_notional, notional, Verdict.INSTRUMENT_NOTIONAL),
            (session.order_notional, notional, Verdict.SESSION_NOTIONAL),
            (account.order_notional, notional, Verdict.ORDER_NOTIONAL),
            (account.notional, self.used[name] + notional, Verdict.ACCOUNT_NOTIONAL),
        ):
            if sum_ > limit:
                return verdict, limit, sum_
        if original is not None and original.account != name:
            return Verdict.ACCOUNT_CHANGED, None, None
        more = message.quantity if original is None else max(message.quantity - original.quantity, 0)
        held = self.held[name, message.symbol]
        if not buy and more:
            sold = held.open_sell + more
            sells_short = message.side != Side.SELL or sold > held.position
            if not instrument.shortable and sells_short and not (special and special.located):
                return Verdict.NOT_SHORTABLE, max(held.position, 0), sold
            if account.mark_shorts and message.side == Side.SELL and sold > held.position:
                return Verdict.SHORT_NOT_MARKED, max(held.position, 0), sold
        long = held.position + held.open_buy + (more if buy else 0)
        short = held.open_sell - held.position + (0 if buy else more)
        most_long, most_short = account.long_quantity, account.short_quantity
        if special is not None and special.long_quantity is not None:
            most_long = special.long_quantity
        if special is not None and special.short_quantity is not None:
            most_short = special.short_quantity
        if buy and more and long > most_long:
            return Verdict.LONG_EXPOSURE, most_long, long
        if not buy and more and short > most_short:
            return Verdict.SHORT_EXPOSURE, most_short, short
        marked = max(long, short) > held.worst
        mark = max(abs(reference), abs(message.price) if limited else 0) if marked else held.mark
        gross = self.gross(name) - held.gross + max(long, short) * mark
        if marked and gross > account.gross_notional:
            return Verdict.GROSS_EXPOSURE, account.gross_notional, gross
        for its, key, verdict in (
            (account, name, Verdict.ACCOUNT_RATE),
            (session, message.flow, Verdict.SESSION_RATE),
        ):
            if its.order_rate:
                interval = -(-SECOND // its.order_rate)
                earliest = self.due[key] - interval * (its.order_burst - 1)
                if message.timestamp < earliest:
                    return verdict, earliest, message.timestamp
        if not self.nodes.get(message.symbol):
            return Verdict.NO_NODE, None, None
        if name not in self.seen and len(self.seen) >= self.account_room:
            return Verdict.ACCOUNTS_FULL, self.account_room, len(self.seen) + 1
        if len(self.orders) >= self.order_room:
            return Verdict.ORDERS_FULL, self.order_room, len(self.orders) + 1
        if self._is_duplicate(message):
            return Verdict.DUPLICATE_CLIENT_ORDER_ID, None, None
        self.ids.add((message.flow, message.id))
        if name not in self.seen:
            self.seen.append(name)
        self.used[name] += notional
        held.mark = mark
        held.open_buy += more if buy else 0
        held.open_sell += 0 if buy else more
        for its, key in ((account, name), (session, message.flow)):
            if its.order_rate:
                self.due[key] = max(self.due[key], message.timestamp) - (-SECOND // its.order_rate)
        replaces = message.kind == Kind.REPLACE
        self.orders[message.flow, message.id] = Open(
            name,
            message.symbol,
            message.side,
            message.quantity,
            more,
            replaces,
            message.original if original is not None else "",
        )
        return Verdict.ACCEPTED, None, None

    def fill(self, flow: int, id_: str, quantity: int, leaves: int) -> None:
        """A trade of an order."""
        order = self.orders[flow, id_]
        held = self.held[order.account, order.symbol]
        held.position += quantity if order.side == Side.BUY else -quantity
        self._open(order, -quantity)
        order.held -= quantity
        if not leaves:
            self.end(flow, id_)

    def end(self, flow: int, id_: str) -> None:
        """An order is over."""
        order = self.orders.pop((flow, id_))
        self._open(order, -order.held)

    def replaced(self, flow: int, id_: str, quantity: int, leaves: int) -> None:
        """A replace was done."""
        order = self.orders[flow, id_]
        if order.original:
            self.end(flow, order.original)
        self._open(order, leaves - order.held)
        order.held, order.quantity, order.pending, order.original = leaves, quantity, False, ""
        if not leaves:
            self.end(flow, id_)

    def new_day(self, session: int | None) -> None:
        """Ids are forgotten."""
        self.ids = {each for each in self.ids if session is not None and each[0] != session}
        if session is None:
            self.used.clear()

    def _is_duplicate(self, message: Message) -> bool:
        key = message.flow, message.id
        return key in self.ids or key in self.orders

    def _open(self, order: Open, quantity: int) -> None:
        held = self.held[order.account, order.symbol]
        if order.side == Side.BUY:
            held.open_buy += quantity
        else:
            held.open_sell += quantity
