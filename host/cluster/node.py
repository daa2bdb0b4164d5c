"""What a node is to the gateway: the same for one in this process and for one behind a stream."""

from typing import Protocol

import numpy as np

from host.journal.batch import Batch

NO_NODE = 255
"""The node number of an order that no node gets."""


class Node(Protocol):
    """Applies the orders that were routed to it, in journal sequence, each once."""

    @property
    def number(self) -> int:
        """This node's number, 0 to 254."""
        ...

    @property
    def applied(self) -> int:
        """How many orders it has applied."""
        ...

    @property
    def trades(self) -> int:
        """How many trades it has made; each gives two fill reports."""
        ...

    def apply(self, batch: Batch) -> np.ndarray:
        """Applies those orders of a committed batch that are accepted and routed to this node.

        Orders with a sequence that was applied before are passed over. A batch with ``control`` has no orders; a node does
        what the record says of nodes, if anything. Returns reports (``REPORT_DTYPE``), a view that holds until the next
        call.
        """
        ...

    def state_hash(self) -> str:
        """A hash of everything that later orders depend on: equal inputs give equal hashes."""
        ...
