"""Incidents and their alarms as stored, and what people decide: phases, exclusions, annotations."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from llmscope.spc.alarms import Alarm

IncidentState = Literal["open", "recovered", "accepted", "ended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAlarm(Alarm):
    """An alarm of one metric of one series, in one phase. Without an incident it is a mark below min_change."""

    id: int
    incident_id: int | None
    series_id: int
    metric: str
    phase: int
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Incident:
    """Alarms of one series that overlap in time: what a person is told."""

    id: int
    series_id: int
    opened_id: int
    opened_us: int
    closed_us: int | None = None
    state: IncidentState = "open"
    superseded: bool = False
    acknowledged_us: int | None = None
    acknowledged_by: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of one metric of one series that is judged by one baseline; it ends where the next begins."""

    series_id: int
    metric: str
    number: int
    start_id: int
    start_us: int
    cause: str
    who: str | None
    note: str | None
    made_us: int


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Observations that nothing is learnt from and no rule judges; they are still shown."""

    id: int
    series_id: int
    from_us: int
    to_us: int
    reason: str
    who: str | None
    made_us: int
    withdrawn_us: int | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """What somebody noted of a moment."""

    id: int
    series_id: int
    time_us: int
    text: str
    who: str | None
    made_us: int


Record = TypeVar("Record", StoredAlarm, Incident, Phase, Exclusion, Annotation)
_TABLES: dict[type, str] = {
    StoredAlarm: "alarm",
    Incident: "incident",
    Phase: "phase",
    Exclusion: "exclusion",
    Annotation: "annotation",
}
_COLUMNS = {kind: tuple(f.name for f in fields(kind)) for kind in _TABLES}
_PUT = {
    kind: f"INSERT OR REPLACE INTO {table} ({', '.join(_COLUMNS[kind])}) "
    f"VALUES ({', '.join('?' * len(_COLUMNS[kind]))})"
    for kind, table in _TABLES.items()
}
_SELECT = {kind: f"SELECT {', '.join(_COLUMNS[kind])} FROM {table}" for kind, table in _TABLES.items()}
_TRUTHS = ("superseded", "provisional")


def _record(kind: type[Record], row: Sequence[Any]) -> Record:
    found = dict(zip(_COLUMNS[kind], row, strict=True))
    for name in _TRUTHS:
        if name in found:
            found[name] = bool(found[name])
    return kind(**found)


class Records:
    """Reads and writes of the tables above; `reader` gives the calling thread's read connection."""

    def __init__(self, reader: Callable[[], sqlite3.Connection]) -> None:
        self._reader = reader

    @staticmethod
    def put(connection: sqlite3.Connection, records: Iterable[Any]) -> None:
        """Store records, each in the place of the one with its key."""
        for record in records:
            kind = type(record)
            connection.execute(_PUT[kind], tuple(getattr(record, name) for name in _COLUMNS[kind]))

    def all(self, kind: type[Record], where: str = "1", values: Sequence[Any] = ()) -> list[Record]:
        """Records of a kind; `where` is a condition of fixed text, its values are bound."""
        return [
            _record(kind, row) for row in self._reader().execute(f"{_SELECT[kind]} WHERE {where}", values)
        ]

    def last_id(self, kind: type[Any]) -> int:
        return int(self._reader().execute(f"SELECT coalesce(max(id), 0) FROM {_TABLES[kind]}").fetchone()[0])
