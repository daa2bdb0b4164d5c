"""Market data beside orders: the books move on in the order of the ring, and risk compares each order with the best prices that
the frames before it leave.

So what is decided does not depend on how the ring is cut. Between two runs of market data every order finds the same books:
the loop walks a run, takes the best prices of the instruments that are ordered behind it, and has these orders routed.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from hdl.frame import FRAME_BYTES, Kind
from host.clock import monotonic_ns
from host.gateway.batch_ring import BatchArrays
from host.gateway.book_tops import take_top
from host.gateway.risk import Risk
from host.gateway.risk_state import FAT_FINGER, find_code
from host.gateway.route_loop import ASKED, SLICE, UNTIL, CardArrays, Watch, route_loop
from host.market_data.layout import Need
from host.market_data.walk import walk
from host.ring.generation import count_available

if TYPE_CHECKING:
    from host.market_data import Books

NEEDED, FOUND = 4, 5
"""Why the loop came back, beside what :mod:`host.gateway.route_loop` says: the walk has a :class:`Need`, or the books have got
instruments, which risk is to find among its own."""

FOLLOW_DTYPE = np.dtype([("walked", "i8"), ("instruments", "i8"), ("need", "i8"), ("looked", "?")])
"""Where the books are: the first frame that they have not taken, how many instruments risk knows them to have, what the walk
needs, and whether Python has looked at that frame."""

_FIRST_ORDER_KIND, _LAST_ORDER_KIND = int(Kind.NEW_ORDER), int(Kind.REPLACE)
_NOTHING = int(Need.NOTHING)


@njit(cache=True, nogil=True, _nrt=False)
def _count_run(frames, begin, of_orders):
    """How many frames from ``begin`` on are order frames, or are none."""
    end = begin
    while end < frames.shape[0] and (_FIRST_ORDER_KIND <= frames[end].kind <= _LAST_ORDER_KIND) == of_orders:
        end += 1
    return end - begin


@njit(cache=True, nogil=True, _nrt=False)
def _walk_run(books, places, depths, follow, card, risk, place):
    """Lets the books take the market data that is there, and the orders behind it be routed; what that wants first, else 0."""
    slots = card.frames.shape[0]
    count = count_available(card.frame_bytes, FRAME_BYTES, follow.walked, slots, SLICE)
    slot = follow.walked % slots
    frames = card.frames[slot : slot + count]
    market = _count_run(frames, 0, False)
    if market > 0:
        taken, need = walk(books, places, depths, frames[:market], card.payload, 0, follow.looked)
        follow.walked += taken
        follow.looked = False
        if need != _NOTHING:
            follow.need = need
            return NEEDED
        if books.cursor[0].instruments != follow.instruments:
            return FOUND
    orders = _count_run(frames, market, True)
    for index in range(market, market + orders):
        row = find_code(risk.symbols, frames[index].instrument)
        if row >= 0 and risk.instruments[row].checks & FAT_FINGER:
            take_top(risk, books, row)
    follow.walked += orders
    place.until = follow.walked
    return 0


@njit(cache=True, nogil=True, _nrt=False)
def follow_loop(books, places, depths, follows, card, risk, batches, at, decisions, watch, idle_ns, most_ns):
    """As ``route_loop``, with books that move on. Returns NEEDED and FOUND at once."""
    place, follow = at[0], follows[0]
    began = monotonic_ns()
    while True:
        if place.position == place.until:
            wanted = _walk_run(books, places, depths, follow, card, risk, place)
            if wanted != 0:
                return wanted
        answer = route_loop(card, risk, batches, at, decisions, watch, idle_ns, most_ns)
        if answer != UNTIL:
            return answer
        if monotonic_ns() - began >= most_ns:
            return ASKED


class RouteArguments(NamedTuple):
    """What ``route_loop`` works on beside risk."""

    card: CardArrays
    batches: BatchArrays
    place: np.ndarray
    decisions: np.ndarray
    watch: Watch


class BookFollower:
    """Books that begin with the next frame to be looked at, on behalf of ``risk``."""

    def __init__(self, books: "Books", risk: Risk, route: RouteArguments) -> None:
        self.books = books
        self._risk = risk
        self._route = route
        self._follow = np.zeros(1, FOLLOW_DTYPE)
        self._follow["walked"] = route.place["until"] = route.place["position"]

    def run(self, idle_ns: int, most_ns: int) -> int:
        """Routes what comes; returns why it came back, as ``route_loop`` does."""
        card, batches, place, decisions, watch = self._route
        while True:
            self._follow["instruments"] = self._risk.find_books(self.books)
            answer: int = follow_loop(
                self.books.state, *self.books.rules, self._follow, card, self._risk.state, batches, place, decisions,
                watch, idle_ns, most_ns,
            )  # fmt: skip
            if answer == NEEDED:
                need = Need(int(self._follow["need"][0]))
                frame = card.frames[int(self._follow["walked"][0]) % len(card.frames)]
                self.books.attend(need, frame, card.payload)
                self._follow["looked"] = need is Need.LOOK
            elif answer != FOUND:
                return answer
