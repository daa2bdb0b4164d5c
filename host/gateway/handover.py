"""Books on their way between nodes of two modules, which may be processes.

A "move" record is a batch of its own, which every module of nodes comes to in its turn. The one with the old node then writes the books
into a file and goes on; the one with the new node waits at that batch for the file. Whoever is killed meanwhile comes to the same batch
again, with the same books, so the file is written anew, or read again: it goes only once its reader has come to a later move.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from host.cluster.book_rows import ROW_DTYPE
from host.cluster.matching_node import MatchingNode
from host.gateway.state import carry_books
from host.journal import Batch

FILE_WAIT_S = 100e-6
"""Between two looks for the other module's file."""

SUFFIX = ".books"


class Handover:
    """One module's end of it.

    Parameters: ``directory``, which all modules share; ``modules``, each node's module, by any name that fits a file's.
    """

    def __init__(self, directory: Path, modules: Mapping[int, str]) -> None:
        self._directory = directory
        self._modules = modules

    def carry(self, nodes: Mapping[int, MatchingNode], batch: Batch, stop: Callable[[], bool]) -> bool:
        """Does what a "move" record says for those of its nodes that are among ``nodes``; False, and nothing done, where ``stop`` ended
        the wait for the other module."""
        control = batch.control
        if control is None or control["type"] != "move":
            return True
        source, target = (nodes.get(control[end]) for end in ("from", "to"))
        if source is not None and target is not None:
            carry_books(nodes, control)
            return True
        path = self._directory / f"{self._modules[control['to']]}-{batch.number:020d}{SUFFIX}"
        if source is not None:
            books = [source.take_book(instrument) for instrument in control["instruments"]]
            new = path.with_suffix(".new")
            np.concatenate([np.zeros(0, ROW_DTYPE), *books]).tofile(new)
            new.rename(path)
        if target is not None:
            self._remove(path)
            while not path.exists():
                if stop():
                    return False
                time.sleep(FILE_WAIT_S)
            rows = np.fromfile(path, ROW_DTYPE)
            for instrument in control["instruments"]:
                target.give_book(instrument, rows[rows["instrument"] == instrument])
        return True

    def _remove(self, before: Path) -> None:
        """Removes what earlier moves to the same module have left."""
        prefix = before.name.rpartition("-")[0]
        for path in self._directory.glob(f"{prefix}-{'[0-9]' * 20}{SUFFIX}"):
            if path.name < before.name:
                path.unlink(missing_ok=True)
