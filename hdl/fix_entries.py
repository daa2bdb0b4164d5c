"""Entries of FIX market data messages, read from the message's bytes (docs/fix.md, "Market data")."""

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES
from hdl.fix_fields import PLACE_BITS, FixFields, RawField
from hdl.fix_tags import (
    DATA_TAGS,
    ENTRY_TAGS,
    MD_ENTRY_PX_TAG,
    MD_ENTRY_SIZE_TAG,
    MD_ENTRY_TYPE_TAG,
    MD_PRICE_LEVEL_TAG,
    MD_UPDATE_ACTION_TAG,
    NUMBER_OF_ORDERS_TAG,
    RPT_SEQ_TAG,
    SYMBOL_TAG,
)
from hdl.fixed_point import FixedPoint, Form, Tables
from hdl.frame import Flag

CHARACTERS = {MD_ENTRY_TYPE_TAG: "entry_type", MD_UPDATE_ACTION_TAG: "update_action"}
NUMBERS = {
    MD_ENTRY_PX_TAG: "price",
    MD_ENTRY_SIZE_TAG: "quantity",
    MD_PRICE_LEVEL_TAG: "price_level",
    NUMBER_OF_ORDERS_TAG: "number_of_orders",
    RPT_SEQ_TAG: "instrument_sequence",
}
TAKEN_TAGS = (*CHARACTERS, *NUMBERS, SYMBOL_TAG)
"""The tags of an entry that its frame carries."""
TAKEN = {tag: n for n, tag in enumerate(TAKEN_TAGS)}

MessageBeat = data.StructLayout({"data": data.ArrayLayout(8, LANES), "count": unsigned(4), "last": 1})
"""Bytes of one message, 8 a beat from its first byte on, fewer (``count``) only in its ``last`` beat."""

Entry = data.StructLayout(
    {
        "present": 1,
        "last": 1,
        "offset": 16,
        "price": signed(64),
        "quantity": 64,
        "instrument": 64,
        "has_instrument": 1,
        "has_entry_type": 1,
        "entry_type": 8,
        "update_action": 8,
        "price_level": 8,
        "number_of_orders": 32,
        "instrument_sequence": 32,
        "flags": 16,
    }
)
"""An entry; what it lacks is 0. ``offset``: where it begins in the message. ``instrument``: its own or, without one, that
of the entry before it; ``has_instrument``: there was one. ``flags``: VALUE and RANGE (then that number is not to be
used), DUPLICATE_TAG, PRICE_ABSENT, QUANTITY_ABSENT. A message without entries gives one that is not ``present``."""

Decoded = data.StructLayout(
    {
        "final": 1,
        "begins": 1,
        "taken": len(TAKEN_TAGS),
        "announces": 1,
        "announced": range(len(DATA_TAGS)),
        "is_data": 1,
        "data": range(len(DATA_TAGS)),
        "field": RawField,
        "value_length": PLACE_BITS,
        "length_low": 7,
        "length_high": 7,
    }
)
"""A field whose tag is known: whether an entry begins with it, which tag of ``TAKEN_TAGS`` it has, of which pair of
``DATA_TAGS`` it is. The length that it announces is ``length_low + 100 * length_high``."""

Action = data.StructLayout(
    {
        "emits": 1,
        "final": 1,
        "begins": 1,
        "stores": len(TAKEN_TAGS),
        "duplicate": 1,
        "character": 8,
        "too_long": 1,
        "level_over": 1,
        "first": PLACE_BITS,
    }
)
"""What a field does to the entry: nothing, if all are 0. ``emits``: the one before it is complete, or the message ends. The number
and the symbol that go with it are on their way."""


