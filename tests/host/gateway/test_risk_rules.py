"""Each rule at its limit and one beyond it, and what gives room again."""

import numpy as np
import pytest

from hdl.frame import Kind, OrderType, Side
from host.cluster.report import REPORT_DTYPE, ReportKind
from host.gateway import Account, Instrument, Position, Risk, Router, SelfTrade, Session, Terms, Verdict
from host.gateway.risk_state import set_top
from host.journal.batch import DECISION_DTYPE, MARKED
from tests.host.gateway.orders import ONE, Slice
from tests.host.gateway.test_risk_model import key_of

PRICE, UNIT = 10**9, 10**17
ABC = Instrument("ABC", 100 * PRICE, 1000 * ONE)


def make_risk(*instruments: Instrument, **more: object) -> Risk:
    risk = Risk(instruments or (ABC,), **more)
    risk.route(Router({0: 1}))
    return risk


def decide(risk: Risk, *orders: dict, flow: int = 0) -> list[Verdict]:
    """The verdicts on orders, one slice; a price of 100, a quantity of 1 and account "a" unless told otherwise."""
    made = Slice(flow)
    for order in orders:
        made.order(**{"account": "a", **order})
    decisions = np.zeros(len(orders), DECISION_DTYPE)
    risk.decide(made.frames, made.payload, decisions)
    risk.last = decisions  # type: ignore[attr-defined]
    return [Verdict(int(row)) for row in decisions["verdict"]]


def order(name: str, quantity: float = 1, side: Side = Side.BUY, **more: object) -> dict:
    return {"client_order_id": name, "quantity": int(quantity * ONE), "side": side, **more}


def settle(risk: Risk, *reports: tuple[ReportKind, str, float, float], flow: int = 0) -> None:
    rows = np.zeros(len(reports), REPORT_DTYPE)
    for row, (kind, name, quantity, leaves) in zip(rows, reports, strict=True):
        row["kind"], row["quantity"], row["leaves"], row["flow"] = kind, int(quantity * ONE), int(leaves * ONE), flow
        row["key_low"], row["key_high"] = key_of(flow, name)
    risk.settle(rows)


OK = Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("settings", "within", "beyond", "verdict", "limit", "value"),
    [
        (
            {"sessions": [Session(0, maximum_quantity=5 * ONE)]},
            order("1", 5),
            {**order("2"), "quantity": 5 * ONE + 1},
            Verdict.SESSION_QUANTITY,
            5 * ONE,
            5 * ONE + 1,
        ),
        (
            {"accounts": [Account("a", maximum_quantity=5 * ONE)]},
            order("1", 5),
            {**order("2"), "quantity": 5 * ONE + 1},
            Verdict.ACCOUNT_QUANTITY,
            5 * ONE,
            5 * ONE + 1,
        ),
        (
            {"sessions": [Session(0, order_notional=500 * UNIT)]},
            order("1", 5),
            {**order("2"), "quantity": 5 * ONE + 1},
            Verdict.SESSION_NOTIONAL,
            500 * UNIT,
            500 * UNIT + 100 * PRICE,
        ),
        (
            {"accounts": [Account("a", long_quantity=5 * ONE)]},
            order("1", 5),
            {**order("2"), "quantity": 1},
            Verdict.LONG_EXPOSURE,
            5 * ONE,
            5 * ONE + 1,
        ),
        (
            {"accounts": [Account("a", short_quantity=5 * ONE)]},
            order("1", 5, Side.SELL),
            {**order("2", side=Side.SELL_SHORT), "quantity": 1},
            Verdict.SHORT_EXPOSURE,
            5 * ONE,
            5 * ONE + 1,
        ),
        (
            {"accounts": [Account("a")], "positions": [Position("a", "ABC", long_quantity=5 * ONE)]},
            order("1", 5),
            {**order("2"), "quantity": 1},
            Verdict.LONG_EXPOSURE,
            5 * ONE,
            5 * ONE + 1,
        ),
        (
            {"accounts": [Account("a", gross_notional=500 * UNIT)]},
            order("1", 5),
            {**order("2"), "quantity": 1},
            Verdict.GROSS_EXPOSURE,
            500 * UNIT,
            500 * UNIT + 100 * PRICE,
        ),
        (
            {"accounts": [Account("a", order_rate=1000, order_burst=2)]},
            order("0", timestamp=5_000_000),
            order("2", timestamp=4_999_999),
            Verdict.ACCOUNT_RATE,
            5_000_000,
            4_999_999,
        ),
        (
            {"sessions": [Session(0, order_rate=1000)]},
            order("1", timestamp=5_000_000),
            order("2", timestamp=5_999_999),
            Verdict.SESSION_RATE,
            6_000_000,
            5_999_999,
        ),
    ],
)
def test_at_the_limit_an_order_passes_and_one_beyond_is_refused_with_both_numbers(
    settings: dict, within: dict, beyond: dict, verdict: Verdict, limit: int, value: int
) -> None:
    risk = make_risk(**settings)
    extra = [order("first", timestamp=5_000_000)] if verdict == Verdict.ACCOUNT_RATE else []
    assert decide(risk, *extra, within, beyond) == [OK] * len(extra) + [OK, verdict]
    why = risk.explain(len(extra) + 1)
    if verdict != Verdict.ACCOUNT_RATE:
        assert (why.verdict, why.limit, why.value) == (verdict, limit, value)
    assert why.text.startswith(risk.explain(len(extra) + 1).text.split(":")[0])
    with pytest.raises(KeyError, match="was not refused"):
        risk.explain(0)


