"""The JSON documents that people and programs see: one function per noun, so that the API and the live stream
say the same thing of the same object. Times become RFC 3339, durations of charts become seconds here.
"""

import datetime as dt
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from llmscope.cause import Cause
from llmscope.engine import Judged, Trace
from llmscope.observation import METRICS, tokens_per_second
from llmscope.spc.baseline import Baseline
from llmscope.spc.calibration import Budget, is_beyond_chance, smallest_shift
from llmscope.spc.chart import ControlChart, Plan
from llmscope.spc.rules import ARL
from llmscope.spc.scores import FURTHEST_Z
from llmscope.store import Annotation, BaselineRow, Exclusion, Incident, Phase, Series, StoredAlarm, Violation
from llmscope.store import rows as r
from llmscope.store.rows import Row, ms, percent

STALE_AFTER = 3  # intervals without a point; SPC.md calls the same stretch a gap
SLACK_US = 1_000_000  # what a late answer may add before a series is called stale
DEFAULT_INTERVAL_US = 2_000_000  # before two points have shown the real one

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EPOCH_NAIVE = EPOCH.replace(tzinfo=None)
Document = dict[str, Any]


def time_text(time_us: int | None) -> str | None:
    """Microseconds since 1970 as RFC 3339 in UTC.

    >>> time_text(1761654896789000)
    '2025-10-28T12:34:56.789000Z'
    """
    if time_us is None:
        return None
    # a month has hundreds of marks with four times each: strftime takes three times as long
    return (_EPOCH_NAIVE + dt.timedelta(0, 0, time_us)).isoformat(timespec="microseconds") + "Z"


def to_us(moment: dt.datetime) -> int:
    """A moment with its zone as microseconds since 1970."""
    return (moment - EPOCH) // dt.timedelta(microseconds=1)


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
    left_us = None if chart is None else chart.alarms_in_us()
    document: Document = {
        "state": "empty",
        "since": None,
        "last": None,
        "age_s": None,
        "interval_s": None,
        "learned": learned,
        "learn_n": None,
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
    document |= {
        "last": time_text(series.last_us),
        "age_s": round(age_us / 1e6, 3),
        "interval_s": None if spacing is None else spacing / 1e6,
        "failed_in_row": series.failed_in_row,
        "learn_n": None if left_us is None else learned + round(left_us / step),
        "learn_left_s": None if left_us is None else round(left_us / 1e6, 1),
        "error_kind": series.error_kind,
        "error": series.error,
    }
    if age_us > STALE_AFTER * step + SLACK_US:
        document |= {"state": "stale", "since": time_text(series.last_us)}
    elif series.failed_in_row:
        document |= {"state": "failing", "since": time_text(series.failing_since_us)}
    elif left_us is not None:
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
        "chart": violation.chart,
        "phase": violation.phase,
        "superseded": violation.superseded,
        "rule": violation.rule,
        "side": violation.side,
        "severity": violation.severity,
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
        "cause": None
        if violation.cause_part is None
        else {
            "part": violation.cause_part,
            "ms": ms(violation.cause_us),
            "usual_ms": ms(violation.cause_usual_us),
        },
        "acknowledged_at": time_text(violation.acknowledged_us),
        "acknowledged_by": violation.acknowledged_by,
        "note": violation.note,
    }


def limits_document(
    metric: str,
    chart: ControlChart | None,
    versions: Sequence[BaselineRow],
    from_us: int | None = None,
    to_us: int | None = None,
) -> Document:
    """The control limits of one metric of one series in force now, and the versions in [`from_us`, `to_us`)."""
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
        "learned_n": 0 if chart is None else chart.learned_n,
        "alarms_in_s": None
        if chart is None or (left := chart.alarms_in_us()) is None
        else round(left / 1e6, 1),
        "locks_in_s": None if chart is None else _locks_in_s(chart),
        "budget_per_day": None if chart is None else chart.plan.budget.alarms_per_day,
        "min_change_percent": None if chart is None else 100.0 * chart.plan.min_change,
        "calibration": None if chart is None else calibration_document(metric, chart),
        "scale": METRICS[metric].scale,
        "baseline_at": time_text(versions[-1].fitted_us) if versions else None,
        "limits": [_version_document(v, k) for v in _in_force(versions, from_us, to_us)],
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


def _in_force(
    versions: Sequence[BaselineRow], from_us: int | None, to_us: int | None
) -> Sequence[BaselineRow]:
    """The versions in force at any time since `from_us`: the last one before it, and those after."""
    if from_us is None:
        return versions[-1:]
    if to_us is not None:
        versions = [v for v in versions if v.fitted_us < to_us]
    before = sum(1 for v in versions if v.fitted_us <= from_us)
    return versions[max(0, before - 1) :]