class FixEntries(wiring.Component):
    """Reads the entries of well-formed W (or, with ``incremental``, X) messages, one message behind the other.

    An entry comes out when the next one begins, the last one (``last``) at the message's end. Eight bytes and one field
    a cycle: a beat in which more fields end takes a cycle for each. An SOH within data counts as a field's end. From
    the last beat to the last entry: ``LATENCY`` cycles. ``incremental`` holds from a message's first beat to its last entry.

    Bytes that are no well-formed message give entries of no meaning, but as many ``last`` as there were messages.
    ``tables`` is where the powers of ten are.
    """

    LATENCY = 10

    i: In(stream.Signature(MessageBeat))
    incremental: In(1)
    o: Out(stream.Signature(Entry))

    def __init__(self, tables: Tables = Tables.BLOCK_RAM):
        self._tables = tables
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        advance = Signal()

        # Fields, as they come.
        m.submodules.fields = fields = FixFields()
        m.d.comb += [
            fields.enable.eq(advance),
            fields.valid.eq(self.i.valid),
            fields.bytes.eq(self.i.payload.data),
            fields.count.eq(self.i.payload.count),
            fields.last.eq(self.i.payload.last),
            self.i.ready.eq(advance & fields.ready),
        ]
        field, field_valid = fields.field, fields.field_valid

        # Decoded: what the tag says.
        def tag_is(number):
            return ~field.tag_over & (field.tag == int(str(number), 16))

        def index_of(matches):
            """The number of the one that is set."""
            bits = max(1, (len(matches) - 1).bit_length())
            return Cat(Cat(match for n, match in enumerate(matches) if n >> bit & 1).any() for bit in range(bits))

        decoded, decoded_valid = Signal(Decoded), Signal()
        lengths = Cat(tag_is(tag) for tag in DATA_TAGS)
        datas = Cat(tag_is(tag) for tag in DATA_TAGS.values())
        units, tens, hundreds, thousands = (field.number.whole[n] for n in range(4))
        with m.If(advance):
            m.d.sync += [
                decoded_valid.eq(field_valid),
                decoded.final.eq(field.final),
                decoded.begins.eq(Mux(self.incremental, tag_is(ENTRY_TAGS["X"]), tag_is(ENTRY_TAGS["W"]))),
                decoded.taken.eq(Cat(tag_is(tag) for tag in TAKEN_TAGS)),
                decoded.announces.eq(lengths.any()),
                decoded.announced.eq(index_of(lengths)),
                decoded.is_data.eq(datas.any()),
                decoded.data.eq(index_of(datas)),
                decoded.field.eq(field),
                decoded.value_length.eq(field.soh_at - field.value_at),
                decoded.length_low.eq(units + (tens << 1) + (tens << 3)),
                decoded.length_high.eq(hundreds + (thousands << 1) + (thousands << 3)),
            ]

        # Placed: fields within data are no fields; entries begin; of a tag that comes twice the first one counts.
        in_data, data_soh_at = Signal(), Signal(PLACE_BITS)
        announcement, announced, length = Signal(), Signal(range(len(DATA_TAGS))), Signal(14)
        high = decoded.length_high
        is_announced = announcement & decoded.is_data & (decoded.data == announced)
        opened, seen = Signal(), Signal(len(TAKEN_TAGS))
        repeated = Signal()
        begins = Signal()
        stores = Signal(len(TAKEN_TAGS))
        is_field = decoded_valid & ~in_data
        m.d.comb += [
            begins.eq(is_field & decoded.begins),
            repeated.eq(is_field & opened & ~decoded.begins & (decoded.taken & seen).any()),
            stores.eq(decoded.taken & (begins | (is_field & opened & ~repeated)).replicate(len(TAKEN_TAGS))),
        ]
        # A price level above 255; whether it is a number at all is known later.
        ones, tens, hundreds, *higher = decoded.field.number.whole
        above_most_level = (
            Cat(higher).any() | (hundreds > 2) | ((hundreds == 2) & ((tens > 5) | ((tens == 5) & (ones > 5))))
        )
        actions = [Signal(Action, name=f"action{n}") for n in range(FixedPoint.LATENCY)]
        with m.If(advance):
            m.d.sync += [
                actions[0].emits.eq((decoded_valid & decoded.final) | (begins & opened)),
                actions[0].final.eq(decoded_valid & decoded.final),
                actions[0].begins.eq(begins),
                actions[0].stores.eq(stores),
                actions[0].duplicate.eq(repeated),
                actions[0].character.eq(decoded.field.character),
                actions[0].too_long.eq(decoded.field.number.length != 1),
                actions[0].level_over.eq(above_most_level),
                actions[0].first.eq(decoded.field.first),
                *(after.eq(before) for before, after in pairwise(actions)),
            ]
        with m.If(advance & decoded_valid):
            m.d.sync += [
                opened.eq((opened | begins) & ~decoded.final),
                seen.eq(Mux(begins, 0, seen) | stores),
                announcement.eq(decoded.announces & ~in_data & ~decoded.final),
                announced.eq(decoded.announced),
                length.eq(decoded.length_low + (high << 2) + (high << 5) + (high << 6)),
            ]
            with m.If(in_data):
                m.d.sync += in_data.eq((decoded.field.soh_at < data_soh_at) & ~decoded.final)
            with m.Else():
                m.d.sync += [
                    in_data.eq(is_announced & (decoded.value_length < length) & ~decoded.final),
                    data_soh_at.eq(decoded.field.value_at + length),
                ]

        # Meanwhile the number and the symbol's CRC.
        m.submodules.fixed_point = fixed_point = FixedPoint(tables=self._tables)
        is_price, is_quantity = decoded.taken[TAKEN[MD_ENTRY_PX_TAG]], decoded.taken[TAKEN[MD_ENTRY_SIZE_TAG]]
        m.d.comb += [
            fixed_point.enable.eq(advance),
            fixed_point.number.eq(decoded.field.number),
            fixed_point.form.eq(Mux(is_price, Form.PRICE, Mux(is_quantity, Form.QUANTITY, Form.INTEGER))),
        ]
        crc = self._crc(m, advance, decoded.field)

        # The entry; it goes when what ends it is here.
        action = actions[-1]
        stored = {name: action.stores[TAKEN[tag]] for tag, name in (CHARACTERS | NUMBERS).items()}
        entry = Signal(Entry)
        has_price, has_quantity, wrong, outside, duplicate = (Signal() for _ in range(5))
        stores_character = Cat(stored[name] for name in CHARACTERS.values()).any()
        stores_number = Cat(stored[name] for name in NUMBERS.values()).any()
        is_wrong = (stores_character & action.too_long) | (stores_number & fixed_point.bad)
        is_outside = (stores_number & fixed_point.range) | (
            stored["price_level"] & action.level_over & ~fixed_point.bad
        )
        m.d.comb += [
            self.o.valid.eq(action.emits),
            advance.eq(~self.o.valid | self.o.ready),
            self.o.payload.eq(entry),
            self.o.payload.last.eq(action.final),
            self.o.payload.flags.eq(
                Mux(wrong, Flag.VALUE, 0)
                | Mux(outside, Flag.RANGE, 0)
                | Mux(duplicate, Flag.DUPLICATE_TAG, 0)
                | Mux(has_price, 0, Flag.PRICE_ABSENT)
                | Mux(has_quantity, 0, Flag.QUANTITY_ABSENT)
            ),
        ]
        with m.If(advance):
            with m.If(action.begins):
                m.d.sync += [entry.offset.eq(action.first), entry.has_entry_type.eq(0)]
                m.d.sync += [signal.eq(0) for signal in (has_price, has_quantity, wrong, outside, duplicate)]
                m.d.sync += [entry[name].eq(0) for name in stored]
            m.d.sync += entry.present.eq((entry.present | action.begins) & ~action.final)
            for name in CHARACTERS.values():
                with m.If(stored[name]):
                    m.d.sync += entry[name].eq(action.character)
            for name in NUMBERS.values():
                with m.If(stored[name]):
                    m.d.sync += entry[name].eq(fixed_point.value)
            with m.If(stored["entry_type"]):
                m.d.sync += entry.has_entry_type.eq(1)
            with m.If(stored["price"]):
                m.d.sync += has_price.eq(1)
            with m.If(stored["quantity"]):
                m.d.sync += has_quantity.eq(1)
            with m.If(is_wrong):
                m.d.sync += wrong.eq(1)
            with m.If(is_outside):
                m.d.sync += outside.eq(1)
            with m.If(action.duplicate):
                m.d.sync += duplicate.eq(1)
            with m.If(action.stores[TAKEN[SYMBOL_TAG]]):
                m.d.sync += [entry.instrument.eq(crc), entry.has_instrument.eq(1)]
            with m.If(action.final):
                m.d.sync += entry.has_instrument.eq(0)
        return m

    @staticmethod
    def _crc(m, advance, field):
        """CRC-64 of the field's value, ``FixedPoint.LATENCY`` (4) cycles later.

        Bytes of the last beat are to stand right-justified below those before them: all move down by 8 - ``soh_lane`` bytes.
        What then is above 64 bits comes back at four places, because x^64 = x^4 + x^3 + x + 1.
        """
        wide, lane = Cat(field.text[8:], field.crc), field.soh_lane
        for stage, bit in enumerate((2, 1, 0)):
            shifted = Signal(120, name=f"crc_shifted{stage}")
            lane_after = Signal(3, name=f"crc_lane{stage}")
            with m.If(advance):
                m.d.sync += [shifted.eq(Mux(lane[bit], wide, wide >> (8 << bit))), lane_after.eq(lane)]
            wide, lane = shifted, lane_after
        over = wide[64:]
        crc = Signal(64)
        with m.If(advance):
            m.d.sync += crc.eq(wide[:64] ^ over ^ (over << 1) ^ (over << 3) ^ (over << 4))
        return crc
