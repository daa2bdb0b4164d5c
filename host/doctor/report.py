"""Findings as a table."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from host.doctor.finding import Finding, State

MARK = {State.GOOD: "[green]good[/]", State.COSTS: "[yellow]costs[/]", State.UNKNOWN: "unknown"}


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """One row a finding; below it what it costs, and the command that mends it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for each in findings:
        table.add_row(MARK[each.state], each.name, each.value)
        if each.state is not State.GOOD and each.cost:
            table.add_row("", "", f"[dim]{each.cost}[/]")
        if each.state is not State.GOOD and each.mend:
            table.add_row("", "", f"→ {each.mend}", style="cyan")
    console.print(table, highlight=False)
    count = sum(each.state is State.COSTS for each in findings)
    console.print(
        f"{count} of {len(findings)} cost latency." if count else "Nothing here costs latency.", highlight=False
    )