def test_what_the_text_says() -> None:
    risk = make_risk(accounts=[Account("a", long_quantity=70 * ONE)])
    decide(risk, order("1", 71))
    assert risk.explain(0).text == "more than the account may be long of the instrument: 71, limit 70"
    decide(risk, order("1", symbol="XYZ"))
    assert risk.explain(0).text == "unknown instrument"


def test_a_rate_lets_a_burst_pass_and_then_one_an_interval() -> None:
    risk = make_risk(accounts=[Account("a", order_rate=1000, order_burst=3)])
    times = [0, 0, 0, 0, 999_999, 1_000_000, 1_000_001, 10_000_000, 10_000_000, 10_000_000, 10_000_000]
    found = decide(risk, *(order(str(n), timestamp=time) for n, time in enumerate(times)))
    no = Verdict.ACCOUNT_RATE
    assert found == [OK, OK, OK, no, no, OK, no, OK, OK, OK, no]
    assert decide(risk, order("c", timestamp=10_000_000, kind=Kind.CANCEL, original="0")) == [OK]


def test_fills_move_the_position_and_cancels_give_room() -> None:
    risk = make_risk(accounts=[Account("a", long_quantity=10 * ONE, short_quantity=10 * ONE)])
    assert decide(risk, order("b", 10), order("s", 10, Side.SELL), order("x", 1)) == [OK, OK, Verdict.LONG_EXPOSURE]
    settle(risk, (ReportKind.NEW, "b", 10, 10), (ReportKind.PARTIAL_FILL, "b", 4, 6))
    assert risk.position("a", "ABC") == (4 * ONE, 6 * ONE, 10 * ONE)
    assert decide(risk, order("x"), order("y", 4, Side.SELL), order("z", 1, Side.SELL)) == [
        Verdict.LONG_EXPOSURE,
        OK,
        Verdict.SHORT_EXPOSURE,
    ]
    settle(risk, (ReportKind.CANCELED, "b", 10, 0), (ReportKind.REJECTED, "y", 4, 0), (ReportKind.FILL, "s", 10, 0))
    assert risk.position("a", "ABC") == (-6 * ONE, 0, 0)
    assert decide(risk, order("m", 16), order("n", 1)) == [OK, Verdict.LONG_EXPOSURE]
    assert risk.gross_exposure("a") == 10 * 100 * UNIT


def test_what_closes_is_not_refused_for_a_price_that_has_moved() -> None:
    risk = make_risk(ABC, Instrument("DEF", PRICE, ONE * 1000), accounts=[Account("a", gross_notional=1000 * UNIT)])
    assert decide(risk, order("b", 10)) == [OK]
    settle(risk, (ReportKind.FILL, "b", 10, 0))
    assert decide(risk, order("s", 20, Side.SELL, price=200 * PRICE), order("d", symbol="DEF", price=PRICE)) == [
        OK,
        Verdict.GROSS_EXPOSURE,
    ]
    assert not risk.last["flags"][0] & MARKED  # type: ignore[attr-defined]
    assert decide(risk, order("t", 1, Side.SELL)) == [Verdict.GROSS_EXPOSURE]


def test_a_replace_counts_with_what_it_adds_and_keeps_its_account() -> None:
    risk = make_risk(accounts=[Account("a", long_quantity=10 * ONE), Account("b")])
    replaces = {"kind": Kind.REPLACE, "original": "o"}
    assert decide(risk, order("o", 8), order("r", 11, **replaces), order("r", 10, **replaces)) == [
        OK,
        Verdict.LONG_EXPOSURE,
        OK,
    ]
    assert risk.position("a", "ABC") == (0, 10 * ONE, 0)
    assert decide(risk, {**order("q", 8, **replaces), "account": "b"}) == [Verdict.ACCOUNT_CHANGED]
    assert decide(risk, {**order("q", 8, **replaces), "account": ""}) == [OK]
    settle(
        risk,
        (ReportKind.PARTIAL_FILL, "o", 3, 5),
        (ReportKind.REPLACED, "r", 10, 7),
        (ReportKind.CANCEL_REJECTED, "q", 8, 0),
    )
    assert risk.position("a", "ABC") == (3 * ONE, 7 * ONE, 0)
    assert decide(risk, order("down", 4, kind=Kind.REPLACE, original="r")) == [OK]
    assert risk.position("a", "ABC") == (3 * ONE, 7 * ONE, 0)
    settle(risk, (ReportKind.REPLACED, "down", 4, 1))
    assert risk.position("a", "ABC") == (3 * ONE, ONE, 0)


