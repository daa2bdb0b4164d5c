"""What a gateway does, second by second: a line on a terminal, or JSON."""

import json
import time
from typing import Any

from rich.console import Console

from host.serve.balancer import read_nodes
from host.serve.supervisor import Supervisor


class Show:
    """Prints one line each time it is called; rates are those since the call before. What ended a process that was started again goes
    to ``errors``."""

    def __init__(self, console: Console, errors: Console, as_json: bool) -> None:
        self._console = console
        self._errors = errors
        self._as_json = as_json
        self._before: dict[str, int] = {}
        self._at = time.monotonic()

    def __call__(self, supervisor: Supervisor) -> None:
        figures = self.figures(supervisor)
        for ending in supervisor.endings:
            self._errors.print(f"tickgate: {ending}; started again", highlight=False, soft_wrap=True, markup=False)
        supervisor.endings.clear()
        if self._as_json:
            there = {module for process in supervisor.processes for module in process.modules}
            named = {module: row for module, row in supervisor.status.named().items() if module in there}
            print(json.dumps(figures | {"modules": named, "nodes": read_nodes(supervisor.config.run)}), flush=True)
            return
        text = (
            f"{figures['journaled']:,} orders  {figures['orders_per_s']:,}/s  {figures['rejected']:,} refused  "
            f"{figures['reports']:,} reports  lag {figures['lag_batches']} batches  "
            f"{figures['rss'] >> 20:,} MiB  stalls to {figures['stall_ms']:.1f} ms"
        )
        if figures["detached"]:
            text += f"  [yellow]{figures['detached']} sessions do not read[/]"
        if figures["restarts"]:
            text += f"  [yellow]{figures['restarts']} restarts[/]"
        self._console.print(text, highlight=False, soft_wrap=True)

    def figures(self, supervisor: Supervisor) -> dict[str, Any]:
        """The line's figures under names. ``lag_batches`` is what is published and not yet reported."""
        status, now = supervisor.status, time.monotonic()
        values = {name: int(status.rows[name].max()) for name in ("rejected", "sequence", "detached")}
        values |= {name: int(status.rows[name].sum()) for name in ("reports", "trades")}
        values["journaled"] = values.pop("sequence")
        rate = (values["journaled"] - self._before.get("journaled", values["journaled"])) / max(now - self._at, 1e-9)
        self._before, self._at = values, now
        slowest = min(int(status.row(module)["batches"]) for module in supervisor.config.node_modules)
        pids = {process.pid: process for process in supervisor.processes}
        return values | {
            "orders_per_s": round(rate),
            "lag_batches": max(int(status.row("risk")["batches"]) - slowest, 0),
            "rss": sum(int(status.row(process.modules[0])["rss"]) for process in pids.values()),
            "stall_ms": round(supervisor.longest_stall_s * 1000, 3),
            "restarts": supervisor.restarts,
        }
