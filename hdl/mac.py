"""Ethernet's MAC, a byte a cycle at 125 MHz: preamble, FCS, lengths and gaps (IEEE 802.3, clauses 3 and 4)."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import crc, data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from hdl.rgmii import GmiiByte

PREAMBLE = 0x55
PREAMBLE_BYTES = 7
START = 0xD5
"""The start frame delimiter."""

FCS_BYTES = 4
SHORTEST_PACKET = 60
"""Bytes without FCS; shorter ones are padded."""

LONGEST_PACKET = 1522
"""Bytes without FCS: 1500 of payload, 14 of header, and two VLAN tags."""

GAP_BYTES = 12
"""Between packets that are sent. Those that come may be closer, since clocks differ: 5 bytes on a gigabit line."""

WORD_BYTES = 4

ReceivedByte = data.StructLayout({"data": 8, "valid": 1, "last": 1, "good": 1})
"""A byte of a packet where ``valid``; with the ``last`` one, whether the packet is ``good``."""

Faults = data.StructLayout({"fcs": 1, "short": 1, "long": 1, "error": 1})
"""Why a packet is not good; one of them."""

MacWord = data.StructLayout({"data": data.ArrayLayout(8, WORD_BYTES), "last": 1})
"""Four bytes of a packet that is sent; all packets are whole words."""


class MacReceiver(wiring.Component):
    """Bytes of packets, from their destination address on, without their FCS.

    A packet is good whose FCS is, which has ``SHORTEST_PACKET`` to ``longest`` bytes and of whose bytes none was marked by the PHY
    (RX_ER). ``began`` is high for a cycle when a packet's first byte comes, and at the end of one that is not good one of
    ``faults``, even where it was too short to give bytes. Any number of preamble bytes will do.

    A byte every cycle, whatever the gaps. Latency: 6 cycles, as it is known only behind the FCS which byte is the last.
    """

    i: In(GmiiByte)
    o: Out(ReceivedByte)
    began: Out(1)
    faults: Out(Faults)

    LATENCY = 6

    def __init__(self, longest: int = LONGEST_PACKET):
        self._longest = longest + FCS_BYTES
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = check = crc.Parameters(CRC32_ISO_HDLC, data_width=8).create()
        byte = self.i
        length = Signal(range(self._longest + 1))
        is_long_enough, is_too_long, has_error = Signal(), Signal(), Signal()
        late = Signal(data.ArrayLayout(8, FCS_BYTES + 1))
        has_late = Signal(FCS_BYTES + 1)
        m.d.comb += check.data.eq(byte.data)
        m.d.sync += [self.o.eq(0), self.began.eq(0), self.faults.eq(0)]

        with m.FSM():
            with m.State("IDLE"):
                with m.If(byte.valid):
                    m.next = "PREAMBLE"
                    with m.If(byte.error | (byte.data != PREAMBLE)):
                        m.next = "PASS"
            with m.State("PREAMBLE"):
                m.d.comb += check.start.eq(1)
                m.d.sync += [each.eq(0) for each in (length, is_long_enough, is_too_long, has_error, has_late)]
                with m.If(~byte.valid):
                    m.next = "IDLE"
                with m.Elif(byte.data == START):
                    m.d.sync += self.began.eq(1)
                    m.next = "PACKET"
                with m.Elif(byte.error | (byte.data != PREAMBLE)):
                    m.next = "PASS"
            with m.State("PACKET"):
                m.d.comb += check.valid.eq(byte.valid)
                good = check.match_detected & is_long_enough & ~is_too_long & ~has_error
                m.d.sync += [
                    self.o.data.eq(late[FCS_BYTES]),
                    self.o.valid.eq(has_late[-1]),
                    self.o.last.eq(~byte.valid),
                    self.o.good.eq(good),
                ]
                with m.If(byte.valid):
                    for n in range(FCS_BYTES + 1):
                        m.d.sync += late[n].eq(late[n - 1] if n else byte.data)
                    m.d.sync += [has_late.eq(has_late << 1 | 1), has_error.eq(has_error | byte.error)]
                    with m.If(length == self._longest):
                        m.d.sync += is_too_long.eq(1)
                    with m.Else():
                        m.d.sync += length.eq(length + 1)
                    with m.If(length == SHORTEST_PACKET + FCS_BYTES - 1):
                        m.d.sync += is_long_enough.eq(1)
                with m.Else():
                    m.d.sync += [
                        self.faults.error.eq(has_error),
                        self.faults.long.eq(~has_error & is_too_long),
                        self.faults.short.eq(~has_error & ~is_long_enough),
                        self.faults.fcs.eq(~has_error & is_long_enough & ~is_too_long & ~check.match_detected),
                    ]
                    m.next = "IDLE"
            with m.State("PASS"):
                with m.If(~byte.valid):
                    m.next = "IDLE"
        return m


class MacTransmitter(wiring.Component):
    """Sends packets, with preamble, padding and FCS, and ``GAP_BYTES`` between them.

    A packet begins when its first word is there, and then the others must come as they are taken: one every four cycles. One that is
    late is an error to the other end (TX_ER), so that the packet is dropped there. Latency to the first preamble byte: 2 cycles.
    """

    i: In(stream.Signature(MacWord))
    o: Out(GmiiByte)

    LATENCY = 2

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = check = crc.Parameters(CRC32_ISO_HDLC, data_width=8).create()
        place = Signal(range(max(PREAMBLE_BYTES + 1, GAP_BYTES)))
        length = Signal(range(SHORTEST_PACKET))
        is_long_enough, lane = length == SHORTEST_PACKET - 1, place[: (WORD_BYTES - 1).bit_length()]
        # The byte that is sent next, and that by which the FCS goes on: a packet's, or 0, so that no other stands before the FCS's logic.
        byte, packet_byte, of_packet = Signal(8), Signal(8), Signal()
        m.d.comb += [check.data.eq(packet_byte), check.valid.eq(of_packet)]
        sends = Signal()
        m.d.sync += [
            self.o.data.eq(byte),
            self.o.valid.eq(sends),
            self.o.error.eq(0),
            place.eq(place + 1),
        ]
        with m.If(of_packet & ~is_long_enough):
            m.d.sync += length.eq(length + 1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += check.start.eq(1)
                m.d.sync += [place.eq(0), length.eq(0)]
                with m.If(self.i.valid):
                    m.next = "PREAMBLE"
            with m.State("PREAMBLE"):
                is_last = place == PREAMBLE_BYTES
                m.d.comb += [sends.eq(1), byte.eq(Mux(is_last, START, PREAMBLE))]
                with m.If(is_last):
                    m.d.sync += place.eq(0)
                    m.next = "PACKET"
            with m.State("PACKET"):
                m.d.comb += [
                    sends.eq(1),
                    of_packet.eq(1),
                    packet_byte.eq(self.i.payload.data[lane]),
                    byte.eq(packet_byte),
                    self.i.ready.eq(lane == WORD_BYTES - 1),
                ]
                m.d.sync += self.o.error.eq(~self.i.valid)
                with m.If((lane == WORD_BYTES - 1) & self.i.payload.last):
                    m.d.sync += place.eq(0)
                    m.next = "PADDING"
                    with m.If(is_long_enough):
                        m.next = "FCS"
            with m.State("PADDING"):
                m.d.comb += [sends.eq(1), of_packet.eq(1)]
                with m.If(is_long_enough):
                    m.d.sync += place.eq(0)
                    m.next = "FCS"
            with m.State("FCS"):
                m.d.comb += [sends.eq(1), byte.eq(check.crc.word_select(place[:2], 8))]
                with m.If(place == FCS_BYTES - 1):
                    m.d.sync += place.eq(0)
                    m.next = "GAP"
            with m.State("GAP"):
                # IDLE is one of them.
                with m.If(place == GAP_BYTES - 2):
                    m.next = "IDLE"
        return m
