"""A gateway that runs as `tickgate serve`, for trials and benches: configured, started, followed line by line, ended."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from host.closing import Closing
from host.demo import DEMO_LIMITS
from host.gateway.limits import dump_limits
from host.generate.lap import make_lap
from host.generate.load import Lap, save_lap
from host.ring.mapping import SHARED_MEMORY
from host.serve.modules import lap_path

LINE_WAIT_S = 0.05
"""Between two looks for a line."""


def serve_command(config: Path) -> list[str]:
    """What starts it."""
    return [sys.executable, "-c", "from host.cli import main; main()", "serve", str(config), "--json"]


def toml(tables: dict[str, dict[str, Any]]) -> str:
    """A configuration file."""
    lines = []
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{name} = {_toml_value(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    """Texts, numbers, truths and arrays TOML writes as JSON does, tables not."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml_value(each)}" for name, each in value.items()) + "}"
    return json.dumps(value)


class Served(Closing):
    """A gateway in ``folder`` with the demo's limits and made-up orders, its rings in shared memory.

    ``tables`` are its configuration but for [gateway]. Raises RuntimeError where it fails.
    """

    def __init__(self, folder: Path, lap_orders: int, seed: int, tables: dict[str, dict[str, Any]]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self.journal = folder / "journal"
        self.run_directory = SHARED_MEMORY / f"tickgate-{folder.name}-{os.getpid()}"
        self.run_directory.mkdir(parents=True)
        self.lap: Lap = make_lap(lap_orders, seed=seed)
        save_lap(self.lap, lap_path(self.run_directory, lap_orders))
        (folder / "limits.toml").write_text(dump_limits(DEMO_LIMITS))
        gateway = {"card": "load:", "limits": "limits.toml", "journal": "journal", "run": str(self.run_directory)}
        self.config = folder / "serve.toml"
        traffic = {"lap_orders": lap_orders} | tables.get("traffic", {})
        self._tables = {"gateway": gateway} | tables | {"traffic": traffic}
        self.pace(traffic.get("orders_per_s", 0))
        self.log, self.output = folder / "serve.log", folder / "serve.json"
        self._process: subprocess.Popen[bytes] | None = None

    def pace(self, orders_per_s: float) -> None:
        """Have the next start bring so many orders; 0: as many as it takes."""
        self._tables["traffic"]["orders_per_s"] = orders_per_s
        self.config.write_text(toml(self._tables))

    def start(self) -> None:
        """Start it, or start it again. What it prints goes to ``log`` and, line by line, to ``output``."""
        with self.log.open("a") as log, self.output.open("a") as output:
            self._process = subprocess.Popen(serve_command(self.config), stdout=output, stderr=log)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The supervisor's process. Raises RuntimeError before :meth:`start`."""
        if self._process is None:
            raise RuntimeError("the gateway was not started")
        return self._process

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it says each second, until it ends."""
        with self.output.open() as output:
            pending = ""
            while True:
                over = self.process.poll() is not None
                while more := output.readline():
                    pending += more
                    if pending.endswith("\n"):
                        yield json.loads(pending)
                        pending = ""
                if over:
                    break
                time.sleep(LINE_WAIT_S)
        if self.process.returncode:
            raise RuntimeError(f"the gateway ended with {self.process.returncode}: see {self.log}")

    def end(self) -> None:
        """Have it end in order; :meth:`lines` gives the rest."""
        self.process.terminate()

    def close(self) -> None:
        """End it, and give its shared memory back."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.run_directory, ignore_errors=True)
