"""SBE messages to frames: a decoder generated from a schema (docs/sbe.md)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import Parsed, PayloadBeat
from hdl.frame import MALFORMED_FLAGS, Flag, Kind
from hdl.sbe_encoding import Family
from hdl.sbe_plan import ENTRY_KINDS, BlockPlan, Form, Source
from hdl.sbe_venue import Venue
from hdl.sbe_walker import SbeWalker, Step

INTEGERS = {"instrument": 64, "price_level": 8, "number_of_orders": 32, "instrument_sequence": 32}
"""Frame fields that are integers, with their width in bits."""

Scaled = data.StructLayout({"raw": signed(65), "present": 1, "scale": unsigned(5)})
"""A price or quantity as it stands on the wire (0 where absent), and the number of its scale."""

Values = data.StructLayout(
    {
        "step": Step,
        "price": Scaled,
        "quantity": Scaled,
        "entry_type": 8,
        "update_action": 8,
        **INTEGERS,
        "kind": 8,
        "by_entry_type": 1,
    }
)
"""What a frame is made of, apart from scaling. ``by_entry_type``: that decides the kind."""


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
        sources = [source for block in walker.blocks for source in block.sources.values()]
        scales = sorted({source.scale for source in sources})
        values = Signal(Values)
        step = walker.o.payload
        m.d.comb += values.step.eq(step)
        with m.If(~step.failed), m.Switch(step.block):
            for index, block in enumerate(walker.blocks):
                with m.Case(index):
                    self._read_block(m, values, block, walker, scales)
        valid, held = Signal(), Signal(Values)
        with m.If(advance):
            m.d.sync += [valid.eq(walker.o.valid), held.eq(values)]

        # Stage 2, frames: prices and quantities are scaled, kind and flags settled.
        out = Signal(Parsed)
        frame = out.frame
        price_fits, price = self._scale(m, held.price, scales, -(1 << 63), (1 << 63) - 1)
        quantity_fits, quantity = self._scale(m, held.quantity, scales, 0, (1 << 64) - 1)
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
            frame.sequence.eq(held.step.sequence),
            frame.kind.eq(kind),
            frame.flags.eq(flags),
            frame.message_type.eq(held.step.message_type),
            frame.entry_offset.eq(held.step.entry_offset),
            *(frame[name].eq(held[name]) for name in ("entry_type", "update_action", *INTEGERS)),
        ]
        with m.If(advance):
            m.d.sync += [self.o.valid.eq(valid), self.o.payload.eq(out)]
        return m

    def _read_block(self, m, values, block: BlockPlan, walker, scales):
        """Reads one block plan's values from the captured blocks."""
        if block.kind is None:
            m.d.comb += values.by_entry_type.eq(1)
        else:
            m.d.comb += values.kind.eq(block.kind)
        for name, source in block.sources.items():
            raw, present = self._raw(source, walker)
            with m.If(present):
                match source.form:
                    case Form.PRICE | Form.QUANTITY:
                        scaled = values[name]
                        m.d.comb += [
                            scaled.raw.eq(raw),
                            scaled.present.eq(1),
                            scaled.scale.eq(scales.index(source.scale)),
                        ]
                    case Form.CHAR if source.value.family is not Family.CHAR:
                        m.d.comb += values[name].eq(Mux((raw >= 0) & (raw <= 9), raw + ord("0"), 0))
                    case _:
                        m.d.comb += values[name].eq(raw)

    @staticmethod
    def _raw(source: Source, walker):
        """A source's number on the wire, and whether it is there and not null."""
        value = source.value
        if value.constant is not None:
            return Const(value.constant, signed(65)), Const(1)
        captured, length = (
            (walker.root, walker.o.payload.root_length),
            (walker.entry, walker.o.payload.entry_length),
        )[value.level]
        bits = Cat(captured[value.offset + n] for n in range(value.size))
        present = length >= value.end
        if value.null is not None:
            present &= bits != (value.null & (1 << 8 * value.size) - 1)
        return (bits.as_signed() if value.signed else bits), present

    @staticmethod
    def _scale(m, scaled, scales, least, most):
        """Whether the scaled number lies within ``least`` and ``most``, and the number (0 if not)."""
        fits = Signal()
        product = Signal(64)
        m.d.comb += fits.eq(1)
        with m.Switch(scaled.scale):
            for index, scale in enumerate(scales):
                with m.Case(index):
                    m.d.comb += fits.eq((scaled.raw >= -(-least // scale)) & (scaled.raw <= most // scale))
                    with m.If(fits):
                        m.d.comb += product.eq(scaled.raw * scale)
        return fits, product
