"""What the gateway did, counted."""

from dataclasses import dataclass, field, fields

import numpy as np

from hdl.frame import Flag, Kind
from host.cluster.report import ReportKind
from host.gateway.verdict import Verdict


def _counts(size: int) -> np.ndarray:
    return np.zeros(size, np.int64)


@dataclass
class Summary:
    """Counts over some slices of the ring; ``+`` adds two of them.

    ``verdicts``, ``kinds``, ``reports`` are indexed by Verdict, Kind and ReportKind, ``causes`` by the number of a
    malformed frame's flag bit, ``node_orders`` and ``node_trades`` by node number.
    """

    frames: int = 0
    journaled: int = 0
    journal_bytes: int = 0
    batches: int = 0
    verdicts: np.ndarray = field(default_factory=lambda: _counts(64))
    kinds: np.ndarray = field(default_factory=lambda: _counts(256))
    causes: np.ndarray = field(default_factory=lambda: _counts(16))
    reports: np.ndarray = field(default_factory=lambda: _counts(len(ReportKind) + 1))
    node_orders: np.ndarray = field(default_factory=lambda: _counts(256))
    node_trades: np.ndarray = field(default_factory=lambda: _counts(256))

    def __add__(self, other: "Summary") -> "Summary":
        return Summary(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def accepted(self) -> int:
        """Orders that passed every check."""
        return int(self.verdicts[Verdict.ACCEPTED])

    @property
    def malformed(self) -> int:
        """Frames of no message."""
        return int(self.verdicts[Verdict.MALFORMED])

    @property
    def rejected(self) -> int:
        """Orders that failed a check. Orders = accepted + rejected."""
        return int(self.verdicts[Verdict.MALFORMED + 1 :].sum())

    @property
    def applied(self) -> int:
        """Orders that nodes have applied."""
        return int(self.node_orders.sum())

    @property
    def fills(self) -> int:
        """Fill reports: two a trade."""
        return int(self.reports[ReportKind.PARTIAL_FILL] + self.reports[ReportKind.FILL])

    def named(self) -> dict[str, object]:
        """The same as plain numbers under names, for JSON and tables; zeros in breakdowns are left out."""
        return {
            "frames": self.frames,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "malformed": self.malformed,
            "journaled": self.journaled,
            "journal_bytes": self.journal_bytes,
            "batches": self.batches,
            "applied": self.applied,
            "trades": int(self.node_trades.sum()),
            "fills": self.fills,
            "by_kind": {kind.name: int(self.kinds[kind]) for kind in Kind if self.kinds[kind]},
            "by_reason": {
                verdict.name: int(self.verdicts[verdict])
                for verdict in Verdict
                if verdict > Verdict.MALFORMED and self.verdicts[verdict]
            },
            "by_cause": {
                str(flag.name): int(self.causes[flag.bit_length() - 1])
                for flag in Flag
                if self.causes[flag.bit_length() - 1]
            },
            "by_report": {kind.name: int(self.reports[kind]) for kind in ReportKind if self.reports[kind]},
            "by_node": {
                int(node): {"orders": int(self.node_orders[node]), "trades": int(self.node_trades[node])}
                for node in np.flatnonzero(self.node_orders)
            },
        }
