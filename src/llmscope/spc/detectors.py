"""The parts of the detectors: self-starting scores, CUSUMs of them, and of counts. A few numbers each.

Every one is O(1) a bucket and knows nothing of series, rows or clocks; `watch` puts them together.
"""

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FULLY_LEARNT = 2_880  # buckets, a day at 30 s: then mean, sd and dependence freeze
FIRST_SCORED = 10  # values before the first score: with fewer the t distribution has no tail to speak of
WILD = 4.0  # a score further out is not learnt from


def normal_score(t: float, freedom: float) -> float:
    """The z with the same tail as Student's t, by Wallace's approximation.

    >>> round(normal_score(2.228, 10), 2)  # the 97.5 % point of t with 10 degrees of freedom
    1.96

    Source: D. L. Wallace, Annals of Mathematical Statistics 30, 1959, p. 1124-1130.
    """
    shrunk = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0)
    return math.copysign(shrunk * math.sqrt(freedom * math.log1p(t * t / freedom)), t)


SIGNIFICANT = 2.5  # standard errors; at one, chance would slow a sixth of all charts
BLOCKS = (8, 32)  # buckets, 4 and 16 minutes: dependence that reaches further than the bucket before


@dataclass(slots=True)
class LongRun:
    """How much more sums of scores vary than those of independent ones: 1 for none, 4 for twice the sd.

    Whitening sees only the value before. What wanders more slowly, or comes in bursts, shows in the variance of
    sums of `length` scores; it counts when it exceeds 1 by more than chance. `kurtosis` is that of a score.
    """

    length: int
    kurtosis: float = 0.0
    held: int = 0
    sum: float = 0.0
    blocks: int = 0
    squares: float = 0.0

    def learn(self, score: float) -> None:
        self.held += 1
        self.sum += score
        if self.held == self.length:
            self.blocks += 1
            self.squares += self.sum * self.sum
            self.held, self.sum = 0, 0.0

    @property
    def factor(self) -> float:
        if self.blocks < 4:
            return 1.0
        ratio = self.squares / self.blocks / self.length
        chance = math.sqrt((2.0 + self.kurtosis / self.length) / self.blocks)
        return ratio if ratio > 1.0 + SIGNIFICANT * chance else 1.0


def long_runs(kurtosis: float = 0.0, lengths: tuple[int, ...] = BLOCKS) -> list[LongRun]:
    return [LongRun(length, kurtosis) for length in lengths]


