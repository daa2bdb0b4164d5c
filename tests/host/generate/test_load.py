"""Load: every order has an identifier of its own and a right CheckSum, and whoever goes on goes on where it was."""

from time import monotonic_ns

import numpy as np
import pytest

from host.card.ring import Ring
from host.generate.lap import make_lap
from host.generate.load import Lap, Load, load_lap, save_lap
from host.trials.checker import client_order_id

FRAMES = 700


@pytest.fixture(scope="module")
def lap() -> Lap:
    return make_lap(300, seed=4)


def take(ring: Ring) -> list[tuple[bytes, int]]:
    """(message, timestamp) of all that is there."""
    found = []
    while len(frames := ring.poll()):
        found += [(bytes(ring.message(frame)), int(frame["timestamp"])) for frame in frames]
        ring.release(len(frames))
    return found


def test_laps_differ_in_their_identifiers_alone_and_checksums_are_right(lap: Lap) -> None:
    with Ring.create(None, 1 << 12, 1 << 20) as ring:
        load = Load(lap, ring)
        load.pace(None, 0)
        assert load.run(3 * len(lap), 10**9) == 3 * len(lap)
        messages = [message for message, _ in take(ring)]
    for number, message in enumerate(messages):
        assert int(message[-4:-1]) == sum(message[:-7]) % 256
        plain = lap.message(number % len(lap), number // len(lap))
        assert message[:-4] == plain[:-4]
        assert client_order_id(message).startswith(b"%08d" % (number // len(lap)))
    assert len({(message.split(b"\x01")[3], client_order_id(message)) for message in messages}) >= 0.98 * len(messages)


def test_orders_are_due_at_their_moments(lap: Lap) -> None:
    with Ring.create(None, 1 << 12, 1 << 20) as ring:
        load = Load(lap, ring)
        load.pace(1000, 5_000_000)
        load.run(10, 10**9)
        assert [timestamp for _, timestamp in take(ring)] == [5_000_000 + 1_000_000 * number for number in range(10)]


def test_a_slow_pace_holds_behind_many_orders(lap: Lap) -> None:
    with Ring.create(None, 1 << 12, 1 << 20) as ring:
        load = Load(lap, ring)
        load.number = 1 << 40
        load.pace(1, monotonic_ns())
        assert load.run(1 << 62, 10**6) == (1 << 40) + 1


@pytest.mark.parametrize("read", [0, 1, 100, 399])
def test_a_successor_goes_on_where_a_load_was_killed(lap: Lap, read: int) -> None:
    with Ring.create(None, 512, 1 << 17) as ring, Ring.create(None, 1 << 12, 1 << 20) as whole:
        straight = Load(lap, whole)
        straight.pace(None, 0)
        straight.run(FRAMES, 10**9)
        expected = [message for message, _ in take(whole)]
        found: list[bytes] = []
        load = Load(lap, ring)
        for number in range(400, FRAMES + 1, 100):
            load.pace(None, 0)
            while load.number < number:
                load.run(number, 10**9)
                frames = ring.poll(max(read, 50))
                found += [bytes(ring.message(frame)) for frame in frames]
                ring.release(len(frames))
            load = Load(lap, ring)
            assert load.number == number
        found += [message for message, _ in take(ring)]
        assert found == expected


def test_a_lap_is_kept(lap: Lap, tmp_path) -> None:
    save_lap(lap, tmp_path / "lap.npz")
    again = load_lap(tmp_path / "lap.npz")
    assert np.array_equal(again.frames, lap.frames)
    assert np.array_equal(again.payload, lap.payload)
