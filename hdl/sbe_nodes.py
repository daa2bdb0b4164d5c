"""What stands behind the blocks of a schema's messages, as numbered nodes: groups and var data, and which follows which."""

from dataclasses import dataclass

from hdl.sbe_schema import Block, Data, Dimension, Group, Slot
from hdl.sbe_venue import Venue


@dataclass(frozen=True)
class Place:
    """Where a walk goes on: at a node, or where an entry of the group ``node`` has ended; without a node, the message ends."""

    node: int | None = None
    entry_ends: bool = False


END = Place()
"""The message ends."""


@dataclass
class Node:
    """A group or var data: its dimension, or its length, is ``size`` bytes."""

    depth: int
    """How many groups it lies in."""
    since_version: int
    size: int
    slots: tuple[Slot, ...]
    """Of a group: block length and count; of var data its length."""
    block: int = 0
    """Of a group: the number of its entries' block plan."""
    inside: bool = False
    """Of a group: something may stand behind an entry's block."""
    first: Place = END
    """Of a group: what comes behind an entry's block."""
    following: Place = END
    """What comes behind it."""

    @property
    def is_group(self) -> bool:
        """Whether it has entries."""
        return len(self.slots) == 2


@dataclass(frozen=True)
class Nodes:
    """All nodes of a venue. ``first`` and ``root_block`` are by message: what comes behind its root block, and that block's plan."""

    nodes: tuple[Node, ...]
    first: tuple[Place, ...]
    root_block: tuple[int, ...]
    depth: int
    """Levels of blocks: 1 without groups."""


def nodes_of(venue: Venue) -> Nodes:
    """The nodes of all messages; block plans are numbered in the order of ``FramePlan.blocks``, message by message."""
    nodes: list[Node] = []
    first: list[Place] = []
    root_block: list[int] = []
    blocks = 0
    for plan in venue.plans:
        root_block.append(blocks)
        first_of_message, used = _add(nodes, plan.message, 0, END, blocks + 1)
        first.append(first_of_message)
        assert used == blocks + len(plan.blocks)
        blocks = used
    depth = 1 + max((node.depth + 1 for node in nodes if node.is_group), default=0)
    return Nodes(tuple(nodes), tuple(first), tuple(root_block), depth)


def _add(nodes: list[Node], block: Block, depth: int, behind: Place, blocks: int) -> tuple[Place, int]:
    """Append what stands behind a block, ``depth`` groups deep; returns where it begins, and the number of the next block plan."""
    parts: tuple[Group | Data, ...] = (*block.groups, *block.data)
    own: list[int] = []
    for part in parts:
        number = len(nodes)
        own.append(number)
        if isinstance(part, Group):
            dimension: Dimension = part.dimension
            node = Node(depth, part.since_version, dimension.size, (dimension.block_length, dimension.count), blocks)
            node.inside = part.is_followed
            nodes.append(node)
            node.first, blocks = _add(nodes, part, depth + 1, Place(number, entry_ends=True), blocks + 1)
        else:
            nodes.append(Node(depth, part.since_version, part.prefix, (part.length,)))
    for number, following in zip(own, [*map(Place, own[1:]), behind], strict=False):
        nodes[number].following = following
    return (Place(own[0]) if own else behind), blocks
