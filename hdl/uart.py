"""UART, 8N1: a byte is a start bit (low), 8 data bits with the lowest first, and a stop bit (high)."""

from math import gcd

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

SAMPLES = 16
"""Samples a bit that a receiver takes, as UARTs do since the 8250."""

LEAST_SAMPLES = 4
"""The three in a bit's middle must be samples of that bit."""

FRAME_BITS = 10


class Ticks(wiring.Component):
    """High in ``rate`` of every ``clock`` cycles, spread evenly: no divisor is rounded, a tick is at most a cycle off its time.

    Raises ValueError where the clock (Hz) is slower than the rate.
    """

    tick: Out(1)

    def __init__(self, clock: int, rate: int):
        if not 0 < rate <= clock:
            raise ValueError(f"a clock of {clock:,} Hz cannot tick {rate:,} times a second")
        self._step, self._whole = rate // gcd(clock, rate), clock // gcd(clock, rate)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        phase = Signal(range(self._whole))
        following = Signal(range(2 * self._whole))
        m.d.comb += [following.eq(phase + self._step), self.tick.eq(following >= self._whole)]
        m.d.sync += phase.eq(following)
        with m.If(self.tick):
            m.d.sync += phase.eq(following - self._whole)
        return m


class UartReceiver(wiring.Component):
    """Bytes from ``rx``, which may change at any time.

    Each bit is the majority of its three middle samples. A start bit that is high there was noise. A byte whose stop bit is low is
    dropped (``broken`` is high for a cycle), and the line must be high before the next. A byte that is not taken before the next one
    ends is kept, and that next one is lost. A byte is there 3 cycles after
    the last of its stop bit's three samples was on the pin.

    ``clock`` is in Hz and at least ``samples`` (4 or more) times ``baud``; raises ValueError where it is not.
    """

    rx: In(1, init=1)
    o: Out(stream.Signature(8))
    broken: Out(1)

    def __init__(self, clock: int, baud: int, samples: int = SAMPLES):
        if samples < LEAST_SAMPLES:
            raise ValueError(f"{samples} samples a bit are too few: at least {LEAST_SAMPLES}")
        self._ticks = Ticks(clock, baud * samples)
        self._samples = samples
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.ticks = ticks = self._ticks
        level = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, level, init=1)

        decides = self._samples // 2 + 1  # the sample that is the third in the middle
        sample = Signal(range(self._samples))
        bit = Signal(range(FRAME_BITS))
        before = Signal(2)
        data = Signal(8)
        majority = Signal()
        m.d.comb += majority.eq((level & before[0]) | (level & before[1]) | (before[0] & before[1]))
        m.d.sync += self.broken.eq(0)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(ticks.tick):
            m.d.sync += before.eq(Cat(level, before[0]))

        with m.If(ticks.tick), m.FSM():
            with m.State("IDLE"):
                m.d.sync += [sample.eq(1), bit.eq(0)]
                with m.If(~level):
                    m.next = "BITS"
            with m.State("BITS"):
                m.d.sync += sample.eq(sample + 1)
                with m.If(sample == self._samples - 1):
                    m.d.sync += [sample.eq(0), bit.eq(bit + 1)]
                with m.If(sample == decides):
                    m.d.sync += data.eq(Cat(data[1:], majority))
                    with m.If((bit == 0) & majority):
                        m.next = "IDLE"
                    with m.If(bit == FRAME_BITS - 1):
                        m.d.sync += self.broken.eq(~majority)
                        m.next = "BREAK"
                        with m.If(majority):
                            m.next = "IDLE"
                            with m.If(~self.o.valid | self.o.ready):
                                m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(data)]
            with m.State("BREAK"):
                with m.If(level):
                    m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Bytes to ``tx``, without a pause between them where they come fast enough: ten bits each.

    ``clock`` (Hz) is at least ``baud``; raises ValueError where it is not.
    """

    i: In(stream.Signature(8))
    tx: Out(1, init=1)

    def __init__(self, clock: int, baud: int):
        self._ticks = Ticks(clock, baud)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.ticks = ticks = self._ticks
        bits = Signal(FRAME_BITS)
        left = Signal(range(FRAME_BITS + 1))
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [bits.eq(Cat(0, self.i.payload, 1)), left.eq(FRAME_BITS)]
        with m.Elif(ticks.tick & (left != 0)):
            m.d.sync += [self.tx.eq(bits[0]), bits.eq(bits[1:]), left.eq(left - 1)]
        return m
