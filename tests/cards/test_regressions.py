"""Bytes that once made the cards differ, or one of them hang: a file each in ``regressions/``, most of them written by
``make fuzz``.

A file has a ``comment``, the ``packets`` in hex, and where the failure needs them a ring's ``geometry``, ``flows`` and
``schema`` other than those of the other tests, and how many ``times`` the packets come.
"""

import json
from pathlib import Path

import pytest

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.sources import ROOT
from host.capture.packets import Packets
from tests.cards.comparison import DEMO_SCHEMA, FLOWS, GEOMETRIES, Geometry, reading_of_equal_cards

FILES = sorted((Path(__file__).parent / "regressions").glob("*.json"))


def flow_of(protocol: str, destination: str, parser: str, source: str) -> Flow:
    """A row of the flow table as a file has it."""
    return Flow(Protocol[protocol], Endpoint.parse(destination), Parser[parser], Endpoint.parse(source))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_bytes_that_once_failed_give_the_same_frames_on_both_cards(file):
    case = json.loads(file.read_text())
    packets = Packets.of([bytes.fromhex(packet) for packet in case["packets"]] * case.get("times", 1))
    flows = [flow_of(*row) for row in case["flows"]] if "flows" in case else FLOWS
    schema = ROOT / case["schema"] if "schema" in case else DEMO_SCHEMA
    if not schema.exists():
        pytest.skip(f"no {schema}")
    geometries = [Geometry(*case["geometry"])] if "geometry" in case else GEOMETRIES
    for geometry in geometries:
        reading_of_equal_cards(packets, flows, schema, geometry)
