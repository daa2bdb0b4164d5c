"""Random traffic with every rule on: the pass and the plain model agree, verdict for verdict and state for state."""

from dataclasses import replace

import numpy as np

from hdl.frame import Kind, OrderType, Side
from host.cluster.order_key import text_key
from host.cluster.report import REPORT_DTYPE, ReportKind
from host.gateway import Account, Instrument, Position, Risk, Router, SelfTrade, Session, Terms, Verdict
from host.gateway.risk_state import set_top
from host.gateway.terms import NOTIONAL_LIMIT
from host.journal.batch import DECISION_DTYPE, Batch
from tests.host.gateway.orders import ONE, Slice
from tests.host.gateway.risk_model import Message, Model

PRICE = 10**9
UNIT = 10**17
ORDER_ROOM, ACCOUNT_ROOM = 25, 7
TERMS = Terms(
    instruments=(
        Instrument("AAA", 100 * PRICE, 50 * ONE, collar_ppm=80_000, security_id=7, fat_finger_ppm=20_000),
        Instrument("BBB", -40 * PRICE, 60 * ONE, collar_ppm=300_000, security_id=8, shortable=False),
        Instrument("CCC", 7 * PRICE, 500 * ONE, order_notional=2500 * UNIT),
        Instrument("DDD", PRICE, 500 * ONE, restricted=True),
        Instrument("EEE", PRICE, 500 * ONE),
    ),
    accounts=(
        Account("one", 3500 * UNIT, 40_000 * UNIT, 9000 * UNIT, 45 * ONE, 70 * ONE, 60 * ONE, 40_000_000, 20),
        Account("two", mark_shorts=True, short_quantity=90 * ONE, self_trade=SelfTrade.CANCEL_BOTH),
        Account("six", gross_notional=5000 * UNIT, order_rate=3_000_000, order_burst=2),
    ),
    sessions=(Session(1, 8_000_000, 3, 40 * ONE), Session(2, order_notional=2500 * UNIT, drop_on_disconnect=True)),
    positions=(
        Position("one", "BBB", located=True, long_quantity=35 * ONE),
        Position("two", "CCC", restricted=True),
        Position("two", "AAA", short_quantity=20 * ONE),
    ),
    default_account=Account("", 4000 * UNIT, 60_000 * UNIT, 20_000 * UNIT),
)
OTHER_TERMS = replace(
    TERMS,
    instruments=(
        *TERMS.instruments[:1],
        replace(TERMS.instruments[1], shortable=True, reference_price=-42 * PRICE),
        replace(TERMS.instruments[3], restricted=False),
        Instrument("FFF", 3 * PRICE, 10 * ONE),
        *TERMS.instruments[4:],
    ),
    accounts=(replace(TERMS.accounts[0], gross_notional=NOTIONAL_LIMIT, long_quantity=80 * ONE), TERMS.accounts[2]),
    sessions=(Session(1, 50_000_000, 9), Session(0, maximum_quantity=45 * ONE)),
    positions=(Position("six", "AAA", long_quantity=30 * ONE),),
)


def key_of(flow: int, text: str) -> tuple[int, int]:
    raw = np.frombuffer(text.encode() + b"\x01", np.uint8).copy()
    low, high = text_key(raw, 0, len(raw), np.uint64(flow))
    return int(low), int(high)


class Venue:
    """Nodes that do at random, in the orders' sequence, what nodes may do."""

    def __init__(self, random: np.random.Generator, model: Model | None) -> None:
        self.random, self.model = random, model
        self.open: dict[tuple[int, str], list[int]] = {}
        self.rows: list[tuple] = []

    def report(self, kind: ReportKind, flow: int, text: str, quantity: int = 0, leaves: int = 0) -> None:
        self.rows.append((kind, flow, text, quantity, leaves))
        if self.model is None or kind == ReportKind.NEW:
            return
        if kind in (ReportKind.PARTIAL_FILL, ReportKind.FILL):
            self.model.fill(flow, text, quantity, leaves)
        elif kind == ReportKind.REPLACED:
            self.model.replaced(flow, text, quantity, leaves)
        elif kind != ReportKind.CANCEL_REJECTED or (flow, text) in self.model.orders:
            self.model.end(flow, text)

    def apply(self, message: Message) -> None:
        """Does what an accepted message asks for, and lets some orders trade or expire."""
        random, key = self.random, (message.flow, message.id)
        if message.kind == Kind.NEW_ORDER:
            if random.integers(0, 12) == 0:
                self.report(ReportKind.REJECTED, *key)
            else:
                self.open[key] = [message.quantity, message.quantity]
                self.report(ReportKind.NEW, *key, message.quantity, message.quantity)
        else:
            original = (message.flow, message.original)
            refused = original not in self.open or random.integers(0, 8) == 0
            if message.kind == Kind.REPLACE and not refused:
                its = self.model.orders[original] if self.model else None
                refused = its is not None and (its.symbol, its.side) != (message.symbol, message.side)
            if refused:
                self.report(ReportKind.CANCEL_REJECTED, *key)
            elif message.kind == Kind.CANCEL:
                del self.open[original]
                self.report(ReportKind.CANCELED, *original)
            else:
                quantity, leaves = self.open.pop(original)
                leaves = max(message.quantity - (quantity - leaves), 0)
                self.report(ReportKind.REPLACED, *key, message.quantity, leaves)
                if leaves:
                    self.open[key] = [message.quantity, leaves]
        for some in list(self.open):
            choice = random.integers(0, 30)
            leaves = self.open[some][1]
            if choice == 0:
                del self.open[some]
                self.report(ReportKind.EXPIRED if hasattr(ReportKind, "EXPIRED") else ReportKind.CANCELED, *some)
            elif choice <= 2:
                filled = leaves if choice == 1 else int(random.integers(1, leaves + 1))
                self.open[some][1] = leaves = leaves - filled
                self.report(ReportKind.PARTIAL_FILL if leaves else ReportKind.FILL, *some, filled, leaves)
                if not leaves:
                    del self.open[some]

    def take(self) -> np.ndarray:
        """The reports since the last call."""
        reports = np.zeros(len(self.rows), REPORT_DTYPE)
        for report, (kind, flow, text, quantity, leaves) in zip(reports, self.rows, strict=True):
            report["kind"], report["flow"], report["quantity"], report["leaves"] = kind, flow, quantity, leaves
            report["key_low"], report["key_high"] = key_of(flow, text)
        self.rows.clear()
        return reports


