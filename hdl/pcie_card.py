"""The card behind a PCI Express hard block: lines go up as memory writes, BAR0 has registers and packets (docs/pcie.md)."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from hdl.dma_pcie import BLOCK_PORTS, POINTER_BITS, LineWriter
from hdl.link_session import STALLED_CYCLES
from hdl.pcie_bar import BarTarget
from hdl.pcie_map import (
    BOARD_BYTE,
    BOARD_FIELDS,
    LINK_FIELDS,
    PCIE_VERSION,
    PROGRESS_FIELDS,
    SESSION_BITS,
    WINDOW_BYTE,
    WINDOW_BYTES,
    Board,
)
from hdl.pcie_tlp import pack
from hdl.pcie_window import PacketWindow

WORD_BYTES = 8

LinkCounts = data.StructLayout(LINK_FIELDS)
Progress = data.StructLayout(PROGRESS_FIELDS)


class PcieCard(wiring.Component):
    """Card, DMA and BAR0. Another component with the ports of a card may stand in its place. ``is_open`` says that a host has begun a session,
    ``packet`` that the card is done with a packet, ``stalled`` that it waits for credit.

    Its other ports are BLOCK_PORTS. A hard block with one stream for writes and completions may take either first: a completion waits
    for no write. While ``link.up`` is low all is in reset.
    """

    def __init__(self, card: wiring.Component):
        self._card = card
        super().__init__({**BLOCK_PORTS, **dict.fromkeys(("is_open", "packet", "stalled"), Out(1))})

    def elaborate(self, platform):
        m = Module()
        down, restarts = Signal(init=1), Signal(init=1)
        on_link = ResetInserter(down)
        in_session = ResetInserter(down | restarts)
        m.submodules.writer = writer = on_link(LineWriter())
        m.submodules.target = target = on_link(BarTarget())
        m.submodules.window = window = in_session(PacketWindow())
        m.submodules.card = card = in_session(self._card)
        wiring.connect(m, card.memory, writer.i)
        wiring.connect(m, writer.o, wiring.flipped(self.writes))
        wiring.connect(m, window.o, card.packets)
        wiring.connect(m, wiring.flipped(self.requests), target.requests)
        wiring.connect(m, target.completions, wiring.flipped(self.completions))
        m.d.comb += [
            writer.link.eq(self.link),
            writer.drop.eq(restarts),
            writer.acknowledges.eq(self.acknowledges),
            writer.acknowledged.eq(self.acknowledged),
            target.function.eq(self.link.function),
        ]

        # What is written: registers once their upper half is, the window byte by byte.
        write = target.write
        byte = Signal(16)
        lower, word = Signal(32), Signal(64)
        writes_word = Signal()
        m.d.comb += [
            byte.eq(write.address << 2),
            word.eq(Cat(lower, write.data)),
            writes_word.eq(target.writes & write.address[0] & (write.enable == 0b1111)),
            window.row.eq((byte % WINDOW_BYTES) >> 3),
            window.data.eq(write.data.replicate(2)),
            card.bus.write_data.eq(word),
        ]
        with m.If(target.writes & ~write.address[0] & (write.enable == 0b1111)):
            m.d.sync += lower.eq(write.data)
        in_registers, in_board = byte < BOARD_BYTE, (byte >= BOARD_BYTE) & (byte < 2 * BOARD_BYTE)
        with m.If(target.writes & (byte >= WINDOW_BYTE) & (byte < WINDOW_BYTE + WINDOW_BYTES)):
            m.d.comb += window.enable.eq(Mux(write.address[0], write.enable << 4, write.enable))

        # A session begins by a reset; any other reset ends it.
        session, written = Signal(SESSION_BITS), Signal(64)
        m.d.comb += window.written.eq(written)
        m.d.sync += [down.eq(~self.link.up), restarts.eq(self.link.reset)]
        with m.If(writes_word & in_board):
            with m.Switch(write.address[1:4]):
                with m.Case(Board.SESSION):
                    m.d.sync += [session.eq(word), restarts.eq(1), written.eq(0)]
                with m.Case(Board.WRITTEN):
                    m.d.sync += written.eq(word)
        with m.If(self.link.reset | down):
            m.d.sync += [session.eq(0), written.eq(0)]

        finished = Signal.like(card.finished)
        m.d.sync += finished.eq(card.finished)
        m.d.comb += [
            self.is_open.eq(session != 0),
            self.packet.eq(card.finished != finished),
            self.stalled.eq(card.stalled),
        ]

        # What is read. Numbers from BOARD_BYTE on are the board's.
        progress, counts = Signal(Progress), Signal(LinkCounts, reset_less=True)
        board = pack(BOARD_FIELDS, version=PCIE_VERSION)
        number = target.read_address
        read_number = Signal.like(number)
        m.d.sync += read_number.eq(number)
        writes_register = Signal()
        m.d.comb += [
            writes_register.eq(writes_word & in_registers),
            card.bus.write.eq(writes_register),
            card.bus.address.eq(Mux(writes_register, write.address[1:], number)),
        ]
        first_of_board, first_behind = BOARD_BYTE // WORD_BYTES, 2 * BOARD_BYTE // WORD_BYTES
        with m.If(read_number < first_of_board):
            # The bus ignores what is above its addresses.
            with m.If(read_number >> len(card.bus.address) == 0):
                m.d.comb += target.read_data.eq(card.bus.read_data)
        with m.Elif(read_number < first_behind):
            with m.Switch(read_number - first_of_board):
                for each, value in (
                    (Board.BOARD, board),
                    (Board.TAKEN, window.taken),
                    (Board.PROGRESS, progress),
                    (Board.LINK, counts),
                ):
                    with m.Case(each):
                        m.d.comb += target.read_data.eq(value)

        # What the card has finished is said once the lines that it wrote until then have been sent.
        looked_finished, looked_entered = Signal(32), Signal(POINTER_BITS)
        shown = Signal(32)
        is_settled = Signal()
        m.d.comb += [
            is_settled.eq((writer.settled - looked_entered)[POINTER_BITS - 1] == 0),
            progress.finished.eq(shown),
            progress.session.eq(session),
        ]
        with m.If(is_settled):
            m.d.sync += [
                shown.eq(looked_finished),
                looked_finished.eq(card.finished),
                looked_entered.eq(writer.entered),
            ]
        waited = Signal(range(STALLED_CYCLES + 1))
        m.d.comb += progress.stalled.eq((waited == STALLED_CYCLES) & (writer.entered == writer.settled))
        with m.If(~card.stalled | card.bus.write):
            m.d.sync += waited.eq(0)
        with m.Elif(waited != STALLED_CYCLES):
            m.d.sync += waited.eq(waited + 1)
        with m.If(restarts | down):
            m.d.sync += [shown.eq(0), looked_finished.eq(0), looked_entered.eq(writer.settled), waited.eq(0)]

        was_up, was_reset = Signal(), Signal()
        m.d.sync += [
            was_up.eq(self.link.up),
            was_reset.eq(self.link.reset),
            counts.link_downs.eq(counts.link_downs + (was_up & ~self.link.up)),
            counts.function_resets.eq(counts.function_resets + (self.link.reset & ~was_reset)),
            counts.returns.eq(counts.returns + writer.returns),
            counts.dropped.eq(counts.dropped + writer.dropped),
        ]
        return m
