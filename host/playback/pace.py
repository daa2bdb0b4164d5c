"""Packets when they are due: by the capture's clock, or so many times as fast."""

import re
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from host.capture.packets import Packets
from host.playback.selection import SelectionError

WAIT = 0.1
"""Seconds that nothing is yielded for at most, so that whoever plays can be stopped and can show how far it is."""


def parse_speed(text: str) -> float | None:
    """``1x``, ``10x``, ``0.5x``; None for ``max``. Raises SelectionError."""
    if text == "max":
        return None
    if (match := re.fullmatch(r"(\d+(?:\.\d+)?)x", text)) and float(match[1]) > 0:
        return float(match[1])
    raise SelectionError(f"'{text}' is no speed; give 1x (the capture's clock), 10x, 0.5x or max")


def paced(
    batches: Iterable[Packets],
    speed: float | None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Packets]:
    """The packets of all batches, each not before it is due: the first at once, the others by their times after it. While none is
    due there are batches of none. A packet whose time steps back is due with the one before it."""
    if speed is None:
        yield from batches
        return
    begin, first, latest = 0.0, None, np.uint64(0)
    for packets in batches:
        if not len(packets):
            continue
        times = np.maximum(np.maximum.accumulate(packets.timestamp), latest)
        latest = times[-1]
        if first is None:
            first, begin = times[0], clock()
        due = begin + (times - first).astype(np.float64) / 1e9 / speed
        at = 0
        while at < len(packets):
            now = clock()
            end = int(np.searchsorted(due, now, side="right"))
            if end > at:
                yield packets.slice(at, end)
                at = end
            else:
                sleep(min(float(due[at]) - now, WAIT))
                if due[at] - now > WAIT:
                    yield packets.slice(at, at)
