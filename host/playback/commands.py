"""What `tickgate replay` does beside the gateway: tables, packets on an interface, a comparison."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hdl.sbe_venue import Venue
from host.capture.reader import Captures, open_captures
from host.card.link_session import LinkError
from host.playback.batches import Playback
from host.playback.book_table import BOOKS, LEVELS, BookRows, BookTables
from host.playback.convert import FRAMES, Conversion, Converted
from host.playback.dataset import FILES, PARTIAL, check_out, open_sink
from host.playback.diff import Comparison, compare, describe
from host.playback.feeds import feeds_json, feeds_table
from host.playback.pace import paced
from host.playback.progress import ReplayProgress
from host.playback.replay import flows_of
from host.playback.selection import Selection, SelectionError, channel_name
from host.playback.send import Sending, Sent, interface_of
from host.sbe.arrow import Decimals
from host.sbe.layout import table_layouts

BOOK_COUNTS = {
    "gaps": "gaps",
    "missing": "packets missing",
    "resets": "resets",
    "snapshots": "snapshots loaded",
    "stale_updates": "updates of books that are not valid",
    "lost_waiting": "updates given up before a snapshot",
    "refused_instruments": "instruments refused",
    "refused_levels": "levels refused",
}
"""What is said of counters of books, where there is any."""


class TableWriter:
    """`--out`: captures to a folder of Parquet files, or to a file. Raises what opening and checking raise, before anything is
    played. Set ``stop``, and it ends after the present batch."""

    def __init__(
        self,
        captures: Captures,
        venue: Venue | None,
        card: str,
        selection: Selection,
        out: Path,
        *,
        table: str = FRAMES,
        decimals: str = Decimals.DECIMAL128.value,
        resume: bool = False,
        speed: float | None = None,
        frames: bool = True,
        feeds: Sequence[str] | None = (),
        levels: int | None = None,
        grid: int | None = None,
    ) -> None:
        check_out(out, resume)
        _check_table(table, venue, out)
        known = [each.value for each in Decimals]
        if decimals not in known:
            raise SelectionError(f"decimals are not told as '{decimals}', but as {' or '.join(known)}")
        if resume and any(capture.total_bytes is None for capture in captures.captures):
            raise SelectionError("--resume reads the captures again, which a pipe or standard input does not allow")
        if out.suffix in FILES:
            frames, wants_books = table == FRAMES, table == BOOKS
        else:
            wants_books = frames and not selection.templates
        if not wants_books and (levels is not None or grid is not None):
            raise SelectionError("--levels and --grid are of books, which this run does not write")
        books = BookRows(levels or LEVELS, grid) if wants_books else None
        self.playback = Playback(captures, venue, card, selection, Decimals(decimals), feeds=feeds, books=books)
        self._speed = speed
        self._out = out
        identity = _identity(captures, venue, card, selection, decimals) | {
            "frames": frames,
            "feeds": None if feeds is None else list(feeds),
            "books": None if books is None else [books.levels, books.grid],
        }
        channels = [channel_name(flow) for flow in self.playback.flows]
        sink = open_sink(out, table, channels, identity, resume)
        self.needs_card = frames or wants_books
        self._conversion = Conversion(self.playback, sink, frames)

    @property
    def stop(self) -> bool:
        """Whether it is to end."""
        return self._conversion.stop

    @stop.setter
    def stop(self, value: bool) -> None:
        self._conversion.stop = value

    def run(self, progress: ReplayProgress) -> Converted:
        """Play everything and write it. Raises OutError, SelectionError, and what cards raise."""
        return self._conversion.run(progress, lambda packets: paced(packets, self._speed))

    def named(self, done: Converted) -> dict[str, object]:
        """What was written as plain values under names, for JSON."""
        books = self.playback.books
        return {
            "packets": done.packets,
            "bytes": done.bytes,
            "messages": done.messages,
            "problems": dict(sorted(done.problems.items())),
            "rows": {name: rows for name, rows in done.rows.items() if rows},
            "capture": asdict(self.playback.captures.counts),
            "warnings": self.playback.captures.warnings,
            "feeds": feeds_json(self.playback.report()),
            "books": None if books is None else books.counters(),
            "violations": None if books is None else {cause.name: n for cause, n in books.violations().items()},
            "seconds": round(done.seconds, 6),
            "interrupted": done.interrupted,
        }

    def report(self, console: Console, done: Converted) -> None:
        """Print what was written."""
        table = Table(title="Tables", title_justify="left", title_style="bold", box=None, pad_edge=False)
        table.add_column("table", overflow="fold")
        table.add_column("rows", justify="right")
        for name, rows in done.rows.items():
            if rows:
                table.add_row(name, f"{rows:,}")
        console.print(table)
        count = sum(done.problems.values())
        listed = ", ".join(f"{name} {number:,}" for name, number in sorted(done.problems.items()))
        console.print(
            f"{done.messages:,} messages, {count:,} of them not to their end{': ' + listed if listed else ''}; "
            f"{done.messages / max(done.seconds, 1e-9):,.0f} messages a second",
            highlight=False,
            soft_wrap=True,
        )
        if channels := self.playback.report():
            console.print(feeds_table(channels))
            console.print()
        if self.playback.books is not None:
            console.print(_of_books(self.playback.books), highlight=False, soft_wrap=True)
        if not done.interrupted:
            console.print(f"Written to {self._out}.", highlight=False, soft_wrap=True)
        elif self._out.suffix in FILES:
            console.print(f"Stopped; {self._out} was not written.", style="yellow", soft_wrap=True)
        else:
            console.print(
                f"Stopped; what is whole is in {self._out}{PARTIAL}, --resume goes on.", style="yellow", soft_wrap=True
            )


def _of_books(books: BookTables) -> str:
    """What was counted of books, in a line."""
    counters = books.counters()
    parts = [f"{counters['updates']:,} updates"]
    parts += [f"{counters[name]:,} {text}" for name, text in BOOK_COUNTS.items() if counters[name]]
    broken = ", ".join(f"{cause.name} {count:,}" for cause, count in books.violations().items())
    return f"Books: {', '.join(parts)}; violations: {broken or 'none'}"


def _check_table(table: str, venue: Venue | None, out: Path) -> None:
    if table != FRAMES and out.suffix not in FILES:
        raise SelectionError(f"--table is for a single file ({', '.join(FILES)}): a folder has all tables")
    names = [FRAMES, BOOKS, *(() if venue is None else (layout.name for layout in table_layouts(venue.schema)))]
    if table not in names:
        more = "; the others need a --schema" if venue is None else ""
        raise SelectionError(f"there is no table {table}; there are {', '.join(names)}{more}")


def _identity(
    captures: Captures, venue: Venue | None, card: str, selection: Selection, decimals: str
) -> dict[str, Any]:
    """What a run that goes on has to have in common with the one that was interrupted."""
    schema = None
    if venue is not None:
        content = Path(venue.schema.path).read_bytes()
        schema = [hashlib.sha256(content).hexdigest()[:16], venue.profile.title]
    return {
        "captures": [[str(capture.path), capture.total_bytes] for capture in captures.captures],
        "schema": schema,
        "card": card,
        "selection": repr(selection),
        "decimals": decimals,
    }


class PacketSender:
    """`--to`: packets as they were captured, out on an interface. Set ``stop``, and it ends after the present batch."""

    def __init__(self, paths: Sequence[Path], to: str, selection: Selection, speed: float | None) -> None:
        if selection.instruments or selection.templates or selection.channels:
            raise SelectionError("--to sends packets: of these only --start and --end choose")
        try:
            interface = interface_of(to)
        except LinkError as error:
            raise SelectionError(str(error)) from None
        self._captures = open_captures(paths, as_captured=True)
        self._packets = paced(selection.packets(self._captures.batches()), speed)
        self._sending = Sending(self._captures, interface)
        self._to = to

    @property
    def stop(self) -> bool:
        """Whether it is to end."""
        return self._sending.stop

    @stop.setter
    def stop(self, value: bool) -> None:
        self._sending.stop = value

    def run(self, progress: ReplayProgress) -> Sent:
        """Send everything. Raises SelectionError where the interface fails, CaptureError."""
        try:
            return self._sending.run(self._packets, progress)
        except LinkError as error:
            raise SelectionError(str(error)) from None

    def report(self, console: Console, sent: Sent) -> None:
        """Print what was sent."""
        seconds = max(sent.seconds, 1e-9)
        console.print(
            f"{sent.packets:,} packets, {sent.bytes:,} bytes sent to {self._to} in {sent.seconds:.2f} s: "
            f"{sent.packets / seconds:,.0f} packets, {sent.bytes / seconds / 1e6:.1f} MB a second",
            highlight=False,
            soft_wrap=True,
        )


class Comparing:
    """`--diff`: two playbacks frame by frame. Set ``stop``, and it ends."""

    def __init__(
        self,
        firsts: Sequence[Path],
        seconds: Sequence[Path],
        venue: Venue | None,
        cards: tuple[str, str],
        selection: Selection,
        ignored: Sequence[str],
        as_captured: bool = False,
    ) -> None:
        both = [open_captures(paths, as_captured) for paths in (firsts, seconds)]
        # One flow table, so that a flow has the same number on both sides.
        found, self.left_out = flows_of(Captures([each for one in both for each in one.captures]), venue)
        flows = selection.flows(found)
        self.playbacks = tuple(
            Playback(captures, venue, card, selection, flows=flows) for captures, card in zip(both, cards, strict=True)
        )
        self._ignored = ignored
        names = [f"{', '.join(map(str, paths))} ({card})" for paths, card in zip((firsts, seconds), cards, strict=True)]
        self._names = names[0], names[1]
        self.stop = False

    def run(self) -> Comparison:
        """Compare. Raises what playbacks raise, SelectionError for a field to ignore that there is not."""
        first, second = self.playbacks
        return compare(first, second, self._ignored, lambda: self.stop)

    def report(self, console: Console, found: Comparison) -> None:
        """Print the first differences."""
        for difference in found.differences:
            text = describe(difference, self._names, self.playbacks[0].flows)
            console.print(text, highlight=False, markup=False, soft_wrap=True)
        if found.complete and not found.differences:
            console.print(f"{found.equal:,} frames, all equal.", highlight=False)
        else:
            ends = "" if found.complete else "; not looked at further"
            console.print(
                f"{found.equal:,} frames equal, {len(found.differences):,} differences{ends}.", highlight=False
            )
