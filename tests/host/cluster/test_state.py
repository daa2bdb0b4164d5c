"""Control records, snapshots, and books that move from node to node."""

import numpy as np
import pytest

from hdl.frame import crc64
from host.cluster import MatchingNode
from host.cluster.invariants import check_books
from tests.host.cluster.orders import (
    ABSENT,
    BUY,
    GTC,
    SELL,
    Desk,
    batch,
    cancel,
    control,
    market,
    new,
    plain,
    queue,
    replace,
    stop,
)

ABC = crc64(b"ABC")

MESSAGES = [
    new("a", SELL, 30, 103, display=10),
    new("b", SELL, 5, 103, time_in_force=GTC),
    new("c", BUY, 5, 99, flow=1, time_in_force=ABSENT),
    stop("d", BUY, 5, 104, time_in_force=GTC),
    stop("e", SELL, 5, 95, flow=1),
    market("f", BUY, 12),
    new("g", BUY, 5, 98, symbol="XYZ"),
    new("h", SELL, 5, 103, symbol="XYZ", flow=1),
]


def desk() -> Desk:
    made = Desk(orders=32, instruments=4)
    made.tell(*MESSAGES)
    return made


def apply_control(made: Desk, record: dict, number: int = 1) -> list[tuple]:
    reports = made.node.apply(control(number, record, made.sequence + 1))
    check_books(made.node.state)
    assert (reports["sequence"] == made.sequence).all()
    assert (reports["timestamp"] == record.get("timestamp", 0)).all()
    return [(told[0], told[1], told[2]) for told in plain(reports)]


class TestControls:
    def test_a_new_day_expires_day_orders_the_oldest_first(self) -> None:
        made = desk()
        made.tell(replace("c2", "c", BUY, 4, 99, flow=1))
        assert apply_control(made, {"type": "new_day", "timestamp": 77}) == [
            ("EXPIRED", "END_OF_DAY", sequence) for sequence in (1, 5, 7, 8, 9)
        ]
        assert [order[2] for order in made.queue()] == [2, 4]

    def test_a_disconnect_cancels_the_orders_of_its_flow(self) -> None:
        made = desk()
        assert apply_control(made, {"type": "disconnect", "flow": 1}) == [
            ("CANCELED", "DISCONNECTED", sequence) for sequence in (3, 5, 8)
        ]
        assert apply_control(made, {"type": "disconnect", "flow": 5}, 2) == []

    @pytest.mark.parametrize(
        ("scope", "sequences"),
        [
            ({"scope": "all"}, (1, 2, 3, 4, 5, 7, 8)),
            ({"scope": "instrument", "name": "XYZ"}, (7, 8)),
            ({"scope": "session", "name": 1}, (3, 5, 8)),
            ({"scope": "account", "name": "FUND-1", "account": 1}, ()),
        ],
    )
    def test_a_kill_cancels_the_open_orders_of_its_scope_where_it_says_so(self, scope: dict, sequences: tuple) -> None:
        made = desk()
        assert apply_control(made, {"type": "kill", **scope}) == []
        killed = [("CANCELED", "KILLED", sequence) for sequence in sequences]
        assert apply_control(made, {"type": "kill", **scope, "cancel": True}, 2) == killed

    def test_a_kill_of_an_account_cancels_its_orders_alone(self) -> None:
        made = Desk(orders=32, instruments=4)
        made.tell(new("a", BUY, 5, 100, account=1), new("b", BUY, 5, 99, account=2), stop("c", BUY, 5, 104, account=1))
        record = {"type": "kill", "scope": "account", "name": "FUND-1", "account": 1, "cancel": True}
        assert apply_control(made, record) == [("CANCELED", "KILLED", 1), ("CANCELED", "KILLED", 3)]

    def test_a_control_that_comes_again_is_passed_over_and_others_change_nothing(self) -> None:
        made = desk()
        before = made.node.state_hash()
        assert apply_control(made, {"type": "weights"}, 4) == []
        assert made.node.state_hash() == before
        assert apply_control(made, {"type": "new_day"}, 4) == []
        assert made.node.state_hash() == before
        assert len(apply_control(made, {"type": "new_day"}, 5)) == 5

    def test_more_orders_than_the_report_buffer_holds_may_end_at_once(self) -> None:
        node = MatchingNode(0)
        node.apply(batch([new(f"o{number}", BUY, 1, 100 + number % 50) for number in range(20_000)]))
        reports = node.apply(control(1, {"type": "disconnect", "flow": 0}, 20_001))
        assert reports["order_sequence"].tolist() == list(range(1, 20_001))
        check_books(node.state)


