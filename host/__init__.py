"""The host: from the card's rings to the nodes.

    from host import replay

    for batch in replay("day.pcap.zst", schema="venue.xml"):
        batch.frames, batch.table("MDIncrementalRefreshBook46"), batch.packets

is :func:`host.playback.batches.replay`, which is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from host.compiled import choose_cache

if TYPE_CHECKING:
    from host.playback.batches import replay

__all__ = ["replay"]

# Before any module of the host imports Numba.
choose_cache()


def __getattr__(name: str) -> object:
    if name == "replay":
        from host.playback.batches import replay

        return replay
    raise AttributeError(f"module 'host' has no attribute '{name}'")
