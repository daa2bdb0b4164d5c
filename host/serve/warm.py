"""Has Numba's cache filled, and all of the gateway's loops loaded from it, before processes are forked."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.frame import FRAME_DTYPE, Kind, OrderType, Side, crc64
from host.card.ring import Ring
from host.cluster.matching_node import MatchingNode
from host.gateway.batch_ring import BatchRing
from host.gateway.risk import Account, Instrument, Position, Risk, Session
from host.gateway.router import Router
from host.gateway.session_ring import create_session_rings
from host.gateway.stages import JournalStage, NodeStage, RiskStage, recover_risk, ring_base
from host.generate.faults import encode
from host.generate.load import LAP_DIGITS, Lap, Load
from host.journal import Journal
from host.journal.index import build_index

if TYPE_CHECKING:
    from host.market_data import Books

SEGMENT_BYTES = 1 << 20
INSTRUMENT = Instrument("ACORN", 42 * 10**9, 1000 * 10**8, collar_ppm=100_000)
ACCOUNT = Account("HOUSE")
ROOM = 1 << 10
"""For whatever is counted: little memory is soon made."""


def warm_stages(*, market_data: bool = False) -> None:
    """Sends a few orders through all stages and takes them back from the journal: a minute or two the first time, then
    half a second. ``market_data``: with books beside them."""
    lap = _small_lap()
    with tempfile.TemporaryDirectory(prefix="tickgate-warm-") as folder:
        directory = Path(folder)
        with Journal(directory, segment_bytes=SEGMENT_BYTES) as journal:
            ring = Ring.create(None, 1 << 10, 1 << 18)
            batches = BatchRing.create(None, base=ring_base(journal), slots=2, slot_frames=64)
            sessions = create_session_rings(None, slots=1 << 10)
            feedback = create_session_rings(None, rings=1, slots=1 << 10)
            risk = RiskStage(
                _risk(), ring, batches, feedback, nodes={0: ROOM, 1: ROOM}, books=_books() if market_data else None
            )
            stages = (
                risk,
                JournalStage(journal, batches, grouped=False),
                NodeStage(_nodes(), batches, sessions, feedback),
            )
            load = Load(lap, ring)
            load.pace(None, 0)

            def step() -> bool:
                moved = [stage.step(1000) for stage in stages]
                return any(moved)

            # An order rests, its book goes to another node, and all that is left happens there.
            for orders, record in (
                (1, {"type": "move", "from": 0, "to": 1, "instruments": [INSTRUMENT.code]}),
                (len(lap), {"type": "new_day"}),
            ):
                while load.number < orders or step():
                    load.run(orders, 1_000_000)
                risk.control(record)
                while step():
                    pass
            while len(frames := ring.poll()):
                ring.release(len(frames))
            for number in range(len(sessions)):
                sessions[number].release(len(sessions[number].poll()))
        build_index(directory, 1)
        again = _risk()
        recover_risk(again, _nodes(), directory, batches)
        again.remember_client_order_ids(again.take_client_order_ids())


def _risk() -> Risk:
    risk = Risk(
        [INSTRUMENT], [ACCOUNT], sessions=[Session(0)], positions=[Position(ACCOUNT.name, INSTRUMENT.symbol)],
        client_order_ids=ROOM, account_room=ROOM, position_room=ROOM, order_room=ROOM,
    )  # fmt: skip
    risk.route(Router({0: 1}))
    return risk


def _books() -> "Books":
    from host.market_data import Books

    return Books([Flow(Protocol.TCP, Endpoint(0, 1), Parser.FIX)], interval=0, trades=False)


def _nodes() -> list[MatchingNode]:
    return [MatchingNode(number, orders=ROOM) for number in range(2)]


def _small_lap() -> Lap:
    """A buy, a sell that trades with it, a replace, a cancel, and an order that risk refuses."""
    symbol, price = INSTRUMENT.symbol, INSTRUMENT.reference_price
    frames, payload = np.zeros(5, FRAME_DTYPE), b""
    for row, (kind, side, quantity, name, original) in enumerate(
        (
            (Kind.NEW_ORDER, Side.BUY, 3, "A", ""),
            (Kind.NEW_ORDER, Side.SELL, 1, "B", ""),
            (Kind.REPLACE, Side.BUY, 4, "C", "A"),
            (Kind.CANCEL, Side.BUY, 4, "D", "C"),
            (Kind.NEW_ORDER, Side.BUY, 0, "E", ""),
        )
    ):
        digits = "0" * LAP_DIGITS
        fields = [b"35=D", f"11={digits}{name}".encode(), f"1={ACCOUNT.name}".encode(), f"55={symbol}".encode()]
        fields += [f"41={digits}{original}".encode()] if original else []
        message = encode(fields)
        frame = frames[row]
        frame["kind"], frame["side"], frame["quantity"] = kind, side, quantity * 10**8
        frame["price"], frame["order_type"], frame["instrument"] = price, OrderType.LIMIT, crc64(symbol.encode())
        frame["payload_offset"], frame["payload_length"] = len(payload), len(message)
        for field, tag in (("client_order_id", b"\x0111="), ("account", b"\x011="), ("original_order_id", b"\x0141=")):
            place = message.find(tag)
            frame[field] = place + len(tag) if place >= 0 else 0
        payload += message + bytes(-len(message) % 64)
    return Lap(frames, np.frombuffer(payload + bytes(64), np.uint8).copy())
