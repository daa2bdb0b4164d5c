"""`python -m host.trials.memory`: whether the gateway's memory stays flat under load, as a series of resident bytes.

Tables are touched as they fill, so the first part of the run is no measure; after it the sum over all processes must not grow
by more than is allowed. Shared memory counts in each process that has it mapped; pages of segments that are read are the system's cache.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from host.trials.served import Served

WARM_SHARE = 0.25
"""Share of the run that tables may take to fill."""

ALLOWED_GROWTH = 0.01
"""Of the resident bytes at the end of that: an allocator's noise."""

IDS_MARGIN = 1.2


def series(folder: Path, *, minutes: float, rate: int, lap_orders: int) -> list[dict[str, int]]:
    """Seconds, durable orders and resident bytes of all processes, each second."""
    tables: dict[str, dict[str, Any]] = {
        "traffic": {"orders_per_s": rate},
        "processes": {"groups": [["card"], ["risk"], ["journal"], ["nodes"], ["sessions"]]},
        "risk": {"client_order_ids": max(int(IDS_MARGIN * rate * (60 * minutes + 10)), 1 << 16)},
        "sessions": {"patience_ms": 10_000},
    }
    rows: list[dict[str, int]] = []
    with Served(folder, lap_orders, 1, tables) as served:
        served.start()
        for line in served.lines():
            if not line["journaled"]:
                continue
            rows.append({"seconds": len(rows), "orders": line["journaled"], "resident_bytes": line["rss"]})
            if len(rows) == round(60 * minutes) + 1:
                served.end()
    return rows[: round(60 * minutes) + 1]


def growth(rows: list[dict[str, int]]) -> float:
    """How much memory grew from the end of the warm part to the most later on, as a share."""
    warm = rows[int(WARM_SHARE * (len(rows) - 1))]["resident_bytes"]
    return max(row["resident_bytes"] for row in rows[int(WARM_SHARE * (len(rows) - 1)) :]) / max(warm, 1) - 1


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m host.trials.memory", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="(default: 10)")
    parser.add_argument("--rate", type=int, default=50_000, metavar="ORDERS", help="orders a second (default: 50000)")
    parser.add_argument("--lap", type=int, default=20_000, metavar="ORDERS", help="orders of a lap (default: 20000)")
    parser.add_argument(
        "--folder", type=Path, default=Path("build/memory"), metavar="DIR", help="(default: build/memory)"
    )
    arguments = parser.parse_args()
    rows = series(arguments.folder, minutes=arguments.minutes, rate=arguments.rate, lap_orders=arguments.lap)
    step = max(len(rows) // 20, 1)
    for row in rows[::step]:
        print(f"{row['seconds']:5} s {row['orders']:14,} orders {row['resident_bytes'] / (1 << 20):10,.1f} MiB")
    grown = growth(rows)
    (arguments.folder / "memory.json").write_text(json.dumps(rows) + "\n")
    print(
        f"From {100 * WARM_SHARE:.0f} % of the time on it grew by {100 * grown:.2f} % (allowed: {100 * ALLOWED_GROWTH:g} %)."
    )
    return 0 if grown <= ALLOWED_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
