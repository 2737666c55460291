"""The control chart of one metric of one series: learns, judges each value on two time scales, tells what it
found.

The point chart judges every value by the rules, for marks. The bucket chart judges half-minute buckets of
normal scores by the rules and by the detectors, for alarms. Pure: `update` decides from what it was given and
what it remembers; it does not log, store or read a clock.
"""

import dataclasses
import math
import operator
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from llmscope.spc.alarms import AlarmEvent
from llmscope.spc.baseline import Baseline, Scale, State, fit, limits
from llmscope.spc.buckets import Bucket, Buckets, Cadence, Collector
from llmscope.spc.calibration import Budget, Lines, lines
from llmscope.spc.episodes import EpisodeEvent, Frozen, Marks, Signs, side_of, sign_of, spans
from llmscope.spc.reference import GAP_INTERVALS, Reference, about, learn
from llmscope.spc.rules import Sides, rules_named
from llmscope.spc.scan import scan
from llmscope.spc.watch import Watch

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
EARLY_FITS = (20, 40, 80, 150)  # good points at which the point chart's first limits are fitted and refitted
STAGES_US = (
    30 * MINUTE_US,
    120 * MINUTE_US,
    360 * MINUTE_US,
)  # of good observations: then all is learnt anew
FEWEST_LEARNT = 450  # good points without which no quantile table is made: its ends would be guesses
RECENT_N = 60  # judged values whose mean and standard deviation are frozen into an episode
FAR_FUTURE_US = 2**62
ON_THE_LINE = 1e-9  # sigma; closer than rounding can tell on which side of the centre line a value lies
PIECE = 65_536  # values judged at once: the arrays stay in the processor's cache
ROUNDING = 1e-10  # of the mean square: a smaller variance is rounding
RETRY_AFTER = 50  # good points until a stage that could not be fitted is tried again


@dataclass(frozen=True, slots=True)
class Plan:
    """How a chart judges: what a user sets. Rules by name or preset; `learn_us` of good observations, or
    `learn_n` of them, until the baseline is locked; `min_change` is a share of the level."""

    point_rules: str = "original"
    bucket_rules: str = "nelson"
    budget: Budget = field(default_factory=Budget)
    min_change: float = 0.10
    learn_us: int = DAY_US
    learn_n: int | None = None
    side: Sides = "both"
    run: int | None = None
    trend: int | None = None
    least_sigma: float = 0.0  # on the chart's scale, for a process that is the same each time

    def stage_us(self, stage: int) -> int:
        """Observed time at which the stage is fitted; the last one locks."""
        return (
            STAGES_US[stage] if stage < len(STAGES_US) and STAGES_US[stage] < self.learn_us else self.learn_us
        )


class BucketPoint(NamedTuple):
    """A judged bucket: `u` standard normal while in control, `level` in the metric's unit."""

    time_us: int
    last_id: int
    level: float
    u: float | None
    rules: tuple[tuple[str, str], ...] = ()


class Verdict(NamedTuple):
    """What the chart says of one value. `z` is None when it was not judged."""

    z: float | None
    rules: tuple[tuple[str, str], ...] = ()  # (rule, side)
    events: tuple[EpisodeEvent, ...] = ()
    baseline: Baseline | None = None  # only when this value completed a fit
    bucket: BucketPoint | None = None  # only when this value completed one
    alarms: tuple[AlarmEvent, ...] = ()


NOT_JUDGED = Verdict(None)


def _verdict(z: float, rules: tuple[tuple[str, str], ...], events: tuple[EpisodeEvent, ...]) -> Verdict:
    """`Verdict(z, rules, events)` at half the cost: there is one for every value."""
    return tuple.__new__(Verdict, (z, rules, events, None, None, ()))


History = Callable[[int], tuple[Floats, Integers]]
"""The good values of the phase up to the row with that id, in the metric's unit and order of arrival, and their
times: what came later must not be learnt from, even where it is known already."""


