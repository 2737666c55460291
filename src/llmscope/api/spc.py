"""`GET /api/stats/spc`: the window of a series with its limits and violations, as columns, from memory.

No row is touched one by one and no SQL is read: the columns are numpy arrays that orjson writes as they are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from llmscope import documents
from llmscope.api.chart import (
    OPTIONS,
    Span,
    SpanFindings,
    chart_document,
    failures_by_half_minute,
    marks_of,
    window_statistics,
)
from llmscope.api.parts import Parts, Selection, parts_of
from llmscope.api.problems import not_valid, problem
from llmscope.api.shapes import NumbersOut, WindowOut
from llmscope.engine import Engine
from llmscope.observation import METRICS
from llmscope.store import Annotation, Series
from llmscope.store.sqlite import FAR_FUTURE_US
from llmscope.store.window import COLUMN

POINTS_PER_HOUR = 1_800  # one every 2 s: 1,800, 10,800, 43,200 for 1, 6, 24 hours, as the original had it
Floats = npt.NDArray[np.float32]
router = APIRouter(tags=["stats"])


MetricName = Annotated[str, Query(description=f"One of {', '.join(METRICS)}.")]


@dataclass(slots=True)
class Rows:
    """The chosen rows of one or more series, in order of time."""

    series: Sequence[Series]
    which: npt.NDArray[np.intp] | None  # for each row the position of its series; None when there is one
    ids: npt.NDArray[np.int64]
    times_us: npt.NDArray[np.int64]
    measured: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, name: str) -> Floats:
        return np.ascontiguousarray(self.measured[:, COLUMN[name]])

    def names(self, of: Callable[[Series], str]) -> orjson.Fragment:
        """One text a row, written once and repeated."""
        texts = [orjson.dumps(of(s)) for s in self.series]
        if not len(self):
            return orjson.Fragment(b"[]")
        if self.which is None:
            return orjson.Fragment(b"[" + (texts[0] + b",") * (len(self) - 1) + texts[0] + b"]")
        return orjson.Fragment(b"[" + b",".join([texts[i] for i in self.which.tolist()]) + b"]")


def select(series: Sequence[Series], from_us: int, since_id: int | None, limit: int) -> Rows:
    """The newest `limit` rows at or after `from_us`, or all that arrived after `since_id`."""
    parts: list[tuple[int, Any]] = []
    for i, one in enumerate(series):
        window = one.window
        positions = window.since_time(from_us) if since_id is None else window.since_id(since_id)
        parts.append((i, positions[-limit:]))
    if len(series) == 1:
        window, positions = series[0].window, parts[0][1]
        return Rows(
            series, None, window.ids[positions], window.times_us[positions], window.measured[positions]
        )
    if not series:
        width = len(COLUMN)
        none = np.empty(0, np.int64)
        return Rows(series, None, none, none, np.empty((0, width), np.float32))
    times = np.concatenate([series[i].window.times_us[p] for i, p in parts])
    order = np.argsort(times, kind="stable")[-limit:]
    return Rows(
        series,
        np.concatenate([np.full(len(p), i) for i, p in parts])[order],
        np.concatenate([series[i].window.ids[p] for i, p in parts])[order],
        times[order],
        np.concatenate([series[i].window.measured[p] for i, p in parts])[order],
    )


def _difference(rows: Rows, *names: str) -> Floats:
    """total - load - prompt eval - eval, never below zero."""
    value = rows.column("total_us").astype(np.float64)
    for name in names:
        value -= rows.column(name)
    return np.round(np.maximum(value, 0.0), 3).astype(np.float32)


def _rate(top: Floats, bottom: Floats, factor: float = 1.0, at_least: float = 0.0) -> Floats:
    """factor · top / bottom where bottom > at_least, else absent."""
    rate = np.full(len(top), np.nan, np.float32)
    np.divide(top * np.float32(factor), bottom, out=rate, where=bottom > at_least)
    return rate


def _queue(rows: Rows) -> Floats:
    return _difference(rows, "load_us", "prompt_eval_us", "eval_us")


def _tokens_per_second(rows: Rows) -> Floats:
    return np.round(_rate(rows.column("eval_count"), rows.column("eval_us"), 1000.0), 3)


VALUES: dict[str, Callable[[Rows], Floats]] = {
    "latency": lambda rows: rows.column("latency_us"),
    "ttft": lambda rows: rows.column("ttft_us"),
    "queue": _queue,
    "load": lambda rows: rows.column("load_us"),
    "prompt_ms_per_token": lambda rows: _rate(
        rows.column("prompt_eval_us"), rows.column("prompt_eval_count")
    ),
    "ms_per_token": lambda rows: _rate(rows.column("eval_us"), rows.column("eval_count"), 1.0, 1.0),
    "tokens_per_second": _tokens_per_second,
}


def values_of(rows: Rows, metric: str) -> npt.NDArray[np.float64]:
    """The metric of each row as it is shown (seconds for durations), NaN where absent or failed."""
    return np.round(VALUES[metric](rows).astype(np.float64) * documents.to_display(metric), 6)


def whole(column: Floats) -> orjson.Fragment:
    """Counts as integers, absent as null."""
    absent = np.isnan(column)
    whole = np.where(absent, -1.0, column).astype(np.int32)
    text = orjson.dumps(whole, option=OPTIONS)
    return orjson.Fragment(text.replace(b"-1", b"null") if absent.any() else text)


def _prompt_hashes(rows: Rows, hash_by_id: dict[int, str]) -> orjson.Fragment:
    ids = np.nan_to_num(rows.column("prompt_id"), nan=0.0).astype(np.int64)
    text = {int(i): orjson.dumps(hash_by_id.get(int(i))) for i in np.unique(ids)}
    if len(text) == 1 and len(ids):
        (only,) = text.values()
        return orjson.Fragment(b"[" + (only + b",") * (len(ids) - 1) + only + b"]")
    return orjson.Fragment(b"[" + b",".join([text[i] for i in ids.tolist()]) + b"]")


COLUMNS: dict[str, Callable[[Rows], Any]] = {
    "timestamps": lambda rows: rows.times_us.view("datetime64[us]"),
    "models": lambda rows: rows.names(lambda s: s.key.model),
    "providers": lambda rows: rows.names(lambda s: s.key.provider),
    "total_durations": lambda rows: rows.column("total_us"),
    "load_durations": lambda rows: rows.column("load_us"),
    "prompt_eval_durations": lambda rows: rows.column("prompt_eval_us"),
    "eval_durations": lambda rows: rows.column("eval_us"),
    "queue_durations": _queue,
    "ttfts": lambda rows: rows.column("ttft_us"),
    "prompt_eval_counts": lambda rows: whole(rows.column("prompt_eval_count")),
    "eval_counts": lambda rows: whole(rows.column("eval_count")),
    "tokens_per_second": _tokens_per_second,
    "cpu_percents": lambda rows: rows.column("cpu_permille"),
    "memory_percents": lambda rows: rows.column("memory_permille"),
    "gpu_percents": lambda rows: rows.column("gpu_permille"),
    "gpu_memory_percents": lambda rows: rows.column("gpu_memory_permille"),
    "oks": lambda rows: (rows.column("outcome") == 0.0).astype(np.uint8),
    "ids": lambda rows: rows.ids,
}
ON_REQUEST: dict[str, Callable[[Rows], Any]] = {
    "times_ms": lambda rows: rows.times_us / 1000.0,
    "servers": lambda rows: rows.names(lambda s: s.key.server),
    "sources": lambda rows: rows.names(lambda s: s.key.source),
}
FIELDS = ("values", "prompt_hashes", *COLUMNS, *ON_REQUEST)


@router.get("/api/stats/spc", response_model=WindowOut)
async def spc_window(
    request: Request,
    selection: Selection,
    hours: Annotated[int, Query(ge=1, le=24, description="Length of the window: 1, 6 or 24.")] = 1,
    metric: MetricName = "latency",
    limit: Annotated[int | None, Query(ge=1, description="At most this many points, the newest.")] = None,
    since: Annotated[
        str | None, Query(description="The cursor of an earlier answer: only what came after.")
    ] = None,
    fields: Annotated[
        str | None,
        Query(
            description="Only these columns, or `none`; times_ms, servers and sources come only when named."
        ),
    ] = None,
) -> Response:
    """The points of a window as columns, its control limits, statistics and violations.

    When several series match, their points are merged in order of time and `spc` is null: limits belong to
    one series. At most 1,800 points an hour, the newest.
    """
    if metric not in METRICS:
        return problem(422, f"metric: '{metric}' is not one of {', '.join(METRICS)}", [not_valid("metric")])
    if since is not None and not (since.isdecimal() and len(since) < 19):
        return problem(422, "since: is not a cursor of this API", [not_valid("since")])
    wanted = FIELDS if fields is None else tuple(fields.split(","))
    if fields == "none":
        wanted = ()
    if unknown := [name for name in wanted if name not in FIELDS]:
        return problem(
            422, f"fields: '{unknown[0]}' is not one of {', '.join(FIELDS)}", [not_valid("fields")]
        )
    if fields is None:
        wanted = tuple(name for name in FIELDS if name not in ON_REQUEST)

    parts = parts_of(request)
    now_us = parts.clock_us()
    from_us = now_us - hours * 3_600_000_000
    most = hours * POINTS_PER_HOUR
    chosen = selection.series(parts.store)
    rows = select(chosen, from_us, None if since is None else int(since), min(limit or most, most))
    values = values_of(rows, metric)
    built: dict[str, Any] = {}
    for name in wanted:
        if name == "values":
            built[name] = values
        elif name == "prompt_hashes":
            built[name] = _prompt_hashes(rows, parts.store.prompt_hash_by_id)
        else:
            built[name] = (COLUMNS | ON_REQUEST)[name](rows)
    only = chosen[0] if len(chosen) == 1 else None
    if only is not None:
        built["spc"] = chart_document(
            parts, only, metric, Span(from_us, FAR_FUTURE_US), _recent_findings(parts, only, metric, from_us)
        )
        window, all_since = only.window, only.window.since_time(from_us)
        built["spc"] |= window_statistics(values) | {
            "failures": failures_by_half_minute(
                parts, only, window.times_us[all_since], window.column("outcome")[all_since] != 0.0
            )
        }
    else:
        built["spc"] = None
    built["violations"] = [
        documents.violation_document(v, one)
        for one in chosen
        for v in parts.ingest.recent.get(one.id, {}).values()
        if v.metric == metric and not v.superseded and (v.open or v.last_signal_us >= from_us)
    ]
    built["cursor"] = str(parts.ingest.last_id)
    built["status"] = documents.status_document(
        _latest(chosen), _status_chart(parts.engine, chosen, metric), now_us
    )
    return Response(orjson.dumps(built, option=OPTIONS), media_type="application/json")


@router.get("/api/stats/numbers", response_model=NumbersOut)
async def window_numbers(
    request: Request,
    selection: Selection,
    hours: Annotated[float, Query(gt=0, le=24, description="Length of the window.")] = 1,
    metric: Annotated[str, Query(description=f"One of {', '.join(METRICS)}.")] = "latency",
) -> Response:
    """The statistics of one series' window alone: what a page that follows the stream asks again now and then."""
    if metric not in METRICS:
        return problem(422, f"metric: '{metric}' is not one of {', '.join(METRICS)}", [not_valid("metric")])
    parts = parts_of(request)
    chosen = selection.series(parts.store)
    if len(chosen) != 1:
        return problem(404, f"{len(chosen)} series match; name one by provider, model, server and source")
    series, now_us = chosen[0], parts.clock_us()
    chart = parts.engine.chart(series.id, metric)
    from_us = now_us - int(hours * 3.6e9)
    values = values_of(select(chosen, from_us, None, math.ceil(hours * POINTS_PER_HOUR)), metric)
    limits = documents.limits_document(metric, chart, ())
    built = window_statistics(values) | {
        **{name: limits[name] for name in ("learned_n", "alarms_in_s", "locks_in_s")},
        "marks": marks_of(parts, series, metric),
        "status": documents.status_document(series, chart, now_us),
    }
    return Response(orjson.dumps(built, option=OPTIONS), media_type="application/json")


def _recent_findings(parts: Parts, series: Series, metric: str, from_us: int) -> SpanFindings:
    """Of the last hours, from memory."""
    findings = parts.ingest.findings
    incidents = sorted(findings.incidents.get(series.id, {}).values(), key=lambda i: -i.opened_us)
    return SpanFindings(
        [
            findings.incident_document(i)
            for i in incidents
            if not i.superseded and (i.closed_us is None or i.closed_us >= from_us)
        ],
        [
            a
            for a in findings.alarms.get(series.id, {}).values()
            if a.metric == metric and a.state == "below_min_change" and not a.superseded
        ],
        parts.store.records.all(
            Annotation, "series_id = ? AND time_us >= ? ORDER BY time_us", (series.id, from_us)
        ),
    )


def _latest(chosen: Sequence[Series]) -> Series | None:
    return max(chosen, key=lambda s: s.last_us or 0, default=None)


def _status_chart(engine: Engine, chosen: Sequence[Series], metric: str) -> Any:
    latest = _latest(chosen)
    return None if latest is None else engine.chart(latest.id, metric)
