"""Snapshots: the state behind a journal position as flat arrays in one file, which is mapped and not read.

A file ``00000000000000001234-000000000056.snapshot`` (the next sequence and batch) is a header, a table of its parts in
JSON, and the parts on page boundaries. Runs of zeros are holes, so that tables with much room cost what is in them.
"""

import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from host.journal.layout import HEADER_BYTES, CorruptJournal, JournalError, crc32, header_crc
from host.journal.scan import Position, next_page
from host.journal.segments import sync_directory

SNAPSHOT_MAGIC = int.from_bytes(b"TICKSNAP", "little")
SNAPSHOT_VERSION = 1
SNAPSHOT_SUFFIX = ".snapshot"

SNAPSHOT_DTYPE = np.dtype(
    [
        ("magic", "<u8"),
        ("version", "<u4"),
        ("segment", "<u4"),
        ("offset", "<u8"),
        ("batch", "<u8"),
        ("sequence", "<u8"),
        ("bytes", "<u8"),
        ("chain", "<u4"),
        ("table_bytes", "<u4"),
        ("table_crc", "<u4"),
        ("crc", "<u4"),
    ]
)
"""A snapshot's first 64 bytes: the position behind which it holds, the file's size, and the size and CRC-32 of the table
behind the header; ``crc`` covers bytes 0 to 59."""

CHUNK_BYTES = 256 << 10
"""Zeros are left out in runs of so many bytes."""

assert SNAPSHOT_DTYPE.itemsize == HEADER_BYTES


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that was found: ``parts`` are mapped copy-on-write, so they may be written to and the file stays."""

    path: Path
    position: Position
    parts: dict[str, np.ndarray]


def write_snapshot(directory: Path | str, position: Position, parts: Mapping[str, np.ndarray]) -> Path:
    """Writes the arrays as the state that holds at ``position``, which must lie behind durable batches only.

    The file gets its name once it is whole and durable. Raises OSError when the disk refuses, ValueError for arrays of
    Python objects.
    """
    directory = Path(directory)
    arrays = {name: np.ascontiguousarray(array) for name, array in parts.items()}
    table: list[dict[str, object]] = []
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"part {name} holds Python objects")
        table.append(
            {
                "name": name,
                "dtype": np.lib.format.dtype_to_descr(array.dtype),
                "shape": array.shape,
                "offset": 0,
                "bytes": array.nbytes,
                "crc": crc32(_bytes(array).data),
            }
        )
    # Offsets are as long as they get, so that the table's size does not change with them.
    room = next_page(HEADER_BYTES + len(json.dumps(table)) + 20 * len(table))
    end = room
    for entry, array in zip(table, arrays.values(), strict=True):
        entry["offset"] = end
        end = next_page(end + array.nbytes)
    text = json.dumps(table).encode()
    header = np.zeros(1, SNAPSHOT_DTYPE)
    header["magic"], header["version"] = SNAPSHOT_MAGIC, SNAPSHOT_VERSION
    for name in ("segment", "offset", "batch", "sequence", "chain"):
        header[name] = getattr(position, name)
    header["bytes"], header["table_bytes"], header["table_crc"] = end, len(text), crc32(text)
    header["crc"] = header_crc(header[0])

    path = directory / f"{position.sequence:020d}-{position.batch:012d}{SNAPSHOT_SUFFIX}"
    new = path.with_suffix(".making")
    file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.ftruncate(file, end)
        _write(file, np.frombuffer(header.tobytes() + text, np.uint8), 0)
        for entry, array in zip(table, arrays.values(), strict=True):
            _write(file, _bytes(array), int(str(entry["offset"])))
        os.fsync(file)
        new.rename(path)
        sync_directory(directory)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    return path


def newest_snapshot(directory: Path | str, *, verify: bool = True) -> Snapshot | None:
    """The newest whole snapshot of a directory, with its parts mapped; None when there is none.

    A damaged one is passed over for the one before. ``verify`` reads all parts and compares their CRCs; without it
    only header, table and size are verified. Raises JournalError for a version that this program does not read.
    """
    for path in snapshot_paths(directory):
        try:
            return read_snapshot(path, verify=verify)
        except (CorruptJournal, FileNotFoundError):
            continue
    return None


def snapshot_paths(directory: Path | str) -> list[Path]:
    """The snapshots of a directory, the newest first."""
    return sorted(Path(directory).glob(f"*{SNAPSHOT_SUFFIX}"), reverse=True)


def read_snapshot(path: Path, *, verify: bool = True) -> Snapshot:
    """One snapshot. Raises CorruptJournal when it is not whole, JournalError for another version."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < HEADER_BYTES:
            raise CorruptJournal(f"{path}: byte 0: shorter than a snapshot's header")
        data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    header = data[:HEADER_BYTES].view(SNAPSHOT_DTYPE)[0]
    if header["magic"] != SNAPSHOT_MAGIC:
        raise CorruptJournal(f"{path}: byte 0: not a snapshot")
    if header["version"] != SNAPSHOT_VERSION:
        raise JournalError(f"{path}: byte 8: version {header['version']}, this program reads {SNAPSHOT_VERSION}")
    if header["crc"] != header_crc(header) or header["bytes"] != len(data):
        raise CorruptJournal(f"{path}: byte 0: the snapshot's header does not match its file")
    text = data[HEADER_BYTES : HEADER_BYTES + int(header["table_bytes"])].tobytes()
    if crc32(text) != header["table_crc"]:
        raise CorruptJournal(f"{path}: byte {HEADER_BYTES}: the CRC of the table does not match")
    parts = {}
    for entry in json.loads(text):
        part = data[entry["offset"] : entry["offset"] + entry["bytes"]]
        if verify and crc32(part.data) != entry["crc"]:
            raise CorruptJournal(f"{path}: byte {entry['offset']}: the CRC of part {entry['name']} does not match")
        parts[entry["name"]] = part.view(_dtype(entry["dtype"])).reshape(entry["shape"])
    fields = (int(header[name]) for name in Position._fields)
    return Snapshot(path, Position(*fields), parts)


def _bytes(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8)


def _write(file: int, data: np.ndarray, offset: int) -> None:
    for begin in range(0, len(data), CHUNK_BYTES):
        chunk = data[begin : begin + CHUNK_BYTES]
        if chunk.any():
            written = 0
            while written < len(chunk):
                written += os.pwrite(file, chunk[written:].data, offset + begin + written)


def _dtype(description: object) -> np.dtype:
    """A dtype from what ``numpy.lib.format`` says of it, which JSON has made lists of."""

    def tuples(part: object) -> object:
        """Fields are tuples of name, type and shape; only the list of fields is a list."""
        if not isinstance(part, list):
            return part
        return [tuple(tuple(each) if i == 2 else tuples(each) for i, each in enumerate(field)) for field in part]

    return np.lib.format.descr_to_dtype(tuples(description))  # type: ignore[arg-type]
