"""The distribution of latencies as pictures: by percentile, as HdrHistogram plots it, and by value, beside the machine's stalls."""

import html
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from host.gateway.route_loop import BUCKETS, bucket_bounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from host.bench.latency import Latencies

COLOURS = {"all orders": "tab:blue", "orders that met no stall": "tab:green", "the machine's stalls": "tab:red"}


def histogram(values: np.ndarray) -> np.ndarray:
    """Counts by bucket (host.gateway.route_loop, HdrHistogram's scheme) of values in ns."""
    low, _ = bucket_bounds()
    return np.bincount(np.searchsorted(low, np.maximum(values, 0), side="right") - 1, minlength=BUCKETS)


def write_pictures(folder: Path, ours: "Latencies", peer: "Latencies", rate: int) -> None:
    """Write latency.png and latency.html."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (by_percentile, by_value) = pyplot.subplots(2, 1, figsize=(10, 9), constrained_layout=True)
    undisturbed = ~ours.disturbed
    for name, taken in (
        ("all orders", ours.taken),
        ("orders that met no stall", ours.taken[undisturbed]),
    ):
        _plot_percentiles(by_percentile, name, taken, COLOURS[name])
    _plot_percentiles(by_percentile, "the loop in Python, all orders", peer.taken, "tab:gray")
    by_percentile.set(
        title=f"Ring to routed at {rate:,} orders a second, from when each was due",
        xlabel="percentile", ylabel="µs", xscale="log", yscale="log",
    )  # fmt: skip
    by_percentile.set_xticks([1, 10, 100, 1e3, 1e4, 1e5], ["0", "90", "99", "99.9", "99.99", "99.999"])
    low, high = bucket_bounds()
    middle = (low + high) / 2 / 1000
    for name, values in (("all orders", ours.taken), ("the machine's stalls", ours.stalls[:, 1])):
        counts = histogram(values)
        used = counts > 0
        by_value.step(middle[used], counts[used], where="mid", label=name, color=COLOURS[name])
    by_value.set(title="How often", xlabel="µs", ylabel="orders, stalls", xscale="log", yscale="log")
    for axes in (by_percentile, by_value):
        axes.grid(True, which="both", alpha=0.25)
        axes.legend()
    figure.savefig(folder / "latency.png", dpi=110)
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg")
    pyplot.close(figure)
    (folder / "latency.html").write_text(_page(drawing.getvalue(), ours, peer, rate))


def _plot_percentiles(axes: "Axes", name: str, taken: np.ndarray, colour: str) -> None:
    if not len(taken):
        return
    ordered = np.sort(taken)
    # A few hundred points say it all; the last ones are single orders.
    rest = np.unique(np.geomspace(1, len(ordered), 400).astype(int))
    axes.plot(len(ordered) / rest, ordered[len(ordered) - rest] / 1000, label=name, color=colour)


def _page(drawing: str, ours: "Latencies", peer: "Latencies", rate: int) -> str:
    def rows(name: str, values: dict[str, float]) -> str:
        cells = "".join(f"<td>{value:,.3f}</td>" for value in values.values())
        return f"<tr><th>{html.escape(name)}</th>{cells}</tr>"

    mine = ours.named()
    heads = "".join(f"<th>{each}</th>" for each in ours.percentiles())
    table = (
        rows("all orders", ours.percentiles())
        + rows("orders that met no stall", ours.percentiles(~ours.disturbed))
        + rows("the loop in Python", peer.percentiles())
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Latency</title>
<style>body {{ font: 15px sans-serif; margin: 2em auto; max-width: 62em }} td {{ text-align: right; padding: 0 .7em }}
th {{ text-align: left; font-weight: normal }} svg {{ width: 100%; height: auto }}</style>
<h1>Ring to routed at {rate:,} orders a second</h1>
<p>{mine["orders"]:,} orders in {mine["seconds"]} s, from when each was due to when it was decided about, routed and copied into the
journal's batch. The machine stalled one of the two loops {mine["stalls"]:,} times for a microsecond or longer, {mine["stalled_ms"]} ms in
all, {mine["longest_stall_ms"]} ms at most; {100 * float(str(mine["without_stalls_share"])):.2f} % of the orders met none of it. In µs:</p>
<table><tr><th></th>{heads}</tr>{table}</table>
{drawing[drawing.index("<svg") :]}
<details><summary>Buckets</summary><pre>{html.escape(json.dumps(_buckets(ours)))}</pre></details>
</html>
"""


def _buckets(ours: "Latencies") -> list[list[int]]:
    """(least ns, orders, stalls) of every bucket that is not empty."""
    low, _ = bucket_bounds()
    orders, stalls = histogram(ours.taken), histogram(ours.stalls[:, 1])
    return [[int(low[n]), int(orders[n]), int(stalls[n])] for n in np.flatnonzero(orders + stalls)]
