"""What `spc` says of one metric of one series in a span: limits, both charts, and what was found on them.

The window of the last hours and the history of any span share it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from llmscope import documents
from llmscope.api.parts import Parts
from llmscope.api.phases import phase_documents
from llmscope.spc.failures import p_chart, p_limit
from llmscope.store import Annotation, Series, StoredAlarm

Integers = npt.NDArray[np.int64]
OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC


@dataclass(frozen=True, slots=True)
class Span:
    """From a moment to just before another."""

    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class SpanFindings:
    """What was found and noted of a series in a span."""

    incidents: Sequence[documents.Document]
    level_marks: Iterable[StoredAlarm]
    annotations: Iterable[Annotation]


def chart_document(
    parts: Parts, series: Series, metric: str, span: Span, found: SpanFindings
) -> documents.Document:
    """Both charts of a metric with what was found on them in a span, but for its failures and statistics."""
    findings, engine = parts.ingest.findings, parts.engine
    chart = engine.chart(series.id, metric)
    trace = engine.trace(series.id, metric)
    window = series.window
    versions = parts.store.baselines.get((series.id, metric), [])
    return documents.limits_document(metric, chart, versions, span.from_us, span.to_us) | {
        "series_id": series.id,
        "buckets": documents.buckets_document(metric, trace, span.from_us, span.to_us),
        "marks": marks_of(parts, series, metric),
        "phases": phase_documents(parts, series, metric),
        "incidents": list(found.incidents),
        "level_marks": [documents.alarm_document(a, engine.plan) for a in found.level_marks],
        "exclusions": [
            documents.exclusion_document(e)
            for e in findings.exclusions.get(series.id, ())
            if e.withdrawn_us is None and e.from_us < span.to_us
        ],
        "annotations": [documents.annotation_document(a) for a in found.annotations],
        "cold_ids": [i for i in engine.cold_ids(series.id) if len(window) and i >= int(window.ids[0])],
    }


def marks_of(parts: Parts, series: Series, metric: str) -> list[documents.Document]:
    """The episodes of each rule today beside what chance gives; none when the metric has no chart."""
    chart = parts.engine.chart(series.id, metric)
    if chart is None:
        return []
    window, now_us = series.window, parts.clock_us()
    day_ago = now_us - 86_400_000_000
    judged = int(np.count_nonzero((window.times_us >= day_ago) & (window.column("outcome") == 0.0)))
    violations = [
        v for v in parts.ingest.recent.get(series.id, {}).values() if v.metric == metric and not v.superseded
    ]
    return documents.marks_document(chart, violations, now_us, judged, parts.engine.trace(series.id, metric))


def window_statistics(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Mean, sample standard deviation and 95th percentile of the good values of a window."""
    good = values[~np.isnan(values)]
    n = len(good)
    return {
        "n": n,
        "mean": float(good.mean()) if n else None,
        "std": float(good.std(ddof=1)) if n > 1 else None,
        "p95": float(np.percentile(good, 95)) if n else None,
    }


def failure_rate(parts: Parts, series: Series) -> float | None:
    """The learnt share of failures; None before anything was learnt."""
    chart = parts.engine.failures(series.id)
    return None if chart is None else chart.cusum.rate


def failures_document(
    times_us: Integers, seen: Integers, failed: Integers, rate: float | None
) -> documents.Document:
    """Failures by stretch of time, with the limit that goes with the number seen."""
    return {
        "times_ms": times_us / 1000.0,
        "seen": seen,
        "failed": failed,
        "centre": documents.rounded(rate),
        "ucl": np.round(p_limit(rate or 0.0, seen), 4),
    }


def failures_by_half_minute(
    parts: Parts, series: Series, times_us: Integers, failed: npt.NDArray[np.bool_]
) -> documents.Document:
    """The p chart of observations in order of time."""
    rate = failure_rate(parts, series)
    found = p_chart(times_us, failed, rate or 0.0)
    return failures_document(found.times_us, found.seen, found.failed, rate)
