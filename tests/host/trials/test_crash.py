"""The gateway's processes are killed under load, each once, and nothing is lost or done twice."""

from pathlib import Path

import pytest

from host.trials.crash import VICTIMS, Trial


@pytest.mark.slow
def test_kill_of_every_process_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    result = Trial(tmp_path / "crash", rate=5000, seed=3, lap_orders=500).run(len(VICTIMS), show=False)
    assert [each.victim for each in result.kills] == list(VICTIMS)
    assert result.faults == []
    assert result.sent > 1000
    assert result.reports > result.sent
    assert result.moved > 0
