"""The charts of all series: `observe` judges one observation on every charted metric. No I/O.

Rows are handed in, so that replay after a restart, judging live, starting a phase in the past and a backtest
are calls of the same charts.
"""

import dataclasses
import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from llmscope.observation import METRICS, WATCHED, Measured
from llmscope.spc.alarms import Alarm, AlarmEvent
from llmscope.spc.baseline import Baseline
from llmscope.spc.calibration import Budget
from llmscope.spc.chart import BucketPoint, ControlChart, ManyVerdicts, Plan, Verdict, recentred
from llmscope.spc.episodes import EpisodeEvent
from llmscope.spc.failures import FailureChart
from llmscope.spc.scores import median
from llmscope.spc.state import ChartState, resume, state_of

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FAILURES = "failures"  # the metric of the chart of failures
COLD_FROM_MS = 100.0  # a model that loads faster was in memory
IDLE_US = 300_000_000  # Ollama's default: a model that nobody asked for so long is unloaded
COLD_TIMES = 3.0  # times the usual load time
LOADS_N = 61  # recent load times whose median is the usual one
KEPT_COLD = 5_000  # row ids of cold starts that are remembered
KEPT_BUCKETS = 2_880  # judged buckets that are kept to be shown, a day of half minutes


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
    alarms: Sequence[tuple[str, AlarmEvent]] = ()
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Many observations of one series in order of arrival, as columns of shape (n,); nan where not measured."""

    ids: Integers
    times_us: Integers
    ok: npt.NDArray[np.bool_]
    loads_ms: Floats
    values: dict[str, Floats]  # of each charted metric, in its unit


@dataclass(slots=True)
class ManyJudged:
    """What the charts of a series said of many observations, in order of time."""

    events: list[tuple[str, EpisodeEvent]] = field(default_factory=list)
    baselines: list[tuple[str, int, Baseline]] = field(default_factory=list)  # metric, row id
    alarms: list[tuple[str, AlarmEvent]] = field(default_factory=list)


@dataclass(slots=True)
class ColdStarts:
    """Tells observations that waited for the model to be loaded: by the load time that the server reports, or, of
    a server that reports none, by the silence before them."""

    loads_ms: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    last_us: int | None = None  # of the observation before, good or not
    was_idle: bool = True  # whether a silence came before that one too: then silences are this series' way

    def is_cold(self, load_ms: float | None, row_id: int, time_us: int, ok: bool = True) -> bool:
        idle = self.last_us is not None and time_us - self.last_us > IDLE_US
        is_new = idle and not self.was_idle
        self.was_idle = idle or self.last_us is None
        self.last_us = time_us
        if not ok:
            return False
        if load_ms is None:
            cold = is_new
        else:
            loads = self.loads_ms
            cold = load_ms > COLD_FROM_MS and (not loads or load_ms > COLD_TIMES * median(loads))
            loads.append(load_ms)
            if len(loads) > LOADS_N:
                del loads[0]
        if cold:
            self.ids.append(row_id)
            if len(self.ids) > KEPT_COLD:
                del self.ids[0]
        return cold

    def are_cold(
        self, loads_ms: Floats, ids: Integers, times_us: Integers, ok: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """`is_cold` of many observations; nan is a load that was not reported."""
        first_us = int(times_us[0]) if self.last_us is None else self.last_us
        reported = ~np.isnan(loads_ms)
        idle = np.diff(times_us, prepend=first_us) > IDLE_US
        if not (ok & ((loads_ms > COLD_FROM_MS) | (idle & ~reported))).any():
            self.loads_ms = [*self.loads_ms, *loads_ms[ok & reported].tolist()[-LOADS_N:]][-LOADS_N:]
            self.was_idle = bool(idle[-1]) or (len(ids) == 1 and self.last_us is None)
            self.last_us = int(times_us[-1])
            return np.zeros(len(ids), bool)
        columns = (loads_ms.tolist(), ids.tolist(), times_us.tolist(), ok.tolist())
        return np.array(
            [self.is_cold(ms if ms == ms else None, *more) for ms, *more in zip(*columns, strict=True)], bool
        )


@dataclass(slots=True)
class SeriesState:
    """What a checkpoint holds of the charts of one series, as of row `row_id`."""

    row_id: int
    charts: dict[str, ChartState]
    failures: FailureChart
    cold: ColdStarts


@dataclass(slots=True)
class Trace:
    """The judged buckets of the last day, to be shown: the window of the bucket chart, as packed columns."""

    times_us: "array[int]" = field(default_factory=lambda: array("q"))
    last_ids: "array[int]" = field(default_factory=lambda: array("q"))
    levels: "array[float]" = field(default_factory=lambda: array("f"))
    us: "array[float]" = field(default_factory=lambda: array("f"))  # nan where it was not scored
    rules: dict[int, tuple[tuple[str, str], ...]] = field(default_factory=dict)  # by time

    def append(self, points: Iterable[BucketPoint]) -> None:
        for point in points:
            self.times_us.append(point.time_us)
            self.last_ids.append(point.last_id)
            self.levels.append(point.level)
            self.us.append(math.nan if point.u is None else point.u)
            if point.rules:
                self.rules[point.time_us] = point.rules
        if len(self.times_us) > 1.25 * KEPT_BUCKETS:
            self._keep(slice(-KEPT_BUCKETS, None))

    def before(self, time_us: int) -> None:
        """Forget the buckets that begin at or after that time."""
        self._keep(slice(0, sum(1 for time in self.times_us if time < time_us)))

    def _keep(self, part: slice) -> None:
        self.times_us, self.last_ids = self.times_us[part], self.last_ids[part]
        self.levels, self.us = self.levels[part], self.us[part]
        kept = set(self.times_us)
        self.rules = {time: rules for time, rules in self.rules.items() if time in kept}


@dataclass(slots=True)
class Charts:
    """The charts of one series: of the alarmed metrics, and of the others that it has told once."""

    by_metric: dict[str, ControlChart]
    failures: FailureChart
    cold: ColdStarts = field(default_factory=ColdStarts)
    trace: dict[str, Trace] = field(default_factory=dict)


Values = tuple[Floats, Integers, Integers, npt.NDArray[np.bool_]]
"""Good values of a metric in its unit, row ids, times, and which are cold starts; in order of arrival."""

PhaseValues = Callable[[int, str, int], tuple[Floats, Integers]]
"""By series and metric: the good, warm, not excluded values of the current phase up to a row, and their times."""


def _nothing(_series_id: int, _metric: str, _row_id: int) -> tuple[Floats, Integers]:
    return np.empty(0), np.empty(0, np.int64)


class Engine:
    """Judges observations of any number of series.

    Every metric of `charted` has limits and marks; only those of `alarmed` have detectors, which open incidents: the
    budget of false alarms is theirs alone. `values` gives what a fit learns from; it is asked only when one falls due.
    """

    def __init__(
        self,
        alarmed: tuple[str, ...] = WATCHED,
        plan: Plan | None = None,
        values: PhaseValues = _nothing,
        charted: tuple[str, ...] = (),
    ) -> None:
        self.alarmed = alarmed
        self.charted = (*alarmed, *(key for key in charted if key not in alarmed))
        self.plan = plan or Plan()
        self.values = values
        self._plans = {key: self._plan_of(key) for key in self.charted}
        self._metrics = tuple(METRICS[key] for key in self.charted)
        self._charts: dict[int, Charts] = {}

    def _plan_of(self, metric: str) -> Plan:
        budget = self.plan.budget if metric in self.alarmed else Budget(None)
        return dataclasses.replace(self.plan, budget=budget, least_sigma=METRICS[metric].least_sigma)

    def chart(self, series_id: int, metric: str) -> ControlChart | None:
        """The chart of a metric; None when it has none, or the series has not told it yet."""
        charts = self._charts.get(series_id)
        return None if charts is None else charts.by_metric.get(metric)

    def metrics_of(self, series_id: int) -> list[str]:
        """The metrics that a series has charts of: the alarmed ones, and of the others those that it has told."""
        charts = self._charts.get(series_id)
        told = () if charts is None else charts.by_metric
        return [key for key in self.charted if key in self.alarmed or key in told]

    def failures(self, series_id: int) -> FailureChart | None:
        charts = self._charts.get(series_id)
        return None if charts is None else charts.failures

    def cold_ids(self, series_id: int) -> list[int]:
        """Row ids of the recent cold starts of a series."""
        charts = self._charts.get(series_id)
        return [] if charts is None else charts.cold.ids

    def trace(self, series_id: int, metric: str) -> Trace:
        """The judged buckets of the last day, oldest first."""
        charts = self._charts.get(series_id)
        return Trace() if charts is None else charts.trace.get(metric, Trace())

    def observe(self, series_id: int, row: Row) -> Judged:
        """Judge one observation; observations of a series come in order of arrival."""
        charts = self._charts.get(series_id)
        if charts is None:
            charts = self._made(series_id)
        verdicts: dict[str, Verdict] = {}
        events: list[tuple[str, EpisodeEvent]] = []
        baselines: list[tuple[str, Baseline]] = []
        alarms: list[tuple[str, AlarmEvent]] = []
        cold = charts.cold.is_cold(row.measured.load_ms, row.id, row.time_us, row.ok)
        by_metric = charts.by_metric
        for metric in self._metrics:
            key = metric.key
            value = metric.read(row.measured) if row.ok else None
            if value is None and key not in self.alarmed:
                continue
            chart = by_metric.get(key) or self._told(charts, series_id, key)
            verdict = verdicts[key] = chart.update(value, row.id, row.time_us, cold and key != "load")
            if verdict.events:
                events += [(key, event) for event in verdict.events]
            if verdict.baseline is not None:
                baselines.append((key, verdict.baseline))
            if verdict.bucket is not None:
                self._keep(charts, key, [verdict.bucket])
                alarms += [(key, event) for event in verdict.alarms]
        failed = charts.failures.update(not row.ok, row.id, row.time_us)
        if failed:
            alarms += [(FAILURES, event) for event in failed]
        return Judged(verdicts, events, baselines, alarms, cold)

    def observe_many(self, series_id: int, rows: Rows) -> ManyJudged:
        """Judge many observations: the same findings as one by one, of each only the last state."""
        charts = self._charts.get(series_id) or self._made(series_id)
        cold = charts.cold.are_cold(rows.loads_ms, rows.ids, rows.times_us, rows.ok)
        judged = ManyJudged()
        none_cold = np.zeros(len(cold), bool)
        for key in self.charted:
            values = rows.values[key]
            chart = charts.by_metric.get(key)
            if chart is None:
                if np.isnan(values).all():
                    continue
                chart = self._told(charts, series_id, key)
            told = chart.update_many(values, rows.ids, rows.times_us, none_cold if key == "load" else cold)
            judged.events += [(key, event) for event in told.events]
            judged.baselines += [(key, row_id, baseline) for row_id, baseline in told.baselines]
            judged.alarms += [(key, event) for event in told.alarms]
            self._keep(charts, key, told.bucket_points())
        failed = charts.failures.update_many(~rows.ok, rows.ids, rows.times_us)
        judged.alarms += [(FAILURES, event) for event in failed]
        judged.alarms.sort(key=_happened_us)
        return judged

    def _made(self, series_id: int) -> Charts:
        charts = self._charts[series_id] = Charts(
            {key: self._new_chart(series_id, key) for key in self.alarmed}, FailureChart(self.plan.budget)
        )
        return charts

    def _told(self, charts: Charts, series_id: int, metric: str) -> ControlChart:
        """The chart of a metric that a series tells for the first time."""
        chart = charts.by_metric[metric] = self._new_chart(series_id, metric)
        return chart

    def _new_chart(self, series_id: int, metric: str) -> ControlChart:
        return ControlChart(
            METRICS[metric].scale, self._plans[metric], lambda row_id: self.values(series_id, metric, row_id)
        )

    @staticmethod
    def _keep(charts: Charts, metric: str, points: Iterable[BucketPoint]) -> None:
        charts.trace.setdefault(metric, Trace()).append(points)

    # -- restart

    def state(self, series_id: int, row_id: int) -> SeriesState | None:
        """What to store of a series judged up to that row; store it before the next one is judged."""
        charts = self._charts.get(series_id)
        if charts is None:
            return None
        states = {key: state_of(chart) for key, chart in charts.by_metric.items()}
        return SeriesState(row_id, states, charts.failures, charts.cold)

    def resume(self, series_id: int, state: SeriesState, baselines: dict[str, Baseline]) -> list[str]:
        """Take over a stored state; the charted metrics that it knows nothing of, which begin anew."""
        charts = self._made(series_id)
        charts.failures, charts.cold = state.failures, state.cold
        charts.failures.budget = self.plan.budget
        missing: list[str] = []
        for key in self.charted:
            if key in state.charts:
                chart = charts.by_metric.get(key) or self._told(charts, series_id, key)
                resume(chart, state.charts[key], baselines.get(key))
            else:
                missing.append(key)
        return missing

    # -- phases

    def begin_phase(
        self, series_id: int, metric: str, rows: Values, alarm: Alarm | None = None
    ) -> tuple[ManyVerdicts, Baseline | None]:
        """Judge a metric by a new phase that begins with these rows, all that have come since.

        With the alarm whose new level is accepted, the phase takes over what was learnt, moved to the new level;
        without, it learns anew. Returns what the new chart found, and the baseline it began with.
        """
        charts = self._charts.get(series_id) or self._made(series_id)
        before = charts.by_metric.get(metric)
        chart = self._new_chart(series_id, metric)
        values, ids, times_us, cold = rows
        baseline: Baseline | None = None
        if alarm is not None and before is not None and before.baseline is not None:
            warm = ~cold
            baseline = recentred(before.baseline, values[warm], times_us[warm])
            chart.judge_by(baseline)
            chart.learned_n, chart.learned_us, chart.stage = before.learned_n, before.learned_us, before.stage
            chart.early = []
        charts.by_metric[metric] = chart
        told = chart.update_many(values, ids, times_us, cold)
        if baseline is not None and chart.buckets is not None:
            told.alarms.clear()  # by decision these rows are in control; the first bucket may lie before the change
            chart.buckets.watch.forget()
        first_us = int(times_us[0]) if len(times_us) else 2**62
        charts.trace.setdefault(metric, Trace()).before(first_us)
        self._keep(charts, metric, told.bucket_points())
        return told, baseline


def _happened_us(told: tuple[str, AlarmEvent]) -> int:
    """When an alarm opened or closed."""
    alarm = told[1].alarm
    return alarm.opened_us if told[1].kind != "closed" or alarm.closed_us is None else alarm.closed_us
