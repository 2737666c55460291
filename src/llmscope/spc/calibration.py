"""Decision lines that keep a false-alarm budget, from the theory of average run lengths.

Thresholds from theory beat thresholds learnt from data: a tail cannot be learnt from one day.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from llmscope.spc.arl import cusum_arl, cusum_h, cusum_siegmund_arl, poisson_cusum_arl
from llmscope.spc.buckets import FEWEST_SPREAD
from llmscope.spc.detectors import FULLY_LEARNT

DAY_US = 86_400_000_000
SLOW_K, FAST_K = 0.5, 1.5  # half the shifts, in sigma of a bucket, that the two CUSUMs of a level are best at
# Of the budget; they add up to more than one, for alarms that overlap are told as one (bench/false_alarms.py).
SHARES = {"slow": 0.40, "fast": 0.26, "spread": 0.23, "spike": 0.23}
LONGEST_ARL = 1e9


@dataclass(frozen=True, slots=True)
class Budget:
    """False alarms accepted, per series and day; None for no detectors at all.

    >>> Budget.parse("1/week").alarms_per_day
    0.14285714285714285
    """

    alarms_per_day: float | None = 1.0 / 7.0

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """ "1/day", "1/week", "2/month" or "none"; raises ValueError."""
        if text.strip().lower() == "none":
            return cls(None)
        count, _, period = text.partition("/")
        days = {"day": 1.0, "week": 7.0, "month": 30.0}.get(period.strip().lower())
        try:
            times = float(count)
        except ValueError:
            times = 0.0
        if days is None or not 0.0 < times <= 1000.0:
            raise ValueError(f"'{text}' is not a budget such as 1/day, 1/week, 1/month or none")
        return cls(times / days)

    def per_bucket(self, width_us: int) -> float:
        """False alarms a bucket; 0 without detectors."""
        return 0.0 if self.alarms_per_day is None else self.alarms_per_day * width_us / DAY_US


@dataclass(frozen=True, slots=True)
class Lines:
    """Decision lines h of the CUSUMs; None where a detector is off."""

    slow: float | None
    fast: float | None
    spread: float | None
    spike: float | None


@lru_cache(maxsize=256)
def level_line(k: float, rate: float, n: int = FULLY_LEARNT) -> float:
    """h of a one-sided CUSUM with `rate` false alarms a bucket, on average over what n buckets left unknown.

    The mean of the scores is known to N(0, 1/n), their sd to N(0, 1/2n) of itself. How much that raises the rate
    is reckoned with Siegmund's formula, the rate itself with the exact average run length.
    """
    wanted = min(1.0 / rate, LONGEST_ARL)
    h = cusum_h(k, wanted)
    for _ in range(4):
        h = cusum_h(k, min(wanted * _inflation(k, h, n), LONGEST_ARL))
    return h


def _inflation(k: float, h: float, n: int) -> float:
    """Mean false-alarm rate over the uncertainty of mean and sd, over the rate without any."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    weights = weights / weights.sum()
    total = 0.0
    for a, wa in zip(nodes.tolist(), weights.tolist(), strict=True):
        for b, wb in zip(nodes.tolist(), weights.tolist(), strict=True):
            delta, tau = a / math.sqrt(n), b / math.sqrt(2.0 * n)
            total += wa * wb / cusum_siegmund_arl(k / (1.0 + tau) - delta, h / (1.0 + tau))
    return total * cusum_siegmund_arl(k, h)


@lru_cache(maxsize=1024)
def count_line(mean: float, factor: float, rate: float) -> float:
    """Decision line of the log likelihood ratio for Poisson counts, with `rate` false alarms a bucket."""
    per_event = math.log(factor)
    k = (factor - 1.0) * mean / per_event
    wanted = min(1.0 / rate, LONGEST_ARL)
    low, high = 0.0, 4.0
    while poisson_cusum_arl(mean, k, high) < wanted and high < 100.0:
        low, high = high, 1.5 * high
    for _ in range(24):
        middle = 0.5 * (low + high)
        if poisson_cusum_arl(mean, k, middle) < wanted:
            low = middle
        else:
            high = middle
    return high * per_event


def spike_factor(spike_rate: float) -> float:
    """How many times more spikes the SPIKE detector is best at: 4, or 2.5 where they are not rare."""
    return 4.0 if spike_rate <= 0.01 else 2.5


def lines(budget: Budget, width_us: int, points: int, spike_rate: float) -> Lines:
    """The decision lines of a chart with that budget and cadence."""
    rate = budget.per_bucket(width_us)
    if rate == 0.0:
        return Lines(None, None, None, None)
    spike_rate = float(f"{spike_rate:.2g}")  # few distinct ones: the lattice is solved once for each
    has_spread = points >= FEWEST_SPREAD
    if not has_spread:  # the others share what SPREAD leaves
        rate *= sum(SHARES.values()) / (sum(SHARES.values()) - SHARES["spread"])
    return Lines(
        level_line(SLOW_K, SHARES["slow"] * rate / 2.0),
        level_line(FAST_K, SHARES["fast"] * rate / 2.0),
        level_line(SLOW_K, SHARES["spread"] * rate) if has_spread else None,
        count_line(points * spike_rate, spike_factor(spike_rate), SHARES["spike"] * rate),
    )


def mean_delay(lines: Lines, shift: float, slow_by: float = 1.0, fast_by: float = 1.0) -> float:
    """Buckets, on average, until a level shift of that many sigma is found: by the faster of the two CUSUMs, whose
    evidence is divided by `slow_by` and `fast_by`.

    An upper bound, for together they are a little faster than either.
    """
    if lines.slow is None or lines.fast is None:
        return math.inf
    return min(cusum_arl(SLOW_K, lines.slow, shift / slow_by), cusum_arl(FAST_K, lines.fast, shift / fast_by))


@lru_cache(maxsize=256)
def smallest_shift(lines: Lines, buckets: float, slow_by: float = 1.0, fast_by: float = 1.0) -> float:
    """The smallest shift, in sigma of a bucket, found within that many buckets on average."""
    low, high = 0.0, 10.0
    if mean_delay(lines, high, slow_by, fast_by) > buckets:
        return math.inf
    for _ in range(30):
        middle = 0.5 * (low + high)
        if mean_delay(lines, middle, slow_by, fast_by) > buckets:
            low = middle
        else:
            high = middle
    return high


SURPRISE = 0.005  # on either side: outside the 99 % band


def is_beyond_chance(count: int, expected: float) -> bool:
    """Whether a Poisson count with that mean leaves its 99 % band.

    >>> is_beyond_chance(6, 7.8), is_beyond_chance(18, 7.8)
    (False, True)
    """
    below = 0.0  # chance of fewer than `count`
    term = math.exp(-expected)
    for i in range(count):
        below += term
        term *= expected / (i + 1)
    return 1.0 - below < SURPRISE or below + term < SURPRISE