def test_short_sales_are_marked_and_located_where_they_must_be() -> None:
    hard = Instrument("HARD", 100 * PRICE, 1000 * ONE, shortable=False)
    risk = make_risk(
        ABC,
        hard,
        accounts=[Account("a", mark_shorts=True), Account("b")],
        positions=[Position("b", "HARD", located=True)],
    )
    decide(risk, order("1", 5), order("2", 5, symbol="HARD"))
    settle(risk, (ReportKind.FILL, "1", 5, 0), (ReportKind.FILL, "2", 5, 0))
    assert decide(risk, order("3", 5, Side.SELL), order("4", 1, Side.SELL), order("4", 1, Side.SELL_SHORT)) == [
        OK,
        Verdict.SHORT_NOT_MARKED,
        OK,
    ]
    there = {"symbol": "HARD"}
    assert decide(
        risk,
        order("5", 6, Side.SELL, **there),
        order("5", 1, Side.SELL_SHORT, **there),
        order("5", 5, Side.SELL, **there),
        order("6", 1, Side.SELL_SHORT, account="b", **there),
        order("7", 1, Side.SELL, account="b", **there),
        order("8", 1, Side.SELL, account="c", **there),
    ) == [Verdict.NOT_SHORTABLE, Verdict.NOT_SHORTABLE, OK, OK, OK, Verdict.NOT_SHORTABLE]


def test_the_book_bounds_limit_prices_on_the_side_where_they_hurt() -> None:
    risk = make_risk(Instrument("ABC", 100 * PRICE, 1000 * ONE, fat_finger_ppm=10_000))
    assert decide(risk, order("0", price=900 * PRICE)) == [OK]
    set_top(risk.state, 0, True, 98 * PRICE, True, 102 * PRICE)
    high, low = 102 * PRICE + 102 * PRICE // 100, 98 * PRICE - 98 * PRICE // 100
    assert decide(
        risk,
        order("1", price=high),
        order("2", price=high + 1),
        order("2", price=1),
        order("3", side=Side.SELL, price=low),
        order("4", side=Side.SELL, price=low - 1),
        order("4", side=Side.SELL, price=900 * PRICE),
        order("5", price=None, order_type=OrderType.MARKET),
    ) == [OK, Verdict.FAT_FINGER, OK, OK, Verdict.FAT_FINGER, OK, OK]


def test_kill_switches_stop_orders_but_no_cancels_until_they_are_released() -> None:
    risk = make_risk(accounts=[Account("a")])
    decide(risk, order("o"))
    switches = (
        ("all", None, Verdict.KILLED),
        ("instrument", "ABC", Verdict.INSTRUMENT_KILLED),
        ("session", 0, Verdict.SESSION_KILLED),
        ("account", "a", Verdict.ACCOUNT_KILLED),
    )
    for number, (scope, name, verdict) in enumerate(switches):
        risk.apply_control(risk.kill_record(scope, name))
        assert risk.killed(scope, name)
        cancel = order(f"c{number}", kind=Kind.CANCEL, original="o")
        assert decide(risk, order("x"), order("x", kind=Kind.REPLACE, original="o"), cancel) == [verdict, verdict, OK]
        risk.apply_control(Terms((ABC,), (Account("a", order_burst=2),)).record(risk.terms) or {})
        assert risk.killed(scope, name)
        risk.apply_control(risk.release_record(scope, name))
        assert decide(risk, order(f"y{number}")) == [OK]
    assert risk.kill_record("account", "a", cancel=True) == {
        "type": "kill",
        "scope": "account",
        "name": "a",
        "account": 1,
        "cancel": True,
    }


