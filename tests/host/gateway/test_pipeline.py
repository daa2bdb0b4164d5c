"""Every accepted order is journaled, then applied by exactly one node, and the journal proves it."""

import gc
import json
import mmap
from pathlib import Path

import numpy as np
import pytest

from hdl.frame import FRAME_DTYPE, Flag, Kind, Side
from host.cluster import MatchingNode, ReportKind
from host.gateway import Gateway, GatewayError, Instrument, Risk, Router, Summary, Verdict
from host.gateway.state import FollowedState
from host.journal import Batch, Journal, JournalError, read_journal
from host.journal.follower import Follower
from host.journal.layout import segment_path
from tests.host.gateway.orders import ONE, Slice

NAMES = [f"SYM{number}" for number in range(12)]
SEGMENT = 4 << 20


def make_risk() -> Risk:
    return Risk([Instrument(name, 100 * 10**9, 1000 * ONE, collar_ppm=100_000) for name in NAMES])


def make_gateway(
    directory: Path,
    *,
    nodes: list[MatchingNode] | None = None,
    batch_frames: int = 64,
    segment_bytes: int = SEGMENT,
    **more: object,
) -> Gateway:
    return Gateway(
        make_risk(),
        Router({0: 1, 1: 1, 2: 2}),
        Journal(directory, segment_bytes=segment_bytes),
        nodes or [MatchingNode(number) for number in range(3)],
        batch_frames=batch_frames,
        **more,
    )


def traffic(seed: int, count: int, first: int = 0) -> Slice:
    """Orders that trade, cancel and replace, some of them wrong, between other frames."""
    random = np.random.default_rng(seed)
    orders = Slice(flow=seed % 3)
    for number in range(first, first + count):
        choice = random.integers(0, 20)
        common: dict = {
            "symbol": NAMES[random.integers(0, len(NAMES))],
            "side": Side.BUY if random.integers(0, 2) else Side.SELL,
            "price": int(random.integers(97, 104)) * 10**9,
            "quantity": int(random.integers(1, 9)) * ONE,
        }
        earlier = f"order-{random.integers(0, number + 1)}"
        if choice == 0:
            orders.other(Kind.MALFORMED, flags=Flag.CHECKSUM)
        elif choice == 1:
            orders.other(Kind.BOOK_UPDATE)
        elif choice == 2:
            orders.order(earlier, **common)
        elif choice == 3:
            orders.order(f"order-{number}", **{**common, "quantity": 0})
        elif choice < 6:
            orders.order(f"order-{number}", kind=Kind.CANCEL, original=earlier, **common)
        elif choice < 8:
            orders.order(f"order-{number}", kind=Kind.REPLACE, original=earlier, **common)
        else:
            orders.order(f"order-{number}", **common)
    return orders


def test_counts_close_and_the_journal_replays_to_the_same_books(tmp_path: Path) -> None:
    reports: list[np.ndarray] = []
    gateway = make_gateway(tmp_path, on_reports=lambda some: reports.append(some.copy()))
    total = Summary()
    for seed in range(4):
        orders = traffic(seed, 700)
        total += gateway.process(orders.frames, orders.payload)
    assert total.frames == 2800
    assert total.accepted + total.rejected + total.malformed + int(total.verdicts[Verdict.NOT_AN_ORDER]) == 2800
    assert total.accepted == total.applied > 1500
    assert total.journaled == total.accepted + total.rejected
    assert total.rejected > 0
    assert total.malformed > 0
    assert total.named() == gateway.summary.named()
    told = np.concatenate(reports)
    assert np.bincount(told["kind"], minlength=len(total.reports)).tolist() == total.reports.tolist()
    assert total.fills == 2 * int(total.node_trades.sum()) > 0
    assert (total.node_orders[:3] > 0).all()
    result = gateway.reconcile(MatchingNode)
    assert result.closes, result.differences
    assert (result.journaled, result.accepted, result.applied) == (total.journaled, total.accepted, total.applied)


