"""The state of all books in flat arrays: their layout, the limits, and the names of marks, views and violations.

Prices are 1e-9 and quantities 1e-8, as in frames. Rows are referred to by their numbers; NONE is no row. An instrument of
a channel is row i of ``instruments``. Rows 2i and 2i + 1 of ``books`` are its book by price and its book by order, each of which
becomes valid by itself; rows 6i to 6i + 5 of ``sides`` are its sides (outright, implied, by order; bid and ask of each). A side's
levels lie in one run of ``slots``, the best first.
"""

import enum
from typing import NamedTuple

import numpy as np

NONE = -1

BID, ASK = 0, 1
OUTRIGHT, IMPLIED, BY_ORDER = 0, 1, 2
"""Layers: side ``2 * layer + (BID or ASK)`` of an instrument."""
SIDES, BOOKS = 6, 2
BY_PRICE_BOOK, BY_ORDER_BOOK = 0, 1

INSTRUMENTS_AT_FIRST, MOST_INSTRUMENTS = 1 << 8, 1 << 20
SLOTS_AT_FIRST, MOST_SLOTS = 1 << 13, 1 << 26
"""Price levels of all sides together."""
ORDERS_AT_FIRST, MOST_ORDERS = 1 << 10, 1 << 24
MOST_CHANNELS = 64
MOST_WAITING = 1 << 16
"""Updates that wait for a snapshot, of all books together."""
MOST_LISTED = 1 << 12
"""Violations that are listed; all are counted."""
FIRST_ROOM = 4
"""Levels of a side at first; it doubles."""
SIZE_CLASSES = 27
SEQUENCE_WINDOW = 1024
"""A packet so far behind the last one, or less, is a late copy; one farther behind says that the sequence began anew."""


class Mark(enum.IntEnum):
    """How far a book can be trusted."""

    INVALID = 0
    """An update was missed, or what stood in the book before the first one is not known."""
    REFRESHED = 1
    """Natural refresh: all levels of all sides that were updated have been set since."""
    VALID = 2
    """From a snapshot, from the instrument's first update, or from a reset."""


class View(enum.IntEnum):
    """Which sides of an instrument are looked at."""

    OUTRIGHT = 0
    IMPLIED = 1
    COMBINED = 2
    """Outright and implied: equal prices are one level, its quantity the sum, its orders the outright's."""
    BY_ORDER = 3
    """Levels added up from orders."""


class Role(enum.IntEnum):
    """What a flow carries."""

    INCREMENTAL = 0
    """Updates, whose packets are counted; snapshots may stand between them."""
    SNAPSHOT = 1
    """Snapshots or definitions alone, whose packets have numbers of their own."""


class Violation(enum.IntEnum):
    """What a book must not do."""

    CROSSED = 0
    """At the end of an event and outside auctions the best outright bid is not below the best outright ask."""
    IMPLIED_CROSSED = 1
    """The same of outright and implied together, where outright alone is not crossed."""
    LEVEL_ORDER = 2
    """At the end of an event a level's price is not worse than that of the level above it."""
    SIZE = 3
    """A level or an order is given no quantity, or one of 0."""
    PRICE = 4
    """A level or an order is given no price."""
    PRICE_CHANGED = 5
    """A change (not an overlay) moves a numbered level to another price."""
    DEPTH = 6
    """A level beyond the book's depth."""
    LEVEL_HOLE = 7
    """A new level below the one behind the last."""
    LEVEL_ABSENT = 8
    """A change or a deletion of a level that is not there."""
    SEQUENCE = 9
    """RptSeq leaves numbers out."""
    ORDER_KNOWN = 10
    """A new order whose id the book has."""
    ORDER_UNKNOWN = 11
    """A change or a deletion of an order that the book does not have."""
    UNSUPPORTED = 12
    """An action that cannot be followed; the book is not valid from then on."""


CAUSES = len(Violation)

STATISTICS = {
    "4": ("open", False),
    "5": ("close", False),
    "6": ("settlement", False),
    "7": ("high", False),
    "8": ("low", False),
    "9": ("vwap", False),
    "B": ("cleared_volume", True),
    "C": ("open_interest", True),
    "N": ("highest_bid", False),
    "O": ("lowest_offer", False),
    "W": ("fixing", False),
    "e": ("electronic_volume", True),
}
"""MDEntryType → column, and whether it is a quantity (else a price)."""

