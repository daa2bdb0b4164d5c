"""The adapter to AMD's UltraScale+ Integrated Block for PCI Express (PG213), with 128-bit streams (docs/pcie.md).

To be set in the block: AXI4-Stream of 128 bits, DWORD-aligned, no straddling, no parity, no ECRC, client tags; one physical function
with one 64-bit BAR of 64 KiB, no interrupts. Its clock is ``sync``, and ``rst`` its ``user_reset``.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.dma_pcie import BLOCK_PORTS, NUMBER_BITS, report_credit
from hdl.pcie_tlp import (
    BEAT_DWORDS,
    HAS_DATA,
    HAS_FOUR_DWORDS,
    CompletionHeader,
    Fmt,
    RequestHeader,
    Type,
)

REQUEST_USER_BITS, COMPLETION_USER_BITS, TARGET_USER_BITS = 62, 33, 88
"""tuser of the streams RQ, CC and CQ."""

CREDIT_LIMIT = 0b101
"""cfg_fc_sel: what the other side has granted."""

REQUESTER_DESCRIPTOR = {
    "address": 64,
    "length": 11,
    "request": 4,
    "poisoned": 1,
    "requester": 16,
    "tag": 8,
    "completer": 16,
    "requester_enable": 1,
    "traffic_class": 3,
    "attributes": 3,
    "digest": 1,
}
"""In front of what the card asks for ("Requester Request Descriptor Formats"). The lowest 2 bits of the address are its type."""

TARGET_DESCRIPTOR = {
    "address": 64,
    "length": 11,
    "request": 4,
    "reserved": 1,
    "requester": 16,
    "tag": 8,
    "function": 8,
    "bar": 3,
    "aperture": 6,
    "traffic_class": 3,
    "attributes": 3,
    "reserved_2": 1,
}
"""In front of what is asked of the card ("Completer Request Descriptor Formats")."""

COMPLETER_DESCRIPTOR = {
    "lower_address": 7,
    "reserved": 1,
    "address_type": 2,
    "reserved_2": 6,
    "byte_count": 13,
    "locked": 1,
    "reserved_3": 2,
    "length": 11,
    "status": 3,
    "poisoned": 1,
    "reserved_4": 1,
    "requester": 16,
    "tag": 8,
    "completer": 16,
    "completer_enable": 1,
    "traffic_class": 3,
    "attributes": 3,
    "digest": 1,
}
"""In front of what the card answers ("Completer Completion Descriptor Format"): three dwords, data begins in the fourth."""

REQUESTS = {
    0b0000: (0, Type.MEMORY),
    0b0001: (HAS_DATA, Type.MEMORY),
    0b0010: (0, Type.IO),
    0b0011: (HAS_DATA, Type.IO),
    0b0100: (HAS_DATA, Type.FETCH_ADD),
    0b0101: (HAS_DATA, Type.SWAP),
    0b0110: (HAS_DATA, Type.COMPARE_SWAP),
    0b0111: (0, Type.MEMORY_LOCKED),
}
"""Request types of the descriptors ("Transaction Types"), as bits of the format and type. All above are messages."""

MEMORY_WRITE = 0b0001

DESCRIPTOR_DWORDS = 3
"""Of a completion."""


def axi_stream(user_bits: int) -> wiring.Signature:
    """One of the block's streams, seen by who sends; ``tkeep`` has a bit a dword."""
    return wiring.Signature(
        {
            "tdata": Out(128),
            "tkeep": Out(BEAT_DWORDS),
            "tlast": Out(1),
            "tuser": Out(user_bits),
            "tvalid": Out(1),
            "tready": In(1),
        }
    )


def _keep(count):
    return Cat(count > dword for dword in range(BEAT_DWORDS))


