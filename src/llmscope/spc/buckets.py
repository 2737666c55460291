"""Half-minute buckets of normal scores: what the calibrated chart judges. One point at a time, or many.

A bucket is a stretch of the clock. It is complete when an observation of a later one arrives: there is no
timer here. With too few points it is dropped and leaves a gap; real traffic merges it into the next instead.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmscope.spc.scores import ScoreTable, median

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

BUCKET_US = 30_000_000
FEWEST_SPREAD = 4  # points of a bucket whose variance says something
CLIPPED_AT = 3.0  # sigma: in the variance of a bucket; a single spike is for SPIKE, not for SPREAD
# A bucket with few points is a gap, unless what they say explains why they are few: requests that take longer than
# the interval come less often, and the chart must not go blind to the worst of changes. This far out, in standard
# errors of independent scores, chance takes one bucket in 370 of those with few points, of which there are few.
FAR_OUT = 3.0
LATE_BUCKETS = (
    4  # a point that is older than the one before by more of them is no late one: time was turned back
)
MERGED_POINTS = 3  # real traffic: fewer points than this wait for the next bucket


@dataclass(frozen=True, slots=True)
class Cadence:
    """How observations come: `points` to a bucket of `width_us`, at least `least` to judge it.

    `is_traffic` says that they come by themselves, not by a clock: their number varies from bucket to bucket.
    """

    interval_us: int
    width_us: int
    points: int
    least: int
    is_traffic: bool = False

    @classmethod
    def of(cls, interval_us: int, is_traffic: bool = False) -> "Cadence":
        """The buckets for observations that far apart.

        >>> Cadence.of(2_000_000)
        Cadence(interval_us=2000000, width_us=30000000, points=15, least=8, is_traffic=False)
        >>> Cadence.of(60_000_000).points
        1
        """
        interval_us = max(1, interval_us)
        if is_traffic:
            return cls(interval_us, BUCKET_US, max(1, round(BUCKET_US / interval_us)), MERGED_POINTS, True)
        points = max(1, round(BUCKET_US / interval_us))
        return cls(interval_us, points * interval_us, points, (points + 1) // 2)

    @property
    def by_clock(self) -> bool:
        """Whether buckets are stretches of the clock; with one point a bucket each point is its own."""
        return self.points > 1 or self.is_traffic

    @property
    def gap_us(self) -> int:
        """A longer silence interrupts patterns and dependence."""
        return 3 * (max(self.width_us, self.interval_us) if self.is_traffic else self.interval_us)


class Bucket(NamedTuple):
    """The points of one bucket, as the chart sees them."""

    n: int
    score: float  # mean normal score
    variance: float  # of the innovations; 0 for one point
    spikes: int  # innovations that far above the mean of their bucket
    level: float  # median of the values, on the chart's scale
    follows: bool  # whether the bucket before it was complete
    first_id: int
    first_us: int
    last_id: int
    last_us: int


class Buckets(NamedTuple):
    """Many buckets as columns, shape (n,) each; the fields of Bucket."""

    n: Integers
    score: Floats
    variance: Floats
    spikes: Integers
    level: Floats
    follows: npt.NDArray[np.bool_]
    first_id: Integers
    first_us: Integers
    last_id: Integers
    last_us: Integers

    @classmethod
    def of(cls, buckets: Sequence[Bucket]) -> "Buckets":
        columns = zip(*buckets, strict=True) if buckets else [()] * len(cls._fields)
        return cls._make(np.array(c, dtype) for c, dtype in zip(columns, _DTYPES, strict=True))

    @classmethod
    def joined(cls, parts: "Sequence[Buckets]") -> "Buckets":
        return cls._make(np.concatenate(columns) for columns in zip(*parts, strict=True))

    @property
    def size(self) -> int:
        return len(self.score)

    def part(self, start: int, stop: int) -> "Buckets":
        return Buckets._make(column[start:stop] for column in self)

    def one(self, i: int) -> Bucket:
        return Bucket._make(column[i].item() for column in self)


_DTYPES = (np.int64, np.float64, np.float64, np.int64, np.float64, np.bool_, *[np.int64] * 4)


@dataclass(slots=True)
class Collector:
    """Gathers points into buckets.

    A point that is a little late goes into the open bucket. One that lies further back (a clock was
    turned back, or a day is delivered late) ends it, and buckets are counted from there.

    An innovation is what a score adds to the one before: (s - phi s') / sqrt(1 - phi^2). A spike is one that
    lies `spike_at` above the mean of its bucket, so that a level that moves makes no spikes; with fewer than 4
    points a bucket, above zero.
    """

    table: ScoreTable
    cadence: Cadence
    phi: float
    spike_at: float

    values: list[float] = field(default_factory=list)
    scores: float = 0.0
    innovations: list[float] = field(default_factory=list)
    slot: int = -2  # of the open bucket, counted from 1970
    done_slot: int = -9  # of the last complete one
    follows: bool = False
    first_id: int = 0
    first_us: int = 0
    last_id: int = 0
    last_us: int = -(2**62)
    last_score: float | None = None
    scale: float = field(init=False)
    _gap_us: int = field(init=False)  # of the cadence, at hand: every point asks
    _by_clock: bool = field(init=False)

    def __post_init__(self) -> None:
        self.scale = 1.0 / math.sqrt(1.0 - self.phi * self.phi)
        self._gap_us, self._by_clock = self.cadence.gap_us, self.cadence.by_clock

    def add(self, value: float, row_id: int, time_us: int) -> Bucket | None:
        """Take a point; the bucket that it completes, if it does."""
        cadence = self.cadence
        done: Bucket | None = None
        is_turned_back = self.last_us - time_us > LATE_BUCKETS * cadence.width_us
        if is_turned_back or time_us - self.last_us > self._gap_us:
            self.last_score = None
        last = self.last_score
        slot = time_us // cadence.width_us if self._by_clock else self.slot + (2 if last is None else 1)
        if slot > self.slot or is_turned_back:
            if self.values:
                done = self._complete()
            if not self.values:
                self.follows = slot - self.done_slot == 1 or (
                    cadence.is_traffic and last is not None and self.done_slot >= 0
                )
                self.first_id, self.first_us = row_id, time_us
            self.slot = slot
        score = self.table.score(value)
        innovation = score if last is None else (score - self.phi * last) * self.scale
        self.values.append(value)
        self.scores += score
        self.innovations.append(innovation)
        self.last_score = score
        self.last_id, self.last_us = row_id, time_us
        return done

    def _complete(self) -> Bucket | None:
        """The open bucket, emptied; None when it has too few points, which traffic keeps for the next."""
        n = len(self.values)
        bucket: Bucket | None = None
        is_far = not self.cadence.is_traffic and abs(self.scores) >= FAR_OUT * math.sqrt(n)
        if n >= self.cadence.least or is_far:
            total = sum(self.innovations)
            clipped = self.innovations
            if max(clipped) > CLIPPED_AT or min(clipped) < -CLIPPED_AT:
                clipped = [max(-CLIPPED_AT, min(CLIPPED_AT, innovation)) for innovation in clipped]
            sum_, squares = sum(clipped), sum([c * c for c in clipped])
            spike_at = self.spike_at + (total / n if self.cadence.points >= FEWEST_SPREAD else 0.0)
            bucket = Bucket(
                n,
                self.scores / n,
                max(0.0, squares - sum_ * sum_ / n) / (n - 1) if n > 1 else 0.0,
                len([1 for innovation in self.innovations if innovation > spike_at]),
                median(self.values),
                self.follows,
                self.first_id,
                self.first_us,
                self.last_id,
                self.last_us,
            )
            self.done_slot = self.slot
        elif self.cadence.is_traffic and self.last_score is not None:
            return None
        self.values = []
        self.innovations = []
        self.scores = 0.0
        return bucket

    def add_many(self, values: Floats, ids: Integers, times_us: Integers) -> Buckets:
        """Take many points in order of arrival: the same buckets as one by one, to the last bits of rounding."""
        n = len(values)
        if n < 2 or not self.cadence.by_clock or self._is_turned_back(times_us):
            return self._add_each(values, ids, times_us)
        slots = np.maximum(np.maximum.accumulate(times_us // self.cadence.width_us), self.slot)
        edges = np.flatnonzero(slots[1:] > slots[:-1]) + 1
        if len(edges) < 4:
            return self._add_each(values, ids, times_us)
        start, stop = int(edges[0]), int(edges[-1])
        if self.cadence.is_traffic and not self._is_plain(times_us, slots[edges], np.diff(edges)):
            return self._add_each(values, ids, times_us)
        head = self._add_each(values[:start], ids[:start], times_us[:start])
        last = self._complete() if self.values else None
        whole = self._whole(values, ids, times_us, slots, edges)
        tail = self._add_each(values[stop:n], ids[stop:n], times_us[stop:n])
        return Buckets.joined([head, Buckets.of([last] if last else []), whole, tail])

    def _is_turned_back(self, times_us: Integers) -> bool:
        """Whether the clock of these points goes back by more than what comes late."""
        return bool((np.diff(times_us, prepend=self.last_us) < -LATE_BUCKETS * self.cadence.width_us).any())

    def _is_plain(self, times_us: Integers, slots: Integers, counts: Integers) -> bool:
        """Whether traffic leaves no bucket short and none out, so that nothing is merged."""
        steps = np.diff(times_us, prepend=self.last_us)
        busy = bool((counts >= self.cadence.least).all() and (np.diff(slots) == 1).all())
        return busy and bool((steps[1:] <= self.cadence.gap_us).all()) and len(self.values) >= MERGED_POINTS

    def _add_each(self, values: Floats, ids: Integers, times_us: Integers) -> Buckets:
        points = zip(values.tolist(), ids.tolist(), times_us.tolist(), strict=True)
        return Buckets.of([bucket for point in points if (bucket := self.add(*point)) is not None])

    def _whole(
        self, values: Floats, ids: Integers, times_us: Integers, slots: Integers, edges: Integers
    ) -> Buckets:
        """The buckets between the first and the last of these edges."""
        start, stop = int(edges[0]), int(edges[-1])
        x, times = values[start:stop], times_us[start:stop]
        scores = self.table.scores(x)
        before = np.empty_like(scores)
        before[1:] = scores[:-1]
        joined = np.empty(len(x), bool)
        np.less_equal(np.diff(times), self.cadence.gap_us, out=joined[1:])
        joined[0] = self.last_score is not None and times[0] - self.last_us <= self.cadence.gap_us
        before[0] = self.last_score if self.last_score is not None else 0.0
        innovations = np.where(joined, (scores - self.phi * before) * self.scale, scores)

        firsts = edges[:-1] - start
        counts = np.diff(edges)
        lasts = firsts + counts - 1
        clipped = np.clip(innovations, -CLIPPED_AT, CLIPPED_AT)
        sums = np.add.reduceat(clipped, firsts)
        squares = np.add.reduceat(clipped * clipped, firsts)
        above = innovations
        if self.cadence.points >= FEWEST_SPREAD:
            above = innovations - np.repeat(np.add.reduceat(innovations, firsts) / counts, counts)
        spikes = np.add.reduceat((above > self.spike_at).astype(np.int64), firsts)
        means = np.add.reduceat(scores, firsts) / counts
        with np.errstate(invalid="ignore", divide="ignore"):
            variances = np.maximum(0.0, squares - sums * sums / counts) / (counts - 1)
        variances[counts == 1] = 0.0
        levels = _medians(x, firsts, counts)
        whole = counts >= self.cadence.least
        if not self.cadence.is_traffic:
            whole |= np.abs(means) * np.sqrt(counts) >= FAR_OUT
        its_slots = slots[edges[:-1]]
        done_before = np.empty(len(whole), np.int64)
        done_before[0] = self.done_slot
        np.maximum.accumulate(np.where(whole, its_slots, -9)[:-1], out=done_before[1:])
        np.maximum(done_before, self.done_slot, out=done_before)
        follows = its_slots - done_before == 1
        chosen = np.flatnonzero(whole)
        f, last = firsts[chosen] + start, lasts[chosen] + start
        done = Buckets(
            counts[chosen],
            means[chosen],
            variances[chosen],
            spikes[chosen],
            levels[chosen],
            follows[chosen],
            ids[f],
            times_us[f],
            ids[last],
            times_us[last],
        )
        if len(chosen):
            self.done_slot = int(its_slots[chosen[-1]])
        self.slot = int(its_slots[-1])
        self.last_score = float(scores[-1])
        self.last_id, self.last_us = int(ids[stop - 1]), int(times_us[stop - 1])
        return done


def _medians(values: Floats, firsts: Integers, counts: Integers) -> Floats:
    """The median of each bucket, buckets of one size together."""
    medians = np.empty(len(firsts))
    for count in np.unique(counts).tolist():
        of_size = np.flatnonzero(counts == count)
        grid = values[firsts[of_size][:, None] + np.arange(count)]
        grid.partition((count - 1) // 2 if count % 2 else (count // 2 - 1, count // 2), axis=1)
        medians[of_size] = 0.5 * (grid[:, (count - 1) // 2] + grid[:, count // 2])
    return medians
