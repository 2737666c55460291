"""Violations as stored: one row per episode, with the statistics frozen when it was detected."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmscope.spc.episodes import Episode

Severity = Literal["critical", "warning"]
CRITICAL = "R1"  # a value beyond the control limits; every other rule is broken by a pattern within them

COLUMNS = (
    "id",
    "series_id",
    "metric",
    "rule",
    "side",
    "pattern_start_id",
    "pattern_start_us",
    "first_signal_id",
    "first_signal_us",
    "last_signal_id",
    "last_signal_us",
    "open",
    "count",
    "peak_z",
    "peak_value",
    "peak_id",
    "value",
    "centre",
    "sigma",
    "ucl",
    "lcl",
    "n",
    "mean",
    "std",
    "provisional",
    "acknowledged_us",
    "acknowledged_by",
    "note",
    "chart",
    "phase",
    "superseded",
    "cause_part",
    "cause_us",
    "cause_usual_us",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation(Episode):
    """An episode as it is stored: of which metric of which series, and what people said of it.

    Values are in the metric's own unit (ms for durations). A superseded one belongs to a judgement that was made
    again, because a phase was begun before it or points were excluded: it is kept, and no longer counts.
    `cause_part` of the worst request explains most of what it took longer than usual; None when no part does.
    """

    id: int
    series_id: int
    metric: str
    acknowledged_us: int | None = None
    acknowledged_by: str | None = None
    note: str | None = None
    phase: int = 1
    superseded: bool = False
    cause_part: str | None = None
    cause_us: int | None = None
    cause_usual_us: int | None = None

    @property
    def severity(self) -> Severity:
        return "critical" if self.rule == CRITICAL else "warning"

    def as_row(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in COLUMNS)

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> "Violation":
        found = dict(zip(COLUMNS, row, strict=True))
        found["open"] = bool(found["open"])
        found["provisional"] = bool(found["provisional"])
        found["superseded"] = bool(found["superseded"])
        return cls(**found)


@dataclass(frozen=True, slots=True)
class ViolationQuery:
    """Which violations are asked for; None means any.

    `since_us` and `until_us` admit what lies within or reaches into the stretch. `search` is found in any text of a
    violation, in whatever case.
    """

    since_us: int | None = None
    provider: str | None = None
    model: str | None = None
    server: str | None = None
    source: str | None = None
    metric: str | None = None
    rules: tuple[str, ...] | None = None
    acknowledged: bool | None = None
    open: bool | None = None
    chart: str | None = None
    superseded: bool | None = False
    until_us: int | None = None
    severity: Severity | None = None
    search: str | None = None

    def where(self) -> tuple[str, list[Any]]:
        """The condition and its bound values; the columns are fixed names, the values are bound."""
        parts: list[str] = []
        values: list[Any] = []
        if self.since_us is not None:
            parts.append("(v.first_signal_us >= ? OR v.last_signal_us >= ?)")
            values += [self.since_us, self.since_us]
        if self.until_us is not None:
            parts.append("v.first_signal_us <= ?")
            values.append(self.until_us)
        for column, wanted in (
            ("provider", self.provider),
            ("model", self.model),
            ("server", self.server),
            ("source", self.source),
        ):
            if wanted is not None:
                parts.append(f"v.series_id IN (SELECT id FROM series WHERE {column} = ?)")
                values.append(wanted)
        for column, wanted in (("v.metric", self.metric), ("v.chart", self.chart)):
            if wanted is not None:
                parts.append(f"{column} = ?")
                values.append(wanted)
        if self.rules is not None:
            parts.append(f"v.rule IN ({','.join('?' * len(self.rules))})")
            values += self.rules
        if self.severity is not None:
            parts.append(f"v.rule {'=' if self.severity == 'critical' else '<>'} ?")
            values.append(CRITICAL)
        if self.acknowledged is not None:
            parts.append(f"v.acknowledged_us IS {'NOT ' if self.acknowledged else ''}NULL")
        if self.superseded is not None:
            parts.append("v.superseded = ?")
            values.append(int(self.superseded))
        if self.open is not None:
            parts.append("v.open = ?")
            values.append(int(self.open))
        if self.search is not None:
            parts.append(_FOUND)
            values += [self.search.casefold()] * _FOUND.count("?")
        return " AND ".join(parts) or "1", values


def folded(text: str | None) -> str | None:
    """The SQL function of that name: text without its case. LIKE would know only the case of ASCII letters."""
    return None if text is None else text.casefold()


_SEARCHED_SERIES = ("model", "provider", "server")
_SEARCHED = ("note", "acknowledged_by")  # few rows have them
_SEARCHED_WORDS = ("rule", "side", "cause_part")  # our own words, in ASCII
_FOUND = (
    "("
    + " OR ".join(
        [
            "v.series_id IN (SELECT id FROM series WHERE "
            + " OR ".join(f"instr(folded({c}), ?)" for c in _SEARCHED_SERIES)
            + ")",
            *(f"instr(lower(v.{c}), ?)" for c in _SEARCHED_WORDS),
            *(f"(v.{c} IS NOT NULL AND instr(folded(v.{c}), ?))" for c in _SEARCHED),
        ]
    )
    + ")"
)
_SELECT = "SELECT " + ", ".join(f"v.{c}" for c in COLUMNS) + " FROM violation v"
_IN_SPAN = "v.series_id = ? AND v.metric = ? AND v.last_signal_us >= ? AND v.first_signal_us < ? AND v.superseded = 0"
FOLLOWS = (  # what of an episode follows while it goes on
    "last_signal_id",
    "last_signal_us",
    "open",
    "count",
    "peak_z",
    "peak_value",
    "peak_id",
)
_GROWS = (*FOLLOWS, "superseded", "cause_part", "cause_us", "cause_usual_us")
_UPSERT = (
    f"INSERT INTO violation ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (id) DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in _GROWS)
)

_IDS = "(SELECT value FROM json_each(?))"  # any number of ids as one bound value
_UNKNOWN = (
    "SELECT j.value FROM json_each(?) j LEFT JOIN violation v ON v.id = j.value "
    "WHERE v.id IS NULL ORDER BY j.key LIMIT 1"
)
_ACKNOWLEDGE = f"UPDATE violation SET acknowledged_us = ?, acknowledged_by = ?, note = ? WHERE id IN {_IDS}"


class ViolationTable:
    """Reads and writes of the table `violation`; `reader` gives the calling thread's read connection."""

    def __init__(self, reader: Callable[[], sqlite3.Connection]) -> None:
        self._reader = reader

    @staticmethod
    def upsert(connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
        """Store episodes; one that is stored already only grows, and keeps what people said of it."""
        connection.executemany(_UPSERT, rows)

    @staticmethod
    def acknowledge(
        connection: sqlite3.Connection,
        ids: Sequence[int],
        at_us: int | None,
        who: str | None,
        note: str | None,
    ) -> None:
        """Note what a person said of these violations; None takes it back."""
        connection.execute(_ACKNOWLEDGE, (at_us, who, note, json.dumps(ids)))

    @staticmethod
    def unknown(connection: sqlite3.Connection, ids: Sequence[int]) -> int | None:
        """The first of the ids that no violation has."""
        found = connection.execute(_UNKNOWN, (json.dumps(ids),)).fetchone()
        return None if found is None else int(found[0])

    def last_id(self) -> int:
        return int(self._reader().execute("SELECT coalesce(max(id), 0) FROM violation").fetchone()[0])

    def get(self, violation_id: int) -> Violation | None:
        row = self._reader().execute(f"{_SELECT} WHERE v.id = ?", (violation_id,)).fetchone()
        return None if row is None else Violation.from_row(row)

    def recent(self, since_us: int) -> list[Violation]:
        """Those still open or with a signal since then, oldest first."""
        found = self._reader().execute(
            f"{_SELECT} WHERE v.open = 1 OR (v.superseded = 0 AND (v.first_signal_us >= ? OR v.last_signal_us >= ?)) "
            "ORDER BY v.id",
            (since_us, since_us),
        )
        return [Violation.from_row(row) for row in found]

    def of_ids(self, ids: Sequence[int]) -> list[Violation]:
        """Those with one of the ids, in no order."""
        found = self._reader().execute(f"{_SELECT} WHERE v.id IN {_IDS}", (json.dumps(ids),))
        return [Violation.from_row(row) for row in found]

    def page(
        self, query: ViolationQuery, limit: int, after: tuple[int, int] | None = None, offset: int = 0
    ) -> list[Violation]:
        """Newest first, `offset` of them passed over; `after` is the (first_signal_us, id) of the last one of the
        page before."""
        where, values = query.where()
        if after is not None:
            where += " AND (v.first_signal_us, v.id) < (?, ?)"
            values += after
        found = self._reader().execute(
            f"{_SELECT} WHERE {where} ORDER BY v.first_signal_us DESC, v.id DESC LIMIT ? OFFSET ?",
            (*values, limit, offset),
        )
        return [Violation.from_row(row) for row in found]

    def furthest(
        self, series_id: int, metric: str, from_us: int, to_us: int, limit: int
    ) -> tuple[list[Violation], int]:
        """Those in force with a signal in [from_us, to_us): the furthest out, newest first, and how many there are."""
        connection, span = self._reader(), (series_id, metric, from_us, to_us)
        (total,) = connection.execute(f"SELECT count(*) FROM violation v WHERE {_IN_SPAN}", span).fetchone()
        found = connection.execute(
            f"{_SELECT} WHERE v.id IN (SELECT v.id FROM violation v WHERE {_IN_SPAN} "
            "ORDER BY abs(v.peak_z) DESC, v.id DESC LIMIT ?)",
            (*span, limit),
        )
        furthest = [Violation.from_row(row) for row in found]
        return sorted(furthest, key=lambda v: (-v.first_signal_us, -v.id)), int(total)

    def counts(self, query: ViolationQuery) -> dict[str, int]:
        """How many there are of each rule."""
        where, values = query.where()
        sql = f"SELECT v.rule, count(*) FROM violation v WHERE {where} GROUP BY v.rule ORDER BY v.rule"
        return dict(self._reader().execute(sql, values))
