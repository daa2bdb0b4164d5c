"""`make bench`: measure everything, print a table and a line of JSON, write build/bench.json."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from host.bench import (
    books,
    captures,
    cards,
    cluster,
    end_to_end,
    ethernet,
    gateway,
    journal,
    latency,
    market_data,
    playback,
    router,
)
from host.bench.measure import Row
from sim.veth import NoVeth

BENCH_FILE = Path("build/bench.json")


def number(value: float) -> str:
    """With as many digits as count: three, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Measure row by row."""
    console = Console(width=None if Console().is_terminal else 130)
    console.print("Each figure and its peer take turns in the same run; the best turn of each counts.")
    data = market_data.MarketData.at_hand()
    console.print(f"Market data: {data.name}.", highlight=False, soft_wrap=True)
    traffic = gateway.Traffic()
    rows: list[Row] = []

    def eth_rows() -> list[Row]:
        try:
            return ethernet.rows()
        except NoVeth as reason:
            console.print(f"  eth: not measured: {reason}", highlight=False)
            return []

    for measure in (
        cards.rtl_row,
        cards.fix_row,
        cards.fix_split_row,
        eth_rows,
        lambda: captures.index_rows(data),
        lambda: captures.batches_row(data),
        lambda: market_data.entries_row(data),
        lambda: market_data.full_decode_row(data),
        lambda: books.updates_row(data),
        lambda: playback.rows(data),
        router.recompute_row,
        lambda: gateway.risk_route_row(traffic),
        lambda: cluster.matching_row(traffic),
        cluster.deep_book_row,
        lambda: gateway.journaled_row(traffic),
        lambda: journal.durable_row(traffic),
        latency.latency_row,
        lambda: end_to_end.end_to_end_row()[0],
    ):
        measured = measure()
        for row in measured if isinstance(measured, list) else [measured]:
            rows.append(row)
            note = f" ({row.note})" if row.note else ""
            console.print(f"  {row.name}: {number(row.value)} {row.unit}{note}", highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in ("figure", "unit", "peer"):
        table.add_column(column)
    for column in ("value", "peer's", "ratio"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.name, row.unit, row.peer, number(row.value), number(row.peer_value), number(row.ratio))
    console.print()
    console.print(table)
    BENCH_FILE.parent.mkdir(parents=True, exist_ok=True)
    content = [{**asdict(row), "ratio": row.ratio} for row in rows]
    BENCH_FILE.write_text(json.dumps(content, indent=2) + "\n")
    console.print()
    line = {row.name: float(f"{row.value:.6g}") for row in rows}
    console.print(json.dumps(line), highlight=False, markup=False, soft_wrap=True)
    console.print(f"\nWritten to {BENCH_FILE}.", highlight=False)


if __name__ == "__main__":
    main()
