"""Rows by channel and date: what of a batch goes to which partition, each in the order in which it came."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from hdl.frame import NO_FLOW
from host.sbe.full_decode import Decoded, Table

DAY = 86_400_000_000_000
"""In ns."""


class Partition(NamedTuple):
    """The number of the flow after which a channel is called, and a day since 1970 in UTC."""

    flow: int
    day: int

    @property
    def date(self) -> str:
        """The day as ISO 8601 has it."""
        return datetime.fromtimestamp(self.day * 86_400, UTC).strftime("%Y-%m-%d")


class Run(NamedTuple):
    """Rows ``begin`` to ``end`` (not included) are of a partition."""

    partition: Partition
    begin: int
    end: int


def keys_of(channel: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
    """A row's partition as a number; ``channel`` is the number of a flow."""
    if not len(timestamp):
        return np.empty(0, np.int64)
    days = int(timestamp.min()) // DAY, int(timestamp.max()) // DAY
    day = days[0] if days[0] == days[1] else (timestamp // np.uint64(DAY)).astype(np.int64)
    return day * (NO_FLOW + 1) + channel.astype(np.int64)


def runs_of(keys: np.ndarray) -> tuple[np.ndarray | None, list[Run]]:
    """The order in which rows of the same partition stand together (None: they do already), and these runs."""
    if not len(keys):
        return None, []
    order = None
    bounds = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    if len(bounds) and (keys[1:] < keys[:-1]).any():
        least = int(keys.min())
        # Small numbers are sorted by their digits, which is much faster.
        small = int(keys.max()) - least <= NO_FLOW
        order = np.argsort((keys - least).astype(np.uint16) if small else keys, kind="stable")
        keys = keys[order]
        bounds = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    edges = [0, *bounds.tolist(), len(keys)]
    firsts = keys[edges[:-1]].tolist()
    return order, [
        Run(Partition(key % (NO_FLOW + 1), key // (NO_FLOW + 1)), begin, end)
        for key, begin, end in zip(firsts, edges[:-1], edges[1:], strict=True)
    ]


def partitioned(decoded: Decoded, rows: Counter[str], channels: np.ndarray) -> tuple[Decoded, dict[str, list[Run]]]:
    """Tables whose rows stand by partition, with the runs by table. ``@parent`` becomes the parent's number, counting from ``rows``,
    which is by table how many there were before. ``channels`` gives each flow's channel, as the number of a flow."""
    keys: dict[str, np.ndarray] = {}
    numbers: dict[str, np.ndarray] = {}
    tables: dict[str, Table] = {}
    runs: dict[str, list[Run]] = {}
    for name, table in decoded.tables.items():
        if not len(table):
            continue
        parent = table.layout.parent
        if parent is None:
            its = keys_of(channels[table.rows["@flow"]], table.rows["@timestamp"])
        else:
            above = table.rows["@parent"].astype(np.int64)
            its = keys[parent][above]
        order, runs[name] = runs_of(its)
        content = table.rows
        if parent is not None:
            # In place: these rows are the batch's own.
            content["@parent"] = numbers[parent][above]
        number = np.arange(rows[name], rows[name] + len(content), dtype=np.uint64)
        if order is not None:
            whole = content.view(f"V{content.dtype.itemsize}")
            content = whole[order].view(content.dtype)
            moved = np.empty_like(number)
            moved[order] = number
            number = moved
        keys[name], numbers[name] = its, number
        tables[name] = Table(table.layout, content)
    return replace(decoded, tables=tables), runs
