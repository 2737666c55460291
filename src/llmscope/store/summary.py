"""What is kept of many values of one metric: how many, their mean and spread exactly, their quantiles nearly.

Summaries merge: that of a day is made of those of its hours, without the values (decision 18).
"""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from datasketches import kll_floats_sketch

QUANTILES = (0.05, 0.5, 0.95)
ANSWER_K = 200  # of what is merged to be shown: adds 1.3 % in rank to what the parts are off


class Summary(msgspec.Struct, array_like=True, frozen=True):
    """Values of one metric in its own unit; `m2` is the sum of squared deviations from the mean.

    `sketch` is a serialised KLL sketch of float32. It is exact while it has seen at most its k values, and knows
    the least and the greatest value always.

    Source of the sketch: Z. Karnin, K. Lang, E. Liberty, Optimal quantile approximation in streams, FOCS 2016.
    """

    n: int
    mean: float
    m2: float
    sketch: bytes

    def merged(self, other: "Summary") -> "Summary":
        """Of both together; the sketch keeps the k of this one.

        >>> import numpy as np
        >>> one, two = (summary_of(np.array(values), 64) for values in ([1.0, 2.0], [6.0]))
        >>> both = one.merged(two)
        >>> both.n, both.mean, both.m2
        (3, 3.0, 14.0)
        """
        sketch = kll_floats_sketch.deserialize(self.sketch)
        sketch.merge(kll_floats_sketch.deserialize(other.sketch))
        return Summary(*_moments(self, other), sketch.serialize())


class Merger:
    """Summaries put together to be shown."""

    __slots__ = ("_is_own", "_sketch", "m2", "mean", "n")

    def __init__(self) -> None:
        self.n, self.mean, self.m2 = 0, 0.0, 0.0
        self._sketch: Any = None
        self._is_own = False  # whether the sketch may be merged into

    def add(self, summary: Summary) -> None:
        self._take(summary, kll_floats_sketch.deserialize(summary.sketch))

    def join(self, other: "Merger") -> None:
        if other.n:
            self._take(other, other._sketch)

    def _take(self, part: "Summary | Merger", sketch: Any) -> None:
        if self.n == 0:
            self._sketch = sketch  # as it is, until another one comes
            self.n, self.mean, self.m2 = part.n, part.mean, part.m2
            return
        if not self._is_own:
            mine, self._sketch, self._is_own = self._sketch, kll_floats_sketch(ANSWER_K), True
            self._sketch.merge(mine)
        self._sketch.merge(sketch)
        self.n, self.mean, self.m2 = _moments(self, part)

    def quantiles(self, ranks: Sequence[float] = QUANTILES) -> list[float]:
        found: list[float] = self._sketch.get_quantiles(ranks)
        return found

    @property
    def least(self) -> float:
        return float(self._sketch.get_min_value())

    @property
    def greatest(self) -> float:
        return float(self._sketch.get_max_value())

    @property
    def std(self) -> float | None:
        """The sample standard deviation; None of fewer than two values."""
        return math.sqrt(self.m2 / (self.n - 1)) if self.n > 1 else None


def _moments(a: Summary | Merger, b: Summary | Merger) -> tuple[int, float, float]:
    """Number, mean and squared deviations of two sets together.

    Source: T. Chan, G. Golub, R. LeVeque, Updating formulae and a pairwise algorithm, Stanford 1979.
    """
    n = a.n + b.n
    apart = b.mean - a.mean
    return n, a.mean + apart * b.n / n, a.m2 + b.m2 + apart * apart * a.n * b.n / n


def summary_of(values: npt.NDArray[np.float64], k: int) -> Summary:
    """Of at least one value, none of them nan."""
    mean = float(values.mean())
    return Summary(len(values), mean, float(np.square(values - mean).sum()), sketch_of(values, k))


def sketch_of(values: npt.NDArray[np.floating[Any]], k: int) -> bytes:
    sketch = kll_floats_sketch(k)
    sketch.update(values.astype(np.float32))
    found: bytes = sketch.serialize()
    return found
