"""The cards and a model written from docs/sbe.md alone agree on random schemas, profiles and messages."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.frame import FRAME_DTYPE, Flag
from hdl.sbe_venue import Venue, load_venue
from host.capture.packets import Packets
from host.capture.write import udp_packet
from host.card import Card
from host.card.ring import Ring
from host.card.soft import SoftCard
from host.sbe.full_decode import FullDecoder
from sim.verilated import VerilatedCard
from tests.cards.fuzzing import plan
from tests.cards.sbe_messages import payload_lists
from tests.cards.sbe_model import Expected, Model
from tests.cards.sbe_schemas import DrawnVenue, draw_venue, toml_of, xml_of

SEEDS = (1, 2, 3, 4, 9, 11)
"""The schemas of the fixed slice; each costs the compilation of its decoder."""

RTL_SEEDS = (2,)
"""Those that are compiled as RTL too, a minute or two each."""

EXAMPLES = 60
"""Lists of payloads that each schema decodes."""

COMPARED = tuple(
    name for name in FRAME_DTYPE.names if name not in ("timestamp", "payload_offset", "generation", "flow")
)

CAUSES = Flag.GARBAGE | Flag.LENGTH | Flag.TOO_LONG | Flag.TRUNCATED | Flag.TEMPLATE
"""Flags of a message as a whole."""

CLIENT = Endpoint.parse("10.0.0.2:40000")
FEED = Endpoint.parse("224.0.31.64:14340")
FLOWS = (Flow(Protocol.UDP, FEED, Parser.SBE),)

FEATURES = (
    "nested group",
    "var data in a group",
    "exponent on the wire",
    "exponent in another field",
    "double price",
    "double quantity",
    "order view",
    "market data view",
    "by entry type",
    "translation",
    "newer version",
    "older version",
    "big endian schema",
    "little endian schema",
    "big endian framing",
    "length framing",
    "packet framing",
    "structure framing",
    "length in the header",
    *(
        flag.name
        for flag in (
            Flag.GARBAGE,
            Flag.LENGTH,
            Flag.RANGE,
            Flag.TOO_LONG,
            Flag.TRUNCATED,
            Flag.TEMPLATE,
            Flag.PRICE_ABSENT,
            Flag.QUANTITY_ABSENT,
        )
    ),
)
"""What the fixed slice must have had."""


def written(drawn: DrawnVenue, folder: Path) -> Venue:
    """The drawn schema and profile as files, read again as any venue's are."""
    path = folder / f"drawn{drawn.seed}.xml"
    path.write_text(xml_of(drawn.schema))
    path.with_suffix(".profile.toml").write_text(toml_of(drawn.profile))
    return load_venue(path)


def decoded(venue: Venue, payloads: list[bytes], card_of: Callable[..., Card] = SoftCard) -> Expected:
    """A card's frames of packets, each with its raw message."""
    packets = Packets.of([udp_packet(payload, CLIENT, FEED) for payload in payloads])
    ring, found, first = Ring.create(None, 1 << 10, 1 << 18), [], 0
    with card_of(FLOWS, venue, ring) as card:
        while True:
            following = card.feed(packets, first)
            frames = ring.poll()
            found += [(frame.copy(), bytes(ring.message(frame))) for frame in frames]
            ring.release(len(frames))
            if following == len(packets) and not len(frames):
                return found
            assert following > first or len(frames), f"the card does not go on with packet {first}"
            first = following


def difference(expected: Expected, found: Expected) -> str:
    """The first thing that differs, in words; empty where nothing does."""
    for number, ((frame, raw), (other, other_raw)) in enumerate(zip(expected, found, strict=False)):
        for name in COMPARED:
            if frame[name] != other[name]:
                return (
                    f"frame {number}: {name} is {other[name]}, expected {frame[name]}\n{shown(frame)}\n{shown(other)}"
                )
        if raw != other_raw:
            return f"frame {number}: raw message is {other_raw.hex()}, expected {raw.hex()}"
    if len(expected) != len(found):
        more = [shown(frame) for frame, _ in (*expected[len(found) :], *found[len(expected) :])][:3]
        return "\n".join([f"{len(found)} frames, expected {len(expected)}; those beyond:", *more])
    return ""


