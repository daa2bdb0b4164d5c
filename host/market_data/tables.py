"""Books as Arrow tables. Prices are int64 in 1e-9 and quantities int64 in 1e-8; each such column says so in its metadata
(``exponent``), and :func:`as_decimals` makes decimal128 of them. Times are nanoseconds, UTC."""

from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import pyarrow as pa

from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS
from host.market_data.definitions import Definition
from host.market_data.layout import STATISTICS, UNKNOWN, Mark

TIME = pa.timestamp("ns", tz="UTC")
NAMES = pa.dictionary(pa.int8(), pa.string())
EXPONENT = b"exponent"
PRICE = {EXPONENT: str(-PRICE_DECIMALS).encode()}
QUANTITY = {EXPONENT: str(-QUANTITY_DECIMALS).encode()}
DIGITS = 19
"""Of an int64."""

SIDES = ("bid", "ask")
MARKS = pa.array([mark.name for mark in Mark])
ACTIONS = pa.array(["new", "change", "delete"])
AGGRESSORS = pa.array(["none", "buy", "sell"])


def _price(name: str) -> pa.Field:
    return pa.field(name, pa.int64(), metadata=PRICE)


def _quantity(name: str) -> pa.Field:
    return pa.field(name, pa.int64(), metadata=QUANTITY)


def level_schema(levels: int) -> pa.Schema:
    """Columns of a table of levels: instrument, timestamp, channel, mark, status, then by level ``bid_price_1``, ``bid_quantity_1``,
    ``bid_orders_1``, ``ask_price_1`` and so on."""
    fields = [
        pa.field("instrument", pa.uint64()),
        pa.field("timestamp", TIME),
        pa.field("channel", pa.int32()),
        pa.field("mark", NAMES),
        pa.field("status", pa.uint8()),
    ]
    for level in range(1, levels + 1):
        for side in SIDES:
            fields += [
                _price(f"{side}_price_{level}"),
                _quantity(f"{side}_quantity_{level}"),
                pa.field(f"{side}_orders_{level}", pa.uint32()),
            ]
    return pa.schema(fields)


def level_batch(rows: np.ndarray, levels: np.ndarray) -> pa.RecordBatch:
    """Rows (ROW_DTYPE) and their levels (LEVEL_DTYPE; row, side, level), copied. A level that is not there is null."""
    columns = [
        pa.array(rows["instrument"].copy()),
        _times(rows["timestamp"]),
        pa.array(rows["channel"].copy()),
        _named(rows["mark"], MARKS),
        pa.array(rows["status"].copy()),
    ]
    for level in range(levels.shape[2]):
        for side in range(len(SIDES)):
            its = levels[:, side, level]
            null = its["known"] == UNKNOWN
            columns += [
                pa.array(its["price"].copy(), mask=null),
                pa.array(its["quantity"].astype(np.int64), mask=null),
                pa.array(its["orders"].copy(), mask=null),
            ]
    return pa.RecordBatch.from_arrays(columns, schema=level_schema(levels.shape[2]))


TRADE_SCHEMA = pa.schema(
    [
        pa.field("instrument", pa.uint64()),
        pa.field("timestamp", TIME),
        pa.field("channel", pa.int32()),
        _price("price"),
        _quantity("quantity"),
        pa.field("orders", pa.uint32()),
        pa.field("aggressor", NAMES),
        pa.field("action", NAMES),
    ]
)


def trade_batch(trades: np.ndarray) -> pa.RecordBatch:
    """Trades (TRADE_DTYPE), copied."""
    return pa.RecordBatch.from_arrays(
        [
            pa.array(trades["instrument"].copy()),
            _times(trades["timestamp"]),
            pa.array(trades["channel"].copy()),
            pa.array(trades["price"].copy(), mask=~trades["has_price"]),
            pa.array(trades["quantity"].astype(np.int64), mask=~trades["has_quantity"]),
            pa.array(trades["orders"].copy()),
            _named(trades["aggressor"], AGGRESSORS),
            _named(np.maximum(trades["action"], ord("0")) - ord("0"), ACTIONS),
        ],
        schema=TRADE_SCHEMA,
    )


