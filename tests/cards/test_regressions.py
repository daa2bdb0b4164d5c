"""Bytes that once made the cards differ, or one of them hang: a file each in ``regressions/``.

A file has a ``comment``, the ``packets`` in hex, and where the failure needs them a ring's ``geometry`` and how many
``times`` the packets come.
"""

import json
from pathlib import Path

import pytest

from host.capture.packets import Packets
from tests.cards.comparison import GEOMETRIES, Geometry, reading_of_equal_cards

FILES = sorted((Path(__file__).parent / "regressions").glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_bytes_that_once_failed_give_the_same_frames_on_both_cards(file):
    case = json.loads(file.read_text())
    packets = Packets.of([bytes.fromhex(packet) for packet in case["packets"]] * case.get("times", 1))
    geometries = [Geometry(*case["geometry"])] if "geometry" in case else GEOMETRIES
    for geometry in geometries:
        reading_of_equal_cards(packets, geometry=geometry)
