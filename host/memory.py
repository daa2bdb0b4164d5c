"""Loads and stores that NumPy indexing in Numba cannot say: unaligned, ordered, whole runs.

On x86 an acquire load and a release store are plain instructions; what matters is that LLVM may move no
other access across them.
"""

import mmap
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

KERNEL = {"cache": True, "_nrt": False, "error_model": "numpy"}
"""Options for the soft card's functions. These allocate nothing, so counting references to arrays is left out: passing
arrays through a call otherwise costs more than what the call does (measured: a factor of 3)."""

INLINED = {**KERNEL, "forceinline": True}
"""The same for what is done for each packet, message or frame: an array alone is seven words to pass."""

_EVERY_BYTE = np.uint64(0x0101010101010101)
_HIGH_BITS = np.uint64(0x8080808080808080)


def read_only(array: np.ndarray, dtype: np.dtype | type[np.generic]) -> np.ndarray:
    """A contiguous read-only view of an array, whatever it is made of: one type to compile for."""
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view


def touched(size: int | tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """Zeros whose pages are there already, so that no order waits for the system to find one."""
    array = np.zeros(size, dtype)
    array.view(np.uint8).reshape(-1)[:: mmap.PAGESIZE] = 0
    return array


def _element(context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value, index: ir.Value) -> ir.Value:
    """The address of ``array[index]``."""
    view = context.make_array(array_type)(context, builder, array)
    return builder.gep(view.data, [index])


@intrinsic
def load_acquire(typing_context, array, index):
    """``array[index]`` of an aligned one-dimensional array; no later access moves before it."""

    def generate(context, builder, signature, arguments):
        pointer = _element(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.load_atomic(pointer, "acquire", array.dtype.bitwidth // 8)

    return array.dtype(array, types.int64), generate


@intrinsic
def store_release(typing_context, array, index, value):
    """``array[index] = value``; no earlier access moves behind it."""

    def generate(context, builder, signature, arguments):
        pointer = _element(context, builder, signature.args[0], arguments[0], arguments[1])
        builder.store_atomic(arguments[2], pointer, "release", array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), generate


@intrinsic
def keep_order(typing_context):
    """No access of this thread moves across it: what a process that was killed had written is all that it wrote before some point."""

    def generate(context, builder, signature, arguments):
        builder.fence("seq_cst", "singlethread")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def load_word(typing_context, array, index):
    """Eight bytes of a uint8 array from any place, little endian; all eight must lie within it."""

    def generate(context, builder, signature, arguments):
        pointer = _element(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.load(builder.bitcast(pointer, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(array, types.int64), generate


@intrinsic
def address_of(typing_context, array, index):
    """Where ``array[index]`` lies in memory."""

    def generate(context, builder, signature, arguments):
        pointer = _element(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.ptrtoint(pointer, ir.IntType(64))

    return types.int64(array, types.int64), generate


@intrinsic
def load_acquire_at(typing_context, address):
    """The uint64 at an aligned address; no later access moves before it."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.uint64(types.int64), generate


@intrinsic(prefer_literal=True)
def load_number(typing_context, address, size, signed, big):
    """A number of ``size`` bytes (1, 2, 4 or 8) at any address, as int64 where it is ``signed``, else uint64; ``big`` endian or little.
    These three are constants."""
    literals = [each.literal_value for each in (size, signed, big) if isinstance(each, types.Literal)]
    if len(literals) != 3:
        return None
    its_size, is_signed, is_big = literals

    def generate(context, builder, signature, arguments):
        number_type = ir.IntType(8 * its_size)
        number = builder.load(builder.inttoptr(arguments[0], number_type.as_pointer()), align=1)
        if is_big and its_size > 1:
            number = builder.bswap(number)
        if its_size == 8:
            return number
        return (builder.sext if is_signed else builder.zext)(number, ir.IntType(64))

    return (types.int64 if is_signed else types.uint64)(types.int64, size, signed, big), generate


@intrinsic(prefer_literal=True)
def store_number(typing_context, address, value, size):
    """The low ``size`` bytes (1, 2, 4 or 8, a constant) of an integer at any address, little endian."""
    if not isinstance(size, types.Literal):
        return None
    its_size = size.literal_value

    def generate(context, builder, signature, arguments):
        number_type = ir.IntType(8 * its_size)
        number = arguments[1] if its_size == 8 else builder.trunc(arguments[1], number_type)
        builder.store(number, builder.inttoptr(arguments[0], number_type.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, size), generate


@intrinsic
def store_line(typing_context, address, word0, word1, word2, word3, word4, word5, word6, word7):
    """A line of eight uint64 at an aligned address: the last one is stored behind all the others."""

    def generate(context, builder, signature, arguments):
        line = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        for number, word in enumerate(arguments[1:8]):
            builder.store(word, builder.gep(line, [ir.Constant(ir.IntType(64), number)]))
        builder.store_atomic(arguments[8], builder.gep(line, [ir.Constant(ir.IntType(64), 7)]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, *[types.uint64] * 8), generate


@intrinsic
def store_byte_release(typing_context, address, value):
    """A byte at an address; no earlier access moves behind it."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        builder.store_atomic(arguments[1], pointer, "release", 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.uint8), generate


@intrinsic
def clear_line(typing_context, address):
    """64 zero bytes at an address."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        cgutils.memset(builder, pointer, ir.Constant(ir.IntType(64), 64), 0)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def copy_to(typing_context, address, source, count):
    """Copy a run of bytes from one address to another; the runs do not overlap."""

    def generate(context, builder, signature, arguments):
        to, origin = (builder.inttoptr(each, ir.IntType(8).as_pointer()) for each in arguments[:2])
        cgutils.raw_memcpy(builder, to, origin, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def copy_bytes(typing_context, target, target_index, source, source_index, count):
    """Copy a run of bytes between uint8 arrays; they may be the same one."""

    def generate(context, builder, signature, arguments):
        to = _element(context, builder, signature.args[0], arguments[0], arguments[1])
        origin = _element(context, builder, signature.args[2], arguments[2], arguments[3])
        cgutils.raw_memmove(builder, to, origin, arguments[4], 1)
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, types.int64), generate


@intrinsic
def trailing_zeros(typing_context, value):
    """Zero bits below the lowest set bit of a uint64 that is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@intrinsic
def leading_zeros(typing_context, value):
    """Zero bits above the highest set bit of a uint64 that is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@intrinsic
def swap_bytes(typing_context, value):
    """A uint64 with its bytes in the other order."""

    def generate(context, builder, signature, arguments):
        return builder.bswap(arguments[0])

    return types.uint64(types.uint64), generate


@njit(inline="always")
def load_unsigned(array, index, size):
    """An unsigned little-endian number of ``size`` bytes (1 to 8) from any place of a uint8 array."""
    if index + 8 <= array.size:
        return load_word(array, index) << np.uint64(64 - 8 * size) >> np.uint64(64 - 8 * size)
    value = np.uint64(0)
    for n in range(size):
        value |= np.uint64(array[index + n]) << np.uint64(8 * n)
    return value


@njit(inline="always")
def copy_line(target, source):
    """A line of 64 bytes from an address to an aligned one: its last eight bytes are stored behind all the others."""
    store_line(
        target,
        load_number(source, 8, False, False),
        load_number(source + 8, 8, False, False),
        load_number(source + 16, 8, False, False),
        load_number(source + 24, 8, False, False),
        load_number(source + 32, 8, False, False),
        load_number(source + 40, 8, False, False),
        load_number(source + 48, 8, False, False),
        load_number(source + 56, 8, False, False),
    )


@njit(inline="always")
def find_byte(array, byte, index, end):
    """The first place from ``index`` on where ``array`` holds ``byte``; ``end`` where it does not."""
    pattern = _EVERY_BYTE * np.uint64(byte)
    while index + 8 <= end:
        difference = load_word(array, index) ^ pattern
        # The lowest zero byte of the difference is exact; a borrow can only disturb those above it.
        zeros = (difference - _EVERY_BYTE) & ~difference & _HIGH_BITS
        if zeros != 0:
            return index + np.int64(trailing_zeros(zeros) >> np.uint64(3))
        index += 8
    while index < end and array[index] != byte:
        index += 1
    return index
