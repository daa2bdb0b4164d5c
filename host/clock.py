"""The machine's clocks in compiled code, and a pause for loops that poll."""

import platform
import time

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_X86 = platform.machine() in ("x86_64", "AMD64")


def _read_clock(builder: ir.IRBuilder, clock: int) -> ir.Value:
    """The clock's present value, by the C library: without a system call where the kernel can."""
    word, number = ir.IntType(64), ir.IntType(32)
    spec = cgutils.alloca_once(builder, ir.ArrayType(word, 2))
    kind = ir.FunctionType(number, [number, spec.type])
    function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
    builder.call(function, [ir.Constant(number, clock), spec])
    seconds, nanoseconds = (builder.extract_value(builder.load(spec), place) for place in (0, 1))
    return builder.add(builder.mul(seconds, ir.Constant(word, 1_000_000_000)), nanoseconds)


@intrinsic
def monotonic_ns(typing_context):
    """CLOCK_MONOTONIC in ns, as ``time.monotonic_ns`` gives it: the same in all processes of a machine."""

    def generate(context, builder, signature, arguments):
        return _read_clock(builder, time.CLOCK_MONOTONIC)

    return types.int64(), generate


@intrinsic
def thread_cpu_ns(typing_context):
    """What this thread has used of a processor, in ns."""

    def generate(context, builder, signature, arguments):
        return _read_clock(builder, time.CLOCK_THREAD_CPUTIME_ID)

    return types.int64(), generate


@intrinsic
def pause(typing_context):
    """Tells the processor that this loop polls: it saves power, and leaves a sibling thread of the core more of it."""

    def generate(context, builder, signature, arguments):
        if _X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate
