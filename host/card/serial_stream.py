"""The one stream of bytes that a serial board is sent packets by."""

from collections.abc import Callable

from hdl.serial_frame import CHUNK_BYTES
from host.capture.packets import Packets
from host.card.serial_link import SerialLink

HANGS_S = 10.0
HANGS_WINDOWS = 10
"""A board that answers for so long, and for as long as so many windows take, but does nothing has a fault."""


def patience_s(link: SerialLink) -> float:
    """How long a board may do nothing, in seconds."""
    return HANGS_S + HANGS_WINDOWS * link.window_s


class SerialStream:
    """Sends packets as ``hand_over`` makes bytes of each, given all packets and a number; of some there may be none."""

    def __init__(self, link: SerialLink, hand_over: Callable[[Packets, int], bytes]) -> None:
        self._link = link
        self._hand_over = hand_over
        self._waiting = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether all that was handed over is sent."""
        return not self._waiting

    def push(self, packets: Packets, following: int) -> int:
        """Send packets from number ``following`` on as far as the board has room; returns the next number."""
        while self._link.has_room:
            while len(self._waiting) < CHUNK_BYTES and following < len(packets):
                self._waiting += self._hand_over(packets, following)
                following += 1
            chunk = bytes(self._waiting[:CHUNK_BYTES])
            if not chunk or len(chunk) > self._link.credit:
                break
            self._link.send_packets(chunk)
            del self._waiting[: len(chunk)]
        return following