def no_history(_row_id: int) -> tuple[Floats, Integers]:
    return np.empty(0), np.empty(0, np.int64)


class BucketChart:
    """The calibrated chart: buckets of scores, judged by rules and detectors against one reference."""

    def __init__(self, reference: Reference, scale: Scale, plan: Plan, provisional: bool) -> None:
        self.reference = reference
        self.scale = scale
        self.collector = reference.collector()
        cadence = reference.cadence
        self.lines: Lines = lines(plan.budget, cadence.width_us, cadence.points, reference.spike_rate)
        self.watch = Watch(reference, scale, self.lines, plan.min_change, provisional)
        self.marks = Marks("buckets", rules_named(plan.bucket_rules, plan.run, plan.trend, plan.side))
        self.provisional = provisional

    def add(
        self, x: float, row_id: int, time_us: int, events: list[EpisodeEvent]
    ) -> tuple[BucketPoint | None, list[AlarmEvent]]:
        """Take a value on the chart's scale; what the bucket that it completes says."""
        bucket = self.collector.add(x, row_id, time_us)
        return (None, []) if bucket is None else self.judge(bucket, events)

    def judge(self, bucket: Bucket, events: list[EpisodeEvent]) -> tuple[BucketPoint, list[AlarmEvent]]:
        """Judge a complete bucket."""
        level = math.exp(bucket.level) if self.scale == "log" else bucket.level
        u, alarms = self.watch.update(bucket)
        if u is None:
            return BucketPoint(bucket.first_us, bucket.last_id, level, None), alarms
        if not bucket.follows:
            self.marks.restart(events)
        if -ON_THE_LINE < u < ON_THE_LINE:
            u = 0.0
        broken = self.marks.update(
            u,
            level,
            bucket.first_id,
            bucket.first_us,
            bucket.last_id,
            bucket.last_us,
            self._frozen,
            events,
        )
        return BucketPoint(bucket.first_us, bucket.last_id, level, u, broken), alarms

    def judge_many(self, buckets: Buckets, told: "ManyVerdicts") -> None:
        """Judge complete buckets."""
        if buckets.size == 0:
            return
        us, alarms = self.watch.update_many(buckets)
        us[np.abs(us) < ON_THE_LINE] = 0.0
        levels = np.exp(buckets.level) if self.scale == "log" else buckets.level
        told.alarms += alarms
        scored = int(np.argmax(~np.isnan(us))) if not np.isnan(us).all() else len(us)
        b = buckets.part(scored, len(us))
        signs = self.marks.update_many(
            us[scored:], levels[scored:], b.first_id, b.first_us, b.last_id, b.last_us, ~b.follows,
            self._frozen, told.events,
        )  # fmt: skip
        told.buckets.append(ManyBuckets(buckets.first_us, buckets.last_id, levels, us, signs))

    def _frozen(self, _: int = 0) -> Frozen:
        reference = self.reference
        lines = limits(reference.level, max(reference.level_sd, 1e-9), self.scale)
        return Frozen(
            lines.centre, lines.sigma, lines.ucl, lines.lcl, reference.n, None, None, self.provisional
        )


