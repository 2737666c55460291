"""From signals to episodes: one violation for one stretch of a broken rule, opened, grown and closed.

`Marks` runs the rules of one chart over its standardised values, one by one or many at once, and keeps the
episodes; `spans` finds them in a whole array.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from llmscope.spc.rules import LONGEST, Rule
from llmscope.spc.scan import scan

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Signs = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]

MERGED_GAP = 2  # judged points without the signal that do not end an episode
ChartName = Literal["points", "buckets"]
SAME_PEAK = 1e-9  # sigma: peaks that only rounding tells apart are one, and the first stays
NO_SIDE = ("R4", "R7", "R8")
_SIDES = {"R3": {1: "up", -1: "down"}}
_BOTH = {1: "above", -1: "below"}
_EITHER = {1: "either", -1: "either"}


def side_of(rule: str, sign: int) -> str:
    """The name of a side, as the streaming rules say it.

    >>> side_of("R3", -1), side_of("R1", 1), side_of("R7", 1)
    ('down', 'above', 'either')
    """
    if rule in NO_SIDE:
        return _EITHER[sign]
    return _SIDES.get(rule, _BOTH)[sign]


def sign_of(side: str) -> int:
    """-1 below or down, 1 otherwise."""
    return -1 if side in ("below", "down") else 1


@dataclass(frozen=True, slots=True)
class Frozen:
    """The chart as it was when a rule was first broken; values in the metric's unit."""

    centre: float
    sigma: float
    ucl: float
    lcl: float
    n: int
    mean: float | None
    std: float | None
    provisional: bool


@dataclass(frozen=True, slots=True)
class Episode:
    """One rule broken on one side over one stretch. Values in the metric's unit.

    What was known at the first signal never changes; `last_signal`, `count`, `peak` and `open` follow.
    """

    rule: str
    side: str
    pattern_start_id: int
    pattern_start_us: int
    first_signal_id: int
    first_signal_us: int
    last_signal_id: int
    last_signal_us: int
    open: bool
    count: int
    peak_z: float
    peak_value: float
    peak_id: int
    value: float
    centre: float
    sigma: float
    ucl: float
    lcl: float
    n: int
    mean: float | None
    std: float | None
    provisional: bool
    chart: ChartName = "points"


@dataclass(frozen=True, slots=True)
class EpisodeEvent:
    """What happened to an episode at a point."""

    kind: Literal["opened", "grown", "closed"]
    episode: Episode


Judged = tuple[float, int, int]
"""A judged value that a pattern may reach back to: z, and the id and time of the first observation it stands for."""


