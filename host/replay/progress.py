"""Shows how far a replay is: a bar on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from host.replay.replay import Progress as Reached

LINE_EVERY = 5.0
"""Seconds between lines where there is no terminal."""


class ReplayProgress:
    """A context manager; call it with each :class:`host.replay.Progress`."""

    def __init__(self, console: Console, total_bytes: int, label: str = "replay") -> None:
        self._console = console
        self._total = total_bytes
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
            self._task = self._bar.add_task(label, total=total_bytes, messages=0, rate=0.0)

    def __call__(self, reached: Reached) -> None:
        now = time.perf_counter()
        rate = reached.messages / max(now - self._begin, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=reached.bytes, messages=reached.messages, rate=rate)
        elif now - self._said >= LINE_EVERY:
            self._said = now
            share = reached.bytes / max(self._total, 1)
            left = (now - self._begin) * (1 - share) / max(share, 1e-9)
            self._console.print(
                f"{self._label}: {share:.0%}, {reached.messages:,} messages, {rate:,.0f}/s, {left:,.0f} s left",
                highlight=False,
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
