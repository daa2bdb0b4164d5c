"""Nodes: they apply accepted orders and report what happened."""

from host.cluster.matching_node import MatchingNode
from host.cluster.node import NO_NODE
from host.cluster.report import REASON_TEXT, REPORT_DTYPE, Reason, ReportKind

__all__ = ["NO_NODE", "REASON_TEXT", "REPORT_DTYPE", "MatchingNode", "Reason", "ReportKind"]