def _version_document(version: BaselineRow, k: float) -> Document:
    limits = baseline_of(version).limits()
    return {
        "from": time_text(version.fitted_us),
        "state": version.state,
        "phase": version.phase,
        "centre": _round(limits.centre * k),
        "sigma": _round(limits.sigma * k),
        "ucl": _round(limits.ucl * k),
        "lcl": _round(limits.lcl * k),
        "zones": [_round(z * k) for z in limits.zones],
        "n": version.n,
    }


def _locks_in_s(chart: ControlChart) -> float | None:
    """How much longer it observes until the baseline is locked; None once it is."""
    if chart.state == "locked":
        return None
    return round(max(0, chart.plan.learn_us - chart.learned_us) / 1e6, 1)


def calibration_document(metric: str, chart: ControlChart) -> Document | None:
    """What the detectors have learnt and what they can see; None before they run.

    `smallest_shift_percent` is found within five minutes on average, from the average run length of the CUSUMs in
    use; null when the budget allows none so soon.
    """
    buckets = chart.buckets
    if buckets is None:
        return None
    reference, watch = buckets.reference, buckets.watch
    per_bucket = reference.cadence.width_us
    by = round(watch.shift.inflation, 2), round(watch.shift.quick_inflation, 2)
    shift = smallest_shift(buckets.lines, FIVE_MINUTES_US / per_bucket, *by)
    percent_ = None
    if shift != float("inf"):
        # a shift of the level moves the whitened score by (1 - r) of itself, in sd of the whitened score
        response = watch.level.response(reference.cadence.points) * (1.0 - watch.shift.r)
        moved = shift * watch.shift.sd / response
        low, high = reference.table.value(-0.5), reference.table.value(0.5)
        step = moved * (high - low)
        if moved <= FURTHEST_Z:  # beyond what the baseline has seen, scores rise no more
            percent_ = 100.0 * (
                np.expm1(step) if chart.scale == "log" else step / max(abs(reference.level), 1e-9)
            )
    return {
        "n": reference.n,
        "buckets": watch.shift.n,
        "bucket_s": per_bucket / 1e6,
        "points_per_bucket": reference.cadence.points,
        "is_traffic": reference.cadence.is_traffic,
        "autocorrelation": _round(reference.phi),
        "bucket_autocorrelation": _round(watch.shift.r),
        "inflation": _round(watch.shift.inflation),
        "level": _round(_unit(metric, chart.scale, reference.level)),
        "detectors": [
            name
            for name, line in (
                ("SHIFT", buckets.lines.slow),
                ("SPREAD", buckets.lines.spread),
                ("SPIKE", buckets.lines.spike),
            )
            if line is not None
        ],
        "expected_false_alarms_per_day": chart.plan.budget.alarms_per_day,
        "smallest_shift_percent": _round(None if percent_ is None else float(percent_)),
    }


def _unit(metric: str, scale: str, level: float) -> float:
    return float(np.exp(level) if scale == "log" else level) * to_display(metric)


def marks_document(
    chart: ControlChart,
    violations: Sequence[Violation],
    now_us: int,
    points_judged: int,
    trace: Trace,
) -> list[Document]:
    """Per chart and rule: episodes of the last 24 hours beside what chance alone gives.

    On the bucket chart chance follows theory; on the point chart it is what the points that were learnt from
    showed, for there skew and dependence rule. Half minutes count as far back as their trace reaches, marks likewise.
    """
    day_us = 86_400_000_000
    recent = [v for v in violations if v.first_signal_us >= now_us - day_us]
    rates = None if chart.baseline is None else chart.baseline.rates_a_day
    step_us = chart.baseline.interval_us if chart.baseline is not None else DEFAULT_INTERVAL_US
    judged = ~np.isnan(np.array(trace.us)) & (np.array(trace.times_us) >= now_us - day_us)
    buckets = int(np.count_nonzero(judged))
    rows: list[Document] = []
    for name, marks in (
        ("points", chart.marks),
        ("buckets", None if chart.buckets is None else chart.buckets.marks),
    ):
        if marks is None:
            continue
        for rule in marks.rules:
            counted = [v for v in recent if v.chart == name and v.rule == rule.name]
            if name == "buckets":  # after a restart the half minutes before it are not known
                counted = [
                    v for v in counted if len(trace.times_us) and v.first_signal_us >= trace.times_us[0]
                ]
            count = len(counted)
            expected: float | None
            if name == "buckets":
                expected = buckets / ARL[rule.name]
            elif rates is None:
                expected = None
            else:
                expected = rates.get(rule.name, 0.0) * points_judged * step_us / day_us
            rows.append(
                {
                    "chart": name,
                    "rule": rule.name,
                    "today": count,
                    "expected": _round(expected),
                    "beyond_chance": expected is not None and is_beyond_chance(count, expected),
                }
            )
    return rows