STATISTIC_COLUMN = np.full(256, NONE, np.int64)
STATISTIC_IS_QUANTITY = np.zeros(256, np.bool_)
for _number, (_character, (_, _is_quantity)) in enumerate(STATISTICS.items()):
    STATISTIC_COLUMN[ord(_character)] = _number
    STATISTIC_IS_QUANTITY[ord(_character)] = _is_quantity

READY_TO_TRADE, NO_STATUS, UNKNOWN_STATUS, SAME_STATUS = 17, 0, 20, 103
"""SecurityTradingStatus (326): only these are outside auctions and halts. CME's 103 is no change."""

FEED_DTYPE = np.dtype([("channel", "i4"), ("role", "i4"), ("fix", "?")])
"""A flow: whose channel it is (NONE: not looked at), and what it carries."""

CHANNEL_DTYPE = np.dtype(
    [
        ("timestamp", "u8"),
        ("gap", "i8"),
        ("packets", "i8"),
        ("duplicates", "i8"),
        ("gaps", "i8"),
        ("missing", "i8"),
        ("sequence_resets", "i8"),
        ("resets", "i8"),
        ("snapshots", "i8"),
        ("snapshots_passed", "i8"),
        ("last", "u4"),
        ("complete_from", "u4"),
        ("touched", "i4"),
        ("known", "?"),
        ("whole", "?"),
        ("anew", "?"),
    ]
)
"""A channel. ``gap`` counts what makes its books doubtful; ``complete_from`` is the first packet since; ``touched`` the first
instrument of the open event; ``whole``: its packets are known from the first one on; ``anew``: their numbers may begin anew."""

BOOK_DTYPE = np.dtype(
    [
        ("gap", "i8"),
        ("first", "i4"),
        ("last", "i4"),
        ("waiting", "i4"),
        ("chunk", "i4"),
        ("complete_from", "u4"),
        ("numbered_from", "u4"),
        ("snapshot", "u4"),
        ("used", "?"),
        ("numbered", "?"),
        ("loading", "?"),
        ("mark", "u1"),
    ]
)
"""A book: the channel's ``gap`` that it has seen; ``first`` to ``last``, its ``waiting`` updates, which are all since packet
``complete_from`` and RptSeq ``numbered_from``; ``chunk`` of the ``snapshot`` that is being loaded."""

INSTRUMENT_DTYPE = np.dtype(
    [
        ("instrument", "u8"),
        ("changed", "u8"),
        ("last_price", "i8"),
        ("last_quantity", "u8"),
        ("volume", "u8"),
        ("trades", "i8"),
        ("statistics", "i8", (len(STATISTICS),)),
        ("present", "u4"),
        ("sequence", "u4"),
        ("depth", "i4", (2,)),
        ("channel", "i4"),
        ("next_touched", "i4"),
        ("next_due", "i4"),
        ("best_touched", "i4", (3,)),
        ("reserved", "i4"),
        ("status", "u1"),
        ("whole", "?"),
        ("is_touched", "?"),
        ("is_due", "?"),
    ]
)
"""An instrument of a channel; ``best_touched`` is by layer the best level that the open event has changed, ``sequence`` the last
RptSeq (0: none), ``whole``: it is known from its first update on."""

SIDE_DTYPE = np.dtype([("begin", "i8"), ("count", "i4"), ("size_class", "i4"), ("complete", "?"), ("by_level", "?")])
"""A side's run of slots. ``by_level``: the venue numbers its levels; ``complete``: all of them were set since it was doubtful."""

SLOT_DTYPE = np.dtype(
    [("price", "i8"), ("quantity", "u8"), ("orders", "u4"), ("first", "i4"), ("last", "i4"), ("known", "u4")]
)
"""A level. ``known`` is one of UNKNOWN (a hole: nothing was heard of it), STALE (from before a gap), KNOWN."""

UNKNOWN, STALE, KNOWN = 0, 1, 2

ORDER_DTYPE = np.dtype(
    [
        ("id", "u8"),
        ("price", "i8"),
        ("quantity", "u8"),
        ("priority", "u8"),
        ("instrument", "i4"),
        ("side", "i4"),
        ("next", "i4"),
        ("previous", "i4"),
    ]
)
"""An order in the list of its level, in the order of ``priority``, of equals the oldest first."""

UPDATE_DTYPE = np.dtype(
    [
        ("timestamp", "u8"),
        ("price", "i8"),
        ("quantity", "u8"),
        ("order_id", "u8"),
        ("priority", "u8"),
        ("orders", "u4"),
        ("sequence", "u4"),
        ("number", "u4"),
        ("instrument", "i4"),
        ("next", "i4"),
        ("level", "i4"),
        ("book", "u1"),
        ("side", "u1"),
        ("action", "u1"),
        ("has_price", "?"),
        ("has_quantity", "?"),
    ]
)
"""One update of a book, as frame and raw message say it: ``side`` of six, ``level`` from 0 (NONE: by price), ``number`` its RptSeq."""

