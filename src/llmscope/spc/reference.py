"""What the calibrated chart has learnt of a stretch in control: distribution, dependence, and how sure it is.

`learn` is phase I. What it finds is frozen into a `Reference`, which is stored; nothing here looks at a value
that is judged.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmscope.spc.buckets import CLIPPED_AT, FEWEST_SPREAD, Bucket, Buckets, Cadence, Collector
from llmscope.spc.detectors import BLOCKS, LongRun, SelfStarting, long_runs
from llmscope.spc.scores import ScoreTable, bucket_correlation, correlation

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

GAP_INTERVALS = 3  # a longer silence is a gap
LARGEST_PHI = 0.95
SCREEN_U = 4.0  # buckets further out are left out of the fit, once
MAD_TO_SIGMA = 1.4826  # 1 / quantile(3/4) of N(0, 1): makes the median absolute deviation estimate sigma
TRAFFIC_DISPERSION = (
    0.25  # variance over mean of the points a bucket: 1 for Poisson traffic, near 0 for probes
)
TIE = 1e-9
FEWEST_BUCKETS = 30
TAUGHT_FIRST = 20  # buckets that what a new phase takes over counts for: the phase's own soon count for more
SMALLEST_VARIANCE = 1e-12  # of innovations: below it all values were equal, and there is no spread to watch


@dataclass(frozen=True, slots=True)
class Reference:
    """The learnt distribution of one metric in control. `n` good points in `buckets` buckets.

    Of real traffic, whose buckets differ in size, the mean score of a bucket is a level that wanders with
    variance `between` and lag-1 correlation `persistence`, plus noise of variance `within` / points.
    `level` and `level_sd` are of bucket medians, on the chart's scale. `spike_rate` is the share of innovations
    above `spike_at`, `spike_dispersion` the variance of their count over its mean. `freedom` is that of the
    variance of a bucket's innovations, less than n - 1 where these have heavy tails.
    """

    table: ScoreTable
    cadence: Cadence
    n: int
    buckets: int
    phi: float
    mean: float
    between: float
    within: float
    persistence: float
    level: float
    level_sd: float
    variance: float
    kurtosis: float
    spike_at: float
    spike_rate: float
    spike_dispersion: float
    spike_runs: list[LongRun]
    innovations: ScoreTable | None  # of single scores, with one point a bucket
    shift: SelfStarting
    spread: SelfStarting

    @property
    def has_spread(self) -> bool:
        """Whether there is a spread within buckets that could change."""
        return self.cadence.points >= FEWEST_SPREAD and self.variance > SMALLEST_VARIANCE

    def collector(self) -> Collector:
        return Collector(self.table, self.cadence, self.phi, self.spike_at)

    def spread_score(self, bucket: Bucket) -> float:
        """Normal score of the bucket's variance, by the cube root of Wilson and Hilferty (1931)."""
        freedom = 2.0 / (2.0 / (bucket.n - 1) + self.kurtosis / bucket.n)
        step = 2.0 / (9.0 * freedom)
        return (math.cbrt(bucket.variance / self.variance) - 1.0 + step) / math.sqrt(step)

    def level_filter(self) -> "LevelFilter":
        if self.innovations is not None:
            return LevelFilter(self.mean, persistence=self.phi, innovations=self.innovations)
        if not self.cadence.is_traffic:
            return LevelFilter(self.mean)
        return LevelFilter(self.mean, self.between, self.within, self.persistence)

    def spread_scores(self, buckets: Buckets) -> Floats:
        """`spread_score` of many buckets; of no meaning for a bucket of one point."""
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = 2.0 / (2.0 / (buckets.n - 1) + self.kurtosis / buckets.n)
            step = 2.0 / (9.0 * freedom)
            scores = (np.cbrt(buckets.variance / self.variance) - 1.0 + step) / np.sqrt(step)
        return np.asarray(scores)


