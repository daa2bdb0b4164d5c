"""Sends captures out again on a network interface, packet by packet as they were captured."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from host.capture.packets import Packets
from host.capture.reader import Captures
from host.card.packet_ring import Interface
from host.playback.replay import Progress
from host.playback.selection import SelectionError

SCHEME = "eth:"


@dataclass
class Sent:
    """What was sent, and in how many seconds; ``interrupted``: it was stopped before its end."""

    packets: int = 0
    bytes: int = 0
    seconds: float = 0.0
    interrupted: bool = False


def interface_of(url: str) -> Interface:
    """The interface that ``eth:NAME`` is. Raises SelectionError for anything else, LinkError where it cannot be used."""
    if not url.startswith(SCHEME) or not url[len(SCHEME) :]:
        raise SelectionError(
            f"'{url}' is nothing to send to; give {SCHEME}INTERFACE, or play into a card with --card {url}"
        )
    return Interface(url[len(SCHEME) :])


class Sending:
    """Sends packets through an interface. Set ``stop``, and it ends after the present batch."""

    def __init__(self, captures: Captures, interface: Interface) -> None:
        self._captures = captures
        self._interface = interface
        self.stop = False

    def run(self, batches: Iterable[Packets], show: Callable[[Progress], None] = lambda progress: None) -> Sent:
        """Send all packets. Raises LinkError where the interface is gone, or a packet too long for it."""
        sent, captures = Sent(), self._captures
        begin = time.perf_counter()
        for packets in batches:
            if self.stop:
                sent.interrupted = True
                break
            content = packets.data.data
            for start, length in zip(packets.offset.tolist(), packets.length.tolist(), strict=True):
                self._interface.send(content[start : start + length])
            sent.packets += len(packets)
            sent.bytes += int(packets.length.sum())
            show(Progress(sent.packets, sent.bytes, sent.packets, captures.done_bytes, captures.total_bytes))
        sent.seconds = time.perf_counter() - begin
        return sent
