"""Exact 128-bit arithmetic for notionals, as (high, low) pairs of 64-bit words.

A notional is quantity × |price|: units of 1e-8 × 1e-9 = 1e-17, up to 2^64 × 2^63 = 2^127. Nothing is rounded.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from host.memory import INLINED

NOTIONAL_DECIMALS = 17
"""Notionals are counted in 1e-17."""

NOTIONAL_LIMIT = (1 << 127) - 1
"""Largest limit: a sum of one that is within it and one order's notional stays below 2^128."""


def words(value: int) -> tuple[int, int]:
    """(high, low) of a value from 0 to 2^128 - 1."""
    return value >> 64, value & (1 << 64) - 1


@intrinsic
def _high_product(typingctx, left, right):
    """The upper 64 bits of the product of two uint64."""
    signature = types.uint64(types.uint64, types.uint64)

    def codegen(context, builder, signature, arguments):
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return signature, codegen


@njit(**INLINED)
def multiply(left, right):
    """The product of two uint64 as (high, low)."""
    return _high_product(left, right), left * right


@njit(**INLINED)
def add(high, low, other_high, other_low):
    """The sum of two pairs; the caller knows that it stays below 2^128."""
    total = low + other_low
    carry = np.uint64(1) if total < low else np.uint64(0)
    return high + other_high + carry, total


@njit(**INLINED)
def exceeds(high, low, limit_high, limit_low):
    """Whether a pair is more than a limit."""
    return high > limit_high or (high == limit_high and low > limit_low)


@njit(**INLINED)
def magnitude(price):
    """|price| as uint64, right for -2^63 too."""
    return np.uint64(price) if price >= 0 else np.uint64(0) - np.uint64(price)


@njit(**INLINED)
def subtract(high, low, other_high, other_low):
    """The difference of two pairs, modulo 2^128."""
    borrow = np.uint64(1) if low < other_low else np.uint64(0)
    return high - other_high - borrow, low - other_low