class ControlChart:
    """Baseline, rules and detectors of one metric of one series.

    Learns from good values: limits of the point chart from the twentieth on, the bucket chart from half an hour
    on, both anew at 2 and 6 hours, and locked after `plan.learn_us`. The value that completes a fit is itself
    judged by the limits before. New limits close what is open and restart the rules; while an alarm is open
    nothing is fitted. `history` gives the values that a fit learns from.
    """

    def __init__(
        self,
        scale: Scale,
        plan: Plan | None = None,
        history: History = no_history,
        baseline: Baseline | None = None,
    ) -> None:
        self.scale = scale
        self.plan = plan or Plan()
        self.history = history
        self.baseline: Baseline | None = None
        self.buckets: BucketChart | None = None
        self._centre = self._sigma = 0.0
        self._gap_us = FAR_FUTURE_US
        self._is_locked = False
        self.learned_n = 0
        self.learned_us = 0  # of observation, gaps not counted
        self.stage = 0
        self.try_at = 0  # good points before which no stage is tried again
        self.early: list[tuple[float, int]] = []
        plan = self.plan
        self.marks = Marks("points", rules_named(plan.point_rules, plan.run, plan.trend, plan.side))
        self.recent: deque[float] = deque(maxlen=RECENT_N)
        self.last_us = FAR_FUTURE_US  # before the first value: no gap can be seen
        if baseline is not None:
            self.judge_by(baseline)

    @property
    def state(self) -> Literal["learning", "provisional", "locked"]:
        return "learning" if self.baseline is None else self.baseline.state

    @property
    def has_alarm(self) -> bool:
        return self.buckets is not None and self.buckets.watch.has_alarm()

    def alarms_in_us(self) -> int | None:
        """How much longer it must observe before the detectors begin; None once they have."""
        if self.buckets is not None:
            return None
        missing = max(0, FEWEST_LEARNT - self.learned_n)
        interval = self.learned_us / max(1, self.learned_n - 1) if self.learned_n > 1 else 0.0
        return int(max(self.plan.stage_us(0) - self.learned_us, missing * interval, 0))

    def update(self, value: float | None, row_id: int, time_us: int, cold: bool = False) -> Verdict:
        """Judge one value in the metric's unit; None, or one that the scale cannot show, is passed over.

        A cold start is judged on the point chart, and neither learnt from nor put into a bucket.
        """
        if value is None:
            return NOT_JUDGED
        if self.scale == "log":
            if value <= 0.0:
                return NOT_JUDGED
            x = math.log(value)
        else:
            x = value
        since_us = time_us - self.last_us
        self.last_us = time_us
        if self.baseline is None:
            self.recent.append(value)
            return (
                NOT_JUDGED if cold else Verdict(None, baseline=self._learn(x, row_id, time_us, since_us, []))
            )
        events: list[EpisodeEvent] = []
        if since_us > self._gap_us:
            self.marks.restart(events)
        z = (x - self._centre) / self._sigma
        if -ON_THE_LINE < z < ON_THE_LINE:
            z = 0.0
        broken = self.marks.update(z, value, row_id, time_us, row_id, time_us, self._frozen, events)
        self.recent.append(value)
        bucket: BucketPoint | None = None
        alarms: Sequence[AlarmEvent] = ()
        if self.buckets is not None and not cold:
            done = self.buckets.collector.add(x, row_id, time_us)
            if done is not None:
                bucket, alarms = self.buckets.judge(done, events)
        fitted = None
        if not (self._is_locked or cold):
            fitted = self._learn(x, row_id, time_us, since_us, events)
        if bucket is None and fitted is None:
            return _verdict(z, broken, tuple(events))
        return Verdict(z, broken, tuple(events), fitted, bucket, tuple(alarms))

    def exclude(self, events: list[EpisodeEvent]) -> None:
        """Pass over an excluded point: patterns do not reach across it."""
        self.marks.restart(events)

    # -- many at once

    def update_many(
        self, values: Floats, ids: Integers, times_us: Integers, cold: npt.NDArray[np.bool_] | None = None
    ) -> "ManyVerdicts":
        """Judge many values in order of arrival: the same findings as one by one.

        Values that are NaN, or that the scale cannot show, are passed over. Of an episode or alarm that grows,
        only the last state is told.
        """
        told = ManyVerdicts()
        good = ~np.isnan(values) if self.scale == "linear" else values > 0.0
        warm = np.ones(len(values), bool) if cold is None else ~cold
        if not good.all():
            values, ids, times_us, warm = values[good], ids[good], times_us[good], warm[good]
        at, n = 0, len(values)
        while at < n:
            if self._is_locked:
                stop = n
            else:
                stop = at + self._until_fit(times_us[at:], warm[at:])
            stop = min(stop, at + PIECE)
            if stop - at < 2:
                verdict = self.update(float(values[at]), int(ids[at]), int(times_us[at]), not warm[at])
                told.take(verdict, int(ids[at]))
                at += 1
                continue
            part = slice(at, stop)
            self._judge_many(values[part], ids[part], times_us[part], warm[part], told)
            at = stop
        return told

    def _until_fit(self, times_us: Integers, warm: npt.NDArray[np.bool_]) -> int:
        """How many of the next values can be taken without a fit falling due."""
        if self.baseline is None or self.learned_n < EARLY_FITS[-1]:
            return 0
        if self.has_alarm or self.try_at > self.learned_n:
            return min(len(times_us), max(1, self.try_at - self.learned_n - 1))
        steps = np.diff(times_us, prepend=self.last_us)
        learned = self.learned_us + np.cumsum(np.clip(steps, 0, self._gap_us) * warm)
        due = learned >= self.plan.stage_us(self.stage)
        count = self.learned_n + np.cumsum(warm)
        due &= count >= FEWEST_LEARNT
        if self.plan.learn_n is not None:
            due |= count >= self.plan.learn_n
        due &= warm
        return int(np.argmax(due)) if due.any() else len(times_us)

    def _judge_many(
        self,
        values: Floats,
        ids: Integers,
        times_us: Integers,
        warm: npt.NDArray[np.bool_],
        told: "ManyVerdicts",
    ) -> None:
        """Judge values that no fit falls on."""
        x = np.log(values) if self.scale == "log" else values
        steps = np.diff(times_us, prepend=self.last_us)
        breaks = steps > self._gap_us
        zs = (x - self._centre) / self._sigma
        zs[np.abs(zs) < ON_THE_LINE] = 0.0
        held = len(self.recent)
        away = np.concatenate([np.array(self.recent), values]) - self._limits.centre
        sums, squares = _running(away), _running(away * away)

        def frozen(i: int) -> Frozen:
            stop, first = held + i, max(0, held + i - RECENT_N)
            n = stop - first
            if n < 2:
                return self._frozen((None, None))
            mean = (sums[stop] - sums[first]) / n
            of_squares = (squares[stop] - squares[first]) / n
            variance = of_squares - mean * mean
            variance = variance * n / (n - 1) if variance > ROUNDING * of_squares else 0.0
            return self._frozen((float(self._limits.centre + mean), math.sqrt(variance)))

        signs = self.marks.update_many(zs, values, ids, times_us, ids, times_us, breaks, frozen, told.events)
        told.signals.append((ids, zs, signs))
        self.recent.extend(values[-RECENT_N:].tolist())
        if not self._is_locked:
            self.learned_n += int(np.count_nonzero(warm))
            self.learned_us += int((np.clip(steps, 0, self._gap_us) * warm).sum())
        if self.buckets is not None:
            done = self.buckets.collector.add_many(x[warm], ids[warm], times_us[warm])
            self.buckets.judge_many(done, told)
        self.last_us = int(times_us[-1])

    # -- learning

    def judge_by(self, baseline: Baseline) -> None:
        """Take over limits; the numbers that every value needs are kept at hand."""
        self.baseline = baseline
        self._centre, self._sigma = baseline.centre, baseline.sigma
        self._limits = baseline.limits()
        self._gap_us = GAP_INTERVALS * baseline.interval_us
        self._is_locked = baseline.state == "locked"
        if baseline.reference is not None:
            self.buckets = BucketChart(
                baseline.reference, self.scale, self.plan, baseline.state == "provisional"
            )
            self._gap_us = baseline.reference.cadence.gap_us

    def _learn(
        self, x: float, row_id: int, time_us: int, since_us: int, events: list[EpisodeEvent]
    ) -> Baseline | None:
        """Count a good value, and fit what falls due with it."""
        self.learned_n = n = self.learned_n + 1
        if n > 1 and since_us > 0:
            gap_us = self._gap_us  # without end before there are limits
            self.learned_us += since_us if since_us < gap_us else gap_us
        if n <= EARLY_FITS[-1]:
            self.early.append((x, time_us))
            if n not in EARLY_FITS:
                return None
            values, times_us = zip(*self.early, strict=True)
            fitted = fit(
                np.array(values), np.array(times_us), self.scale, "provisional", self.plan.least_sigma
            )
            if n == EARLY_FITS[-1]:
                self.early = []
            return self._take(fitted, events)
        plan = self.plan
        is_last = self.learned_us >= plan.learn_us or (plan.learn_n is not None and n >= plan.learn_n)
        if not is_last and self.learned_us < plan.stage_us(self.stage):
            return None
        if n < self.try_at or (n < FEWEST_LEARNT and plan.learn_n is None) or self.has_alarm:
            return None
        return self._take(self._fit_stage("locked" if is_last else "provisional", row_id), events)

    def _fit_stage(self, state: State, row_id: int) -> Baseline | None:
        values, times_us = self.history(row_id)
        good = values > 0.0 if self.scale == "log" else ~np.isnan(values)
        values, times_us = values[good], times_us[good]
        baseline = phase_one(values, times_us, self.scale, state, self.plan)
        if baseline is None or baseline.reference is None:
            self.try_at = self.learned_n + RETRY_AFTER
            return None
        while self.plan.stage_us(self.stage) <= self.learned_us and self.stage < len(STAGES_US):
            self.stage += 1
        return baseline

    def _take(self, fitted: Baseline | None, events: list[EpisodeEvent]) -> Baseline | None:
        if fitted is None:
            return None
        self.marks.restart(events)
        if self.buckets is not None:
            self.buckets.marks.restart(events)
            before = self.buckets
            self.judge_by(fitted)
            if self.buckets is not before:
                self._carry(before)
        else:
            self.judge_by(fitted)
        return fitted

    def _carry(self, before: BucketChart) -> None:
        """Let the open bucket and the marks below min_change live on in the new chart."""
        assert self.buckets is not None
        after = self.buckets
        if before.reference.cadence == after.reference.cadence:
            old, new = before.collector, after.collector
            for x in old.values:
                new.add(x, old.last_id, old.last_us)
            new.first_id, new.first_us, new.follows = old.first_id, old.first_us, False
        after.watch.recent = before.watch.recent
        after.watch.alarms = dict(before.watch.alarms)  # none is open: nothing is fitted while one is

    def _recent_statistics(self) -> tuple[float | None, float | None]:
        """Mean and sample standard deviation of the values at hand."""
        recent = self.recent
        n = len(recent)
        if n < 2:
            return None, None
        mean = sum(recent) / n
        away = [value - mean for value in recent]
        return mean, math.sqrt(sum(map(operator.mul, away, away)) / (n - 1))

    def _frozen(self, statistics: tuple[float | None, float | None] | None = None) -> Frozen:
        """The chart as it is now; `statistics` are mean and sd of the last 60 values before, if known."""
        baseline = self.baseline
        assert baseline is not None
        lines = self._limits
        mean, std = self._recent_statistics() if statistics is None else statistics
        provisional = baseline.state == "provisional"
        return Frozen(lines.centre, lines.sigma, lines.ucl, lines.lcl, baseline.n, mean, std, provisional)


