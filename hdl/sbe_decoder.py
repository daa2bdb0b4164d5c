"""SBE messages to frames: a decoder generated from a schema and a profile (docs/sbe.md)."""

from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import Parsed, PayloadBeat
from hdl.frame import MALFORMED_FLAGS, Flag, Kind
from hdl.limits import MESSAGE_LIMIT
from hdl.sbe_encoding import Family, bits_of
from hdl.sbe_operands import Part
from hdl.sbe_plan import DECIMALS, ENTRY_KINDS, FORMS, LIMITS, Form, Source, Value
from hdl.sbe_scale import POWER_BITS, Number, Scaler
from hdl.sbe_venue import Venue
from hdl.sbe_walker import SbeWalker, look_up, range_bits

INTEGERS = {"instrument": 64, "price_level": 8, "number_of_orders": 32, "instrument_sequence": 32}
"""Frame fields that are integers, with their width in bits; those of the market data view."""

ORDER_VIEW = {
    "side": ("entry_type", 0),
    "order_type": ("update_action", 0),
    "time_in_force": ("price_level", 0),
    "client_order_id": ("number_of_orders", 0),
    "original_order_id": ("number_of_orders", 16),
    "symbol": ("instrument_sequence", 0),
    "account": ("instrument_sequence", 16),
}
"""Fields of the order view → the field of the market data view whose bytes they have, and from which bit on."""


def values_layout(step: data.StructLayout) -> data.StructLayout:
    """What a frame is made of, apart from scaled numbers. ``by_entry_type``: that decides the kind."""
    return data.StructLayout(
        {
            "step": step,
            **dict.fromkeys(("price_present", "quantity_present"), 1),
            "entry_type": 8,
            "update_action": 8,
            **INTEGERS,
            "has_sequence": 1,
            "sequence": 32,
            "kind": 8,
            "by_entry_type": 1,
        }
    )


class Reading(NamedTuple):
    """How a frame field is read from its operands; the same for all blocks in which they are of one type."""

    operands: tuple[tuple[Part, int | None], ...]
    types: tuple[Any, ...]
    power: int
    translation: Any
    place: Any


