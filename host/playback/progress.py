"""Shows how far a replay is: a bar on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from host.playback.replay import Progress as Reached

LINE_EVERY = 5.0
"""Seconds between lines where there is no terminal."""


class ReplayProgress:
    """A context manager; call it with each :class:`host.playback.Progress`."""

    def __init__(self, console: Console, label: str = "replay") -> None:
        self._console = console
        self._label = label
        self._begin = self._said = time.perf_counter()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn(label),
                BarColumn(),
                DownloadColumn(),
                TextColumn("{task.fields[messages]:,} messages"),
                TextColumn("{task.fields[rate]:,.0f}/s"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(label, total=None, messages=0, rate=0.0)

    def __call__(self, reached: Reached) -> None:
        now = time.perf_counter()
        rate = reached.messages / max(now - self._begin, 1e-9)
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=reached.done_bytes,
                total=reached.total_bytes,
                messages=reached.messages,
                rate=rate,
            )
        elif now - self._said >= LINE_EVERY:
            self._said = now
            done = f"{reached.done_bytes / 1e6:,.0f} MB"
            left = ""
            if reached.total_bytes is not None:
                share = reached.done_bytes / max(reached.total_bytes, 1)
                done, left = f"{share:.0%}", f", {(now - self._begin) * (1 - share) / max(share, 1e-9):,.0f} s left"
            self._console.print(
                f"{self._label}: {done}, {reached.messages:,} messages, {rate:,.0f}/s{left}", highlight=False
            )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