def _running(values: Floats) -> Floats:
    """Sums of the first 0, 1, 2, … values."""
    sums = np.empty(len(values) + 1)
    sums[0] = 0.0
    np.cumsum(values, out=sums[1:])
    return sums


class ManyBuckets(NamedTuple):
    """Judged buckets as columns; `u` is nan where it was not scored, `signs` are of the scored ones, by rule."""

    times_us: Integers
    last_ids: Integers
    levels: Floats
    us: Floats
    signs: dict[str, Signs]


@dataclass(slots=True)
class ManyVerdicts:
    """What a chart said of many values."""

    events: list[EpisodeEvent] = field(default_factory=list)
    alarms: list[AlarmEvent] = field(default_factory=list)
    buckets: list["ManyBuckets"] = field(default_factory=list)
    baselines: list[tuple[int, Baseline]] = field(default_factory=list)  # and the row that completed the fit
    signals: list[tuple[Integers, Floats, dict[str, Signs]]] = field(default_factory=list)  # ids, z, by rule

    def bucket_points(self) -> list[BucketPoint]:
        """The judged buckets one by one."""
        points: list[BucketPoint] = []
        for many in self.buckets:
            broken: dict[int, tuple[tuple[str, str], ...]] = {}
            scored = np.flatnonzero(~np.isnan(many.us))
            for rule, signs in many.signs.items():
                for i in np.flatnonzero(signs).tolist():
                    at = int(scored[i])
                    broken[at] = (*broken.get(at, ()), (rule, side_of(rule, int(signs[i]))))
            rows = zip(
                many.times_us.tolist(),
                many.last_ids.tolist(),
                many.levels.tolist(),
                many.us.tolist(),
                strict=True,
            )
            for i, (time_us, last_id, level, u) in enumerate(rows):
                points.append(BucketPoint(time_us, last_id, level, u if u == u else None, broken.get(i, ())))
        return points

    def take(self, verdict: Verdict, row_id: int) -> None:
        """Add the verdict on a single value."""
        self.events += verdict.events
        self.alarms += verdict.alarms
        if verdict.bucket is not None:
            b = verdict.bucket
            signs = {name: np.array([sign_of(side)], np.int8) for name, side in b.rules}
            self.buckets.append(
                ManyBuckets(
                    np.array([b.time_us]),
                    np.array([b.last_id]),
                    np.array([b.level]),
                    np.array([np.nan if b.u is None else b.u]),
                    signs,
                )
            )
        if verdict.baseline is not None:
            self.baselines.append((row_id, verdict.baseline))
        if verdict.z is not None:
            signs = {name: np.array([sign_of(side)], np.int8) for name, side in verdict.rules}
            self.signals.append((np.array([row_id]), np.array([verdict.z]), signs))


