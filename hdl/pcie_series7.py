"""The adapter to AMD's 7 Series Integrated Block for PCI Express (PG054), with 64-bit streams (docs/pcie.md).

How the block is to be configured stands in ``hdl/boards/pcie_7x.py``. Its clock is ``sync``, and ``rst`` its ``user_reset_out``.

The streams carry TLPs as they are, two dwords a beat from the header's first one on, without gaps. A header's dword has the bits of the
specification's drawings; in a dword of data the byte with the lowest address is the highest one.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.dma_pcie import BLOCK_PORTS, NUMBER_BITS, report_credit
from hdl.pcie_tlp import BEAT_DWORDS, DWORD_BYTES, HAS_FOUR_DWORDS, RequestHeader, TlpBeat, Type

AXI_DWORDS = 2

SEND_USER_BITS, RECEIVE_USER_BITS = 4, 22
"""tuser of the streams TX and RX."""

DISCONTINUE = 0b1000
"""In tuser of TX: this TLP is void."""

CREDIT_LIMIT = 0b101
"""fc_sel: what the other side has granted."""

BUS_MASTER_BIT, MAX_PAYLOAD_BITS = 2, slice(5, 8)
"""Where these stand in cfg_command and cfg_dcommand: the registers of the specification (7.5.1.1, 7.8.4)."""


def axi_stream(user_bits: int) -> wiring.Signature:
    """One of the block's streams, seen by who sends; ``tkeep`` has a bit a byte, all four of a dword alike."""
    return wiring.Signature(
        {
            "tdata": Out(32 * AXI_DWORDS),
            "tkeep": Out(DWORD_BYTES * AXI_DWORDS),
            "tlast": Out(1),
            "tuser": Out(user_bits),
            "tvalid": Out(1),
            "tready": In(1),
        }
    )


