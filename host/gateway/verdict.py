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
    MAXIMUM_QUANTITY = 14
    PRICE_COLLAR = 15
    ORDER_NOTIONAL = 16
    ACCOUNT_NOTIONAL = 17
    NO_NODE = 18
    ACCOUNTS_FULL = 19
    DUPLICATE_CLIENT_ORDER_ID = 20
    CLIENT_ORDER_IDS_FULL = 21


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
    Verdict.MAXIMUM_QUANTITY: "more than the instrument's maximum quantity",
    Verdict.PRICE_COLLAR: "the price is outside the instrument's collar",
    Verdict.ORDER_NOTIONAL: "more than the account's notional an order",
    Verdict.ACCOUNT_NOTIONAL: "the account's notional is used up",
    Verdict.NO_NODE: "no node serves the instrument",
    Verdict.ACCOUNTS_FULL: "the gateway's room for accounts is used up",
    Verdict.DUPLICATE_CLIENT_ORDER_ID: "ClOrdID (11) was used before",
    Verdict.CLIENT_ORDER_IDS_FULL: "the gateway's room for client order ids is used up",
}
"""Each verdict in words, for people and for tag 58 (Text) of a reject."""


def verdict_text(verdict: int, flags: int = 0) -> str:
    """A verdict in words; ``flags``, the frame's, add what was found wrong with a malformed message."""
    text = VERDICT_TEXT[Verdict(verdict)]
    causes = [FLAG_MEANING[flag] for flag in Flag if flag & flags & MALFORMED_FLAGS]
    return f"{text}: {'; '.join(causes)}" if verdict == Verdict.MALFORMED and causes else text