def some_messages(random: np.random.Generator, count: int, first: int, terms: Terms) -> list[Message]:
    """Orders of which some break each rule; ``first`` numbers them."""
    messages = []
    symbols = [*(each.symbol for each in TERMS.instruments), "FFF", "nowhere"]
    weights = np.array([8, 5, 5, 0.5, 0.5, 0.7, 0.3])
    middle = {"AAA": 100, "BBB": -40, "CCC": 7}
    for number in range(first, first + count):
        symbol = str(random.choice(symbols, p=weights / weights.sum()))
        center = middle.get(symbol, 1) * PRICE
        kind = [Kind.NEW_ORDER] * 7 + [Kind.REPLACE] * 3 + [Kind.CANCEL] * 2
        quantity = int(random.integers(1, 30)) * ONE if random.integers(0, 6) else int(random.integers(1, 62)) * ONE
        messages.append(
            Message(
                kind[random.integers(0, len(kind))],
                int(random.integers(0, 3)),
                f"id{number if random.integers(0, 15) else random.integers(0, number + 1)}",
                symbol,
                str(random.choice(["one", "two", "six", "new", "xyz", ""])),
                f"id{random.integers(max(number - 60, 0), number + 1)}",
                int(random.choice([Side.BUY, Side.BUY, Side.SELL, Side.SELL, Side.SELL_SHORT])),
                OrderType.LIMIT if random.integers(0, 5) else OrderType.MARKET,
                center + int(abs(center) * (random.normal() * 0.04)) // 10**6 * 10**6,
                quantity,
                number * 40 + int(random.integers(0, 200)),
            )
        )
    return messages


def aim(messages: list[Message], accepted: list[Message], random: np.random.Generator) -> None:
    """Has most cancels and replaces name an order that was accepted, from its own session, as it was."""
    for message in messages:
        if message.kind != Kind.NEW_ORDER and accepted and random.integers(0, 5):
            its = accepted[-1 - int(random.integers(0, min(len(accepted), 40)))]
            message.flow, message.original, message.symbol = its.flow, its.id, its.symbol
            message.side = its.side if random.integers(0, 12) else Side.SELL
            message.account = its.account if random.integers(0, 6) else message.account


def as_slice(messages: list[Message]) -> Slice:
    orders = Slice()
    for each in messages:
        orders.order(
            each.id,
            kind=each.kind,
            symbol=each.symbol,
            price=each.price if each.order_type == OrderType.LIMIT else None,
            quantity=each.quantity,
            side=each.side,
            order_type=each.order_type,
            account=each.account,
            original="" if each.kind == Kind.NEW_ORDER else each.original,
            flow=each.flow,
            timestamp=each.timestamp,
        )
    return orders


def make_risk() -> Risk:
    risk = Risk(
        TERMS.instruments,
        TERMS.accounts,
        sessions=TERMS.sessions,
        positions=TERMS.positions,
        default_account=TERMS.default_account,
        client_order_ids=1 << 14,
        account_room=ACCOUNT_ROOM,
        position_room=64,
        order_room=ORDER_ROOM,
    )
    risk.route(Router({0: 1}))
    risk.state.instruments["node"][4] = 255
    return risk


