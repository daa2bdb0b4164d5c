"""`tickgate serve` runs, says what it does, ends in order, and refuses what it cannot do."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from host.demo import DEMO_LIMITS
from host.gateway.limits import dump_limits
from host.generate import SCHEMA, generate
from host.journal import read_journal
from host.serve.status import Status

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-c", "from host.cli import main; main()", "serve"]
WAIT_S = 240
"""The first start may compile, and the machine may be busy."""


def config(directory: Path, **tables: str) -> Path:
    (directory / "limits.toml").write_text(dump_limits(DEMO_LIMITS))
    content = {
        "gateway": f'card = "load:"\nlimits = "limits.toml"\njournal = "journal"\nrun = "{directory / "run"}"',
        "traffic": "orders_per_s = 20000\nlap_orders = 500",
    } | tables
    (directory / "serve.toml").write_text("".join(f"[{name}]\n{text}\n" for name, text in content.items()))
    return directory / "serve.toml"


def serve(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S)


@contextmanager
def serving(path: Path) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict[str, Any]]]]:
    """A gateway that runs, and the lines that it says."""
    with path.with_suffix(".errors").open("w") as errors:
        process = subprocess.Popen(
            [*COMMAND, str(path), "--json"], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdout is not None
    try:
        yield process, (json.loads(line) for line in process.stdout)
    finally:
        process.kill()


def ended(process: subprocess.Popen[str], lines: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """The last line of a gateway that is told to end, and does."""
    process.terminate()
    last = list(lines)[-1]
    assert process.wait(WAIT_S) == 0
    return last


def journaled(directory: Path) -> int:
    return sum(map(len, read_journal(directory / "journal")))


@pytest.mark.parametrize("groups", ["", 'groups = [["risk"], ["journal"], ["nodes", "sessions"]]'])
def test_it_ends_when_all_orders_are_seen_through(tmp_path: Path, groups: str) -> None:
    traffic = "orders_per_s = 0\norders = 30000\nlap_orders = 500"
    run = serve(config(tmp_path, traffic=traffic, processes=groups), "--json")
    assert run.returncode == 0, run.stderr
    last = json.loads(run.stdout.splitlines()[-1])
    assert last["journaled"] == 30_000 == journaled(tmp_path)
    assert last["modules"]["sessions"]["read"] == last["reports"] > 30_000
    assert last["restarts"] == 0
    # Started again, it goes on behind what it has done: everything was sent.
    run = serve(tmp_path / "serve.toml", "--json")
    assert run.returncode == 0, run.stderr
    assert journaled(tmp_path) == 30_000


def test_a_process_that_was_killed_is_started_again_and_a_signal_ends_all(tmp_path: Path) -> None:
    path = config(tmp_path, processes='groups = [["risk"], ["journal"], ["nodes"]]')
    with serving(path) as (process, lines):
        next(line for line in lines if line["journaled"] > 1000)
        status = Status(tmp_path / "run" / "status")
        for module in ("risk", "journal", "nodes"):
            os.kill(int(status.row(module)["pid"]), signal.SIGKILL)
            before = next(lines)["journaled"]
            next(line for line in lines if line["journaled"] > before + 1000)
        second = serve(path)
        assert second.returncode == 2
        assert "another gateway runs here" in second.stderr
        last = ended(process, lines)
    assert last["restarts"] == 3
    assert path.with_suffix(".errors").read_text().splitlines() == [
        f"tickgate: {module}: ended with signal SIGKILL; started again" for module in ("risk", "journal", "nodes")
    ]
    assert last["journaled"] == journaled(tmp_path)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{int(pid)}/cmdline").exists() for pid in status.rows["pid"]):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)


def test_a_card_that_is_fed_with_a_capture(tmp_path: Path) -> None:
    made = generate(2000, seed=3)
    made.write(tmp_path / "day.pcap")
    gateway = (
        f'card = "soft:"\nlimits = "limits.toml"\njournal = "journal"\nrun = "{tmp_path / "run"}"\nschema = "{SCHEMA}"'
    )
    run = serve(config(tmp_path, gateway=gateway, traffic='captures = ["day.pcap"]'), "--json")
    assert run.returncode == 0, run.stderr
    last = json.loads(run.stdout.splitlines()[-1])
    assert last["journaled"] == made.sent.orders == journaled(tmp_path)
    assert last["modules"]["risk"]["malformed"] == made.sent.malformed.total()


def test_check_reads_the_configuration_only(tmp_path: Path) -> None:
    run = serve(config(tmp_path), "--check")
    assert run.returncode == 0
    assert "process: card, risk, journal, nodes, sessions" in run.stdout
    assert not (tmp_path / "journal").exists()


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"wait": "spin = 1"}, "unknown key 'spin'"),
        ({"traffic": "lap_orders = 1"}, "lap_orders is 1"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path: Path, tables: dict[str, str], says: str) -> None:
    run = serve(config(tmp_path, **tables))
    assert run.returncode == 2
    assert says in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_rings_of_another_journal_are_refused(tmp_path: Path) -> None:
    path = config(tmp_path, traffic="orders_per_s = 0\norders = 1000\nlap_orders = 500")
    assert serve(path).returncode == 0
    for each in (tmp_path / "journal").iterdir():
        each.unlink()
    run = serve(path)
    assert run.returncode == 2
    assert "if the rings of" in run.stderr