@pytest.mark.parametrize(
    ("scope", "name", "reason"),
    [
        ("planet", None, "scope 'planet' is none of all, instrument, account, session"),
        ("all", "x", "'all' takes no name"),
        ("session", "x", "'x' is no session"),
        ("session", 70_000, "70000 is no session"),
        ("instrument", "XYZ", "there is no instrument 'XYZ'"),
        ("account", "zzz", "there is no account 'zzz'"),
    ],
)
def test_a_kill_of_what_is_not_there_is_refused(scope: str, name: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make_risk().kill_record(scope, name)  # type: ignore[arg-type]


def test_a_new_day_forgets_ids_of_a_session_or_all_but_not_open_orders() -> None:
    risk = make_risk(accounts=[Account("a", notional=10_000 * UNIT)])
    decide(risk, order("1"), order("2"))
    decide(risk, order("1"), flow=1)
    settle(risk, (ReportKind.CANCELED, "1", 1, 0))
    settle(risk, (ReportKind.CANCELED, "1", 1, 0), flow=1)
    again = [order("1"), order("2")]
    duplicate = Verdict.DUPLICATE_CLIENT_ORDER_ID
    assert decide(risk, *again) == [duplicate, duplicate]
    risk.apply_control(risk.new_day_record(0))
    assert decide(risk, *again) == [OK, duplicate]
    assert decide(risk, order("1"), flow=1) == [duplicate]
    assert risk.notional_used("a") == 400 * UNIT
    risk.apply_control(risk.new_day_record())
    assert decide(risk, order("1"), flow=1) == [OK]
    assert risk.notional_used("a") == 100 * UNIT
    assert decide(risk, order("2", kind=Kind.CANCEL, original="1")) == [duplicate]


def test_restricted_lists_refuse_orders_and_not_cancels() -> None:
    risk = make_risk(
        ABC,
        Instrument("BAD", PRICE, ONE, restricted=True),
        accounts=[Account("a"), Account("b")],
        positions=[Position("a", "ABC", restricted=True)],
    )
    assert decide(
        risk,
        order("1", symbol="BAD", price=PRICE),
        order("1", symbol="BAD", kind=Kind.CANCEL, original="x"),
        order("2"),
        order("2", account="b"),
    ) == [Verdict.RESTRICTED_INSTRUMENT, OK, Verdict.RESTRICTED_FOR_ACCOUNT, OK]


def test_the_node_gets_the_accounts_number_and_what_to_do_about_self_trades() -> None:
    risk = make_risk(accounts=[Account("a"), Account("b", self_trade=SelfTrade.CANCEL_OLDEST)])
    decide(
        risk, order("1"), order("2", account="b"), order("3", account="c"), order("4", kind=Kind.CANCEL, original="1")
    )
    assert risk.last["account"].tolist() == [1, 2, 3, 0]  # type: ignore[attr-defined]
    assert risk.last["self_trade"].tolist() == [0, 2, 0, 0]  # type: ignore[attr-defined]


def test_a_session_is_dropped_only_where_it_is_configured() -> None:
    risk = make_risk(sessions=[Session(3, drop_on_disconnect=True)])
    assert risk.disconnect_record(3) == {"type": "disconnect", "flow": 3}
    assert risk.disconnect_record(4) is None
    before = risk.state_hash()
    risk.apply_control({"type": "disconnect", "flow": 3})
    risk.apply_control({"type": "move", "instrument": 1, "from": 0, "to": 1})
    assert risk.state_hash() == before


def test_limits_change_between_slices_and_a_withdrawn_instrument_takes_cancels_only() -> None:
    risk = make_risk(ABC, accounts=[Account("a", long_quantity=5 * ONE)])
    assert decide(risk, order("1", 5), order("2", 1)) == [OK, Verdict.LONG_EXPOSURE]
    new = Terms((Instrument("NEW", PRICE, 9 * ONE),), (Account("a", long_quantity=6 * ONE),))
    record = risk.limits_record(new)
    assert record is not None
    assert record["withdrawn"] == {"instruments": ["ABC"]}
    risk.apply_control(record)
    assert risk.terms == new
    assert risk.limits_record(new) is None
    assert decide(
        risk,
        order("2", 1),
        order("2", 1, kind=Kind.CANCEL, original="1"),
        order("3", 6, symbol="NEW", price=PRICE),
        order("4", 1, symbol="NEW", price=PRICE),
    ) == [Verdict.UNKNOWN_INSTRUMENT, OK, OK, Verdict.LONG_EXPOSURE]
    risk.apply_control(risk.limits_record(Terms((ABC,), (Account("a", long_quantity=6 * ONE),))) or {})
    assert decide(risk, order("5", 1), order("6", 1)) == [OK, Verdict.LONG_EXPOSURE]


def test_full_tables_are_told_with_their_room() -> None:
    risk = make_risk(order_room=2, position_room=1, account_room=3)
    assert decide(risk, order("1"), order("2"), order("3"), order("3", account="b")) == [
        OK,
        OK,
        Verdict.ORDERS_FULL,
        Verdict.POSITIONS_FULL,
    ]
    assert (risk.explain(2).limit, risk.explain(2).value) == (2, 3)
    settle(risk, (ReportKind.CANCELED, "1", 1, 0))
    assert decide(risk, order("3")) == [OK]