def assert_same(risk: Risk, model: Model) -> None:
    """State for state."""
    for (name, symbol), held in model.held.items():
        if isinstance(name, str):
            assert risk.position(name, symbol) == (held.position, held.open_buy, held.open_sell), (name, symbol)
    assert risk.state.tables["orders"][0] == len(model.orders)
    assert risk.state.tables["client_order_ids"][0] == len(model.ids)
    assert risk.state.tables["unmatched"][0] == 0
    assert risk.state.tables["accounts"][0] == len(model.seen)
    for name in model.seen:
        if isinstance(name, str):
            assert risk.gross_exposure(name) == model.gross(name), name
            assert risk.notional_used(name) == model.used[name], name
            assert risk.gross_exposure(name) <= model.account(name).gross_notional
    rows = risk.state.accounts
    by_number = {int(row["number"]): row for row in rows if row["key_low"] or row["key_high"]}
    for number, name in enumerate(model.seen):
        assert by_number[number]["due"] == model.due[name], name


def test_the_pass_and_the_model_agree_on_verdicts_numbers_and_state() -> None:
    found: set[Verdict] = set()
    for seed in range(6):
        found |= verdicts_of_agreeing_traffic(seed)
    rules = set(Verdict) - {each for each in Verdict if each < Verdict.UNKNOWN_INSTRUMENT}
    assert rules - found == {Verdict.POSITIONS_FULL, Verdict.CLIENT_ORDER_IDS_FULL}


def verdicts_of_agreeing_traffic(seed: int) -> set[Verdict]:
    """Compares both over some traffic, step by step; returns the verdicts that came up."""
    random = np.random.default_rng(seed)
    risk, other_slicing, replayed = make_risk(), make_risk(), make_risk()
    model = Model(TERMS, dict.fromkeys(("AAA", "BBB", "CCC", "DDD", "FFF"), True), ACCOUNT_ROOM, ORDER_ROOM)
    venue = Venue(random, model)
    tops = {"AAA": (99 * PRICE, 101 * PRICE)}
    model.tops.update(tops)
    for each in (risk, other_slicing, replayed):
        set_top(each.state, 0, True, 99 * PRICE, True, 101 * PRICE)
    accepted: list[Message] = []
    found: set[Verdict] = set()
    for round_ in range(40):
        messages = some_messages(random, int(random.integers(1, 60)), len(accepted) * 3 + round_ * 60, TERMS)
        aim(messages, accepted, random)
        orders = as_slice(messages)
        frames, payload = orders.frames, orders.payload
        decisions = np.zeros(len(frames), DECISION_DTYPE)
        risk.decide(frames, payload, decisions)
        for index, message in enumerate(messages):
            expected = model.decide(message)
            verdict = Verdict(int(decisions["verdict"][index]))
            found.add(verdict)
            why = None if verdict == Verdict.ACCEPTED else risk.explain(index)
            got = (verdict, why.limit, why.value) if why else (verdict, None, None)
            assert got == expected, (round_, index, message, got, expected)
        cut = np.zeros_like(decisions)
        begin = 0
        while begin < len(frames):
            end = min(begin + int(random.integers(1, 30)), len(frames))
            other_slicing.decide(frames[begin:end], payload, cut[begin:end])
            begin = end
        assert (cut == decisions).all()
        passed = [
            message for message, row in zip(messages, decisions, strict=True) if row["verdict"] == Verdict.ACCEPTED
        ]
        accepted += passed
        for message in passed:
            venue.apply(message)
        reports = venue.take()
        replayed.restore(Batch(round_, 0, frames, decisions, payload))
        for each in (risk, other_slicing, replayed):
            each.settle(reports)
        assert_same(risk, model)
        assert risk.state_hash() == other_slicing.state_hash() == replayed.state_hash()
        control(round_, random, model, venue, (risk, other_slicing, replayed))
    parts = {name: part.copy() for name, part in risk.state_parts().items()}
    loaded = make_risk()
    loaded.load_parts(parts)
    expected = risk.state_hash()
    loaded.remember_client_order_ids(risk.take_client_order_ids())
    assert loaded.state_hash() == expected
    return found


def control(round_: int, random: np.random.Generator, model: Model, venue: Venue, risks: tuple[Risk, ...]) -> None:
    """Now and then limits change, something is stopped or released, or a day begins."""
    records: list[dict | None] = []
    if round_ == 12:
        records, terms = [risks[0].limits_record(OTHER_TERMS)], OTHER_TERMS
        model.limit(terms)
    elif round_ == 24:
        records = [risks[0].limits_record(TERMS)]
        model.limit(TERMS)
    elif round_ == 30:
        records = [risks[0].new_day_record(1)]
        model.new_day(1)
    elif round_ == 34:
        records = [risks[0].new_day_record()]
        model.new_day(None)
    else:
        kills = [("all", None), ("instrument", "CCC"), ("session", 2), ("account", "two")]
        scope, name = kills[random.integers(0, len(kills))]
        key = "all" if scope == "all" else (scope, name)
        if key in model.kills:
            records = [risks[0].release_record(scope, name)]
            model.kills.discard(key)
        elif random.integers(0, 5) == 0:
            records = [risks[0].kill_record(scope, name)]
            model.kills.add(key)
    for risk in risks:
        for record in records:
            if record is not None:
                risk.apply_control(record)
                risk.state.instruments["node"][risk.state.instruments["code"] == Instrument("EEE", 0, 1).code] = 255
