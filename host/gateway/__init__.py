"""The gateway: pre-trade risk, routing, and the way of an order through journal and nodes."""

from host.gateway.pipeline import Gateway, GatewayError, Reconciliation
from host.gateway.reject import Reject
from host.gateway.risk import Risk
from host.gateway.router import Router
from host.gateway.summary import Summary
from host.gateway.terms import Account, Instrument, Position, SelfTrade, Session, Terms
from host.gateway.verdict import VERDICT_TEXT, Verdict, verdict_text

__all__ = [
    "Account",
    "Gateway",
    "GatewayError",
    "Instrument",
    "Position",
    "Reconciliation",
    "Reject",
    "Risk",
    "Router",
    "SelfTrade",
    "Session",
    "Summary",
    "Terms",
    "VERDICT_TEXT",
    "Verdict",
    "verdict_text",
]
