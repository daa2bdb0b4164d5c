"""Captures through a card, its rings, and the gateway: the whole way of a message."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hdl.flow import Flow, Parser
from hdl.frame import Flag
from hdl.limits import FLOWS
from hdl.sbe_framing import End
from hdl.sbe_venue import Venue
from host.capture.flows import FoundFlows, Survey
from host.capture.packets import Packets, sliced
from host.capture.reader import Capture, Captures, Counts
from host.card import Card, CardError, open_card
from host.cluster.matching_node import MatchingNode
from host.gateway.limits import Limits
from host.gateway.pipeline import Gateway, Reconciliation
from host.gateway.summary import Summary
from host.journal import Journal
from host.market_data.arbitration import FeedArbiter
from host.playback.selection import Chooser
from host.playback.tally import Tally, TypeCount
from host.sbe.full_decode import FullDecoder

SLICE_PACKETS = 4096
"""Packets given to the card at a time: often enough for progress and Ctrl-C, seldom enough to cost nothing."""

PROBE_PACKETS = 256
"""Packets of an SBE flow that are looked at to see whether the schema is the capture's."""


@dataclass(frozen=True)
class Progress:
    """How far a replay is: packets, their bytes and messages so far, and how many bytes of the captures' files were read
    of how many (None where nobody knows)."""

    packets: int
    bytes: int
    messages: int
    done_bytes: int
    total_bytes: int | None


@dataclass(frozen=True)
class Result:
    """What a replay did. ``seconds`` is the replay's time without opening the card; ``unfinished_bytes`` are bytes at
    the end of FIX flows that were no whole message; ``interrupted`` says that it was stopped before its end;
    ``capture`` is what reading the captures met (:class:`host.capture.reader.Counts`)."""

    card: str
    packets: int
    bytes: int
    counters: dict[str, int]
    types: list[TypeCount]
    messages: int
    gateway: Summary
    journal_bytes: int
    reconciliation: Reconciliation
    unfinished_bytes: int
    cycles: int | None
    seconds: float
    interrupted: bool
    capture: Counts

    def named(self) -> dict[str, object]:
        """The same as plain values under names, for JSON."""
        return {
            "card": self.card,
            "packets": self.packets,
            "bytes": self.bytes,
            "counters": self.counters,
            "messages": self.messages,
            "messages_by_type": [
                {
                    "parser": row.parser.name,
                    "type": row.message_type,
                    "name": row.name,
                    "messages": row.messages,
                    "entries": row.entries,
                    "frames": row.frames,
                }
                for row in self.types
            ],
            **self.gateway.named(),
            "journal_bytes": self.journal_bytes,
            "reconciles": self.reconciliation.closes,
            "differences": self.reconciliation.differences,
            "unfinished_bytes": self.unfinished_bytes,
            "cycles": self.cycles,
            "seconds": round(self.seconds, 6),
            "interrupted": self.interrupted,
            "capture": asdict(self.capture),
        }


class NoFlow(CardError):
    """No packet of the captures belongs to a flow that a parser could read."""


def flows_of(captures: Captures, venue: Venue | None) -> tuple[list[Flow], int]:
    """The flow table for some captures, and how many flows found no row in it.

    Files are read to their end, of a pipe the first packets decide. Raises :class:`NoFlow` where nothing fits, CardError
    where the schema is another venue's, and CaptureError.
    """
    seen: list[tuple[Capture, FoundFlows]] = []
    for capture in captures.captures:
        streams = venue is not None and venue.profile.framing.suits_streams
        survey = Survey()
        for packets in capture.preview():
            survey.add(packets)
        seen.append((capture, survey.found(venue is not None, streams)))
    flows = list(dict.fromkeys(flow for _, found in seen for flow in found.table()))
    left_out = sum(found.left_out for _, found in seen) + max(len(flows) - FLOWS, 0)
    if not flows:
        has = "; ".join(f"{capture.path}: {found.describe()}" for capture, found in seen)
        hint = "" if venue else " (UDP is read as SBE when there is a --schema)"
        raise NoFlow(f"no flow matches: {has}. Wanted: TCP that carries 8=FIX, or UDP with a schema{hint}")
    if venue is not None:
        for capture, found in seen:
            _check_schema(capture, found, venue)
    return flows[:FLOWS], left_out


