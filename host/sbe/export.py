"""Packets to files of tables, slice by slice: a file for each template and each group."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from hdl.frame import Flag
from host.capture.packets import Packets, sliced
from host.sbe.arrow import arrow_table
from host.sbe.full_decode import Decoded, FullDecoder
from host.table_files import WRITERS

SLICE_PACKETS = 1 << 16
"""Packets that are decoded at once: their tables are in memory twice."""


@dataclass
class Export:
    """What was decoded: rows by table, messages by what was wrong with them."""

    rows: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    messages: int = 0


def export(
    decoder: FullDecoder,
    batches: Iterable[Packets],
    folder: Path | None,
    file_format: str = "parquet",
    show: Callable[[int, int, int], None] = lambda packets, packet_bytes, messages: None,
) -> Export:
    """Decode batches of packets, and write their tables to ``folder`` (None: only count).

    ``show`` is called after each slice with what was done so far. Raises OSError where a file cannot be written.
    """
    done = Export()
    packets = packet_bytes = 0
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as files:
        writers: dict[str, Any] = {}
        for part in sliced(batches, SLICE_PACKETS):
            decoded = decoder.decode(part)
            if folder is not None:
                _write(decoded, done, folder, file_format, writers, files)
            _count(decoded, done)
            packets += len(part)
            packet_bytes += int(part.length.sum())
            show(packets, packet_bytes, done.messages)
    return done


def _count(decoded: Decoded, done: Export) -> None:
    done.rows.update({name: len(table) for name, table in decoded.tables.items() if len(table)})
    done.problems.update(Flag(int(flags)).name or str(flags) for flags in decoded.problems["flags"])
    done.messages += decoded.messages


def _write(
    decoded: Decoded,
    done: Export,
    folder: Path,
    file_format: str,
    writers: dict[str, Any],
    files: contextlib.ExitStack,
) -> None:
    for name, table in decoded.tables.items():
        if not len(table):
            continue
        parent = table.layout.parent
        columns = arrow_table(decoded, name, 0 if parent is None else done.rows[parent])
        if file_format == "csv":
            columns = flat(columns)
        if name not in writers:
            writer = WRITERS[file_format](folder / f"{name}.{file_format}", columns.schema)
            writers[name] = files.enter_context(writer)
        writers[name].write_table(columns)


def flat(table: pa.Table) -> pa.Table:
    """A table for CSV, which knows no lists and no bytes: they become text."""
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_fixed_size_list(column.type):
            column = pa.array([None if each is None else " ".join(map(str, each)) for each in column.to_pylist()])
        elif pa.types.is_binary(column.type):
            column = pa.array([None if each is None else each.hex() for each in column.to_pylist()])
        columns[name] = column
    return pa.table(columns)
