"""``make fuzz``: differential fuzzing of the cards. Generated and mutated packets go through `rtl:` and `soft:`, whose frames
and raw messages must be equal bit for bit, and those of FIX what docs/fix.md says; well-formed messages must be what
simplefix reads in them. What differs is shrunk and kept in tests/cards/regressions.

Exit code 1: something differed, 2: a user's error or a tool that is missing."""

import argparse
import hashlib
import importlib
import json
import math
import os
import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, seed
from hypothesis import strategies as st
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from hdl.sources import ROOT
from sim import toolchain
from sim.toolchain import ToolMissing

DIFFERS, UNUSABLE = 1, 2

MODULES = ("test_fix_bytes", "test_ethernet_headers", "test_sbe_packets", "test_generated")
REGRESSIONS = Path(__file__).parent / "regressions"

BATCH = 200
"""Examples that hypothesis plans at once: it begins with small ones, so not too few."""
LONG_MINUTES = 10.0
"""From here on SBE by other schemas than the demo's takes part: a card of its own each, which minutes are spent to compile."""
SLICE = 3.0
"""Seconds after which it is another kind's turn; less where there are few, so that each kind has two turns."""
LINE_EVERY = 5.0
"""Seconds between lines where there is no terminal."""
COMMENT_MOST = 600


class _Enough(BaseException):
    """The turn is over. Not an Exception, or hypothesis would take it for a failure."""


class Fuzzer:
    """Takes turns with all kinds until the time is over.

    Attributes:
        examples, messages, packet_bytes, differences: counted by kind.
    """

    def __init__(self, kinds, first_seed: int, seconds: float, console: Console) -> None:
        self.kinds = {kind.name: kind for kind in kinds}
        self.examples: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.packet_bytes: Counter[str] = Counter()
        self.differences: Counter[str] = Counter()
        self._spent: Counter[str] = Counter()
        self._turns: Counter[str] = Counter()
        self._seed = first_seed
        self._seconds = seconds
        self._slice = min(SLICE, seconds / (2 * len(self.kinds)))
        self._console = console
        self._begin = self._said = time.perf_counter()
        self._bar = None

    def run(self) -> None:
        """Fuzz until the time is over. A kind that differed once is done: its next example would be the same."""
        self._begin = self._said = time.perf_counter()
        with Progress(
            TextColumn("{task.fields[line]}"), BarColumn(), console=self._console, transient=True,
            disable=not self._console.is_terminal,
        ) as bar:  # fmt: skip
            self._bar = bar
            self._task = bar.add_task("fuzz", total=self._seconds, line="")
            while self._left() > 0 and (open_kinds := [name for name in self.kinds if not self.differences[name]]):
                self._turn(min(open_kinds, key=lambda name: self._spent[name]))

    def _left(self) -> float:
        return self._begin + self._seconds - time.perf_counter()

    def _turn(self, name: str) -> None:
        from tests.cards.comparison import tally
        from tests.cards.fuzzing import plan

        kind = self.kinds[name]
        began = time.perf_counter()
        until = min(began + self._slice, self._begin + self._seconds)
        failed = False

        def example(drawn: tuple[object, ...]) -> None:
            nonlocal failed
            if not failed and time.perf_counter() > until:
                raise _Enough
            messages, packet_bytes = tally.messages, tally.packet_bytes
            try:
                kind.check(*drawn)
            except Exception:
                if not failed:
                    self._console.print(f"[red]{escape(name)}: a difference, now shrinking it …[/]")
                failed = True
                raise
            if not failed:
                self.examples[name] += 1
                self.messages[name] += tally.messages - messages
                self.packet_bytes[name] += tally.packet_bytes - packet_bytes
                self._say(name)

        number = self._turns[name]
        self._turns[name] += 1
        batch = seed(f"{self._seed} {name} {number}")(
            plan(BATCH, fixed=False)(given(st.tuples(*kind.strategies))(example))
        )
        try:
            batch()
        except _Enough:
            pass
        except Exception as error:
            self.differences[name] += 1
            self._keep(name, error)
        self._spent[name] += time.perf_counter() - began

    def _keep(self, name: str, error: Exception) -> None:
        from tests.cards.comparison import tally

        said = str(error).partition("\n")[0] or traceback.extract_tb(error.__traceback__)[-1].line or repr(error)
        text = said[:COMMENT_MOST]
        self._console.print(f"[red]{escape(name)}: {escape(text)}[/]", highlight=False)
        assert tally.case is not None
        path = REGRESSIONS / file_name(name, tally.case)
        path.write_text(regression(tally.case, f"{name}: {text}"))
        self._console.print(f"kept as {path}", highlight=False)

    def _say(self, name: str) -> None:
        now = time.perf_counter()
        examples, messages = self.examples.total(), self.messages.total()
        line = (
            f"fuzz: {examples:,} examples, {messages:,} messages, {examples / (now - self._begin):,.0f} examples/s, "
            f"{max(self._left(), 0):,.0f} s left, {name}"
        )
        self._bar.update(self._task, completed=now - self._begin, line=line)
        if not self._console.is_terminal and now - self._said >= LINE_EVERY:
            self._said = now
            self._console.print(line, highlight=False)

    def table(self) -> Table:
        """What was generated."""
        table = Table("what was generated", show_footer=True)
        table.columns[0].footer = "all"
        for title, counts in (
            ("examples", self.examples), ("messages", self.messages), ("bytes", self.packet_bytes),
            ("differences", self.differences),
        ):  # fmt: skip
            table.add_column(title, f"{counts.total():,}", justify="right")
        for name in self.kinds:
            counts = (self.examples, self.messages, self.packet_bytes, self.differences)
            table.add_row(name, *(f"{count[name]:,}" for count in counts))
        return table


