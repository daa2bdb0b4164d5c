"""How long hypothesis looks for differences.

``TICKGATE_FUZZ=50 make test ARGS=tests/cards`` takes 50 times as many examples, other ones in every run; without it the
examples are few and always the same.
"""

import os

from hypothesis import HealthCheck, Phase, settings

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
