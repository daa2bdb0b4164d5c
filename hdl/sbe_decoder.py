"""SBE messages to frames: a decoder generated from a schema and a profile (docs/sbe.md)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import Parsed, PayloadBeat
from hdl.frame import MALFORMED_FLAGS, Flag, Kind
from hdl.sbe_encoding import Family, bits_of
from hdl.sbe_plan import DECIMALS, ENTRY_KINDS, MOST_POWER, BlockPlan, Form, Source, Value
from hdl.sbe_venue import Venue
from hdl.sbe_walker import SbeWalker, step_layout

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

POWER_BITS = 10
"""Of a power of ten: an exponent on the wire of 8 bits, and what the frame field's unit adds to it."""

Scaled = data.StructLayout(
    {
        "magnitude": 64,
        "negative": 1,
        "present": 1,
        "power": signed(POWER_BITS),
        "floating": 1,
        "down": signed(13),
        "infinite": 1,
    }
)
"""A price or quantity as it stands on the wire (0 where absent): ``magnitude × 10^power``, ``floating`` that divided by ``2^down``."""


def values_layout(levels: int) -> data.StructLayout:
    """What a frame is made of, apart from scaling. ``by_entry_type``: that decides the kind."""
    return data.StructLayout(
        {
            "step": step_layout(levels),
            "price": Scaled,
            "quantity": Scaled,
            "entry_type": 8,
            "update_action": 8,
            **INTEGERS,
            "has_sequence": 1,
            "sequence": 32,
            "kind": 8,
            "by_entry_type": 1,
        }
    )


