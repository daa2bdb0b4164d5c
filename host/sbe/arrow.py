"""Decoded tables as Arrow tables: nulls are null, decimals are decimals, var data is in place."""

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from hdl.sbe_encoding import Composite, DecimalParts, Family, Leaf, Simple, decimal_parts
from hdl.sbe_schema import Field
from host.sbe.full_decode import Decoded, Table
from host.sbe.layout import PRESENT

MOST_DECIMAL_PLACES = 38
"""Of Arrow's decimal128."""

SIGNED_DIGITS, UNSIGNED_DIGITS = 19, 20
"""Of whole numbers of 64 bits."""

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


Metadata = dict[bytes, bytes] | None

SMALL_CODES = 1 << 17
"""Codes below are names' places in a table, the others are searched for."""
NO_NAME = -1
"""The index of a code that has no name yet."""


class Names:
    """A dictionary column's names by code. It only grows, so that files to which batch after batch is written need no other one.

    Parameters: ``names`` by code; ``name_of`` gives that of a code without one; ``index`` is the dtype of the column's indices.
    """

    def __init__(self, names: Mapping[int, str], name_of: Callable[[int], str] = str, index: type = np.int32) -> None:
        self._texts: list[str] = []
        self._places: dict[int, int] = {}
        self._name_of, self._index = name_of, index
        for code, name in names.items():
            self._add(code, name)
        self._build()

    def _add(self, code: int, name: str) -> None:
        if name not in self._texts:
            self._texts.append(name)
        self._places[code] = self._texts.index(name)

    def _build(self) -> None:
        codes = np.array(sorted(self._places), np.int64)
        indices: np.ndarray = np.array([self._places[code] for code in codes.tolist()], self._index)
        # By code, where codes are small; the last one stands for all that are larger.
        small = codes[(codes >= 0) & (codes < SMALL_CODES)]
        self._small: np.ndarray = np.full(int(small.max(initial=-1)) + 2, NO_NAME, self._index)
        self._small[small] = [self._places[code] for code in small.tolist()]
        self._has_large = len(small) < len(codes)
        self._codes = np.append(codes, np.iinfo(np.int64).max)
        self._indices: np.ndarray = np.append(indices, indices.dtype.type(NO_NAME))
        self._names = pa.array(self._texts, pa.string())

    def _find(self, codes: np.ndarray) -> np.ndarray:
        """Indices of the codes' names, NO_NAME of a code without one."""
        if codes.dtype.kind == "u" and codes.dtype.itemsize <= 4 and not self._has_large:
            by_code: np.ndarray = np.take(self._small, codes, mode="clip")
            return by_code
        at = np.searchsorted(self._codes, codes)
        found: np.ndarray = np.where(self._codes[at] == codes, self._indices[at], NO_NAME).astype(self._index)
        return found

    def column(self, codes: np.ndarray, null: np.ndarray | None = None) -> pa.Array:
        """The column of some codes, null where it is said."""
        found = self._find(codes)
        unknown = found == NO_NAME
        if null is not None:
            unknown &= ~null
        if unknown.any():
            for code in np.unique(codes[unknown]).tolist():
                self._add(int(code), self._name_of(int(code)))
            self._build()
            found = self._find(codes)
        if null is not None:
            found[null] = 0
        return pa.DictionaryArray.from_arrays(masked(found, null), self._names)


def char_name(code: int) -> str:
    """A character's code as the character, or as a number where nobody could read that."""
    return chr(code) if chr(code).isprintable() else str(code)


