"""The state of a chart as plain numbers: what a checkpoint stores and a restart takes over.

Everything that a chart remembers beside its baseline is here, so that replaying the few rows after a checkpoint
gives the verdicts of a chart that never stopped.
"""

from dataclasses import dataclass

from llmscope.spc.alarms import Alarm
from llmscope.spc.baseline import Baseline
from llmscope.spc.buckets import Collector
from llmscope.spc.chart import BucketChart, ControlChart
from llmscope.spc.detectors import CountCusum, Cusum, SelfStarting
from llmscope.spc.episodes import Episode, Judged, Marks
from llmscope.spc.reference import LevelFilter
from llmscope.spc.watch import Recent, Taught, Watch

_COLLECTED = (
    "values",
    "innovations",
    "scores",
    "slot",
    "done_slot",
    "follows",
    "first_id",
    "first_us",
    "last_id",
    "last_us",
    "last_score",
)
_LEVEL_CUSUMS = ("slow_up", "slow_down", "fast_up", "fast_down", "spread")
_WATCHED = ("level", "shift", "scatter", "recent", "waiting", "alarms", "spike", *_LEVEL_CUSUMS)


@dataclass(slots=True)
class MarksState:
    tail: list[Judged]
    open: list[Episode]
    quiet: list[int]
    judged: int


@dataclass(slots=True)
class CollectorState:
    values: list[float]
    innovations: list[float]
    scores: float
    slot: int
    done_slot: int
    follows: bool
    first_id: int
    first_us: int
    last_id: int
    last_us: int
    last_score: float | None


@dataclass(slots=True)
class WatchState:
    level: LevelFilter
    shift: SelfStarting
    scatter: SelfStarting
    recent: Recent
    waiting: list[Taught]
    alarms: dict[str, Alarm]
    spike: CountCusum
    slow_up: Cusum
    slow_down: Cusum
    fast_up: Cusum
    fast_down: Cusum
    spread: Cusum


@dataclass(slots=True)
class BucketState:
    collector: CollectorState
    watch: WatchState
    marks: MarksState


@dataclass(slots=True)
class ChartState:
    """All of a chart but its plan, its history and its baseline, which is stored by itself."""

    learned_n: int
    learned_us: int
    stage: int
    try_at: int
    early: list[tuple[float, int]]
    recent: list[float]
    last_us: int
    marks: MarksState
    buckets: BucketState | None


def state_of(chart: ControlChart) -> ChartState:
    """What the chart remembers; shares its lists, so store it before the chart goes on."""
    buckets = chart.buckets
    return ChartState(
        chart.learned_n,
        chart.learned_us,
        chart.stage,
        chart.try_at,
        chart.early,
        list(chart.recent),
        chart.last_us,
        _marks_state(chart.marks),
        None
        if buckets is None
        else BucketState(
            CollectorState(*(getattr(buckets.collector, name) for name in _COLLECTED)),
            WatchState(**{name: getattr(buckets.watch, name) for name in _WATCHED}),
            _marks_state(buckets.marks),
        ),
    )


def resume(chart: ControlChart, state: ChartState, baseline: Baseline | None) -> None:
    """Bring a new chart of the same scale and plan to that state, judging by that baseline."""
    if baseline is not None:
        chart.judge_by(baseline)
    chart.learned_n, chart.learned_us = state.learned_n, state.learned_us
    chart.stage, chart.try_at, chart.early = state.stage, state.try_at, state.early
    chart.recent.extend(state.recent)
    chart.last_us = state.last_us
    _resume_marks(chart.marks, state.marks)
    if chart.buckets is not None and state.buckets is not None:
        _resume_buckets(chart.buckets, state.buckets)


def _resume_buckets(buckets: BucketChart, state: BucketState) -> None:
    _resume_marks(buckets.marks, state.marks)
    _copy(state.collector, buckets.collector, _COLLECTED)
    _copy(state.watch, buckets.watch, _WATCHED)


def _copy(state: CollectorState | WatchState, to: Collector | Watch, names: tuple[str, ...]) -> None:
    for name in names:
        setattr(to, name, getattr(state, name))


def _marks_state(marks: Marks) -> MarksState:
    return MarksState(
        list(marks.tail), list(marks.open.values()), [marks.quiet()[key] for key in marks.open], marks.judged
    )


def _resume_marks(marks: Marks, state: MarksState) -> None:
    marks.judged = state.judged
    marks.recall(state.tail)
    quiet = {(e.rule, e.side): n for e, n in zip(state.open, state.quiet, strict=True)}
    marks.resume(state.open, quiet)
