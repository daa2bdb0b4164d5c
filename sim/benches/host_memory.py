"""The host's side of the rings: takes the card's memory writes, reads with the host's own reader, gives credit."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from hdl.ring_layout import LINE_BYTES
from hdl.ring_writer import MemoryWrite
from host.card.ring import Ring
from sim.benches.streams import Clocked, Sink


class HostMemory:
    """A ring in memory that stream ``port`` writes to.

    Every so often a reader looks: it takes some of the frames that are there, with their bytes, and publishes its
    credit, which ``publish(name, value)`` passes on to the card.

    Attributes:
        ring: the ring, seen by the host's reader.
        parsed: frames that were read, each with its raw message.
        eagerness: chance of a look in each cycle; 0 stops the reader.
    """

    def __init__(
        self,
        bench: Clocked,
        port: str,
        publish: Callable[[str, int], None],
        *,
        ready: float,
        frame_slots: int,
        payload_bytes: int,
    ) -> None:
        self.ring = Ring.create(None, frame_slots, payload_bytes)
        self.sink: Sink = bench.sink(port, MemoryWrite, ready)
        self.parsed: list[tuple[np.void, bytes]] = []
        self.eagerness = 0.05
        self._publish = publish
        self._written = 0
        header = self.ring.header[0]
        self._frames_at, self._payload_at = int(header["frames_offset"]), int(header["payload_offset"])
        bench.watch(self._edge)

    def settings(self) -> dict[str, int]:
        """The registers of the rings, before anything was read."""
        return {
            "frames_base": self._frames_at,
            "frame_slots_log2": len(self.ring.frames).bit_length() - 1,
            "payload_base": self._payload_at,
            "payload_bytes_log2": len(self.ring.payload).bit_length() - 1,
        }

    def _edge(self, _cycle: int) -> None:
        for transfer in self.sink.received[self._written :]:
            self._write(**transfer.value)
        self._written = len(self.sink.received)
        if random.random() < self.eagerness:
            self._look()

    def _write(self, address: int, data: bytes) -> None:
        assert address % LINE_BYTES == 0
        if address >= self._payload_at:
            at = address - self._payload_at
            assert at + LINE_BYTES <= len(self.ring.payload), "a write behind the payload ring"
            self.ring.payload[at : at + LINE_BYTES] = np.frombuffer(data, np.uint8)
            return
        at = address - self._frames_at
        assert 0 <= at < len(self.ring.frame_bytes), "a write outside the frame ring"
        self.ring.frame_bytes[at : at + LINE_BYTES] = np.frombuffer(data, np.uint8)

    def _look(self) -> None:
        frames: Any = self.ring.poll(random.randint(1, len(self.ring.frames)))
        for frame in frames:
            message = bytes(self.ring.message(frame))
            end = int(frame["payload_offset"]) + len(message)
            assert int(frame["payload_offset"]) % LINE_BYTES == 0
            assert not self.ring.payload[end : -(-end // LINE_BYTES) * LINE_BYTES].any(), "padding that is not zero"
            self.parsed.append((frame.copy(), message))
        # Raises Lapped where the card wrote without credit.
        self.ring.release(len(frames))
        for name in ("frames_read", "payload_read"):
            self._publish(name, int(self.ring.header[0][name]))