class TestMoves:
    def test_a_book_that_moved_goes_on_as_if_it_had_not(self) -> None:
        stayed, moved = desk(), desk()
        other = MatchingNode(0, orders=32, instruments=4)
        other.give_book(ABC, moved.node.take_book(ABC))
        check_books(moved.node.state)
        check_books(other.state)
        assert queue(other) == stayed.queue()
        assert (moved.queue(), moved.queue("XYZ")) == ([], stayed.queue("XYZ"))
        later = [market("x", BUY, 12), new("y", BUY, 9, 104), stop("z", SELL, 1, 104), cancel("w", "d")]
        assert plain(other.apply(batch(later, 20))) == plain(stayed.node.apply(batch(later, 20)))
        assert queue(other) == stayed.queue()

    def test_there_and_back_both_nodes_are_as_before(self) -> None:
        made, other = desk(), MatchingNode(1, orders=32, instruments=4)
        before, empty = made.node.state_hash(), other.state_hash()
        for _ in range(6):
            other.give_book(ABC, made.node.take_book(ABC))
            assert other.open_orders == 5
            assert made.node.state_hash() != before
            made.node.give_book(ABC, other.take_book(ABC))
            assert (made.node.state_hash(), other.state_hash()) == (before, empty)

    def test_the_last_trade_moves_too(self) -> None:
        made, other = Desk(), Desk()
        made.tell(new("a", SELL, 1, 100), market("b", BUY, 1))
        other.node.give_book(ABC, made.node.take_book(ABC))
        assert other.reasons(stop("s", BUY, 1, 100)) == ["NOTHING_TO_MATCH"]

    def test_an_instrument_without_a_book_has_no_rows(self) -> None:
        node = MatchingNode(0)
        rows = node.take_book(1234)
        assert len(rows) == 0
        node.give_book(1234, rows)

    def test_what_does_not_fit_is_refused_and_changes_nothing(self) -> None:
        rows = desk().node.take_book(ABC)
        for room, message in (
            ({"orders": 4}, "room for 4 more orders"),
            ({"instruments": 1}, "no room for instrument"),
        ):
            small = Desk(**room)
            if "instruments" in room:
                small.tell(new("q", BUY, 1, 1, symbol="XYZ"))
            before = small.node.state_hash()
            with pytest.raises(ValueError, match=message):
                small.node.give_book(ABC, rows)
            assert small.node.state_hash() == before
        with pytest.raises(ValueError, match="has a book"):
            desk().node.give_book(ABC, rows)
        with pytest.raises(ValueError, match="not the rows of instrument 5"):
            MatchingNode(0).give_book(5, rows)
        other = Desk()
        other.tell(new("a", SELL, 1, 1, symbol="XYZ"))
        with pytest.raises(ValueError, match=r"order 1 of instrument .* is open"):
            other.node.give_book(ABC, rows)
        check_books(other.node.state)


class TestSnapshots:
    def test_a_node_goes_on_from_parts_that_lie_in_files(self, tmp_path) -> None:
        made = desk()
        parts = {}
        for name, part in made.node.state_parts().items():
            part.tofile(tmp_path / name)
            parts[name] = np.memmap(tmp_path / name, part.dtype, "c", shape=part.shape)
        restored = MatchingNode(0, orders=32, instruments=4)
        restored.load_parts(parts)
        assert restored.state_hash() == made.node.state_hash()
        later = [market("x", BUY, 12), cancel("y", "b"), new("z", BUY, 1, 99)]
        assert plain(restored.apply(batch(later, 9))) == plain(made.node.apply(batch(later, 9)))
        assert restored.state_hash() == made.node.state_hash()
        assert (np.fromfile(tmp_path / "counters", parts["counters"].dtype)["last_sequence"] == 8).all()

    def test_parts_of_another_node_are_refused(self) -> None:
        parts = desk().node.state_parts()
        with pytest.raises(ValueError, match="node 0: part 'orders' is"):
            MatchingNode(0, orders=31, instruments=4).load_parts(parts)
        with pytest.raises(ValueError, match="part 'levels' is missing"):
            MatchingNode(0, orders=32, instruments=4).load_parts({"orders": parts["orders"]})
        frozen = {name: part.copy() for name, part in parts.items()}
        frozen["books"].flags.writeable = False
        with pytest.raises(ValueError, match="part 'books' cannot be written to"):
            MatchingNode(0, orders=32, instruments=4).load_parts(frozen)


def test_a_deep_book_keeps_its_order() -> None:
    """Levels made and removed all over a book, at prices of every size and sign."""
    random = np.random.default_rng(3)
    prices = np.unique(
        np.concatenate([random.integers(-(1 << 62), 1 << 62, 300), 10**7 * random.integers(1, 500, 300)])
    )
    made = MatchingNode(0, orders=1024, instruments=2)
    order = random.permutation(len(prices))
    made.apply(batch([new(f"o{number}", BUY, 1, int(prices[number])) for number in order]))
    check_books(made.state)
    assert [row[1] for row in queue(made)] == sorted(prices.tolist(), reverse=True)
    gone, stay = order[:400], np.sort(prices[order[400:]])
    made.apply(batch([cancel(f"x{number}", f"o{number}") for number in gone], 1000))
    check_books(made.state)
    assert [row[1] for row in queue(made)] == stay[::-1].tolist()