class SbeDecoder(wiring.Component):
    """SBE packets to frames, one for each group entry.

    A root block is taken at 8 bytes a cycle; see :class:`hdl.sbe_walker.SbeWalker` for what else costs a cycle. A frame is
    valid 4 or 5 cycles (as its alignment has it) after the last byte of its entry was taken, where the decoder keeps up.
    """

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
        m.d.comb += [advance.eq(~self.o.valid | self.o.ready), walker.o.ready.eq(advance)]

        # Stage 1, values: each block plan says where they stand.
        layout = values_layout(len(walker.blocks))
        values = Signal(layout)
        step = walker.o.payload
        m.d.comb += values.step.eq(step)
        with m.If(~step.failed), m.Switch(step.block):
            for index, plan in enumerate(walker.plans):
                with m.Case(index):
                    self._read_block(m, values, plan, walker)
        valid, held = Signal(), Signal(layout)
        with m.If(advance):
            m.d.sync += [valid.eq(walker.o.valid), held.eq(values)]

        # Stage 2, frames: prices and quantities are scaled, kind and flags settled.
        out = Signal(Parsed)
        frame = out.frame
        price_fits, price = self._scale(m, walker.plans, "price", held.price, (1 << 63) - 1, 1 << 63)
        quantity_fits, quantity = self._scale(m, walker.plans, "quantity", held.quantity, (1 << 64) - 1, 0)
        flags = Signal(16)
        kind = Signal(8)
        m.d.comb += [
            flags.eq(
                held.step.flags
                | Mux(price_fits & quantity_fits, 0, Flag.RANGE)
                | Mux(held.price.present | held.step.failed, 0, Flag.PRICE_ABSENT)
                | Mux(held.quantity.present | held.step.failed, 0, Flag.QUANTITY_ABSENT)
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
        with m.If((flags & MALFORMED_FLAGS).any()):
            m.d.comb += kind.eq(Kind.MALFORMED)
        m.d.comb += [
            out.has_frame.eq(held.step.has_frame),
            out.has_message.eq(held.step.has_message),
            out.message.eq(held.step.message),
            frame.timestamp.eq(held.step.timestamp),
            frame.price.eq(price),
            frame.quantity.eq(quantity),
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

    def _read_block(self, m, values, plan: BlockPlan, walker):
        """Reads one block plan's values from the captured blocks."""
        if plan.kind is None:
            m.d.comb += values.by_entry_type.eq(1)
        else:
            m.d.comb += values.kind.eq(plan.kind)
        if "sequence" in plan.sources:
            m.d.comb += values.has_sequence.eq(1)
        for name, char in plan.constants.items():
            m.d.comb += self._place(values, name).eq(char)
        for name, source in plan.sources.items():
            if name not in plan.constants:
                self._read(m, values, name, source, walker)

    @staticmethod
    def _place(values, name: str):
        """Where a frame field's value goes."""
        if name not in ORDER_VIEW:
            return values[name]
        field, bit = ORDER_VIEW[name]
        return values[field][bit:] if bit else values[field]

    def _read(self, m, values, name: str, source: Source, walker):
        step = walker.o.payload
        value = source.value
        raw, present = self._raw(value, walker)
        if source.form in DECIMALS:
            self._read_decimal(m, values[name], source, raw, present, walker)
            return
        with m.If(present):
            place = self._place(values, name)
            match source.form:
                case Form.OFFSET:
                    m.d.comb += place[:16].eq(step.offsets[value.level] + value.offset)
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

    def _raw(self, value: Value, walker):
        """A number on the wire, and whether it is there and not null."""
        if value.constant is not None:
            return Const(value.constant, signed(65)), Const(1)
        encoding = value.leaf.encoding
        size = encoding.primitive.size
        captured = walker.blocks[value.level]
        its_bytes = [captured[value.offset + n] for n in range(size)]
        bits = Cat(reversed(its_bytes) if self._venue.schema.byte_order == "big" else its_bytes)
        present = walker.o.payload.lengths[value.level] >= value.end
        if encoding.is_floating:
            mantissa_bits = 52 if size == 8 else 23
            nan = bits[mantissa_bits:-1].all() & bits[:mantissa_bits].any()
            present &= ~nan
            if isinstance(encoding.null, float) and encoding.null == encoding.null:
                present &= bits != bits_of(encoding.null, encoding.primitive)
        elif encoding.length != 1:
            if value.family is Family.CHAR:
                present &= bits != 0
        elif value.null is not None:
            present &= bits != (value.null & (1 << 8 * size) - 1)
        return (bits.as_signed() if value.signed else bits), present

    def _read_decimal(self, m, scaled, source: Source, raw, present, walker):
        value = source.value
        power = source.power
        if source.exponent is not None:
            exponent, exponent_present = self._raw(source.exponent, walker)
            present = present & exponent_present
            least, most = -(1 << POWER_BITS - 2), (1 << POWER_BITS - 2) - 1
            power = source.power + Mux(exponent > most, most, Mux(exponent < least, least, exponent))
        with m.If(present):
            m.d.comb += [scaled.present.eq(1), scaled.power.eq(power)]
            if value.leaf.encoding.is_floating and value.constant is None:
                mantissa_bits, exponent_bits = (52, 11) if value.size == 8 else (23, 8)
                mantissa, biased = raw[:mantissa_bits], raw[mantissa_bits:-1]
                m.d.comb += [
                    scaled.floating.eq(1),
                    scaled.negative.eq(raw[-1]),
                    scaled.magnitude.eq(Cat(mantissa, biased.any())),
                    scaled.down.eq((1 << exponent_bits - 1) - 1 + mantissa_bits - Mux(biased.any(), biased, 1)),
                    scaled.infinite.eq(biased.all()),
                ]
            else:
                negative = (raw < 0) if value.signed or value.constant is not None else Const(0)
                m.d.comb += [scaled.negative.eq(negative), scaled.magnitude.eq(Mux(negative, -raw, raw))]

    def _scale(self, m, plans, name: str, scaled, highest: int, lowest: int):
        """Whether the scaled number is at most ``highest``, or of a negative one at most ``lowest``; and the number (0 if not)."""
        sources = [plan.sources[name] for plan in plans if name in plan.sources]
        any_power = any(source.exponent is not None for source in sources)
        powers = range(MOST_POWER + 2) if any_power else sorted({source.power for source in sources})
        product = Signal(128)
        in_range = Signal()
        with m.Switch(scaled.power):
            for power in powers:
                with m.Case(power):
                    m.d.comb += [product.eq(scaled.magnitude * 10**power), in_range.eq(1)]
        number = Signal(128)
        m.d.comb += number.eq(product)
        if any(source.value.leaf.encoding.is_floating for source in sources):
            # The product has 84 bits: it moves down by so many at most, or up until it is beyond 64.
            number = Signal(192)
            m.d.comb += number.eq(product)
            down, up, place_of_half = Signal(7), Signal(7), Signal(7)
            half, odd = Signal(128), Signal()
            m.d.comb += [
                down.eq(scaled.down),
                up.eq(Mux(scaled.down < -64, 64, -scaled.down)),
                place_of_half.eq(scaled.down - 1),
                half.eq(Const(1) << place_of_half),
                odd.eq(product >> down),
            ]
            with m.If(scaled.floating):
                with m.If(scaled.down > 84):
                    m.d.comb += number.eq(0)
                with m.Elif(scaled.down > 0):
                    m.d.comb += number.eq((product + half - ~odd) >> down)
                with m.Else():
                    m.d.comb += number.eq(product << up)
        fits, result = Signal(), Signal(64)
        limit = Mux(scaled.negative, lowest, highest)
        m.d.comb += [
            fits.eq(
                ~scaled.present
                | ((scaled.magnitude == 0) & ~scaled.infinite)
                | (in_range & ~scaled.infinite & (number <= limit))
            ),
            result.eq(Mux(fits & scaled.present, Mux(scaled.negative, -number, number), 0)),
        ]
        return fits, result
