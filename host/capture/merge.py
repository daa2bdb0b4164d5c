"""Merges captures by time, batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from host.capture.packets import Packets


class Timed(Protocol):
    """What can be merged: ``first_time`` in ns, None where there is no packet, and batches."""

    @property
    def first_time(self) -> int | None: ...

    def batches(self) -> Iterator[Packets]: ...


@dataclass
class _Open:
    """A capture that is being read: its place among all, its batches, the packets at hand and the time that each counts as.

    Where a capture's own times step back, a packet counts as of the latest time before it: no capture is reordered.
    """

    place: int
    batches: Iterator[Packets]
    packets: Packets
    keys: np.ndarray

    def next(self) -> bool:
        """Go on to the next batch; False where there is none."""
        latest = self.keys[-1:]
        for packets in self.batches:
            if len(packets):
                self.packets = packets
                self.keys = np.maximum.accumulate(np.concatenate([latest, packets.timestamp]))[len(latest) :]
                return True
        return False

    def take(self, bound: np.uint64, equal: bool) -> tuple[Packets, np.ndarray]:
        """Split off the packets up to ``bound``, and with ``equal`` those of that time too."""
        count = int(np.searchsorted(self.keys, bound, side="right" if equal else "left"))
        taken = self.packets.slice(0, count), self.keys[:count]
        self.packets, self.keys = self.packets.slice(count), self.keys[count:]
        return taken


def merge(captures: Sequence[Timed]) -> Iterator[Packets]:
    """The packets of all captures by time; of equal times in the order of the captures.

    A capture is opened when its first packet is due, so that the parts of a rotated one are open one after another.
    """
    waiting = sorted(
        ((capture.first_time, place) for place, capture in enumerate(captures) if capture.first_time is not None),
        reverse=True,
    )
    reading: list[_Open] = []
    while reading or waiting:
        while waiting and (not reading or waiting[-1][0] <= min(int(each.keys[-1]) for each in reading)):
            _, place = waiting.pop()
            opened = _Open(place, captures[place].batches(), Packets.of([]), np.empty(0, np.uint64))
            if opened.next():
                reading.append(opened)
                reading.sort(key=lambda each: each.place)
        if not reading:
            continue
        first = min(reading, key=lambda each: int(each.keys[-1]))
        if len(reading) == 1:
            yield first.packets
        else:
            bound = first.keys[-1]
            parts = [each.take(bound, each.place <= first.place) for each in reading]
            order = np.argsort(np.concatenate([keys for _, keys in parts]), kind="stable")
            yield Packets.joined([packets for packets, _ in parts]).take(order)
        if not first.next():
            reading.remove(first)
