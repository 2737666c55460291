"""The charts of all series: `observe` judges one observation on every watched metric. No I/O.

Rows are handed in, so that replay after a restart and judging live are the same calls.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from llmscope.observation import METRICS, WATCHED, Measured
from llmscope.spc.baseline import Baseline
from llmscope.spc.chart import ControlChart, Verdict
from llmscope.spc.episodes import Episode, EpisodeEvent

__all__ = ["Engine", "Judged", "Row", "SavedBaseline", "SavedSeries", "Verdict"]


@dataclass(slots=True)  # not frozen: that would treble the cost of making one
class Row:
    """What the charts need of an observation."""

    id: int
    time_us: int
    ok: bool
    measured: Measured


@dataclass(slots=True)
class Judged:
    """What the charts of a series said of one observation."""

    verdicts: dict[str, Verdict]
    events: Sequence[tuple[str, EpisodeEvent]] = ()
    baselines: Sequence[tuple[str, Baseline]] = ()


@dataclass(frozen=True, slots=True)
class SavedBaseline:
    """The limits in force, and the row that completed their fit."""

    baseline: Baseline
    fitted_id: int


@dataclass(frozen=True, slots=True)
class SavedSeries:
    """What was stored of a series' charts, as of the row `judged_id`."""

    judged_id: int = 0
    baselines: dict[str, SavedBaseline] = field(default_factory=dict)
    open_episodes: dict[str, list[Episode]] = field(default_factory=dict)


class Engine:
    """Judges observations of any number of series on the watched metrics."""

    def __init__(self, watched: tuple[str, ...] = WATCHED) -> None:
        self.watched = watched
        self._metrics = tuple(METRICS[key] for key in watched)
        self._charts: dict[int, tuple[ControlChart, ...]] = {}

    def chart(self, series_id: int, metric: str) -> ControlChart | None:
        """The chart of a metric; None when it is not watched or the series has no observation yet."""
        charts = self._charts.get(series_id)
        if charts is None or metric not in self.watched:
            return None
        return charts[self.watched.index(metric)]

    def observe(self, series_id: int, row: Row) -> Judged:
        """Judge one observation; observations of a series come in order of arrival."""
        charts = self._charts.get(series_id)
        if charts is None:
            charts = self._charts[series_id] = tuple(ControlChart(m.scale) for m in self._metrics)
        verdicts: dict[str, Verdict] = {}
        events: list[tuple[str, EpisodeEvent]] = []
        baselines: list[tuple[str, Baseline]] = []
        for metric, chart in zip(self._metrics, charts, strict=True):
            value = metric.read(row.measured) if row.ok else None
            verdict = verdicts[metric.key] = chart.update(value, row.id, row.time_us)
            if verdict.events:
                events += [(metric.key, event) for event in verdict.events]
            if verdict.baseline is not None:
                baselines.append((metric.key, verdict.baseline))
        return Judged(verdicts, events, baselines)

    def restore(self, series_id: int, saved: SavedSeries, rows: Iterable[Row]) -> list[Judged]:
        """Rebuild the charts of a series from what was stored; returns the verdicts after `judged_id`.

        `rows` are in order of arrival. For a metric that still learns they begin with the series' first row;
        for one with frozen limits they hold at least the last 76 good rows up to `judged_id` (60 for the recent
        mean, 16 for patterns), or all since its fit.
        """
        charts: list[ControlChart] = []
        for metric in self._metrics:
            known = saved.baselines.get(metric.key)
            frozen = known is not None and known.baseline.state == "frozen"
            charts.append(ControlChart(metric.scale, known.baseline if known and frozen else None))
        self._charts[series_id] = tuple(charts)
        after: list[Judged] = []
        replaying = True
        for row in rows:
            if replaying and row.id > saved.judged_id:
                for metric, chart in zip(self._metrics, charts, strict=True):
                    chart.resume(saved.open_episodes.get(metric.key, ()))
                replaying = False
            if replaying:
                self._replay(charts, saved, row)
            else:
                after.append(self.observe(series_id, row))
        if replaying:
            for metric, chart in zip(self._metrics, charts, strict=True):
                chart.resume(saved.open_episodes.get(metric.key, ()))
        return after

    def _replay(self, charts: Sequence[ControlChart], saved: SavedSeries, row: Row) -> None:
        """Let the charts see a row that was judged before; limits fitted later must not judge it."""
        for metric, chart in zip(self._metrics, charts, strict=True):
            known = saved.baselines.get(metric.key)
            value = metric.read(row.measured) if row.ok else None
            if known is not None and known.baseline.state == "frozen" and row.id <= known.fitted_id:
                chart.recall(value, row.time_us)
            else:
                chart.update(value, row.id, row.time_us)
