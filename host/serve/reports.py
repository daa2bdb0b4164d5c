"""The command ``tickgate reports``: what a session was told, in words, out of a gateway's journal."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hdl.frame import PRICE_DECIMALS, QUANTITY_DECIMALS, Side
from host.cluster.report import REASON_TEXT, Reason, ReportKind
from host.gateway.batch_ring import JOURNAL, BatchRing
from host.gateway.reject import decimal_text, told_reject
from host.gateway.session_replay import replay_session
from host.journal.batch import ACCEPTED
from host.journal.commands import check_directory
from host.serve.config import SESSIONS, Config
from host.serve.modules import BATCHES, make_nodes

SHOWN = (
    "batch",
    "ordinal",
    "sequence",
    "order_sequence",
    "kind",
    "side",
    "quantity",
    "price",
    "leaves",
    "cumulative",
    "text",
)
"""What a line has of a report; JSON has all."""

_SIDES = {int(side): side.name.lower().replace("_", " ") for side in Side}


def show_reports(config: Config, session: int, first_sequence: int, *, as_json: bool) -> None:
    """Print the reports of a session from a sequence on, a line each. Raises ValueError where there are none to be had."""
    if not 0 <= session < SESSIONS:
        raise ValueError(f"{session} is no session: there are 0 to {SESSIONS - 1}")
    check_directory(config.journal)
    if not as_json:
        print("\t".join(SHOWN))
    for records in replay_session(
        make_nodes(config), config.journal, session, first_sequence, _durable(config.run), config.node_modules.values()
    ):
        for row in _rows(records):
            print(
                json.dumps(row)
                if as_json
                else "\t".join("-" if row[each] is None else str(row[each]) for each in SHOWN)
            )


def _durable(run: Path) -> int | None:
    """The first batch that nobody may hear of yet; None where no gateway has left its rings here."""
    try:
        with BatchRing.open(run / BATCHES) as batches:
            return batches.ring.base + batches.ring.cursor(JOURNAL)
    except FileNotFoundError:
        return None


def _rows(records: np.ndarray) -> Iterator[dict[str, Any]]:
    for record in records:
        report, refused = record["report"], record["verdict"] != ACCEPTED
        names = ("sequence", "order_sequence", "instrument", "execution", "timestamp")
        yield {
            "batch": int(record["batch"]),
            "ordinal": int(record["ordinal"]),
            **{name: int(report[name]) for name in names},
            "node": None if refused else int(report["node"]),
            "kind": ReportKind(int(report["kind"])).name.lower().replace("_", " "),
            "side": _SIDES.get(int(report["side"])),
            "quantity": decimal_text(int(report["quantity"]), QUANTITY_DECIMALS),
            "price": decimal_text(int(report["price"]), PRICE_DECIMALS),
            # Of what risk refused nothing is open and nothing filled.
            "leaves": "0" if refused else decimal_text(int(report["leaves"]), QUANTITY_DECIMALS),
            "cumulative": "0" if refused else decimal_text(int(report["cumulative"]), QUANTITY_DECIMALS),
            "text": (told_reject(record).text if refused else REASON_TEXT[Reason(int(report["reason"]))]) or None,
        }
