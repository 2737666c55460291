"""`GET /api/history`: any span of one series, its observations while they are few, else stretches of time.

Stretches come from the rollups, and from memory for what is not rolled yet. SQL is read in a thread; what lives on
the event loop is read before and after.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from llmscope import documents
from llmscope.api.chart import (
    OPTIONS,
    Span,
    SpanFindings,
    chart_document,
    failure_rate,
    failures_by_half_minute,
    failures_document,
    window_statistics,
)
from llmscope.api.parts import Parts, Selection, parts_of
from llmscope.api.problems import not_valid, problem
from llmscope.api.shapes import HistoryOut
from llmscope.api.spc import MetricName, Rows, values_of, whole
from llmscope.observation import METRICS
from llmscope.store import Annotation, Incident, Series, Store, StoredAlarm, Violation
from llmscope.store.rollups import HOURS, MINUTES, Block, slots_of
from llmscope.store.sqlite import FAR_FUTURE_US
from llmscope.store.summary import QUANTILES, Summaries, joined
from llmscope.store.window import Window

MOST_POINTS = 20_000  # more are drawn as stretches: a page takes 1.5 MB of them
MOST_READ = 1_000_000  # rows of all series among which the points are looked for: .2 s (bench/history.py)
MOST_VIOLATIONS = 500  # of stretches, each with a median, more cannot be told apart
MINUTE_US, HOUR_US = MINUTES.width_us, HOURS.width_us
STEPS_US = tuple(n * MINUTE_US for n in (1, 2, 5, 10, 15, 30)) + tuple(
    n * HOUR_US for n in (1, 2, 3, 6, 12, 24)
)
COUNTED_BY_MINUTES_US = 48 * HOUR_US

router = APIRouter(tags=["stats"])


@router.get("/api/history", response_model=HistoryOut)
async def history(
    request: Request,
    selection: Selection,
    from_: Annotated[AwareDatetime, Query(alias="from", description="Where the span begins, with its zone.")],
    to: Annotated[
        AwareDatetime, Query(description="Where it ends; an observation at that moment is not in it.")
    ],
    metric: MetricName = "latency",
    width: Annotated[
        int, Query(ge=10, le=4000, description="At most so many stretches, but never longer than a day each.")
    ] = 480,
) -> Response:
    """Any span of one series: `points` of up to about 20,000 observations, else `rollup`, by whole minutes or hours.

    A rolled quantile is off by at most 1 % of itself; number, mean, least and greatest are exact to six digits.
    While a database of an earlier version is being rolled, after the first start, what is not rolled yet is missing.
    """
    parts = parts_of(request)
    if metric not in METRICS:
        return problem(422, f"metric: '{metric}' is not one of {', '.join(METRICS)}", [not_valid("metric")])
    span = Span(documents.to_us(from_), documents.to_us(to))
    if span.to_us <= span.from_us:
        return problem(422, "to: must lie after from", [not_valid("to")])
    chosen = selection.series(parts.store)
    if not chosen:
        return problem(404, "no series matches; GET /api/series lists them")
    if len(chosen) > 1:
        detail = f"model: {len(chosen)} series match, and a history is of one; name provider, model, server and source"
        return problem(422, detail, [not_valid("model")])
    (series,) = chosen
    await parts.ingest.settle()
    step = step_us(span, width)
    if span.from_us < parts.store.keeper.minutes_from_us:
        step = max(step, HOUR_US)
    question = Question(parts.store, series, metric, span, step)
    question.look_in_memory()
    found = await run_in_threadpool(question.read)
    built = _spc(parts, question, found)
    document = {
        "from_ms": span.from_us / 1000.0,
        "to_ms": span.to_us / 1000.0,
        "first_ms": None if series.first_us is None else series.first_us / 1000.0,
        "points": None if found.points is None else points_document(found.points, metric),
        "rollup": None if found.rollup is None else rollup_document(found.rollup, question.step_us, metric),
        "spc": built,
        "violations": [documents.violation_document(v, series) for v in found.violations],
        "violations_total": found.violations_total,
        "status": documents.status_document(series, parts.engine.chart(series.id, metric), parts.clock_us()),
    }
    return Response(orjson.dumps(document, option=OPTIONS), media_type="application/json")


def step_us(span: Span, width: int) -> int:
    """The shortest of the steps of which `width` cover the span; the longest if none does.

    >>> step_us(Span(0, 30 * 24 * HOUR_US), 480) // HOUR_US
    2
    """
    return next((s for s in STEPS_US if s * width >= span.to_us - span.from_us), STEPS_US[-1])


@dataclass(frozen=True, slots=True)
class Stretches:
    """What was seen in each step of a span that has observations, oldest first; columns of shape (stretches,)."""

    starts_us: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]
    failed: npt.NDArray[np.int64]
    values: Summaries

    def __len__(self) -> int:
        return len(self.starts_us)


@dataclass(slots=True)
class Found:
    """What was read of a span: its points or its stretches, and what is told beside them."""

    points: Rows | None
    rollup: Stretches | None
    incidents: list[tuple[Incident, list[StoredAlarm]]]
    level_marks: list[StoredAlarm]
    annotations: list[Annotation]
    violations: list[Violation]
    violations_total: int


@dataclass(slots=True)
class Question:
    """A span of a metric of a series, and what memory holds of it."""

    store: Store
    series: Series
    metric: str
    span: Span
    step_us: int
    held: Window | None = None  # every observation of the span, when memory has them all
    fresh: Block | None = None  # those that were not rolled when memory was looked into

    def look_in_memory(self) -> None:
        """Copy what is needed from the window; on the event loop, which alone touches it."""
        window, span = self.series.window, self.span
        inside = (window.times_us >= span.from_us) & (window.times_us < span.to_us)
        oldest_us = int(window.times_us[0]) if len(window) else FAR_FUTURE_US
        if self.series.count == len(window) or (window.ordered and span.from_us > oldest_us):
            if np.count_nonzero(inside) <= MOST_POINTS:
                self.held = _window_of(window.ids[inside], window.times_us[inside], window.measured[inside])
        first_us = span.from_us - span.from_us % self.step_us
        last_us = span.to_us + -span.to_us % self.step_us
        new = (window.times_us >= first_us) & (window.times_us < last_us)
        new &= window.ids > self.store.rollups.rolled_id
        ids = window.ids[new]
        self.fresh = Block(np.full(len(ids), self.series.id), ids, window.times_us[new], window.measured[new])

    # -- in a thread

    def read(self) -> Found:
        points = self.held if self.held is not None else self._stored_points()
        records, span, series_id = self.store.records, self.span, self.series.id
        incidents = records.all(
            Incident,
            "series_id = ? AND opened_us < ? AND (closed_us IS NULL OR closed_us >= ?) AND superseded = 0 "
            "ORDER BY opened_us DESC, id DESC",
            (series_id, span.to_us, span.from_us),
        )
        violations, total = self.store.violations.furthest(
            series_id, self.metric, span.from_us, span.to_us, MOST_VIOLATIONS
        )
        return Found(
            None if points is None else _rows_of(self.series, points),
            self._stretches() if points is None else None,
            [(i, records.all(StoredAlarm, "incident_id = ? ORDER BY id", (i.id,))) for i in incidents],
            records.all(
                StoredAlarm,
                "series_id = ? AND metric = ? AND state = 'below_min_change' AND superseded = 0 "
                "AND change_us < ? AND closed_us >= ? ORDER BY opened_us",
                (series_id, self.metric, span.to_us, span.from_us),
            ),
            records.all(
                Annotation,
                "series_id = ? AND time_us >= ? AND time_us < ? ORDER BY time_us, id",
                (series_id, span.from_us, span.to_us),
            ),
            violations,
            total,
        )

    def _stored_points(self) -> Window | None:
        """The observations of the span from disk; None when they are too many, or spread among too many others."""
        span, rollups = self.span, self.store.rollups
        assert self.fresh is not None
        level = MINUTES if span.to_us - span.from_us <= COUNTED_BY_MINUTES_US else HOURS
        first_us = span.from_us - span.from_us % level.width_us
        if rollups.seen(self.series.id, level, first_us, span.to_us) + len(self.fresh.ids) > MOST_POINTS:
            return None
        stretches = rollups.arrived(self.series.id, span.from_us, span.to_us)
        if stretches and stretches[0][0] <= self.store.keeper.given_up_id:
            return None
        if sum(last - first + 1 for first, last in stretches) > MOST_READ:
            return None
        rows = [
            row
            for first, last in stretches
            for row in self.store.rows_between(self.series.id, first, last, span.from_us, span.to_us)
        ]
        blocks = Block.of(rows), self._fresh_after(max((last for _, last in stretches), default=0))
        ids, times_us, measured = (
            np.concatenate([getattr(b, name) for b in blocks]) for name in ("ids", "times_us", "measured")
        )
        inside = (times_us >= span.from_us) & (times_us < span.to_us)
        return _window_of(ids[inside], times_us[inside], measured[inside].astype(np.float32))

    def _fresh_after(self, row_id: int) -> Block:
        fresh = self.fresh
        assert fresh is not None
        new = fresh.ids > row_id
        return Block(fresh.series_ids[new], fresh.ids[new], fresh.times_us[new], fresh.measured[new])

    def _stretches(self) -> Stretches:
        level = MINUTES if self.step_us < HOUR_US else HOURS
        first_us = self.span.from_us - self.span.from_us % self.step_us
        last_us = self.span.to_us + -self.span.to_us % self.step_us
        rolled_id, rolled = self.store.rollups.read(self.series.id, level, first_us, last_us, self.metric)
        parts = [rolled]
        fresh = self._fresh_after(rolled_id)
        if len(fresh.ids):
            parts.append(slots_of(fresh, level, (self.metric,)))
        at_us = level.width_us * np.concatenate([part.numbers for part in parts])
        starts_us, into = np.unique(at_us - at_us % self.step_us, return_inverse=True)
        seen, failed = (
            np.bincount(into, np.concatenate(columns), len(starts_us)).astype(np.int64)
            for columns in ([part.seen for part in parts], [part.failed for part in parts])
        )
        values = joined([part.summaries[self.metric] for part in parts]).merged(into, len(starts_us))
        return Stretches(starts_us, seen, failed, values)


def _window_of(
    ids: npt.NDArray[np.int64], times_us: npt.NDArray[np.int64], measured: npt.NDArray[np.float32]
) -> Window:
    window = Window(max(1, len(ids)))
    window.extend_columns(ids, times_us, measured)
    return window


def _rows_of(series: Series, window: Window) -> Rows:
    """All of a window, in order of time."""
    order = window.since_id(0)
    return Rows([series], None, window.ids[order], window.times_us[order], window.measured[order])


def points_document(rows: Rows, metric: str) -> documents.Document:
    return {
        "ids": rows.ids,
        "times_ms": rows.times_us / 1000.0,
        "values": values_of(rows, metric),
        "oks": (rows.column("outcome") == 0.0).astype(np.uint8),
        "eval_counts": whole(rows.column("eval_count")),
    }


def rollup_document(stretches: Stretches, step_us: int, metric: str) -> documents.Document:
    """The stretches as columns, values in the unit of the chart."""
    values = stretches.values
    empty = values.n == 0
    low, middle, high = values.quantiles(QUANTILES).T
    columns = {
        "mean": values.mean,
        "min": values.least,
        "p5": low,
        "median": middle,
        "p95": high,
        "max": values.greatest,
    }
    k = documents.to_display(metric)
    return {
        "step_s": step_us / 1e6,
        "times_ms": stretches.starts_us / 1000.0,
        "seen": stretches.seen,
        "failed": stretches.failed,
    } | {name: np.where(empty, np.nan, np.round(column * k, 6)) for name, column in columns.items()}


def rollup_statistics(stretches: Stretches, metric: str) -> dict[str, Any]:
    """Mean and sample standard deviation, exact, and the 95th percentile of all good values."""
    k = documents.to_display(metric)
    whole = stretches.values.merged(np.zeros(len(stretches), np.int64), 1)
    if not whole.n[0]:
        return {"n": 0, "mean": None, "std": None, "p95": None}
    std = float(whole.std()[0])
    return {
        "n": int(whole.n[0]),
        "mean": float(whole.mean[0]) * k,
        "std": None if math.isnan(std) else std * k,
        "p95": float(whole.quantiles((0.95,))[0, 0]) * k,
    }


def _spc(parts: Parts, question: Question, found: Found) -> documents.Document:
    """What the chart says of the span; on the event loop, where the charts live."""
    series, metric = question.series, question.metric
    told = SpanFindings(
        [parts.ingest.findings.incident_document(i, alarms) for i, alarms in found.incidents],
        found.level_marks,
        found.annotations,
    )
    document = chart_document(parts, series, metric, question.span, told)
    if found.points is not None:
        rows = found.points
        failures = failures_by_half_minute(parts, series, rows.times_us, rows.column("outcome") != 0.0)
        return document | window_statistics(values_of(rows, metric)) | {"failures": failures}
    stretches = found.rollup
    assert stretches is not None  # what has no points has stretches
    failures = failures_document(
        stretches.starts_us, stretches.seen, stretches.failed, failure_rate(parts, series)
    )
    return document | rollup_statistics(stretches, metric) | {"failures": failures}
