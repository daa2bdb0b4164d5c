"""What a host reads and writes in the card's BAR0 (docs/pcie.md)."""

import enum

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.pcie_map import BAR_BYTES
from hdl.pcie_tlp import (
    BEAT_DWORDS,
    COMPLETION_BOUNDARY_BYTES,
    DWORD_BYTES,
    HAS_DATA,
    HAS_FOUR_DWORDS,
    MESSAGE_BIT,
    CompletionHeader,
    Fmt,
    RequestHeader,
    Status,
    TlpBeat,
    Type,
)

DWORD_ADDRESS_BITS = (BAR_BYTES // DWORD_BYTES - 1).bit_length()
WORD_ADDRESS_BITS = DWORD_ADDRESS_BITS - 1
BOUNDARY_DWORDS = COMPLETION_BOUNDARY_BYTES // DWORD_BYTES

DwordWrite = data.StructLayout({"address": DWORD_ADDRESS_BITS, "data": 32, "enable": 4})
"""Bytes that are written to a dword of the BAR: those whose bit of ``enable`` is set."""


class Kind(enum.Enum):
    """What becomes of a request."""

    READ = 0
    WRITE = 1
    REFUSED = 2
    """Not posted, and none that the card knows: the answer is Unsupported Request."""
    IGNORED = 3
    """Posted, so nobody waits for an answer: a message, or data that is poisoned."""


class BarTarget(wiring.Component):
    """Requests in, completions out, one request after the other.

    A write takes a cycle a dword, a read 3 cycles a dword. A read is divided at multiples of 128 bytes. ``write`` holds for the cycle in which
    ``writes`` is high; ``read_data`` is that of the 64-bit word ``read_address`` one cycle before. Both halves of a word that
    one request reads are of the same cycle.
    """

    requests: In(stream.Signature(TlpBeat))
    completions: Out(stream.Signature(TlpBeat))
    function: In(16)
    write: Out(DwordWrite)
    writes: Out(1)
    read_address: Out(WORD_ADDRESS_BITS)
    read_data: In(64)

    def elaborate(self, platform):
        m = Module()
        beat = self.requests.payload
        offered = data.View(RequestHeader, beat.data)
        request, kind = Signal(RequestHeader), Signal(Kind)
        is_memory = offered.type == Type.MEMORY
        has_data = (offered.fmt & HAS_DATA).any()

        # Where the request stands: the next dword, and those that are left of it.
        address, left = Signal(DWORD_ADDRESS_BITS), Signal(11)
        is_first, is_only = Signal(), Signal()
        enable = Signal(4)
        m.d.comb += [
            is_only.eq(request.length == 1),
            enable.eq(
                Mux(is_first, request.first_enable, Mux(left == 1, Mux(is_only, 0, request.last_enable), 0b1111))
            ),
        ]

        def step():
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), is_first.eq(0)]

        # What a completion says of the bytes that are still to come (2.3.1.1).
        skipped, spare = Signal(2), Signal(2)
        m.d.comb += [skipped.eq(_zeros_below(request.first_enable))]
        last_enable = Mux(is_only, request.first_enable, request.last_enable)
        m.d.comb += spare.eq(_zeros_above(last_enable))
        of_nothing = is_only & (request.first_enable == 0)
        bytes_left, chunk = Signal(13), Signal(range(BOUNDARY_DWORDS + 1))
        to_boundary = BOUNDARY_DWORDS - address[: (BOUNDARY_DWORDS - 1).bit_length()]
        m.d.comb += [
            bytes_left.eq(Mux(of_nothing, 1, left * DWORD_BYTES - Mux(is_first, skipped, 0) - spare)),
            chunk.eq(Mux(left < to_boundary, left, to_boundary)),
        ]
        header = Signal(CompletionHeader)
        refused = kind == Kind.REFUSED
        m.d.comb += [
            header.fmt.eq(Mux(refused, Fmt.THREE_DWORDS, Fmt.THREE_DWORDS_DATA)),
            header.type.eq(Mux(request.type == Type.MEMORY_LOCKED, Type.COMPLETION_LOCKED, Type.COMPLETION)),
            header.traffic_class.eq(request.traffic_class),
            header.attributes.eq(request.attributes),
            header.attribute_2.eq(request.attribute_2),
            header.length.eq(Mux(refused, 0, chunk)),
            header.byte_count.eq(Mux(refused, DWORD_BYTES, bytes_left)),
            header.status.eq(Mux(refused, Status.UNSUPPORTED_REQUEST, Status.SUCCESSFUL)),
            header.completer.eq(self.function),
            header.lower_address.eq(Mux(refused, 0, (address << 2) | Mux(is_first, skipped, 0))),
            header.tag.eq(request.tag),
            header.requester.eq(request.requester),
        ]

        m.d.comb += [self.read_address.eq(address[1:]), self.write.address.eq(address), self.write.enable.eq(enable)]
        lane = Signal(range(BEAT_DWORDS))
        dwords = Signal(data.ArrayLayout(32, BEAT_DWORDS))
        chunk_left = Signal.like(chunk)
        upper, has_upper = Signal(32), Signal()
        held = data.View(data.ArrayLayout(32, BEAT_DWORDS), beat.data)

        with m.FSM():
            with m.State("REQUEST"):
                m.d.comb += self.requests.ready.eq(1)
                far = (offered.fmt & HAS_FOUR_DWORDS).any()
                m.d.sync += [
                    request.eq(offered),
                    address.eq(Mux(far, offered.address_second, offered.address_first)[2:]),
                    left.eq(Mux(offered.length == 0, 1024, offered.length)),
                    is_first.eq(1),
                    lane.eq(0),
                    has_upper.eq(0),
                ]
                with m.If((is_memory & has_data & offered.poisoned) | (offered.type & MESSAGE_BIT).any()):
                    m.d.sync += kind.eq(Kind.IGNORED)
                with m.Elif(is_memory):
                    m.d.sync += kind.eq(Mux(has_data, Kind.WRITE, Kind.READ))
                with m.Else():
                    m.d.sync += kind.eq(Kind.REFUSED)
                with m.If(self.requests.valid & beat.header):
                    m.next = "DECIDE"
                    with m.If(~beat.last):
                        m.next = "TAKE"

            with m.State("TAKE"):
                # Data that is not written is passed over.
                with m.If(kind != Kind.WRITE):
                    m.d.comb += self.requests.ready.eq(1)
                    with m.If(self.requests.valid & beat.last):
                        m.next = "DECIDE"
                with m.Elif(self.requests.valid):
                    m.d.comb += [self.writes.eq(left != 0), self.write.data.eq(held[lane])]
                    with m.If(left != 0):
                        step()
                    m.d.sync += lane.eq(lane + 1)
                    with m.If((lane == BEAT_DWORDS - 1) | (beat.last & (lane + 1 == beat.count))):
                        m.d.comb += self.requests.ready.eq(1)
                        m.d.sync += lane.eq(0)
                        with m.If(beat.last):
                            m.next = "REQUEST"

            with m.State("DECIDE"):
                m.next = "REQUEST"
                with m.If((kind == Kind.READ) | refused):
                    m.next = "HEADER"

            with m.State("HEADER"):
                completion = self.completions.payload
                m.d.comb += [
                    self.completions.valid.eq(1),
                    completion.header.eq(1),
                    completion.data.eq(header),
                    completion.count.eq(3),
                    completion.last.eq(refused),
                ]
                m.d.sync += [chunk_left.eq(chunk), lane.eq(0)]
                with m.If(self.completions.ready):
                    m.next = "READ"
                    with m.If(refused):
                        m.next = "REQUEST"

            with m.State("READ"):
                m.next = "KEEP"
            with m.State("KEEP"):
                m.d.sync += [
                    dwords[lane].eq(Mux(address[0], Mux(has_upper, upper, self.read_data[32:]), self.read_data[:32])),
                    upper.eq(self.read_data[32:]),
                    has_upper.eq(~address[0]),
                    chunk_left.eq(chunk_left - 1),
                    lane.eq(lane + 1),
                ]
                step()
                m.next = "READ"
                with m.If((lane == BEAT_DWORDS - 1) | (chunk_left == 1)):
                    m.next = "DATA"

            with m.State("DATA"):
                completion = self.completions.payload
                m.d.comb += [
                    self.completions.valid.eq(1),
                    completion.data.eq(dwords),
                    completion.count.eq(Mux(lane == 0, BEAT_DWORDS, lane)),
                    completion.last.eq(chunk_left == 0),
                ]
                with m.If(self.completions.ready):
                    m.d.sync += lane.eq(0)
                    m.next = "READ"
                    with m.If(chunk_left == 0):
                        m.next = "HEADER"
                        with m.If(left == 0):
                            m.next = "REQUEST"
        return m


def _zeros_below(enable):
    """Bytes in front of the first that is enabled."""
    return Mux(enable[0], 0, Mux(enable[1], 1, Mux(enable[2], 2, Mux(enable[3], 3, 0))))


def _zeros_above(enable):
    """Bytes behind the last that is enabled."""
    return Mux(enable[3], 0, Mux(enable[2], 1, Mux(enable[1], 2, Mux(enable[0], 3, 0))))
