"""What is stored, as a table in a file: observations in order of arrival, what was found in them, and the rollups.

Reads the database and changes nothing; a server may go on writing. It reads in short transactions, one for each page,
so that the server's log does not grow meanwhile.
"""

import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from llmscope.documents import violation_document
from llmscope.exchange.tables import Column, Format, writer_of
from llmscope.observation import METRICS
from llmscope.store import Incident, Series, SeriesKey, StoredAlarm, Violation, reading
from llmscope.store import rows as r
from llmscope.store.incidents import Records
from llmscope.store.integrity import connect_readonly, version_of
from llmscope.store.rollups import HOURS, MINUTES, Level, Rollups
from llmscope.store.schema import SCHEMA_VERSION
from llmscope.store.violations import COLUMNS as VIOLATION_COLUMNS

IDS_AT_ONCE = 10_000
SLOTS_AT_ONCE_US = 7 * 86_400_000_000
FAR = reading.FAR

Tell = Callable[[int, int, int], None]
"""Is told what is done of what is to do, and how many rows were written."""


class CannotExport(Exception):
    """The database or what is asked of it cannot be used; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which series and times; None matches any. Times are µs since 1970, `to_us` is not included."""

    provider: str | None = None
    model: str | None = None
    from_us: int = -FAR
    to_us: int = FAR

    def admits(self, key: SeriesKey) -> bool:
        return self.provider in (None, key.provider) and self.model in (None, key.model)


NAME = tuple(Column(name, "text") for name in SeriesKey._fields)
OBSERVATIONS = (
    Column("id", "whole"),
    *NAME,
    Column("timestamp", "time"),
    Column("ok", "truth"),
    Column("error_kind", "text"),
    Column("error", "text"),
    *(
        Column(name, "number")
        for name in (
            "latency_ms", "ttft_ms", "connect_ms", "gap_mean_ms", "gap_max_ms", "total_duration_ms",
            "load_duration_ms", "prompt_eval_duration_ms", "eval_duration_ms",
        )
    ),
    Column("prompt_eval_count", "whole"),
    Column("eval_count", "whole"),
    *(Column(name, "number") for name in ("cpu_percent", "memory_percent", "gpu_percent", "gpu_memory_percent")),
    Column("host", "text"),
    Column("prompt_hash", "text"),
    Column("prompt_text", "text"),
)  # fmt: skip
VIOLATIONS = (
    Column("id", "whole"),
    *NAME,
    *(Column(name, "text") for name in ("metric", "chart")),
    Column("phase", "whole"),
    Column("superseded", "truth"),
    *(Column(name, "text") for name in ("rule", "side", "severity", "pattern_start", "first_signal", "last_signal")),
    *(Column(name, "whole") for name in ("pattern_start_id", "first_signal_id", "last_signal_id")),
    Column("open", "truth"),
    Column("count", "whole"),
    *(Column(name, "number") for name in ("peak_z", "peak_value")),
    Column("peak_id", "whole"),
    *(Column(name, "number") for name in ("value", "centre", "sigma", "ucl", "lcl")),
    Column("n", "whole"),
    *(Column(name, "number") for name in ("mean", "std")),
    Column("provisional", "truth"),
    Column("cause", "text"),
    *(Column(name, "number") for name in ("cause_ms", "cause_usual_ms")),
    *(Column(name, "text") for name in ("acknowledged_at", "acknowledged_by", "note")),
)  # fmt: skip
INCIDENTS = (
    Column("id", "whole"),
    *NAME,
    Column("opened", "time"),
    Column("closed", "time"),
    Column("state", "text"),
    Column("superseded", "truth"),
    Column("metric", "text"),
    Column("detector", "text"),
    Column("direction", "text"),
    Column("changed", "time"),
    *(Column(name, "number") for name in ("before", "after", "size_percent", "size_low", "size_high")),
    Column("acknowledged", "time"),
    Column("acknowledged_by", "text"),
    Column("note", "text"),
)
ROLLUPS = (
    *NAME,
    Column("start", "time"),
    Column("metric", "text"),
    *(Column(name, "whole") for name in ("seen", "failed", "n")),
    *(Column(name, "number") for name in ("mean", "std", "min", "p5", "p50", "p95", "max")),
)

Prompts = dict[int | None, tuple[str | None, str | None]]
Pages = Iterator[tuple[int, int, list[tuple[Any, ...]]]]
"""What is done of what is to do, and the next rows."""


