"""Where tables are written: a folder of Parquet files by channel and date, or one file. Whole or not there.

A folder is made as ``NAME.partial`` and renamed when it is whole; a part in it has another name until it is. The parts that are
whole stand in the state file, so that an interrupted run can go on.
"""

import contextlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from host.playback.partition import Partition, Run
from host.sbe.export import flat

PART_BYTES = 32 << 20
"""Of Arrow tables in memory that become one file."""

HELD_BYTES = 192 << 20
"""Of all of them that wait: beyond that the largest is written."""

PARTIAL = ".partial"
STATE = "_tickgate.jsonl"
"""Begins with ``_``, which readers of data sets pass over."""

STATISTICS = ("timestamp", "@timestamp", "@row", "@parent", "instrument", "SecurityID")
"""Columns by which readers pass over parts: least and largest value are kept of these."""

BATCH_ROWS = 1 << 16
"""Rows that are encoded at a time: with 65,536 instead of 1024 a part is written in an eighth less time."""

FILES = (".arrow", ".csv", ".parquet")


GO_ON = "; whole parts are kept: make room, then go on with --resume"


class OutError(ValueError):
    """Nothing can be written so; one line that says what to do."""


class Sink(Protocol):
    """Takes tables, batch after batch."""

    def wants(self, name: str, runs: Sequence[Run]) -> bool:
        """Whether anything of these rows of a table would be written."""

    def add(self, name: str, table: pa.Table, runs: Sequence[Run]) -> None:
        """Rows of a table, by partition. Raises OutError where they cannot be written."""

    def finish(self) -> None:
        """Everything is there: give it its name. Raises OutError."""

    def close(self) -> None:
        """Leave nothing that looks whole; after :meth:`finish` without effect."""


class Dataset:
    """A folder: ``TABLE/channel=…/date=…/part-….parquet``.

    Parameters:
        folder: is made; must not be there, unless it is empty.
        channels: names of the flows, by number.
        identity: what the run is; a run that goes on has to have the same.
        resume: go on with what an interrupted run has left, if it has.
        part_bytes, held_bytes: other sizes than :data:`PART_BYTES`, :data:`HELD_BYTES`.

    Raises OutError.
    """

    def __init__(
        self,
        folder: Path,
        channels: Sequence[str],
        identity: Mapping[str, Any],
        resume: bool = False,
        part_bytes: int | None = None,
        held_bytes: int | None = None,
    ) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutError(f"{folder}: is there already; remove it, or write to another folder")
        self._folder = folder
        self._partial = folder.with_name(folder.name + PARTIAL)
        self._channels = [re.sub(r"[^0-9A-Za-z.]", "-", channel) for channel in channels]
        self._part_bytes, self._most_bytes = part_bytes or PART_BYTES, held_bytes or HELD_BYTES
        self._folders: dict[Partition, str] = {}
        self._whole: Counter[tuple[str, str]] = Counter()
        self._parts: Counter[tuple[str, str]] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._held: dict[tuple[str, str], list[pa.Table]] = {}
        self._bytes: Counter[tuple[str, str]] = Counter()
        self.finished = False
        state = self._partial / STATE
        if self._partial.exists():
            if not resume:
                raise OutError(f"{self._partial}: is of a run that was interrupted; go on with --resume, or remove it")
            if state.exists():
                self._go_on(state, identity)
                return
            shutil.rmtree(self._partial)
        self._identity = dict(identity)

    @property
    def held_bytes(self) -> int:
        """Bytes of tables that wait to be written."""
        return self._bytes.total()

    def _go_on(self, state: Path, identity: Mapping[str, Any]) -> None:
        # A line without its end was not written to its end.
        first, *parts = [line for line in state.read_text().splitlines(keepends=True) if line.endswith("\n")] or [""]
        before = json.loads(first or "{}")
        for what, value in identity.items():
            if before.get(what) != value:
                raise OutError(
                    f"{self._partial}: is of another run ({what}: {before.get(what)}, not {value}); "
                    "resume with the same, or remove it"
                )
        whole = {STATE}
        for line in parts:
            part = json.loads(line)
            key = part["table"], part["partition"]
            self._whole[key] += part["rows"]
            self._parts[key] += 1
            whole.add(part["file"])
        state.write_text("".join([first, *parts]))
        for path in self._partial.rglob("*"):
            if path.is_file() and path.relative_to(self._partial).as_posix() not in whole:
                path.unlink()

    def _key(self, name: str, partition: Partition) -> tuple[str, str]:
        if partition not in self._folders:
            channel = self._channels[partition.flow] if partition.flow < len(self._channels) else "none"
            self._folders[partition] = f"channel={channel}/date={partition.date}"
        return name, self._folders[partition]

    def wants(self, name: str, runs: Sequence[Run]) -> bool:
        """See :class:`Sink`."""
        keys = [(self._key(name, run.partition), run.end - run.begin) for run in runs]
        if any(self._seen[key] + rows > self._whole[key] for key, rows in keys):
            return True
        for key, rows in keys:
            self._seen[key] += rows
        return False

    def add(self, name: str, table: pa.Table, runs: Sequence[Run]) -> None:
        """See :class:`Sink`."""
        row_bytes = table.nbytes / max(len(table), 1)
        for run in runs:
            key = self._key(name, run.partition)
            skipped = min(max(self._whole[key] - self._seen[key], 0), run.end - run.begin)
            self._seen[key] += run.end - run.begin
            piece = table.slice(run.begin + skipped, run.end - run.begin - skipped)
            if not len(piece):
                continue
            self._held.setdefault(key, []).append(piece)
            self._bytes[key] += int(row_bytes * len(piece))
            if self._bytes[key] >= self._part_bytes:
                self._write(key)
        while self._bytes.total() > self._most_bytes:
            self._write(max(self._bytes, key=lambda key: self._bytes[key]))

    def _begin(self) -> None:
        """Make the folder, unless it is there."""
        if not self._partial.exists():
            with _named(self._partial):
                self._partial.mkdir(parents=True)
                (self._partial / STATE).write_text(json.dumps(self._identity) + "\n")

    def _write(self, key: tuple[str, str]) -> None:
        name, partition = key
        table = pa.concat_tables(self._held.pop(key))
        del self._bytes[key]
        self._begin()
        folder = self._partial / name / partition
        final = folder / f"part-{self._parts[key]:06}.parquet"
        under_way = folder / f".{final.name}{PARTIAL}"
        with _named(under_way, GO_ON):
            folder.mkdir(parents=True, exist_ok=True)
            write_parquet(table, under_way)
            under_way.rename(final)
            line = {"table": name, "partition": partition, "rows": len(table)}
            line["file"] = final.relative_to(self._partial).as_posix()
            with (self._partial / STATE).open("a") as state:
                state.write(json.dumps(line) + "\n")
        self._parts[key] += 1

    def finish(self) -> None:
        """See :class:`Sink`."""
        for key in list(self._held):
            self._write(key)
        self._begin()
        with _named(self._partial / STATE):
            if self._folder.exists():
                self._folder.rmdir()
            (self._partial / STATE).unlink()
            self._partial.rename(self._folder)
        self.finished = True

    def close(self) -> None:
        """See :class:`Sink`. What is whole stays for a run that goes on."""
        if not self.finished and not self._parts:
            shutil.rmtree(self._partial, ignore_errors=True)


