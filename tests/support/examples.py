"""Hypothesis, with the same examples in each run."""

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy


def for_all(examples: int, check: Callable[..., None], *strategies: SearchStrategy) -> None:
    """Call check() with so many examples of the strategies; fail with the smallest that fails."""
    chosen = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,  # no assertion on times
        suppress_health_check=list(HealthCheck),
    )
    chosen(given(*strategies)(check))()