def statistics_table(instruments: np.ndarray, marks: np.ndarray) -> pa.Table:
    """A row for each instrument (INSTRUMENT_DTYPE); ``marks`` of its book by price and its book by order."""
    has_trade = instruments["trades"] > 0
    columns: list[tuple[pa.Field, pa.Array]] = [
        (pa.field("instrument", pa.uint64()), pa.array(instruments["instrument"].copy())),
        (pa.field("channel", pa.int32()), pa.array(instruments["channel"].copy())),
        (pa.field("mark_by_price", NAMES), _named(marks[:, 0], MARKS)),
        (pa.field("mark_by_order", NAMES), _named(marks[:, 1], MARKS)),
        (pa.field("status", pa.uint8()), pa.array(instruments["status"].copy())),
        (_price("last_price"), pa.array(instruments["last_price"].copy(), mask=~has_trade)),
        (_quantity("last_quantity"), pa.array(instruments["last_quantity"].astype(np.int64), mask=~has_trade)),
        (_quantity("traded_quantity"), pa.array(instruments["volume"].astype(np.int64))),
        (pa.field("trades", pa.int64()), pa.array(instruments["trades"].copy())),
    ]
    for number, (name, is_quantity) in enumerate(STATISTICS.values()):
        absent = instruments["present"] >> np.uint32(number) & np.uint32(1) == 0
        field = _quantity(name) if is_quantity else _price(name)
        columns.append((field, pa.array(instruments["statistics"][:, number].copy(), mask=absent)))
    return pa.table([column for _, column in columns], schema=pa.schema([field for field, _ in columns]))


def definition_table(definitions: Mapping[int, Definition]) -> pa.Table:
    """A row for each definition; decimals as the venue gave them, to 9 places."""
    decimal = pa.decimal128(38, PRICE_DECIMALS)

    def decimals(values: list[Decimal | None]) -> pa.Array:
        return pa.array([None if value is None else round(value, PRICE_DECIMALS) for value in values], decimal)

    every = list(definitions.values())
    return pa.table(
        {
            "instrument": pa.array(list(definitions), pa.uint64()),
            "symbol": pa.array([each.symbol for each in every], pa.string()),
            "group": pa.array([each.group for each in every], pa.string()),
            "asset": pa.array([each.asset for each in every], pa.string()),
            "currency": pa.array([each.currency for each in every], pa.string()),
            "tick": decimals([each.tick for each in every]),
            "multiplier": decimals([each.multiplier for each in every]),
            "display_factor": decimals([each.display_factor for each in every]),
            "outright_depth": pa.array([each.outright_depth for each in every], pa.int32()),
            "implied_depth": pa.array([each.implied_depth for each in every], pa.int32()),
        }
    )


def as_decimals(table: pa.Table) -> pa.Table:
    """A table of this module with decimal128 in the place of whole numbers that have an exponent."""
    for number, field in enumerate(table.schema):
        places = (field.metadata or {}).get(EXPONENT)
        if places is not None:
            kind = pa.decimal128(DIGITS, -int(places))
            chunks = [_extended(chunk, kind) for chunk in table.column(number).chunks]
            table = table.set_column(number, field.name, pa.chunked_array(chunks, kind))
    return table


def _extended(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """int64 as a decimal of 128 bits with the same digits."""
    validity, content = values.buffers()
    narrow = np.frombuffer(content, np.int64, values.offset + len(values)) if content else np.empty(0, np.int64)
    wide = np.empty((len(narrow), 2), np.int64)
    wide[:, 0] = narrow
    wide[:, 1] = narrow >> 63
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(wide)], offset=values.offset)


def _times(timestamps: np.ndarray) -> pa.Array:
    return pa.array(timestamps.astype(np.int64)).cast(TIME)


def _named(codes: np.ndarray, names: pa.Array) -> pa.Array:
    """Codes as their names; one that has none is null."""
    beyond = codes >= len(names)
    return pa.DictionaryArray.from_arrays(pa.array(np.where(beyond, 0, codes).astype(np.int8), mask=beyond), names)
