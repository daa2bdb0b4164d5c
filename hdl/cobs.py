"""Consistent Overhead Byte Stuffing (Cheshire and Baker, 1999): packets as bytes other than 0, with a 0 behind each.

A block is a code byte n (1 to 255) and n - 1 bytes other than 0. It stands for these bytes with a 0 behind them, except where n
is 255 or the packet ends.
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.serial_frame import DELIMITER, LONGEST_BLOCK

PacketByte = data.StructLayout({"data": 8, "last": 1})
"""A byte of a packet, and whether it is its last one."""


class CobsDecoder(wiring.Component):
    """Takes encoded bytes, gives those of packets; nothing for a packet without bytes.

    A packet that ends within a block is passed on as it is: that it is damaged is for its CRC to say. A byte a cycle; a byte comes out
    a cycle after the next one, or the packet's end, is known.
    """

    i: In(stream.Signature(8))
    o: Out(stream.Signature(PacketByte))

    def elaborate(self, platform):
        m = Module()
        byte = self.i.payload
        left = Signal(8)
        zero_due = Signal()  # where another block follows
        held, held_valid = Signal(8), Signal()
        decoded, is_decoded, ends = Signal(8), Signal(), Signal()

        m.d.comb += [
            self.i.ready.eq(~self.o.valid | self.o.ready),
            ends.eq(byte == DELIMITER),
            is_decoded.eq(~ends & ((left != 0) | zero_due)),
        ]
        with m.If(left != 0):
            m.d.comb += decoded.eq(byte)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                self.o.valid.eq(held_valid & (is_decoded | ends)),
                self.o.payload.data.eq(held),
                self.o.payload.last.eq(ends),
            ]
            with m.If(ends):
                m.d.sync += [left.eq(0), zero_due.eq(0), held_valid.eq(0)]
            with m.Elif(left == 0):
                m.d.sync += [left.eq(byte - 1), zero_due.eq(byte != LONGEST_BLOCK + 1)]
            with m.Else():
                m.d.sync += left.eq(left - 1)
            with m.If(is_decoded):
                m.d.sync += [held.eq(decoded), held_valid.eq(1)]
        return m


class CobsEncoder(wiring.Component):
    """Takes bytes of packets, gives encoded ones, each packet with its delimiter.

    A block is collected, a byte a cycle, and then given out, a byte every two cycles: for a UART, which takes a byte in 40 cycles or
    more, that is no pause, as a byte waits in it meanwhile.
    """

    i: In(stream.Signature(PacketByte))
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = block = memory.Memory(shape=8, depth=1 << 8, init=[])
        write, read = block.write_port(), block.read_port()
        byte = self.i.payload
        count, place = Signal(8), Signal(8)
        last, ends_in_zero = Signal(), Signal()
        m.d.comb += [write.addr.eq(count), write.data.eq(byte.data), read.addr.eq(place)]

        with m.FSM():
            with m.State("COLLECT"):
                is_zero = byte.data == 0
                m.d.comb += [self.i.ready.eq(1), write.en.eq(self.i.valid)]
                m.d.sync += place.eq(0)
                with m.If(self.i.valid):
                    m.d.sync += [last.eq(byte.last), ends_in_zero.eq(byte.last & is_zero)]
                    with m.If(~is_zero):
                        m.d.sync += count.eq(count + 1)
                    with m.If(is_zero | byte.last | (count == LONGEST_BLOCK - 1)):
                        m.next = "CODE"
            with m.State("CODE"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(count + 1)]
                with m.If(self.o.ready):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "BYTE"
                with m.If(place == count):
                    m.d.sync += count.eq(0)
                    m.next = "COLLECT"
                    with m.If(ends_in_zero):
                        # The 0 is that of the block before; behind it comes a block without bytes.
                        m.d.sync += [ends_in_zero.eq(0), place.eq(0)]
                        m.next = "CODE"
                    with m.Elif(last):
                        m.next = "DELIMITER"
            with m.State("BYTE"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(read.data)]
                with m.If(self.o.ready):
                    m.d.sync += place.eq(place + 1)
                    m.next = "FETCH"
            with m.State("DELIMITER"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(DELIMITER)]
                with m.If(self.o.ready):
                    m.next = "COLLECT"
        return m
