"""What stands in a FIX field, compiled: docs/fix.md, "Fields" and "Data fields"."""

import numpy as np
from numba import njit

from hdl.fix_tags import BEGIN as BEGIN_TEXT
from hdl.fix_tags import DATA_TAGS, MOST_DATA_BYTES, MOST_TAG_DIGITS
from hdl.frame import Flag
from host.fix_number import read_length
from host.memory import KERNEL

VALUE = int(Flag.VALUE)
RANGE = int(Flag.RANGE)

EQUALS = ord("=")
ZERO = ord("0")
BEGIN = np.frombuffer(BEGIN_TEXT, np.uint8)
BAD_TAG = -1
NO_TAG = 0
"""No tag is 0."""

DATA_TAG_OF = np.zeros(max(DATA_TAGS) + 1, np.int64)
"""The tag of the data that a tag announces; NO_TAG for most."""
for _length_tag, _data_tag in DATA_TAGS.items():
    DATA_TAG_OF[_length_tag] = _data_tag


@njit(**KERNEL)
def crc64(data, start, end):
    """hdl.frame.crc64 of ``data[start:end]``."""
    state = np.uint64(0)
    # The first eight bytes are shifted in without anything to reduce, and few symbols are longer.
    unreduced = min(start + 8, end)
    for index in range(start, unreduced):
        state = state << np.uint64(8) | np.uint64(data[index])
    for index in range(unreduced, end):
        overflow = state >> np.uint64(56)
        state = state << np.uint64(8) | np.uint64(data[index])
        state ^= overflow ^ overflow << np.uint64(1) ^ overflow << np.uint64(3) ^ overflow << np.uint64(4)
    return state


@njit(**KERNEL)
def read_tag(data, field, end):
    """A field's tag (BAD_TAG where it is bad) and where its value begins."""
    tag = 0
    for index in range(field, min(end, field + MOST_TAG_DIGITS + 1)):
        digit = np.int64(data[index]) - ZERO
        if digit < 0 or digit > 9:
            if data[index] != EQUALS or index == field or data[field] == ZERO:
                return BAD_TAG, end
            return tag, index + 1
        tag = tag * 10 + digit
    return BAD_TAG, end


@njit(**KERNEL)
def find_begin(data, field, end):
    """The last place of BeginString's first bytes within a field, or -1."""
    for index in range(end - BEGIN.size, field - 1, -1):
        if data[index] == BEGIN[0]:
            same = 1
            while same < BEGIN.size and data[index + same] == BEGIN[same]:
                same += 1
            if same == BEGIN.size:
                return index
    return -1


@njit(**KERNEL)
def read_announcement(data, tag, value, end):
    """What a field announces whose value is ``data[value:end]``: the data's tag, or NO_TAG, its bytes, and the cause
    (0: none) that keeps it from announcing."""
    data_tag = DATA_TAG_OF[tag] if 0 <= tag < DATA_TAG_OF.size else NO_TAG
    if data_tag == NO_TAG:
        return NO_TAG, 0, 0
    length = read_length(data, value, end)
    if 0 < length <= MOST_DATA_BYTES:
        return data_tag, length, 0
    return NO_TAG, 0, VALUE if length < 0 else RANGE if length > 0 else 0


@njit(**KERNEL)
def check_sum_is_right(data, start, field, value, end):
    """Whether the three bytes ``data[value:end]`` are digits and the sum of ``data[start:field]`` modulo 256."""
    stated = 0
    for index in range(value, end):
        digit = np.int64(data[index]) - ZERO
        if digit < 0 or digit > 9:
            return False
        stated = stated * 10 + digit
    total = np.uint32(0)
    for index in range(start, field):
        total += np.uint32(data[index])
    return stated == np.int64(total & np.uint32(0xFF))
