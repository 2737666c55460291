"""What would have alarmed: stored observations of one metric, judged again by another configuration.

Reads the database and changes nothing. The API runs it as a process of its own, so that it never holds up
the observations that arrive meanwhile.
"""

import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmscope import documents
from llmscope.engine import ColdStarts
from llmscope.observation import METRICS
from llmscope.spc.alarms import Alarm
from llmscope.spc.chart import ControlChart, ManyVerdicts, Plan
from llmscope.spc.episodes import Episode
from llmscope.store import reading
from llmscope.store import rows as r
from llmscope.store.window import COLUMN, MEASURED, metric_values, scale_of

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CHUNK = 50_000  # rows read and judged at a time
MOST_LISTED = 1_000  # alarms and violations of a result that are told one by one


class CannotBacktest(ValueError):
    """The database or what is asked of it cannot be used; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which stored observations to judge, and how."""

    series_id: int
    metric: str
    plan: Plan
    since_us: int | None = None
    until_us: int | None = None
    phases_at_us: tuple[int, ...] = ()


Progress = Callable[[int, int], None]
FAR = 2**62


def open_readonly(path: Path) -> sqlite3.Connection:
    """The database, to be read only. Raises CannotBacktest."""
    if not path.exists():
        raise CannotBacktest(f"there is no database {path}; name it with --db")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        connection.execute("SELECT 1 FROM chart_state LIMIT 1")
    except sqlite3.Error as error:
        raise CannotBacktest(f"{path} is not a database of this LLMscope ({error})") from None
    return connection


def series_named(
    connection: sqlite3.Connection, model: str | None, provider: str | None
) -> list[tuple[int, str]]:
    """Ids and names of the series that match; None matches any."""
    found = connection.execute(
        "SELECT id, provider || ' ' || model || ' ' || server || ' ' || source FROM series "
        "WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR provider = ?2) ORDER BY id",
        (model, provider),
    )
    return [(int(series_id), str(name)) for series_id, name in found]


def run(
    connection: sqlite3.Connection, question: Question, progress: Progress | None = None
) -> dict[str, Any]:
    """Judge and compare; `progress` is told how many observations are judged, of how many."""
    span = (-FAR if question.since_us is None else question.since_us), (question.until_us or FAR)
    total = _seen(connection, question.series_id, *span)
    judge = _Judge(question)
    done = 0
    rows = reading.rows(connection, series_id=question.series_id, from_us=span[0], to_us=span[1] + 1)
    while chunk := list(itertools.islice(rows, CHUNK)):
        judge.take(np.array(chunk, dtype=np.float64))
        done += len(chunk)
        if progress is not None:
            progress(done, max(done, total))
    if not done:
        raise CannotBacktest("there is no observation of that series in that time")
    return _result(connection, question, judge)


def _seen(connection: sqlite3.Connection, series_id: int, from_us: int, to_us: int) -> int:
    """About how many observations there are: a packed thousand counts as a whole."""
    plain, packed = connection.execute(
        "SELECT (SELECT count(*) FROM observation WHERE series_id = ? AND time_us BETWEEN ? AND ?), "
        "(SELECT coalesce(sum(rows), 0) FROM pack WHERE from_us <= ? AND to_us >= ?)",
        (series_id, from_us, to_us, to_us, from_us),
    ).fetchone()
    return int(plain) + int(packed)


