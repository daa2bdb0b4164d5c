"""Frames and raw messages into two rings of host memory (docs/ring.md)."""

from amaranth.hdl import Array, Cat, Module, Mux, Shape, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, Message, Parsed
from hdl.flow import Parser
from hdl.frame import FRAME_BYTES, frame_layout
from hdl.limits import ENTRY_LIMIT
from hdl.payload_store import Release, RowAddress
from hdl.ring_layout import LINE_BYTES

WORDS = LINE_BYTES // LANES

STORED_WORDS = 1 << 11
"""Counts the words of a message, of at most 6144 bytes, and the row behind them."""

MemoryWrite = data.StructLayout({"address": 64, "data": data.ArrayLayout(8, LINE_BYTES)})
"""A whole line of host memory. The address is a multiple of 64; the line's last byte must not be
visible before the others."""

RingSettings = data.StructLayout(
    {
        "frames_base": 64,
        "frame_slots_log2": 6,
        "payload_base": 64,
        "payload_bytes_log2": 6,
        "frames_read": 64,
        "payload_read": 64,
    }
)
"""The registers of the same names."""


class ParsedQueue(wiring.Component):
    """Holds a parser's frames until the message that they belong to is complete.

    So deep that a message with ``ENTRY_LIMIT`` frames fits: a message's bytes are written
    before its frames, and they are complete only at its end.
    """

    i: In(stream.Signature(Parsed))
    frames: Out(stream.Signature(frame_layout()))
    messages: Out(stream.Signature(Message))

    def __init__(self, frames: int = ENTRY_LIMIT):
        self._depth = frames
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.frames = frames = fifo.SyncFIFOBuffered(width=frame_layout().size, depth=self._depth)
        m.submodules.messages = messages = fifo.SyncFIFOBuffered(width=Message.size, depth=16)
        taken = Signal()
        m.d.comb += [
            self.i.ready.eq(frames.w_rdy & messages.w_rdy),
            taken.eq(self.i.valid & self.i.ready),
            frames.w_data.eq(self.i.payload.frame),
            frames.w_en.eq(taken & self.i.payload.has_frame),
            messages.w_data.eq(self.i.payload.message),
            messages.w_en.eq(taken & self.i.payload.has_message),
            self.frames.valid.eq(frames.r_rdy),
            self.frames.payload.eq(frames.r_data),
            frames.r_en.eq(self.frames.ready),
            self.messages.valid.eq(messages.r_rdy),
            self.messages.payload.eq(messages.r_data),
            messages.r_en.eq(self.messages.ready),
        ]
        return m