@dataclass(slots=True)
class LevelFilter:
    """How far a bucket's mean score is from what was to be expected.

    For probes that is its distance from the learnt mean; dependence is left to `SelfStarting`. With one point a
    bucket, where no averaging makes a spike and its echo harmless, it is the normal score of the innovation. For
    traffic the
    number of points varies, and with it both the noise and the dependence: there it is the innovation of the
    Kalman filter of a wandering level seen through noise, in its own sd, which is white whatever the numbers are.

    Source: R. E. Kalman, Journal of Basic Engineering 82, 1960.
    """

    mean: float
    between: float | None = None
    within: float = 0.0
    persistence: float = 0.0
    level: float = 0.0
    variance: float | None = None  # of the level; None before the first bucket
    innovations: ScoreTable | None = None

    def deviation(self, score: float, n: int, follows: bool) -> float:
        if self.innovations is not None:
            phi, last = self.persistence, self.level
            self.level = score
            if follows:
                return self.innovations.score(score - phi * last)
            return self.innovations.score(score * math.sqrt(1.0 - phi * phi))
        if self.between is None:
            return score - self.mean
        assert self.between is not None
        if follows and self.variance is not None:
            level = self.persistence * self.level
            variance = self.persistence**2 * self.variance + self.between * (1.0 - self.persistence**2)
        else:
            level, variance = 0.0, self.between
        total = variance + self.within / n
        away = score - self.mean - level
        gain = variance / total
        self.level = level + gain * away
        self.variance = (1.0 - gain) * variance
        return away / math.sqrt(total)

    def response(self, points: int) -> float:
        """How far a lasting shift of the mean score by one moves `deviation`, in buckets of so many points.

        Of traffic it is what remains when the filter has followed as far as it does.
        """
        if self.innovations is not None:
            return (1.0 - self.persistence) / math.sqrt(1.0 - self.persistence**2)
        if self.between is None:
            return 1.0
        a, noise = self.persistence, self.within / points
        variance = self.between
        for _ in range(200):  # to the steady state of the filter
            gain = variance / (variance + noise)
            variance = a * a * variance * (1.0 - gain) + self.between * (1.0 - a * a)
        gain = variance / (variance + noise)
        return (1.0 - a) / (1.0 - a + a * gain) / math.sqrt(variance + noise)

    def deviations(self, buckets: Buckets) -> Floats:
        """`deviation` of many buckets in order."""
        if self.between is None and self.innovations is None:
            return buckets.score - self.mean
        rows = zip(buckets.score.tolist(), buckets.n.tolist(), buckets.follows.tolist(), strict=True)
        return np.array([self.deviation(*row) for row in rows])


def interval_of(times_us: Integers) -> tuple[int, bool]:
    """Median spacing of the points, and whether they come by themselves rather than by a clock.

    Traffic is told by the number of points in half a minute, which varies as Poisson's does; its interval is
    the mean spacing.
    """
    spacing = np.diff(times_us)
    spacing = spacing[spacing > 0]
    if len(spacing) == 0:
        return 2_000_000, False
    middle = int(np.median(spacing))
    cadence = Cadence.of(middle)
    joined = spacing <= GAP_INTERVALS * cadence.interval_us
    if cadence.points == 1:
        irregular = float(np.std(spacing[joined])) > 0.25 * middle
        return (int(spacing.mean()), True) if irregular and middle < 30_000_000 else (middle, False)
    slots = times_us // 30_000_000
    counts = np.bincount((slots - slots.min()).astype(np.int64))[1:-1]  # late points may stand anywhere
    counts = counts[counts > 0]
    if len(counts) >= 20:
        dispersion = float(counts.var()) / float(counts.mean())
        spread = float(np.std(spacing[joined])) / float(spacing[joined].mean())
        if dispersion > TRAFFIC_DISPERSION and spread > 0.4:
            return int(spacing.mean()), True
    return middle, False


def learn(values: Floats, times_us: Integers) -> Reference | None:
    """Phase I on the good values of a stretch, in order of arrival, on the chart's scale; shape (n,).

    None when the stretch has too few buckets. Buckets further than 4 sigma out are left out once, with their
    points, and everything is estimated again.
    """
    if len(values) < 2:
        return None
    interval_us, is_traffic = interval_of(times_us)
    cadence = Cadence.of(interval_us, is_traffic)
    ids = np.arange(len(values), dtype=np.int64)
    found = _estimate(values, times_us, ids, cadence)
    if found is None:
        return None
    reference, buckets, ws = found
    spread = MAD_TO_SIGMA * float(np.median(np.abs(ws - np.median(ws))))
    wild = np.flatnonzero(np.abs(ws - np.median(ws)) > SCREEN_U * spread)
    if spread > 0.0 and len(wild):
        kept = np.ones(len(values), bool)
        for i in wild.tolist():
            kept[buckets.first_id[i] : buckets.last_id[i] + 1] = False
        again = _estimate(values[kept], times_us[kept], ids[: int(kept.sum())], cadence)
        if again is not None:
            reference = again[0]
    return reference


