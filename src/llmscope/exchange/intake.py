"""Files as observations: read twice, once to see that every row is right, then to hand the new ones to the one door.

A row is known by its series and its time. As many rows of a file as are stored with the same series and time are left
out, so importing twice adds nothing, and an import that broke off goes on where it was.
"""

import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from llmscope.documents import time_text
from llmscope.exchange import tables
from llmscope.ingest import Ingest, InvalidObservation, NotStored, TooManySeries
from llmscope.observation import Observation
from llmscope.store import SeriesKey, reading
from llmscope.store import rows as r
from llmscope.store.integrity import connect_readonly

BATCH = 5_000  # rows at a time: enough to be judged at once, few enough for a commit of some milliseconds
FORGET_EVERY = 100_000  # rows after which what was found is written and let go of
LEFT_OUT = ("id",)  # an id is of the database that the file is from
TEXTS = frozenset({
    "provider", "model", "server", "source", "timestamp", "error_kind", "error", "host", "prompt_hash", "prompt_text",
})  # fmt: skip
NO_VALUE = frozenset({"null", "none", "nan", "na", "n/a"})
FIELDS = frozenset(Observation.__struct_fields__)
SECONDS_BELOW, MILLISECONDS_BELOW = 1e11, 1e14  # as seconds, the year 5138; as milliseconds likewise

Tell = Callable[[int], None]
"""Is told how many rows of the file are done."""


class CannotImport(Exception):
    """The file cannot be taken in; the message is one sentence with the line or row, and what became of the rest."""


