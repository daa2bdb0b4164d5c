"""Decoded tables as Arrow tables: nulls are null, decimals are decimals, var data is in place."""

import numpy as np
import pyarrow as pa

from hdl.sbe_encoding import Composite, Family, Simple, decimal_parts
from hdl.sbe_schema import Field
from host.sbe.full_decode import Decoded, Table
from host.sbe.layout import PRESENT

MOST_DECIMAL_PLACES = 38
"""Of Arrow's decimal128."""


def arrow_table(decoded: Decoded, name: str, parents: int = 0) -> pa.Table:
    """One of the tables. Raises KeyError where there is none of that name.

    A decimal with a constant exponent is one column, of decimals; any other has one for each member. Text that is no UTF-8 is
    taken as Latin-1; arrays of numbers are lists of their length. Columns with ``@`` stay what they are (``parents`` is added to the
    parent's row), but ``@present``, whose meaning is in the nulls.
    """
    table = decoded.tables[name]
    columns: dict[str, pa.Array] = {}
    for field in table.layout.block.fields:
        columns.update(_field_columns(table, field))
    for data in table.layout.block.data:
        columns[data.name] = _data_column(decoded, table, data.name, data.is_text)
    for own in table.rows.dtype.names or ():
        if own.startswith("@") and own != PRESENT:
            values = np.ascontiguousarray(table.rows[own])
            columns[own] = pa.array(values + np.uint64(parents) if own == "@parent" else values)
    return pa.table(columns)


def _field_columns(table: Table, field: Field) -> dict[str, pa.Array]:
    if isinstance(field.encoding, Composite) and (parts := decimal_parts(field.encoding)):
        exponent = parts.exponent.encoding
        assert isinstance(exponent, Simple)
        if isinstance(exponent.constant, int) and -MOST_DECIMAL_PLACES <= exponent.constant <= 0:
            name = f"{field.name}.{parts.mantissa.name}"
            return {field.name: _decimals(table.rows[name], table.is_null(name), -exponent.constant)}
    return {leaf.name: _values(table, leaf.name, leaf.encoding) for leaf in field.leaves() if leaf.encoding.length}


def _decimals(mantissas: np.ndarray, null: np.ndarray, places: int) -> pa.Array:
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
    native = np.ascontiguousarray(values).astype(values.dtype.base.newbyteorder("="))
    if encoding.length == 1:
        return pa.array(native, mask=null)
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