@dataclass(slots=True)
class SelfStarting:
    """Scores each value against all before it: standard normal from the tenth on, whatever mean and sd are.

    Values may depend on the one before; `floor` is the lag-1 correlation that theory expects, and the measured
    one takes its place where it is larger by more than chance, or, with a margin, smaller. Learning stops at
    2,880 values.

    Source: D. M. Hawkins, The Statistician 36, 1987, p. 299-315; the whitening is ours.
    """

    floor: float = 0.0
    r: float = 0.0  # lag-1 correlation in use
    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    pairs: int = 0
    products: float = 0.0
    last: float | None = None  # the value before; None after a gap
    reviewed: int = 0  # values at the last look at the correlation
    runs: list[LongRun] = field(default_factory=long_runs)
    inflation: float = 1.0  # sd of slow sums of scores over that of independent ones
    quick_inflation: float = 1.0  # the same of the shortest sums

    def copy(self) -> "SelfStarting":
        return dataclasses.replace(self, runs=[dataclasses.replace(run) for run in self.runs])

    def score(self, value: float) -> float | None:
        """u of the value, given all that was learnt; None while too little was."""
        n = self.n
        if n < FIRST_SCORED:
            return None
        mean = self.total / n
        variance = self.squares / n - mean * mean
        r, last = self.r, self.last
        if last is None or r == 0.0:
            away = value - mean
        else:
            away = value - mean - r * (last - mean)
            if self.pairs > 1:
                covariance = self.products / self.pairs - mean * mean
                variance += r * (r * variance - 2.0 * covariance)
        if variance <= 1e-18:
            return 0.0 if abs(away) < 1e-9 else math.copysign(2.0 * WILD, away)
        t = away / math.sqrt(variance * (n + 1) / (n - 1))
        if n >= FULLY_LEARNT:
            return t
        return normal_score(t, n - 1.0)

    @property
    def sd(self) -> float:
        """Standard deviation of the whitened values, as learnt."""
        mean = self.total / self.n
        variance = self.squares / self.n - mean * mean
        if self.r != 0.0 and self.pairs > 1:
            variance += self.r * (self.r * variance - 2.0 * (self.products / self.pairs - mean * mean))
        return math.sqrt(max(variance, 0.0))

    def learn(self, value: float, last: float | None, score: float | None) -> None:
        """Take a value, the one right before it and its score into mean, spread and dependence."""
        if score is not None:
            for run in self.runs:
                run.learn(score)
        self.n += 1
        self.total += value
        self.squares += value * value
        if last is not None:
            self.pairs += 1
            self.products += value * last
        if self.n >= 1.25 * self.reviewed:
            self.review()

    def learn_many(self, values: Floats, follows: npt.NDArray[np.bool_]) -> None:
        """Learn from many values; `follows[i]` says that value i comes right after value i - 1."""
        joined = follows[1:]
        self.n += len(values)
        self.total += float(values.sum())
        self.squares += float(values @ values)
        self.pairs += int(np.count_nonzero(joined))
        self.products += float((values[1:] * values[:-1])[joined].sum())
        self.last = float(values[-1])
        self.review()
        last, self.last = self.last, None
        for score in self.score_many(values, follows).tolist():
            for run in self.runs:
                run.learn(score)
        self.last = last
        self.review()

    def score_many(self, values: Floats, follows: npt.NDArray[np.bool_]) -> Floats:
        """Scores of many values once all is learnt; `last` moves on."""
        mean = self.total / self.n
        r = self.r
        before = np.empty_like(values)
        before[1:] = values[:-1]
        before[0] = mean if self.last is None else self.last
        joined = follows.copy()
        joined[0] &= self.last is not None
        alone = self.squares / self.n - mean * mean
        variance = alone
        if r != 0.0 and self.pairs > 1:
            covariance = self.products / self.pairs - mean * mean
            variance += r * (r * variance - 2.0 * covariance)
        scale = (self.n + 1) / (self.n - 1)
        away = (values - mean) / math.sqrt(max(alone, 1e-18) * scale)
        if r != 0.0:
            whitened = (values - mean - r * (before - mean)) / math.sqrt(max(variance, 1e-18) * scale)
            away = np.where(joined, whitened, away)
        self.last = float(values[-1])
        return away

    def review(self) -> None:
        """Look at the dependence again: what is measured counts where it exceeds the expected by more than
        chance."""
        self.reviewed = self.n
        self.r = self.floor
        if self.pairs > FIRST_SCORED:
            mean = self.total / self.n
            variance = self.squares / self.n - mean * mean
            if variance > 0.0:
                measured = (self.products / self.pairs - mean * mean) / variance
                measured += (1.0 + 3.0 * measured) / self.n  # its bias, by Kendall 1954
                chance = 1.0 / math.sqrt(self.n)
                if measured > self.floor + chance:
                    self.r = min(measured, 0.95)
                elif measured < self.floor - 2.0 * chance:
                    self.r = measured + chance
        self.inflation = math.sqrt(max(run.factor for run in self.runs))
        self.quick_inflation = math.sqrt(self.runs[0].factor)

    def about(self, mean: float, n: int) -> "SelfStarting":
        """The same spread and dependence about another mean, which is learnt on as if from n values."""
        old = self.total / self.n
        covariance = self.products / self.pairs - old * old if self.pairs else 0.0
        return dataclasses.replace(
            self.copy(),
            n=n,
            total=n * mean,
            squares=n * (self.squares / self.n - old * old + mean * mean),
            pairs=n,
            products=n * (covariance + mean * mean),
            last=None,
            reviewed=n,
        )


