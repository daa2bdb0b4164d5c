"""The gateway: pre-trade risk, routing, and the way of an order through journal and nodes."""

from host.gateway.health import Health, HealthError, HealthRules
from host.gateway.moves import Move, MoveError, Mover, Placement, carry_out, plan_moves
from host.gateway.node_state import NodeState
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
    "Health",
    "HealthError",
    "HealthRules",
    "Instrument",
    "Move",
    "MoveError",
    "Mover",
    "NodeState",
    "Placement",
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
    "carry_out",
    "plan_moves",
    "verdict_text",
]