class UltraScale(wiring.Component):
    """Between ``PcieCard`` and the block, whose ports have the names of PG213 here. No cycle is added on the way up and with requests; a
    completion's data comes a cycle later where it fills more than the header's beat has room for.
    """

    def __init__(self) -> None:
        super().__init__(
            {name: member.flip() for name, member in BLOCK_PORTS.items()}
            | {
                "s_axis_rq": Out(axi_stream(REQUEST_USER_BITS)),
                "s_axis_cc": Out(axi_stream(COMPLETION_USER_BITS)),
                "m_axis_cq": In(axi_stream(TARGET_USER_BITS)),
                "pcie_cq_np_req": Out(2, init=0b11),
                "pcie_rq_seq_num0": In(NUMBER_BITS),
                "pcie_rq_seq_num_vld0": In(1),
                "user_lnk_up": In(1),
                "cfg_function_status": In(16),
                "cfg_max_payload": In(2),
                "cfg_bus_number": In(8),
                "cfg_flr_in_process": In(4),
                "cfg_flr_done": Out(4),
                "cfg_fc_sel": Out(3, init=CREDIT_LIMIT),
                "cfg_fc_ph": In(8),
                "cfg_fc_pd": In(12),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.pcie_cq_np_req.eq(self.pcie_cq_np_req.init), self.cfg_fc_sel.eq(CREDIT_LIMIT)]
        self._link(m)
        self._requester(m)
        self._target(m)
        self._completer(m)
        return m

    def _link(self, m):
        link = self.link
        report_credit(m, link.credit, self.user_lnk_up, self.cfg_fc_ph, self.cfg_fc_pd)
        m.d.sync += [
            link.up.eq(self.user_lnk_up),
            # Bits 2:0 of a function: I/O space, memory space and bus master enable.
            link.bus_master.eq(self.cfg_function_status[2]),
            link.max_payload.eq(self.cfg_max_payload),
            link.reset.eq(self.cfg_flr_in_process[0]),
            # Told a cycle after the reset was seen, by when it has taken place.
            self.cfg_flr_done.eq(Cat(self.cfg_flr_in_process[0] & link.reset, self.cfg_flr_in_process[1:])),
        ]
        m.d.comb += [
            # Bus, device 0, function 0: the block itself fills in what it was given.
            link.function.eq(self.cfg_bus_number << 8),
            self.acknowledges.eq(self.pcie_rq_seq_num_vld0),
            self.acknowledged.eq(self.pcie_rq_seq_num0),
        ]

    def _requester(self, m):
        beat, axis = self.writes.payload, self.s_axis_rq
        header = data.View(RequestHeader, beat.data)
        descriptor = Signal(data.StructLayout(REQUESTER_DESCRIPTOR))
        is_far = (header.fmt & HAS_FOUR_DWORDS).any()
        m.d.comb += [
            descriptor.address.eq(Mux(is_far, Cat(header.address_second, header.address_first), header.address_first)),
            descriptor.length.eq(header.length),
            descriptor.request.eq(MEMORY_WRITE),
            axis.tdata.eq(Mux(beat.header, descriptor.as_value(), beat.data)),
            axis.tkeep.eq(Mux(beat.header, 0b1111, _keep(beat.count))),
            axis.tlast.eq(beat.last),
            axis.tvalid.eq(self.writes.valid),
            self.writes.ready.eq(axis.tready),
        ]
        with m.If(beat.header):
            # Bits 3:0 and 7:4 are the enables; the sequence number is in two places.
            number = header.tag[:NUMBER_BITS]
            m.d.comb += [
                axis.tuser[:8].eq(Cat(header.first_enable, header.last_enable)),
                axis.tuser[24:28].eq(number[:4]),
                axis.tuser[60:62].eq(number[4:]),
            ]

    def _target(self, m):
        beat, axis = self.requests.payload, self.m_axis_cq
        descriptor = data.View(data.StructLayout(TARGET_DESCRIPTOR), axis.tdata)
        header, within = Signal(RequestHeader), Signal()
        has_data = Signal()
        with m.Switch(descriptor.request):
            for code, (fmt, kind) in REQUESTS.items():
                with m.Case(code):
                    m.d.comb += [has_data.eq(bool(fmt)), header.type.eq(kind)]
            with m.Default():
                m.d.comb += [has_data.eq(~axis.tlast), header.type.eq(Type.MESSAGE)]
        m.d.comb += [
            # The address always has 64 bits here.
            header.fmt.eq(Mux(has_data, Fmt.FOUR_DWORDS_DATA, Fmt.FOUR_DWORDS)),
            header.length.eq(descriptor.length),
            header.attributes.eq(descriptor.attributes[:2]),
            header.attribute_2.eq(descriptor.attributes[2]),
            header.traffic_class.eq(descriptor.traffic_class),
            header.first_enable.eq(axis.tuser[:4]),
            header.last_enable.eq(axis.tuser[4:8]),
            header.tag.eq(descriptor.tag),
            header.requester.eq(descriptor.requester),
            header.address_first.eq(descriptor.address[32:]),
            header.address_second.eq(descriptor.address[:32] & ~0b11),
            beat.header.eq(~within),
            beat.last.eq(axis.tlast),
            beat.data.eq(Mux(within, axis.tdata, header.as_value())),
            beat.count.eq(sum(axis.tkeep)),
            self.requests.valid.eq(axis.tvalid),
            axis.tready.eq(self.requests.ready),
        ]
        with m.If(axis.tvalid & axis.tready):
            m.d.sync += within.eq(~axis.tlast)
        with m.If(~self.user_lnk_up):
            m.d.sync += within.eq(0)

    def _completer(self, m):
        beat, axis = self.completions.payload, self.s_axis_cc
        header = data.View(CompletionHeader, beat.data)
        descriptor = Signal(data.StructLayout(COMPLETER_DESCRIPTOR))
        m.d.comb += [
            descriptor.lower_address.eq(header.lower_address),
            descriptor.byte_count.eq(Mux(header.byte_count == 0, 4096, header.byte_count)),
            descriptor.locked.eq(header.type == Type.COMPLETION_LOCKED),
            descriptor.length.eq(header.length),
            descriptor.status.eq(header.status),
            descriptor.requester.eq(header.requester),
            descriptor.tag.eq(header.tag),
            descriptor.traffic_class.eq(header.traffic_class),
            descriptor.attributes.eq(Cat(header.attributes, header.attribute_2)),
        ]
        # Three dwords are always held back: the descriptor, then what is behind the first dword of each beat.
        held, has_held = Signal(32 * DESCRIPTOR_DWORDS), Signal()
        rest, ends = Signal(range(DESCRIPTOR_DWORDS + 1)), Signal()  # dwords of the last beat that wait alone
        first, behind = beat.data[:32], beat.data[32:]
        m.d.comb += [axis.tdata.eq(Cat(held, first)), axis.tvalid.eq(ends | (has_held & self.completions.valid))]
        with m.If(ends):
            m.d.comb += [axis.tlast.eq(1), axis.tkeep.eq(_keep(rest))]
            with m.If(axis.tready):
                m.d.sync += [ends.eq(0), has_held.eq(0)]
        with m.Elif(has_held):
            is_whole = beat.last & (beat.count == 1)
            m.d.comb += [axis.tlast.eq(is_whole), axis.tkeep.eq(0b1111), self.completions.ready.eq(axis.tready)]
            with m.If(self.completions.valid & axis.tready):
                m.d.sync += [
                    held.eq(behind),
                    has_held.eq(~is_whole),
                    rest.eq(beat.count - 1),
                    ends.eq(beat.last & ~is_whole),
                ]
        with m.Else():
            m.d.comb += self.completions.ready.eq(1)
            with m.If(self.completions.valid):
                m.d.sync += [held.eq(descriptor), has_held.eq(1), rest.eq(DESCRIPTOR_DWORDS), ends.eq(beat.last)]
        with m.If(~self.user_lnk_up):
            m.d.sync += [has_held.eq(0), ends.eq(0)]