class Marks:
    """The rules of one chart and their episodes."""

    def __init__(self, chart: ChartName, rules: Sequence[Rule]) -> None:
        self.chart = chart
        self.rules = tuple(rules)
        self.tail: deque[Judged] = deque(maxlen=LONGEST)  # since the rules were restarted
        self.open: dict[tuple[str, str], Episode] = {}
        self.judged = 0  # values so far
        self._last: dict[tuple[str, str], int] = {}  # `judged` at the last signal of each open episode
        self._updates = tuple((rule.name, rule.update) for rule in self.rules)

    def update(
        self,
        z: float,
        value: float,
        first_id: int,
        first_us: int,
        last_id: int,
        last_us: int,
        frozen: Callable[[], Frozen],
        events: list[EpisodeEvent],
    ) -> tuple[tuple[str, str], ...]:
        """Judge one value that stands for the observations from the first to the last named.

        Returns the broken rules and their sides; what happened to episodes is added to `events`.
        """
        self.judged += 1
        self.tail.append((z, first_id, first_us))
        broken: tuple[tuple[str, str], ...] = ()
        for name, update in self._updates:
            side = update(z)
            if side is not None:
                broken = (*broken, (name, side))
        for key in broken:
            self._signal(key, z, value, last_id, last_us, frozen, events)
        if self.open:
            self._close_quiet(events)
        return broken

    def update_many(
        self,
        zs: Floats,
        values: Floats,
        first_ids: Integers,
        first_us: Integers,
        last_ids: Integers,
        last_us: Integers,
        breaks: Bools,
        frozen: Callable[[int], Frozen],
        events: list[EpisodeEvent],
    ) -> dict[str, Signs]:
        """Judge many values; `breaks[i]` is a gap before value i, `frozen(i)` the chart at it. The signals of
        each rule, shape (n,).

        An episode that opens is told once, as it is at the end of these values, perhaps closed already.
        """
        n = len(zs)
        if n == 0:
            return {}
        held = len(self.tail)
        joined = np.concatenate([[z for z, _, _ in self.tail], zs]) if held else zs
        gaps = np.concatenate([np.zeros(held, bool), breaks]) if held else breaks
        found = {name: signs[held:] for name, signs in scan(joined, self.rules, gaps).items()}
        begins = np.maximum.accumulate(np.where(breaks, np.arange(n), -held))
        first_break = int(np.argmax(breaks)) if begins[-1] >= 0 else n
        tail = list(self.tail)
        before = self.judged
        self.judged = before + n
        told: list[tuple[int, EpisodeEvent]] = []
        for rule in self.rules:
            signs = found[rule.name]
            for sign in (1,) if rule.name in NO_SIDE else (1, -1):
                at = np.flatnonzero(signs == sign)
                key = (rule.name, side_of(rule.name, sign))
                if key in self.open:
                    at = self._continue(key, at, zs, values, last_ids, last_us, before, first_break, told)
                for rows in _groups(at, begins):
                    first, last = int(rows[0]), int(rows[-1])
                    start = max(first - rule.points + 1, int(begins[first]))
                    began = (
                        tail[held + start]
                        if start < 0
                        else (0.0, int(first_ids[start]), int(first_us[start]))
                    )
                    peak = _furthest(rows, zs) if len(rows) > 1 else first
                    episode = self._opened(
                        key,
                        float(zs[peak]),
                        float(values[first]),
                        (int(last_ids[first]), int(last_us[first])),
                        began,
                        frozen(first),
                        last=(int(last_ids[last]), int(last_us[last])),
                        count=len(rows),
                        peak=(float(values[peak]), int(last_ids[peak])),
                        is_open=n - last <= MERGED_GAP + 1 and int(begins[-1]) <= last,
                    )
                    told.append((first, EpisodeEvent("opened", episode)))
                    if episode.open:
                        self.open[key] = episode
                        self._last[key] = before + last + 1
        told.sort(key=lambda one: one[0])
        events += [event for _, event in told]
        self._take_tail(zs, first_ids, first_us, int(begins[-1]))
        return found

    def _continue(
        self,
        key: tuple[str, str],
        at: Integers,
        zs: Floats,
        values: Floats,
        ids: Integers,
        times_us: Integers,
        before: int,
        first_break: int,
        told: list[tuple[int, EpisodeEvent]],
    ) -> Integers:
        """Let the signals that still belong to an open episode join it; the others, for new ones."""
        last = self._last[key] - before - 1  # its position, below zero
        mine = 0
        while mine < len(at) and at[mine] - last <= MERGED_GAP + 1 and at[mine] < first_break:
            last = int(at[mine])
            mine += 1
        episode = self.open[key]
        if mine:
            rows = at[:mine]
            peak = _furthest(rows, zs)
            further = abs(zs[peak]) > abs(episode.peak_z) + SAME_PEAK
            episode = dataclasses.replace(
                episode,
                last_signal_id=int(ids[last]),
                last_signal_us=int(times_us[last]),
                count=episode.count + mine,
                peak_z=float(zs[peak]) if further else episode.peak_z,
                peak_value=float(values[peak]) if further else episode.peak_value,
                peak_id=int(ids[peak]) if further else episode.peak_id,
            )
            self.open[key] = episode
            self._last[key] = before + last + 1
            told.append((last, EpisodeEvent("grown", episode)))
        if len(zs) - last > MERGED_GAP + 1 or first_break < len(zs):
            closed: list[EpisodeEvent] = []
            self._close(key, closed)
            told.append((max(last, 0), closed[0]))
        return at[mine:]

    def _take_tail(self, zs: Floats, first_ids: Integers, first_us: Integers, begins: int) -> None:
        """Bring the streaming rules to where the many values end."""
        n = len(zs)
        first = max(begins, n - LONGEST)
        if begins >= 0:
            self.tail.clear()
        for i in range(max(0, first), n):
            self.tail.append((float(zs[i]), int(first_ids[i]), int(first_us[i])))
        self.recall(self.tail)

    def recall(self, tail: Iterable[Judged]) -> None:
        """Bring the rules to the state after these values, which were judged before."""
        self.tail = deque(tail, maxlen=LONGEST)
        for rule in self.rules:
            rule.restart()
            for z, _, _ in self.tail:
                rule.update(z)

    def restart(self, events: list[EpisodeEvent]) -> None:
        """At a gap, an excluded point or new limits: close what is open, forget what the rules remember."""
        self._close_all(events)
        for rule in self.rules:
            rule.restart()
        self.tail.clear()

    def resume(self, episodes: Iterable[Episode], quiet: dict[tuple[str, str], int]) -> None:
        """Take over open episodes, each with the judged values since its last signal."""
        for episode in episodes:
            key = (episode.rule, episode.side)
            self.open[key] = episode
            self._last[key] = self.judged - quiet.get(key, 0)

    def quiet(self) -> dict[tuple[str, str], int]:
        """Judged values since the last signal of each open episode."""
        return {key: self.judged - last for key, last in self._last.items()}

    def _close_all(self, events: list[EpisodeEvent]) -> None:
        for key in list(self.open):
            self._close(key, events)

    def _close_quiet(self, events: list[EpisodeEvent]) -> None:
        """Close the episodes whose last signal lies more than two values back."""
        for key, last in list(self._last.items()):
            if self.judged - last > MERGED_GAP:
                self._close(key, events)

    def _close(self, key: tuple[str, str], events: list[EpisodeEvent]) -> None:
        episode = dataclasses.replace(self.open.pop(key), open=False)
        del self._last[key]
        events.append(EpisodeEvent("closed", episode))

    def _signal(
        self,
        key: tuple[str, str],
        z: float,
        value: float,
        row_id: int,
        time_us: int,
        frozen: Callable[[], Frozen],
        events: list[EpisodeEvent],
    ) -> None:
        """A broken rule at the value just judged: an episode grows or opens."""
        self._last[key] = self.judged
        known = self.open.get(key)
        if known is not None:
            further = abs(z) > abs(known.peak_z) + SAME_PEAK
            episode = dataclasses.replace(
                known,
                last_signal_id=row_id,
                last_signal_us=time_us,
                count=known.count + 1,
                peak_z=z if further else known.peak_z,
                peak_value=value if further else known.peak_value,
                peak_id=row_id if further else known.peak_id,
            )
            self.open[key] = episode
            events.append(EpisodeEvent("grown", episode))
            return
        points = next(rule.points for rule in self.rules if rule.name == key[0])
        began = self.tail[-min(points, len(self.tail))]
        here = (row_id, time_us)
        episode = self._opened(key, z, value, here, began, frozen(), here, 1, (value, row_id))
        self.open[key] = episode
        events.append(EpisodeEvent("opened", episode))

    def _opened(
        self,
        key: tuple[str, str],
        peak_z: float,
        value: float,
        first: tuple[int, int],
        began: Judged,
        now: Frozen,
        last: tuple[int, int],
        count: int,
        peak: tuple[float, int],
        is_open: bool = True,
    ) -> Episode:
        return Episode(
            key[0],
            key[1],
            *began[1:],
            *first,
            *last,
            is_open,
            count,
            peak_z,
            *peak,
            value,
            now.centre,
            now.sigma,
            now.ucl,
            now.lcl,
            now.n,
            now.mean,
            now.std,
            now.provisional,
            self.chart,
        )


