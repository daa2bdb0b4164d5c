"""Memory that grows is told from memory that is flat."""

from pathlib import Path

import pytest

from host.trials.memory import ALLOWED_GROWTH, growth, series


def test_growth_counts_from_the_end_of_the_warm_part() -> None:
    rows = [{"resident_bytes": value} for value in (10, 90, 100, 100, 100, 101, 100, 100, 100)]
    assert growth(rows) == pytest.approx(0.01)
    assert growth([{"resident_bytes": value} for value in range(100, 200)]) > 0.5


@pytest.mark.slow
def test_memory_is_flat_for_some_seconds(tmp_path: Path) -> None:
    rows = series(tmp_path / "memory", minutes=0.2, rate=2000, lap_orders=500)
    assert len(rows) == 13
    assert rows[-1]["orders"] > rows[0]["orders"]
    # So short a run has a small part of it to fill tables in.
    assert growth(rows) < 20 * ALLOWED_GROWTH