class RingWriter(wiring.Component):
    """Writes each message's bytes, then its frames, as far as the host's credit goes.

    What the two parsers say is taken packet by packet in ``order``. A message of n bytes with
    f frames takes ``ceil(n / 8) + f + 2`` cycles, a packet's end that comes alone 1. ``packet_end`` goes
    with the last release of a packet. ``stalled`` is high in a cycle that waits for credit, ``wrote_frame``
    for each frame written, ``wrote_payload`` for a message whose length is ``payload_length``.
    """

    fix: In(stream.Signature(Parsed))
    sbe: In(stream.Signature(Parsed))
    order: In(stream.Signature(Parser))
    settings: In(RingSettings)
    o: Out(stream.Signature(MemoryWrite))

    read_address: Out(RowAddress)
    read_data: In(data.ArrayLayout(8, LANES))
    release: Out(Release)
    releases: Out(1)
    packet_end: Out(1)

    stalled: Out(1)
    wrote_frame: Out(1)
    wrote_payload: Out(1)
    payload_length: Out(16)

    def elaborate(self, platform):
        m = Module()
        m.submodules.fix_queue = fix_queue = ParsedQueue(frames=16)
        m.submodules.sbe_queue = sbe_queue = ParsedQueue()
        m.submodules.order_queue = order = fifo.SyncFIFOBuffered(width=Shape.cast(Parser).width, depth=64)
        wiring.connect(m, wiring.flipped(self.fix), fix_queue.i)
        wiring.connect(m, wiring.flipped(self.sbe), sbe_queue.i)
        m.d.comb += [
            order.w_data.eq(self.order.payload),
            order.w_en.eq(self.order.valid),
            self.order.ready.eq(order.w_rdy),
        ]

        # The queue whose turn it is.
        from_fix = order.r_data == Parser.FIX
        frame, frame_valid, take_frame = Signal(frame_layout()), Signal(), Signal()
        head, head_valid, take_head = Signal(Message), Signal(), Signal()
        m.d.comb += [
            frame.eq(Mux(from_fix, fix_queue.frames.payload.as_value(), sbe_queue.frames.payload.as_value())),
            frame_valid.eq(Mux(from_fix, fix_queue.frames.valid, sbe_queue.frames.valid)),
            head.eq(Mux(from_fix, fix_queue.messages.payload.as_value(), sbe_queue.messages.payload.as_value())),
            head_valid.eq(order.r_rdy & Mux(from_fix, fix_queue.messages.valid, sbe_queue.messages.valid)),
            fix_queue.frames.ready.eq(take_frame & from_fix),
            sbe_queue.frames.ready.eq(take_frame & ~from_fix),
            fix_queue.messages.ready.eq(take_head & from_fix),
            sbe_queue.messages.ready.eq(take_head & ~from_fix),
        ]

        settings = self.settings
        frames_written, payload_written = Signal(64), Signal(64)
        slots, ring_bytes = 1 << settings.frame_slots_log2, 1 << settings.payload_bytes_log2

        write = Signal(MemoryWrite)
        writes = Signal()
        free = Signal()
        m.d.comb += free.eq(~self.o.valid | self.o.ready)
        with m.If(free):
            m.d.sync += [self.o.valid.eq(writes), self.o.payload.eq(write)]

        # A message: where its bytes go, and how many of its frames are left.
        offset = Signal(32)
        frames_left = Signal(16)
        fetched = Signal(range(STORED_WORDS))  # rows of the store asked for
        word = Signal(range(STORED_WORDS))  # words of the message put together
        row = Signal(data.ArrayLayout(8, LANES))
        line = Signal(data.ArrayLayout(8 * LANES, WORDS))
        m.d.comb += [
            self.read_address.flow.eq(head.flow),
            self.read_address.row.eq((head.start >> 3) + fetched),
            self.payload_length.eq(head.length),
            self.release.flow.eq(head.flow),
            self.packet_end.eq(head.packet_end),
        ]

        def finish():
            """The message is done: its bytes may go, and the next one comes."""
            m.d.comb += [
                take_head.eq(1),
                self.releases.eq(1),
                self.release.position.eq(Mux(head.packet_end, head.release, head.start + head.length)),
                order.r_en.eq(head.packet_end),
            ]

        with m.FSM():
            with m.State("NEXT"):
                begin = Signal(64)
                lap_left = Signal(64)
                padded = Signal(17)
                m.d.comb += [
                    padded.eq((head.length + LINE_BYTES - 1) & ~(LINE_BYTES - 1)),
                    lap_left.eq(ring_bytes - (payload_written & (ring_bytes - 1))),
                    begin.eq(payload_written + Mux(padded > lap_left, lap_left, 0)),
                ]
                m.d.comb += self.read_address.row.eq(head.start >> 3)
                with m.If(head_valid & (head.frames == 0)):
                    finish()
                with m.Elif(head_valid):
                    with m.If((begin + padded - settings.payload_read)[:64] > ring_bytes):
                        m.d.comb += self.stalled.eq(1)
                    with m.Else():
                        m.d.comb += self.wrote_payload.eq(1)
                        m.d.sync += [
                            offset.eq(begin & (ring_bytes - 1)),
                            payload_written.eq(begin + padded),
                            frames_left.eq(head.frames),
                            fetched.eq(1),
                            word.eq(0),
                        ]
                        m.next = "FRAMES"
                        with m.If(head.length != 0):
                            m.next = "FETCH"

            with m.State("FETCH"):
                # The message's first row is here; a word needs the next one too.
                m.d.sync += [row.eq(self.read_data), fetched.eq(fetched + 1)]
                m.next = "COPY"

            with m.State("COPY"):
                # Word `word` from the row before and the row that has come now.
                pair = Cat(row, self.read_data)
                turned = Array([pair[8 * n : 8 * (n + LANES)] for n in range(LANES)])[head.start[:3]]
                left = Signal(16)
                masked = Signal(8 * LANES)
                last = Signal()
                line_word = word[: WORDS.bit_length() - 1]
                m.d.comb += [
                    left.eq(head.length - (word << 3)),
                    masked.eq(turned & Cat((left > n).replicate(8) for n in range(LANES))),
                    last.eq(left <= LANES),
                    write.address.eq(settings.payload_base + offset + ((word << 3) & ~(LINE_BYTES - 1))),
                    write.data.eq(
                        Cat(Mux(line_word == n, masked, Mux(line_word > n, line[n], 0)) for n in range(WORDS))
                    ),
                ]
                whole_line = last | (line_word == WORDS - 1)
                with m.If(~whole_line | free):
                    m.d.comb += writes.eq(whole_line)
                    m.d.sync += [
                        row.eq(self.read_data),
                        line[line_word].eq(masked),
                        word.eq(word + 1),
                        fetched.eq(fetched + 1),
                    ]
                    with m.If(last):
                        m.next = "FRAMES"
                with m.Else():
                    # The row that is here must come again.
                    m.d.comb += self.read_address.row.eq((head.start >> 3) + fetched - 1)

            with m.State("FRAMES"):
                full = (frames_written - settings.frames_read)[:64] >= slots
                complete = Signal(frame_layout())
                m.d.comb += [
                    self.stalled.eq(full),
                    complete.eq(frame),
                    complete.payload_offset.eq(offset),
                    complete.payload_length.eq(head.length),
                    complete.generation.eq((frames_written >> settings.frame_slots_log2) + 1),
                    write.address.eq(settings.frames_base + (frames_written & (slots - 1)) * FRAME_BYTES),
                    write.data.eq(complete),
                ]
                with m.If(frame_valid & ~full & free):
                    m.d.comb += [writes.eq(1), take_frame.eq(1), self.wrote_frame.eq(1)]
                    m.d.sync += [frames_written.eq(frames_written + 1), frames_left.eq(frames_left - 1)]
                    with m.If(frames_left == 1):
                        finish()
                        m.next = "NEXT"
        return m
