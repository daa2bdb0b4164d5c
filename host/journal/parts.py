"""Named arrays in one file, which is mapped and not read: what snapshots and indexes are made of.

A header, a table of the arrays in JSON, and the arrays on page boundaries. Runs of zeros are holes, so that tables with
much room cost what is in them.
"""

import json
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from host.journal.layout import HEADER_BYTES, CorruptJournal, JournalError, crc32, header_crc, next_page
from host.journal.scan import Position
from host.journal.segments import sync_directory

PARTS_VERSION = 1

PARTS_DTYPE = np.dtype(
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
"""The first 64 bytes: a magic number for what it is, the position up to which it holds, the file's size, and the size
and CRC-32 of the table behind the header; ``crc`` covers bytes 0 to 59."""

CHUNK_BYTES = 256 << 10
"""Zeros are left out in runs of so many bytes."""

assert PARTS_DTYPE.itemsize == HEADER_BYTES


def write_parts(path: Path, magic: int, position: Position, parts: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a file that gets its name once it is whole and durable.

    Raises OSError when the disk refuses, ValueError for arrays of Python objects.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in parts.items()}
    table: list[dict[str, Any]] = []
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"part {name} holds Python objects")
        dtype = np.lib.format.dtype_to_descr(array.dtype)
        row: dict[str, Any] = {"name": name, "dtype": dtype, "shape": array.shape, "offset": 0, "bytes": array.nbytes}
        table.append({**row, "crc": crc32(_bytes(array).data)})
    # Offsets take at most 20 digits: the table's room does not depend on them.
    end = next_page(HEADER_BYTES + len(json.dumps(table)) + 20 * len(table))
    for row, array in zip(table, arrays.values(), strict=True):
        row["offset"] = end
        end = next_page(end + array.nbytes)
    text = json.dumps(table).encode()
    header = np.zeros(1, PARTS_DTYPE)
    header["magic"], header["version"] = magic, PARTS_VERSION
    for name, value in position._asdict().items():
        header[name] = value
    header["bytes"], header["table_bytes"], header["table_crc"] = end, len(text), crc32(text)
    header["crc"] = header_crc(header[0])

    new = path.with_suffix(path.suffix + ".making")
    file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.ftruncate(file, end)
        _write(file, np.frombuffer(header.tobytes() + text, np.uint8), 0)
        for row, array in zip(table, arrays.values(), strict=True):
            _write(file, _bytes(array), row["offset"])
        os.fsync(file)
        new.rename(path)
        sync_directory(path.parent)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def read_parts(path: Path, magic: int, *, verify: bool = True) -> tuple[Position, dict[str, np.ndarray]]:
    """The position and the arrays, mapped copy-on-write: they may be written to, and the file stays as it is.

    ``verify`` reads all arrays and compares their CRCs; without it only header, table and size are verified. Raises
    CorruptJournal when the file is not whole, JournalError for another version, OSError.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < HEADER_BYTES:
            raise CorruptJournal(f"{path}: byte 0: shorter than its header")
        data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    header = data[:HEADER_BYTES].view(PARTS_DTYPE)[0]
    if header["magic"] != magic:
        raise CorruptJournal(f"{path}: byte 0: not what its name says")
    if header["version"] != PARTS_VERSION:
        raise JournalError(f"{path}: byte 8: version {header['version']}, this program reads {PARTS_VERSION}")
    if header["crc"] != header_crc(header) or header["bytes"] != len(data):
        raise CorruptJournal(f"{path}: byte 0: the header does not match the file")
    text = data[HEADER_BYTES : HEADER_BYTES + int(header["table_bytes"])].tobytes()
    if crc32(text) != header["table_crc"]:
        raise CorruptJournal(f"{path}: byte {HEADER_BYTES}: the CRC of the table does not match")
    parts = {}
    for row in json.loads(text):
        part = data[row["offset"] : row["offset"] + row["bytes"]]
        if verify and crc32(part.data) != row["crc"]:
            raise CorruptJournal(f"{path}: byte {row['offset']}: the CRC of part {row['name']} does not match")
        parts[row["name"]] = part.view(_dtype(row["dtype"])).reshape(row["shape"])
    return Position(*(int(header[name]) for name in Position._fields)), parts


def _bytes(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8)


def _write(file: int, data: np.ndarray, offset: int) -> None:
    for begin in range(0, len(data), CHUNK_BYTES):
        chunk = data[begin : begin + CHUNK_BYTES]
        if chunk.any():
            written = 0
            while written < len(chunk):
                written += os.pwrite(file, chunk[written:].data, offset + begin + written)


def _dtype(description: Any) -> np.dtype:
    """A dtype from what ``numpy.lib.format`` says of it, in which JSON has made lists of tuples."""

    def restored(part: Any) -> Any:
        if isinstance(part, str):
            return part
        return [(field[0], restored(field[1]), *(tuple(shape) for shape in field[2:])) for field in part]

    return np.lib.format.descr_to_dtype(restored(description))
