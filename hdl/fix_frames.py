"""What was taken from FIX messages, kept a flow, and made into frames."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import Parsed
from hdl.fix_facts import KIND_BITS, TAKEN_BITS, TAKEN_TAGS
from hdl.fix_messages import Clock, Step
from hdl.fix_tags import (
    ACCOUNT_TAG,
    CL_ORD_ID_TAG,
    MSG_SEQ_NUM_TAG,
    MSG_TYPE_TAG,
    ORD_TYPE_TAG,
    ORDER_QTY_TAG,
    ORIG_CL_ORD_ID_TAG,
    PRICE_TAG,
    SIDE_TAG,
    SYMBOL_TAG,
    TIME_IN_FORCE_TAG,
)
from hdl.frame import MALFORMED_FLAGS, Flag, Kind
from hdl.limits import FLOWS

OFFSETS = {
    CL_ORD_ID_TAG: "client_order_id",
    ORIG_CL_ORD_ID_TAG: "original_order_id",
    SYMBOL_TAG: "symbol",
    ACCOUNT_TAG: "account",
}
"""Tags that the frame points to."""

CHARACTERS = {SIDE_TAG: "side", ORD_TYPE_TAG: "order_type", TIME_IN_FORCE_TAG: "time_in_force"}
"""Tags of one character."""

NUMBERS = {PRICE_TAG: "price", ORDER_QTY_TAG: "quantity", MSG_SEQ_NUM_TAG: "sequence"}

MessageType = data.StructLayout({"characters": 16, "kind": unsigned(KIND_BITS)})
Number = data.StructLayout({"value": 64, "bad": 1, "range": 1})


class Kept(wiring.Component):
    """One row of ``shape`` a flow and page in block RAM. ``read`` comes a step after ``read_row``.

    Pages differ from message to message, so no row is read in the step in which it is written, unless what was read
    is not used then.
    """

    def __init__(self, shape, flows: int):
        self._shape = shape
        self._rows = 2 * flows
        super().__init__(
            {
                "advance": In(1),
                "row": In(range(2 * FLOWS)),
                "writes": In(1),
                "value": In(shape),
                "read_row": In(range(2 * FLOWS)),
                "read": Out(shape),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = memory.Memory(
            shape=self._shape, depth=self._rows, init=[], attrs={"ram_style": "block"}
        )
        write, read = rows.write_port(), rows.read_port()
        m.d.comb += [
            write.addr.eq(self.row),
            write.data.eq(self.value),
            write.en.eq(self.advance & self.writes),
            read.addr.eq(self.read_row),
            read.en.eq(self.advance),
            self.read.eq(read.data),
        ]
        return m


class FrameBuilder(wiring.Component):
    """Steps to frames. Latency ``LATENCY`` steps, one a step.

    What fields of the body give is written to its place a flow as it comes, and read when their message ends. The converters
    run beside, so that their results come with the last stage. ``fresh`` says that it is the step with which
    they do: the first one of its beat. A number that ended with its message or a step before has not been
    written when the others are read, and goes by.
    """

    LATENCY = 3

    valid: In(1)
    step: In(Step)
    fresh: In(1)
    numbers: In(data.ArrayLayout(Number, 2))
    advance: Out(1)
    o: Out(stream.Signature(Parsed))

    def __init__(self, flows: int = FLOWS):
        self._flows = flows
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        advance = self.advance
        m.d.comb += advance.eq(~self.o.valid | self.o.ready)

        def kept(name, shape):
            store = Kept(shape, self._flows)
            m.submodules[name] = store
            m.d.comb += store.advance.eq(advance)
            return store

        # ---- Stage 1: what the fields gave is written.
        step = self.step
        taken_row = Cat(step.taken_page, step.flow)
        field_clock = kept("field_clock", 64)
        m.d.comb += [
            field_clock.row.eq(Cat(step.stamp_page, step.flow)),
            field_clock.writes.eq(self.valid & step.stamp),
            field_clock.value.eq(step.timestamp),
            field_clock.read_row.eq(Cat(step.field_page, step.flow)),
        ]
        stores = {}
        for tag, name, shape, value in (
            *((tag, name, 16, "offset") for tag, name in OFFSETS.items()),
            *((tag, name, 8, "characters") for tag, name in CHARACTERS.items()),
            (SYMBOL_TAG, "instrument", 64, "crc"),
            (MSG_TYPE_TAG, "message_type", MessageType, None),
        ):
            store = stores[name] = kept(name, shape)
            index = TAKEN_TAGS.index(tag)
            second = step.taken[1].takes[index]
            chosen = Mux(second, step.taken[1].as_value(), step.taken[0].as_value())
            field = data.View(step.taken[0].shape(), chosen)
            m.d.comb += [
                store.row.eq(taken_row),
                store.writes.eq(self.valid & (step.taken[0].takes[index] | second)),
                store.value.eq(Cat(field.characters, field.kind) if value is None else field[value]),
            ]
        carried = data.StructLayout(
            {
                "valid": 1, "written": 1, "garbled": 1, "gap": 1, "entries": 1, "flags": 16, "start": 16, "stop": 16,
                "release": 16, "seen": TAKEN_BITS, "missing": 32, "clock": Clock, "keep_clock": Clock, "keeps_clock": 1,
                "older": 1, "page": 1, "keep_page": 1, "timestamp": 64, "flow": range(FLOWS), "packet_end": 1,
            }
        )  # fmt: skip
        second = Signal(carried)
        with m.If(advance):
            m.d.sync += [
                *(second[name].eq(step[name]) for name in carried.members if name not in ("valid", "flags")),
                second.flags.eq(step.flags | Mux(step.fragment, Flag.FRAGMENT, 0)),
                second.valid.eq(self.valid),
            ]

        # ---- Stage 2: the span's row is read, and a new message's time is written.
        third = Signal(carried)
        row = Cat(second.page, second.flow)
        field_time, time = Signal(64), Signal(64)
        message_clock = kept("message_clock", 64)
        m.d.comb += [
            field_time.eq(Mux(second.older, field_clock.read, second.timestamp)),
            message_clock.row.eq(Cat(second.keep_page, second.flow)),
            message_clock.writes.eq(second.valid & second.keeps_clock),
            message_clock.value.eq(Mux(second.keep_clock == Clock.FIELD, field_time, second.timestamp)),
            message_clock.read_row.eq(row),
            *(store.read_row.eq(row) for store in stores.values()),
        ]
        with m.If(advance):
            m.d.sync += [third.eq(second), time.eq(Mux(second.clock == Clock.FIELD, field_time, second.timestamp))]

        # ---- The converters' results, beside stage 3. They are written as they come.
        commits = Signal(data.ArrayLayout(TAKEN_BITS, 2))
        commit_row = taken_row
        m.d.comb += [
            commits[k].eq(step.taken[k].takes & (self.valid & self.fresh).replicate(TAKEN_BITS)) for k in range(2)
        ]
        for stage in range(self.LATENCY - 1):
            later, later_row = (
                Signal.like(commits, name=f"commits{stage}"),
                Signal(range(2 * FLOWS), name=f"commit_row{stage}"),
            )
            with m.If(advance):
                m.d.sync += [later.eq(commits), later_row.eq(commit_row)]
            commits, commit_row = later, later_row
        third_row = Cat(third.page, third.flow)
        numbers = {}
        for tag, name in NUMBERS.items():
            index = TAKEN_TAGS.index(tag)
            store = kept(name, Number)
            came, came_before = Signal(name=f"{name}_came"), Signal(name=f"{name}_came_before")
            fresh, before = Signal(Number, name=f"fresh_{name}"), Signal(Number, name=f"{name}_before")
            row_before = Signal(range(2 * FLOWS), name=f"{name}_row_before")
            m.d.comb += [
                came.eq(commits[0][index] | commits[1][index]),
                fresh.eq(Mux(commits[1][index], self.numbers[1].as_value(), self.numbers[0].as_value())),
                store.row.eq(commit_row),
                store.writes.eq(came),
                store.value.eq(fresh),
                store.read_row.eq(row),
            ]
            with m.If(advance):
                m.d.sync += [came_before.eq(came), before.eq(fresh), row_before.eq(commit_row)]
            number = numbers[name] = Signal(Number, name=name)
            m.d.comb += number.eq(store.read)
            with m.If(came_before & (row_before == third_row)):
                m.d.comb += number.eq(before)
            with m.If(came & (commit_row == third_row)):
                m.d.comb += number.eq(fresh)

        # ---- Stage 3: the frame.
        seen = {tag: third.seen[index] for index, tag in enumerate(TAKEN_TAGS)}
        flags = Signal(16)
        bad = Cat(numbers[name].bad & seen[tag] for tag, name in NUMBERS.items()).any()
        beyond = Cat(numbers[name].range & seen[tag] for tag, name in NUMBERS.items()).any()
        m.d.comb += flags.eq(
            third.flags
            | Mux(bad, Flag.VALUE, 0)
            | Mux(beyond, Flag.RANGE, 0)
            | Mux(seen[PRICE_TAG], 0, Flag.PRICE_ABSENT)
            | Mux(seen[ORDER_QTY_TAG], 0, Flag.QUANTITY_ABSENT)
        )
        malformed = Signal()
        kind = Signal(KIND_BITS)
        m.d.comb += [
            malformed.eq(third.garbled | (third.flags & MALFORMED_FLAGS).any() | bad | beyond),
            kind.eq(Mux(seen[MSG_TYPE_TAG], stores["message_type"].read.kind, Kind.OTHER)),
        ]
        with m.If(malformed):
            m.d.comb += kind.eq(Kind.MALFORMED)
        with m.If(third.gap):
            m.d.comb += kind.eq(Kind.GAP)

        out = Signal(Parsed)
        frame, message = out.frame, out.message
        m.d.comb += [
            out.has_frame.eq(third.written),
            out.has_message.eq(third.written | third.packet_end),
            frame.timestamp.eq(Mux(third.clock == Clock.KEPT, message_clock.read, time)),
            frame.flow.eq(third.flow),
            frame.kind.eq(kind),
            frame.flags.eq(flags),
            message.frames.eq(third.written),
            message.entries.eq(third.entries & ~malformed),
            message.length.eq(Mux(third.written, third.stop - third.start, 0)),
            *(message[name].eq(third[name]) for name in ("flow", "start", "packet_end", "release")),
        ]
        for tag, name in NUMBERS.items():
            with m.If(seen[tag]):
                m.d.comb += frame[name].eq(numbers[name].value)
        for tag, name in ((SYMBOL_TAG, "instrument"), *OFFSETS.items(), *CHARACTERS.items()):
            with m.If(seen[tag]):
                m.d.comb += frame[name].eq(stores[name].read)
        with m.If(seen[MSG_TYPE_TAG]):
            m.d.comb += frame.message_type.eq(stores["message_type"].read.characters)
        with m.If(third.gap):
            m.d.comb += frame.sequence.eq(third.missing)
        with m.If(advance):
            m.d.sync += [
                self.o.valid.eq(third.valid & (third.written | third.packet_end)),
                self.o.payload.eq(out),
            ]
        return m
