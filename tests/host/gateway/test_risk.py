"""Every check refuses what it should, the first that fails counts, and what is refused changes nothing."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdl.frame import FRAME_DTYPE, Flag, Kind, OrderType, Side, TimeInForce, crc64
from host.cluster.node import NO_NODE
from host.cluster.order_key import text_key
from host.gateway import VERDICT_TEXT, Account, Instrument, Risk, Router, Verdict, verdict_text
from host.gateway.notional import NOTIONAL_LIMIT, add, exceeds, magnitude, multiply, subtract, words
from host.gateway.risk_state import QUANTITY_LIMIT, account_key
from host.journal.batch import DECISION_DTYPE
from tests.host.gateway.orders import ONE, Slice

PRICE = 10**9
UNIT = 10**17
ABC = Instrument("ABC", 100 * PRICE, 1000 * ONE, collar_ppm=50_000, security_id=7)


def make_risk(*instruments: Instrument, router: Router | None = None, **more: object) -> Risk:
    risk = Risk(instruments or (ABC,), **more)
    risk.route(router or Router({0: 1}))
    return risk


def decide(risk: Risk, orders: Slice) -> list[Verdict]:
    frames = orders.frames
    decisions = np.full(len(frames), 77, np.uint8).astype(DECISION_DTYPE)
    risk.decide(frames, orders.payload, decisions)
    verdicts, nodes = decisions["verdict"], decisions["node"]
    assert ((nodes != NO_NODE) == (verdicts == Verdict.ACCEPTED)).all()
    return [Verdict(verdict) for verdict in verdicts]


def verdict(**order: object) -> Verdict:
    return decide(make_risk(), Slice().order(**{"client_order_id": "a", **order}))[0]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({}, Verdict.ACCEPTED),
        ({"flags": Flag.DUPLICATE_TAG}, Verdict.DUPLICATE_TAG),
        ({"client_order_id": ""}, Verdict.NO_CLIENT_ORDER_ID),
        ({"symbol": ""}, Verdict.NO_SYMBOL),
        ({"symbol": "XYZ"}, Verdict.UNKNOWN_INSTRUMENT),
        ({"side": Side.ABSENT}, Verdict.BAD_SIDE),
        ({"side": ord("3")}, Verdict.BAD_SIDE),
        ({"side": Side.SELL}, Verdict.ACCEPTED),
        ({"side": Side.SELL_SHORT}, Verdict.ACCEPTED),
        ({"side": Side.SELL_SHORT_EXEMPT}, Verdict.ACCEPTED),
        ({"quantity": 0}, Verdict.BAD_QUANTITY),
        ({"order_type": OrderType.ABSENT}, Verdict.UNSUPPORTED_ORDER_TYPE),
        ({"order_type": ord("P")}, Verdict.UNSUPPORTED_ORDER_TYPE),
        ({"price": None, "order_type": OrderType.STOP}, Verdict.ACCEPTED),
        ({"price": None, "order_type": OrderType.STOP_LIMIT}, Verdict.NO_PRICE),
        ({"price": None}, Verdict.NO_PRICE),
        ({"price": None, "order_type": OrderType.MARKET}, Verdict.ACCEPTED),
        ({"time_in_force": TimeInForce.ABSENT}, Verdict.ACCEPTED),
        ({"time_in_force": TimeInForce.GOOD_TILL_CANCEL}, Verdict.ACCEPTED),
        ({"time_in_force": TimeInForce.IMMEDIATE_OR_CANCEL}, Verdict.ACCEPTED),
        ({"time_in_force": TimeInForce.FILL_OR_KILL}, Verdict.ACCEPTED),
        ({"time_in_force": ord("2")}, Verdict.UNSUPPORTED_TIME_IN_FORCE),
        ({"time_in_force": ord("6")}, Verdict.UNSUPPORTED_TIME_IN_FORCE),
        ({"quantity": 1000 * ONE}, Verdict.ACCEPTED),
        ({"quantity": 1000 * ONE + 1}, Verdict.MAXIMUM_QUANTITY),
        ({"price": 95 * PRICE}, Verdict.ACCEPTED),
        ({"price": 95 * PRICE - 1}, Verdict.PRICE_COLLAR),
        ({"price": 105 * PRICE}, Verdict.ACCEPTED),
        ({"price": 105 * PRICE + 1}, Verdict.PRICE_COLLAR),
        ({"price": 0}, Verdict.NO_PRICE),
        ({"kind": Kind.CANCEL}, Verdict.NO_ORIGINAL_ORDER_ID),
        ({"kind": Kind.REPLACE}, Verdict.NO_ORIGINAL_ORDER_ID),
        ({"kind": Kind.CANCEL, "original": "b", "quantity": 0, "price": None, "order_type": 0}, Verdict.ACCEPTED),
        ({"kind": Kind.CANCEL, "original": "b", "symbol": "XYZ"}, Verdict.UNKNOWN_INSTRUMENT),
        ({"kind": Kind.REPLACE, "original": "b"}, Verdict.ACCEPTED),
        ({"kind": Kind.REPLACE, "original": "b", "quantity": 1001 * ONE}, Verdict.MAXIMUM_QUANTITY),
        ({"payload_offset": 1 << 30}, Verdict.CORRUPT_FRAME),
        ({"client_order_id": "a", "account": "x", "payload_length": 20}, Verdict.CORRUPT_FRAME),
        ({"flags": Flag.FRAGMENT}, Verdict.ACCEPTED),
    ],
)
def test_an_order_gets_the_verdict_of_the_first_check_that_fails(order: dict, expected: Verdict) -> None:
    if order.get("price") == 0:  # the frame says 0 where the message has no price
        order = {**order, "price": None}
    assert verdict(**order) == expected


def test_earlier_checks_come_first() -> None:
    wrong: dict = {"flags": Flag.DUPLICATE_TAG, "client_order_id": "", "side": 0, "quantity": 0, "symbol": "XYZ"}
    assert verdict(**wrong) == Verdict.DUPLICATE_TAG
    del wrong["flags"]
    assert verdict(**wrong) == Verdict.NO_CLIENT_ORDER_ID
    del wrong["client_order_id"]
    assert verdict(**wrong) == Verdict.BAD_SIDE
    del wrong["side"]
    assert verdict(**wrong) == Verdict.BAD_QUANTITY
    del wrong["quantity"]
    assert verdict(**wrong) == Verdict.UNKNOWN_INSTRUMENT


def test_other_frames_are_counted_and_passed_over() -> None:
    orders = Slice().other(Kind.SESSION).other(Kind.BOOK_UPDATE).other(Kind.GAP).other(Kind.OTHER)
    orders.other(Kind.MALFORMED, flags=Flag.CHECKSUM | Flag.TAG).order("a")
    risk = make_risk()
    assert decide(risk, orders) == [Verdict.NOT_AN_ORDER] * 4 + [Verdict.MALFORMED, Verdict.ACCEPTED]
    counters = risk.state.counters[0]
    assert counters["kinds"][[Kind.SESSION, Kind.GAP, Kind.MALFORMED, Kind.NEW_ORDER]].tolist() == [1, 1, 1, 1]
    assert counters["verdicts"][Verdict.NOT_AN_ORDER] == 4
    assert counters["causes"].tolist() == [0, 0, 1, 1] + [0] * 12


def test_a_client_order_id_is_used_once_a_flow_and_only_by_an_accepted_order() -> None:
    risk = make_risk()
    assert decide(risk, Slice(flow=1).order("a", quantity=0).order("a").order("a").order("a ")) == [
        Verdict.BAD_QUANTITY,
        Verdict.ACCEPTED,
        Verdict.DUPLICATE_CLIENT_ORDER_ID,
        Verdict.ACCEPTED,
    ]
    assert decide(risk, Slice(flow=2).order("a").order("a", kind=Kind.CANCEL, original="x")) == [
        Verdict.ACCEPTED,
        Verdict.DUPLICATE_CLIENT_ORDER_ID,
    ]


def test_full_tables_reject_with_their_own_reason_and_nothing_else_breaks() -> None:
    risk = make_risk(client_order_ids=3)
    orders = Slice()
    for number in range(5):
        orders.order(f"order{number}")
    orders.order("order1")
    assert decide(risk, orders) == [Verdict.ACCEPTED] * 3 + [Verdict.CLIENT_ORDER_IDS_FULL] * 2 + [
        Verdict.DUPLICATE_CLIENT_ORDER_ID
    ]
    risk = make_risk(account_room=2, accounts=[Account("known")])
    orders = Slice().order("a", account="first").order("b", account="second").order("c", account="known")
    assert decide(risk, orders) == [Verdict.ACCEPTED, Verdict.ACCOUNTS_FULL, Verdict.ACCEPTED]


def test_notional_is_bounded_an_order_and_in_sum() -> None:
    risk = make_risk(accounts=[Account("acc", order_notional=200 * UNIT, notional=250 * UNIT)])
    orders = Slice()
    orders.order("a", quantity=2 * ONE + 1, account="acc")
    orders.order("b", quantity=2 * ONE, account="acc")
    orders.order("c", quantity=ONE // 2 + 1, account="acc")
    orders.order("d", quantity=ONE // 2, account="acc")
    orders.order("e", quantity=1, account="acc")
    orders.order("f", quantity=1, account="other")
    assert decide(risk, orders) == [
        Verdict.ORDER_NOTIONAL,
        Verdict.ACCEPTED,
        Verdict.ACCOUNT_NOTIONAL,
        Verdict.ACCEPTED,
        Verdict.ACCOUNT_NOTIONAL,
        Verdict.ACCEPTED,
    ]
    assert risk.notional_used("acc") == 250 * UNIT
    assert risk.notional_used("other") == 100 * PRICE


def test_a_market_order_is_valued_at_the_reference_and_a_negative_price_at_its_size() -> None:
    oil = Instrument("OIL", -40 * PRICE, 1000 * ONE, collar_ppm=500_000)
    risk = make_risk(oil, accounts=[Account("acc", order_notional=40 * UNIT)])
    orders = Slice()
    orders.order("a", symbol="OIL", price=None, order_type=OrderType.MARKET, account="acc")
    orders.order("b", symbol="OIL", price=-41 * PRICE, account="acc")
    orders.order("c", symbol="OIL", price=-61 * PRICE, account="acc")
    orders.order("d", symbol="OIL", price=-20 * PRICE, account="acc")
    assert decide(risk, orders) == [
        Verdict.ACCEPTED,
        Verdict.ORDER_NOTIONAL,
        Verdict.PRICE_COLLAR,
        Verdict.ACCEPTED,
    ]


def test_an_order_without_account_counts_for_its_flow() -> None:
    risk = make_risk(default_account=Account("", notional=150 * UNIT))
    assert decide(risk, Slice(flow=1).order("a").order("b")) == [Verdict.ACCEPTED, Verdict.ACCOUNT_NOTIONAL]
    assert decide(risk, Slice(flow=2).order("a").order("b", account="named")) == [Verdict.ACCEPTED] * 2


def test_the_largest_notional_does_not_overflow() -> None:
    huge = Instrument("HUGE", (1 << 63) - 1, QUANTITY_LIMIT)
    risk = make_risk(
        huge, accounts=[Account("a", NOTIONAL_LIMIT, NOTIONAL_LIMIT), Account("b", NOTIONAL_LIMIT, 1 << 64)]
    )
    most: dict = {"symbol": "HUGE", "price": (1 << 63) - 1, "quantity": QUANTITY_LIMIT}
    orders = Slice()
    for number, side in enumerate([Side.BUY, Side.SELL] * 2 + [Side.BUY]):
        orders.order(str(number), account="a", side=side, **most)
    orders.order("b", account="b", **most)
    assert decide(risk, orders) == [
        Verdict.ACCEPTED,
        Verdict.ACCEPTED,
        Verdict.LONG_EXPOSURE,
        Verdict.SHORT_EXPOSURE,
        Verdict.LONG_EXPOSURE,
        Verdict.ACCOUNT_NOTIONAL,
    ]
    assert risk.notional_used("a") == 2 * ((1 << 63) - 1) * QUANTITY_LIMIT
    assert risk.gross_exposure("a") == ((1 << 63) - 1) * QUANTITY_LIMIT
    assert risk.explain(4).value == 2 * QUANTITY_LIMIT


def test_the_collar_follows_the_last_trade_of_the_instrument() -> None:
    risk = make_risk()
    orders = Slice().trade(7, 200 * PRICE).order("a").order("b", price=190 * PRICE)
    orders.trade(7, 100 * PRICE, update_action=ord("2")).trade(7, 0, flags=Flag.PRICE_ABSENT).trade(8, PRICE)
    orders.order("c", price=210 * PRICE)
    assert [v for v in decide(risk, orders) if v != Verdict.NOT_AN_ORDER] == [
        Verdict.PRICE_COLLAR,
        Verdict.ACCEPTED,
        Verdict.ACCEPTED,
    ]
    assert risk.reference_price("ABC") == 200 * PRICE


def test_a_trade_in_a_fix_message_moves_no_collar() -> None:
    risk = make_risk()
    spoof = np.zeros(1, FRAME_DTYPE)
    spoof["instrument"], spoof["price"], spoof["message_type"] = 7, 200 * PRICE, ord("W")
    orders = Slice().add(spoof, b"8=FIX.4.4\x019=9\x0135=W\x01", Kind.TRADE).order("a")
    assert decide(risk, orders) == [Verdict.NOT_AN_ORDER, Verdict.ACCEPTED]
    assert risk.reference_price("ABC") == 100 * PRICE


@pytest.mark.parametrize("price", [(1 << 63) - 1, -(1 << 63) + 1])
def test_a_collar_at_the_end_of_the_price_range_does_not_wrap(price: int) -> None:
    edge = Instrument("EDGE", price, ONE, collar_ppm=1_000_000)
    risk = make_risk(edge, default_account=Account(""))
    orders = (
        Slice().order("a", symbol="EDGE", price=price, quantity=1).order("b", symbol="EDGE", price=-price, quantity=1)
    )
    orders.order("c", symbol="EDGE", price=price // 2, quantity=1)
    assert decide(risk, orders) == [Verdict.ACCEPTED, Verdict.PRICE_COLLAR, Verdict.ACCEPTED]


def test_no_node_no_order() -> None:
    risk = make_risk(router=Router({0: 0}))
    assert decide(risk, Slice().order("a")) == [Verdict.NO_NODE]
    risk.route(Router({3: 1}))
    assert decide(risk, Slice().order("a")) == [Verdict.ACCEPTED]


def test_the_node_is_the_routers() -> None:
    router = Router({0: 1, 1: 2, 5: 3})
    names = [f"SYMBOL-{number}" for number in range(50)]
    risk = make_risk(*(Instrument(name, 100 * PRICE, ONE) for name in names), router=router)
    orders = Slice()
    for name in names:
        orders.order(name, symbol=name)
    decisions = np.zeros(50, DECISION_DTYPE)
    risk.decide(orders.frames, orders.payload, decisions)
    nodes = decisions["node"]
    assert nodes.tolist() == [router.node(crc64(name.encode())) for name in names]
    assert set(nodes.tolist()) == {0, 1, 5}


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="instrument ABC is configured twice"):
        Risk([ABC, Instrument("ABC", 1, 1)])
    with pytest.raises(ValueError, match="security id 7 is configured twice"):
        Risk([ABC, Instrument("DEF", 1, 1, security_id=7)])
    with pytest.raises(ValueError, match="collar"):
        Instrument("ABC", 1, 1, collar_ppm=1_000_001)
    with pytest.raises(ValueError, match="maximum quantity"):
        Instrument("ABC", 1, 0)
    with pytest.raises(ValueError, match="notional limit"):
        Account("a", 1 << 127)
    with pytest.raises(ValueError, match="twice"):
        Risk([ABC], [Account("a"), Account("a")])
    with pytest.raises(TypeError, match="FRAME_DTYPE"):
        make_risk().decide(np.zeros(64, np.uint8), np.zeros(1, np.uint8), np.zeros(64, DECISION_DTYPE))
    with pytest.raises(ValueError, match="do not fit"):
        make_risk().decide(np.zeros(2, FRAME_DTYPE), np.zeros(1, np.uint8), np.zeros(1, DECISION_DTYPE))


def test_every_verdict_has_words() -> None:
    assert set(VERDICT_TEXT) == set(Verdict)
    assert verdict_text(Verdict.MALFORMED, Flag.CHECKSUM | Flag.DUPLICATE_TAG) == (
        "malformed message: CheckSum is not the sum of the bytes before it"
    )


U64 = st.integers(0, (1 << 64) - 1)


@settings(deadline=None)  # the first call compiles
@given(U64, U64, U64, U64)
def test_pairs_calculate_as_integers_do(a: int, b: int, c: int, d: int) -> None:
    high, low = multiply(np.uint64(a), np.uint64(b))
    assert (int(high), int(low)) == words(a * b)
    left, right = (a << 64 | b) >> 1, (c << 64 | d) >> 1
    pair = [np.uint64(word) for word in (*words(left), *words(right))]
    assert tuple(map(int, add(*pair))) == words(left + right)
    assert bool(exceeds(*pair)) == (left > right)
    assert tuple(map(int, subtract(*pair))) == words((left - right) % (1 << 128))


@settings(deadline=None)  # the first call compiles
@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_magnitude_is_right_at_the_ends(price: int) -> None:
    assert int(magnitude(np.int64(price))) == abs(price)


@settings(deadline=None)  # the first call compiles
@given(st.binary(max_size=40).filter(lambda text: 1 not in text), st.integers(0, 30), st.booleans())
def test_a_key_depends_on_the_text_alone(text: bytes, before: int, ended: bool) -> None:
    """Neither on where the text stands, nor on what is behind it, nor on whether the message or SOH ends it."""
    alone = np.frombuffer(text + b"\x01", np.uint8).copy()
    around = np.frombuffer(b"x" * before + text + (b"\x01" if ended else b"") + b"\x01behind", np.uint8).copy()
    end = len(around) if ended else before + len(text)
    space = np.uint64(3)
    assert text_key(alone, 0, len(alone), space) == text_key(around, before, end, space)
    assert text_key(alone, 0, len(alone), space) != text_key(alone, 0, len(alone), np.uint64(4))


@settings(deadline=None)  # the first call compiles
@given(
    st.binary(max_size=20).filter(lambda text: 1 not in text), st.integers(1, 30), st.booleans(), st.binary(max_size=9)
)
def test_an_accounts_key_depends_on_its_name_alone(name: bytes, before: int, ended: bool, behind: bytes) -> None:
    alone = np.frombuffer(b"x" + name + b"\x01", np.uint8).copy()
    around = np.frombuffer(b"x" * before + name + (b"\x01" if ended else b"") + b"\x01" + behind, np.uint8).copy()
    end = len(around) if ended else before + len(name)
    key = account_key(alone, 0, 1, len(alone), 0)
    assert key == account_key(around, 0, before, end, 0)
    other = np.frombuffer(b"x" + name + b"y\x01", np.uint8).copy()
    assert key != account_key(other, 0, 1, len(other), 0)
    assert key != account_key(alone, 0, 0, len(alone), 0)


def test_keys_of_similar_texts_differ() -> None:
    keys = {text_key(np.frombuffer(b"ORD%07d\x01" % n, np.uint8).copy(), 0, 11, np.uint64(0)) for n in range(20_000)}
    assert len(keys) == 20_000
    low_bits = Counter(int(low) & 1023 for low, _ in keys)
    assert max(low_bits.values()) < 60