class _Judge:
    """The charts of the phases, one after the other, and the values they learn from."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.told = ManyVerdicts()
        self.judged = 0
        self.first_us: int | None = None
        self.last_us = 0
        self._phases = sorted(question.phases_at_us)
        self._cold = ColdStarts()
        self._begin()

    def _begin(self) -> None:
        self._values: list[Floats] = []
        self._times: list[Integers] = []
        self._ids: list[Integers] = []
        self.chart = ControlChart(METRICS[self.question.metric].scale, self.question.plan, self._history)

    def _history(self, row_id: int) -> tuple[Floats, Integers]:
        values, times_us = np.concatenate(self._values), np.concatenate(self._times)
        upto = int(np.searchsorted(np.concatenate(self._ids), row_id, side="right"))
        return values[:upto], times_us[:upto]

    def take(self, block: Floats) -> None:
        """Judge rows, shape (n, len(rows.COLUMNS))."""
        ids, times_us = block[:, r.ID].astype(np.int64), block[:, r.TIME_US].astype(np.int64)
        measured = (block[:, 3:] * scale_of(MEASURED)).astype(np.float32)
        values = metric_values(measured, self.question.metric)
        loads_ms = measured[:, COLUMN["load_us"]].astype(np.float64)
        cold = self._cold.are_cold(loads_ms, ids, times_us, measured[:, COLUMN["outcome"]] == 0.0)
        if self.question.metric == "load":
            cold[:] = False
        if self.first_us is None:
            self.first_us = int(times_us[0])
        self.last_us = int(times_us[-1])
        while self._phases and self._phases[0] <= self.last_us:
            at = int(np.searchsorted(times_us, self._phases.pop(0)))
            self._judge(values[:at], ids[:at], times_us[:at], cold[:at])
            values, ids, times_us, cold = values[at:], ids[at:], times_us[at:], cold[at:]
            self._begin()
        self._judge(values, ids, times_us, cold)

    def _judge(self, values: Floats, ids: Integers, times_us: Integers, cold: npt.NDArray[np.bool_]) -> None:
        if len(values) == 0:
            return
        if self.chart.state != "locked":
            learnt = ~np.isnan(values) & ~cold
            self._values.append(values[learnt])
            self._times.append(times_us[learnt])
            self._ids.append(ids[learnt])
        self.judged += int(np.count_nonzero(~np.isnan(values)))
        told = self.chart.update_many(values, ids, times_us, cold)
        if self.chart.state == "locked":
            self._values, self._times, self._ids = [], [], []
        self.told.events += told.events
        self.told.alarms += told.alarms
        self.told.baselines += told.baselines


def _result(connection: sqlite3.Connection, question: Question, judge: _Judge) -> dict[str, Any]:
    """The limits in force at the end, with the alarms and marks that there would have been, beside what people
    acknowledged then."""
    alarms = list({(e.alarm.detector, e.alarm.opened_id): e.alarm for e in judge.told.alarms}.values())
    opened = [a for a in alarms if a.state != "below_min_change"]
    episodes: dict[tuple[str, str, str, int], Episode] = {}
    for event in judge.told.events:
        e = event.episode
        episodes[e.chart, e.rule, e.side, e.first_signal_id] = e
    counts = Counter((e.chart, e.rule) for e in episodes.values())
    days = max(1e-9, (judge.last_us - (judge.first_us or 0)) / 86_400e6)
    acknowledged = connection.execute(
        "SELECT id, rule, first_signal_us, last_signal_us FROM violation WHERE series_id = ? AND metric = ? "
        "AND acknowledged_us IS NOT NULL AND superseded = 0 AND first_signal_us BETWEEN ? AND ?",
        (question.series_id, question.metric, judge.first_us, judge.last_us),
    ).fetchall()
    matched = [
        violation_id
        for violation_id, _rule, first_us, last_us in acknowledged
        if any(a.change_us <= last_us and (a.closed_us is None or a.closed_us >= first_us) for a in opened)
    ]
    return {
        "series_id": question.series_id,
        "metric": question.metric,
        "observations": judge.judged,
        "from": documents.time_text(judge.first_us),
        "to": documents.time_text(judge.last_us),
        "days": round(days, 4),
        "state": judge.chart.state,
        "limits": documents.limits_document(question.metric, judge.chart, ()),
        "alarms": [_alarm_document(a, question.metric) for a in opened[:MOST_LISTED]],
        "alarms_total": len(opened),
        "alarms_per_day": len(opened) / days,
        "below_min_change": len(alarms) - len(opened),
        "marks": [
            {"chart": chart, "rule": rule, "count": count, "per_day": count / days}
            for (chart, rule), count in sorted(counts.items())
        ],
        "acknowledged": len(acknowledged),
        "acknowledged_covered": len(matched),
        "acknowledged_missed": [row[0] for row in acknowledged if row[0] not in matched][:MOST_LISTED],
    }


def _alarm_document(alarm: Alarm, metric: str) -> dict[str, Any]:
    k = documents.to_display(metric) if alarm.detector == "SHIFT" else 1.0
    return {
        "detector": alarm.detector,
        "direction": alarm.direction,
        "state": alarm.state,
        "change": documents.time_text(alarm.change_us),
        "opened": documents.time_text(alarm.opened_us),
        "closed": documents.time_text(alarm.closed_us),
        "before": documents.rounded(alarm.before * k),
        "after": documents.rounded(alarm.after * k),
        "size_percent": documents.rounded(alarm.size_percent),
        "size_low": documents.rounded(alarm.size_low),
        "size_high": documents.rounded(alarm.size_high),
        "provisional": alarm.provisional,
    }


__all__ = ["CannotBacktest", "Question", "open_readonly", "run", "series_named"]
