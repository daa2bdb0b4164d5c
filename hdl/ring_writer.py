"""Frames and raw messages into two rings of host memory (docs/ring.md)."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, Message, Parsed
from hdl.fix_entries import FixEntries
from hdl.fixed_point import Tables
from hdl.flow import Parser
from hdl.frame import FRAME_BYTES, Flag, Kind, frame_layout
from hdl.limits import ENTRY_LIMIT
from hdl.message_reader import MessageReader, Placer
from hdl.payload_store import Release, RowAddress
from hdl.ring_layout import LINE_BYTES

WORDS = LINE_BYTES // LANES

QUEUED_FRAMES = {Parser.FIX: 16, Parser.SBE: ENTRY_LIMIT}
"""Frames that may wait for their message's end: a FIX message hands over one, an SBE message all of its own."""

KIND_OF_ENTRY = {**dict.fromkeys("01EFJ", Kind.BOOK_UPDATE), "2": Kind.TRADE}
"""MDEntryType to kind; any other is STATISTIC."""

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

    So deep that all ``frames`` of a message fit: its bytes are written before them, and they are complete only at its end.
    """

    i: In(stream.Signature(Parsed))
    frames: Out(stream.Signature(frame_layout()))
    messages: Out(stream.Signature(Message))

    def __init__(self, frames: int):
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
    f frames takes ``ceil(n / 8) + f`` cycles, but at least 3; a packet's end that comes alone 2.

    The bytes of a message with ``entries`` go through ``FixEntries`` while they are written, which says whether any entry is bad,
    and once more, when each entry becomes a frame: that takes about ``2 * (ceil(n / 8) + FixEntries.LATENCY)`` cycles.

    ``packet_end`` goes with the last release of a packet. ``stalled`` is high in a cycle that waits for credit,
    ``wrote_frame`` for each frame written, ``wrote_payload`` for a message whose length is ``payload_length``.

    Where there is only one of the ``parsers``, what the other one would need is left out. ``tables`` is where ``FixEntries`` has its
    powers of ten.
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

    def __init__(self, parsers: Sequence[Parser] = tuple(Parser), tables: Tables = Tables.BLOCK_RAM):
        self._parsers = parsers
        self._tables = tables
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        sources = {Parser.FIX: self.fix, Parser.SBE: self.sbe}
        queues = {parser: ParsedQueue(QUEUED_FRAMES[parser]) for parser in self._parsers}
        for parser, queue in queues.items():
            m.submodules[f"{parser.name.lower()}_queue"] = queue
            wiring.connect(m, wiring.flipped(sources[parser]), queue.i)

        def of_parser(parser, values):
            """The value of whichever parser it is."""
            first, *others = (values[each] for each in self._parsers)
            return Mux(parser == self._parsers[0], first, *others) if others else first

        m.submodules.order_queue = order = fifo.SyncFIFOBuffered(width=Shape.cast(Parser).width, depth=64)
        m.d.comb += [
            order.w_data.eq(self.order.payload),
            order.w_en.eq(self.order.valid),
            self.order.ready.eq(order.w_rdy),
        ]
        settings = self.settings

        # Placed: messages in the packets' order, each with its place in the ring.
        m.submodules.placer = placer = Placer()
        head = placer.i.payload
        m.d.comb += [
            placer.parser.eq(order.r_data),
            placer.payload_bytes_log2.eq(settings.payload_bytes_log2),
            placer.payload_read.eq(settings.payload_read),
            head.eq(of_parser(order.r_data, {each: queues[each].messages.payload.as_value() for each in queues})),
            placer.i.valid.eq(
                order.r_rdy & of_parser(order.r_data, {each: queues[each].messages.valid for each in queues})
            ),
            *(queues[each].messages.ready.eq(order.r_rdy & (order.r_data == each) & placer.i.ready) for each in queues),
            order.r_en.eq(placer.i.ready & head.packet_end),
            self.wrote_payload.eq(placer.places),
            self.payload_length.eq(head.length),
        ]

        # Read: their bytes.
        m.submodules.reader = reader = MessageReader()
        wiring.connect(m, placer.o, reader.i)
        m.d.comb += [self.read_address.eq(reader.read_address), reader.read_data.eq(self.read_data)]

        # Written: lines of bytes, gathered word by word where they leave from, and frames. `current` is the message whose
        # frames are due.
        write = self.o.payload
        line = data.View(data.ArrayLayout(8 * LANES, WORDS), write.data.as_value())
        writes = Signal()
        free = Signal()
        m.d.comb += free.eq(~self.o.valid | self.o.ready)
        with m.If(free):
            m.d.sync += self.o.valid.eq(writes)

        current = Signal.like(reader.message)
        frames_left = Signal(16)
        slots = 1 << settings.frame_slots_log2
        frames_written, full = Signal(64), Signal()
        # Whether a frame goes is known late: it only chooses.
        unread = (frames_written - settings.frames_read)[:64]
        m.d.sync += full.eq(Mux(self.wrote_frame, unread >= slots - 1, unread >= slots))
        with m.If(self.wrote_frame):
            m.d.sync += frames_written.eq(frames_written + 1)

        frame, frame_valid, take_frame = Signal(frame_layout()), Signal(), Signal()
        m.d.comb += [
            frame.eq(of_parser(current.parser, {each: queues[each].frames.payload.as_value() for each in queues})),
            frame_valid.eq(of_parser(current.parser, {each: queues[each].frames.valid for each in queues})),
            *(queues[each].frames.ready.eq(take_frame & (current.parser == each)) for each in queues),
        ]

        def finish(placed):
            """The message is done: its bytes may go."""
            message = placed.message
            m.d.comb += [
                self.releases.eq(1),
                self.packet_end.eq(message.packet_end),
                self.release.flow.eq(message.flow),
                self.release.position.eq(Mux(message.packet_end, message.release, message.start + message.length)),
            ]

        frame_waits = Signal()
        m.d.comb += self.stalled.eq(placer.stalled | (frame_waits & full))

        def write_frame(content):
            """One frame, if the host has room for it; whether it goes."""
            complete = Signal(frame_layout())
            goes = Signal()
            m.d.comb += [
                goes.eq(frame_waits & ~full & free),
                complete.eq(content),
                complete.payload_offset.eq(current.offset),
                complete.payload_length.eq(current.message.length),
                complete.generation.eq((frames_written >> settings.frame_slots_log2) + 1),
                writes.eq(goes),
                self.wrote_frame.eq(goes),
            ]
            with m.If(goes):
                m.d.sync += [
                    write.address.eq(settings.frames_base + (frames_written & (slots - 1)) * FRAME_BYTES),
                    write.data.eq(complete),
                ]
            return goes

        # The entries of a message: first what is wrong with any of them, then one by one.
        scanned, causes, has_entries = Signal(), Signal(16), Signal()
        reads_entries = Parser.FIX in self._parsers
        if reads_entries:
            m.submodules.entries = entries = FixEntries(self._tables)
            m.d.comb += [
                entries.i.payload.eq(reader.o.payload),
                # The message's frame waits at the queue's head until its entries are written.
                entries.incremental.eq(queues[Parser.FIX].frames.payload.message_type == ord("X")),
            ]
            with m.If(~scanned):
                m.d.comb += entries.o.ready.eq(1)
                with m.If(entries.o.valid):
                    m.d.sync += [
                        causes.eq(causes | (entries.o.payload.flags & (Flag.VALUE | Flag.RANGE))),
                        has_entries.eq(has_entries | entries.o.payload.present),
                        scanned.eq(entries.o.payload.last),
                    ]

        words = Signal(16)  # of the message, before this one
        second_pass = Signal()
        with m.FSM():
            with m.State("BYTES"):
                message, word = reader.message.message, reader.o.payload
                line_word = words[: WORDS.bit_length() - 1]
                whole_line = (word.last & (word.count != 0)) | (line_word == WORDS - 1)
                entries_free, read_on = Signal(init=1), Signal()
                m.d.comb += [
                    reader.o.ready.eq(free & entries_free),
                    read_on.eq(reader.o.valid & reader.o.ready),
                ]
                if reads_entries:
                    m.d.comb += [
                        entries.i.valid.eq(reader.o.valid & free & message.entries),
                        entries_free.eq(entries.i.ready | ~message.entries),
                        reader.again.eq(message.entries),
                    ]
                with m.If(read_on):
                    m.d.comb += writes.eq(whole_line)
                    m.d.sync += [
                        write.address.eq(
                            settings.payload_base + reader.message.offset + ((words << 3) & ~(LINE_BYTES - 1))
                        ),
                        words.eq(words + 1),
                    ]
                    # The first word clears those behind it.
                    for n in range(WORDS):
                        with m.If((line_word == n) | (line_word == 0)):
                            m.d.sync += line[n].eq(Mux(line_word == n, word.data.as_value(), 0))
                    with m.If(word.last):
                        m.d.sync += [words.eq(0), current.eq(reader.message), frames_left.eq(message.frames)]
                        with m.If(message.frames == 0):
                            finish(reader.message)
                        with m.Else():
                            m.next = "FRAMES"
                        if reads_entries:
                            with m.If(message.entries):
                                m.d.sync += second_pass.eq(1)
                                m.next = "ENTRIES"

            if reads_entries:
                with m.State("ENTRIES"):
                    m.d.comb += [
                        entries.i.valid.eq(second_pass & reader.o.valid),
                        reader.o.ready.eq(second_pass & entries.i.ready),
                    ]
                    with m.If(second_pass & reader.o.valid & reader.o.ready & reader.o.payload.last):
                        m.d.sync += second_pass.eq(0)
                    good = (causes == 0) & has_entries
                    with m.If(scanned):
                        m.d.comb += frame_waits.eq(entries.o.valid & good)
                        goes = write_frame(self._entry_frame(m, frame, entries.o.payload))
                        m.d.comb += entries.o.ready.eq(goes | ~good)
                        with m.If(entries.o.valid & entries.o.ready & entries.o.payload.last):
                            m.next = "FRAMES"
                            with m.If(good):
                                m.d.comb += take_frame.eq(1)
                                finish(current)
                                m.d.sync += [scanned.eq(0), has_entries.eq(0)]
                                m.next = "BYTES"

            with m.State("FRAMES"):
                due = Signal(frame_layout())
                m.d.comb += [due.eq(frame), frame_waits.eq(frame_valid)]
                with m.If(causes != 0):
                    m.d.comb += [due.flags.eq(frame.flags | causes), due.kind.eq(Kind.MALFORMED)]
                with m.If(write_frame(due)):
                    m.d.comb += take_frame.eq(1)
                    m.d.sync += frames_left.eq(frames_left - 1)
                    with m.If(frames_left == 1):
                        finish(current)
                        m.d.sync += [scanned.eq(0), causes.eq(0), has_entries.eq(0)]
                        m.next = "BYTES"
        return m

    @staticmethod
    def _entry_frame(m, common, entry):
        """The frame of an entry: its own, and what ``common`` says of the message."""
        frame = Signal(frame_layout())
        m.d.comb += [
            frame.eq(common),
            *(
                frame[name].eq(entry[name])
                for name in ("price", "quantity", "entry_type", "update_action", "price_level")
            ),
            frame.number_of_orders.eq(entry.number_of_orders),
            frame.instrument_sequence.eq(entry.instrument_sequence),
            frame.entry_offset.eq(entry.offset),
            frame.flags.eq(common.flags & ~(Flag.PRICE_ABSENT | Flag.QUANTITY_ABSENT) | entry.flags),
        ]
        with m.If(entry.has_instrument):
            m.d.comb += frame.instrument.eq(entry.instrument)
        m.d.comb += frame.kind.eq(Kind.STATISTIC)
        with m.If(~entry.has_entry_type):
            m.d.comb += frame.kind.eq(Kind.BOOK_UPDATE)
        with m.Else(), m.Switch(entry.entry_type):
            for character, kind in KIND_OF_ENTRY.items():
                with m.Case(ord(character)):
                    m.d.comb += frame.kind.eq(kind)
        return frame
