"""The control chart of one metric of one series: learns its limits, judges each value, reports episodes.

Pure: `update` decides from what it was given and what it remembers; it does not log, store or read a clock.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from llmscope.spc.baseline import LEARN_N, PROVISIONAL_AT, Baseline, Scale, fit
from llmscope.spc.episodes import MERGED_GAP, Episode, EpisodeEvent
from llmscope.spc.rules import RULES

GAP_INTERVALS = 3  # a longer silence restarts the rules
RECENT_N = 60  # judged values whose mean and standard deviation are frozen into an episode
FAR_FUTURE_US = 2**62
ON_THE_LINE = 1e-9  # sigma; closer than rounding can tell on which side of the centre line a value lies
HISTORY_N = 16  # recent points whose id and time are kept, to say where a pattern began


class Verdict(NamedTuple):
    """What the chart says of one value. `z` is None when it was not judged."""

    z: float | None
    rules: tuple[tuple[str, str], ...] = ()  # (rule, side)
    events: tuple[EpisodeEvent, ...] = ()
    baseline: Baseline | None = None  # only when this value completed a fit


NOT_JUDGED = Verdict(None)


class ControlChart:
    """Baseline and rules of one metric of one series.

    Learns from good values: provisional limits at 20, 40 and 80, frozen ones at 150. The value that completes
    a fit is itself judged by the limits before. New limits close what is open and restart the rules.
    """

    def __init__(self, scale: Scale, baseline: Baseline | None = None) -> None:
        self.scale = scale
        self.baseline: Baseline | None = None
        self._centre = self._sigma = 0.0
        self._gap_us = 0
        self._is_frozen = False
        if baseline is not None:
            self._judge_by(baseline)
        self.learned_n = LEARN_N if baseline is not None and baseline.state == "frozen" else 0
        self._values: list[float] = []
        self._times_us: list[int] = []
        self._rules = tuple(rule() for rule in RULES)
        self._history: deque[tuple[int, int]] = deque(maxlen=HISTORY_N)
        self._recent: deque[float] = deque(maxlen=RECENT_N)
        self._last_us = FAR_FUTURE_US  # before the first value: no gap can be seen
        self._open: dict[tuple[str, str], Episode] = {}
        self._quiet: dict[tuple[str, str], int] = {}

    @property
    def state(self) -> Literal["learning", "provisional", "frozen"]:
        return "learning" if self.baseline is None else self.baseline.state

    def recall(self, value: float | None, time_us: int) -> None:
        """Note a value from before the limits in force, without judging it: for replay after a restart."""
        if value is not None and (value > 0.0 or self.scale == "linear"):
            self._last_us = time_us
            self._recent.append(value)

    def resume(self, episodes: Iterable[Episode]) -> None:
        """Take over the episodes that were open at the end of a replay.

        The replay may have begun in the middle of one and so have seen another beginning; how many quiet
        points it has had since its last signal, the replay knows.
        """
        self._open = {(episode.rule, episode.side): episode for episode in episodes}

    def update(self, value: float | None, row_id: int, time_us: int) -> Verdict:
        """Judge one value in the metric's unit; None, or one that the scale cannot show, is passed over."""
        if value is None:
            return NOT_JUDGED
        if self.scale == "log":
            if value <= 0.0:
                return NOT_JUDGED
            x = math.log(value)
        else:
            x = value
        baseline = self.baseline
        if baseline is None:
            self._last_us = time_us
            self._recent.append(value)
            return Verdict(None, baseline=self._learn(x, time_us, []))
        events: list[EpisodeEvent] | None = None
        if time_us - self._last_us > self._gap_us:
            self._restart(events := [])
        z = (x - self._centre) / self._sigma
        if -ON_THE_LINE < z < ON_THE_LINE:
            z = 0.0
        self._history.append((row_id, time_us))
        broken: tuple[tuple[str, str], ...] = ()
        for rule in self._rules:
            side = rule.update(z)
            if side is not None:
                broken = (*broken, (rule.name, side))
        if broken or self._open:
            events = [] if events is None else events
            self._follow(broken, value, z, row_id, time_us, baseline, events)
        self._last_us = time_us
        self._recent.append(value)
        if self._is_frozen:
            return Verdict(z, broken, tuple(events)) if events else Verdict(z, broken)
        events = [] if events is None else events
        fitted = self._learn(x, time_us, events)
        return Verdict(z, broken, tuple(events), fitted)

    def _judge_by(self, baseline: Baseline) -> None:
        """Take over limits; the numbers that every value needs are kept at hand."""
        self.baseline = baseline
        self._centre, self._sigma = baseline.centre, baseline.sigma
        self._gap_us = GAP_INTERVALS * baseline.interval_us
        self._is_frozen = baseline.state == "frozen"

    def _learn(self, x: float, time_us: int, events: list[EpisodeEvent]) -> Baseline | None:
        self._values.append(x)
        self._times_us.append(time_us)
        self.learned_n = n = len(self._values)
        if n != LEARN_N and n not in PROVISIONAL_AT:
            return None
        state: Literal["provisional", "frozen"] = "frozen" if n == LEARN_N else "provisional"
        fitted = fit(np.array(self._values), np.array(self._times_us), self.scale, state)
        if fitted is None:
            return None
        self._judge_by(fitted)
        if n == LEARN_N:
            self._values, self._times_us = [], []
        self._restart(events)
        return fitted

    def _restart(self, events: list[EpisodeEvent]) -> None:
        """Close what is open and forget what the rules remember."""
        for key in list(self._open):
            self._close(key, events)
        for rule in self._rules:
            rule.restart()
        self._history.clear()

    def _close(self, key: tuple[str, str], events: list[EpisodeEvent]) -> None:
        episode = dataclasses.replace(self._open.pop(key), open=False)
        self._quiet.pop(key, None)
        events.append(EpisodeEvent("closed", episode))

    def _follow(
        self,
        broken: tuple[tuple[str, str], ...],
        value: float,
        z: float,
        row_id: int,
        time_us: int,
        baseline: Baseline,
        events: list[EpisodeEvent],
    ) -> None:
        for key in list(self._open):
            if key not in broken:
                quiet = self._quiet.get(key, 0) + 1
                self._quiet[key] = quiet
                if quiet > MERGED_GAP:
                    self._close(key, events)
        for key in broken:
            self._quiet[key] = 0
            known = self._open.get(key)
            if known is None:
                episode = self._opened(key, value, z, row_id, time_us, baseline)
                events.append(EpisodeEvent("opened", episode))
            else:
                episode = dataclasses.replace(
                    known, last_signal_id=row_id, last_signal_us=time_us, count=known.count + 1
                )
                if abs(z) > abs(known.peak_z):
                    episode = dataclasses.replace(episode, peak_z=z, peak_value=value, peak_id=row_id)
                events.append(EpisodeEvent("grown", episode))
            self._open[key] = episode

    def _opened(
        self, key: tuple[str, str], value: float, z: float, row_id: int, time_us: int, baseline: Baseline
    ) -> Episode:
        length = next(rule.length for rule in self._rules if rule.name == key[0])
        start_id, start_us = self._history[-min(length, len(self._history))]
        recent = np.array(self._recent)
        limits = baseline.limits()
        return Episode(
            rule=key[0],
            side=key[1],
            pattern_start_id=start_id,
            pattern_start_us=start_us,
            first_signal_id=row_id,
            first_signal_us=time_us,
            last_signal_id=row_id,
            last_signal_us=time_us,
            open=True,
            count=1,
            peak_z=z,
            peak_value=value,
            peak_id=row_id,
            value=value,
            centre=limits.centre,
            sigma=limits.sigma,
            ucl=limits.ucl,
            lcl=limits.lcl,
            n=baseline.n,
            mean=float(recent.mean()) if len(recent) > 1 else None,
            std=float(recent.std(ddof=1)) if len(recent) > 1 else None,
            provisional=baseline.state == "provisional",
        )
