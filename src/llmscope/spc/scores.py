"""Normal scores: each value as the z that a normal variable would have at the same quantile of the baseline.

This is what makes skew, heavy tails and spikes harmless to the detectors: a value ten times the centre counts
3.6 at most.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FURTHEST_Z = 3.6  # a score is at most this; one value in 6,300 lies beyond
STEP_Z = 0.025
GRID_Z = np.round(np.arange(-FURTHEST_Z, FURTHEST_Z + STEP_Z / 2, STEP_Z), 3)  # 289 quantiles
_GRID_P = np.array([0.5 * math.erfc(-z / math.sqrt(2.0)) for z in GRID_Z])
_WHOLE_GRID = (-FURTHEST_Z, *GRID_Z.tolist(), FURTHEST_Z)
SAME = 1e-9  # of the value: quantiles closer than rounding can tell are one
END_STEP = 0.01  # of the range learnt: so far beyond its ends the score still rises
SMALLEST_STEP = 1e-3  # of the value where all were equal: 0.1 % off counts as far out


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Quantiles of the baseline: `values` on the chart's scale, rising, and the score of each.

    Between two entries the score is interpolated, beyond the last it stays. Equal quantiles (rounded data)
    share the middle of their scores.

    >>> table = ScoreTable.fit(np.arange(1000.0))
    >>> round(table.score(499.5), 2), table.score(1e9)
    (0.0, 3.6)
    """

    values: tuple[float, ...]
    zs: tuple[float, ...]
    _slopes: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.zs == _WHOLE_GRID:  # as of most tables: one copy for all
            object.__setattr__(self, "zs", _WHOLE_GRID)
        slopes = [
            (self.zs[i + 1] - self.zs[i]) / (self.values[i + 1] - self.values[i])
            for i in range(len(self.values) - 1)
        ]
        object.__setattr__(self, "_slopes", (*slopes, 0.0))

    @classmethod
    def fit(cls, values: Floats) -> "ScoreTable":
        """The table of at least one value; quantiles as Hazen's, (i - 1/2) / n."""
        quantiles = np.quantile(values, _GRID_P, method="hazen")
        new = np.diff(quantiles, prepend=-np.inf) > SAME * np.maximum(1.0, np.abs(quantiles))
        first = np.flatnonzero(new)
        distinct = quantiles[first]
        stop = np.append(first[1:], len(quantiles))
        zs = (GRID_Z[first] + GRID_Z[stop - 1]) / 2.0
        spread = float(quantiles[-1] - quantiles[0])
        step = END_STEP * spread if spread > 0.0 else SMALLEST_STEP * max(1.0, abs(float(quantiles[0])))
        return cls(
            (float(distinct[0]) - step, *distinct.tolist(), float(distinct[-1]) + step),
            (-FURTHEST_Z, *zs.tolist(), FURTHEST_Z),
        )

    def score(self, value: float) -> float:
        i = bisect_right(self.values, value)
        if i == 0:
            return -FURTHEST_Z
        return self.zs[i - 1] + self._slopes[i - 1] * (value - self.values[i - 1])

    def scores(self, values: Floats) -> Floats:
        """Scores of many values, shape (n,)."""
        return np.interp(values, self.values, self.zs)

    def value(self, z: float) -> float:
        """The value whose score is z, on the chart's scale."""
        return float(np.interp(z, self.zs, self.values))

    def moved(self, by: float) -> "ScoreTable":
        """The same table about another centre."""
        return ScoreTable(tuple(v + by for v in self.values), self.zs)


def correlation(values: Floats, joined: npt.NDArray[np.bool_], lag: int = 1) -> float:
    """Autocorrelation of values at a lag, over pairs whose points are joined without a gap.

    `joined[i]` says that point i follows point i - 1.
    """
    centred = values - values.mean() if len(values) else values
    follows = joined[lag:].copy()
    for back in range(1, lag):
        follows &= joined[lag - back : len(joined) - back]
    pairs = int(np.count_nonzero(follows))
    variance = float(centred @ centred) / max(1, len(values))
    if pairs == 0 or variance == 0.0:
        return 0.0
    return float((centred[lag:] * centred[:-lag])[follows].sum()) / pairs / variance


def bucket_correlation(phi: float, points: int) -> float:
    """Lag-1 correlation of means of `points` values of an AR(1) with coefficient phi.

    >>> round(bucket_correlation(0.6, 15), 3), round(bucket_correlation(0.9, 15), 2)
    (0.071, 0.4)
    """
    if phi <= 0.0:
        return 0.0
    power = phi**points
    return phi * (1 - power) ** 2 / (points * (1 - phi * phi) - 2 * phi * (1 - power))


def median(values: Sequence[float]) -> float:
    """The median of a few values, without numpy's overhead."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])
