"""What is sent malformed makes exactly one malformed frame each, and takes no neighbour with it."""

from collections import Counter
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.frame import Kind
from hdl.sbe_venue import load_venue
from host.capture.packets import Packets
from host.capture.write import tcp_packet
from host.card import open_card
from host.generate import SCHEMA, generate
from host.generate.faults import FAULTS, encode

CLIENT, GATEWAY = Endpoint.parse("10.0.0.1:40000"), Endpoint.parse("10.0.1.2:9880")
FIELDS = b"35=D 49=A 56=B 34=7 52=20250617-13:30:00.000 11=C1-000001 55=ACORN 54=1 38=100 40=2 44=42.51".split()
GOOD = encode(FIELDS)


def frames_of(packets, flows, schema=None):
    return reading_of(packets, flows, schema)[0]


def reading_of(packets, flows, schema):
    """The frames and the counters."""
    with open_card("soft:", flows, schema and load_venue(schema), frame_slots=1 << 17, payload_bytes=1 << 26) as card:
        assert card.feed(packets) == len(packets)
        return card.ring.poll(1 << 17).copy(), card.counters()


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_makes_one_malformed_frame_between_two_whole_messages(name):
    random = Random(name)
    faults = [FAULTS[name](random, FIELDS) for _ in range(500)]
    stream = b"".join(GOOD + fault for fault in faults) + GOOD
    cuts = [*range(0, len(stream), 1400), len(stream)]
    segments = [tcp_packet(stream[a:b], CLIENT, GATEWAY, sequence=a) for a, b in pairwise(cuts)]
    frames = frames_of(Packets.of(segments), [Flow(Protocol.TCP, GATEWAY, Parser.FIX)])
    assert frames["kind"].tolist() == [Kind.NEW_ORDER, Kind.MALFORMED] * 500 + [Kind.NEW_ORDER]
    assert frames["payload_length"].tolist() == [n for fault in faults for n in (len(GOOD), len(fault))] + [len(GOOD)]


@pytest.mark.parametrize(("seed", "malformed"), [(1, 0.01), (2, 0.5), (3, 1.0)])
def test_the_frames_of_generated_traffic_are_those_that_were_sent(seed, malformed):
    generated = generate(5000, seed, malformed=malformed, feeds=2)
    sent = generated.sent
    frames, counters = reading_of(generated.packets, generated.flows, SCHEMA)
    assert {name: counters[name] for name in ("repeated", "empty", "gaps")} == {
        "repeated": sent.packets["repeated"],
        "empty": sent.packets["empty"],
        "gaps": 0,
    }
    assert sent.packets["repeated"] > 10
    sbe = np.array([flow.parser == Parser.SBE for flow in generated.flows])[frames["flow"]]
    bad = frames["kind"] == Kind.MALFORMED
    assert not bad[sbe].any()
    assert bad.sum() == sent.malformed.total()
    types = Counter(
        int(kind).to_bytes(2, "little").rstrip(b"\0").decode() for kind in frames["message_type"][~sbe & ~bad]
    )
    assert types == sent.fix
    assert len(frames) == sent.fix_frames + sent.sbe_frames
