"""Books from frames beside the same books in plain Python: lists of levels in dictionaries."""

import time

import numpy as np

from hdl.frame import Kind
from host.bench.market_data import MarketData
from host.bench.measure import Row, compare
from host.card import open_card
from host.market_data import Books, Feed, View

PLAIN_FRAMES = 20_000
SIDES = {ord("0"): 0, ord("1"): 1, ord("E"): 2, ord("F"): 3}
NEW, DELETE = ord("0"), ord("2")

PlainBooks = dict[tuple[int, int], list[tuple[int, int, int]]]


def frames_of(data: MarketData) -> tuple[np.ndarray, np.ndarray]:
    """The frames of one feed (copies on a second one are left out), and the payload ring."""
    with open_card("soft:", data.flows, data.venue, frame_slots=1 << 18, payload_bytes=1 << 26) as card:
        card.feed(data.packets)
        frames = card.ring.read()
        return frames[frames["flow"] == frames["flow"][0]].copy(), card.ring.payload.copy()


def updates_row(data: MarketData) -> Row:
    """Book updates a second and core, from frames to books with marks, recovery and invariants; the peer keeps levels alone."""
    frames, payload = frames_of(data)
    flow = int(frames["flow"][0])
    updates = int(np.count_nonzero(frames["kind"] == Kind.BOOK_UPDATE))
    depths = data.venue.profile.books.outright_depth, data.venue.profile.books.implied_depth
    made: list[Books] = []

    def compiled() -> tuple[int, float]:
        books = Books(data.flows, data.venue, feeds={flow: Feed(0)}, interval=0, trades=False)
        begin = time.process_time()
        books.update(frames, payload)
        seconds = time.process_time() - begin
        made[:] = [books]
        return updates, seconds

    sample = frames[:PLAIN_FRAMES]
    names = (
        "kind",
        "instrument",
        "entry_type",
        "update_action",
        "price_level",
        "price",
        "quantity",
        "number_of_orders",
    )
    rows = list(zip(*(sample[name].tolist() for name in names), strict=True))
    expected = Books(data.flows, data.venue, feeds={flow: Feed(0)}, interval=0)
    expected.update(sample, payload)

    def plain() -> tuple[int, float]:
        begin = time.process_time()
        books, count = plain_books(rows, depths)
        seconds = time.process_time() - begin
        check(books, expected)
        return count, seconds

    return compare("books.updates_per_s", "updates/s", compiled, "lists in dictionaries, plain Python", plain)


def plain_books(rows: list[tuple[int, ...]], depths: tuple[int, int]) -> tuple[PlainBooks, int]:
    """Books as one writes them first, and how many updates there were."""
    books: PlainBooks = {}
    count = 0
    for kind, instrument, entry_type, action, level, price, quantity, orders in rows:
        if kind != Kind.BOOK_UPDATE:
            continue
        count += 1
        number = SIDES.get(entry_type)
        if number is None:
            for each in SIDES.values():
                books.pop((instrument, each), None)
            continue
        side = books.setdefault((instrument, number), [])
        depth = depths[number // 2] or len(side) + 1
        if level > depth:
            continue
        if action == DELETE:
            del side[level - 1 : level]
            continue
        while len(side) < level - (action == NEW):
            side.append((0, 0, 0))
        if action == NEW:
            side.insert(level - 1, (price, quantity, orders))
            del side[depth:]
        else:
            side[level - 1] = (price, quantity, orders)
    return books, count


def check(books: PlainBooks, expected: Books) -> None:
    """Raise RuntimeError where the peer did not do the same work."""
    for instrument in {instrument for instrument, _ in books}:
        for view in (View.OUTRIGHT, View.IMPLIED):
            found = expected.levels(instrument, view)
            for direction, side in enumerate((found.bids, found.asks)):
                plain = books.get((instrument, 2 * int(view) + direction), [])
                kept = [(0, 0, 0) if each is None else (each.price, each.quantity, each.orders) for each in side]
                # Behind the last known level there may be holes.
                if plain != kept + [(0, 0, 0)] * (len(plain) - len(kept)):
                    raise RuntimeError(f"the peer's book of {instrument} is {plain}, not {kept}")
