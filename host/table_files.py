"""The formats in which tables are written to files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

WRITERS: dict[str, Callable[[Path, pa.Schema], Any]] = {
    "parquet": lambda path, schema: pyarrow.parquet.ParquetWriter(path, schema),
    "arrow": lambda path, schema: pyarrow.ipc.new_file(path, schema),
    "csv": lambda path, schema: pyarrow.csv.CSVWriter(path, schema),
}
"""Formats, by the name that is also their files' ending."""
