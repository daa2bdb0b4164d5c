"""Order messages by hand, as frames and text in a batch."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from hdl.frame import FRAME_DTYPE, Kind, OrderType, Side, TimeInForce, crc64
from host.cluster import MatchingNode, Reason, ReportKind
from host.cluster.book import find_book
from host.cluster.book_rows import book_rows
from host.cluster.invariants import check_books
from host.journal import Batch
from host.journal.batch import ACCEPTED, DECISION_DTYPE, control_batch

ABSENT, DAY, GTC, IOC, FOK = (
    TimeInForce.ABSENT,
    TimeInForce.DAY,
    TimeInForce.GOOD_TILL_CANCEL,
    TimeInForce.IMMEDIATE_OR_CANCEL,
    TimeInForce.FILL_OR_KILL,
)
BUY, SELL = Side.BUY, Side.SELL
MARKET, LIMIT, STOP, STOP_LIMIT = OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT


class Message(NamedTuple):
    """An order message. ``stop`` is StopPx (1e-9), ``display`` MaxFloor (1e-8), ``more`` further fields as text."""

    kind: Kind
    order_id: str
    original: str = ""
    side: int = BUY
    price: int = 0
    quantity: int = 0
    order_type: int = LIMIT
    time_in_force: int = DAY
    stop: int | None = None
    display: int | None = None
    post_only: bool = False
    symbol: str = "ABC"
    flow: int = 0
    more: bytes = b""
    account: int = 0
    self_trade: int = 0


def new(order_id: str, side: int, quantity: int, price: int = 0, **more: Any) -> Message:
    return Message(Kind.NEW_ORDER, order_id, side=side, quantity=quantity, price=price, **more)


def market(order_id: str, side: int, quantity: int, **more: Any) -> Message:
    return new(order_id, side, quantity, order_type=MARKET, **more)


def stop(order_id: str, side: int, quantity: int, stop_price: int, **more: Any) -> Message:
    return new(order_id, side, quantity, order_type=STOP, stop=stop_price, **more)


def stop_limit(order_id: str, side: int, quantity: int, stop_price: int, price: int, **more: Any) -> Message:
    return new(order_id, side, quantity, price, order_type=STOP_LIMIT, stop=stop_price, **more)


def cancel(order_id: str, original: str, **more: Any) -> Message:
    return Message(Kind.CANCEL, order_id, original, **more)


def replace(order_id: str, original: str, side: int, quantity: int, price: int = 0, **more: Any) -> Message:
    return Message(Kind.REPLACE, order_id, original, side=side, quantity=quantity, price=price, **more)


def text(message: Message) -> bytes:
    """The message as FIX, as far as a node reads it."""
    fields = b"8=FIX.4.4\x0111=%s\x01" % message.order_id.encode()
    if message.original:
        fields += b"41=%s\x01" % message.original.encode()
    if message.stop is not None:
        fields += f"99={Decimal(message.stop).scaleb(-9):f}\x01".encode()
    if message.display is not None:
        fields += f"111={Decimal(message.display).scaleb(-8):f}\x01".encode()
    if message.post_only:
        fields += b"18=6\x01"
    return fields + message.more + b"10=000\x01"


def batch(messages: Sequence[Message], first_sequence: int = 1, node: int = 0) -> Batch:
    """The messages, all of them accepted and routed to one node."""
    frames = np.zeros(len(messages), FRAME_DTYPE)
    decisions = np.zeros(len(messages), DECISION_DTYPE)
    decisions["verdict"], decisions["node"] = ACCEPTED, node
    payload = b""
    for frame, decision, message in zip(frames, decisions, messages, strict=True):
        raw = text(message)
        decision["account"], decision["self_trade"] = message.account, message.self_trade
        frame["client_order_id"] = raw.index(b"\x0111=") + len("|11=")
        if message.original:
            frame["original_order_id"] = raw.index(b"\x0141=") + len("|41=")
        for name in ("kind", "side", "price", "quantity", "order_type", "time_in_force", "flow"):
            frame[name] = getattr(message, name)
        frame["instrument"] = crc64(message.symbol.encode())
        frame["payload_offset"], frame["payload_length"] = len(payload), len(raw)
        payload += raw
    return Batch(0, first_sequence, frames, decisions, np.frombuffer(payload, np.uint8).copy())


def control(number: int, record: Mapping[str, Any], first_sequence: int) -> Batch:
    """A control batch before this sequence."""
    return control_batch(record, number, first_sequence)


def plain(reports: np.ndarray) -> list[tuple]:
    """(kind, reason, order's sequence, price, quantity, leaves, cumulative) of every report."""
    names = ("order_sequence", "price", "quantity", "leaves", "cumulative")
    return [
        (ReportKind(report["kind"]).name, Reason(report["reason"]).name, *(int(report[name]) for name in names))
        for report in reports
    ]


class Desk:
    """A node that is told one message after the other, its books checked after each."""

    def __init__(self, **room: int) -> None:
        self.node = MatchingNode(0, **({"orders": 256, "instruments": 8} | room))
        self.sequence = 0

    def tell(self, *messages: Message) -> list[tuple]:
        """The reports (:func:`plain`) of these messages."""
        told = []
        for message in messages:
            self.sequence += 1
            told += plain(self.node.apply(batch([message], self.sequence)))
            check_books(self.node.state)
        return told

    def short(self, *messages: Message) -> list[tuple]:
        """(kind, order's sequence, quantity, price) of every report but NEW."""
        return [(told[0], told[2], told[4], told[3]) for told in self.tell(*messages) if told[0] != "NEW"]

    def reasons(self, *messages: Message) -> list[str]:
        """The reasons of the reports that have one."""
        return [told[1] for told in self.tell(*messages) if told[1] != "NONE"]

    def queue(self, symbol: str = "ABC") -> list[tuple]:
        """(ladder, level's price, order's sequence, leaves, shown) of every open order, in priority."""
        return queue(self.node, symbol)


def queue(node: MatchingNode, symbol: str = "ABC") -> list[tuple]:
    """(ladder, level's price, order's sequence, leaves, shown) of every open order of an instrument, in priority."""
    book = find_book(node.state, np.uint64(crc64(symbol.encode())))
    rows = book_rows(node.state, book)[1:] if book >= 0 else []
    return [tuple(int(row[name]) for name in ("ladder", "level_price", "sequence", "leaves", "shown")) for row in rows]