ENTRY_DTYPE = np.dtype([("instrument", "u8"), ("price", "i8"), ("entry_type", "u1"), ("has_price", "?")])
"""An entry of the present message, for order entries that refer to it."""

VIOLATION_DTYPE = np.dtype(
    [
        ("timestamp", "u8"),
        ("instrument", "u8"),
        ("price", "i8"),
        ("sequence", "u4"),
        ("number", "u4"),
        ("channel", "i4"),
        ("cause", "u1"),
        ("mark", "u1"),
        ("side", "u1"),
        ("level", "u1"),
    ]
)
"""A violation: packet ``sequence``, RptSeq ``number``, the book's mark; side of six, level from 1, 0 where there is none."""

LEVEL_DTYPE = np.dtype([("price", "i8"), ("quantity", "u8"), ("orders", "u4"), ("known", "u4")])
"""A level as it is read; ``known`` as in SLOT_DTYPE, UNKNOWN where there is no level."""

ROW_DTYPE = np.dtype([("instrument", "u8"), ("timestamp", "u8"), ("channel", "i4"), ("mark", "u1"), ("status", "u1")])

TRADE_DTYPE = np.dtype(
    [
        ("instrument", "u8"),
        ("timestamp", "u8"),
        ("price", "i8"),
        ("quantity", "u8"),
        ("orders", "u4"),
        ("channel", "i4"),
        ("action", "u1"),
        ("aggressor", "u1"),
        ("has_price", "?"),
        ("has_quantity", "?"),
    ]
)

CURSOR_DTYPE = np.dtype(
    [
        ("packet_timestamp", "u8"),
        ("message_timestamp", "u8"),
        ("grid", "u8"),
        ("updates", "i8"),
        ("stale_updates", "i8"),
        ("malformed", "i8"),
        ("lost_waiting", "i8"),
        ("refused_instruments", "i8"),
        ("refused_levels", "i8"),
        ("refused_orders", "i8"),
        ("listed", "i8"),
        ("instruments", "i8"),
        ("slots", "i8"),
        ("orders", "i8"),
        ("free_order", "i8"),
        ("free_waiting", "i8"),
        ("waiting", "i8"),
        ("largest_room", "i8"),
        ("rows", "i8"),
        ("trades", "i8"),
        ("touched", "i8"),
        ("due", "i8"),
        ("first_due", "i8"),
        ("entries", "i8"),
        ("message_offset", "i8"),
        ("message_flow", "i8"),
        ("message_channel", "i8"),
        ("packet_flow", "i8"),
        ("loading", "i8"),
        ("loading_books", "i8"),
        ("loading_number", "u4"),
        ("loading_sequence", "u4"),
        ("packet_sequence", "u4"),
        ("packet_passed", "?"),
        ("message_ends_event", "?"),
        ("load_ends", "?"),
        ("load_dated", "?"),
    ]
)
"""How far the walk over the frames is, what of the arrays is in use, and counters."""

SETTINGS_DTYPE = np.dtype(
    [
        ("interval", "u8"),
        ("levels", "i8"),
        ("row_view", "i8"),
        ("most_instruments", "i8"),
        ("most_slots", "i8"),
        ("most_orders", "i8"),
        ("record", "?"),
        ("record_trades", "?"),
        ("recovers", "?"),
        ("contiguous", "?"),
    ]
)


class State(NamedTuple):
    """All that the compiled functions read and write."""

    settings: np.ndarray
    cursor: np.ndarray
    feeds: np.ndarray
    channels: np.ndarray
    instruments: np.ndarray
    instrument_index: np.ndarray
    books: np.ndarray
    sides: np.ndarray
    slots: np.ndarray
    free_runs: np.ndarray
    orders: np.ndarray
    order_index: np.ndarray
    waiting: np.ndarray
    update: np.ndarray
    entries: np.ndarray
    violations: np.ndarray
    violation_counts: np.ndarray
    rows: np.ndarray
    row_levels: np.ndarray
    trades: np.ndarray


class Need(enum.IntEnum):
    """Why the walk stopped at a frame."""

    NOTHING = 0
    INSTRUMENTS = 1
    SLOTS = 2
    ORDERS = 3
    ROWS = 4
    TRADES = 5
    LOOK = 6
    """The frame is a definition or a status, which are rare and read in Python."""
