"""Compiled decoders of the soft card: the source of each is kept beside Numba's cache, and compiled once."""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

from hdl.sbe_venue import Venue
from host.card.sbe_source import decoder_source
from host.compiled import CACHE_VARIABLE, generated_directory


def is_compiled(venue: Venue) -> bool:
    """Whether :func:`decoder` has nothing to compile."""
    name = _name(decoder_source(venue))
    return any(Path(os.environ[CACHE_VARIABLE]).rglob(f"{name}.feed_packets-*.nbi"))


def decoder(venue: Venue) -> Callable[..., int]:
    """``feed_packets`` for a venue; see :func:`host.card.soft_feed.feed_packets`."""
    source = decoder_source(venue)
    name = _name(source)
    if name not in sys.modules:
        path = generated_directory() / f"{name}.py"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Another process may write the same: whoever is last replaces equal by equal.
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_text(source, encoding="utf-8")
            os.replace(temporary, path)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    found: Callable[..., int] = sys.modules[name].feed_packets
    return found


def _name(source: str) -> str:
    return f"sbe_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
