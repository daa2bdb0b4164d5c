"""The terms of an order that its frame does not carry, read from the FIX message: StopPx (99), MaxFloor (111), ExecInst (18).

The rules are FIX 4.4's (volume 6, the fields; volume 1, data fields), the numbers' those of docs/fix.md. Messages of other
protocols have no such terms.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.fix_tags import BEGIN, DATA_TAGS, SOH
from host.cluster.book import WHOLE
from host.cluster.report import Reason
from host.fix_number import read_length, read_price, read_quantity
from host.memory import INLINED, KERNEL, load_word

STOP_PX_TAG, MAX_FLOOR_TAG, EXEC_INST_TAG = 99, 111, 18

POST_ONLY = ord("6")
"""ExecInst "participate, don't initiate": the order must not trade as it comes."""

_EQUALS, _SPACE, _ZERO = ord("="), ord(" "), ord("0")
_BEGIN = np.frombuffer(BEGIN, np.uint8)
_DATA_TAGS = np.array(list(DATA_TAGS.items()), np.int64)
_EVERY = np.uint64(0x0101010101010101)
_HIGH_BITS = np.uint64(0x8080808080808080)
_SOHS, _ONES, _EIGHTS, _NINES, _EQUAL_SIGNS = (
    np.uint64(ord(character) * 0x0101010101010101) for character in "\x01189="
)
_WORDS_REACH = 8 + len("|111")
"""Bytes behind a message that may be looked at: the last word begins within the message, four bytes on."""

_WHOLE = np.uint64(WHOLE)
_OK, _REPEATED = int(Reason.NONE), int(Reason.REPEATED_TERM)
_BAD_STOP, _BAD_DISPLAY = int(Reason.BAD_STOP_PRICE), int(Reason.BAD_DISPLAY_QUANTITY)
_INSTRUCTION = int(Reason.UNSUPPORTED_INSTRUCTION)


class Terms(NamedTuple):
    """What :func:`read_terms` finds; ``reason`` is why the order is to be refused, or Reason.NONE.

    ``stop_price`` is 1e-9 and holds where ``stopped`` is 1; ``display`` is 1e-8, WHOLE where MaxFloor is absent.
    """

    reason: int
    stopped: int
    stop_price: int
    display: int
    post_only: int


@njit(**KERNEL)
def _is_fix(payload, begin, end):
    same = 0
    while same < _BEGIN.size and begin + same < end and payload[begin + same] == _BEGIN[same]:
        same += 1
    return same == _BEGIN.size


@njit(**INLINED)
def _zeros(word):
    """Bit 7 of every byte of a word that is zero; perhaps of some others above one, never of fewer."""
    return (word - _EVERY) & ~word


@njit(**KERNEL)
def _may_have_terms(payload, begin, end):
    """Whether one of the three tags seems to stand in the message: eight places at once, each byte of the pattern in a word of
    its own.

    Nearly no order has any, and this is a fraction of the price of reading the fields. It has false alarms only, such as a tag
    within data, or at the end of what lies in memory.
    """
    if end + _WORDS_REACH > payload.size:
        return True
    found = np.uint64(0)
    # Counted, so that LLVM knows how often and takes several words at once.
    for word in range((end - begin + 7) >> 3):
        position = begin + 8 * word
        first, second = load_word(payload, position + 1), load_word(payload, position + 2)
        one = _zeros(first ^ _ONES)
        short = (_zeros(first ^ _NINES) & _zeros(second ^ _NINES)) | (one & _zeros(second ^ _EIGHTS))
        short &= _zeros(load_word(payload, position + 3) ^ _EQUAL_SIGNS)
        long = one & _zeros(second ^ _ONES) & _zeros(load_word(payload, position + 4) ^ _EQUAL_SIGNS)
        found |= _zeros(load_word(payload, position) ^ _SOHS) & (short | long)
    return found & _HIGH_BITS != 0


@njit(**KERNEL)
def _is_post_only(payload, begin, end):
    """(whether ExecInst, a MultipleCharValue, says post-only; whether it says nothing else)."""
    post_only, known = False, (end - begin) % 2 == 1
    for index in range(begin, end):
        if (index - begin) % 2 == 1:
            known = known and payload[index] == _SPACE
        elif payload[index] == POST_ONLY:
            post_only = True
        else:
            known = False
    return post_only, known


@njit(**KERNEL)
def _read_fields(payload, begin, end):
    """The terms of a FIX message, field by field; data is passed over by its announced length."""
    reason, stopped, stop_price, display, post_only = _OK, 0, np.int64(0), _WHOLE, 0
    seen = 0
    data_tag, data_bytes = np.int64(-1), 0
    position = begin
    while position < end:
        tag = 0
        while position < end and payload[position] != _EQUALS and payload[position] != SOH:
            tag = tag * 10 + np.int64(payload[position]) - _ZERO
            position += 1
        value = min(position + 1, end)
        stop = value
        if position < end and payload[position] == _EQUALS:
            if tag == data_tag:
                stop = min(value + data_bytes, end)
            while stop < end and payload[stop] != SOH:
                stop += 1
            data_tag = -1
            bit = 0
            if tag == STOP_PX_TAG:
                bit = 1
                stop_price, cause = read_price(payload, value, stop)
                stopped = 1
                if cause != 0 and reason == _OK:
                    reason = _BAD_STOP
            elif tag == MAX_FLOOR_TAG:
                bit = 2
                display, cause = read_quantity(payload, value, stop)
                if (cause != 0 or display == 0) and reason == _OK:
                    reason = _BAD_DISPLAY
            elif tag == EXEC_INST_TAG:
                bit = 4
                found, known = _is_post_only(payload, value, stop)
                post_only = 1 if found else 0
                if not known and reason == _OK:
                    reason = _INSTRUCTION
            else:
                for row in range(_DATA_TAGS.shape[0]):
                    if tag == _DATA_TAGS[row, 0]:
                        data_bytes = read_length(payload, value, stop)
                        data_tag = _DATA_TAGS[row, 1] if data_bytes >= 0 else np.int64(-1)
            if seen & bit and reason == _OK:
                reason = _REPEATED
            seen |= bit
            stop += 1
        position = stop
    return reason, stopped, stop_price, display, post_only


@njit(**KERNEL)
def read_terms(payload, begin, end):
    """The :class:`Terms` of the message in ``payload[begin:end]``, as a tuple. The first field that is wrong decides."""
    if _is_fix(payload, begin, end) and _may_have_terms(payload, begin, end):
        return _read_fields(payload, begin, end)
    return _OK, 0, np.int64(0), _WHOLE, 0
