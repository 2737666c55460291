"""The JSON documents that people and programs see: one function per noun, so that the API and the live stream
say the same thing of the same object. Times become RFC 3339, durations of charts become seconds here.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmscope.engine import Verdict
from llmscope.observation import METRICS, tokens_per_second
from llmscope.spc.baseline import LEARN_N, Baseline
from llmscope.spc.chart import ControlChart
from llmscope.store import BaselineRow, Series, Violation
from llmscope.store import rows as r
from llmscope.store.rows import Row, ms, percent

STALE_AFTER = 3  # intervals without a point; SPC.md calls the same stretch a gap
SLACK_US = 1_000_000  # what a late answer may add before a series is called stale
DEFAULT_INTERVAL_US = 2_000_000  # before two points have shown the real one

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
Document = dict[str, Any]


def time_text(time_us: int | None) -> str | None:
    """Microseconds since 1970 as RFC 3339 in UTC.

    >>> time_text(1761654896789000)
    '2025-10-28T12:34:56.789000Z'
    """
    if time_us is None:
        return None
    return (EPOCH + dt.timedelta(microseconds=time_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def to_display(metric: str) -> float:
    """What a metric's own unit is multiplied by to be shown: milliseconds become seconds."""
    return 1e-3 if METRICS[metric].unit == "ms" else 1.0


def name_document(series: Series) -> dict[str, str]:
    return dict(zip(("provider", "model", "server", "source"), series.key, strict=True))


def interval_us(series: Series) -> int | None:
    """The spacing of the last observations: their median; None before there are two."""
    times = np.sort(series.window.times_us[-21:])
    if len(times) < 2:
        return None
    return int(np.median(np.diff(times)))


def status_document(series: Series | None, chart: ControlChart | None, now_us: int) -> Document:
    """What state a series is in: empty, learning, live, stale, or failing."""
    learned = 0 if chart is None else chart.learned_n
    document: Document = {
        "state": "empty",
        "since": None,
        "last": None,
        "age_s": None,
        "interval_s": None,
        "learned": min(learned, LEARN_N),
        "learn_n": LEARN_N,
        "learn_left_s": None,
        "error_kind": None,
        "error": None,
        "failed_in_row": 0,
    }
    if series is None or series.last_us is None:
        return document
    spacing = interval_us(series)
    step = spacing or DEFAULT_INTERVAL_US
    age_us = max(0, now_us - series.last_us)
    learning = chart is not None and chart.state != "frozen"
    document |= {
        "last": time_text(series.last_us),
        "age_s": round(age_us / 1e6, 3),
        "interval_s": None if spacing is None else spacing / 1e6,
        "failed_in_row": series.failed_in_row,
        "learn_left_s": round((LEARN_N - learned) * step / 1e6, 1) if learning else None,
        "error_kind": series.error_kind,
        "error": series.error,
    }
    if age_us > STALE_AFTER * step + SLACK_US:
        document |= {"state": "stale", "since": time_text(series.last_us)}
    elif series.failed_in_row:
        document |= {"state": "failing", "since": time_text(series.failing_since_us)}
    elif learning:
        document |= {"state": "learning", "since": time_text(series.first_us)}
    else:
        document |= {"state": "live", "since": time_text(series.first_us)}
    return document


def violation_document(violation: Violation, series: Series) -> Document:
    """A violation, its values in the unit of the chart."""
    k = to_display(violation.metric)
    return {
        "id": violation.id,
        **name_document(series),
        "metric": violation.metric,
        "rule": violation.rule,
        "side": violation.side,
        "severity": "critical" if violation.rule == "R1" else "warning",
        "pattern_start": time_text(violation.pattern_start_us),
        "first_signal": time_text(violation.first_signal_us),
        "last_signal": time_text(violation.last_signal_us),
        "pattern_start_id": violation.pattern_start_id,
        "first_signal_id": violation.first_signal_id,
        "last_signal_id": violation.last_signal_id,
        "open": violation.open,
        "count": violation.count,
        "peak_z": _round(violation.peak_z),
        "peak_value": _round(violation.peak_value * k),
        "peak_id": violation.peak_id,
        "value": _round(violation.value * k),
        "centre": _round(violation.centre * k),
        "sigma": _round(violation.sigma * k),
        "ucl": _round(violation.ucl * k),
        "lcl": _round(violation.lcl * k),
        "n": violation.n,
        "mean": _scaled(violation.mean, k),
        "std": _scaled(violation.std, k),
        "provisional": violation.provisional,
        "acknowledged_at": time_text(violation.acknowledged_us),
        "acknowledged_by": violation.acknowledged_by,
        "note": violation.note,
    }


def limits_document(
    metric: str, chart: ControlChart | None, versions: Sequence[BaselineRow], from_us: int | None = None
) -> Document:
    """The control limits of one metric of one series in force now, and the versions since `from_us`."""
    k = to_display(metric)
    baseline = None if chart is None else chart.baseline
    document: Document = {
        "centre": None,
        "sigma": None,
        "sigma_log": None,
        "ucl": None,
        "lcl": None,
        "zones": None,
        "state": "none" if chart is None else chart.state,
        "learned_n": 0 if chart is None else min(chart.learned_n, LEARN_N),
        "learn_n": LEARN_N,
        "scale": METRICS[metric].scale,
        "baseline_at": time_text(versions[-1].fitted_us) if versions else None,
        "limits": [_version_document(v, k) for v in _since(versions, from_us)],
    }
    if baseline is not None:
        limits = baseline.limits()
        document |= {
            "centre": _round(limits.centre * k),
            "sigma": _round(limits.sigma * k),
            "sigma_log": _round(baseline.sigma) if baseline.scale == "log" else None,
            "ucl": _round(limits.ucl * k),
            "lcl": _round(limits.lcl * k),
            "zones": [_round(z * k) for z in limits.zones],
        }
    return document


