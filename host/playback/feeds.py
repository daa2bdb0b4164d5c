"""A and B feeds of a replay: which there are, and the table of what each was worth (docs/feeds.md)."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from hdl.flow import Endpoint, Feed, Flow, Protocol, Side
from hdl.sbe_framing import FramingError, arbitrated_slot
from hdl.sbe_venue import Venue
from host.capture.packets import Packets
from host.market_data.arbitration import (
    ChannelReport,
    FeedArbiter,
    FeedError,
    FeedPair,
    check_feeds,
    find_feeds,
    parse_feed,
)

SAMPLE_PACKETS = 16384
"""Packets of a capture in which feeds of the same channel are to be looked for."""

SHOWN_GAPS = 20
"""Gaps of a channel that the table lists."""


def feeds_of(
    texts: Sequence[str], flows: Sequence[Flow], samples: Iterable[Packets], venue: Venue | None
) -> list[FeedPair]:
    """The channels of a replay: those that ``texts`` describe, or without any those that are found in ``samples``, the first
    SAMPLE_PACKETS of each capture. ``flows`` is the flow table. Raises :class:`FeedError`."""
    pairs = [parse_feed(text) for text in texts]
    groups = [flow.destination for flow in flows if flow.protocol is Protocol.UDP]
    if venue is None:
        if pairs:
            raise FeedError("--feed needs a --schema: its profile says where a packet's sequence number stands")
        return []
    if pairs:
        check_feeds(pairs, groups)
        return pairs
    if venue.profile.framing.packet_sequence is None:
        return []
    return _found(groups, samples, venue)


def arbitrable(
    texts: Sequence[str], flows: Sequence[Flow], samples: Iterable[Packets], venue: Venue | None
) -> list[FeedPair]:
    """The channels that a card arbitrates: those of :func:`feeds_of`, but none that are merely found where cards cannot. Raises
    :class:`FeedError`, and FramingError where ``texts`` describe such ones."""
    if venue is not None:
        try:
            arbitrated_slot(venue.profile.framing)
        except FramingError:
            if texts:
                raise
            return []
    return feeds_of(texts, flows, samples, venue)


def with_feeds(flows: Sequence[Flow], pairs: Sequence[FeedPair]) -> list[Flow]:
    """The flow table of a card that arbitrates these channels."""
    feeds = {
        group: Feed(channel, side) for channel, pair in enumerate(pairs) for side, group in zip(Side, pair, strict=True)
    }
    return [
        flow._replace(feed=feeds.get(flow.destination)) if flow.protocol is Protocol.UDP else flow for flow in flows
    ]


def channels_of(flows: Sequence[Flow]) -> list[int]:
    """By flow, the number of the flow after which its channel is called: feed A's of those that are arbitrated, else its own."""
    first = {
        flow.feed.channel: number
        for number, flow in enumerate(flows)
        if flow.feed is not None and flow.feed.side is Side.A
    }
    return [number if flow.feed is None else first[flow.feed.channel] for number, flow in enumerate(flows)]


def _found(groups: Sequence[Endpoint], samples: Iterable[Packets], venue: Venue) -> list[FeedPair]:
    found: list[FeedPair] = []
    for packets in samples if len(groups) > 1 else []:
        for pair in find_feeds(packets, groups, venue.profile.framing):
            if not any(set(pair) & set(other) for other in found):
                found.append(pair)
    return found


def arbiter_of(
    texts: Sequence[str], flows: Sequence[Flow], samples: Iterable[Packets], venue: Venue | None
) -> FeedArbiter | None:
    """An arbiter of :func:`feeds_of`; None where there are no two feeds of a channel."""
    pairs = feeds_of(texts, flows, samples, venue)
    return FeedArbiter(pairs, venue.profile.framing) if pairs and venue is not None else None


def feeds_table(channels: Sequence[ChannelReport]) -> Table:
    """What became of each channel, for people."""
    table = Table(title="\nFeeds", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("channel", width=44, overflow="fold")
    for column in ("A", "B", "all"):
        table.add_column(column, justify="right", min_width=10)
    for channel in channels:
        a, b = channel.sides
        numbers = "no packets" if channel.first is None else f"{channel.first} to {channel.last}"
        table.add_row(str(channel.feeds.a), "", "", "", style="bold")
        table.add_row(str(channel.feeds.b), "", "", "", style="bold")
        table.add_row(f"  packets ({numbers})", _count(a.packets), _count(b.packets), _count(channel.passed))
        table.add_row("  first", _share(a.won, b.won), _share(b.won, a.won), "")
        table.add_row("  by ns, median", _lead(a.lead_median), _lead(b.lead_median), "")
        table.add_row("  by ns, 99 %", _lead(a.lead_99), _lead(b.lead_99), "")
        table.add_row("  duplicates", "", "", _count(channel.duplicates))
        for name, values in {
            "left to the other feed, which was behind": (a.early, b.early),
            "of before the channel began anew": (a.old, b.old),
            "too short for a sequence number": (a.unnumbered, b.unnumbered),
        }.items():
            if any(values):
                table.add_row(f"  {name}", *map(_count, values), "")
        for name, value in {
            "copies with another payload": channel.differing,
            "that one feed skipped and the other brought": channel.recovered,
            "missing": channel.missing,
            "of those, came too late": channel.late,
            "began anew": channel.resets,
        }.items():
            if value or name == "missing":
                table.add_row(f"  {name}", "", "", _count(value))
        for gap in channel.gap_list[:SHOWN_GAPS].tolist():
            _, first, count, _ = gap
            table.add_row(f"  gap: {first} to {first + count - 1}", "", "", _count(count))
        if channel.gaps > SHOWN_GAPS:
            table.add_row(f"  and {channel.gaps - SHOWN_GAPS:,} more gaps", "", "", "")
    return table


def feeds_json(channels: Sequence[ChannelReport]) -> list[dict[str, object]]:
    """The same as plain values under names."""
    return [
        {
            **{name: value for name, value in vars(channel).items() if name not in ("feeds", "sides", "gap_list")},
            "feeds": {
                side.name: {"group": str(group), **vars(row)}
                for side, group, row in zip(Side, channel.feeds, channel.sides, strict=True)
            },
            "gap_list": [{"first": first, "count": count} for _, first, count, _ in channel.gap_list.tolist()],
        }
        for channel in channels
    ]


def _count(value: int) -> str:
    return f"{value:,}"


def _share(won: int, others: int) -> str:
    return f"{won / (won + others):.1%}" if won + others else "-"


def _lead(nanoseconds: int | None) -> str:
    return "-" if nanoseconds is None else f"{nanoseconds:,}"
