"""The gateway: pre-trade risk, routing, and the way of an order through journal and nodes."""

from host.gateway.pipeline import Gateway, GatewayError, Reconciliation
from host.gateway.risk import Account, Instrument, Risk
from host.gateway.router import Router
from host.gateway.summary import Summary
from host.gateway.verdict import VERDICT_TEXT, Verdict, verdict_text

__all__ = [
    "Account",
    "Gateway",
    "GatewayError",
    "Instrument",
    "Reconciliation",
    "Risk",
    "Router",
    "Summary",
    "VERDICT_TEXT",
    "Verdict",
    "verdict_text",
]
