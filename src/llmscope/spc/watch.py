"""The detectors at work on the buckets of one chart: SHIFT, SPREAD and SPIKE, and the life of their alarms.

An alarm opens when the evidence passes the line that chance crosses as often as the budget allows and, for the
level, when the level has moved by what matters in practice. It closes when 20 buckets are in control again by
the same reference, and is proposed as a new phase when the new level has been stable for 60.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from llmscope.spc.alarms import Alarm, AlarmEvent, Detector, Direction
from llmscope.spc.baseline import Scale
from llmscope.spc.buckets import FEWEST_SPREAD, Bucket, Buckets, Floats
from llmscope.spc.calibration import FAST_K, SLOW_K, Lines, spike_factor
from llmscope.spc.detectors import FULLY_LEARNT, WILD, CountCusum, Cusum, SelfStarting
from llmscope.spc.reference import LevelFilter, Reference
from llmscope.spc.scores import median

RECOVERED_AFTER = 20  # buckets in control by the old reference
STABLE_AFTER = 60  # buckets, 30 minutes: then the new level may be a new phase
MOST_RECENT = STABLE_AFTER + 20  # buckets remembered: then all but the last 60 are let go
JUDGED_LEVELS = 10  # the newest levels that say whether it has moved by what matters
CEILING = 2.0  # a CUSUM grows to this many times its line: after a long wander it must come down again
MEDIAN_ERROR = 1.2533  # sqrt(pi / 2): standard error of a median over that of a mean
CONFIDENCE_Z = 1.96
NEVER = 1e300  # a decision line that nothing crosses
STRETCH = 4_096  # buckets judged at once: the arrays stay in the processor's cache
SHORTEST_STRETCH = 16  # fewer are quicker one by one


@dataclass(slots=True)
class Recent:
    """The last buckets, as the estimates of sizes need them."""

    first_ids: list[int] = field(default_factory=list)
    first_us: list[int] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    us: list[float] = field(default_factory=list)  # SHIFT scores
    variances: list[float] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)  # SPREAD scores
    spikes: list[int] = field(default_factory=list)
    points: list[int] = field(default_factory=list)

    def append(self, bucket: Bucket, u: float, spread: float) -> None:
        self.first_ids.append(bucket.first_id)
        self.first_us.append(bucket.first_us)
        self.levels.append(bucket.level)
        self.us.append(u)
        self.variances.append(bucket.variance)
        self.spreads.append(spread)
        self.spikes.append(bucket.spikes)
        self.points.append(bucket.n)
        if len(self.levels) > MOST_RECENT:
            for name in self.__slots__:
                del getattr(self, name)[:-STABLE_AFTER]

    def extend(self, buckets: Buckets, us: Floats, spreads: Floats) -> None:
        """Append the last of many buckets."""
        last = slice(-STABLE_AFTER, None)
        for column, new in (
            (self.first_ids, buckets.first_id),
            (self.first_us, buckets.first_us),
            (self.levels, buckets.level),
            (self.us, us),
            (self.variances, buckets.variance),
            (self.spreads, spreads),
            (self.spikes, buckets.spikes),
            (self.points, buckets.n),
        ):
            column += new[last].tolist()
            del column[:-MOST_RECENT]

    def since(self, time_us: int) -> int:
        """How many of them began at or after that time."""
        count = 0
        for first_us in reversed(self.first_us):
            if first_us < time_us:
                break
            count += 1
        return count


class Taught(NamedTuple):
    """What one bucket has to teach; None where it has nothing."""

    deviation: float | None
    last_deviation: float | None
    spread: float | None
    last_spread: float | None
    u: float | None
    v: float | None
    spikes: int
    points: int


@dataclass(slots=True)
class Watch:
    """Judges bucket after bucket. `min_change` is a share, 0.10 for 10 %; 0 takes every change."""

    reference: Reference
    scale: Scale
    lines: Lines
    min_change: float
    provisional: bool = False
    slow_up: Cusum = field(init=False)
    slow_down: Cusum = field(init=False)
    fast_up: Cusum = field(init=False)
    fast_down: Cusum = field(init=False)
    spread: Cusum = field(init=False)
    spike: CountCusum = field(init=False)
    has_spread: bool = field(init=False)
    level: LevelFilter = field(init=False)
    shift: SelfStarting = field(init=False)
    scatter: SelfStarting = field(init=False)
    recent: Recent = field(default_factory=Recent)
    waiting: list[Taught] = field(default_factory=list)
    alarms: dict[str, Alarm] = field(default_factory=dict)  # open ones and marks, by detector

    def __post_init__(self) -> None:
        lines, reference = self.lines, self.reference
        self.has_spread = reference.has_spread
        self.level = reference.level_filter()
        self.shift = reference.shift.copy()  # these go on learning, the reference does not
        self.scatter = reference.spread.copy()
        never = NEVER
        slow, fast = lines.slow or never, lines.fast or never
        self.slow_up, self.slow_down = Cusum(SLOW_K, slow), Cusum(SLOW_K, slow)
        self.fast_up, self.fast_down = Cusum(FAST_K, fast), Cusum(FAST_K, fast)
        self.spread = Cusum(SLOW_K, lines.spread or never)
        self.spike = CountCusum(
            spike_factor(reference.spike_rate),
            lines.spike or never,
            events=reference.spike_rate * (reference.n + 1.0),
            opportunities=reference.n + 1.0,
            dispersion=reference.spike_dispersion,
            runs=[dataclasses.replace(run) for run in reference.spike_runs],
        )

    def forget(self) -> None:
        """Drop all evidence and every alarm; what was learnt stays."""
        self.alarms.clear()
        for cusum in (self.slow_up, self.slow_down, self.fast_up, self.fast_down, self.spread):
            cusum.restart()
        self.spike.restart()

    def update(self, bucket: Bucket) -> tuple[float | None, list[AlarmEvent]]:
        """The score u of the bucket's level, None while too little is known, and what happened to alarms."""
        events: list[AlarmEvent] = []
        shift, spread = self.shift, self.scatter
        if not bucket.follows:
            shift.last = spread.last = None
        deviation = self.level.deviation(bucket.score, bucket.n, bucket.follows)
        u = shift.score(deviation)
        v: float | None = None
        variance_score = 0.0
        if self.has_spread and bucket.n >= FEWEST_SPREAD:
            variance_score = self.reference.spread_score(bucket)
            v = spread.score(variance_score)
        if u is not None:
            self.recent.append(bucket, u, v or 0.0)
            self._judge(bucket, u, v, events)
        self._learn(bucket, deviation, u, variance_score, v)
        return u, events

    def update_many(self, buckets: Buckets) -> tuple[Floats, list[AlarmEvent]]:
        """`update` for many buckets: their scores, nan where there is none, and what happened to alarms.

        Once all is learnt and while no alarm is open, a stretch is judged by a few array operations, up to the
        first bucket at which something crosses its line.
        """
        n = buckets.size
        us = np.full(n, np.nan)
        events: list[AlarmEvent] = []
        at = 0
        while at < n:
            if self._is_settled() and n - at >= SHORTEST_STRETCH:
                taken = self._take_quiet(buckets.part(at, min(n, at + STRETCH)), us[at : at + STRETCH])
                at += taken
                if taken:
                    continue
            bucket = buckets.one(at)
            u, told = self.update(bucket)
            us[at] = np.nan if u is None else u
            events += told
            at += 1
        return us, events

    def _is_settled(self) -> bool:
        points = self.reference.cadence.points
        return (
            not self.alarms
            and not self.waiting
            and self.shift.n >= FULLY_LEARNT
            and (not self.has_spread or self.scatter.n >= FULLY_LEARNT)
            and self.spike.opportunities >= FULLY_LEARNT * (points + 2)
        )

    def _take_quiet(self, buckets: Buckets, us: Floats) -> int:
        """Judge buckets up to the first crossing, which is left; how many were taken."""
        has_spread = self.has_spread
        if has_spread and (buckets.n < FEWEST_SPREAD).any():
            return 0
        shift, scatter = self.shift.copy(), self.scatter.copy()
        level = dataclasses.replace(self.level)
        deviations = level.deviations(buckets)
        u = shift.score_many(deviations, buckets.follows)
        v = np.zeros(len(u))
        evidence, quick = u / shift.inflation, u / shift.quick_inflation
        cusums: list[tuple[Cusum | CountCusum, Floats]] = [
            (self.slow_up, self.slow_up.path(evidence)),
            (self.slow_down, self.slow_down.path(-evidence)),
            (self.fast_up, self.fast_up.path(quick)),
            (self.fast_down, self.fast_down.path(-quick)),
            (self.spike, self.spike.path(buckets.spikes, buckets.n)),
        ]
        scores = v
        if has_spread:
            scores = self.reference.spread_scores(buckets)
            v = scatter.score_many(scores, buckets.follows)
            cusums.append((self.spread, self.spread.path(v / scatter.inflation)))
        crossed = np.zeros(len(u), bool)
        for cusum, path in cusums:
            crossed |= path > cusum.h
        taken = int(np.argmax(crossed)) if crossed.any() else len(u)
        if taken == 0:
            return 0
        for cusum, path in cusums:
            cusum.take(path[:taken], buckets.first_id, buckets.first_us)
        self.level.deviations(buckets.part(0, taken))  # to where it was before the crossing
        self.shift.last = float(deviations[taken - 1])
        if has_spread:
            self.scatter.last = float(scores[taken - 1])
        us[:taken] = u[:taken]
        self.recent.extend(buckets.part(0, taken), u[:taken], v[:taken])
        return taken

    def _learn(
        self, bucket: Bucket, deviation: float, u: float | None, variance_score: float, v: float | None
    ) -> None:
        """Learn from a bucket that nothing speaks against; `last` follows in any case.

        Under suspicion what would be learnt waits: it is learnt when the suspicion passes, and dropped when an
        alarm opens. To leave it out for good would teach that such buckets do not happen.
        """
        shift, spread = self.shift, self.scatter
        if shift.n < FULLY_LEARNT or self.spike.opportunities < FULLY_LEARNT * (
            self.reference.cadence.points + 2
        ):
            taught = Taught(
                deviation if u is None or -WILD < u < WILD else None,
                shift.last,
                variance_score if v is not None and -WILD < v < WILD else None,
                spread.last,
                u,
                v,
                bucket.spikes,
                bucket.n,
            )
            if self.has_alarm():
                self.waiting.clear()
            else:
                self.waiting.append(taught)
                if not self.is_suspicious():
                    self._learn_waiting()
        shift.last = deviation
        if self.has_spread and bucket.n >= FEWEST_SPREAD:
            spread.last = variance_score

    def _learn_waiting(self) -> None:
        shift, spread = self.shift, self.scatter
        for taught in self.waiting:
            if taught.deviation is not None and shift.n < FULLY_LEARNT:
                shift.learn(taught.deviation, taught.last_deviation, taught.u)
            if taught.spread is not None and spread.n < FULLY_LEARNT:
                spread.learn(taught.spread, taught.last_spread, taught.v)
            self.spike.learn(taught.spikes, taught.points)
        self.waiting.clear()

    def is_suspicious(self) -> bool:
        """Whether a chart is half way to its line."""
        for cusum in (self.slow_up, self.slow_down, self.fast_up, self.fast_down, self.spread):
            if cusum.c > 0.5 * cusum.h:
                return True
        return self.spike.c > 0.5 * self.spike.h

    def has_alarm(self) -> bool:
        return any(alarm.state == "open" for alarm in self.alarms.values())

    def _judge(self, bucket: Bucket, u: float, v: float | None, events: list[AlarmEvent]) -> None:
        first_id, first_us = bucket.first_id, bucket.first_us
        alarms = self.alarms
        shift = alarms.get("SHIFT")
        if shift is not None and shift.state == "open":
            self._follow("SHIFT", shift, bucket, events)
        else:
            # one after the other: a crossing of one must not keep the others from counting
            # what wanders over many buckets weighs on slow evidence, not on a jump
            slow, quick = u / self.shift.inflation, u / self.shift.quick_inflation
            a = self.slow_up.update(slow, first_id, first_us)
            b = self.slow_down.update(-slow, first_id, first_us)
            c = self.fast_up.update(quick, first_id, first_us)
            d = self.fast_down.update(-quick, first_id, first_us)
            if a or b or c or d or shift is not None:
                self._level_crossed(bucket, shift, events)
        spread = alarms.get("SPREAD")
        if spread is not None:
            self._follow("SPREAD", spread, bucket, events)
        elif v is not None and self.spread.update(v / self.scatter.inflation, first_id, first_us):
            self._open("SPREAD", "up", self.spread, bucket, events)
        spike = alarms.get("SPIKE")
        if spike is not None:
            self._follow("SPIKE", spike, bucket, events)
        elif self.spike.update(bucket.spikes, bucket.n, first_id, first_us):
            self._open("SPIKE", "up", self.spike, bucket, events)

    # -- the level, which must also have moved by what matters

    def _level_crossed(self, bucket: Bucket, mark: Alarm | None, events: list[AlarmEvent]) -> None:
        """A crossing opens an alarm, or a mark while the level has moved by less than `min_change`."""
        crossed = [
            (cusum.c / cusum.h, direction, cusum)
            for direction, cusum in (
                ("up", self.slow_up),
                ("down", self.slow_down),
                ("up", self.fast_up),
                ("down", self.fast_down),
            )
            if cusum.c > cusum.h
        ]
        if not crossed:
            # the mark is over when the evidence that made it is gone
            assert mark is not None
            slow = self.slow_up if mark.direction == "up" else self.slow_down
            if slow.c == 0.0:
                del self.alarms["SHIFT"]
                events.append(
                    AlarmEvent("closed", mark.ended("below_min_change", bucket.last_id, bucket.last_us))
                )
            return
        _, direction, cusum = max(crossed, key=lambda one: one[0])
        for cusum_ in (self.slow_up, self.slow_down, self.fast_up, self.fast_down):
            cusum_.c = min(cusum_.c, CEILING * cusum_.h)
        count = max(1, min(JUDGED_LEVELS, self.recent.since(cusum.since_us)))
        moved = self._change(median(self.recent.levels[-count:]))
        sign = 1.0 if direction == "up" else -1.0
        if sign * moved >= self.min_change or self.min_change == 0.0:
            if mark is not None:
                del self.alarms["SHIFT"]
                events.append(
                    AlarmEvent("closed", mark.ended("below_min_change", bucket.last_id, bucket.last_us))
                )
                self._date(cusum)
            self._open("SHIFT", direction, cusum, bucket, events)  # type: ignore[arg-type]
        elif mark is None or mark.direction != direction:
            if mark is not None:
                events.append(
                    AlarmEvent("closed", mark.ended("below_min_change", bucket.last_id, bucket.last_us))
                )
            alarm = self._alarm("SHIFT", direction, cusum, bucket)  # type: ignore[arg-type]
            alarm = dataclasses.replace(alarm, state="below_min_change")
            self.alarms["SHIFT"] = alarm
            events.append(AlarmEvent("opened", alarm))
        else:
            self.alarms["SHIFT"] = self._grown(dataclasses.replace(mark, buckets=mark.buckets + 1), events)

    def _change(self, level: float) -> float:
        """The share by which a level differs from the learnt one."""
        before = self.reference.level
        if self.scale == "log":
            return math.expm1(level - before)
        return (level - before) / max(abs(before), 1e-9)

    def _date(self, cusum: Cusum) -> None:
        """When the level left a small, known shift for a larger one: the split of the recent levels that
        divides them best."""
        recent = self.recent
        levels = recent.levels[-STABLE_AFTER:]
        total, n = sum(levels), len(levels)
        best, at, head = 0.0, n - 1, 0.0
        for i in range(1, n):
            head += levels[i - 1]
            gain = ((total - head) / (n - i) - head / i) ** 2 * i * (n - i)
            if gain > best:
                best, at = gain, i
        cusum.since_id, cusum.since_us = recent.first_ids[at - n], recent.first_us[at - n]

    # -- the life of an alarm

    def _alarm(
        self, detector: Detector, direction: Direction, cusum: Cusum | CountCusum, bucket: Bucket
    ) -> Alarm:
        count = max(1, min(STABLE_AFTER, self.recent.since(cusum.since_us)))
        return self._sized(
            Alarm(
                detector=detector,
                direction=direction,
                state="open",
                change_id=cusum.since_id,
                change_us=cusum.since_us,
                opened_id=bucket.last_id,
                opened_us=bucket.last_us,
                closed_id=None,
                closed_us=None,
                before=0.0,
                after=0.0,
                size_percent=0.0,
                size_low=0.0,
                size_high=0.0,
                sigmas=0.0,
                evidence=cusum.c / cusum.h,
                buckets=count,
                provisional=self.provisional,
            )
        )

    def _open(
        self,
        detector: Detector,
        direction: Direction,
        cusum: Cusum | CountCusum,
        bucket: Bucket,
        events: list[AlarmEvent],
    ) -> None:
        alarm = self._alarm(detector, direction, cusum, bucket)
        self.alarms[detector] = alarm
        events.append(AlarmEvent("opened", alarm))
        if detector == "SHIFT":
            for one in (self.slow_up, self.slow_down, self.fast_up, self.fast_down):
                one.restart()
        else:
            cusum.restart()

    def _sized(self, alarm: Alarm) -> Alarm:
        """The alarm with its size estimated from the buckets since the change."""
        reference, recent = self.reference, self.recent
        count = max(1, min(STABLE_AFTER, len(recent.levels), alarm.buckets))
        if alarm.detector == "SHIFT":
            if alarm.buckets > RECOVERED_AFTER:  # a drift: where it is now, as `min_change` is asked of
                count = min(count, JUDGED_LEVELS)
            after = median(recent.levels[-count:])
            dependence = (1.0 + self.shift.r) / (1.0 - self.shift.r)
            error = (
                MEDIAN_ERROR
                * reference.level_sd
                * math.sqrt(dependence / count + dependence / reference.buckets)
            )
            before_x = reference.level
            low, high = after - CONFIDENCE_Z * error, after + CONFIDENCE_Z * error
            if self.scale == "log":
                shown = math.exp(before_x), math.exp(after)
            else:
                shown = before_x, after
            sizes = [100.0 * self._change(level) for level in (after, low, high)]
            sigmas = sum(recent.us[-count:]) / count
        elif alarm.detector == "SPREAD":
            variance = sum(recent.variances[-count:]) / count
            freedom = sum(n - 1 for n in recent.points[-count:])
            sigmas = sum(recent.spreads[-count:]) / count
            shown = math.sqrt(reference.variance), math.sqrt(variance)
            ratio = math.sqrt(variance / reference.variance)
            error = CONFIDENCE_Z * math.sqrt((0.5 + 0.25 * reference.kurtosis) / max(1, freedom))
            sizes = [100.0 * (r - 1.0) for r in (ratio, ratio * math.exp(-error), ratio * math.exp(error))]
        else:
            events, points = sum(recent.spikes[-count:]), sum(recent.points[-count:])
            rate = events / max(1, points)
            sigmas = 0.0
            shown = self.spike.rate, rate
            error = CONFIDENCE_Z * math.sqrt(self.spike.dispersion / max(1, events))
            ratio = rate / self.spike.rate
            sizes = [100.0 * (r - 1.0) for r in (ratio, ratio * math.exp(-error), ratio * math.exp(error))]
        return dataclasses.replace(
            alarm,
            before=shown[0],
            after=shown[1],
            size_percent=sizes[0],
            size_low=sizes[1],
            size_high=sizes[2],
            sigmas=sigmas,
        )

    def _follow(self, detector: str, alarm: Alarm, bucket: Bucket, events: list[AlarmEvent]) -> None:
        """Look at an open alarm again: is it over, how large is it, is the new level stable?"""
        alarm = dataclasses.replace(alarm, buckets=alarm.buckets + 1)
        since_opened = self.recent.since(alarm.opened_us)
        if since_opened >= RECOVERED_AFTER and self._is_recovered(alarm):
            del self.alarms[detector]
            events.append(AlarmEvent("closed", alarm.ended("recovered", bucket.last_id, bucket.last_us)))
            return
        alarm = self._grown(alarm, events)
        if detector == "SHIFT" and alarm.proposed_us is None and self._is_stable(alarm):
            alarm = dataclasses.replace(alarm, proposed_us=bucket.last_us)
            events.append(AlarmEvent("proposed", alarm))
        self.alarms[detector] = alarm

    def _grown(self, alarm: Alarm, events: list[AlarmEvent]) -> Alarm:
        """The alarm sized again: at first with every bucket, later now and then, and then only if it has grown."""
        if alarm.detector == "SHIFT" and not self._lasts(alarm):
            return alarm
        is_young = alarm.buckets <= RECOVERED_AFTER
        if not is_young and alarm.buckets % JUDGED_LEVELS:
            return alarm
        again = self._sized(alarm)
        sign = 1.0 if alarm.direction == "up" else -1.0
        if not is_young and sign * again.size_percent <= sign * alarm.size_percent:
            return alarm
        events.append(AlarmEvent("grown", again))
        return again

    def _lasts(self, alarm: Alarm) -> bool:
        """Whether the newest level is nearer to the changed than to the learnt one: what came back has no say in
        how far it was."""
        after = math.log(alarm.after) if self.scale == "log" else alarm.after
        half = 0.5 * (self.reference.level + after)
        newest = self.recent.levels[-1]
        return newest > half if alarm.direction == "up" else newest < half

    def _is_recovered(self, alarm: Alarm) -> bool:
        """Whether the last 20 buckets look like the reference rather than like the change."""
        recent = self.recent
        if alarm.detector == "SPIKE":
            points = sum(recent.points[-RECOVERED_AFTER:])
            return (
                sum(recent.spikes[-RECOVERED_AFTER:])
                <= math.sqrt(self.spike.factor) * self.spike.rate * points
            )
        scores = recent.us if alarm.detector == "SHIFT" else recent.spreads
        mean = sum(scores[-RECOVERED_AFTER:]) / RECOVERED_AFTER
        sign = 1.0 if alarm.direction == "up" else -1.0
        return sign * mean < min(SLOW_K, max(0.25, 0.5 * sign * alarm.sigmas))

    def _is_stable(self, alarm: Alarm) -> bool:
        """Whether the last 60 buckets lie since the change and their halves agree."""
        if self.recent.since(alarm.change_us) < STABLE_AFTER:
            return False
        half = STABLE_AFTER // 2
        levels = self.recent.levels[-STABLE_AFTER:]
        first, second = median(levels[:half]), median(levels[half:])
        dependence = (1.0 + self.shift.r) / (1.0 - self.shift.r)
        error = MEDIAN_ERROR * self.reference.level_sd * math.sqrt(2.0 * dependence / half)
        return abs(second - first) < 3.0 * max(error, 0.005 * (1.0 if self.scale == "log" else abs(first)))
