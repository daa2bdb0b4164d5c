"""How a card is begun with: is it the right one, and what its registers are set to."""

from collections.abc import Callable, Iterator, Sequence

from hdl.flow import Feed, Flow
from hdl.register_map import ADDRESS, IDENTITY, ROW_STRIDE, VERSION, parsers_code
from hdl.sbe_venue import Venue, venue_code
from host.card import CardError
from host.card.ring import Ring


def check_card(url: str, read: Callable[[str], int], flows: Sequence[Flow], venue: Venue | None) -> None:
    """See that a card, whose registers are read by name, can take these flows. Raises CardError where it cannot."""
    if (identity := read("identity")) != IDENTITY:
        raise CardError(f"{url}: what is there answers {identity:#018x}, which is no Tickgate card")
    if (version := read("version")) != VERSION:
        raise CardError(f"{url}: the card's registers have version {version}, not {VERSION}: flash it anew")
    if len(flows) > (rows := read("flow_rows")):
        has = "1 row" if rows == 1 else f"{rows} rows"
        raise CardError(f"{url}: {len(flows)} flows are too many: the card's flow table has {has}")
    parsers = read("parsers")
    for flow in flows:
        if not parsers & parsers_code([flow.parser]):
            raise CardError(f"{url}: the card was built without a parser for {flow.parser.name} flows")
    used = max((flow.feed.channel + 1 for flow in flows if flow.feed is not None), default=0)
    if used > (channels := read("channels")):
        has = f"arbitrates {channels} channels, not {used}" if channels else "was built without a feed arbiter"
        raise CardError(f"{url}: the card {has}")
    if venue is not None and (code := read("venue")) != venue_code(venue):
        what = "another schema or profile" if code else "no SBE"
        raise CardError(f"{url}: the card decodes {what}: build and flash it for {venue.schema.path}")


def settings(ring: Ring, flows: Sequence[Flow], bases: tuple[int, int] | None = None) -> Iterator[tuple[int, int]]:
    """Addresses of registers and their values: where the rings are, and the flow table.

    ``bases`` are addresses of frames and payload, for a card that does not count from the beginning of the ring's file.
    """
    header = ring.header[0]
    frames, payload = bases or (int(header["frames_offset"]), int(header["payload_offset"]))
    yield ADDRESS["frames_base"], frames
    yield ADDRESS["frame_slots_log2"], int(header["frame_slots"]).bit_length() - 1
    yield ADDRESS["payload_base"], payload
    yield ADDRESS["payload_bytes_log2"], int(header["payload_bytes"]).bit_length() - 1
    for row, flow in enumerate(flows):
        at = ROW_STRIDE * row
        yield ADDRESS["flow_destination"] + at, flow.destination.address | flow.destination.port << 32
        yield ADDRESS["flow_source"] + at, flow.source.address | flow.source.port << 32
        # Last: it makes the row one that packets are compared with.
        yield ADDRESS["flow_control"] + at, flow.protocol | flow.parser << 8 | feed_bits(flow.feed) << 16


def feed_bits(feed: Feed | None) -> int:
    """What the flow table says of a flow's feed (hdl/register_map.py), from bit 16 on."""
    return 0 if feed is None else 1 | feed.side << 1 | feed.channel << 2
