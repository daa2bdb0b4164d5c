"""A gateway that serves compiles nothing and loads nothing compiled: no order waits for that, whatever happens."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from host.demo import DEMO_LIMITS
from host.gateway.limits import dump_limits
from host.gateway.terms import Position, Session
from host.generate.lap import make_lap
from host.generate.load import save_lap
from host.serve.config import load_config
from host.serve.control import send
from host.serve.modules import lap_path
from host.serve.status import Status
from tests.host.serve.test_serve import ROOT, WAIT_S, config

SERVE = """
import sys
from host.cli import main
from host.serve.supervisor import Supervisor
from numba.core.dispatcher import Dispatcher

late, start, compile_one = sys.argv.pop(), Supervisor.start, Dispatcher.compile

def noted(self, signature):
    with open(late, "a") as file:
        print(self.py_func.__module__, self.py_func.__name__, signature, file=file)
    return compile_one(self, signature)

def started(supervisor):
    Dispatcher.compile = noted
    start(supervisor)

Supervisor.start = started
main()
"""
"""`tickgate serve` that notes what Numba compiles, or loads, from its processes' start on."""

LAP_ORDERS = 500
MODULES = ("card", "risk", "journal", "nodes", "nodes-2", "snapshots")


def test_all_that_a_gateway_may_have_to_do_is_loaded_before_it_serves(tmp_path: Path) -> None:
    groups = ", ".join(f'["{each}"]' for each in MODULES)
    path = config(
        tmp_path,
        processes=f"groups = [{groups}]",
        traffic=f"orders_per_s = 20000\nlap_orders = {LAP_ORDERS}",
        nodes="modules = 2",
        health="moves_per_s = 1000",
        journal="segment_bytes = 4194304\nsnapshot_segments = 1",
    )
    limits = replace(
        DEMO_LIMITS,
        sessions=(Session(0, order_rate=1_000_000, drop_on_disconnect=True),),
        positions=(Position(DEMO_LIMITS.accounts[0].name, DEMO_LIMITS.instruments[0].symbol),),
    )
    (tmp_path / "limits.toml").write_text(dump_limits(limits))
    run = load_config(path).run
    run.mkdir()
    save_lap(make_lap(LAP_ORDERS), lap_path(run, LAP_ORDERS))
    late = tmp_path / "late"
    late.touch()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", str(path), "--json", str(late)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:

        def wait_for(condition: Callable[[], bool]) -> None:
            deadline = time.monotonic() + WAIT_S
            while not condition():
                assert process.poll() is None, "the gateway has ended"
                assert time.monotonic() < deadline
                time.sleep(0.01)

        wait_for((run / "status").exists)
        status = Status(run / "status")

        def figure(module: str, name: str) -> int:
            return int(status.row(module)[name])

        def serve() -> bool:
            return all(map(status.serves, MODULES))

        def wait_for_more(module: str, name: str) -> None:
            before = figure(module, name)
            wait_for(lambda: figure(module, name) > before)

        def some_orders_more() -> None:
            before = figure("nodes", "batches")
            wait_for(lambda: serve() and figure("nodes", "batches") > before + 20)

        wait_for(serve)
        some_orders_more()
        for turn in range(2):
            for record in (
                {"type": "drain", "node": 1},
                {"type": "kill", "scope": "account", "name": DEMO_LIMITS.accounts[1].name, "cancel": True},
                {"type": "kill", "scope": "instrument", "name": DEMO_LIMITS.instruments[1].symbol, "cancel": True},
                {"type": "kill", "scope": "session", "name": 1, "cancel": True},
                {"type": "disconnect", "flow": 0},
                {"type": "session_day", "flow": 0},
                {"type": "new_day"},
            ):
                send(run, record)
                some_orders_more()
            wait_for(lambda: figure("risk", "moved") > 0)
            send(run, {"type": "restore", "node": 1})
            (tmp_path / "limits.toml").write_text(
                dump_limits(replace(limits, positions=())).replace("collar_ppm = 100000", f"collar_ppm = {9 + turn}")
            )
            some_orders_more()
            wait_for_more("snapshots", "sequence")
            for module in ("risk", "nodes", "nodes-2", "snapshots", "journal"):
                os.kill(figure(module, "pid"), signal.SIGKILL)
                wait_for_more(module, "starts")
                some_orders_more()
        process.terminate()
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
    assert late.read_text() == ""
