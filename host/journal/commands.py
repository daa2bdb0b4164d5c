"""The commands ``tickgate journal verify``, ``show``, ``export`` and ``prepare``."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from host.journal.batch import Batch, control_batch
from host.journal.id_log import id_paths, read_file
from host.journal.index import Query, select
from host.journal.layout import JournalError, check_segment_bytes, segment_paths
from host.journal.scan import JournalReader
from host.journal.segments import make_spares
from host.journal.snapshots import read_snapshot, snapshot_paths
from host.journal.table import Numbers, order_table, words
from host.table_files import WRITERS

console = Console()
errors = Console(stderr=True)

DAMAGED = 1

EXPORT_ROWS = 1 << 16
"""Orders that are written at once: what an export has in memory."""

SHOWN = (
    "time",
    "sequence",
    "kind",
    "side",
    "quantity",
    "price",
    "symbol",
    "client_order_id",
    "verdict",
    "value",
    "limit",
    "node",
)


def prepare(directory: Path, total_bytes: int, segment_bytes: int) -> int:
    """Makes spare segments of so many bytes together, with progress; returns how many. Raises OSError, and ValueError for no whole one."""
    check_segment_bytes(segment_bytes)
    count = total_bytes // segment_bytes
    if count < 1:
        raise ValueError(f"{total_bytes:,} bytes hold no segment of {segment_bytes:,}")
    directory.mkdir(parents=True, exist_ok=True)
    with _progress() as progress:
        task = progress.add_task("prepare", total=count * segment_bytes)
        for written in make_spares(directory, count, segment_bytes):
            progress.update(task, advance=written)
    return count


def check_directory(directory: Path) -> None:
    """Raises ValueError where there is no journal."""
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such directory")
    if not segment_paths(directory):
        raise ValueError(f"{directory}: there is no journal in it")


def verify(directory: Path) -> int:
    """Reads everything and says what is there. Returns 0, or DAMAGED with file, byte and cause on standard error."""
    check_directory(directory)
    orders = controls = batches = 0
    try:
        reader = JournalReader(directory)
        start = reader.start
        for batch in _read(reader, "verify"):
            orders += len(batch)
            batches += 1
            controls += batch.control is not None
        snapshots = [read_snapshot(path) for path in snapshot_paths(directory)]
        ids = sum(len(read_file(path)) for _, _, path in id_paths(directory))
    except JournalError as error:
        errors.print(f"tickgate: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return DAMAGED
    last = reader.position
    sequences = f"sequences {start.sequence:,} to {last.sequence - 1:,}" if orders else "no orders"
    console.print(
        f"{directory}: whole: {batches:,} batches, {orders:,} orders ({sequences}), {controls:,} control records, "
        f"segments {start.segment} to {last.segment}, {len(snapshots)} snapshots, {ids:,} client order ids beside them",
        highlight=False,
        soft_wrap=True,
    )
    if reader.torn:
        console.print(
            f"{reader.torn.path}: byte {reader.torn.offset}: a torn tail of {reader.torn.length:,} bytes, which had not been "
            "acknowledged; it is cut when the journal is next opened to be written",
            highlight=False,
            soft_wrap=True,
        )
    return 0


def show(
    directory: Path,
    query: Query,
    verdicts: Mapping[Any, str],
    numbers: Numbers,
    *,
    limit: int | None,
    as_json: bool,
    raw: bool,
    controls: bool = False,
) -> None:
    """Prints the orders that a query wants, a line each; or the control records."""
    check_directory(directory)
    if controls:
        _show_controls(directory, limit)
        return
    known = words(verdicts)
    if not as_json:
        print("\t".join((*SHOWN, *(["message"] if raw else []))))
    left = limit
    for batch, places in select(directory, query):
        if left is not None:
            places = places[:left]
            left -= len(places)
        table = order_table(batch, known, numbers, places, raw=raw)
        # Python's datetime has no nanoseconds.
        times = table["time"].cast(pa.string())
        table = table.set_column(table.column_names.index("time"), "time", times)
        for row in table.to_pylist():
            print(json.dumps(_plain(row)) if as_json else _line(row, raw))
        if left == 0:
            break


def _show_controls(directory: Path, limit: int | None) -> None:
    shown = 0
    for batch in JournalReader(directory):
        if batch.control is not None and (limit is None or shown < limit):
            print(json.dumps({"before_sequence": batch.first_sequence, "batch": batch.number, **batch.control}))
            shown += 1


def export(directory: Path, out: Path, verdicts: Mapping[Any, str], numbers: Numbers, *, raw: bool) -> int:
    """Writes all orders to one file, in the format of its ending. Returns how many."""
    file_format = out.suffix.removeprefix(".")
    if file_format not in WRITERS:
        raise ValueError(f"{out}: the ending is none of {', '.join(WRITERS)}")
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent}: no such directory")
    check_directory(directory)
    known = words(verdicts)
    orders = 0
    with contextlib.ExitStack() as stack:
        writer: Any = None
        for table in _tables(JournalReader(directory), known, numbers, raw):
            columns = _for_csv(table) if file_format == "csv" else table
            if writer is None:
                writer = stack.enter_context(WRITERS[file_format](out, columns.schema))
            writer.write_table(columns)
            orders += len(columns)
    return orders


def _tables(reader: JournalReader, verdicts: pa.Array, numbers: Numbers, raw: bool) -> Iterator[pa.Table]:
    """All orders in tables of about EXPORT_ROWS; at least one table, so that a file of no orders has its columns."""
    gathered: list[pa.Table] = []
    rows = given = 0
    for batch in _read(reader, "export"):
        if not len(batch):
            continue
        gathered.append(order_table(batch, verdicts, numbers, raw=raw))
        rows += len(batch)
        if rows >= EXPORT_ROWS:
            yield pa.concat_tables(gathered).combine_chunks()
            given += 1
            gathered, rows = [], 0
    if gathered:
        yield pa.concat_tables(gathered).combine_chunks()
    elif not given:
        yield order_table(control_batch({"type": ""}, 0, 1), verdicts, numbers, raw=raw)


def _progress() -> Progress:
    """A bar of bytes, the rate and the time left, on standard error."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
    )


