"""What a session was told, out of the journal: for one that read too slowly and got no more, or that comes back."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from host.cluster.matching_node import MatchingNode
from host.cluster.report import REPORT_DTYPE
from host.gateway.session_ring import NO_REFUSALS, REFUSAL_DTYPE, SESSION_DTYPE, refuse_orders
from host.gateway.state import NodesState, begin_at_snapshot
from host.journal import Batch, read_journal
from host.journal.batch import ACCEPTED


def replay_session(
    nodes: Iterable[MatchingNode],
    directory: Path,
    session: int,
    first_sequence: int,
    before: int | None = None,
    modules: Iterable[Iterable[int]] = (),
) -> Iterator[np.ndarray]:
    """The records (SESSION_DTYPE, no generation) of a session that orders from ``first_sequence`` on caused, in their order.

    Nodes are deterministic: the records are those that the session's ring had, or would have had, with equal batch and ordinal.
    ``nodes`` are new ones, with the room of those that served; they go on from the newest snapshot that lies before. ``before``: batches
    from this number on are not looked at (None: all are). ``modules`` are the nodes of each module that had some, for each counts
    its own reports; without, there was one. Raises what the journal's reader raises: where
    retention has taken away what lies before ``first_sequence``, too.
    """
    state = NodesState(nodes)
    module_of = {node: module for module, share in enumerate(modules) for node in share}
    reader = read_journal(directory, begin_at_snapshot(state, directory, lambda each: each.sequence <= first_sequence))
    for batch in reader:
        if before is not None and batch.number >= before:
            return
        if batch.first_sequence + len(batch) <= first_sequence and batch.control is None:
            state.apply(batch)
            continue
        told: Counter[int] = Counter()
        for reports, refusals in _reports(state, batch):
            if len(reports):
                # What risk refused, which no node has, is told by the first module.
                module = module_of.get(int(reports["node"][0]), 0)
                yield _records(reports, refusals, batch.number, told[module], session, first_sequence)
                told[module] += len(reports)


def _reports(state: NodesState, batch: Batch) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What is told of a batch, in the order in which it is: first what risk refused."""
    refused, refusals = np.zeros(len(batch), REPORT_DTYPE), np.zeros(len(batch), REFUSAL_DTYPE)
    count = refuse_orders(batch.frames, batch.decisions, batch.payload, batch.first_sequence, refused, refusals)
    yield refused[:count], refusals[:count]
    for reports in state.reports(batch):
        yield reports, NO_REFUSALS


def _records(
    reports: np.ndarray, refusals: np.ndarray, batch: int, ordinal: int, session: int, first_sequence: int
) -> np.ndarray:
    its = np.flatnonzero((reports["flow"] == session) & (reports["sequence"] >= first_sequence))
    records = np.zeros(len(its), SESSION_DTYPE)
    records["report"], records["batch"], records["ordinal"] = reports[its], batch, ordinal + its
    records["verdict"] = refusals["verdict"][its] if len(refusals) else ACCEPTED
    if len(refusals):
        records["limit_high"], records["value_high"] = refusals["limit_high"][its], refusals["value_high"][its]
    return records