def recentred(baseline: Baseline, values: Floats, times_us: Integers) -> Baseline:
    """The baseline about the level of these values: what was learnt of spread and dependence stays.

    The mean of the bucket scores is learnt anew, from these values on.
    """
    x = np.log(values) if baseline.scale == "log" else values
    by = float(np.median(x)) - baseline.centre
    reference = None if baseline.reference is None else about(baseline.reference, x, times_us)
    return dataclasses.replace(baseline, centre=baseline.centre + by, reference=reference)


def phase_one(values: Floats, times_us: Integers, scale: Scale, state: State, plan: Plan) -> Baseline | None:
    """Everything a chart learns from the good values of a stretch in control, in the metric's unit."""
    x = np.log(values) if scale == "log" else values
    baseline = fit(x, times_us, scale, state, plan.least_sigma)
    if baseline is None:
        return None
    reference = learn(x, times_us)
    return dataclasses.replace(
        baseline, reference=reference, rates_a_day=_rates(x, times_us, baseline, reference, plan)
    )


def _rates(
    x: Floats, times_us: Integers, baseline: Baseline, reference: Reference | None, plan: Plan
) -> dict[str, float]:
    """Episodes a day of each rule of the point chart on the values it was learnt from."""
    gap_us = GAP_INTERVALS * baseline.interval_us if reference is None else reference.cadence.gap_us
    steps = np.diff(times_us, prepend=times_us[0])
    zs = (x - baseline.centre) / baseline.sigma
    rules = rules_named(plan.point_rules, plan.run, plan.trend, plan.side)
    breaks = steps > gap_us
    days = float(np.clip(steps, 0, gap_us).sum()) / DAY_US
    found = scan(zs, rules, breaks)
    return {
        rule.name: len(spans(rule.name, found[rule.name], zs, rule.points, breaks)) / days
        if days > 0
        else 0.0
        for rule in rules
    }


__all__ = [
    "BucketPoint",
    "Cadence",
    "Collector",
    "ControlChart",
    "ManyVerdicts",
    "Plan",
    "Verdict",
    "phase_one",
]
