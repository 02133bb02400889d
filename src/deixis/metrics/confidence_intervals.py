"""Confidence intervals of scores: percentiles over resampled splits (Efron's bootstrap)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from deixis.errors import BenchmarkError

_DRAWS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Interval:
    """The range that holds a score in a share ``level`` of the resampled splits."""

    low: float
    high: float
    level: float = 0.95


def confidence_interval(
    numerators: Float[ndarray, " examples"],
    denominators: Float[ndarray, " examples"] | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Return the percentile interval of ``sum(numerators) / sum(denominators)``.

    Without denominators the statistic is the mean of the numerators. A resampled split whose
    denominators sum to zero counts as 1.0, as in ``cumulative_iou``. Equal arguments give equal
    intervals.

    Raises:
        BenchmarkError: There are no examples, a value is not finite, or ``level`` or
            ``resamples`` is out of range.
    """
    weights = np.ones_like(numerators) if denominators is None else denominators
    if numerators.size == 0:
        raise BenchmarkError("no examples")
    if not (np.isfinite(numerators).all() and np.isfinite(weights).all()):
        raise BenchmarkError("a confidence interval needs finite values")
    if not 0.0 < level < 1.0 or resamples < 1:
        raise BenchmarkError(
            f"a confidence interval needs 0 < level < 1 and resamples >= 1, got {level}, {resamples}"
        )
    generator = np.random.default_rng(seed)
    size = numerators.size
    rows = max(1, _DRAWS_AT_ONCE // size)
    statistics: list[Float[ndarray, " rows"]] = []
    for start in range(0, resamples, rows):
        drawn = generator.integers(size, size=(min(rows, resamples - start), size))
        above, below = numerators[drawn].sum(axis=1), weights[drawn].sum(axis=1)
        statistics.append(np.divide(above, below, out=np.ones_like(above), where=below > 0))
    tail = (1.0 - level) / 2
    low, high = np.quantile(np.concatenate(statistics), [tail, 1.0 - tail])
    return Interval(float(low), float(high), level)
