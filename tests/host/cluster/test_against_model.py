"""A node reports what the model reports and holds the books that it holds, whatever it is told."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdl.frame import Kind, Side
from host.cluster import MatchingNode
from host.cluster.invariants import check_books
from tests.host.cluster.model import Exchange
from tests.host.cluster.orders import (
    ABSENT,
    BUY,
    DAY,
    FOK,
    GTC,
    IOC,
    LIMIT,
    MARKET,
    SELL,
    STOP,
    STOP_LIMIT,
    Message,
    batch,
    control,
    plain,
    queue,
)

SYMBOLS = ("ABC", "XYZ", "QQQ")
ROOM = {"orders": 40, "instruments": 2}

IDS = st.integers(0, 12).map("order-{}".format)
MESSAGES = st.builds(
    Message,
    st.sampled_from([Kind.NEW_ORDER] * 4 + [Kind.CANCEL, Kind.REPLACE, Kind.REPLACE]),
    IDS,
    original=IDS,
    side=st.sampled_from([BUY, SELL, Side.SELL_SHORT]),
    price=st.integers(-2, 4),
    quantity=st.integers(1, 9),
    order_type=st.sampled_from([LIMIT] * 4 + [MARKET, STOP, STOP_LIMIT]),
    time_in_force=st.sampled_from([ABSENT, DAY, DAY, GTC, IOC, FOK]),
    stop=st.none() | st.integers(-2, 4),
    display=st.none() | st.none() | st.integers(1, 4),
    post_only=st.sampled_from([False, False, False, True]),
    symbol=st.sampled_from(["ABC", "ABC", "XYZ"]),
    flow=st.sampled_from([0, 0, 1]),
    account=st.just(0),
    self_trade=st.just(0),
)
CONTROLS = st.sampled_from(
    [
        {"type": "new_day"},
        {"type": "disconnect", "flow": 1},
        {"type": "limits"},
        {"type": "kill", "scope": "all"},
        {"type": "kill", "scope": "all", "cancel": True},
        {"type": "kill", "scope": "instrument", "name": "ABC", "cancel": True},
        {"type": "kill", "scope": "session", "name": 0, "cancel": True},
    ]
)


class Both:
    """A node and the model of it, told the same."""

    def __init__(self) -> None:
        self.node, self.model = MatchingNode(0, **ROOM), Exchange(**ROOM)
        self.sequence = self.controls = 0

    def tell(self, step: Message | dict) -> None:
        if isinstance(step, Message):
            self.sequence += 1
            told = plain(self.node.apply(batch([step], self.sequence)))
            expected = self.model.apply(step, self.sequence)
        else:
            told = plain(self.node.apply(control(self.controls, step, self.sequence + 1)))
            self.controls += 1
            expected = self.model.control(step)
        assert told == expected, step
        check_books(self.node.state)
        for symbol in SYMBOLS:
            assert queue(self.node, symbol) == self.model.queue(symbol), step


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(*[MESSAGES] * 12, CONTROLS), max_size=40))
def test_any_few_messages(steps: list[Message | dict]) -> None:
    both = Both()
    for step in steps:
        both.tell(step)


def traffic(random: Random, count: int) -> list[Message]:
    """Messages most of which make sense: stops on their side of the price, originals that may be open."""
    messages: list[Message] = []
    for number in range(count):
        kind = random.choices([Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE], [6, 2, 3])[0]
        order_type = random.choices([LIMIT, MARKET, STOP, STOP_LIMIT], [10, 1, 2, 2])[0]
        side, middle = random.choice([BUY, SELL]), 100
        away = random.randint(-3, 8) * (1 if side == SELL else -1)
        waits = order_type in (STOP, STOP_LIMIT)
        rests = order_type in (LIMIT, STOP_LIMIT)
        time = random.choices([ABSENT, DAY, GTC, IOC, FOK], [2, 4, 3, 0 if waits else 1, 0 if waits else 1])[0]
        quantity = random.randint(1, 50)
        shows = rests and time not in (IOC, FOK)
        message = Message(
            kind,
            f"o{number}",
            f"o{max(number - random.randint(1, 20), 0)}",
            side,
            middle + away if rests else 0,
            quantity,
            order_type,
            time,
            middle - away // 2 if waits else None,
            random.randint(1, 10) if shows and random.random() < 0.3 else None,
            shows and random.random() < 0.1,
            random.choice(SYMBOLS[:2]) if random.random() < 0.98 else SYMBOLS[2],
        )
        old = next((each for each in messages if each.order_id == message.original), None)
        if old and kind != Kind.NEW_ORDER and random.random() < 0.9:
            kept = {"symbol": old.symbol, "side": old.side}
            if kind == Kind.REPLACE:
                kept |= {"order_type": old.order_type, "stop": old.stop, "time_in_force": DAY, "price": old.price}
                if random.random() < 0.5 and old.price:
                    kept["price"] = old.price + random.randint(-2, 2)
            message = message._replace(**kept)
        messages.append(message)
    return messages


@pytest.mark.parametrize("seed", range(4))
def test_long_traffic_in_batches_and_from_a_snapshot_in_the_middle(seed: int) -> None:
    random = Random(seed)
    messages = traffic(random, 600)
    both = Both()
    for message in messages:
        both.tell(message)
    assert both.node.trades > 50

    whole, half = MatchingNode(0, **ROOM), random.randint(1, len(messages) - 1)
    applied = 0
    snapshot: dict[str, np.ndarray] = {}
    while applied < len(messages):
        end = half if applied < half else len(messages)
        count = min(random.randint(1, 90), end - applied)
        whole.apply(batch(messages[applied : applied + count], applied + 1))
        applied += count
        if applied == half:
            snapshot = {name: part.copy() for name, part in whole.state_parts().items()}
    assert whole.state_hash() == both.node.state_hash()

    restored = MatchingNode(0, **ROOM)
    restored.load_parts(snapshot)
    reports = restored.apply(batch(messages, 1))
    assert restored.repeated == half
    assert reports[reports["sequence"] <= half].size == 0
    assert restored.state_hash() == whole.state_hash()
    for name, part in whole.state_parts().items():
        assert name == "counters" or restored.state_parts()[name].tobytes() == part.tobytes(), name