def test_how_the_ring_was_sliced_changes_nothing(tmp_path: Path) -> None:
    orders = traffic(1, 1000)
    frames, payload = orders.frames, orders.payload
    whole = make_gateway(tmp_path / "whole", batch_frames=4096)
    whole.process(frames, payload)
    cut = make_gateway(tmp_path / "cut")
    for begin in range(0, 1000, 37):
        cut.process(frames[begin : begin + 37], payload)
    assert cut.summary.verdicts.tolist() == whole.summary.verdicts.tolist()
    assert cut.reconcile(MatchingNode).node_hashes == whole.reconcile(MatchingNode).node_hashes
    assert whole.summary.batches == 1


def test_what_is_journaled_is_what_came(tmp_path: Path) -> None:
    orders = Slice().order("first", symbol="SYM1").other(Kind.SESSION).order("", symbol="SYM1")
    gateway = make_gateway(tmp_path)
    gateway.process(orders.frames, orders.payload)
    (batch,) = read_journal(tmp_path)
    assert batch.decisions["verdict"].tolist() == [Verdict.ACCEPTED, Verdict.NO_CLIENT_ORDER_ID]
    assert batch.decisions["node"].tolist() == [
        Router({0: 1, 1: 1, 2: 2}).node(int(orders.frames[0]["instrument"])),
        255,
    ]
    for frame, original in zip(batch.frames, orders.frames[[0, 2]], strict=True):
        begin, source, length = (
            int(frame["payload_offset"]),
            int(original["payload_offset"]),
            int(original["payload_length"]),
        )
        assert batch.payload[begin:][:length].tolist() == orders.payload[source:][:length].tolist()
        assert {n: frame[n] for n in FRAME_DTYPE.names if n != "payload_offset"} == {
            n: original[n] for n in FRAME_DTYPE.names if n != "payload_offset"
        }


def test_a_gateway_goes_on_from_its_journal(tmp_path: Path) -> None:
    first, second = traffic(0, 500), traffic(3, 500, first=400)
    straight = make_gateway(tmp_path / "straight")
    before = make_gateway(tmp_path / "stopped")
    for gateway in (straight, before):
        gateway.process(first.frames, first.payload)
    before._journal.close()
    after = make_gateway(tmp_path / "stopped")
    assert after.recovered == before.summary.journaled
    for gateway in (straight, after):
        gateway.process(second.frames, second.payload)
    assert (straight.summary.verdicts - before.summary.verdicts).tolist() == after.summary.verdicts.tolist()
    assert after.summary.verdicts[Verdict.DUPLICATE_CLIENT_ORDER_ID] > 0
    result = after.reconcile(MatchingNode)
    assert result.closes, result.differences
    assert result.node_hashes == straight.reconcile(MatchingNode).node_hashes


def test_a_gateway_goes_on_from_the_newest_snapshot(tmp_path: Path) -> None:
    first, second = traffic(0, 3000), traffic(3, 500, first=2500)
    straight = make_gateway(tmp_path / "straight")
    stopped = make_gateway(tmp_path / "stopped", segment_bytes=128 << 10)
    for gateway in (straight, stopped):
        gateway.process(first.frames, first.payload)
    stopped._journal.close()
    risk = make_risk()
    risk.route(Router({0: 1, 1: 1, 2: 2}))
    state = FollowedState(risk, [MatchingNode(number) for number in range(3)], tmp_path / "stopped")
    follower = Follower(
        tmp_path / "stopped", load=state.load, apply=state.apply, parts=state.parts, snapshot_segments=1
    )
    while follower.step():
        pass
    assert list((tmp_path / "stopped").glob("*.snapshot"))
    # What lies before the snapshot is not read any more.
    with segment_path(tmp_path / "stopped", 1).open("r+b") as file:
        file.seek(1000)
        file.write(bytes(1000))
    after = make_gateway(tmp_path / "stopped", segment_bytes=128 << 10)
    assert after.recovered == stopped.summary.journaled
    for gateway in (straight, after):
        gateway.process(second.frames, second.payload)
    result = after.reconcile(MatchingNode)
    assert result.closes, result.differences
    assert result.accepted == straight.summary.accepted
    assert result.node_hashes == straight.reconcile(MatchingNode).node_hashes


