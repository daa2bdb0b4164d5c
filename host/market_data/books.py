"""Books built from frames: the way in for Python. The rules are docs/books.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hdl.flow import Flow, Parser
from hdl.frame import FRAME_DTYPE, Kind, crc64
from hdl.limits import ENTRY_LIMIT
from hdl.sbe_profile import MOST_LEVELS, BookRules
from hdl.sbe_venue import Venue
from host.market_data import tables
from host.market_data.definitions import (
    ASSET,
    SECURITY_GROUP,
    SESSION_STATUS,
    STATUS,
    Definition,
    MessageReader,
    read_definition,
)
from host.market_data.layout import (
    BOOK_DTYPE,
    BOOKS,
    BY_ORDER,
    CAUSES,
    CHANNEL_DTYPE,
    CURSOR_DTYPE,
    ENTRY_DTYPE,
    FEED_DTYPE,
    INSTRUMENT_DTYPE,
    INSTRUMENTS_AT_FIRST,
    LEVEL_DTYPE,
    MOST_CHANNELS,
    MOST_INSTRUMENTS,
    MOST_LISTED,
    MOST_ORDERS,
    MOST_SLOTS,
    MOST_WAITING,
    NO_STATUS,
    NONE,
    ORDER_DTYPE,
    ORDERS_AT_FIRST,
    ROW_DTYPE,
    SAME_STATUS,
    SETTINGS_DTYPE,
    SIDE_DTYPE,
    SIDES,
    SIZE_CLASSES,
    SLOT_DTYPE,
    SLOTS_AT_FIRST,
    TRADE_DTYPE,
    UPDATE_DTYPE,
    VIOLATION_DTYPE,
    Mark,
    Need,
    Role,
    State,
    View,
    Violation,
)
from host.market_data.orders import index_all
from host.market_data.places import Places, no_places, places_of
from host.market_data.recovery import find_instrument, index_instruments
from host.market_data.views import mark_of, read_levels
from host.market_data.walk import finish, walk
from host.memory import read_only

ROWS_AT_ONCE = 1 << 12
"""Rows that are collected before they become part of a table."""


class BooksError(ValueError):
    """Books were asked for in a way that cannot be; one line that says what to do."""


@dataclass(frozen=True)
class Feed:
    """What a flow is to the books: which channel it belongs to (flows with copies of the same packets have the same), and its role."""

    channel: int
    role: Role = Role.INCREMENTAL


@dataclass(frozen=True)
class Level:
    """A price level: price in 1e-9, quantity in 1e-8, and how many orders; ``is_stale``: it is from before a gap."""

    price: int
    quantity: int
    orders: int
    is_stale: bool = False


@dataclass(frozen=True)
class Order:
    """An order of a book by order, and its place's ``priority`` (0 where the venue tells none)."""

    id: int
    price: int
    quantity: int
    priority: int


@dataclass(frozen=True)
class Levels:
    """Both sides of a book, the best level first. A level that nothing was heard of is None."""

    mark: Mark
    bids: tuple[Level | None, ...]
    asks: tuple[Level | None, ...]