def _since(versions: Sequence[BaselineRow], from_us: int | None) -> Sequence[BaselineRow]:
    """The versions in force at any time since `from_us`: the last one before it, and those after."""
    if from_us is None:
        return versions[-1:]
    before = sum(1 for v in versions if v.fitted_us <= from_us)
    return versions[max(0, before - 1) :]


def _version_document(version: BaselineRow, k: float) -> Document:
    limits = baseline_of(version).limits()
    return {
        "from": time_text(version.fitted_us),
        "state": version.state,
        "centre": _round(limits.centre * k),
        "sigma": _round(limits.sigma * k),
        "ucl": _round(limits.ucl * k),
        "lcl": _round(limits.lcl * k),
        "zones": [_round(z * k) for z in limits.zones],
        "n": version.n,
    }


def baseline_of(version: BaselineRow) -> Baseline:
    """The stored version as the object that judges."""
    return Baseline(
        centre=version.centre,
        sigma=version.sigma,
        scale="log" if version.scale == "log" else "linear",
        n=version.n,
        interval_us=version.interval_us,
        state="frozen" if version.state == "frozen" else "provisional",
    )


def observation_document(
    row: Row, series: Series, prompt_hash: str | None, error: str | None, z: float | None = None
) -> Document:
    """One observation in full, in the names of `POST /api/stats`, with what is derived from it."""
    m = r.measured(row)
    total, latency = ms(row[r.TOTAL]), ms(row[r.LATENCY])
    return {
        "id": row[r.ID],
        "timestamp": time_text(row[r.TIME_US]),
        **name_document(series),
        "ok": row[r.OUTCOME] == 0,
        "error_kind": None if row[r.OUTCOME] == 0 else r.OUTCOMES[row[r.OUTCOME]].value,
        "error": error,
        "latency_ms": latency,
        "ttft_ms": ms(row[r.TTFT]),
        "connect_ms": ms(row[6]),
        "gap_mean_ms": ms(row[7]),
        "gap_max_ms": ms(row[8]),
        "total_duration_ms": total,
        "load_duration_ms": ms(row[r.LOAD]),
        "prompt_eval_duration_ms": ms(row[r.PROMPT_EVAL]),
        "eval_duration_ms": ms(row[r.EVAL]),
        "prompt_eval_count": row[r.PROMPT_COUNT],
        "eval_count": row[r.EVAL_COUNT],
        "queue_ms": _round(METRICS["queue"].read(m)),
        "network_ms": None if total is None or latency is None else _round(max(0.0, latency - total)),
        "tokens_per_second": _round(tokens_per_second(row[r.EVAL_COUNT], ms(row[r.EVAL]))),
        "cpu_percent": percent(row[15]),
        "memory_percent": percent(row[16]),
        "gpu_percent": percent(row[17]),
        "gpu_memory_percent": percent(row[18]),
        "host": None if row[r.HOST] is None else r.HOSTS[row[r.HOST]],
        "prompt_hash": prompt_hash,
        "z": _round(z),
    }


def live_document(
    row: Row, name: Mapping[str, str], error: str | None, verdicts: Mapping[str, Verdict]
) -> Document:
    """One observation as the live stream tells it: small, with what the charts said of it."""
    queue = METRICS["queue"].read(r.measured(row))
    return {
        "id": row[r.ID],
        "time_ms": row[r.TIME_US] / 1000.0,
        "timestamp": time_text(row[r.TIME_US]),
        **name,
        "ok": row[r.OUTCOME] == 0,
        "error_kind": None if row[r.OUTCOME] == 0 else r.OUTCOMES[row[r.OUTCOME]].value,
        "error": error,
        "latency_ms": ms(row[r.LATENCY]),
        "ttft_ms": ms(row[r.TTFT]),
        "load_ms": ms(row[r.LOAD]),
        "queue_ms": _round(queue),
        "prompt_ms": ms(row[r.PROMPT_EVAL]),
        "eval_ms": ms(row[r.EVAL]),
        "prompt_eval_count": row[r.PROMPT_COUNT],
        "eval_count": row[r.EVAL_COUNT],
        "cpu_percent": percent(row[15]),
        "memory_percent": percent(row[16]),
        "gpu_percent": percent(row[17]),
        "gpu_memory_percent": percent(row[18]),
        "verdicts": {
            metric: {"z": _round(v.z), "rules": [rule for rule, _side in v.rules]}
            for metric, v in verdicts.items()
        },
    }


def _round(value: float | None) -> float | None:
    """Six significant digits: more than was measured, and short on the wire."""
    return None if value is None else float(f"{value:.6g}")


def _scaled(value: float | None, k: float) -> float | None:
    return None if value is None else _round(value * k)
