"""Compiles the host's loops ahead of a replay, so that its rate and time left are those of the replay."""

import os
import tempfile
from pathlib import Path

from hdl.sbe_venue import load_venue
from host.card import open_card
from host.cluster.matching_node import MatchingNode
from host.compiled import CACHE_VARIABLE
from host.demo import DEMO_LIMITS
from host.gateway.pipeline import Gateway
from host.generate import SCHEMA, generate
from host.journal import Journal
from host.playback.tally import Tally

WARM_ORDERS = 50


def is_warm() -> bool:
    """Whether Numba's cache has the count of frames, which :func:`warm` compiles late."""
    return any(Path(os.environ[CACHE_VARIABLE]).rglob("tally.count_frames-*.nbi"))


def warm() -> None:
    """Send a few orders the whole way; about half a minute the first time, then next to nothing."""
    made = generate(WARM_ORDERS)
    tally = Tally(list(made.flows), {})
    with open_card("soft:", made.flows, load_venue(SCHEMA)) as card, tempfile.TemporaryDirectory() as folder:
        with Journal(Path(folder)) as journal:
            nodes = [MatchingNode(number) for number in DEMO_LIMITS.nodes]
            gateway = Gateway(DEMO_LIMITS.risk(), DEMO_LIMITS.router(), journal, nodes)
            card.feed(made.packets)
            frames = card.ring.poll()
            gateway.process(frames, card.ring.payload)
            tally.add(frames)
            card.ring.release(len(frames))
            gateway.reconcile(MatchingNode)
