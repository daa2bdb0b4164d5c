"""How long hypothesis looks for differences, and how it weighs what it tries.

``TICKGATE_FUZZ=50 make test ARGS=tests/cards`` takes 50 times as many examples, other ones in every run; without it the
examples are few and always the same.
"""

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

FUZZ = int(os.environ.get("TICKGATE_FUZZ", "0"))


def examples(count: int) -> settings:
    """Settings for ``count`` examples in an ordinary run."""
    return settings(
        max_examples=count * max(FUZZ, 1),
        derandomize=not FUZZ,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


def weighted(*choices: tuple[int, st.SearchStrategy]) -> st.SearchStrategy:
    """One of several strategies, each as often as its weight says (``st.one_of`` weighs all alike)."""
    strategies = [strategy for _, strategy in choices]
    return st.sampled_from([n for n, (weight, _) in enumerate(choices) for _ in range(weight)]).flatmap(
        strategies.__getitem__
    )


def mostly(usual: object, seldom: st.SearchStrategy, times: int = 9) -> st.SearchStrategy:
    """``usual`` that many ``times`` as often as what ``seldom`` gives."""
    return weighted((times, st.just(usual)), (1, seldom))
