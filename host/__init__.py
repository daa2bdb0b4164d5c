"""The host: from the card's rings to the nodes."""

from host.compiled import choose_cache

# Before any module of the host imports Numba.
choose_cache()