class File:
    """One file with one table: ``.arrow``, ``.csv`` or ``.parquet``. Raises OutError."""

    def __init__(self, path: Path, table: str) -> None:
        if path.is_dir():
            raise OutError(f"{path}: is a folder; remove it, or write to another file")
        self._path, self._table = path, table
        self._partial = path.with_name(path.name + PARTIAL)
        self._writer: Any = None
        self._file: Any = None

    def wants(self, name: str, runs: Sequence[Run]) -> bool:
        """See :class:`Sink`."""
        return name == self._table

    def add(self, name: str, table: pa.Table, runs: Sequence[Run]) -> None:
        """See :class:`Sink`."""
        with _named(self._partial):
            if self._path.suffix == ".csv":
                table = flat(table)
            if self._writer is None:
                self._file = self._partial.open("wb")
                self._writer = WRITERS[self._path.suffix](self._file, table.schema)
            self._writer.write_table(table)

    def finish(self) -> None:
        """See :class:`Sink`. Raises OutError where the table has no row: then there are no columns to be written."""
        if self._writer is None:
            raise OutError(f"{self._path}: not written, the table {self._table} has no row")
        with _named(self._partial):
            self._writer.close()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.rename(self._path)
        self._writer = None

    def close(self) -> None:
        """See :class:`Sink`."""
        if self._writer is not None:
            with contextlib.suppress(OSError, pa.ArrowInvalid):
                self._writer.close()
            with contextlib.suppress(OSError):
                self._file.close()
        self._partial.unlink(missing_ok=True)


WRITERS: dict[str, Callable[[Any, pa.Schema], Any]] = {
    ".arrow": lambda file, schema: pyarrow.ipc.new_file(
        file, schema, options=pyarrow.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    ),
    ".csv": lambda file, schema: pyarrow.csv.CSVWriter(file, schema),
    ".parquet": lambda file, schema: pyarrow.parquet.ParquetWriter(file, schema, **parquet_options(schema)),
}


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """How columns are written: dictionaries for names, differences for row numbers, zstd."""
    named = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    counted = {name: "DELTA_BINARY_PACKED" for name in schema.names if name in ("@row", "@parent")}
    kept = [name for name in schema.names if name in STATISTICS]
    return {
        "compression": "zstd",
        "use_dictionary": named or False,
        "column_encoding": counted or None,
        "write_statistics": kept or False,
        "write_batch_size": BATCH_ROWS,
    }


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table and see it on the disk."""
    with path.open("wb") as file:
        pyarrow.parquet.write_table(table, file, row_group_size=max(len(table), 1), **parquet_options(table.schema))
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _named(path: Path, hint: str = "") -> Iterator[None]:
    """Remove the file where the system cannot write it, and say so as OutError."""
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise OutError(f"{path}: cannot be written ({reason}){hint}") from None


def open_sink(out: Path, table: str, channels: Sequence[str], identity: Mapping[str, Any], resume: bool) -> Sink:
    """What ``--out`` names: a file by its ending, else a folder. Raises OutError, and OSError where it cannot be made."""
    check_out(out, resume)
    return File(out, table) if out.suffix in FILES else Dataset(out, channels, identity, resume)


def check_out(out: Path, resume: bool = False) -> None:
    """Raise OutError for what cannot be written to, before any work is done."""
    if out.suffix not in FILES and re.fullmatch(r"\.[a-z]{2,7}", out.suffix):
        raise OutError(
            f"{out}: no format is called {out.suffix[1:]}; {', '.join(FILES)} are files, other names folders"
        )
    if out.suffix in FILES and resume:
        raise OutError(f"{out}: a single file is written anew, only a folder can be resumed")
    parent = out.absolute().parent
    if out.suffix in FILES and not parent.is_dir():
        raise OutError(f"{out}: there is no folder {parent}")
