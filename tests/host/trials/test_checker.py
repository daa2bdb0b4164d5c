"""The checker of the crash trial finds what it is there for."""

from pathlib import Path

import numpy as np
import pytest

from host.gateway.session_ring import SESSION_DTYPE
from host.generate.lap import make_lap
from host.generate.load import Lap, Load
from host.trials.checker import client_order_id, judge
from tests.host.gateway.test_stages import Place

SENT = 600


@pytest.fixture(scope="module")
def lap() -> Lap:
    return make_lap(500, seed=2)


@pytest.fixture(scope="module")
def run(lap: Lap, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    place = Place(tmp_path_factory.mktemp("run"))
    place.drain(Load(lap, place.ring), SENT)
    place.journal.close()
    return place.directory, np.concatenate(place.told)


def identity(lap: Lap, number: int) -> tuple[int, bytes]:
    row = number % len(lap)
    return int(lap.frames["flow"][row]), client_order_id(lap.message(row, number // len(lap)))


def faults(lap: Lap, run: tuple[Path, np.ndarray], sent: int = SENT, reports: np.ndarray | None = None) -> list[str]:
    told = run[1] if reports is None else reports
    return judge(run[0], sent, lambda number: identity(lap, number), [told])


def test_a_run_that_nothing_happened_to_has_no_fault(lap: Lap, run: tuple[Path, np.ndarray]) -> None:
    assert run[1].dtype == SESSION_DTYPE
    assert faults(lap, run) == []


def test_an_order_that_was_lost_is_found(lap: Lap, run: tuple[Path, np.ndarray]) -> None:
    assert any("600 orders in the journal, 601 were sent" in fault for fault in faults(lap, run, SENT + 1))


def test_an_order_that_is_there_too_often_is_found(lap: Lap, run: tuple[Path, np.ndarray]) -> None:
    assert any("600 orders in the journal, 599 were sent" in fault for fault in faults(lap, run, SENT - 1))


def test_a_report_that_came_twice_is_found(lap: Lap, run: tuple[Path, np.ndarray]) -> None:
    twice = np.concatenate([run[1], run[1][:1]])
    assert any("came 2 times" in fault for fault in faults(lap, run, reports=twice))


def test_an_order_that_was_not_answered_is_found(lap: Lap, run: tuple[Path, np.ndarray]) -> None:
    kept = run[1][run[1]["report"]["sequence"] != 17]
    assert any("1 orders were never answered, the first is 17" in fault for fault in faults(lap, run, reports=kept))


def test_an_acknowledged_order_that_is_not_journaled_is_found(lap: Lap, run: tuple[Path, np.ndarray]) -> None:
    more = run[1][:1].copy()
    more["report"]["sequence"], more["batch"] = 5000, 5000
    told = np.concatenate([run[1], more])
    assert "order 5000 was acknowledged and is not in the journal" in faults(lap, run, reports=told)


def test_a_trade_with_one_side_is_found(lap: Lap, run: tuple[Path, np.ndarray]) -> None:
    fill = int(np.flatnonzero(run[1]["report"]["execution"] > 0)[0])
    assert any(
        "was not reported once to each side" in each for each in faults(lap, run, reports=np.delete(run[1], fill))
    )


def test_a_damaged_journal_is_found(lap: Lap, run: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    for path in run[0].glob("*.journal"):
        data = bytearray(path.read_bytes())
        data[500] ^= 1
        (tmp_path / path.name).write_bytes(data)
    assert any("something stands behind" in each for each in faults(lap, (tmp_path, run[1])))
