"""A gateway that runs takes control records and a new limits file, and keeps both over a restart."""

import json
import subprocess
from pathlib import Path

from typer.testing import CliRunner

from host.cli import app
from host.demo import DEMO_LIMITS
from host.gateway.limits import dump_limits
from host.journal import read_journal
from tests.host.serve.test_serve import COMMAND, ROOT, WAIT_S, config


def send(path: Path, text: str):
    return CliRunner().invoke(app, ["control", str(path), text])


def test_a_kill_stops_orders_and_a_restart_keeps_it(tmp_path: Path) -> None:
    path = config(tmp_path)
    for turn in range(2):
        process = subprocess.Popen([*COMMAND, str(path), "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            lines = (json.loads(line) for line in process.stdout)
            begin = next(line for line in lines if line["modules"]["risk"]["frames"] > 500)
            accepted = begin["modules"]["risk"]["accepted"]
            if turn == 0:
                assert accepted > 0
                assert send(path, '{"type": "kill", "scope": "all"}').exit_code == 0
                refused = send(path, '{"type": "kill", "scope": "instrument", "name": "NOTHING"}')
                assert refused.exit_code == 2
                assert "NOTHING" in refused.output
                (tmp_path / "limits.toml").write_text(
                    dump_limits(DEMO_LIMITS).replace("collar_ppm = 100000", "collar_ppm = 5")
                )
                next(lines)
            else:
                # Cancels pass, and nothing else does.
                assert accepted < begin["modules"]["risk"]["frames"] // 3
            process.terminate()
            assert list(lines)[-1]["restarts"] == 0
            assert process.wait(WAIT_S) == 0
        finally:
            process.kill()
    controls = [batch.control for batch in read_journal(tmp_path / "journal") if batch.control is not None]
    assert [each["type"] for each in controls] == ["limits", "kill", "limits"]
    assert {each["collar_ppm"] for each in controls[2]["instruments"]} == {5}


def test_nobody_is_there_to_take_a_record(tmp_path: Path) -> None:
    answer = send(config(tmp_path), '{"type": "kill", "scope": "all"}')
    assert answer.exit_code == 2
    assert "no gateway runs here" in answer.output
    assert send(config(tmp_path), "kill").exit_code == 2
    assert send(config(tmp_path), "1").exit_code == 2
