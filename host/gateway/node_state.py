"""The states of a node, and what leads from one to another."""

import enum
from collections.abc import Mapping


class NodeState(enum.Enum):
    """What a node may be given. Only an ACTIVE one has a weight."""

    JOINING = "joining"
    """Made from the journal, and watched until it has answered often enough."""

    ACTIVE = "active"
    """Serves its share of the instruments."""

    DRAINING = "draining"
    """Serves the instruments that it still has, while they are moved away."""

    DRAINED = "drained"
    """Has no instrument left and may be stopped."""

    DEAD = "dead"
    """Gets nothing, whatever it answers: its books are given to others, and it may have missed orders. It comes back
    as a node that is made anew from the journal and joins."""


NEXT_STATES: Mapping[NodeState, frozenset[NodeState]] = {
    NodeState.JOINING: frozenset({NodeState.ACTIVE, NodeState.DRAINED, NodeState.DEAD}),
    NodeState.ACTIVE: frozenset({NodeState.DRAINING, NodeState.DEAD}),
    NodeState.DRAINING: frozenset({NodeState.ACTIVE, NodeState.DRAINED, NodeState.DEAD}),
    NodeState.DRAINED: frozenset({NodeState.JOINING, NodeState.DEAD}),
    NodeState.DEAD: frozenset({NodeState.JOINING}),
}
"""Where a node may go from each state."""

SERVING = frozenset({NodeState.ACTIVE, NodeState.DRAINING})
"""The states in which a node applies orders."""
