"""A replay's result as a table for people."""

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from hdl.frame import MALFORMED_FLAGS, Flag
from hdl.register_map import COUNTERS
from host.gateway.verdict import VERDICT_TEXT, Verdict
from host.playback.replay import Result

SHOWN_COUNTERS = ("parsed", "empty", "repeated", "unmatched", "other", "damaged", "oversize", "fragments")


CAPTURE_COUNTS = {
    "ipv6": "IPv6 packets, passed over",
    "datagrams": "datagrams put together",
    "fragments": "  of IPv4 fragments",
    "fragments_left": "IPv4 fragments of no whole datagram",
    "segments_waited": "TCP segments put behind a later one",
    "tcp_holes": "holes in TCP streams, waited for in vain",
}
"""What is shown of what reading the captures met, where there is any."""

LABEL_WIDTH = 44
NUMBER_WIDTH = 10


def _section(title: str, *columns: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column(columns[0], width=LABEL_WIDTH, overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", min_width=NUMBER_WIDTH)
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}"


def report(result: Result) -> Group:
    """The tables that end a replay: packets, messages, orders, nodes, journal, rates."""
    parts: list[Table | Text] = []

    met = [(text, count) for name, text in CAPTURE_COUNTS.items() if (count := getattr(result.capture, name))]
    if met:
        table = _section("Captures", "what", "count")
        for text, count in met:
            table.add_row(text, _number(count))
        parts.append(table)

    table = _section(f"Card {result.card}", "packets", "count")
    table.add_row("all", _number(result.packets))
    for name in SHOWN_COUNTERS:
        if result.counters[name]:
            table.add_row(f"  {COUNTERS[name]}", _number(result.counters[name]))
    if result.counters["gaps"]:
        table.add_row(COUNTERS["gaps"], _number(result.counters["gaps"]))
    parts.append(table)

    table = _section("Messages", "type", "messages", "entries", "frames")
    for row in result.types:
        label = f"{row.parser.name} {row.message_type} {row.name}".rstrip()
        table.add_row(label, _number(row.messages), _number(row.entries), _number(row.frames))
    summary = result.gateway
    for flag in Flag:
        count = int(summary.causes[flag.bit_length() - 1])
        if count and flag & (MALFORMED_FLAGS | Flag.TEMPLATE):
            table.add_row(f"malformed: {flag.name}", "", "", _number(count))
    table.add_row(
        "well-formed messages; frames of all", _number(result.messages), _number(summary.frames), style="bold"
    )
    if summary.malformed:
        table.add_row(
            "malformed frames (one may have several causes)", "", "", _number(summary.malformed), style="bold"
        )
    if result.unfinished_bytes:
        table.add_row("bytes at the end of FIX flows, no whole message", "", "", _number(result.unfinished_bytes))
    parts.append(table)

    if summary.journaled:
        table = _section("Orders", "verdict", "orders")
        table.add_row("accepted", _number(summary.accepted))
        for verdict in Verdict:
            if verdict > Verdict.MALFORMED and (count := int(summary.verdicts[verdict])):
                table.add_row(f"rejected: {VERDICT_TEXT[verdict]}", _number(count))
        parts.append(table)

        table = _section("Nodes", "node", "orders", "fills")
        for node in summary.node_orders.nonzero()[0].tolist():
            table.add_row(
                f"node {node}", _number(int(summary.node_orders[node])), _number(2 * int(summary.node_trades[node]))
            )
        table.add_row("all", _number(summary.applied), _number(summary.fills), style="bold")
        parts.append(table)

    table = _section("Journal and rates", "what", "count")
    table.add_row("journaled orders", _number(summary.journaled))
    table.add_row("journal bytes", _number(result.journal_bytes))
    table.add_row("seconds", f"{result.seconds:.2f}")
    seconds = max(result.seconds, 1e-9)
    table.add_row("packets a second", _number(result.packets / seconds))
    table.add_row("messages a second", _number(result.messages / seconds))
    table.add_row("MB a second", f"{result.bytes / seconds / 1e6:.1f}")
    if result.cycles is not None:
        table.add_row("card cycles", _number(result.cycles))
        table.add_row("card cycles a second", _number(result.cycles / seconds))
    parts.append(table)

    if result.reconciliation.closes:
        closing = "the journal, read again, gives the nodes' state" if summary.journaled else "no orders to reconcile"
        parts.append(Text(f"\nReconciled: {closing}.", style="green"))
    else:
        parts.append(Text("\nNOT RECONCILED: " + "; ".join(result.reconciliation.differences), style="bold red"))
    if result.interrupted:
        parts.append(Text(f"\nStopped after {_number(result.packets)} packets.", style="yellow"))
    return Group(*parts)


def print_report(console: Console, result: Result) -> None:
    """Print :func:`report`."""
    console.print(report(result))
