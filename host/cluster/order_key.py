"""A 128-bit key of an order's identifier: what FIX calls ClOrdID, unique within one flow.

The hash is MurmurHash3's x64 mixing with one word of eight bytes a round. With a thousand million keys in one table
the chance that any two texts share a key is below 2e-21, so a key is compared and the text is not. It is no
secret hash: a client that looks for collisions finds them among its own flow's identifiers and harms only itself.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from hdl.ring_layout import LINE_BYTES
from host.memory import INLINED, load_word

SOH = 1

_U = np.uint64
_C1 = _U(0x87C37B91114253D5)
_C2 = _U(0x4CF5AD432745937F)
_ONES = _U(0x0101010101010101)
_HIGHS = _U(0x8080808080808080)


def _prefetch(table: types.Type, to_write: bool) -> tuple[Any, Any]:
    signature = types.void(table, types.intp)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        view = cgutils.create_struct_proxy(signature.args[0])(context, builder, value=arguments[0])
        stride = builder.extract_value(view.strides, 0)
        byte = ir.IntType(8).as_pointer()
        pointer = builder.gep(builder.bitcast(view.data, byte), [builder.mul(arguments[1], stride)])
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        keep, data = ir.Constant(word, 3), ir.Constant(word, 1)
        builder.call(fetch, [pointer, ir.Constant(word, int(to_write)), keep, data])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def prefetch_row(typingctx, table, row):
    """Begins to fetch a row of a C-ordered array into the cache, to be written to, and waits for nothing."""
    return _prefetch(table, to_write=True)


@intrinsic
def prefetch_to_read(typingctx, table, row):
    """As :func:`prefetch_row`, where others may go on reading it."""
    return _prefetch(table, to_write=False)


@njit(**INLINED)
def prefetch_message(frame, payload):
    """Begins to fetch all of a frame's raw message, line by line."""
    begin = np.int64(frame.payload_offset)
    for offset in range(0, np.int64(frame.payload_length), LINE_BYTES):
        prefetch_to_read(payload, begin + offset)


@njit(cache=True, _nrt=False)
def _rotate(word, bits):
    return (word << _U(bits)) | (word >> _U(64 - bits))


@njit(cache=True, _nrt=False)
def mix(word):
    """MurmurHash3's 64-bit finalizer: a bijection of 64-bit words in which every bit changes every other."""
    word ^= word >> _U(33)
    word *= _U(0xFF51AFD7ED558CCD)
    word ^= word >> _U(33)
    word *= _U(0xC4CEB9FE1A85EC53)
    return word ^ (word >> _U(33))


@njit(**INLINED)
def upto_soh(payload, position, end):
    """(whether a text has a SOH or its end within eight bytes, these up to there, the SOH included, with zeros behind it)."""
    left = end - position
    word = _U(0)
    if position + 8 <= payload.shape[0]:
        word = load_word(payload, position)
    else:
        for index in range(min(left, 8)):
            word |= _U(payload[position + index]) << _U(8 * index)
    if left < 8:
        word = (word & ((_U(1) << _U(8 * left)) - _U(1))) | (_U(SOH) << _U(8 * left))
    # Bit 7 of the first byte that is SOH; higher ones may be wrong, the lowest never is.
    difference = word ^ _ONES
    found = (difference - _ONES) & ~difference & _HIGHS
    if found == 0:
        return False, word
    return True, word & (((found & (~found + _U(1))) << _U(1)) - _U(1))


@njit(cache=True, _nrt=False)
def text_key(payload, begin, end, space):
    """The key (low, high) of the text from ``begin`` to the next SOH, or to ``end`` where the message ends without one.

    ``space`` (uint64) keeps keys of different flows apart. The key is never (0, 0), which marks an empty slot.
    The SOH itself is hashed: it makes every text end differently from every longer one.
    """
    low = high = space
    position = begin
    ended = False
    while not ended:
        ended, word = upto_soh(payload, position, end)
        low ^= _rotate(word * _C1, 31) * _C2
        low = (_rotate(low, 27) + high) * _U(5) + _U(0x52DCE729)
        high ^= _rotate(word * _C2, 33) * _C1
        high = (_rotate(high, 31) + low) * _U(5) + _U(0x38495AB5)
        position += 8
    low += high
    high += low
    low, high = mix(low), mix(high)
    low += high
    high += low
    if low == 0 and high == 0:
        low = _U(1)
    return low, high