def buckets_document(metric: str, trace: Trace, from_us: int, to_us: int) -> Document:
    """The chart of half minutes: levels in the unit of the chart, and scores that are standard normal in control.

    The columns are numpy arrays; nan, which JSON has as null, where a bucket was not scored.
    """
    times_us = np.array(trace.times_us, np.int64)
    since = (times_us >= from_us) & (times_us < to_us)
    times_us = times_us[since]
    at = {time_us: i for i, time_us in enumerate(times_us.tolist())}
    return {
        "times_ms": times_us / 1000.0,
        "levels": np.round(np.array(trace.levels, np.float64)[since] * to_display(metric), 6),
        "scores": np.round(np.array(trace.us, np.float64)[since], 3),
        "rules": {
            str(at[time_us]): [rule for rule, _ in rules]
            for time_us, rules in trace.rules.items()
            if time_us in at
        },
    }


DETECTOR_WORDS = {"SHIFT": "level", "SPREAD": "spread", "SPIKE": "spikes", "FAILURES": "failures"}
FAILURES_TITLE = "Failures"
FIVE_MINUTES_US = 300_000_000


def alarm_document(alarm: StoredAlarm, plan: Plan) -> Document:
    """An alarm, its level in the unit of the chart."""
    k = to_display(alarm.metric) if alarm.detector == "SHIFT" else 1.0
    return {
        "id": alarm.id,
        "metric": alarm.metric,
        "phase": alarm.phase,
        "detector": alarm.detector,
        "direction": alarm.direction,
        "state": alarm.state,
        "superseded": alarm.superseded,
        "change": time_text(alarm.change_us),
        "opened": time_text(alarm.opened_us),
        "closed": time_text(alarm.closed_us),
        "change_id": alarm.change_id,
        "opened_id": alarm.opened_id,
        "before": _round(alarm.before * k),
        "after": _round(alarm.after * k),
        "size_percent": _round(alarm.size_percent),
        "size_low": _round(alarm.size_low),
        "size_high": _round(alarm.size_high),
        "sigmas": _round(alarm.sigmas),
        "evidence": _round(alarm.evidence),
        "provisional": alarm.provisional,
        "proposed": time_text(alarm.proposed_us),
        "sentence": alarm_sentence(alarm, plan.budget),
    }


def alarm_sentence(alarm: StoredAlarm, budget: Budget) -> str:
    """What an alarm says to a person."""
    verb = "has run" if alarm.is_open else "ran"
    when = f"since {_clock(alarm.change_us)} UTC"
    if alarm.closed_us is not None:
        when = f"from {_clock(alarm.change_us)} to {_clock(alarm.closed_us)} UTC"
    size, word = abs(alarm.size_percent), "above" if alarm.direction == "up" else "below"
    if alarm.detector == "FAILURES":
        return (
            f"{100.0 * alarm.after:.3g} % of the requests {'fail' if alarm.is_open else 'failed'} {when}; "
            f"{100.0 * alarm.before:.2g} % was learnt."
        )
    title = METRICS[alarm.metric].title
    if alarm.detector == "SHIFT":
        said = f"{title} {verb} {size:.0f} % {word} its learnt level ({_levels(alarm)}) {when}"
    elif alarm.detector == "SPREAD":
        said = f"{title} {'varies' if alarm.is_open else 'varied'} {1.0 + alarm.size_percent / 100.0:.2g} times as much as learnt {when}"  # noqa: E501
    else:
        said = f"{title} {'spikes' if alarm.is_open else 'spiked'} {1.0 + alarm.size_percent / 100.0:.2g} times as often as learnt {when}"  # noqa: E501
    if alarm.state == "below_min_change":
        return f"{said}: below the change that you asked to be told of."
    return f"{said}. The evidence passed the line that chance crosses {_how_often(budget)}."


def _clock(time_us: int) -> str:
    return (time_text(time_us) or "")[11:19]


def _levels(alarm: StoredAlarm) -> str:
    """Before and after, to the digits in which they differ: seconds from one second on."""
    before, after, unit = alarm.before, alarm.after, METRICS[alarm.metric].unit
    if unit == "ms" and max(before, after) >= 1000.0:
        before, after, unit = before / 1000.0, after / 1000.0, "s"
    return f"{_figures(before)} → {_figures(after)} {unit}"


def _figures(value: float) -> str:
    """Three significant digits, never as a power of ten.

    >>> [_figures(v) for v in (1.6719, 44.29, 0.504, 1234.0)]
    ['1.67', '44.3', '0.504', '1,234']
    """
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{digits}f}"