class Series7(wiring.Component):
    """Between ``PcieCard`` and the block, whose ports have the names of PG054 here.

    Upwards a beat of the block's goes out in every cycle; a completion goes before a write, and neither comes into the middle of the
    other. A write is acknowledged in the cycle behind that in which the block took its last beat: from there on it is lost with the link alone. Downwards
    a dword is taken in a cycle. Completions are passed over: the card asks for nothing.

    The block has no function level reset. When the link goes down in the middle of a TLP, the block takes what comes for the rest of that TLP
    until a beat is the last one, even once the link is up again; so one is sent that ends it. What the block still has of a TLP that came
    from a link that went down is passed over.
    """

    def __init__(self) -> None:
        super().__init__(
            {name: member.flip() for name, member in BLOCK_PORTS.items()}
            | {
                "s_axis_tx": Out(axi_stream(SEND_USER_BITS)),
                "m_axis_rx": In(axi_stream(RECEIVE_USER_BITS)),
                "user_lnk_up": In(1),
                "fc_sel": Out(3, init=CREDIT_LIMIT),
                "fc_ph": In(8),
                "fc_pd": In(12),
                "cfg_command": In(16),
                "cfg_dcommand": In(16),
                "cfg_bus_number": In(8),
                "cfg_device_number": In(5),
                "cfg_function_number": In(3),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._link(m)
        # The card's streams are those of this link once the reset that the last one's end was for it has passed.
        was_up, is_open = Signal(), Signal()
        m.d.sync += was_up.eq(self.link.up)
        m.d.comb += is_open.eq(self.link.up & was_up)
        self._send(m, is_open)
        self._receive(m, is_open)
        return m

    def _link(self, m):
        link = self.link
        report_credit(m, link.credit, self.user_lnk_up, self.fc_ph, self.fc_pd)
        m.d.comb += [
            self.fc_sel.eq(CREDIT_LIMIT),
            link.function.eq(Cat(self.cfg_function_number, self.cfg_device_number, self.cfg_bus_number)),
        ]
        m.d.sync += [
            link.up.eq(self.user_lnk_up),
            link.bus_master.eq(self.cfg_command[BUS_MASTER_BIT]),
            link.max_payload.eq(self.cfg_dcommand[MAX_PAYLOAD_BITS]),
        ]

    def _send(self, m, is_open):
        axis = self.s_axis_tx
        # A TLP that the link's end has cut off is ended first.
        in_packet, within, void = Signal(), Signal(), Signal()
        with m.If(axis.tvalid & axis.tready):
            m.d.sync += in_packet.eq(~axis.tlast)
        m.d.comb += void.eq(in_packet & ~within)

        # Whose TLP goes out is settled as its first beat is offered.
        is_write = Signal()
        of_write = Mux(within, is_write, ~self.completions.valid)
        beat, valid, taken = Signal(TlpBeat), Signal(), Signal()
        m.d.comb += [
            beat.eq(Mux(of_write, self.writes.payload, self.completions.payload)),
            valid.eq(is_open & ~void & Mux(of_write, self.writes.valid, self.completions.valid)),
            self.writes.ready.eq(taken & of_write),
            self.completions.ready.eq(taken & ~of_write),
        ]
        with m.If(valid):
            m.d.sync += [within.eq(1), is_write.eq(of_write)]

        # Two dwords at a time, of the beat from ``at`` on, behind the one that was left over from the beat before.
        dwords = data.View(data.ArrayLayout(32, BEAT_DWORDS), beat.data)
        ours = Cat(Mux(beat.header, dwords[lane], _swapped(dwords[lane])) for lane in range(BEAT_DWORDS))
        at, left = Signal(range(BEAT_DWORDS)), Signal(range(BEAT_DWORDS + 1))
        held, has_held = Signal(32), Signal()
        first, second = ours.word_select(at, 32), ours.word_select((at + 1)[:2], 32)
        moves = Mux(has_held | (left == 1), 1, 2)
        left_then = left - moves
        ends, goes = Signal(), Signal()
        m.d.comb += [
            left.eq(beat.count - at),
            ends.eq(beat.last & (left_then == 0)),
            axis.tvalid.eq(valid | void),
            axis.tdata.eq(Mux(has_held, Cat(held, first), Cat(first, second))),
            axis.tkeep.eq(Mux(~void & ~has_held & (left == 1), 0x0F, 0xFF)),
            axis.tlast.eq(ends | void),
            axis.tuser.eq(Mux(void, DISCONTINUE, 0)),
            goes.eq(valid & axis.tready),
            # One dword that nothing comes behind in its beat waits for the next beat.
            taken.eq(goes & ((left_then == 0) | ((left_then == 1) & ~beat.last))),
        ]
        with m.If(goes):
            m.d.sync += [at.eq(at + moves), has_held.eq(0)]
            with m.If(taken):
                m.d.sync += [
                    at.eq(0),
                    has_held.eq(left_then == 1),
                    held.eq(ours.word_select((at + moves)[:2], 32)),
                    within.eq(~beat.last),
                ]
        with m.If(~is_open):
            m.d.sync += [at.eq(0), has_held.eq(0), within.eq(0)]

        number = Signal(NUMBER_BITS)
        with m.If(goes & beat.header):
            m.d.sync += number.eq(data.View(RequestHeader, beat.data).tag[:NUMBER_BITS])
        m.d.comb += self.acknowledged.eq(number)
        m.d.sync += self.acknowledges.eq(goes & ends & of_write)

    def _receive(self, m, is_open):
        axis, beat = self.m_axis_rx, self.requests.payload
        dwords = data.View(data.ArrayLayout(32, AXI_DWORDS), axis.tdata)
        is_second, in_header, is_far = Signal(), Signal(init=1), Signal()
        lane, kept = Signal(range(BEAT_DWORDS)), Signal(data.ArrayLayout(32, BEAT_DWORDS))
        dword, ends_axis, ends, closes, steps = Signal(32), Signal(), Signal(), Signal(), Signal()
        kind, is_completion = Signal(5), Signal()
        within, skips = Signal(), Signal()
        m.d.comb += [
            dword.eq(Mux(in_header, dwords[is_second], _swapped(dwords[is_second]))),
            kind.eq(dword[24:29]),
            is_completion.eq(in_header & (lane == 0) & ((kind == Type.COMPLETION) | (kind == Type.COMPLETION_LOCKED))),
            ends_axis.eq(is_second | ~axis.tkeep[DWORD_BYTES]),
            ends.eq(axis.tlast & ends_axis),
            closes.eq(ends | (lane == Mux(in_header & ~is_far, BEAT_DWORDS - 2, BEAT_DWORDS - 1))),
        ]
        passes = is_open & ~skips & ~is_completion
        m.d.comb += [
            steps.eq(axis.tvalid & passes & (~closes | ~self.requests.valid | self.requests.ready)),
            axis.tready.eq(Mux(passes, steps & ends_axis, 1)),
        ]
        with m.If(self.requests.ready):
            m.d.sync += self.requests.valid.eq(0)
        with m.If(steps):
            m.d.sync += [is_second.eq(~ends_axis), kept[lane].eq(dword), lane.eq(lane + 1)]
            with m.If(in_header & (lane == 0)):
                m.d.sync += is_far.eq(dword[29:32] & HAS_FOUR_DWORDS)
            with m.If(closes):
                m.d.sync += [
                    lane.eq(0),
                    in_header.eq(ends),
                    self.requests.valid.eq(1),
                    beat.data.eq(Cat(Mux(lane == n, dword, kept[n]) for n in range(BEAT_DWORDS))),
                    beat.count.eq(lane + 1),
                    beat.header.eq(in_header),
                    beat.last.eq(ends),
                ]
        # The rest of a TLP that is passed over.
        with m.If(axis.tvalid & axis.tready):
            m.d.sync += within.eq(~axis.tlast)
        with m.If(~is_open):
            m.d.sync += [
                skips.eq(Mux(axis.tvalid, ~axis.tlast, within)),
                is_second.eq(0),
                lane.eq(0),
                in_header.eq(1),
                self.requests.valid.eq(0),
            ]
        with m.Elif(axis.tvalid & axis.tready & axis.tlast):
            m.d.sync += skips.eq(0)
        with m.Elif(axis.tvalid & is_completion):
            m.d.sync += skips.eq(1)


def _swapped(dword):
    """Its bytes the other way round."""
    return Cat(dword.word_select(byte, 8) for byte in reversed(range(DWORD_BYTES)))
