"""What the gateway decides about a frame."""

import enum

from hdl.frame import FLAG_MEANING, MALFORMED_FLAGS, Flag
from host.journal.batch import ACCEPTED


class Verdict(enum.IntEnum):
    """The outcome for one frame. From MALFORMED on, the first check that failed, in the order of the checks."""

    NOT_AN_ORDER = 0
    ACCEPTED = ACCEPTED
    MALFORMED = 2
    CORRUPT_FRAME = 3
    DUPLICATE_TAG = 4
    NO_CLIENT_ORDER_ID = 5
    NO_ORIGINAL_ORDER_ID = 6
    NO_SYMBOL = 7
    BAD_SIDE = 8
    BAD_QUANTITY = 9
    UNSUPPORTED_ORDER_TYPE = 10
    NO_PRICE = 11
    UNSUPPORTED_TIME_IN_FORCE = 12
    UNKNOWN_INSTRUMENT = 13
    KILLED = 14
    INSTRUMENT_KILLED = 15
    SESSION_KILLED = 16
    ACCOUNT_KILLED = 17
    RESTRICTED_INSTRUMENT = 18
    RESTRICTED_FOR_ACCOUNT = 19
    MAXIMUM_QUANTITY = 20
    SESSION_QUANTITY = 21
    ACCOUNT_QUANTITY = 22
    PRICE_COLLAR = 23
    FAT_FINGER = 24
    INSTRUMENT_NOTIONAL = 25
    SESSION_NOTIONAL = 26
    ORDER_NOTIONAL = 27
    ACCOUNT_NOTIONAL = 28
    ACCOUNT_CHANGED = 29
    NOT_SHORTABLE = 30
    SHORT_NOT_MARKED = 31
    LONG_EXPOSURE = 32
    SHORT_EXPOSURE = 33
    GROSS_EXPOSURE = 34
    ACCOUNT_RATE = 35
    SESSION_RATE = 36
    NO_NODE = 37
    ACCOUNTS_FULL = 38
    POSITIONS_FULL = 39
    ORDERS_FULL = 40
    DUPLICATE_CLIENT_ORDER_ID = 41
    CLIENT_ORDER_IDS_FULL = 42


VERDICT_TEXT = {
    Verdict.NOT_AN_ORDER: "not an order",
    Verdict.ACCEPTED: "accepted",
    Verdict.MALFORMED: "malformed message",
    Verdict.CORRUPT_FRAME: "the frame points outside its message",
    Verdict.DUPLICATE_TAG: "a tag appears more than once",
    Verdict.NO_CLIENT_ORDER_ID: "ClOrdID (11) is missing",
    Verdict.NO_ORIGINAL_ORDER_ID: "OrigClOrdID (41) is missing",
    Verdict.NO_SYMBOL: "Symbol (55) is missing",
    Verdict.BAD_SIDE: "Side (54) is missing or not Buy, Sell, Sell short or Sell short exempt",
    Verdict.BAD_QUANTITY: "OrderQty (38) is missing or 0",
    Verdict.UNSUPPORTED_ORDER_TYPE: "OrdType (40) is missing or not Market, Limit, Stop or Stop limit",
    Verdict.NO_PRICE: "a limit or stop-limit order without Price (44)",
    Verdict.UNSUPPORTED_TIME_IN_FORCE: "TimeInForce (59) is not Day, GTC, IOC or FOK",
    Verdict.UNKNOWN_INSTRUMENT: "unknown instrument",
    Verdict.KILLED: "trading is stopped",
    Verdict.INSTRUMENT_KILLED: "trading in the instrument is stopped",
    Verdict.SESSION_KILLED: "the session is stopped",
    Verdict.ACCOUNT_KILLED: "the account is stopped",
    Verdict.RESTRICTED_INSTRUMENT: "the instrument is on the restricted list",
    Verdict.RESTRICTED_FOR_ACCOUNT: "the instrument is on the account's restricted list",
    Verdict.MAXIMUM_QUANTITY: "more than the instrument's maximum quantity",
    Verdict.SESSION_QUANTITY: "more than the session's maximum quantity",
    Verdict.ACCOUNT_QUANTITY: "more than the account's maximum quantity",
    Verdict.PRICE_COLLAR: "the price is outside the instrument's collar",
    Verdict.FAT_FINGER: "the price is too far through the book",
    Verdict.INSTRUMENT_NOTIONAL: "more than the instrument's notional an order",
    Verdict.SESSION_NOTIONAL: "more than the session's notional an order",
    Verdict.ORDER_NOTIONAL: "more than the account's notional an order",
    Verdict.ACCOUNT_NOTIONAL: "the account's notional is used up",
    Verdict.ACCOUNT_CHANGED: "Account (1) is not that of the order that is replaced",
    Verdict.NOT_SHORTABLE: "a short sale of an instrument that is neither shortable nor located",
    Verdict.SHORT_NOT_MARKED: "a sale beyond the position must be marked short, Side (54) 5 or 6",
    Verdict.LONG_EXPOSURE: "more than the account may be long of the instrument",
    Verdict.SHORT_EXPOSURE: "more than the account may be short of the instrument",
    Verdict.GROSS_EXPOSURE: "more than the account's gross exposure",
    Verdict.ACCOUNT_RATE: "the account's order rate is exceeded",
    Verdict.SESSION_RATE: "the session's order rate is exceeded",
    Verdict.NO_NODE: "no node serves the instrument",
    Verdict.ACCOUNTS_FULL: "the gateway's room for accounts is used up",
    Verdict.POSITIONS_FULL: "the gateway's room for positions is used up",
    Verdict.ORDERS_FULL: "the gateway's room for open orders is used up",
    Verdict.DUPLICATE_CLIENT_ORDER_ID: "ClOrdID (11) was used before",
    Verdict.CLIENT_ORDER_IDS_FULL: "the gateway's room for client order ids is used up",
}
"""Each verdict in words, for people and for tag 58 (Text) of a reject."""


def verdict_text(verdict: int, flags: int = 0) -> str:
    """A verdict in words; ``flags``, the frame's, add what was found wrong with a malformed message."""
    text = VERDICT_TEXT[Verdict(verdict)]
    causes = [FLAG_MEANING[flag] for flag in Flag if flag & flags & MALFORMED_FLAGS]
    return f"{text}: {'; '.join(causes)}" if verdict == Verdict.MALFORMED and causes else text