def _estimate(
    values: Floats, times_us: Integers, ids: Integers, cadence: Cadence
) -> tuple[Reference, Buckets, Floats] | None:
    n = len(values)
    if n < 2:
        return None
    table = ScoreTable.fit(values)
    scores = table.scores(values)
    joined = np.ones(n, bool)
    np.less_equal(np.diff(times_us), cadence.gap_us, out=joined[1:])
    joined[0] = False
    phi = 0.0
    if not cadence.is_traffic:
        phi = correlation(scores, joined)
        phi = min(LARGEST_PHI, max(0.0, phi + (1.0 + 3.0 * phi) / n))  # less its bias, by Kendall 1954
    collector = Collector(table, cadence, phi, math.inf)
    buckets = collector.add_many(values, ids, times_us)
    if buckets.size < FEWEST_BUCKETS:
        return None
    innovations = scores.copy()
    innovations[1:] = np.where(joined[1:], (scores[1:] - phi * scores[:-1]) * collector.scale, scores[1:])
    spike_share = min(0.03, max(0.005, 100.0 / n))
    spike_at, spikes = _spikes(innovations, buckets, cadence, 1.0 - spike_share)
    ys, counts, levels = buckets.score, buckets.n, buckets.level
    mean = float(ys.mean())
    between, within, persistence = _components(buckets, mean)
    clipped = np.clip(innovations, -CLIPPED_AT, CLIPPED_AT)
    variance = float(clipped.var())
    centred = clipped - clipped.mean()
    kurtosis = float((centred**4).mean()) / variance**2 - 3.0 if variance > 0.0 else 0.0
    level = float(np.median(levels))
    level_sd = MAD_TO_SIGMA * float(np.median(np.abs(levels - level)))
    spike_rate = float((spikes.sum() + 0.5) / (counts.sum() + 1.0))
    expected = spike_rate * counts
    runs = long_runs(1.0 / float(expected.mean()), (1, *BLOCKS))
    for score in ((spikes - expected) / np.sqrt(expected)).tolist():
        for run in runs:
            run.learn(score)
    dispersion = max(1.0, *(run.factor for run in runs))
    table_of_innovations = None
    floor = 0.0 if cadence.is_traffic else bucket_correlation(phi, cadence.points)
    if not cadence.by_clock:
        steps = scores[1:] - phi * scores[:-1]
        table_of_innovations, floor = ScoreTable.fit(steps[joined[1:]]), 0.0
    reference = Reference(
        table=table,
        cadence=cadence,
        n=n,
        buckets=buckets.size,
        phi=phi,
        mean=mean,
        between=between,
        within=within,
        persistence=persistence,
        level=level,
        level_sd=level_sd,
        variance=max(variance, SMALLEST_VARIANCE),
        kurtosis=max(-0.5, kurtosis),
        spike_at=spike_at,
        spike_rate=spike_rate,
        spike_dispersion=dispersion,
        spike_runs=runs,
        innovations=table_of_innovations,
        shift=SelfStarting(floor=floor),
        spread=SelfStarting(),
    )
    ws = _start(reference, buckets)
    return reference, buckets, ws


def about(reference: Reference, values: Floats, times_us: Integers) -> Reference:
    """The same distribution and dependence about another level, that of these values.

    Their buckets are still to be judged, and teach the mean of the scores when they are.
    """
    level = float(np.median(values))
    moved = dataclasses.replace(
        reference,
        table=reference.table.moved(level - reference.table.value(0.0)),
        level=level,
        spread=reference.spread.copy(),
    )
    buckets = moved.collector().add_many(values, np.arange(len(values)), times_us)
    if buckets.size >= 2:
        mean = float(np.median(moved.level_filter().deviations(buckets)))
        moved = dataclasses.replace(
            moved,
            level=float(np.median(buckets.level)),
            buckets=buckets.size,
            shift=reference.shift.about(mean, TAUGHT_FIRST),
        )
    return moved


def _start(reference: Reference, buckets: Buckets) -> Floats:
    """Let the self-starting scores learn from the baseline's buckets; their whitened means."""
    deviations = reference.level_filter().deviations(buckets)
    reference.shift.learn_many(deviations, buckets.follows)
    scored = buckets.n >= FEWEST_SPREAD
    if reference.has_spread and scored.any():
        follows = buckets.follows[scored] & np.concatenate([[False], scored[:-1]])[scored]
        reference.spread.learn_many(reference.spread_scores(buckets)[scored], follows)
    ws = deviations.copy()
    ws[1:] -= np.where(buckets.follows[1:], reference.shift.r * deviations[:-1], 0.0)
    return ws


def _spikes(innovations: Floats, buckets: Buckets, cadence: Cadence, share: float) -> tuple[float, Floats]:
    """The quantile of innovations above their bucket's mean, and how many of each bucket exceed it.

    `buckets` hold row numbers as ids; rows between two of them belong to none.
    """
    firsts, stops = buckets.first_id, buckets.last_id + 1
    inside = np.zeros(len(innovations), bool)
    for first, stop in zip(firsts.tolist(), stops.tolist(), strict=True):
        inside[first:stop] = True
    chosen = innovations[inside]
    starts = np.concatenate([[0], np.cumsum(stops - firsts)[:-1]])
    if cadence.points >= FEWEST_SPREAD:
        chosen = chosen - np.repeat(np.add.reduceat(chosen, starts) / buckets.n, buckets.n)
    at = float(np.quantile(chosen, share)) + TIE  # rounded readings lie on the quantile itself
    return at, np.add.reduceat((chosen > at).astype(np.float64), starts)


def _components(buckets: Buckets, mean: float) -> tuple[float, float, float]:
    """Variance of the level, of the noise of one point, and lag-1 correlation of the level."""
    centred = buckets.score - mean
    several = buckets.n > 1
    within = (
        float(np.average(buckets.variance[several], weights=buckets.n[several] - 1)) if several.any() else 0.0
    )
    between = float(centred @ centred) / len(centred) - within * float((1.0 / buckets.n).mean())
    between = max(between, 1e-9)
    follows = buckets.follows[1:]
    if not follows.any():
        return between, within, 0.0
    covariance = float((centred[1:] * centred[:-1])[follows].mean())
    return between, within, min(0.99, max(0.0, covariance / between))