def shown(frame: np.void) -> str:
    """A frame's fields that are not 0; flags by name."""
    values = {name: int(frame[name]) for name in COMPARED if frame[name]}
    return f"    {values} {Flag(int(frame['flags']))!r}"


def causes_in_frames(frames: Expected) -> list[tuple[int, int, bytes]]:
    """What is wrong with messages: flags, template and bytes, from frames."""
    return [
        (int(frame["flags"] & CAUSES), int(frame["message_type"]), raw)
        for frame, raw in frames
        if frame["flags"] & CAUSES
    ]


def causes_in_tables(venue: Venue, payloads: list[bytes]) -> list[tuple[int, int, bytes]]:
    """The same from a full decode."""
    decoded = FullDecoder(venue, FLOWS).decode(Packets.of([udp_packet(payload, CLIENT, FEED) for payload in payloads]))
    return [
        (int(each["flags"]), int(each["template"]), decoded.data[each["offset"] :][: each["length"]].tobytes())
        for each in decoded.problems
    ]


def for_each_example(drawn: DrawnVenue, check: Callable[[list[bytes]], None]) -> None:
    """Give the fixed slice's payloads of a schema to ``check``, the same to every one."""

    @plan(EXAMPLES, fixed=True)
    @given(payload_lists(drawn))
    def example(payloads: list[bytes]) -> None:
        check(payloads)

    example()


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_soft_card_decodes_a_drawn_schema_as_the_page_says(seed, tmp_path):
    drawn = draw_venue(seed)
    venue = written(drawn, tmp_path)
    model = Model(drawn)
    compared = 0

    def check(payloads: list[bytes]) -> None:
        nonlocal compared
        expected = [each for payload in payloads for each in model.frames(payload)]
        if wrong := difference(expected, decoded(venue, payloads)):
            hexes = "\n".join(payload.hex() or "(empty)" for payload in payloads)
            pytest.fail(f"seed {seed}: {wrong}\npayloads:\n{hexes}\n{toml_of(drawn.profile)}\n{xml_of(drawn.schema)}")
        assert causes_in_tables(venue, payloads) == causes_in_frames(expected)
        compared += len(expected)

    for_each_example(drawn, check)
    assert compared > EXAMPLES


@pytest.mark.slow
@pytest.mark.parametrize("seed", RTL_SEEDS)
def test_the_rtl_card_gives_the_same_frames(seed, tmp_path):
    drawn = draw_venue(seed)
    venue = written(drawn, tmp_path)

    def check(payloads: list[bytes]) -> None:
        if wrong := difference(decoded(venue, payloads), decoded(venue, payloads, VerilatedCard)):
            hexes = "\n".join(payload.hex() or "(empty)" for payload in payloads)
            pytest.fail(f"seed {seed}: {wrong}\npayloads:\n{hexes}\n{toml_of(drawn.profile)}\n{xml_of(drawn.schema)}")

    for_each_example(drawn, check)


@pytest.mark.slow
def test_the_drawn_schemas_and_messages_have_every_feature():
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        drawn = draw_venue(seed)
        model = Model(drawn, seen)
        for_each_example(drawn, lambda payloads, model=model: [model.frames(payload) for payload in payloads])
        framing = drawn.profile.framing
        seen[f"{drawn.schema.byte_order} endian schema"] += 1
        seen[f"{framing.byte_order} endian framing"] += 1
        seen[f"{framing.end} framing"] += 1
        seen["length in the header"] += framing.length is not None and framing.prefix_size == 0
    assert not {name for name in FEATURES if not seen[name]}, f"not seen; the others: {seen}"