@dataclass(slots=True)
class Cusum:
    """Upper CUSUM of a score: C = max(0, C + u - k); crosses at C > h.

    `since_*` is the bucket after its last zero: where, by this chart, the change began.

    Source: E. S. Page, Biometrika 41, 1954, p. 100-115.
    """

    k: float
    h: float
    c: float = 0.0
    since_id: int = 0
    since_us: int = 0

    def update(self, u: float, first_id: int, first_us: int) -> bool:
        c = self.c
        if c == 0.0:
            self.since_id, self.since_us = first_id, first_us
        c += u - self.k
        self.c = c if c > 0.0 else 0.0
        return c > self.h

    def path(self, us: Floats) -> Floats:
        """C at each of many scores, shape (n,), as `update` would go; nothing is taken over."""
        return _path(self.c, us - self.k)

    def take(self, path: Floats, first_ids: Integers, first_us: Integers) -> None:
        """Take over a path that did not cross."""
        _take(self, path, first_ids, first_us)

    def restart(self) -> None:
        self.c = 0.0


def _path(c: float, steps: Floats) -> Floats:
    """max(0, C + step) again and again: the running sum less its lowest point so far."""
    sums = np.cumsum(steps)
    sums += c
    return sums - np.minimum(np.minimum.accumulate(sums), 0.0)


def _take(cusum: "Cusum | CountCusum", path: Floats, first_ids: Integers, first_us: Integers) -> None:
    if len(path) == 0:
        return
    zeros = np.flatnonzero(path[:-1] == 0.0)
    if len(zeros) or cusum.c == 0.0:
        at = int(zeros[-1]) + 1 if len(zeros) else 0
        cusum.since_id, cusum.since_us = int(first_ids[at]), int(first_us[at])
    cusum.c = float(path[-1])


@dataclass(slots=True)
class CountCusum:
    """CUSUM of the log likelihood ratio of a count: has the rate of rare events grown `factor`-fold?

    The rate is learnt as it goes: with a events in b opportunities so far, the next count is negative binomial
    under both hypotheses, and their ratio needs two logarithms. As b grows this becomes the count CUSUM with
    k = (l1 - l0) / ln(l1 / l0); while b is small it is as careful as that little knowledge asks.
    `dispersion` is the variance of counts over their mean where that exceeds 1 by more than chance, at once or
    over minutes: events that come in bursts say less each.

    Source: Lucas, Technometrics 27, 1985, p. 129-144; the predictive ratio is ours.
    """

    factor: float
    h: float
    events: float = 0.5  # Jeffreys' half an event
    opportunities: float = 1.0
    dispersion: float = 1.0
    c: float = 0.0
    since_id: int = 0
    since_us: int = 0
    runs: list[LongRun] = field(default_factory=list)

    def update(self, count: int, opportunities: int, first_id: int, first_us: int) -> bool:
        c = self.c
        if c == 0.0:
            self.since_id, self.since_us = first_id, first_us
        known = self.opportunities
        share = (known + opportunities) / (known + self.factor * opportunities)
        c += (self.events * math.log(share) + count * math.log(self.factor * share)) / self.dispersion
        self.c = c if c > 0.0 else 0.0
        return c > self.h

    def path(self, counts: Integers, opportunities: Integers) -> Floats:
        """C at each of many counts, shape (n,), with the rate as known now; nothing is taken over."""
        shares = (self.opportunities + opportunities) / (self.opportunities + self.factor * opportunities)
        steps = (self.events * np.log(shares) + counts * np.log(self.factor * shares)) / self.dispersion
        return _path(self.c, steps)

    def take(self, path: Floats, first_ids: Integers, first_us: Integers) -> None:
        """Take over a path that did not cross."""
        _take(self, path, first_ids, first_us)

    def learn(self, count: int, opportunities: int) -> None:
        self.events += count
        self.opportunities += opportunities
        expected = self.rate * opportunities
        score = (count - expected) / math.sqrt(expected)
        for run in self.runs:
            run.learn(score)
            if run.held == 0:
                self.dispersion = max(1.0, *(run.factor for run in self.runs))

    @property
    def rate(self) -> float:
        """Events per opportunity, as learnt."""
        return self.events / self.opportunities

    def restart(self) -> None:
        self.c = 0.0