class ArrowTables:
    """Makes Arrow tables of decoded ones, batch after batch, all with the same types.

    A decimal with a constant exponent is one column (see :class:`Decimals`); any other has one for each member. UTCTimestamps are
    timestamps with time zone UTC, enums dictionaries with the schema's names; a value that the schema does not
    name is in the dictionary as its number. Text that is no UTF-8 is taken as Latin-1; arrays of numbers are lists of their length.
    ``@present`` is no column, its meaning is in the nulls. ``@flow`` is by the names of ``flows``, where there are any.
    """

    def __init__(self, decimals: Decimals = Decimals.DECIMAL128, flows: Sequence[str] = ()) -> None:
        self._decimals = decimals
        self._flows = Names(dict(enumerate(flows))) if flows else None
        self._names: dict[tuple[str, str], Names] = {}

    def _names_of(self, table: Table, leaf: Leaf) -> Names:
        key = table.name, leaf.name
        if key not in self._names:
            self._names[key] = _enum_names(leaf.encoding)
        return self._names[key]

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
                columns[own] = times(table.rows[own]), None
            elif own == "@flow" and self._flows is not None:
                columns[own] = self._flows.column(table.rows[own]), None
            elif own.startswith("@") and own != PRESENT:
                values = np.ascontiguousarray(table.rows[own])
                columns[own] = pa.array(values + np.uint64(parents) if own == "@parent" else values), None
        schema = pa.schema([pa.field(name, each.type, metadata=about) for name, (each, about) in columns.items()])
        return pa.Table.from_arrays([each for each, _ in columns.values()], schema=schema)

    def _field_columns(self, table: Table, field: Field) -> Iterator[tuple[str, tuple[pa.Array, Metadata]]]:
        encoding = field.encoding
        if isinstance(encoding, Composite):
            if (parts := decimal_parts(encoding)) and (places := _places(parts)) is not None:
                name = f"{field.name}.{parts.mantissa.name}"
                yield field.name, self._decimal_column(table.rows[name], table.is_null(name), places)
                return
            if unit := _time_unit(encoding):
                name = f"{field.name}.time"
                yield field.name, (times(table.rows[name], table.is_null(name), unit), None)
                return
        for leaf in field.leaves():
            if not leaf.encoding.length:
                continue
            if leaf.encoding.values and leaf.encoding.length == 1:
                values = table.rows[leaf.name]
                codes = _codes(values) if leaf.encoding.is_char else values
                yield leaf.name, (self._names_of(table, leaf).column(codes, table.is_null(leaf.name)), None)
            elif encoding is leaf.encoding and _is_time(field, leaf.encoding):
                yield leaf.name, (times(table.rows[leaf.name], table.is_null(leaf.name), "ns"), None)
            else:
                yield leaf.name, (_values(table, leaf.name, leaf.encoding), None)

    def _decimal_column(self, mantissas: np.ndarray, null: np.ndarray, places: int) -> tuple[pa.Array, Metadata]:
        return decimal_column(mantissas, null, places, self._decimals)


def decimal_column(mantissas: np.ndarray, null: np.ndarray, places: int, how: Decimals) -> tuple[pa.Array, Metadata]:
    """Whole numbers of so many decimal places as a column, and its metadata."""
    if how is Decimals.DECIMAL128:
        return _decimals(mantissas, null, places), None
    return masked(_native(mantissas), null), {EXPONENT: str(-places).encode()}


def arrow_table(decoded: Decoded, name: str, parents: int = 0) -> pa.Table:
    """One of the tables by itself: see :class:`ArrowTables`. Raises KeyError where there is none of that name."""
    return ArrowTables().table(decoded, name, parents)


def _enum_names(encoding: Simple) -> Names:
    # Of names with the same value the first one counts.
    names = {value.number: value.name for value in reversed(encoding.values)}
    ordered = {value.number: names[value.number] for value in encoding.values}
    index = np.int16 if encoding.primitive.size == 1 else np.int32
    return Names(ordered, char_name if encoding.is_char else str, index)


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


def times(values: np.ndarray, null: np.ndarray | None = None, unit: str = "ns") -> pa.Array:
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


def masked(values: np.ndarray, null: np.ndarray | None = None) -> pa.Array:
    """Numbers one behind the other as they are in memory, and where they are null."""
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None if null is None else _validity(null), pa.py_buffer(values)])


def _decimals(mantissas: np.ndarray, null: np.ndarray, places: int) -> pa.Array:
    """Integers of 64 bits as decimals: each is extended to 128 bits, which is what Arrow has in memory."""
    wide = np.empty((len(mantissas), 2), "<i8")
    wide[:, 0] = mantissas.astype("<u8").view("<i8") if mantissas.dtype.kind == "u" else mantissas
    wide[:, 1] = wide[:, 0] >> 63 if mantissas.dtype.kind == "i" else 0
    # As few as hold any mantissa: Parquet keeps a decimal in as many bytes as its digits need.
    digits = min(
        max(places + 1, SIGNED_DIGITS if mantissas.dtype.kind == "i" else UNSIGNED_DIGITS), MOST_DECIMAL_PLACES
    )
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
        return masked(native, null)
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
