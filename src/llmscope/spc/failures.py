"""The chart of failures: a p chart of half-minute shares, and the FAILURES detector on every observation.

A failure never is part of a latency; it is counted here. In control there may be none at all for weeks, so the
rate is learnt as a count with half an event of prior knowledge, and the detector says when failures come faster
than that allows.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmscope.spc.alarms import Alarm, AlarmEvent
from llmscope.spc.buckets import BUCKET_US
from llmscope.spc.calibration import DAY_US, Budget
from llmscope.spc.detectors import CountCusum

FACTOR = 4.0  # the increase of the rate that it is best at
FEWEST_FAILURES = 2  # one failure alone is not an incident
RECOVERED_AFTER = 30  # good observations in a row: a minute at one every 2 s
GUARANTEE_AFTER = 300  # observations before the first alarm but for an outage
LEARNT_FROM = 43_200  # observations, a day at one every 2 s: then the rate is fixed
SUSPICIOUS = 0.5  # of the decision line
OUTAGE = 5  # failures in a row that need no statistics


@dataclass(slots=True)
class FailureChart:
    """Failures of one series. `interval_us` between observations is learnt as it goes."""

    budget: Budget
    cusum: CountCusum = dataclasses.field(default_factory=lambda: CountCusum(FACTOR, 1.0))
    observed: int = 0
    first_us: int = 0
    failed_in_row: int = 0
    good_in_row: int = 0
    failures_since: int = 0  # of the change
    observed_since: int = 0
    alarm: Alarm | None = None
    waiting: int = 0  # observations under suspicion, which are learnt when it passes, and failures among them
    waiting_failed: int = 0

    def update(self, failed: bool, row_id: int, time_us: int) -> list[AlarmEvent]:
        """Count one observation; what happened to the alarm."""
        if self.observed == 0:
            self.first_us = time_us
        self.observed += 1
        self.failed_in_row = self.failed_in_row + 1 if failed else 0
        self.good_in_row = 0 if failed else self.good_in_row + 1
        if self.budget.alarms_per_day is None:
            return []
        if self.alarm is not None:
            return self._follow(failed, row_id, time_us)
        cusum = self.cusum
        if cusum.c == 0.0:
            self.failures_since = self.observed_since = 0
        self.failures_since += failed
        self.observed_since += 1
        cusum.h = self._line(time_us)
        crossed = cusum.update(int(failed), 1, row_id, time_us)
        enough = self.failures_since >= FEWEST_FAILURES and self.observed >= GUARANTEE_AFTER
        if failed and ((crossed and enough) or self.failed_in_row >= OUTAGE):
            return self._open(row_id, time_us)
        if self.observed <= LEARNT_FROM:
            self.waiting += 1
            self.waiting_failed += failed
            if cusum.c <= SUSPICIOUS * cusum.h:
                self._learn_waiting()
        return []

    def _learn_waiting(self) -> None:
        self.cusum.learn(self.waiting_failed, self.waiting)
        self.waiting = self.waiting_failed = 0

    def update_many(
        self,
        failed: npt.NDArray[np.bool_],
        ids: npt.NDArray[np.int64],
        times_us: npt.NDArray[np.int64],
    ) -> list[AlarmEvent]:
        """Count many observations, as one by one; while nothing fails, all at once."""
        events: list[AlarmEvent] = []
        at, n = 0, len(failed)
        while at < n:
            good = int(np.argmax(failed[at:])) if failed[at:].any() else n - at
            if good > 1 and self.alarm is None and self.cusum.c == 0.0 and self.observed > 0:
                self._count_good(good, int(ids[at + good - 1]), int(times_us[at + good - 1]))
                at += good
                continue
            events += self.update(bool(failed[at]), int(ids[at]), int(times_us[at]))
            at += 1
        return events

    def _count_good(self, n: int, row_id: int, time_us: int) -> None:
        """Good observations with no evidence before them: the CUSUM stays at zero."""
        learnt = max(0, min(n, LEARNT_FROM - self.observed))
        last_learnt = int(learnt == n)  # after its line is drawn
        self.observed += n
        self.failed_in_row = 0
        self.good_in_row += n
        if self.budget.alarms_per_day is None:
            return
        cusum = self.cusum
        cusum.opportunities += learnt - last_learnt
        cusum.h = self._line(time_us)
        cusum.opportunities += last_learnt
        cusum.since_id, cusum.since_us = row_id, time_us
        self.failures_since, self.observed_since = 0, 1

    def _line(self, time_us: int) -> float:
        """h at which chance crosses as often as the budget allows.

        Only a failure can cross, and the likelihood ratio passes e^h after a given one with chance e^-h at most
        (Lorden 1971): so h is the logarithm of how many failures chance brings in the time of one false alarm.
        """
        assert self.budget.alarms_per_day is not None
        interval_us = max(1.0, (time_us - self.first_us) / max(1, self.observed - 1))
        failures = self.cusum.rate * DAY_US / interval_us / self.budget.alarms_per_day
        return max(math.log(max(failures, 1.0)), math.log(FACTOR))

    def _open(self, row_id: int, time_us: int) -> list[AlarmEvent]:
        self.waiting = self.waiting_failed = 0  # what the alarm is about is not normal
        share = self.failures_since / max(1, self.observed_since)
        change = self.cusum
        self.alarm = self._sized(
            Alarm(
                detector="FAILURES",
                direction="up",
                state="open",
                change_id=change.since_id,
                change_us=change.since_us,
                opened_id=row_id,
                opened_us=time_us,
                closed_id=None,
                closed_us=None,
                before=self.cusum.rate,
                after=share,
                size_percent=0.0,
                size_low=0.0,
                size_high=0.0,
                sigmas=0.0,
                evidence=change.c / change.h,
                buckets=self.observed_since,
                provisional=self.observed < GUARANTEE_AFTER,
            )
        )
        return [AlarmEvent("opened", self.alarm)]

    def _follow(self, failed: bool, row_id: int, time_us: int) -> list[AlarmEvent]:
        assert self.alarm is not None
        self.failures_since += failed
        self.observed_since += 1
        if self.good_in_row >= RECOVERED_AFTER:
            closed = self.alarm.ended("recovered", row_id, time_us)
            self.alarm = None
            self.cusum.restart()
            return [AlarmEvent("closed", closed)]
        if not failed:
            return []
        self.alarm = self._sized(
            dataclasses.replace(
                self.alarm, after=self.failures_since / self.observed_since, buckets=self.observed_since
            )
        )
        return [AlarmEvent("grown", self.alarm)]

    def _sized(self, alarm: Alarm) -> Alarm:
        """Failures are told in percentage points: the share of observations that failed."""
        n, p = max(1, self.observed_since), alarm.after
        low, high = wilson(self.failures_since, n)
        return dataclasses.replace(
            alarm,
            size_percent=100.0 * (p - alarm.before),
            size_low=100.0 * (low - alarm.before),
            size_high=100.0 * (high - alarm.before),
        )


def wilson(events: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share.

    >>> [round(end, 3) for end in wilson(5, 50)]
    [0.043, 0.214]

    Source: E. B. Wilson, Journal of the American Statistical Association 22, 1927, p. 209-212.
    """
    p, square = events / n, z * z / n
    middle = (p + square / 2.0) / (1.0 + square)
    half = z * math.sqrt(p * (1.0 - p) / n + square / (4.0 * n)) / (1.0 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class PChart:
    """Shares of failures by half minute: columns of shape (n,), and limits that vary with the number seen."""

    times_us: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]
    failed: npt.NDArray[np.int64]
    centre: float
    ucl: npt.NDArray[np.float64]


def p_chart(times_us: npt.NDArray[np.int64], failed: npt.NDArray[np.bool_], rate: float) -> PChart:
    """The p chart of observations in order of time, against a learnt rate; three sigma, LCL 0."""
    slots = times_us // BUCKET_US
    starts = np.flatnonzero(np.diff(slots, prepend=-1)) if len(slots) else np.empty(0, np.int64)
    seen = np.diff(np.append(starts, len(slots)))
    count = np.add.reduceat(failed.astype(np.int64), starts) if len(starts) else np.empty(0, np.int64)
    return PChart(slots[starts] * BUCKET_US, seen, count, rate, p_limit(rate, seen))


def p_limit(rate: float, seen: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Three sigma above the rate, by the number seen."""
    return np.minimum(1.0, rate + 3.0 * np.sqrt(rate * (1.0 - rate) / np.maximum(1, seen)))
