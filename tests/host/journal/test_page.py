"""docs/journal.md describes the journal that the code writes."""

from pathlib import Path

import numpy as np
import pytest

from host.journal.batch import DECISION_DTYPE
from host.journal.layout import BATCH_DTYPE, SEGMENT_DTYPE
from host.journal.parts import PARTS_DTYPE

PAGE = Path(__file__).resolve().parents[3] / "docs" / "journal.md"


def table(dtype: np.dtype) -> str:
    """A header's fields as the page shows them."""
    rows = ["| byte | field | bytes |", "|---|---|---|"]
    assert dtype.names
    assert dtype.fields
    for name in dtype.names:
        kind, offset = dtype.fields[name][:2]
        rows.append(f"| {offset} | `{name}` | {kind.itemsize} |")
    return "\n".join(rows)


@pytest.mark.parametrize("dtype", [SEGMENT_DTYPE, BATCH_DTYPE, DECISION_DTYPE, PARTS_DTYPE])
def test_the_page_has_the_layout(dtype: np.dtype) -> None:
    assert table(dtype) in PAGE.read_text()
