"""What was measured: a table on the terminal, JSON, a part of docs/timing.md, and the paths hop by hop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bitstreams.measure import Measurement

LINE_RATE = (
    "156.25 MHz × 64 bits is the datapath's rate of 10 Gb/s, not a link: transceivers of the ECP5 end at 5 Gb/s."
)

BEGIN, END = "<!-- Written by `make timing DOCS=1`. -->", "<!-- End of what is written. -->"
"""Between these lines docs/timing.md has the table."""

COUNTS = {"lut4": "LUT4", "ff": "FF", "bram": "BRAM", "dsp": "DSP"}
"""Columns of what a block takes, and their heads."""


def as_json(row: Measurement) -> dict[str, Any]:
    """A row of ``build/timing.json``; what is not known is null."""
    counts = row.synthesis.counts() if row.synthesis else dict.fromkeys(COUNTS)
    worst = row.worst.paths[0] if row.worst else None
    return {
        "block": row.block.name,
        "device": row.block.device.name,
        "speed_grade": row.block.device.speed_grade,
        "data_width": row.block.data_width,
        "flows": row.block.flows,
        **counts,
        "mapper": row.synthesis.mapper if row.synthesis else None,
        "mhz": row.mhz,
        "mhz_median": row.mhz_median,
        "mhz_worst": row.mhz_worst,
        "latency_cycles": row.latency_cycles,
        "critical_path": {
            "from": worst.start,
            "to": worst.end,
            "through": worst.through,
            "logic_ns": round(worst.logic_ns, 2),
            "routing_ns": round(worst.routing_ns, 2),
        }
        if worst
        else None,
        "not_placed": _why_not(row) or None,
    }


def _why_not(row: Measurement) -> str:
    return f"does not fit: {row.lacks}" if row.lacks else row.failure


def missed(row: Measurement) -> list[str]:
    """Which of its bounds a block does not keep, each in words. What is not known is not kept."""
    bound = row.block.bound
    if bound is None:
        return []
    found = []
    if row.mhz_median is None or row.mhz_median < bound.mhz:
        found.append(f"median {_cell(row.mhz_median)} MHz, at least {bound.mhz} asked for")
    lut4 = row.synthesis.lut4 if row.synthesis else None
    if lut4 is None or lut4 > bound.lut4:
        found.append(f"{_cell(lut4)} LUT4, at most {bound.lut4:,} allowed")
    if row.latency_cycles is None or row.latency_cycles > bound.latency_cycles:
        found.append(f"latency {_cell(row.latency_cycles)} cycles, at most {bound.latency_cycles} allowed")
    return found


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}"


def _cells(row: Measurement) -> list[str]:
    """A row's cells from the counts on, the MHz of the seeds left out."""
    counts = row.synthesis.counts() if row.synthesis else {}
    figures = (row.mhz_median, row.mhz_worst, row.latency_cycles)
    return [_cell(counts.get(name)) for name in COUNTS] + [_cell(figure) for figure in figures]


def show(rows: Sequence[Measurement], console: Console) -> None:
    """The table, the slowest path of each row's worst seed, and whether the bounds are kept."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("block", "device"):
        table.add_column(column, no_wrap=True)
    for column in ("bits", "flows", *COUNTS.values(), "MHz of each seed", "median", "worst", "cycles"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        block = row.block
        *counts, median, worst, latency = _cells(row)
        seeds = " ".join(f"{mhz:.0f}" for mhz in row.mhz)
        if row.synthesis and row.synthesis.mapper != "abc9":
            counts[0] += " *"
        table.add_row(
            block.name, f"{block.device.name}-{block.device.speed_grade}", str(block.data_width), _cell(block.flows),
            *counts, seeds, f"[red]{median}[/]" if missed(row) else median, worst, latency,
        )  # fmt: skip
    console.print(table)
    if any(row.synthesis and row.synthesis.mapper != "abc9" for row in rows):
        console.print("* mapped by abc: abc9 died on it")
    for row in rows:
        if why := _why_not(row):
            console.print(f"[red]{row.block.label}[/]: {escape(why)}", highlight=False)
        elif row.worst:
            console.print(f"{row.block.label}: {escape(row.worst.paths[0].sentence())}", highlight=False)
    for row in rows:
        if row.block.bound:
            _show_bound(row, console)


def _show_bound(row: Measurement, console: Console) -> None:
    bound = row.block.bound
    assert bound is not None
    for words in missed(row):
        console.print(f"[red]{row.block.label} misses a bound[/]: {words}", highlight=False)
    if row.mhz_median is None:
        return
    if row.mhz_median >= bound.goal_mhz:
        goal = f"the goal of {bound.goal_mhz} MHz is reached"
    else:
        goal = f"{bound.goal_mhz - row.mhz_median:.1f} MHz below the goal of {bound.goal_mhz} MHz"
    console.print(f"{row.block.label}: median {row.mhz_median:.1f} MHz, {goal}. {LINE_RATE}", highlight=False)


def write_paths(row: Measurement, file: Path) -> None:
    """What each part of the block takes, and the slowest paths of its worst seed, hop by hop."""
    assert row.synthesis is not None
    lines = [f"{row.block.label}: cells by submodule, without those in it, as far as the cells' names tell."]
    lines.append("".join(f"{head:>7}" for head in COUNTS.values()))
    for part, counts in row.synthesis.parts.items():
        lines.append("".join(f"{counts[name]:>7,}" for name in COUNTS) + f"  {part or '(itself)'}")
    if row.worst is not None:
        lines += [
            "",
            f"The slowest paths of the worst seed, {row.mhz_worst} MHz. A hop is a wire and what is behind it up to the",
        ]
        lines += ["next wire. It is named after the signal that it drives, or with ~ after one near to it. ns."]
        for number, path in enumerate(row.worst.paths, 1):
            lines += [
                "",
                f"{number}. {path.start} to {path.end}",
                f"   {path.figures()}",
                "   routing    logic      sum",
            ]
            total = 0.0
            for hop in path.hops:
                total += hop.routing_ns + hop.logic_ns
                kind = f" ({hop.kind})" if hop.kind else ""
                lines.append(f"   {hop.routing_ns:7.3f}  {hop.logic_ns:7.3f}  {total:7.3f}  {hop.signal}{kind}")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_page(rows: Sequence[Measurement], page: Path, tools: str) -> None:
    """Put the table into ``page``, between :data:`BEGIN` and :data:`END`."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    head = ("block", "bits", "flows", "device", *COUNTS.values(), "MHz, median", "MHz, worst", "latency, cycles")
    lines = [head, ("---",) * len(head)]
    for row in rows:
        device = f"{row.block.device.name}-{row.block.device.speed_grade}"
        lines.append((f"`{row.block.name}`", str(row.block.data_width), _cell(row.block.flows), device, *_cells(row)))
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    paths = "\n".join(
        f"- `{row.block.name}`, {row.block.data_width} bits: {_why_not(row) or _path(row)}" for row in rows
    )
    text = f"{BEGIN}\n\n{tools}\n\n{table}\n\nThe slowest path of each row's worst seed:\n\n{paths}\n\n{END}"
    page.write_text(before + text + after, encoding="utf-8")


def _path(row: Measurement) -> str:
    assert row.worst is not None
    path = row.worst.paths[0]
    through = f", through {', '.join(f'`{name}`' for name in path.through)}" if path.through else ""
    return f"`{path.start}` to `{path.end}`{through}: {path.figures()}"
