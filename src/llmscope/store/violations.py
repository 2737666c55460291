"""Violations as stored: one row per episode, with the statistics frozen when it was detected."""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from llmscope.spc.episodes import Episode

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
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation(Episode):
    """An episode as it is stored: of which metric of which series, and what people said of it.

    Values are in the metric's own unit (ms for durations). A superseded one belongs to a judgement that was made
    again, because a phase was begun before it or points were excluded: it is kept, and no longer counts.
    """

    id: int
    series_id: int
    metric: str
    acknowledged_us: int | None = None
    acknowledged_by: str | None = None
    note: str | None = None
    phase: int = 1
    superseded: bool = False

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
    """Which violations are asked for; None means any."""

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

    def where(self) -> tuple[str, list[Any]]:
        """The condition and its bound values; the columns are fixed names, the values are bound."""
        parts: list[str] = []
        values: list[Any] = []
        if self.since_us is not None:
            parts.append("(v.first_signal_us >= ? OR v.last_signal_us >= ?)")
            values += [self.since_us, self.since_us]
        for column, wanted in (
            ("s.provider", self.provider),
            ("s.model", self.model),
            ("s.server", self.server),
            ("s.source", self.source),
            ("v.metric", self.metric),
            ("v.chart", self.chart),
        ):
            if wanted is not None:
                parts.append(f"{column} = ?")
                values.append(wanted)
        if self.rules is not None:
            parts.append(f"v.rule IN ({','.join('?' * len(self.rules))})")
            values += self.rules
        if self.acknowledged is not None:
            parts.append(f"v.acknowledged_us IS {'NOT ' if self.acknowledged else ''}NULL")
        if self.superseded is not None:
            parts.append("v.superseded = ?")
            values.append(int(self.superseded))
        if self.open is not None:
            parts.append("v.open = ?")
            values.append(int(self.open))
        return " AND ".join(parts) or "1", values


_SELECT = "SELECT " + ", ".join(f"v.{c}" for c in COLUMNS) + " FROM violation v"
_IN_SPAN = "v.series_id = ? AND v.metric = ? AND v.last_signal_us >= ? AND v.first_signal_us < ? AND v.superseded = 0"
_FROM_BOTH = " JOIN series s ON s.id = v.series_id"
FOLLOWS = (
    "last_signal_id",
    "last_signal_us",
    "open",
    "count",
    "peak_z",
    "peak_value",
    "peak_id",
    "superseded",
)
_UPSERT = (
    f"INSERT INTO violation ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (id) DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in FOLLOWS)
)


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
        violation_id: int,
        at_us: int | None,
        who: str | None,
        note: str | None,
    ) -> None:
        connection.execute(
            "UPDATE violation SET acknowledged_us = ?, acknowledged_by = ?, note = ? WHERE id = ?",
            (at_us, who, note, violation_id),
        )

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

    def page(self, query: ViolationQuery, limit: int, after: tuple[int, int] | None) -> list[Violation]:
        """Newest first; `after` is the (first_signal_us, id) of the last one of the page before."""
        where, values = query.where()
        if after is not None:
            where += " AND (v.first_signal_us, v.id) < (?, ?)"
            values += after
        found = self._reader().execute(
            f"{_SELECT}{_FROM_BOTH} WHERE {where} ORDER BY v.first_signal_us DESC, v.id DESC LIMIT ?",
            (*values, limit),
        )
        return [Violation.from_row(row) for row in found]

    def furthest(
        self, series_id: int, metric: str, from_us: int, to_us: int, limit: int
    ) -> tuple[list[Violation], int]:
        """Those in force with a signal in [from_us, to_us): the furthest out, newest first, and how many there are."""
        connection, span = self._reader(), (series_id, metric, from_us, to_us)
        (total,) = connection.execute(f"SELECT count(*) FROM violation v WHERE {_IN_SPAN}", span).fetchone()
        found = connection.execute(
            f"{_SELECT} WHERE {_IN_SPAN} ORDER BY abs(v.peak_z) DESC, v.id DESC LIMIT ?", (*span, limit)
        )
        furthest = [Violation.from_row(row) for row in found]
        return sorted(furthest, key=lambda v: (-v.first_signal_us, -v.id)), int(total)

    def count(self, query: ViolationQuery) -> int:
        where, values = query.where()
        sql = f"SELECT count(*) FROM violation v{_FROM_BOTH} WHERE {where}"
        return int(self._reader().execute(sql, values).fetchone()[0])