class Books:
    """Books of all instruments of some flows.

    Parameters:
        flows: the card's flow table.
        venue: that of its SBE flows.
        feeds: by flow number; without it each flow is a channel of its own. Flows that are not named are not looked at.
        levels: how many price levels a row of :meth:`table` has.
        view: which sides these are of.
        interval: None records a row whenever a level of them has changed; a number of nanoseconds, one at each multiple of
            it (since 1970, UTC) for each instrument that has changed since the last one; 0 records none.
        trades: whether trades are recorded for :meth:`trades`.
        instruments, orders, slots: limits. What goes beyond is counted (:meth:`counters`), and its book is not valid.

    Raises:
        BooksError: for a parameter that cannot be.
        SchemaError: for a profile whose ``[books]`` does not fit the schema.
    """

    def __init__(
        self,
        flows: Sequence[Flow],
        venue: Venue | None = None,
        *,
        feeds: Mapping[int, Feed] | None = None,
        levels: int = 10,
        view: View = View.OUTRIGHT,
        interval: int | None = None,
        trades: bool = True,
        instruments: int = MOST_INSTRUMENTS,
        orders: int = MOST_ORDERS,
        slots: int = MOST_SLOTS,
    ) -> None:
        if not 1 <= levels <= MOST_LEVELS:
            raise BooksError(f"levels is {levels}: a row has 1 to {MOST_LEVELS} price levels")
        if interval is not None and interval < 0:
            raise BooksError(f"interval is {interval}: it is a number of nanoseconds, 0 for none")
        for name, value, most in (
            ("instruments", instruments, MOST_INSTRUMENTS),
            ("orders", orders, MOST_ORDERS),
            ("slots", slots, MOST_SLOTS),
        ):
            if not 1 <= value <= most:
                raise BooksError(f"{name} is {value}: 1 to {most} are possible")
        if venue is None and any(flow.parser is Parser.SBE for flow in flows):
            raise BooksError("an SBE flow needs a venue, which says what its messages mean")
        its_feeds = {number: Feed(number) for number in range(len(flows))} if feeds is None else dict(feeds)
        for number, feed in its_feeds.items():
            if not 0 <= number < len(flows):
                raise BooksError(f"feed {number}: the flow table has {len(flows)} rows")
            if not 0 <= feed.channel < MOST_CHANNELS:
                raise BooksError(f"feed {number}: channel {feed.channel} is none of 0 to {MOST_CHANNELS - 1}")
        rules = BookRules(contiguous=True) if venue is None else venue.profile.books
        self._places = no_places() if venue is None else places_of(venue)
        self._depths = rules.outright_depth, rules.implied_depth
        self._reader = None if venue is None else MessageReader(venue.schema)
        self.definitions: dict[int, Definition] = {}
        """By instrument, as the frames have it."""
        self._codes: dict[str, int] = {}
        self._statuses: dict[str, int] = {}
        self._parts: list[pa.RecordBatch] = []
        self._trade_parts: list[pa.RecordBatch] = []
        self._state = _empty_state(flows, its_feeds, levels)
        settings = self._state.settings[0]
        settings["interval"] = interval or 0
        settings["levels"] = levels
        settings["row_view"] = int(view)
        settings["most_instruments"] = instruments
        settings["most_orders"] = orders
        settings["most_slots"] = slots
        settings["record"] = interval != 0
        settings["record_trades"] = trades
        # Nothing need wait where no snapshot can come.
        settings["recovers"] = bool(rules.snapshots)
        settings["contiguous"] = rules.contiguous
        self._fit_limits()

    def update(self, frames: np.ndarray, payload: np.ndarray) -> None:
        """Take frames in the order in which the card gave them, with the payload ring that they point into.

        What was recorded becomes part of the tables; it stays in memory until it is taken from there.
        """
        frames, payload = read_only(frames, FRAME_DTYPE), read_only(payload, np.dtype(np.uint8))
        first, looked = 0, False
        while True:
            first, need = walk(self._state, self._places, self._depths, frames, payload, first, looked)
            looked = need == Need.LOOK
            if need == Need.NOTHING:
                return
            self.attend(Need(need), frames[first], payload)

    def attend(self, need: Need, frame: np.void, payload: np.ndarray) -> None:
        """Do what a compiled walk needs at a frame before it can go on."""
        if need is Need.LOOK:
            self._look(frame, payload)
        else:
            self._make_room(need)

    @property
    def rules(self) -> tuple[Places, tuple[int, int]]:
        """What :func:`host.market_data.walk.walk` wants to know of the venue: places, and books' depths."""
        return self._places, self._depths

    @property
    def state(self) -> State:
        """The arrays as they are now, for compiled readers; :meth:`update` may put larger ones in their place."""
        return self._state

    def finish(self) -> None:
        """There are no more frames: end the last message, event and interval."""
        self._make_room(Need.ROWS)
        finish(self._state)

    def levels(
        self, instrument: int | str, view: View = View.OUTRIGHT, *, channel: int | None = None, depth: int = MOST_LEVELS
    ) -> Levels:
        """An instrument's book as it is now. ``instrument`` is its code in frames, or its symbol; ``channel`` is needed where it is in
        more than one. Raises KeyError for an instrument that no frame was of."""
        number = self._number(instrument, channel)
        found = np.zeros((2, depth), LEVEL_DTYPE)
        read_levels(self._state, number, int(view), found)
        book = int(view is View.BY_ORDER)
        bids, asks = (_levels(side) for side in found)
        return Levels(Mark(int(mark_of(self._state, number, book))), bids, asks)

    def orders(
        self, instrument: int | str, *, channel: int | None = None
    ) -> tuple[tuple[Order, ...], tuple[Order, ...]]:
        """The orders of a book by order, (bids, asks), in the order in which they trade. Raises as :meth:`levels`."""
        number = self._number(instrument, channel)
        bids, asks = (tuple(self._orders_of(number * SIDES + 2 * BY_ORDER + direction)) for direction in (0, 1))
        return bids, asks

    def status(self, instrument: int | str, *, channel: int | None = None) -> int:
        """SecurityTradingStatus (326) as the venue said it last, 0 where it did not. Raises as :meth:`levels`."""
        return int(self._state.instruments[self._number(instrument, channel)]["status"])

    def table(self) -> pa.Table:
        """The rows recorded since the last call: docs/books.md has the columns."""
        self._take_rows()
        parts, self._parts = self._parts, []
        return pa.Table.from_batches(parts, tables.level_schema(int(self._state.settings[0]["levels"])))

    def trades(self) -> pa.Table:
        """The trades since the last call."""
        self._take_trades()
        parts, self._trade_parts = self._trade_parts, []
        return pa.Table.from_batches(parts, tables.TRADE_SCHEMA)

    def statistics(self) -> pa.Table:
        """A row for each instrument: marks of its books, status, last trade, and what the venue said of its day."""
        count = int(self._state.cursor[0]["instruments"])
        marks = np.array(
            [[mark_of(self._state, number, book) for book in range(BOOKS)] for number in range(count)], np.uint8
        ).reshape(count, BOOKS)
        return tables.statistics_table(self._state.instruments[:count], marks)

    def definition_table(self) -> pa.Table:
        """A row for each instrument that was defined: code, symbol, tick, multiplier, display factor, depths."""
        return tables.definition_table(self.definitions)

    @property
    def violations(self) -> np.ndarray:
        """The first MOST_LISTED violations of books that were not marked INVALID (VIOLATION_DTYPE)."""
        return self._state.violations[: int(self._state.cursor[0]["listed"])]

    def violation_counts(self, mark: Mark | None = None) -> dict[Violation, int]:
        """How many violations of each cause there were, in books of a mark, or of any."""
        counts = self._state.violation_counts
        column = counts.sum(axis=1) if mark is None else counts[:, int(mark)]
        return {cause: int(column[cause]) for cause in Violation if column[cause]}

    def counters(self) -> dict[str, int]:
        """What was taken and what was refused: of the channels together, and of the whole."""
        cursor, channels = self._state.cursor[0], self._state.channels
        of_channels = (
            "packets",
            "duplicates",
            "gaps",
            "missing",
            "sequence_resets",
            "resets",
            "snapshots",
            "snapshots_passed",
        )
        whole = (
            "updates",
            "stale_updates",
            "malformed",
            "lost_waiting",
            "refused_instruments",
            "refused_levels",
            "refused_orders",
        )
        return {name: int(channels[name].sum()) for name in of_channels} | {name: int(cursor[name]) for name in whole}

    def _number(self, instrument: int | str, channel: int | None) -> int:
        code = instrument
        if isinstance(code, str):
            code = self._codes.get(code, crc64(code.encode()))
        code &= (1 << 64) - 1
        rows = self._state.instruments[: int(self._state.cursor[0]["instruments"])]
        found = np.flatnonzero(rows["instrument"] == np.uint64(code))
        if channel is not None:
            found = found[rows["channel"][found] == channel]
        if not len(found):
            raise KeyError(f"no frame was of instrument {instrument!r}")
        if len(found) > 1:
            raise KeyError(f"instrument {instrument!r} is in channels {rows['channel'][found].tolist()}: name one")
        return int(found[0])

    def _orders_of(self, side: int) -> list[Order]:
        state = self._state
        its, found = state.sides[side], []
        for slot in state.slots[int(its["begin"]) :][: int(its["count"])]:
            number = int(slot["first"])
            while number != NONE:
                order = state.orders[number]
                found.append(
                    Order(int(order["id"]), int(order["price"]), int(order["quantity"]), int(order["priority"]))
                )
                number = int(order["next"])
        return found

    def _look(self, frame: np.void, payload: np.ndarray) -> None:
        """A definition, or a status of a group of instruments."""
        if self._reader is None:
            return
        begin = int(frame["payload_offset"])
        raw = payload[begin : begin + int(frame["payload_length"])].tobytes()
        channel = int(self._state.feeds[int(frame["flow"])]["channel"])
        if frame["kind"] == Kind.DEFINITION:
            if (definition := read_definition(self._reader, raw)) is not None:
                self._define(definition, channel)
            return
        fields = dict(self._reader.fields(raw))
        status = fields.get(STATUS, fields.get(SESSION_STATUS))
        group, asset = (str(fields.get(number, "")) for number in (SECURITY_GROUP, ASSET))
        if not isinstance(status, int) or not (group or asset):
            return
        for code, each in self.definitions.items():
            if (not group or each.group == group) and (not asset or each.asset == asset):
                number = find_instrument(self._state, channel, np.uint64(code), self._depths)
                if number != NONE:
                    _set_status(self._state, number, status)

    def _define(self, definition: Definition, channel: int) -> None:
        code = definition.instrument & (1 << 64) - 1
        if definition.is_deleted:
            self.definitions.pop(code, None)
            return
        self.definitions[code] = definition
        if definition.symbol:
            self._codes[definition.symbol] = code
        self._make_room(Need.INSTRUMENTS, only_if_full=True)
        number = find_instrument(self._state, channel, np.uint64(code), self._depths)
        if number == NONE:
            return
        depth = self._state.instruments[number]["depth"]
        for layer, told in enumerate((definition.outright_depth, definition.implied_depth)):
            if told is not None and 0 < told <= MOST_LEVELS:
                depth[layer] = told

    def _make_room(self, need: int, only_if_full: bool = False) -> None:
        """Give the arrays the room that the walk asks for: twice as much, up to the limit."""
        state, settings = self._state, self._state.settings[0]
        if need == Need.ROWS:
            self._take_rows()
            wanted = int(state.cursor[0]["touched"]) + int(state.cursor[0]["due"]) + 4
            if wanted > len(state.rows):
                room = 2 * wanted
                self._state = state._replace(
                    rows=np.zeros(room, ROW_DTYPE),
                    row_levels=np.zeros((room, *state.row_levels.shape[1:]), LEVEL_DTYPE),
                )
        elif need == Need.TRADES:
            self._take_trades()
        elif need == Need.SLOTS:
            self._state = state._replace(slots=_grown(state.slots, int(settings["most_slots"])))
        elif need == Need.ORDERS:
            orders = _grown(state.orders, int(settings["most_orders"]))
            index = _index(len(orders))
            index_all(state.cursor, orders, index)
            self._state = state._replace(orders=orders, order_index=index)
        elif need == Need.INSTRUMENTS:
            if only_if_full and int(state.cursor[0]["instruments"]) < len(state.instruments):
                return
            self._state = _with_instruments(state, min(2 * len(state.instruments), int(settings["most_instruments"])))

    def _fit_limits(self) -> None:
        """Arrays are not larger than their limits."""
        state, settings = self._state, self._state.settings[0]
        if int(settings["most_instruments"]) < len(state.instruments):
            state = _with_instruments(state, int(settings["most_instruments"]))
        if int(settings["most_orders"]) < len(state.orders):
            state = state._replace(orders=state.orders[: int(settings["most_orders"])])
        if int(settings["most_slots"]) < len(state.slots):
            state = state._replace(slots=state.slots[: int(settings["most_slots"])])
        self._state = state

    def _take_rows(self) -> None:
        state = self._state
        count = int(state.cursor[0]["rows"])
        if count:
            self._parts.append(tables.level_batch(state.rows[:count], state.row_levels[:count]))
            state.cursor[0]["rows"] = 0

    def _take_trades(self) -> None:
        state = self._state
        count = int(state.cursor[0]["trades"])
        if count:
            self._trade_parts.append(tables.trade_batch(state.trades[:count]))
            state.cursor[0]["trades"] = 0