def export(
    database: Path,
    file: BinaryIO,
    what: str,
    format: Format,
    selection: Selection,
    tell: Tell,
    columns: Sequence[str] | None = None,
) -> int:
    """Write a table of EXPORTS; how many rows. With `columns`, those, in that order.

    Raises CannotExport, what `version_of` raises, tables.NoParquet, sqlite3.Error or OSError.
    """
    table, pages = EXPORTS[what]
    names = [column.name for column in table]
    chosen = list(columns) if columns else names
    if unknown := [name for name in chosen if name not in names]:
        raise CannotExport(f"{what} have no column {unknown[0]!r}; they have {', '.join(names)}")
    places = [names.index(name) for name in chosen]
    version = version_of(database)
    if not version:
        raise CannotExport(f"there is no database {database}; name it with --db")
    if version < SCHEMA_VERSION:
        raise CannotExport(
            f"{database} has schema {version}, this LLMscope writes {SCHEMA_VERSION}: start llmscope on it once"
        )
    written = 0
    with closing(connect_readonly(database)) as connection:
        writer = writer_of(format, file, [table[place] for place in places])
        for done, total, rows in pages(connection, selection):
            writer.write(rows if chosen == names else [[row[place] for place in places] for row in rows])
            written += len(rows)
            tell(done, total, written)
        writer.close()
    return written


def _series(connection: sqlite3.Connection, selection: Selection) -> dict[int, SeriesKey]:
    found = connection.execute("SELECT id, provider, model, server, source FROM series ORDER BY id")
    keys = {series_id: SeriesKey(*key) for series_id, *key in found}
    return {series_id: key for series_id, key in keys.items() if selection.admits(key)}


def _observations(connection: sqlite3.Connection, selection: Selection) -> Pages:
    keys = _series(connection, selection)
    only = next(iter(keys)) if len(keys) == 1 else None
    first, last = connection.execute(
        "SELECT min(coalesce((SELECT min(first_id) FROM pack), ?1), coalesce((SELECT min(id) FROM observation), ?1)), "
        "max(coalesce((SELECT max(last_id) FROM pack), 0), coalesce((SELECT max(id) FROM observation), 0))",
        (FAR,),
    ).fetchone()
    for start in range(first, last + 1, IDS_AT_ONCE):
        stop = min(start + IDS_AT_ONCE - 1, last)
        with reading.snapshot(connection):
            found = [
                row
                for row in reading.rows(connection, start, stop, only, selection.from_us, selection.to_us)
                if row[r.SERIES_ID] in keys
            ]
            errors = dict(
                connection.execute(
                    "SELECT observation_id, message FROM failure WHERE observation_id BETWEEN ? AND ?",
                    (start, stop),
                )
            )
            prompts = _prompts(connection, {row[r.PROMPT_ID] for row in found})
        yield stop - first + 1, last - first + 1, [_observation(row, keys, errors, prompts) for row in found]


def _prompts(connection: sqlite3.Connection, ids: set[int | None]) -> Prompts:
    select = "SELECT hash, text FROM prompt WHERE id = ?"
    found: Prompts = {None: (None, None)}
    for prompt_id in ids - {None}:
        found[prompt_id] = connection.execute(select, (prompt_id,)).fetchone() or (None, None)
    return found


def _observation(
    row: r.Row,
    keys: dict[int, SeriesKey],
    errors: dict[int, str],
    prompts: Prompts,
) -> tuple[Any, ...]:
    """In order of OBSERVATIONS."""
    outcome, host = row[r.OUTCOME], row[r.HOST]
    return (
        row[r.ID],
        *keys[row[r.SERIES_ID]],
        row[r.TIME_US],
        outcome == 0,
        r.OUTCOMES[outcome].value if outcome else None,
        errors.get(row[r.ID]) if outcome else None,
        *[None if us is None else us / 1e3 for us in row[r.LATENCY : r.PROMPT_COUNT]],
        row[r.PROMPT_COUNT],
        row[r.EVAL_COUNT],
        *[None if share is None else share / 10.0 for share in row[r.EVAL_COUNT + 1 : r.PROMPT_ID]],
        None if host is None else r.HOSTS[host],
        *prompts[row[r.PROMPT_ID]],
    )


def _violations(connection: sqlite3.Connection, selection: Selection) -> Pages:
    keys = _series(connection, selection)
    (total,) = connection.execute("SELECT coalesce(max(id), 0) FROM violation").fetchone()
    select = (
        f"SELECT {', '.join(VIOLATION_COLUMNS)} FROM violation WHERE id BETWEEN ? AND ? "
        "AND first_signal_us >= ? AND first_signal_us < ? ORDER BY id"
    )
    for start in range(1, total + 1, IDS_AT_ONCE):
        stop = min(start + IDS_AT_ONCE - 1, total)
        found = connection.execute(select, (start, stop, selection.from_us, selection.to_us)).fetchall()
        violations = [Violation.from_row(row) for row in found]
        yield stop, total, [_violation(v, keys) for v in violations if v.series_id in keys]


