"""What of FIX tag=value both cards go by: tags, types and lengths (docs/fix.md). The only definition."""

from hdl.frame import Kind

SOH = 0x01
BEGIN = b"8=FIX"
"""What a message begins with."""

BODY_LENGTH_TAG = 9
CHECK_SUM_TAG = 10
CHECK_SUM_FIELD_BYTES = len("10=000|")

ACCOUNT_TAG, CL_ORD_ID_TAG, ORIG_CL_ORD_ID_TAG, SYMBOL_TAG = 1, 11, 41, 55
MSG_SEQ_NUM_TAG, MSG_TYPE_TAG = 34, 35
ORDER_QTY_TAG, ORD_TYPE_TAG, PRICE_TAG, SIDE_TAG, TIME_IN_FORCE_TAG = 38, 40, 44, 54, 59

DATA_TAGS = {
    90: 91,
    93: 89,
    95: 96,
    212: 213,
    348: 349,
    350: 351,
    352: 353,
    354: 355,
    356: 357,
    358: 359,
    360: 361,
    362: 363,
    364: 365,
    445: 446,
    618: 619,
    621: 622,
}
"""Tag of a length → tag of the data of so many bytes, any of them, that stands behind it."""

MOST_DATA_BYTES = 4095
"""The largest length of data that can be announced."""

ENTRY_TAGS = {"W": 269, "X": 279}
"""MsgType → the tag with which each market data entry begins: MDEntryType, MDUpdateAction."""

MD_ENTRY_TYPE_TAG, MD_UPDATE_ACTION_TAG, MD_ENTRY_PX_TAG, MD_ENTRY_SIZE_TAG = 269, 279, 270, 271
MD_PRICE_LEVEL_TAG, NUMBER_OF_ORDERS_TAG, RPT_SEQ_TAG = 1023, 346, 83

MOST_TAG_DIGITS = 9
MOST_LENGTH_DIGITS = 9
"""Digits of BodyLength and of a length of data, leading zeros included."""

SESSION_TYPES = "012345A"
"""MsgTypes of session messages: Heartbeat to Logout, and Logon."""

KIND_OF_MSG_TYPE = {
    **dict.fromkeys(SESSION_TYPES, Kind.SESSION),
    "D": Kind.NEW_ORDER,
    "F": Kind.CANCEL,
    "G": Kind.REPLACE,
    "8": Kind.EXECUTION,
    "9": Kind.CANCEL_REJECT,
}
"""MsgType to kind; any other is OTHER."""
