"""Frames and messages as a card would put them into the rings, made by hand."""

import numpy as np

from hdl.frame import FRAME_DTYPE, Flag, Kind, OrderType, Side, TimeInForce, crc64
from host.card.ring import Ring

ONE = 10**8
"""A quantity of one."""


class Slice:
    """A slice of the ring in the making: frames and the payload ring that they point into."""

    def __init__(self, flow: int = 0) -> None:
        self.flow = flow
        self._frames: list[np.ndarray] = []
        self._payload = bytearray()

    def order(
        self,
        client_order_id: str = "",
        *,
        kind: Kind = Kind.NEW_ORDER,
        symbol: str = "ABC",
        price: int | None = 100_000_000_000,
        quantity: int = ONE,
        side: int = Side.BUY,
        order_type: int = OrderType.LIMIT,
        time_in_force: int = TimeInForce.DAY,
        account: str = "",
        original: str = "",
        flags: int = 0,
        **fields: int,
    ) -> "Slice":
        """Adds an order; a price of 100 and a quantity of 1 unless told otherwise."""
        message = b"8=FIX.4.4\x019=5\x0135=D\x01"
        frame = np.zeros(1, FRAME_DTYPE)
        for name, tag, text in (
            ("client_order_id", 11, client_order_id),
            ("original_order_id", 41, original),
            ("symbol", 55, symbol),
            ("account", 1, account),
        ):
            if text:
                frame[name] = len(message) + len(f"{tag}=")
                message += f"{tag}={text}\x01".encode()
        message += b"10=000\x01"
        frame["instrument"] = crc64(symbol.encode())
        frame["price"], frame["quantity"] = price or 0, quantity
        frame["side"], frame["order_type"], frame["time_in_force"] = side, order_type, time_in_force
        frame["flags"] = flags | (Flag.PRICE_ABSENT if price is None else 0)
        return self.add(frame, message, kind, **fields)

    def trade(self, security_id: int, price: int, **fields: int) -> "Slice":
        """Adds a trade of the market data."""
        frame = np.zeros(1, FRAME_DTYPE)
        frame["instrument"], frame["price"], frame["update_action"] = security_id, price, ord("0")
        return self.add(frame, b"sbe", Kind.TRADE, **fields)

    def other(self, kind: Kind, **fields: int) -> "Slice":
        """Adds a frame that is no order."""
        return self.add(np.zeros(1, FRAME_DTYPE), b"8=FIX.4.4\x01", kind, **fields)

    def add(self, frame: np.ndarray, message: bytes, kind: Kind, **fields: int) -> "Slice":
        frame["kind"], frame["flow"], frame["generation"] = kind, self.flow, 1
        frame["payload_offset"], frame["payload_length"] = len(self._payload), len(message)
        for name, value in fields.items():
            frame[name] = value
        self._payload += message + bytes(-len(message) % 64)
        self._frames.append(frame)
        return self

    @property
    def frames(self) -> np.ndarray:
        frames = np.zeros(len(self._frames), FRAME_DTYPE)
        for index, frame in enumerate(self._frames):
            frames[index] = frame[0]
        return frames

    @property
    def payload(self) -> np.ndarray:
        return np.frombuffer(bytes(self._payload), np.uint8).copy()


class HandCard:
    """A card that puts slices into a ring that is never full and never wraps."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self._frames = self._bytes = 0

    def put(self, made: Slice) -> None:
        self.put_frames(made.frames, made.payload)

    def put_frames(self, frames: np.ndarray, payload: np.ndarray) -> None:
        frames["payload_offset"] += self._bytes
        frames["generation"] = 1
        self.ring.payload[self._bytes : self._bytes + len(payload)] = payload
        self.ring.frames[self._frames : self._frames + len(frames)] = frames
        self._frames += len(frames)
        self._bytes += len(payload)
