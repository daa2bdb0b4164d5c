"""Decoded tables as Arrow tables: nulls are null, decimals are decimals, var data is in place."""

import enum
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from hdl.sbe_encoding import Composite, DecimalParts, Family, Simple, decimal_parts
from hdl.sbe_schema import Field
from host.sbe.full_decode import Decoded, Table
from host.sbe.layout import PRESENT

MOST_DECIMAL_PLACES = 38
"""Of Arrow's decimal128."""

UTC_TIMESTAMP = "UTCTimestamp"
"""Semantic type of a point in time."""


TIME = pa.timestamp("ns", tz="UTC")
TIME_UNITS = {0: "s", 3: "ms", 6: "us", 9: "ns"}
"""Arrow's units by the ``unit`` of a composite UTCTimestamp [2.11]."""

EXPONENT = b"exponent"
"""Metadata of a column of whole numbers: the decimal exponent that they are to be read with."""


class Decimals(enum.Enum):
    """How decimals of a constant exponent are told: as decimal128, or as their int64 with the exponent in the column's metadata."""

    DECIMAL128 = "decimal128"
    INT64 = "int64"


class ArrowTables:
    """Makes Arrow tables of decoded ones, batch after batch, all with the same types.

    A decimal with a constant exponent is one column (see :class:`Decimals`); any other has one for each member. UTCTimestamps are
    timestamps with time zone UTC, enums dictionaries with the schema's names; a value that the schema does not
    name is in the dictionary as its number. Text that is no UTF-8 is taken as Latin-1; arrays of numbers are lists of their length.
    ``@present`` is no column, its meaning is in the nulls.
    """

    def __init__(self, decimals: Decimals = Decimals.DECIMAL128) -> None:
        self._decimals = decimals
        self._enums: dict[tuple[str, str], _Enum] = {}

    def table(self, decoded: Decoded, name: str, parents: int = 0) -> pa.Table:
        """One of the tables; ``parents`` is added to ``@parent``. Raises KeyError where there is none of that name."""
        table = decoded.tables[name]
        columns: dict[str, tuple[pa.Array, Metadata]] = {}
        for field in table.layout.block.fields:
            columns.update(self._field_columns(table, field))
        for data in table.layout.block.data:
            columns[data.name] = _data_column(decoded, table, data.name, data.is_text), None
        for own in table.rows.dtype.names or ():
            if own == "@timestamp":
                columns[own] = _times(table.rows[own], None, "ns"), None
            elif own.startswith("@") and own != PRESENT:
                values = np.ascontiguousarray(table.rows[own])
                columns[own] = pa.array(values + np.uint64(parents) if own == "@parent" else values), None
        schema = pa.schema([pa.field(name, each.type, metadata=about) for name, (each, about) in columns.items()])
        return pa.Table.from_arrays([each for each, _ in columns.values()], schema=schema)

    def _field_columns(self, table: Table, field: Field) -> Iterator[tuple[str, tuple[pa.Array, "Metadata"]]]:
        encoding = field.encoding
        if isinstance(encoding, Composite):
            if (parts := decimal_parts(encoding)) and (places := _places(parts)) is not None:
                name = f"{field.name}.{parts.mantissa.name}"
                yield field.name, self._decimal_column(table.rows[name], table.is_null(name), places)
                return
            if unit := _time_unit(encoding):
                name = f"{field.name}.time"
                yield field.name, (_times(table.rows[name], table.is_null(name), unit), None)
                return
        for leaf in field.leaves():
            if not leaf.encoding.length:
                continue
            if leaf.encoding.values and leaf.encoding.length == 1:
                known = self._enums.setdefault((table.name, leaf.name), _Enum(leaf.encoding))
                yield leaf.name, (known.column(table.rows[leaf.name], table.is_null(leaf.name)), None)
            elif encoding is leaf.encoding and _is_time(field, leaf.encoding):
                yield leaf.name, (_times(table.rows[leaf.name], table.is_null(leaf.name), "ns"), None)
            else:
                yield leaf.name, (_values(table, leaf.name, leaf.encoding), None)

    def _decimal_column(self, mantissas: np.ndarray, null: np.ndarray, places: int) -> tuple[pa.Array, "Metadata"]:
        if self._decimals is Decimals.DECIMAL128:
            return decimals(mantissas, null, places), None
        return _masked(_native(mantissas), null), {EXPONENT: str(-places).encode()}


Metadata = dict[bytes, bytes] | None


def arrow_table(decoded: Decoded, name: str, parents: int = 0) -> pa.Table:
    """One of the tables by itself: see :class:`ArrowTables`. Raises KeyError where there is none of that name."""
    return ArrowTables().table(decoded, name, parents)


