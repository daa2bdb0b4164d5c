"""A gateway that runs as `tickgate serve`, for trials and benches: configured, started, followed line by line, ended."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from host.closing import Closing
from host.demo import DEMO_LIMITS
from host.gateway.limits import dump_limits
from host.generate.load import Lap, make_lap, save_lap


def serve_command(config: Path) -> list[str]:
    """What starts it."""
    return [sys.executable, "-c", "from host.cli import main; main()", "serve", str(config), "--json"]


def toml(tables: dict[str, dict[str, Any]]) -> str:
    """A configuration file; the values are texts, numbers, truths and arrays, which TOML writes as JSON does."""
    lines = []
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


class Served(Closing):
    """A gateway in ``folder`` with the demo's limits and made-up orders, its rings in shared memory.

    ``tables`` are added to its configuration, over what is needed. Raises RuntimeError where it fails.
    """

    def __init__(self, folder: Path, lap_orders: int, seed: int, tables: dict[str, dict[str, Any]]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self.journal = folder / "journal"
        self.run_directory = Path("/dev/shm") / f"tickgate-{folder.name}-{os.getpid()}"
        self.run_directory.mkdir(parents=True)
        self.lap: Lap = make_lap(lap_orders, seed=seed)
        save_lap(self.lap, self.run_directory / "lap.npz")
        (folder / "limits.toml").write_text(dump_limits(DEMO_LIMITS))
        gateway = {"card": "load:", "limits": "limits.toml", "journal": "journal", "run": str(self.run_directory)}
        self.config = folder / "serve.toml"
        self.config.write_text(toml({"gateway": gateway} | tables))
        self._log = folder / "serve.log"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, or start it again."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(serve_command(self.config), stdout=subprocess.PIPE, stderr=log, text=True)

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it says each second, until it ends."""
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
        if self._process.wait():
            raise RuntimeError(f"the gateway ended with {self._process.returncode}: see {self._log}")

    def end(self) -> None:
        """Have it end in order; :meth:`lines` gives the rest."""
        assert self._process is not None
        self._process.terminate()

    def close(self) -> None:
        """End it, and give its shared memory back."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.run_directory, ignore_errors=True)
