"""Numbers in FIX text, compiled: docs/fix.md, "integer" and "decimal"."""

import numpy as np
from numba import njit

from hdl.fix_tags import MOST_LENGTH_DIGITS
from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS, Flag
from host.memory import KERNEL

ZERO = ord("0")
MINUS = ord("-")
POINT = ord(".")
VALUE = int(Flag.VALUE)
RANGE = int(Flag.RANGE)

INTEGER_CHARACTERS = 10
INTEGER_LIMIT = 1 << 32
DECIMAL_CHARACTERS = 20
DECIMAL_DIGITS = 18

POWERS_OF_TEN = np.array([10**power for power in range(max(PRICE_DECIMALS, QUANTITY_DECIMALS) + 1)], np.uint64)
LARGEST_PRICE = np.array([(2**63 - 1) // 10**power for power in range(PRICE_DECIMALS + 1)], np.uint64)
"""By power of ten: the largest number that may still be multiplied by it."""
LARGEST_QUANTITY = np.array([(10**19 - 1) // 10**power for power in range(QUANTITY_DECIMALS + 1)], np.uint64)


@njit(**KERNEL)
def read_length(data, start, end):
    """A BodyLength or a length of data in ``data[start:end]``, or -1 where it is not 1 to 9 digits."""
    if not 1 <= end - start <= MOST_LENGTH_DIGITS:
        return -1
    length = 0
    for index in range(start, end):
        digit = np.int64(data[index]) - ZERO
        if digit < 0 or digit > 9:
            return -1
        length = length * 10 + digit
    return length


@njit(**KERNEL)
def read_integer(data, start, end):
    """An integer of 32 bits in ``data[start:end]``, and its cause (0: none), which makes it 0."""
    if end - start > INTEGER_CHARACTERS:
        return 0, RANGE
    number = 0
    for index in range(start, end):
        digit = np.int64(data[index]) - ZERO
        if digit < 0 or digit > 9:
            return 0, VALUE
        number = number * 10 + digit
    return (0, RANGE) if number >= INTEGER_LIMIT else (number, 0)


@njit(**KERNEL)
def read_decimal(data, start, end, decimals, largest):
    """The absolute value of a decimal in ``data[start:end]``, counted in 10^-``decimals``, and its cause."""
    if end - start > DECIMAL_CHARACTERS:
        return np.uint64(0), RANGE
    number = np.uint64(0)
    digits = 0
    behind_point = -1
    lost = 0
    for index in range(start, end):
        digit = np.int64(data[index]) - ZERO
        if 0 <= digit <= 9:
            digits += 1
            if behind_point >= 0:
                behind_point += 1
            if behind_point > decimals:
                lost |= digit
            else:
                number = number * np.uint64(10) + np.uint64(digit)
        elif data[index] == POINT and behind_point < 0:
            behind_point = 0
        else:
            return np.uint64(0), VALUE
    if digits == 0:
        return np.uint64(0), VALUE
    power = max(decimals - max(behind_point, 0), 0)
    if digits > DECIMAL_DIGITS or lost or number > largest[power]:
        return np.uint64(0), RANGE
    return number * POWERS_OF_TEN[power], 0


@njit(**KERNEL)
def read_price(data, start, end):
    """A price in 1e-9 with its sign, and its cause."""
    if end - start > DECIMAL_CHARACTERS:
        return np.int64(0), RANGE
    negative = data[start] == MINUS
    number, cause = read_decimal(data, start + negative, end, PRICE_DECIMALS, LARGEST_PRICE)
    return -np.int64(number) if negative else np.int64(number), cause


@njit(**KERNEL)
def read_quantity(data, start, end):
    """A quantity in 1e-8, and its cause."""
    return read_decimal(data, start, end, QUANTITY_DECIMALS, LARGEST_QUANTITY)