def file_name(name: str, case) -> str:
    """The name of a case's file: its kind and a hash of its packets."""
    digest = hashlib.sha256(b"".join(case.packets.packet(index) for index in range(len(case.packets))))
    return f"{re.sub('[^a-z0-9]+', '_', name.lower())}_{digest.hexdigest()[:8]}.json"


def regression(case, comment: str) -> str:
    """A case as a file of tests/cards/regressions (test_regressions.py reads it)."""
    from tests.cards.comparison import DEMO_SCHEMA, FLOWS

    content: dict[str, object] = {"comment": comment, "geometry": list(case.geometry)}
    if case.schema != DEMO_SCHEMA:
        content["schema"] = os.path.relpath(case.schema, ROOT)
    if tuple(case.flows) != FLOWS:
        content["flows"] = [
            [flow.protocol.name, str(flow.destination), flow.parser.name, str(flow.source)] for flow in case.flows
        ]
    content["packets"] = [case.packets.packet(index).hex() for index in range(len(case.packets))]
    return json.dumps(content, indent=1) + "\n"


def positive(text: str) -> float:
    """Minutes as a number above 0."""
    number = float(text)
    if not (0 < number < math.inf):
        raise ValueError
    return number


positive.__name__ = "number of minutes above 0"  # argparse names it in its message


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cards.fuzz", description=__doc__.partition(".")[0])
    parser.add_argument(
        "--minutes",
        metavar="N",
        type=positive,
        default=1.0,
        help=f"how long; from {LONG_MINUTES:g} on also SBE by other schemas than the demo's (default: %(default)g)",
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, help="of what is generated, to repeat a run (default: another one each time)"
    )
    options = parser.parse_args(arguments)
    try:
        toolchain.require_compiler()
    except ToolMissing as missing:
        print(missing, file=sys.stderr)
        return UNUSABLE
    toolchain.apply()
    for module in MODULES:
        importlib.import_module(f"tests.cards.{module}")
    from sim.shared_library import card_library
    from tests.cards.comparison import DEMO_SCHEMA, compiled
    from tests.cards.fuzzing import KINDS

    long = options.minutes >= LONG_MINUTES
    kinds = [kind for kind in KINDS if kind.schema is None or (long and kind.schema.exists())]
    console = Console(soft_wrap=True)
    console.print("compiling the cards, where they are not yet …")
    for path in dict.fromkeys(kind.schema or DEMO_SCHEMA for kind in kinds):
        card_library(compiled(path))
    first_seed = random.randrange(10**9) if options.seed is None else options.seed
    console.print(f"seed {first_seed}", highlight=False)
    fuzzer = Fuzzer(kinds, first_seed, 60 * options.minutes, console)
    try:
        fuzzer.run()
    except KeyboardInterrupt:
        console.print("interrupted")
    console.print(fuzzer.table())
    return DIFFERS if fuzzer.differences.total() else 0


if __name__ == "__main__":
    sys.exit(main())