class ForgetfulNode(MatchingNode):
    """A node that applies an order and then loses its state."""

    def apply(self, batch: Batch) -> np.ndarray:
        reports = super().apply(batch).copy()
        self.state.levels["quantity"] += 1
        self.state.orders["leaves"] += 1
        return reports


def test_reconciliation_finds_a_node_that_differs(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, nodes=[MatchingNode(0), ForgetfulNode(1), MatchingNode(2)])
    orders = traffic(0, 200)
    gateway.process(orders.frames, orders.payload)
    result = gateway.reconcile(MatchingNode)
    assert not result.closes
    assert any("node 1: replaying" in difference for difference in result.differences)
    assert not any("node 0" in difference for difference in result.differences)


class DeafNode(MatchingNode):
    """A node that applies nothing."""

    def apply(self, batch: Batch) -> np.ndarray:
        return self._output.reports[:0]


def test_an_order_that_no_node_applies_stops_the_gateway(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path, nodes=[DeafNode(0), DeafNode(1), DeafNode(2)])
    orders = Slice().order("a", symbol="SYM1")
    with pytest.raises(GatewayError, match="1 orders accepted, 0 applied"):
        gateway.process(orders.frames, orders.payload)


def test_nothing_is_applied_that_is_not_durable(tmp_path: Path) -> None:
    nodes = [MatchingNode(number) for number in range(3)]
    gateway = make_gateway(tmp_path, nodes=nodes)
    gateway._journal.close()
    orders = Slice().order("a", symbol="SYM1")
    with pytest.raises(JournalError):
        gateway.process(orders.frames, orders.payload)
    assert [node.applied for node in nodes] == [0, 0, 0]


def test_a_gateway_that_cannot_work_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="node 1"):
        make_gateway(tmp_path / "a", nodes=[MatchingNode(0)])
    with pytest.raises(GatewayError, match="do not fit"):
        make_gateway(tmp_path / "b", batch_frames=1 << 16)
    gateway = make_gateway(tmp_path / "c")
    orders = traffic(0, 100)
    gateway.process(orders.frames, orders.payload)
    gateway._journal.close()
    risk = Risk([Instrument(name, 1, 1) for name in NAMES], client_order_ids=5)
    with Journal(tmp_path / "c") as journal, pytest.raises(ValueError, match="no room"):
        Gateway(risk, Router({0: 1}), journal, [MatchingNode(0)])
    with pytest.raises(TypeError, match="FRAME_DTYPE"):
        make_gateway(tmp_path / "d").process(np.zeros(1, np.uint64), np.zeros(1, np.uint8))


def test_no_reference_to_the_ring_is_kept_and_a_read_only_ring_will_do(tmp_path: Path) -> None:
    orders = traffic(0, 300)
    frames_bytes, payload_bytes = orders.frames.tobytes(), orders.payload.tobytes()
    (tmp_path / "ring").write_bytes(frames_bytes + payload_bytes)
    gateway = make_gateway(tmp_path / "journal")
    with (tmp_path / "ring").open("rb") as file:
        ring = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    frames = np.frombuffer(ring, FRAME_DTYPE, 300)
    payload = np.frombuffer(ring, np.uint8, offset=len(frames_bytes))
    assert gateway.process(frames, payload).accepted > 0
    del frames, payload
    gc.collect()
    ring.close()  # BufferError if anything still pointed into it


def test_the_summary_is_plain_numbers(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    orders = traffic(2, 400)
    named = json.loads(json.dumps(gateway.process(orders.frames, orders.payload).named()))
    assert named["by_cause"] == {"CHECKSUM": named["malformed"]}
    assert sum(named["by_reason"].values()) == named["rejected"]
    assert sum(node["orders"] for node in named["by_node"].values()) == named["applied"]
    assert named["by_report"][ReportKind.NEW.name] <= named["accepted"]


def test_damage_to_the_journal_is_not_reconciled_away(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    orders = traffic(0, 300)
    gateway.process(orders.frames, orders.payload)
    with segment_path(tmp_path, 1).open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 4]))
    with pytest.raises(JournalError, match=r"00000001.journal: byte"):
        gateway.reconcile(MatchingNode)