def _violation(violation: Violation, keys: dict[int, SeriesKey]) -> tuple[Any, ...]:
    """In order of VIOLATIONS."""
    told = violation_document(violation, Series(violation.series_id, keys[violation.series_id], first_id=0))
    cause = told["cause"] or {}
    told |= {"cause": cause.get("part"), "cause_ms": cause.get("ms"), "cause_usual_ms": cause.get("usual_ms")}
    return tuple(told[column.name] for column in VIOLATIONS)


def _incidents(connection: sqlite3.Connection, selection: Selection) -> Pages:
    """One row for each alarm of an incident."""
    keys = _series(connection, selection)
    records = Records(lambda: connection)
    incidents = records.all(
        Incident, "opened_us >= ? AND opened_us < ? ORDER BY id", (selection.from_us, selection.to_us)
    )
    for i, incident in enumerate(incidents, start=1):
        if incident.series_id not in keys:
            continue
        alarms = records.all(StoredAlarm, "incident_id = ? ORDER BY id", (incident.id,))
        yield i, len(incidents), [_incident(incident, alarm, keys) for alarm in alarms]


def _incident(incident: Incident, alarm: StoredAlarm, keys: dict[int, SeriesKey]) -> tuple[Any, ...]:
    """In order of INCIDENTS."""
    return (
        incident.id, *keys[incident.series_id], incident.opened_us, incident.closed_us, incident.state,
        incident.superseded, alarm.metric, alarm.detector, alarm.direction, alarm.change_us, alarm.before,
        alarm.after, alarm.size_percent, alarm.size_low, alarm.size_high, incident.acknowledged_us,
        incident.acknowledged_by, incident.note,
    )  # fmt: skip


def _rollups(level: Level) -> Callable[[sqlite3.Connection, Selection], Pages]:
    def pages(connection: sqlite3.Connection, selection: Selection) -> Pages:
        keys = _series(connection, selection)
        rollups = Rollups(lambda: connection, lambda _run, _done: None)
        stretches = []
        for series_id in keys:
            first_us, last_us = connection.execute(
                "SELECT first_us, last_us FROM series WHERE id = ?", (series_id,)
            ).fetchone()
            if first_us is not None:
                first_us = max(first_us - first_us % level.width_us, selection.from_us)
                stop_us = min(last_us + 1, selection.to_us)
                stretches += [
                    (series_id, start_us, min(start_us + SLOTS_AT_ONCE_US, stop_us))
                    for start_us in range(first_us, stop_us, SLOTS_AT_ONCE_US)
                ]
        for i, (series_id, start_us, stop_us) in enumerate(stretches, start=1):
            rows = [
                row
                for metric in METRICS
                for row in _slots(rollups, series_id, keys[series_id], level, start_us, stop_us, metric)
            ]
            yield i, len(stretches), sorted(rows, key=lambda row: row[len(NAME)])

    return pages


def _slots(
    rollups: Rollups, series_id: int, key: SeriesKey, level: Level, from_us: int, to_us: int, metric: str
) -> Iterator[tuple[Any, ...]]:
    """In order of ROLLUPS; durations in ms. A metric that no observation of a slot tells has no row."""
    _, slots = rollups.read(series_id, level, from_us, to_us, metric)
    summaries = slots.summaries[metric]
    quantiles, stds = summaries.quantiles(), summaries.std()
    for i in range(len(slots)):
        n = int(summaries.n[i])
        if n:
            std = float(stds[i])
            yield (
                *key, int(slots.numbers[i]) * level.width_us, metric, int(slots.seen[i]), int(slots.failed[i]), n,
                float(summaries.mean[i]), None if math.isnan(std) else std, float(summaries.least[i]),
                *map(float, quantiles[i]), float(summaries.greatest[i]),
            )  # fmt: skip


EXPORTS: dict[str, tuple[tuple[Column, ...], Callable[[sqlite3.Connection, Selection], Pages]]] = {
    "observations": (OBSERVATIONS, _observations),
    "violations": (VIOLATIONS, _violations),
    "incidents": (INCIDENTS, _incidents),
    "minutes": (ROLLUPS, _rollups(MINUTES)),
    "hours": (ROLLUPS, _rollups(HOURS)),
}
"""What can be exported: its columns, and what reads it page by page."""
