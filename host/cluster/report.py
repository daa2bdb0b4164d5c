"""Execution reports: what a node says of an order. One record a report, in the order in which things happened."""

import enum

import numpy as np


class ReportKind(enum.IntEnum):
    """What happened (FIX 4.4: ExecType 150; CANCEL_REJECTED is an OrderCancelReject, MsgType 9)."""

    NEW = 1
    PARTIAL_FILL = 2
    FILL = 3
    CANCELED = 4
    REPLACED = 5
    REJECTED = 6
    CANCEL_REJECTED = 7


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
    Reason.BELOW_FILLED: "the new quantity is not above what has been filled",
    Reason.SIDE_CHANGED: "a replace cannot change the side",
    Reason.UNSUPPORTED_REPLACE: "a replace must ask for a limit order that may rest (Day or GTC)",
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
the order's (open plus filled). ``leaves`` and ``cumulative`` (1e-8) are what is open and what has been filled
afterwards. ``execution`` numbers the node's trades from 1 and is the same in both sides' reports, 0 elsewhere.
``timestamp`` (ns) is that of the message that caused the report: a node has no clock, so that a replay is equal."""