class _Enum:
    """An enum's dictionary. It only grows, so that files to which batch after batch is written need no other one."""

    def __init__(self, encoding: Simple) -> None:
        self._is_char = encoding.is_char
        self._is_byte = encoding.primitive.size == 1
        self._texts = list(dict.fromkeys(value.name for value in encoding.values))
        self._places = {value.number: self._texts.index(value.name) for value in reversed(encoding.values)}
        self._build()

    def _build(self) -> None:
        self._numbers = np.array(sorted(self._places), np.int64)
        indices = np.array([self._places[number] for number in self._numbers.tolist()])
        self._indices = indices.astype(np.int16 if self._is_byte else np.int32)
        self._names = pa.array(self._texts, pa.string())

    def column(self, values: np.ndarray, null: np.ndarray) -> pa.Array:
        codes = (_codes(values) if self._is_char else values).astype(np.int64)
        at = np.minimum(np.searchsorted(self._numbers, codes), len(self._numbers) - 1)
        unknown = (self._numbers[at] != codes) & ~null
        if unknown.any():
            for number in np.unique(codes[unknown]).tolist():
                self._places[number] = len(self._texts)
                self._texts.append(chr(number) if self._is_char and chr(number).isprintable() else str(number))
            self._build()
            at = np.minimum(np.searchsorted(self._numbers, codes), len(self._numbers) - 1)
        return pa.DictionaryArray.from_arrays(_masked(self._indices[at], null), self._names)


def _places(parts: DecimalParts) -> int | None:
    """Decimal places of a constant exponent; None: it is not constant, or not Arrow's."""
    exponent = parts.exponent.encoding
    assert isinstance(exponent, Simple)
    if isinstance(exponent.constant, int) and -MOST_DECIMAL_PLACES <= exponent.constant <= 0:
        return -exponent.constant
    return None


def _time_unit(encoding: Composite) -> str | None:
    """Arrow's unit of a composite that is a time with a constant unit [2.11]; None for anything else."""
    members = {member.name: member.encoding for member in encoding.members}
    time, unit = members.get("time"), members.get("unit")
    if len(members) != 2 or not (isinstance(time, Simple) and isinstance(unit, Simple)):
        return None
    if time.size != 8 or not time.is_integer or not isinstance(unit.constant, int):
        return None
    return TIME_UNITS.get(unit.constant)


def _is_time(field: Field, encoding: Simple) -> bool:
    """Whether a number is nanoseconds since 1970: by its semantic type, which without a unit means these."""
    is_number = encoding.is_integer and encoding.size == 8 and not encoding.choices
    return is_number and UTC_TIMESTAMP in (field.semantic_type, encoding.semantic_type)


def _times(values: np.ndarray, null: np.ndarray | None, unit: str) -> pa.Array:
    """Times; those beyond int64 (the year 2262, where they are nanoseconds) are null, since Arrow has no others."""
    native = _native(values)
    if native.dtype.kind == "u":
        native = native.view(np.int64)
        null = native < 0 if null is None else null | (native < 0)
    validity = None if null is None else _validity(null)
    return pa.Array.from_buffers(pa.timestamp(unit, tz="UTC"), len(native), [validity, pa.py_buffer(native)])


def _native(values: np.ndarray) -> np.ndarray:
    """Values one behind the other, in this machine's byte order."""
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def _masked(values: np.ndarray, null: np.ndarray) -> pa.Array:
    """Numbers one behind the other as they are in memory, and where they are null."""
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [_validity(null), pa.py_buffer(values)])


def decimals(mantissas: np.ndarray, null: np.ndarray, places: int) -> pa.Array:
    """Integers of 64 bits as decimals: each is extended to 128 bits, which is what Arrow has in memory."""
    wide = np.empty((len(mantissas), 2), "<i8")
    wide[:, 0] = mantissas.astype("<u8").view("<i8") if mantissas.dtype.kind == "u" else mantissas
    wide[:, 1] = wide[:, 0] >> 63 if mantissas.dtype.kind == "i" else 0
    digits = min(max(places + 1, 20), MOST_DECIMAL_PLACES)
    buffers = [_validity(null), pa.py_buffer(wide)]
    return pa.Array.from_buffers(pa.decimal128(digits, places), len(mantissas), buffers)


def _validity(null: np.ndarray) -> pa.Buffer | None:
    return pa.py_buffer(np.packbits(~null, bitorder="little")) if null.any() else None


def _values(table: Table, name: str, encoding: Simple) -> pa.Array:
    values, null = table.rows[name], table.is_null(name)
    if encoding.primitive.family is Family.CHAR:
        return _text(pa.array(np.ascontiguousarray(values), mask=null, type=pa.binary()))
    native = np.ascontiguousarray(values, values.dtype.base.newbyteorder("="))
    if encoding.length == 1:
        return _masked(native, null)
    return pa.FixedSizeListArray.from_arrays(pa.array(native.ravel()), encoding.length, mask=pa.array(null))


def _text(binary: pa.Array) -> pa.Array:
    """Bytes as text."""
    try:
        return binary.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([None if value is None else _readable(value) for value in binary.to_pylist()], pa.string())


def _readable(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _data_column(decoded: Decoded, table: Table, name: str, is_text: bool) -> pa.Array:
    """Var data, gathered from the packets."""
    places = table.rows[name]
    lengths = places["length"].astype(np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    # Where each byte comes from: its place in the row's run, moved to where that run lies.
    source = np.repeat(places["offset"].astype(np.int64) - starts, lengths) + np.arange(int(lengths.sum()))
    offsets = np.concatenate(([0], ends)).astype(np.int64)
    buffers = [_validity(table.is_null(name)), pa.py_buffer(offsets), pa.py_buffer(decoded.data[source])]
    binary = pa.Array.from_buffers(pa.large_binary(), len(places), buffers)
    return _text(binary.cast(pa.binary())) if is_text else binary.cast(pa.binary())


def _codes(characters: np.ndarray) -> np.ndarray:
    """The codes of single characters."""
    return np.ascontiguousarray(characters).view(np.uint8)
