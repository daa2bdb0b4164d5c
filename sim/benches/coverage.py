"""Functional coverage: named bins that a bench must have reached, in groups."""

import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import NamedTuple

FILE = "coverage.json"
"""Where a bench leaves its groups, in the folder that it runs in."""


class Group(NamedTuple):
    """How many of a group's bins were hit."""

    name: str
    bins: int
    hit: int


class Coverage:
    """Groups of bins. A bin is any tuple; what is no bin of its group is not counted."""

    def __init__(self) -> None:
        self._hits: dict[str, dict[Hashable, int]] = {}

    def group(self, name: str, bins: Iterable[Hashable]) -> None:
        """Name a group's bins."""
        self._hits[name] = dict.fromkeys(bins, 0)

    def hit(self, name: str, *bin_: Hashable) -> None:
        """Something happened."""
        hits = self._hits[name]
        if bin_ in hits:
            hits[bin_] += 1

    def missed(self) -> list[str]:
        """The bins that were not hit, in words."""
        return [
            f"{name}: {', '.join(map(str, bin_))}"
            for name, hits in self._hits.items()
            for bin_, count in hits.items()
            if not count
        ]

    def groups(self) -> list[Group]:
        """The groups that have bins, in their order."""
        return [Group(name, len(hits), sum(map(bool, hits.values()))) for name, hits in self._hits.items() if hits]

    def write(self, path: Path) -> None:
        """Leave the groups in a file."""
        path.write_text(json.dumps(self.groups()))


def read(path: Path) -> tuple[Group, ...]:
    """The groups of a file; none where it is not there."""
    return tuple(Group(*row) for row in json.loads(path.read_text())) if path.exists() else ()
