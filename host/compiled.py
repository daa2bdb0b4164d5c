"""Where Numba keeps what it compiled of the host's loops.

Numba compiles a function anew when its own file changes, but not when a constant or a function that it took from another
file does: an old loop would go on with an old frame. So the cache's folder is named by a hash of all files that loops are
made of.
"""

import compileall
import os
import sys
from pathlib import Path

from hdl.sources import ROOT, closure, content_hash

CACHE_VARIABLE = "NUMBA_CACHE_DIR"


def loop_sources() -> list[Path]:
    """The files that use Numba, and what they import of the project."""
    return closure(path for path in (ROOT / "host").rglob("*.py") if "import njit" in path.read_text(encoding="utf-8"))


def cache_directory() -> Path:
    """The folder for the present sources: in ``build/``, or in the user's cache where the project can't be written."""
    base = ROOT / "build" if os.access(ROOT, os.W_OK) else Path.home() / ".cache" / "tickgate"
    return base / "numba" / content_hash(loop_sources())


def generated_directory() -> Path:
    """The folder for loops that are written by the project itself; a new one whenever what they call has changed."""
    return cache_directory() / "generated"


def choose_cache() -> None:
    """Have Numba use :func:`cache_directory`, unless the user has chosen one."""
    if CACHE_VARIABLE in os.environ:
        return
    directory = os.environ[CACHE_VARIABLE] = str(cache_directory())
    if (numba := sys.modules.get("numba")) is not None:
        numba.config.CACHE_DIR = directory


def compile_imports() -> None:
    """Have Python's own cache hold all that the project imports of itself, whatever the environment says of it."""
    for part in ("hdl", "host"):
        compileall.compile_dir(ROOT / part, quiet=2)