class SbeDecoder(wiring.Component):
    """SBE packets to frames, one for each group entry.

    A frame is valid LATENCY cycles after the last byte of its entry was taken, where the decoder has kept up; see
    :class:`hdl.sbe_walker.SbeWalker` for what costs cycles. That of a message without entries comes as early where the root is
    all there is of it, others and malformed ones a few cycles later.
    """

    LATENCY = 4

    i: In(stream.Signature(PayloadBeat))
    o: Out(stream.Signature(Parsed))

    def __init__(self, venue: Venue):
        self._venue = venue
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.walker = walker = SbeWalker(self._venue)
        wiring.connect(m, wiring.flipped(self.i), walker.i)

        advance = Signal()
        m.d.comb += [advance.eq(~self.o.valid | self.o.ready), walker.advance.eq(advance)]

        # First stage, values: each block plan says what its operands mean. Products of prices and quantities begin.
        step = walker.step
        values = Signal(values_layout(step.shape()))
        valid, held = Signal(), Signal.like(values)
        length = step.message.length
        m.d.comb += [
            values.step.eq(step),
            values.step.message.length.eq(Mux(length > MESSAGE_LIMIT, MESSAGE_LIMIT, length)),
        ]
        self._settle_kind(m, values, walker, advance)
        scaled = {}
        for name in FORMS:
            readings, chosen, has = self._readings(m, walker, name, advance)
            if readings:
                with m.If(has):
                    self._read(m, walker, values, name, readings, chosen)
            if FORMS[name] in DECIMALS:
                scaled[name] = self._scale(m, walker, name, readings, chosen, advance)
        with m.If(advance):
            m.d.sync += [valid.eq(walker.valid), held.eq(values)]

        # Second stage, frames: prices and quantities are summed up, kind and flags settled.
        out = Signal(Parsed)
        frame = out.frame
        flags = Signal(16)
        kind = Signal(8)
        price, quantity = scaled["price"], scaled["quantity"]
        fits = (~held.price_present | price.fits) & (~held.quantity_present | quantity.fits)
        m.d.comb += [
            flags.eq(
                held.step.flags
                | Mux(fits, 0, Flag.RANGE)
                | Mux(held.price_present | held.step.failed, 0, Flag.PRICE_ABSENT)
                | Mux(held.quantity_present | held.step.failed, 0, Flag.QUANTITY_ABSENT)
            ),
            kind.eq(held.kind),
        ]
        with m.If(held.by_entry_type):
            with m.Switch(held.entry_type):
                for entry_type, its_kind in ENTRY_KINDS.items():
                    with m.Case(entry_type):
                        m.d.comb += kind.eq(its_kind)
                with m.Default():
                    m.d.comb += kind.eq(Kind.STATISTIC)
        with m.If(held.step.failed):
            m.d.comb += kind.eq(Mux(held.step.unknown, Kind.OTHER, Kind.MALFORMED))
        with m.If((held.step.flags & MALFORMED_FLAGS).any() | ~fits):
            m.d.comb += kind.eq(Kind.MALFORMED)
        m.d.comb += [
            out.has_frame.eq(held.step.has_frame),
            out.has_message.eq(held.step.has_message),
            out.message.eq(held.step.message),
            frame.timestamp.eq(held.step.timestamp),
            frame.price.eq(Mux(held.price_present, price.result, 0)),
            frame.quantity.eq(Mux(held.quantity_present, quantity.result, 0)),
            frame.flow.eq(held.step.message.flow),
            frame.sequence.eq(Mux(held.has_sequence, held.sequence, held.step.sequence)),
            frame.kind.eq(kind),
            frame.flags.eq(flags),
            frame.message_type.eq(held.step.message_type),
            frame.entry_offset.eq(held.step.entry_offset),
            *(frame[name].eq(held[name]) for name in ("entry_type", "update_action", *INTEGERS)),
        ]
        with m.If(advance):
            m.d.sync += [self.o.valid.eq(valid), self.o.payload.eq(out)]
        return m

    @staticmethod
    def _known_ahead(m, walker: SbeWalker, advance, values, width: int, name: str):
        """What follows from the step's block alone: looked up in the cycle before."""
        found = Signal(width, name=name)
        with m.If(advance):
            m.d.sync += found.eq(look_up(m, walker.block, values, width, f"{name}_ahead"))
        return found

    def _settle_kind(self, m, values, walker: SbeWalker, advance):
        """Kinds and constants are the block's."""
        plans = walker.plans
        kinds = [None if plan.kind is None else int(plan.kind) for plan in plans]
        by_entry_type = [plan.kind is None for plan in plans]
        m.d.comb += [
            values.kind.eq(self._known_ahead(m, walker, advance, kinds, 8, "block_kind")),
            values.by_entry_type.eq(self._known_ahead(m, walker, advance, by_entry_type, 1, "by_entry_type")),
        ]
        with m.If(~walker.step.failed), m.Switch(walker.step.block):
            for index, plan in enumerate(plans):
                if plan.constants:
                    with m.Case(index):
                        for name, char in plan.constants.items():
                            m.d.comb += self._place(values, name).eq(char)

    def _readings(self, m, walker: SbeWalker, name: str, advance):
        """How the blocks' sources of a frame field are read, each with one of its blocks; which is the step's; and whether it has
        any."""
        readings: dict[Reading, tuple[int, Source]] = {}
        choices: list[int | None] = []
        for index, plan in enumerate(walker.plans):
            source = plan.sources.get(name)
            if source is None or name in plan.constants:
                choices.append(None)
                continue
            reading = self._reading(walker, index, name, source)
            readings.setdefault(reading, (index, source))
            choices.append(list(readings).index(reading))
        width = range_bits(len(readings))
        chosen = self._known_ahead(m, walker, advance, choices, width, f"reading_of_{name}")
        has = self._known_ahead(m, walker, advance, [choice is not None for choice in choices], 1, f"has_{name}")
        return list(readings.values()), chosen, has & ~walker.step.failed

    @staticmethod
    def _reading(walker: SbeWalker, index: int, name: str, source: Source) -> Reading:
        operands: list[tuple[Part, int | None]] = []
        types: list[Any] = []
        values: dict[Part, Value | None] = {"value": source.value, "exponent": source.exponent}
        for part, value in values.items():
            if value is not None:
                operand = _operand(walker, index, name, part)
                operands.append((part, operand))
                encoding = value.leaf.encoding
                types.append((encoding.primitive, encoding.length != 1, repr(encoding.null), value.constant))
        place = (source.value.level, source.value.offset) if source.form is Form.OFFSET else None
        return Reading(tuple(operands), tuple(types), source.power, source.translation, place)

    @staticmethod
    def _place(values, name: str):
        """Where a frame field's value goes."""
        if name not in ORDER_VIEW:
            return values[name]
        field, bit = ORDER_VIEW[name]
        return values[field][bit:] if bit else values[field]

    def _read(self, m, walker: SbeWalker, values, name: str, readings, chosen):
        """Sets the frame field where it is present; of a price or quantity, whether it is."""
        with m.Switch(chosen):
            for number, (index, source) in enumerate(readings):
                with m.Case(number):
                    present = self._present(walker, index, name, "value", source.value)
                    if source.exponent is not None:
                        present &= self._present(walker, index, name, "exponent", source.exponent)
                    if source.form in DECIMALS:
                        m.d.comb += values[f"{name}_present"].eq(present)
                        continue
                    with m.If(present):
                        self._set(m, walker, self._place(values, name), index, name, source)
                    if name == "sequence":
                        m.d.comb += values.has_sequence.eq(1)

    def _set(self, m, walker: SbeWalker, place, index: int, name: str, source: Source):
        value = source.value
        if source.form is Form.OFFSET:
            m.d.comb += place[:16].eq(walker.step.offsets[value.level] + value.offset)
            return
        raw = self._raw(walker, index, name, "value", value)
        match source.form:
            case Form.CHAR if source.translation is not None:
                with m.Switch(raw):
                    seen = set()
                    for number, char in source.translation:
                        pattern = number % (1 << len(raw))
                        if (
                            pattern not in seen
                            and (number >= 0 or value.signed)
                            and -(1 << len(raw)) < number < 1 << len(raw)
                        ):
                            seen.add(pattern)
                            with m.Case(pattern if not value.signed else number):
                                m.d.comb += place[:8].eq(char)
            case Form.CHAR if value.family is not Family.CHAR:
                m.d.comb += place[:8].eq(Mux((raw >= 0) & (raw <= 9), raw + ord("0"), 0))
            case Form.CHAR:
                m.d.comb += place[:8].eq(raw)
            case _:
                m.d.comb += place.eq(raw)

    def _scale(self, m, walker: SbeWalker, name: str, readings, chosen, advance) -> Scaler:
        numbers = []
        for index, source in readings:
            raw = self._raw(walker, index, name, "value", source.value)
            power = source.power
            if source.exponent is not None:
                exponent = self._raw(walker, index, name, "exponent", source.exponent)
                least, most = -(1 << POWER_BITS - 2), (1 << POWER_BITS - 2) - 1
                power = source.power + Mux(exponent > most, most, Mux(exponent < least, least, exponent))
            is_float = source.value.leaf.encoding.is_floating and source.value.constant is None
            numbers.append(Number(raw, power, 8 * source.value.primitive_size if is_float else 0))
        return Scaler(m, name, numbers, chosen, advance, *LIMITS[FORMS[name]])

    def _bits(self, walker: SbeWalker, index: int, name: str, part: Part, value: Value):
        """A value's bits on the wire."""
        operand = getattr(walker, f"bytes{_operand(walker, index, name, part)}")
        if self._venue.schema.byte_order == "big":
            return Cat(reversed([operand[n] for n in range(len(operand))]))[: 8 * value.primitive_size]
        return Cat(operand[n] for n in range(value.primitive_size))

    def _raw(self, walker: SbeWalker, index: int, name: str, part: Part, value: Value):
        """A number on the wire."""
        if value.constant is not None:
            return Const(value.constant, signed(65))
        bits = self._bits(walker, index, name, part, value)
        return bits.as_signed() if value.signed else bits

    def _present(self, walker: SbeWalker, index: int, name: str, part: Part, value: Value):
        """Whether a number is there and not null."""
        if value.constant is not None:
            return Const(1)
        reaches = walker.step.reaches[walker.needs.index((name, part))]
        if _operand(walker, index, name, part) is None:
            return reaches
        bits = self._bits(walker, index, name, part, value)
        encoding = value.leaf.encoding
        if encoding.length != 1:
            return reaches & (bits != 0) if value.family is Family.CHAR else reaches
        if encoding.is_floating:
            mantissa_bits = 52 if value.primitive_size == 8 else 23
            nan = bits[mantissa_bits:-1].all() & bits[:mantissa_bits].any()
            present = reaches & ~nan
            if isinstance(encoding.null, float) and encoding.null == encoding.null:
                present &= bits != bits_of(encoding.null, encoding.primitive)
            return present
        if value.null is not None:
            return reaches & (bits != (value.null & (1 << len(bits)) - 1))
        return reaches


def _operand(walker: SbeWalker, index: int, name: str, part: Part) -> int | None:
    """The number of the operand that has a block's part of a frame field; None where nothing is to be read."""
    for number, operand in enumerate(walker.operands):
        if operand.name == name and operand.part == part and index in operand.uses:
            return number
    return None