@dataclass(slots=True)
class Survey:
    """What a file holds."""

    rows: int = 0
    invalid: int = 0
    first_invalid: str | None = None
    unknown_columns: list[str] = field(default_factory=list)
    from_us: int = reading.FAR
    to_us: int = -reading.FAR
    series: dict[SeriesKey, int] = field(default_factory=dict)  # rows of each

    @property
    def valid(self) -> int:
        return self.rows - self.invalid


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the rows of a file."""

    accepted: int
    known: int


class Intake:
    """A file on its way in. `defaults` fill what a row does not say; a time without a zone is of `zone`.

    With `skip_invalid` rows that are not valid are left out; else one of them keeps the whole file out.
    """

    def __init__(
        self,
        path: Path,
        clock_us: Callable[[], int],
        *,
        name: str | None = None,
        defaults: dict[str, str] | None = None,
        zone: dt.tzinfo = dt.UTC,
        skip_invalid: bool = False,
    ) -> None:
        self._path = path
        self._name = name or str(path)
        self._clock_us = clock_us
        self._defaults = defaults or {}
        self._zone = zone
        self._skip_invalid = skip_invalid

    def survey(self, tell: Tell) -> Survey:
        """Read all of it and check every row. Raises CannotImport."""
        survey = Survey()
        unknown: dict[str, None] = {}
        for _where, observation, time_us in self._observations(survey, unknown):
            survey.from_us, survey.to_us = min(survey.from_us, time_us), max(survey.to_us, time_us)
            key = SeriesKey(observation.provider, observation.model, observation.server, observation.source)
            survey.series[key] = survey.series.get(key, 0) + 1
            if survey.rows % 1000 == 0:
                tell(survey.rows)
        survey.unknown_columns = list(unknown)
        return survey

    def new_in(self, database: Path, survey: Survey, tell: Tell) -> int:
        """How many rows are not stored yet."""
        with closing(Known(database, survey)) as known:
            return sum(1 for _ in self._new(known, tell))

    async def take(self, ingest: Ingest, survey: Survey, tell: Tell) -> Taken:
        """Hand over what is not stored yet, in the order of the file. Raises CannotImport."""
        accepted = since = 0
        with closing(Known(ingest.store.path, survey)) as known:
            batch: list[Observation] = []
            for observation in self._new(known, tell):
                batch.append(observation)
                if len(batch) == BATCH:
                    accepted += await self._accept(ingest, batch, accepted)
                    since += len(batch)
                    batch = []
                if since >= FORGET_EVERY:
                    await ingest.settle()
                    ingest.findings.forget_old()
                    ingest.store.checkpoint()
                    since = 0
            if batch:
                accepted += await self._accept(ingest, batch, accepted)
        await ingest.settle()
        return Taken(accepted, survey.valid - accepted)

    async def _accept(self, ingest: Ingest, batch: Sequence[Observation], accepted: int) -> int:
        try:
            return (await ingest.accept(batch)).accepted
        except (NotStored, TooManySeries) as error:
            raise CannotImport(
                f"{self._name}: stopped after {accepted:,} new rows: {error}; run the import again to go on from there"
            ) from None

    def _new(self, known: "Known", tell: Tell) -> Iterator[Observation]:
        for i, (_where, observation, time_us) in enumerate(self._observations(Survey(), {}), start=1):
            if not known.holds(observation, time_us):
                yield observation
            if i % 1000 == 0:
                tell(i)

    def _observations(
        self, survey: Survey, unknown: dict[str, None]
    ) -> Iterator[tuple[str, Observation, int]]:
        """Where it stands, the observation, its time. Raises CannotImport."""
        now_us = self._clock_us()
        try:
            for where, cells in tables.read(self._path):
                survey.rows += 1
                unknown.update(dict.fromkeys(n for n in cells if n not in FIELDS and n not in LEFT_OUT))
                try:
                    observation = self._observation(cells)
                    time_us = Ingest.check(0, observation, now_us)
                    assert time_us is not None, "_observation sees to it"
                except InvalidObservation as error:
                    sentence = f"{where}: {error}"
                    if not self._skip_invalid:
                        raise CannotImport(
                            f"{self._name}, {sentence}; nothing was imported: mend it, or pass --skip-invalid"
                        ) from None
                    survey.invalid += 1
                    survey.first_invalid = survey.first_invalid or sentence
                else:
                    yield where, observation, time_us
        except tables.CannotRead as error:
            raise CannotImport(f"{self._name}: {error}") from None
        except tables.NoParquet as error:
            raise CannotImport(str(error)) from None
        except OSError as error:
            raise CannotImport(f"cannot read {self._name}: {error.strerror or error}") from None

    def _observation(self, cells: dict[str, Any]) -> Observation:
        """Raises InvalidObservation."""
        fields: dict[str, Any] = {}
        for name, value in cells.items():
            if value is None or value == "" or value != value or name not in FIELDS:  # nan is not itself
                continue
            if name in TEXTS:
                fields[name] = value if name == "timestamp" or isinstance(value, str) else str(value)
            elif not isinstance(value, str) or value.strip().lower() not in NO_VALUE:
                fields[name] = value
        for name, default in self._defaults.items():
            fields.setdefault(name, default)
        if "timestamp" not in fields:
            raise InvalidObservation(0, "timestamp", "is required")
        fields["timestamp"] = self._time(fields["timestamp"])
        if "error_kind" in fields:
            fields.setdefault("ok", False)
        try:
            return msgspec.convert(fields, Observation, strict=False)
        except msgspec.ValidationError as error:
            said, _, where = str(error).replace("`", "").partition(" - at $.")
            shown = f" (it is {fields[where]!r})" if where in fields else ""
            raise InvalidObservation(0, where or "row", f"{said[:1].lower()}{said[1:]}{shown}") from None

    def _time(self, value: Any) -> str:
        """RFC 3339 in UTC, from that or another form of ISO 8601, a time of Python, or s, ms or µs since 1970."""
        try:
            if isinstance(value, str):
                value = dt.datetime.fromisoformat(text) if "-" in (text := value.strip())[1:] else float(text)
                if isinstance(value, dt.datetime) and value.tzinfo is not None:
                    return text
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                us = (
                    value * 1e6
                    if value < SECONDS_BELOW
                    else value * 1e3
                    if value < MILLISECONDS_BELOW
                    else value
                )
                return str(time_text(round(us)))
            if not isinstance(value, dt.datetime):
                raise ValueError
            moment = value if value.tzinfo is not None else value.replace(tzinfo=self._zone)
            return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        except (ValueError, OverflowError):
            raise InvalidObservation(
                0, "timestamp", f"must be a date and time such as 2025-10-28T12:34:56.789Z (it is {value!r})"
            ) from None


class Known:
    """How many rows are stored of each series and time that a file may have, in a temporary file of SQLite."""

    def __init__(self, database: Path, survey: Survey) -> None:
        self._seen = sqlite3.connect("", isolation_level=None)
        self._seen.execute("PRAGMA synchronous = OFF")
        self._seen.execute(
            "CREATE TABLE seen (series INTEGER, time_us INTEGER, n INTEGER, PRIMARY KEY (series, time_us)) "
            "WITHOUT ROWID"
        )
        self._seen.execute("BEGIN")
        self._series_by_key: dict[SeriesKey, int] = {}
        self._any = False
        if survey.valid and database.exists() and database.stat().st_size:
            with closing(connect_readonly(database)) as connection:
                self._note(connection, survey)

    def _note(self, connection: sqlite3.Connection, survey: Survey) -> None:
        stored = connection.execute("SELECT id, provider, model, server, source FROM series").fetchall()
        keys = {series_id: SeriesKey(*key) for series_id, *key in stored}
        self._series_by_key = {key: i for i, key in keys.items() if key in survey.series}
        wanted = frozenset(self._series_by_key.values())
        if not wanted:
            return
        rows = reading.rows(connection, from_us=survey.from_us, to_us=survey.to_us + 1)
        self._seen.executemany(
            "INSERT INTO seen VALUES (?, ?, 1) ON CONFLICT (series, time_us) DO UPDATE SET n = n + 1",
            ((row[r.SERIES_ID], row[r.TIME_US]) for row in rows if row[r.SERIES_ID] in wanted),
        )
        self._any = self._seen.execute("SELECT 1 FROM seen LIMIT 1").fetchone() is not None

    def holds(self, o: Observation, time_us: int) -> bool:
        """Whether it is stored; each stored row answers for one."""
        if not self._any:
            return False
        series = self._series_by_key.get(SeriesKey(o.provider, o.model, o.server, o.source))
        if series is None:
            return False
        found = self._seen.execute(
            "UPDATE seen SET n = n - 1 WHERE series = ? AND time_us = ? AND n > 0", (series, time_us)
        )
        return found.rowcount == 1

    def close(self) -> None:
        self._seen.close()
