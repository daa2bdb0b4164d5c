"""Execution reports: what a node says of an order. One record a report, in the order in which things happened."""

import enum

import numpy as np


class ReportKind(enum.IntEnum):
    """What happened (FIX 4.4: ExecType 150; CANCEL_REJECTED is an OrderCancelReject, MsgType 9; EXPIRED is C, TRIGGERED L)."""

    NEW = 1
    PARTIAL_FILL = 2
    FILL = 3
    CANCELED = 4
    REPLACED = 5
    REJECTED = 6
    CANCEL_REJECTED = 7
    EXPIRED = 8
    TRIGGERED = 9


class Reason(enum.IntEnum):
    """Why an order was canceled or rejected. 0: there is nothing to explain."""

    NONE = 0
    CANCELED_BY_CLIENT = 1
    NOTHING_TO_MATCH = 2
    NOT_FILLED_WHOLE = 3
    UNKNOWN_ORDER = 4
    DUPLICATE_ORDER = 5
    ORDERS_FULL = 6
    INSTRUMENTS_FULL = 7
    QUANTITY_OUT_OF_RANGE = 8
    BELOW_FILLED = 9
    SIDE_CHANGED = 10
    UNSUPPORTED_REPLACE = 11
    BAD_STOP_PRICE = 12
    BAD_DISPLAY_QUANTITY = 13
    UNSUPPORTED_INSTRUCTION = 14
    REPEATED_TERM = 15
    NO_STOP_PRICE = 16
    NO_STOP_ORDER = 17
    STOP_MUST_WAIT = 18
    MUST_REST = 19
    DISPLAY_TOO_SMALL = 20
    WOULD_TRADE = 21
    END_OF_DAY = 22
    DISCONNECTED = 23
    SELF_TRADE = 24
    KILLED = 25


REASON_TEXT = {
    Reason.NONE: "",
    Reason.CANCELED_BY_CLIENT: "canceled as asked",
    Reason.NOTHING_TO_MATCH: "what a market or IOC order could not trade at once",
    Reason.NOT_FILLED_WHOLE: "a FOK order that could not trade whole",
    Reason.UNKNOWN_ORDER: "no such order is open for this flow and instrument",
    Reason.DUPLICATE_ORDER: "an open order of this flow has this client order id",
    Reason.ORDERS_FULL: "the node's room for open orders is used up",
    Reason.INSTRUMENTS_FULL: "the node's room for instruments is used up",
    Reason.QUANTITY_OUT_OF_RANGE: "the quantity is 0, or it or its sum at this price is more than the node counts",
    Reason.BELOW_FILLED: "the new quantity is not above what has been filled: what was left is given up",
    Reason.SIDE_CHANGED: "a replace cannot change the side",
    Reason.UNSUPPORTED_REPLACE: "a replace keeps the order's type (Limit in the book) and asks for Day or GTC",
    Reason.BAD_STOP_PRICE: "StopPx (99) is no price",
    Reason.BAD_DISPLAY_QUANTITY: "MaxFloor (111) is no quantity above 0",
    Reason.UNSUPPORTED_INSTRUCTION: "ExecInst (18) holds something other than 6, participate don't initiate",
    Reason.REPEATED_TERM: "StopPx (99), MaxFloor (111) or ExecInst (18) stands there twice",
    Reason.NO_STOP_PRICE: "a stop order without StopPx (99)",
    Reason.NO_STOP_ORDER: "StopPx (99) in an order that is no stop order",
    Reason.STOP_MUST_WAIT: "a stop order is for Day or GTC",
    Reason.MUST_REST: "MaxFloor (111) and post-only want an order that may rest: Limit or Stop limit, Day or GTC",
    Reason.DISPLAY_TOO_SMALL: "MaxFloor (111) is less than a hundredth of what is open",
    Reason.WOULD_TRADE: "a post-only order that would trade at once",
    Reason.END_OF_DAY: "a Day order at the end of its day",
    Reason.DISCONNECTED: "the order's session was disconnected",
    Reason.SELF_TRADE: "the order would have traded with one of the same account",
    Reason.KILLED: "trading was stopped, and open orders with it",
}

REPORT_DTYPE = np.dtype(
    [
        ("kind", "u1"),
        ("reason", "u1"),
        ("side", "u1"),
        ("node", "u1"),
        ("flow", "<u2"),
        ("reserved", "<u2"),
        ("instrument", "<u8"),
        ("key_low", "<u8"),
        ("key_high", "<u8"),
        ("order_sequence", "<u8"),
        ("sequence", "<u8"),
        ("timestamp", "<u8"),
        ("execution", "<u8"),
        ("price", "<i8"),
        ("quantity", "<u8"),
        ("leaves", "<u8"),
        ("cumulative", "<u8"),
    ]
)
"""One report, 96 bytes. ``flow`` and ``key_*`` name the order (``host.cluster.order_key``), ``order_sequence`` is the
journal sequence of the message that bears its present ClOrdID, ``sequence`` that of the message that caused the
report. ``price`` is 1e-9: the trade's for fills, else the order's. ``quantity`` is 1e-8: what traded for fills, else
the order's (open plus filled, hidden quantity included). ``leaves`` and ``cumulative`` (1e-8) are what is open and what has been filled
afterwards. ``execution`` numbers the node's trades from 1 and is the same in both sides' reports, 0 elsewhere.
``timestamp`` (ns) is that of the message that caused the report: a node has no clock, so that a replay is equal. What a control
record caused has the sequence of the last order before it, and the record's own "timestamp", 0 where it has none."""
