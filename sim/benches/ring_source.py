"""Stands in for the card where only the way of its lines matters: frames as fast as the rings have credit, each known by its number."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import PacketBeat
from hdl.frame import FRAME_BYTES, frame_layout
from hdl.registers import RegisterBus, Registers
from hdl.ring_layout import LINE_BYTES
from hdl.ring_writer import MemoryWrite

MESSAGE_LINES = 2
EVERY = 4
"""Every fourth frame has a message, of 2 lines that are written before it."""

FLOWS = 1

SUMS = ("gaps", "fix_bytes", "payload_bytes", "credit_stalls")
"""Registers that say what was in the packets, the lowest bits first."""


class RingSource(wiring.Component):
    """The ports of ``hdl.card.Card``, its registers, and its rings by docs/ring.md.

    Frame n has n as its timestamp. Every word of a message is the place of that word in all words of messages ever written. It pauses at
    odd times. Of packets it counts the ends (``finished``) and the bytes (register ``packets``), and adds up their words in four parts of
    16 bits (SUMS).
    """

    packets: In(stream.Signature(PacketBeat))
    memory: Out(stream.Signature(MemoryWrite))
    bus: In(RegisterBus)
    finished: Out(32)
    stalled: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = registers = Registers(FLOWS, wide=SUMS)
        wiring.connect(m, wiring.flipped(self.bus), registers.bus)
        rings = registers.ring

        beat = self.packets.payload
        m.d.comb += self.packets.ready.eq(1)
        with m.If(self.packets.valid):
            m.d.comb += registers.increments.packets.eq(beat.count)
            m.d.comb += [
                registers.increments[name].eq(beat.data.as_value().word_select(part, 16))
                for part, name in enumerate(SUMS)
            ]
            m.d.sync += self.finished.eq(self.finished + beat.last)

        random = Signal(16, init=1)
        m.d.sync += random.eq(random << 1 | (random[15] ^ random[13] ^ random[12] ^ random[10]))
        number, line = Signal(64), Signal(64)
        in_message = Signal(range(MESSAGE_LINES + 1))
        has_message = number % EVERY == 0
        slots, size = Signal(64), Signal(64)
        m.d.sync += [slots.eq(1 << rings.frame_slots_log2), size.eq(1 << rings.payload_bytes_log2)]
        writes_message = has_message & (in_message != MESSAGE_LINES)
        has_room = Signal()
        m.d.comb += [
            has_room.eq(
                Mux(
                    writes_message,
                    (line + MESSAGE_LINES) * LINE_BYTES - rings.payload_read <= size,
                    number - rings.frames_read < slots,
                )
            ),
            self.stalled.eq((rings.frames_base != 0) & ~has_room),
        ]
        frame, message = Signal(frame_layout()), Signal(data.ArrayLayout(64, LINE_BYTES // 8))
        length = Mux(has_message, MESSAGE_LINES * LINE_BYTES, 0)
        m.d.comb += [
            frame.timestamp.eq(number),
            frame.payload_offset.eq((line * LINE_BYTES - length) & (size - 1)),
            frame.payload_length.eq(length),
            frame.generation.eq((number >> rings.frame_slots_log2) + 1),
            *(message[word].eq(line * len(message) + word) for word in range(len(message))),
        ]
        write = self.memory
        with m.If(~write.valid | write.ready):
            m.d.sync += write.valid.eq(0)
            with m.If((rings.frames_base != 0) & has_room & (random[:2] != 0)):
                m.d.sync += write.valid.eq(1)
                with m.If(writes_message):
                    m.d.sync += [
                        write.payload.address.eq(rings.payload_base + (line * LINE_BYTES & (size - 1))),
                        write.payload.data.eq(message),
                        line.eq(line + 1),
                        in_message.eq(in_message + 1),
                    ]
                with m.Else():
                    m.d.comb += registers.increments.frames.eq(1)
                    m.d.sync += [
                        write.payload.address.eq(rings.frames_base + (number & (slots - 1)) * FRAME_BYTES),
                        write.payload.data.eq(frame),
                        number.eq(number + 1),
                        in_message.eq(0),
                    ]
        return m
