"""`GET /api/overview`: every series at a glance, the worst first, each with a small picture of its last hours.

All of it is read from memory: the columns of the windows, and what the findings hold of the last 24 hours.
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import APIRouter, HTTPException, Query, Request
from starlette.responses import Response

from llmscope import documents
from llmscope.api.parts import Parts, parts_of
from llmscope.api.shapes import OverviewOut
from llmscope.observation import METRICS
from llmscope.spc.chart import ControlChart
from llmscope.store import Incident, Series, StoredAlarm
from llmscope.store.window import COLUMN, metric_values

MOST_STRETCHES = 120
STEPS_S = (
    1,
    2,
    4,
    5,
    10,
    15,
    30,
    60,
    120,
    240,
    300,
    600,
    900,
)  # none more than twice the one before
LOOKED_BACK = 64  # rows in which the last value is looked for
FIGURES = 6  # significant digits, as every number of a document

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Standing = Literal["out", "failing", "stale", "learning", "in_control", "not_judged"]
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY

router = APIRouter(tags=["series"])


@router.get("/api/overview", response_model=OverviewOut)
async def overview(
    request: Request,
    metric: Annotated[str, Query(description=f"One of {', '.join(METRICS)}.")] = "latency",
    hours: Annotated[float, Query(gt=0, le=24, description="Length of the pictures.")] = 1.0,
) -> Response:
    """Every series: those with an open incident or failing now, then the silent ones, then those with an open mark,
    then the rest by name. `cursor` is where `/api/stream` goes on from."""
    if metric not in METRICS:
        raise HTTPException(422, f"metric: '{metric}' is not one of {', '.join(METRICS)}")
    parts = parts_of(request)
    now_us = parts.clock_us()
    grid = Grid.of(now_us, hours)
    body: dict[str, Any] = {"metric": metric, "hours": hours, "step_s": grid.step_us / 1e6}
    body["cursor"] = str(parts.ingest.last_id)  # what comes while this is read is told again by the stream
    targets: list[Target] = []
    for series in list(parts.store.series.values()):
        targets.append(_target(parts, series, metric, grid, now_us))
        await asyncio.sleep(0)  # 0.3 ms a series of an hour, 3 ms of a full day: others go first in between
    targets.sort(key=lambda target: target.order)
    body["targets"] = [target.document for target in targets]
    return Response(orjson.dumps(body, option=_OPTIONS), media_type="application/json")


@dataclass(frozen=True, slots=True)
class Grid:
    """The stretches of the pictures: equal ones, beginning at multiples of their length, so that they stay in place
    from one request to the next."""

    from_us: int
    step_us: int
    n: int

    @classmethod
    def of(cls, now_us: int, hours: float) -> "Grid":
        """
        >>> [(grid.step_us // 10**6, grid.n) for grid in (Grid.of(7, h) for h in (0.25, 1.0, 6.0, 24.0))]
        [(10, 91), (30, 121), (240, 91), (900, 97)]
        """
        span_us = round(hours * 3.6e9)
        step_us = next(s for s in STEPS_S if span_us <= MOST_STRETCHES * s * 1_000_000) * 1_000_000
        first = (now_us - span_us) // step_us
        return cls(first * step_us, step_us, now_us // step_us - first + 1)

    @property
    def starts_us(self) -> Integers:
        return self.from_us + self.step_us * np.arange(self.n)


@dataclass(frozen=True, slots=True)
class Target:
    """A series with its place in the order."""

    order: tuple[Any, ...]
    document: documents.Document


def picture(times_us: Integers, values: Floats, grid: Grid) -> Floats:
    """Least, median and greatest value of each stretch, shape (3, n), nan where it has none. One sort for all."""
    at = (times_us - grid.from_us) // grid.step_us
    known = ~np.isnan(values) & (at >= 0) & (at < grid.n)
    values, at = values[known], at[known].astype(np.uint16)
    order = np.argsort(values)
    order = order[np.argsort(at[order], kind="stable")]
    ordered = values[order]
    counts = np.bincount(at, minlength=grid.n)
    some = counts > 0
    first, n = (np.cumsum(counts) - counts)[some], counts[some]
    found = np.full((3, grid.n), np.nan)
    found[0, some], found[2, some] = ordered[first], ordered[first + n - 1]
    found[1, some] = 0.5 * (ordered[first + (n - 1) // 2] + ordered[first + n // 2])
    return found


def significant(values: Floats) -> Floats:
    """Rounded to FIGURES significant digits.

    >>> significant(np.array([1.23456789, 0.0, 1234567.8, np.nan])).tolist()
    [1.23457, 0.0, 1234570.0, nan]
    """
    known = np.isfinite(values) & (values != 0.0)
    digits = FIGURES - 1 - np.floor(np.log10(np.abs(values), out=np.zeros(values.shape), where=known))
    up, down = 10.0 ** np.maximum(digits, 0.0), 10.0 ** np.maximum(-digits, 0.0)
    return np.asarray(np.round(values * up / down) / up * down)


def _target(parts: Parts, series: Series, metric: str, grid: Grid, now_us: int) -> Target:
    k = documents.to_display(metric)
    window = series.window
    positions = window.since_time(grid.from_us)
    measured = window.measured[positions]
    values = metric_values(measured, metric)
    low, middle, high = significant(k * picture(window.times_us[positions], values, grid))
    chart = parts.engine.chart(series.id, metric)
    status = documents.status_document(series, chart, now_us)
    last = _last(series, metric)
    open_marks, marks = _marks(parts, series, metric, grid.from_us)
    incidents = _open_incidents(parts, series)
    standing = _standing(status, chart, bool(incidents), last is not None)
    worst, size = incidents[0] if incidents else (None, 0.0)
    failed = np.count_nonzero(measured[:, COLUMN["outcome"]])
    baseline = None if chart is None else chart.baseline
    limits = None if baseline is None else baseline.limits()
    document = {
        "id": series.id,
        **documents.name_document(series),
        "standing": standing,
        "since": _since(parts, series, standing, status, worst),
        "headline": None
        if worst is None
        else parts.ingest.findings.incident_document(worst)["headline"],
        "status": status,
        "last": documents.rounded(None if last is None else last * k),
        "last_z": documents.rounded(_z(chart, last)),
        "centre": documents.rounded(None if limits is None else limits.centre * k),
        "ucl": documents.rounded(None if limits is None else limits.ucl * k),
        "lcl": documents.rounded(None if limits is None else limits.lcl * k),
        "provisional": baseline is not None and baseline.state == "provisional",
        "scale": METRICS[metric].scale,
        "open_incidents": len(incidents),
        "open_marks": open_marks,
        "marks": marks,
        "failed_percent": documents.rounded(100.0 * failed / len(measured)) if len(measured) else None,
        "times_ms": grid.starts_us / 1000.0,
        "low": low,
        "middle": middle,
        "high": high,
    }  # fmt: skip
    return Target(_order(series, standing, len(incidents), size, open_marks), document)


def _order(
    series: Series, standing: Standing, incidents: int, size: float, open_marks: int
) -> tuple[Any, ...]:
    """The worst first, and the same order each time."""
    if standing in ("out", "failing"):
        return 0, -incidents, -size, series.key
    if standing == "stale":
        return 1, 0, 0.0, series.key
    return (2, -open_marks, 0.0, series.key) if open_marks else (3, 0, 0.0, series.key)


def _standing(
    status: documents.Document, chart: ControlChart | None, is_out: bool, has_value: bool
) -> Standing:
    if status["state"] == "failing":
        return "failing"
    if is_out:
        return "out"
    if status["state"] == "stale":
        return "stale"
    if chart is None or (chart.learned_n == 0 and not has_value):
        return "not_judged"
    return "learning" if status["state"] == "learning" else "in_control"


def _since(
    parts: Parts,
    series: Series,
    standing: Standing,
    status: documents.Document,
    worst: Incident | None,
) -> str | None:
    findings = parts.ingest.findings
    if standing == "out" and worst is not None:
        changes = [a.change_us for a in findings.alarms_of(worst) if a.is_open]
        return documents.time_text(min(changes, default=worst.opened_us))
    if standing == "in_control":
        closed = [
            i.closed_us or 0 for i in findings.incidents.get(series.id, {}).values() if not i.superseded
        ]
        return documents.time_text(max([series.first_us or 0, *closed]))
    since: str | None = status["since"]
    return since


def _open_incidents(parts: Parts, series: Series) -> list[tuple[Incident, float]]:
    """Those still open, that with the greatest change first, and how great it is in percent."""
    findings = parts.ingest.findings
    found = [
        (incident, max((_size(a) for a in findings.alarms_of(incident) if a.is_open), default=0.0))
        for incident in findings.incidents.get(series.id, {}).values()
        if incident.state == "open" and not incident.superseded
    ]
    return sorted(found, key=lambda pair: (-pair[1], pair[0].id))


def _size(alarm: StoredAlarm) -> float:
    return abs(alarm.size_percent)


def _marks(parts: Parts, series: Series, metric: str, from_us: int) -> tuple[int, int]:
    """How many violations of the metric are open, and how many there were since then."""
    still = since = 0
    for violation in parts.ingest.recent.get(series.id, {}).values():
        if violation.metric == metric and not violation.superseded:
            if violation.open:
                still += 1
            if violation.last_signal_us >= from_us:
                since += 1
    return still, since


def _last(series: Series, metric: str) -> float | None:
    """The newest value among the last rows, in the metric's unit."""
    values = metric_values(series.window.measured[-LOOKED_BACK:], metric)
    known = values[~np.isnan(values)]
    return float(known[-1]) if len(known) else None


def _z(chart: ControlChart | None, value: float | None) -> float | None:
    if chart is None or chart.baseline is None or value is None:
        return None
    if chart.scale == "log":
        if value <= 0.0:
            return None
        value = float(np.log(value))
    return (value - chart.baseline.centre) / chart.baseline.sigma