def _set_status(state: State, number: int, status: int) -> None:
    if status not in (NO_STATUS, SAME_STATUS):
        state.instruments[number]["status"] = status


def _levels(side: np.ndarray) -> tuple[Level | None, ...]:
    known = np.flatnonzero(side["known"])
    end = int(known[-1]) + 1 if len(known) else 0
    return tuple(
        Level(price, quantity, orders, told == 1) if told else None
        for price, quantity, orders, told in side[:end].tolist()
    )


def _empty_state(flows: Sequence[Flow], feeds: Mapping[int, Feed], levels: int) -> State:
    feed_rows = np.zeros(len(flows), FEED_DTYPE)
    for number, flow in enumerate(flows):
        feed = feeds.get(number)
        feed_rows[number] = (
            NONE if feed is None else feed.channel,
            0 if feed is None else int(feed.role),
            flow.parser is Parser.FIX,
        )
    channels = np.zeros(max((feed.channel for feed in feeds.values()), default=0) + 1, CHANNEL_DTYPE)
    channels["touched"] = NONE
    cursor = np.zeros(1, CURSOR_DTYPE)
    for name in ("free_order", "first_due", "message_offset", "message_flow", "packet_flow", "loading"):
        cursor[name] = NONE
    waiting = np.zeros(MOST_WAITING, UPDATE_DTYPE)
    waiting["next"] = np.arange(1, MOST_WAITING + 1)
    waiting["next"][-1] = NONE
    state = State(
        settings=np.zeros(1, SETTINGS_DTYPE),
        cursor=cursor,
        feeds=feed_rows,
        channels=channels,
        instruments=np.zeros(0, INSTRUMENT_DTYPE),
        instrument_index=_index(1),
        books=np.zeros(0, BOOK_DTYPE),
        sides=np.zeros(0, SIDE_DTYPE),
        slots=np.zeros(SLOTS_AT_FIRST, SLOT_DTYPE),
        free_runs=np.full(SIZE_CLASSES, NONE, np.int64),
        orders=np.zeros(ORDERS_AT_FIRST, ORDER_DTYPE),
        order_index=_index(ORDERS_AT_FIRST),
        waiting=waiting,
        update=np.zeros(2, UPDATE_DTYPE),
        entries=np.zeros(ENTRY_LIMIT, ENTRY_DTYPE),
        violations=np.zeros(MOST_LISTED, VIOLATION_DTYPE),
        violation_counts=np.zeros((CAUSES, len(Mark)), np.int64),
        rows=np.zeros(ROWS_AT_ONCE, ROW_DTYPE),
        row_levels=np.zeros((ROWS_AT_ONCE, 2, levels), LEVEL_DTYPE),
        trades=np.zeros(ROWS_AT_ONCE, TRADE_DTYPE),
    )
    return _with_instruments(state, INSTRUMENTS_AT_FIRST)


def _with_instruments(state: State, room: int) -> State:
    """The state with room for so many instruments, which is not less than there are."""
    before = int(state.cursor[0]["instruments"])
    instruments = np.zeros(room, INSTRUMENT_DTYPE)
    books = np.zeros(room * BOOKS, BOOK_DTYPE)
    sides = np.zeros(room * SIDES, SIDE_DTYPE)
    books["first"] = books["last"] = NONE
    sides["begin"] = NONE
    instruments[:before] = state.instruments[:before]
    books[: before * BOOKS] = state.books[: before * BOOKS]
    sides[: before * SIDES] = state.sides[: before * SIDES]
    index = _index(room)
    index_instruments(state.cursor, instruments, index)
    return state._replace(instruments=instruments, instrument_index=index, books=books, sides=sides)


def _grown(array: np.ndarray, most: int) -> np.ndarray:
    grown = np.zeros(min(2 * len(array), most), array.dtype)
    grown[: len(array)] = array
    return grown


def _index(rows: int) -> np.ndarray:
    """An empty index, at most half full."""
    return np.full(1 << (2 * rows - 1).bit_length(), NONE, np.int32)
