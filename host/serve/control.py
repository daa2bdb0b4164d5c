"""Changes to a gateway that runs: control records that are laid into a folder, and a limits file that is written anew.

A record is a JSON object in a file of its own, which gets its name once it is whole. The risk module takes them in the
order of their names. What was refused is said in a file beside.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from host.gateway.limits import LimitsError, load_limits
from host.gateway.risk import Risk
from host.gateway.stages import RiskStage

CONTROL = "control"
"""The folder in the run directory."""

SUFFIX, REFUSED = ".json", ".refused"
LOOK_NS = 50_000_000
"""Between two looks for changes."""

ANSWER_S = 5.0
"""How long whoever has sent a record waits until it is taken."""

ANSWER_WAIT_S = 0.01


class ControlError(ValueError):
    """A record that was not taken; one line that says why."""


def send(run: Path, record: Mapping[str, Any]) -> None:
    """Have a gateway take a record. Raises ControlError where it refuses it, or takes none."""
    folder = run / CONTROL
    if not folder.is_dir():
        raise ControlError(f"{run}: no gateway runs here")
    path = folder / f"{time.time_ns():020d}-{os.getpid()}{SUFFIX}"
    new = path.with_suffix(".new")
    new.write_text(json.dumps(dict(record)))
    new.rename(path)
    end = time.monotonic() + ANSWER_S
    while path.exists():
        if time.monotonic() > end:
            path.unlink(missing_ok=True)
            raise ControlError(f"{run}: the gateway has taken no record for {ANSWER_S:g} s")
        time.sleep(ANSWER_WAIT_S)
    refused = path.with_suffix(REFUSED)
    if refused.exists():
        text = refused.read_text().strip()
        refused.unlink()
        raise ControlError(text)


class Changes:
    """What has changed for the risk module: ``limits`` is its file, ``run`` the run directory."""

    def __init__(self, run: Path, limits: Path) -> None:
        self._folder = run / CONTROL
        self._folder.mkdir(exist_ok=True)
        self._limits = limits
        self._written = self._stamp()
        self._looked = 0

    def take(self, stage: RiskStage, risk: Risk) -> None:
        """Hand what has changed to risk, if it is time to look."""
        now = time.monotonic_ns()
        if now - self._looked < LOOK_NS:
            return
        self._looked = now
        for path, record in self._records():
            try:
                stage.control(record)
                stage.take_controls()
                text = stage.refused.pop() if stage.refused else ""
            except ValueError as error:
                text = str(error)
            if text:
                path.with_suffix(REFUSED).write_text(text + "\n")
            path.unlink()
        if (stamp := self._stamp()) != self._written:
            self._written = stamp
            try:
                changed = risk.limits_record(load_limits(self._limits).terms)
            except (LimitsError, OSError):
                return  # half written, or wrong: the limits stay as they are
            if changed is not None:
                stage.control(changed)

    def _records(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            try:
                record = json.loads(path.read_text())
                if not isinstance(record, dict):
                    raise ValueError("it is no object")
            except ValueError as error:
                path.with_suffix(REFUSED).write_text(f"no control record: {error}\n")
                path.unlink()
                continue
            yield path, record

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self._limits.stat()
        except OSError:
            return 0, 0
        return status.st_mtime_ns, status.st_size
