"""How a figure is measured: the product and its peer take turns, and the best turn of each counts.

Shared machines stop threads now and then, which only ever slows a turn down; so the best of several turns is
nearest to what the code does, and the ratio of two that took turns holds where absolute figures do not.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

TURNS = 5
TURN_SECONDS = 0.4
"""A turn repeats its work for at least so long."""


@dataclass(frozen=True)
class Row:
    """A figure beside its peer's, in the same unit."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float
    note: str = ""
    """What the figure is to be read with."""

    @property
    def ratio(self) -> float:
        """The figure over the peer's."""
        return self.value / self.peer_value


Work = Callable[[], tuple[int, float]]
"""Does some work; returns how many units it was and the seconds that they took."""


def timed(work: Callable[[], int]) -> Work:
    """A Work whose whole run is what is measured."""

    def run() -> tuple[int, float]:
        begin = time.perf_counter()
        units = work()
        return units, time.perf_counter() - begin

    return run


def timed_core(work: Callable[[], int]) -> Work:
    """A Work measured in the processor's time of all threads: for figures a second and core, which do not depend on what else runs."""

    def run() -> tuple[int, float]:
        begin = time.process_time()
        units = work()
        return units, time.process_time() - begin

    return run


def compare(name: str, unit: str, work: Work, peer: str, peer_work: Work, turn_seconds: float = TURN_SECONDS) -> Row:
    """Measure ``work`` and ``peer_work`` in turns of at least ``turn_seconds``, after one run of each to warm up."""
    work()
    peer_work()
    best = peer_best = 0.0
    for _ in range(TURNS):
        best = max(best, _turn(work, turn_seconds))
        peer_best = max(peer_best, _turn(peer_work, turn_seconds))
    return Row(name, best, unit, peer, peer_best)


def _turn(work: Work, turn_seconds: float) -> float:
    units, seconds = 0, 0.0
    while seconds < turn_seconds:
        more, took = work()
        units += more
        seconds += took
    return units / seconds