def _read(reader: JournalReader, what: str) -> Iterator[Batch]:
    """The batches, with a bar of the bytes read."""
    sizes = {number: path.stat().st_size for number, path in segment_paths(reader.directory)}
    with _progress() as progress:
        task: TaskID = progress.add_task(what, total=sum(sizes.values()))
        segment, before = reader.position.segment, 0
        for count, batch in enumerate(reader):
            if reader.position.segment != segment:
                before += sizes.get(segment, 0)
                segment = reader.position.segment
            if count % 64 == 0:
                progress.update(task, completed=before + reader.position.offset)
            yield batch
        progress.update(task, completed=sum(sizes.values()))


def _for_csv(table: pa.Table) -> pa.Table:
    """CSV knows no bytes: a raw message is text there, with | for SOH."""
    if "message" not in table.column_names:
        return table
    place = table.column_names.index("message")
    texts = [message.decode("latin-1").replace("\x01", "|") for message in table["message"].to_pylist()]
    return table.set_column(place, "message", pa.array(texts))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row for JSON: decimals as texts, since a JSON number may lose digits."""
    plain: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Decimal):
            plain[name] = _number(value)
        elif isinstance(value, bytes):
            plain[name] = value.decode("latin-1")
        else:
            plain[name] = value
    return plain


def _line(row: dict[str, Any], raw: bool) -> str:
    cells = [_plain(row)[name] for name in SHOWN]
    if raw:
        cells.append(row["message"].decode("latin-1").replace("\x01", "|"))
    return "\t".join("-" if cell is None else str(cell) for cell in cells)


def _number(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_time(text: str) -> int:
    """ns since 1970 of a time in UTC (ISO 8601, to the ns) or of a whole number. Raises ValueError."""
    if text.isdecimal():
        return int(text)
    try:
        return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))
    except ValueError:
        raise ValueError(f"'{text}' is no time: 2025-11-26T09:30:00.000000001 in UTC, or ns since 1970") from None