def _furthest(rows: Integers, zs: Floats) -> int:
    """The first of these rows that lies as far out as any."""
    away = np.abs(zs[rows])
    return int(rows[np.argmax(away >= away.max() - SAME_PEAK)])


def _groups(at: Integers, begins: Integers) -> list[Integers]:
    """Signalled positions in groups that are one episode: gaps of at most two, no break between."""
    if len(at) == 0:
        return []
    new = (np.diff(at) > MERGED_GAP + 1) | (begins[at[1:]] != begins[at[:-1]])
    return np.split(at, np.flatnonzero(new) + 1)


@dataclass(frozen=True, slots=True)
class Span:
    """An episode by row number."""

    rule: str
    side: str
    pattern_start: int
    first_signal: int
    last_signal: int
    count: int
    peak_z: float
    open: bool


def spans(
    rule: str, signals: Signs, zs: Floats, pattern_length: int, breaks: Bools | None = None
) -> list[Span]:
    """The episodes of one rule in its signals, shape (n,), as `scan` gives them; a NaN in `zs` is a gap."""
    n = len(signals)
    absent = np.isnan(zs)
    restart = absent.copy()
    if n:
        restart[1:] |= absent[:-1]
    if breaks is not None:
        restart |= breaks
    begins = np.maximum.accumulate(np.where(restart, np.arange(n), 0))
    found: list[Span] = []
    for sign in (1, -1):
        at = np.flatnonzero(signals == sign)
        for rows in _groups(at, begins):
            peak = _furthest(rows, zs)
            start = max(int(rows[0]) - pattern_length + 1, int(begins[rows[0]]))
            is_open = (
                n - 1 - int(rows[-1]) <= MERGED_GAP and begins[n - 1] == begins[rows[-1]] and not absent[-1]
            )
            found.append(
                Span(
                    rule,
                    side_of(rule, sign),
                    start,
                    int(rows[0]),
                    int(rows[-1]),
                    len(rows),
                    float(zs[peak]),
                    bool(is_open),
                )
            )
    return sorted(found, key=lambda span: span.first_signal)