def _how_often(budget: Budget) -> str:
    rate = budget.alarms_per_day
    if rate is None:
        return "never"
    for period, days in (("day", 1.0), ("week", 7.0), ("month", 30.0)):
        times = rate * days
        if times >= 0.99:
            return f"once a {period}" if times < 1.01 else f"{times:.3g} times a {period}"
    return f"{rate * 30.0:.3g} times a month"


def incident_document(
    incident: Incident,
    alarms: Sequence[StoredAlarm],
    rules: Sequence[str],
    series: Series,
    plan: Plan,
    cause: Cause | None,
) -> Document:
    """An incident with its alarms, open ones and the worst first; `rules` were broken on the bucket charts
    meanwhile, and `cause` is where the time went since."""
    ranked = sorted(
        alarms, key=lambda a: (not a.is_open, a.detector not in ("FAILURES", "SHIFT"), a.opened_us)
    )
    headline = alarm_sentence(ranked[0], plan.budget) if ranked else ""
    if rules:
        headline += f" Rules broken on the half-minute chart: {', '.join(rules)}."
    return {
        "id": incident.id,
        **name_document(series),
        "opened": time_text(incident.opened_us),
        "change": time_text(min((a.change_us for a in alarms), default=incident.opened_us)),
        "closed": time_text(incident.closed_us),
        "state": incident.state,
        "superseded": incident.superseded,
        "headline": headline,
        "metrics": sorted({a.metric for a in alarms}),
        "rules": list(rules),
        "proposed": any(a.proposed_us is not None and a.is_open for a in alarms),
        "alarms": [alarm_document(a, plan) for a in ranked],
        "cause": None
        if cause is None
        else {"part": cause.part, "ms": ms(cause.us), "usual_ms": ms(cause.usual_us)},
        "acknowledged_at": time_text(incident.acknowledged_us),
        "acknowledged_by": incident.acknowledged_by,
        "note": incident.note,
    }


def phase_document(phase: Phase, versions: Sequence[BaselineRow]) -> Document:
    """A phase with the versions of its limits."""
    k = to_display(phase.metric)
    return {
        "metric": phase.metric,
        "number": phase.number,
        "start": time_text(phase.start_us),
        "cause": phase.cause,
        "who": phase.who,
        "note": phase.note,
        "made": time_text(phase.made_us),
        "limits": [_version_document(v, k) for v in versions if v.phase == phase.number],
    }


def exclusion_document(exclusion: Exclusion) -> Document:
    return {
        "id": exclusion.id,
        "from": time_text(exclusion.from_us),
        "to": time_text(exclusion.to_us),
        "reason": exclusion.reason,
        "who": exclusion.who,
        "made": time_text(exclusion.made_us),
        "withdrawn": time_text(exclusion.withdrawn_us),
    }


def annotation_document(annotation: Annotation) -> Document:
    return {
        "id": annotation.id,
        "time": time_text(annotation.time_us),
        "text": annotation.text,
        "who": annotation.who,
        "made": time_text(annotation.made_us),
    }


def baseline_of(version: BaselineRow) -> Baseline:
    """The stored version as the object that judges."""
    if version.document is not None:
        return msgspec.json.decode(version.document, type=Baseline)
    return Baseline(
        centre=version.centre,
        sigma=version.sigma,
        scale="log" if version.scale == "log" else "linear",
        n=version.n,
        interval_us=version.interval_us,
        state="locked" if version.state == "locked" else "provisional",
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
    row: Row, name: Mapping[str, str], error: str | None, judged: Judged, alarmed: Collection[str] = ()
) -> Document:
    """One observation as the live stream tells it: small, with what the charts said of it.

    Verdicts are those of the metrics that raise alarms, and of others on which a rule is broken.
    """
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
            metric: {"z": None if v.z is None else round(v.z, 3), "rules": [rule for rule, _side in v.rules]}
            for metric, v in judged.verdicts.items()
            if metric in alarmed or v.rules
        },
        "cold": judged.cold,
        "buckets": {
            metric: {
                "time_ms": v.bucket.time_us / 1000.0,
                "level": _round(v.bucket.level * to_display(metric)),
                "score": None if v.bucket.u is None else round(v.bucket.u, 3),
                "rules": [rule for rule, _side in v.bucket.rules],
            }
            for metric, v in judged.verdicts.items()
            if v.bucket is not None
        },
    }


def rounded(value: float | None) -> float | None:
    """As every number of a document is."""
    return _round(value)


def _round(value: float | None) -> float | None:
    """Six significant digits: more than was measured, and short on the wire."""
    return None if value is None else float(f"{value:.6g}")


def _scaled(value: float | None, k: float) -> float | None:
    return None if value is None else _round(value * k)