def _check_schema(capture: Capture, found: FoundFlows, venue: Venue) -> None:
    """Refuse a schema that fits no message of a capture's UDP flows, before all of them are reported malformed."""
    flows = [flow for flow in found.table() if flow.parser is Parser.SBE]
    if not flows:
        return
    first = min(row.conversation.first for row in found.flows if row.flow in flows)
    decoded = FullDecoder(venue, flows).decode(capture.sample(PROBE_PACKETS, first))
    has_entries = any(len(table) for table in decoded.tables.values() if table.layout.parent is not None)
    if has_entries or decoded.messages > len(decoded.problems) or not decoded.messages:
        return
    schema = venue.schema
    slot = schema.header.schema_id
    ids = [
        int.from_bytes(decoded.data[begin : begin + slot.size].tobytes(), schema.byte_order)
        for begin in (decoded.problems["offset"][decoded.problems["flags"] == Flag.TEMPLATE] + slot.offset).tolist()
    ]
    # A template of a newer version is passed over, unless the message's end follows from it.
    if schema.id in ids and venue.profile.framing.end is not End.STRUCTURE:
        return
    if foreign := [each for each in ids if each != schema.id]:
        reason = f"its messages have schema id {foreign[0]}, the schema {schema.path} has {schema.id}"
    else:
        reason = f"not one of its first messages can be read by {schema.path} with the profile {venue.profile.title}"
    raise CardError(f"{capture.path}: wrong schema: {reason}")


class Replay:
    """One run of captures through a card and the gateway.

    Parameters: ``captures`` that are played; ``url`` of the card; ``flows``, its flow table;
    ``venue`` of the SBE flows; ``limits`` of the gateway; ``journal``, a directory; ``feeds``, which is given all packets; ``chooser`` of
    what the gateway is given. The card is opened here, which for ``rtl:`` may compile it.
    """

    def __init__(
        self,
        captures: Captures,
        url: str,
        flows: list[Flow],
        venue: Venue | None,
        limits: Limits,
        journal: Path,
        feeds: FeedArbiter | None = None,
        chooser: Chooser | None = None,
    ) -> None:
        self._chooser = chooser
        self._captures = captures
        self._journal_directory = journal
        self._limits = limits
        self._feeds = feeds
        names = {} if venue is None else {each.id: each.name for each in venue.schema.messages}
        self._tally = Tally(flows, names)
        self._url = url
        self._card: Card = open_card(url, flows, venue)
        self.stop = False
        """Set it (from a signal handler, say) and the replay ends cleanly after the present slice."""

    def run(
        self,
        show: Callable[[Progress], None] = lambda progress: None,
        pace: Callable[[Iterator[Packets]], Iterator[Packets]] = lambda packets: packets,
    ) -> Result:
        """Play everything; ``show`` is called after each slice, ``pace`` says when packets are due. Raises what the journal, the gateway and the card raise."""
        nodes = [MatchingNode(number) for number in self._limits.nodes]
        packets = played_bytes = 0
        with self._card as card, Journal(self._journal_directory) as journal:
            gateway = Gateway(self._limits.risk(), self._limits.router(), journal, nodes)
            begin = time.perf_counter()
            interrupted = False
            batches = self._captures.batches()
            if self._chooser is not None:
                batches = self._chooser.selection.packets(batches)
            for part in pace(sliced(batches, SLICE_PACKETS)):
                if self.stop:
                    interrupted = True
                    break
                self._play(card, gateway, part)
                if self._feeds is not None:
                    self._feeds.add(part)
                packets += len(part)
                played_bytes += int(part.length.sum())
                done, total = self._captures.done_bytes, self._captures.total_bytes
                show(Progress(packets, played_bytes, self._tally.messages, done, total))
            seconds = time.perf_counter() - begin
            counters = card.counters()
            # What was left out cannot be told from what had no end.
            filtered = self._chooser is not None and self._chooser.leaves_out
            return Result(
                card=self._url,
                packets=packets,
                bytes=played_bytes,
                counters=counters,
                types=self._tally.by_type(),
                messages=self._tally.messages,
                gateway=gateway.summary,
                journal_bytes=gateway.summary.journal_bytes,
                reconciliation=gateway.reconcile(MatchingNode),
                unfinished_bytes=0 if filtered else counters["fix_bytes"] - self._tally.payload_bytes(Parser.FIX),
                cycles=getattr(card, "cycles", None),
                seconds=seconds,
                interrupted=interrupted,
                capture=self._captures.counts,
            )

    def _play(self, card: Card, gateway: Gateway, packets: Packets) -> None:
        done = 0
        while True:
            done = card.feed(packets, done)
            while len(frames := card.ring.poll()):
                chosen = frames if self._chooser is None else self._chooser.frames(frames)
                gateway.process(chosen, card.ring.payload)
                self._tally.add(chosen)
                card.ring.release(len(frames))
            if done == len(packets):
                return
