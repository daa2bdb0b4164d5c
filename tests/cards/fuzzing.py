"""Properties that a fixed slice of examples tries in ``make test`` and others, for as long as one likes, in ``make fuzz``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st


class Kind(NamedTuple):
    """A kind of input, and what is said of it.

    Attributes:
        name: what is generated.
        check: fails where the property does not hold for what the strategies drew.
        strategies: for the check's arguments.
        schema: of the cards that it opens; None: the demo's.
    """

    name: str
    check: Callable[..., None]
    strategies: tuple[st.SearchStrategy, ...]
    schema: Path | None = None


KINDS: list[Kind] = []
"""All kinds of the test modules that were imported."""


def plan(count: int, fixed: bool) -> settings:
    """Settings for ``count`` examples: ``fixed`` ones, or others in every run."""
    return settings(
        max_examples=count,
        derandomize=fixed,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )


def fuzzed(
    name: str, count: int, *strategies: st.SearchStrategy, schema: Path | None = None
) -> Callable[[Callable[..., None]], Any]:
    """Make of a property a kind of ``make fuzz``, and a test of ``count`` examples, always the same."""

    def decorate(check: Callable[..., None]) -> Any:
        KINDS.append(Kind(name, check, strategies, schema))
        return plan(count, fixed=True)(given(*strategies)(check))

    return decorate


def weighted(*choices: tuple[int, st.SearchStrategy]) -> st.SearchStrategy:
    """One of several strategies, each as often as its weight says (``st.one_of`` weighs all alike)."""
    strategies = [strategy for _, strategy in choices]
    return st.sampled_from([n for n, (weight, _) in enumerate(choices) for _ in range(weight)]).flatmap(
        strategies.__getitem__
    )


def mostly(usual: object, seldom: st.SearchStrategy, times: int = 9) -> st.SearchStrategy:
    """``usual`` that many ``times`` as often as what ``seldom`` gives."""
    return weighted((times, st.just(usual)), (1, seldom))
