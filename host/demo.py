"""The demo: generated traffic through the card, the gateway and the journal, and whether everything adds up."""

from dataclasses import asdict, dataclass
from pathlib import Path

from hdl.fix_tags import SESSION_TYPES
from hdl.flow import Parser
from hdl.sbe_venue import load_venue
from host.capture.reader import open_captures
from host.cluster.report import ReportKind
from host.gateway.limits import DEFAULT_NODES, Limits
from host.gateway.notional import NOTIONAL_DECIMALS
from host.gateway.risk import Account, Instrument
from host.generate import ACCOUNTS, INSTRUMENTS, SCHEMA, Generated
from host.playback import Replay, Result

DEMO_LIMITS = Limits(
    instruments=tuple(
        Instrument(each.symbol, each.reference_price, each.maximum_quantity, each.collar_ppm, each.security_id)
        for each in INSTRUMENTS.values()
    ),
    accounts=tuple(Account(name, order_notional=units * 10**NOTIONAL_DECIMALS) for name, units in ACCOUNTS.items()),
    nodes=DEFAULT_NODES,
)
"""The limits that fit the generated traffic."""


@dataclass(frozen=True)
class Check:
    """One line of the reconciliation: what was sent, or follows from it, and what was found."""

    name: str
    sent: int
    found: int

    @property
    def closes(self) -> bool:
        """Whether both are the same."""
        return self.sent == self.found


def check(generated: Generated, result: Result) -> list[Check]:
    """Compare what a replay of generated traffic found with what was sent."""
    sent, found = generated.sent, result.gateway
    fix = {row.message_type: row.messages for row in result.types if row.parser is Parser.FIX}
    sbe = {row.message_type: row for row in result.types if row.parser is Parser.SBE}
    sbe_messages = sum(row.messages for row in sbe.values())
    orders_sent = sent.orders + sent.malformed.total()
    return [
        Check("packets", len(generated.packets), result.counters["packets"]),
        Check("segments that came twice", sent.packets["repeated"], result.counters["repeated"]),
        Check("holes", 0, result.counters["gaps"]),
        Check("orders sent = accepted + rejected + malformed", orders_sent, accounted_orders(result)),
        Check("malformed", sent.malformed.total(), found.malformed),
        Check("rejected", sent.excessive.total(), found.rejected),
        Check("session messages", sent.session_messages, sum(fix.get(kind, 0) for kind in SESSION_TYPES)),
        Check("FIX messages by type", sent.fix.total(), sum(fix.get(kind, 0) for kind in sent.fix)),
        Check("market data messages", sent.sbe.total(), sbe_messages),
        Check("market data frames", sent.sbe_frames, sum(row.frames for row in sbe.values())),
        Check("accepted = applied by exactly one node", found.accepted, found.applied),
        Check("journaled = accepted + rejected", found.accepted + found.rejected, found.journaled),
        Check("journal read again = journaled", found.journaled, result.reconciliation.journaled),
        Check("applied again from the journal", found.applied, result.reconciliation.applied),
        Check("differences of state", 0, len(result.reconciliation.differences)),
        Check("unfinished bytes", 0, result.unfinished_bytes),
    ]


def accounted_orders(result: Result) -> int:
    """Orders that the gateway decided about, and malformed messages."""
    return result.gateway.accepted + result.gateway.rejected + result.gateway.malformed


def summary(generated: Generated, result: Result, checks: list[Check]) -> dict[str, object]:
    """What ``summary.json`` holds: the result and the reconciliation. ``lost`` counts what was sent and not accounted for."""
    sent = generated.sent
    orders_sent = sent.orders + sent.malformed.total()
    return {
        **result.named(),
        "messages_sent": orders_sent,
        "session_messages_sent": sent.session_messages,
        "market_data_messages_sent": sent.sbe.total(),
        "lost": orders_sent - accounted_orders(result),
        "canceled": int(result.gateway.reports[ReportKind.CANCELED]),
        "checks": [{**asdict(each), "closes": each.closes} for each in checks],
    }


def make_replay(generated: Generated, capture: Path, url: str, journal: Path) -> Replay:
    """Write the traffic to ``capture`` and make it ready to be played from there, as any capture is."""
    generated.write(capture)
    return Replay(open_captures([capture]), url, list(generated.flows), load_venue(SCHEMA), DEMO_LIMITS, journal)
