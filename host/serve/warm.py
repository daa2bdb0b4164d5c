"""Has Numba's cache filled, and all of the gateway's loops loaded from it, before processes are forked."""

import tempfile
from pathlib import Path

from host.card.ring import Ring
from host.cluster.matching_node import MatchingNode
from host.demo import DEMO_LIMITS
from host.gateway.batch_ring import BatchRing
from host.gateway.session_ring import create_session_rings
from host.gateway.stages import JournalStage, NodeStage, RiskStage, recover_nodes, recover_risk, ring_base
from host.generate.load import Load, make_lap
from host.journal import Journal

WARM_ORDERS = 100
SEGMENT_BYTES = 1 << 20


def warm_stages() -> None:
    """Sends a few orders through all stages and takes them back from the journal: about a minute the first time, then
    half a second."""
    lap = make_lap(WARM_ORDERS)
    with tempfile.TemporaryDirectory(prefix="tickgate-warm-") as folder:
        directory = Path(folder)
        with Journal(directory, segment_bytes=SEGMENT_BYTES) as journal:
            ring = Ring.create(None, 1 << 10, 1 << 18)
            batches = BatchRing.create(None, base=ring_base(journal), slots=2, slot_frames=64)
            sessions = create_session_rings(None, slots=1 << 10)
            risk = DEMO_LIMITS.risk()
            risk.route(DEMO_LIMITS.router())
            nodes = [MatchingNode(number) for number in DEMO_LIMITS.nodes]
            stages = (
                RiskStage(risk, ring, batches),
                JournalStage(journal, batches),
                NodeStage(nodes, batches, sessions),
            )
            load = Load(lap, ring)
            load.pace(None, 0)
            while True:
                load.run(len(lap), 1_000_000)
                moved = [stage.step(1000) for stage in stages]
                if load.number == len(lap) and not any(moved):
                    break
            for number in range(len(sessions)):
                sessions[number].release(len(sessions[number].poll()))
        again = DEMO_LIMITS.risk()
        recover_risk(again, directory, batches)
        recover_nodes([MatchingNode(number) for number in DEMO_LIMITS.nodes], directory, batches.ring.base + 1)
