"""The SQLite store: observations in order of arrival, what was found in them, and the recent past in memory."""

import contextlib
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmscope.store import reading, snapshot
from llmscope.store import rows as r
from llmscope.store.faults import StorageFault
from llmscope.store.incidents import Records
from llmscope.store.keeping import Keep, Keeper
from llmscope.store.rollups import Rollups
from llmscope.store.rows import Row
from llmscope.store.schema import migrate
from llmscope.store.tokens import TokenTable
from llmscope.store.violations import Violation, ViolationTable, folded
from llmscope.store.window import Window
from llmscope.store.writer import Append, Write, Writer

WINDOW_US = 24 * 3_600_000_000
FAR_FUTURE_US = 2**62
MAX_PROMPTS = 10_000  # with their texts 80 MB at most: invented ones must not fill memory and disk


class SeriesKey(NamedTuple):
    """What tells one series from another."""

    provider: str
    model: str
    server: str
    source: str


@dataclass(slots=True)
class Series:
    """A series as it stands now: its name, its recent rows, and running counts."""

    id: int
    key: SeriesKey
    first_id: int
    window: Window = field(default_factory=Window)
    count: int = 0
    failed: int = 0
    first_us: int | None = None
    last_us: int | None = None
    failed_in_row: int = 0
    failing_since_us: int | None = None
    error_kind: str | None = None
    error: str | None = None
    last_id: int = 0  # of its newest row
    counted_id: int = 0  # every row up to this one is counted
    judged_id: int = 0
    saved: bool = False

    def take(self, rows: Sequence[Row], errors: dict[int, str]) -> None:
        """Remember rows that are committed."""
        self.window.extend(rows)
        for row in rows:
            self.count += 1
            time_us = row[r.TIME_US]
            if row[r.OUTCOME]:
                self.failed += 1
                if self.failed_in_row == 0:
                    self.failing_since_us = time_us
                self.failed_in_row += 1
                self.error_kind = r.OUTCOMES[row[r.OUTCOME]].value
                self.error = errors.get(row[r.ID])
            elif self.failed_in_row:
                self.failed_in_row = 0
                self.failing_since_us = self.error_kind = self.error = None
            if self.first_us is None or time_us < self.first_us:
                self.first_us = time_us
            if self.last_us is None or time_us > self.last_us:
                self.last_us = time_us
        self.last_id = self.counted_id = rows[-1][r.ID]


@dataclass(frozen=True, slots=True)
class BaselineRow:
    """One version of the limits of one metric of one series, as stored; `document` is all of the baseline."""

    series_id: int
    metric: str
    version: int
    fitted_id: int
    fitted_us: int
    state: str
    scale: str
    centre: float
    sigma: float
    n: int
    interval_us: int
    phase: int = 1
    document: str | None = None


_BASELINE_COLUMNS = ", ".join(BaselineRow.__slots__)


class Store:
    """Everything that is remembered. Made by `open_store`; `close` it to flush.

    Writes go through one thread (`Writer`); the registries and windows are touched by one thread only, the
    one that calls `append` (the event loop); reads of old rows may run on any thread.
    """

    def __init__(self, path: Path, clock_us: Callable[[], int], keep: Keep) -> None:
        self.path = path
        self._clock_us = clock_us
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        connection = self._connect(check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a 200 means on disk, also when the power fails
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        migrate(connection)
        self._connection = connection
        self.violations = ViolationTable(self.read)
        self.records = Records(self.read)
        self.rollups = Rollups(self.read, self.write)
        self.keeper = Keeper(self.read, self.write, clock_us, keep)
        self.tokens = TokenTable(self.read)
        self.series: dict[int, Series] = {}
        self.series_by_key: dict[SeriesKey, Series] = {}
        self.prompt_hash_by_id: dict[int, str] = {}
        self._prompt_by_hash: dict[str, tuple[int, bool]] = {}  # id, whether the text is known
        self._unsaved_prompts: dict[int, tuple[int, str, str | None]] = {}
        self.baselines: dict[tuple[int, str], list[BaselineRow]] = {}
        # ids go on where they were, also when every row has been packed or given up
        (last_id,) = connection.execute(
            "SELECT max((SELECT coalesce(max(id), 0) FROM observation), (SELECT coalesce(max(last_id), 0) FROM pack), "
            "(SELECT row_id FROM rolled), (SELECT row_id FROM given_up))"
        ).fetchone()
        self.next_id: int = last_id + 1
        self._load()
        self._writer = Writer(connection, path, clock_us)
        self._writer.start()

    def _connect(self, check_same_thread: bool = True) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=check_same_thread)
        connection.execute("PRAGMA busy_timeout = 5000")
        connection.create_function("folded", 1, folded, deterministic=True)
        return connection

    def close(self) -> None:
        """Flush what is waiting, note the counts, and close every connection."""
        self.checkpoint()
        self._writer.stop()
        for reader in self._readers:
            reader.close()
        with contextlib.suppress(sqlite3.DatabaseError):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        windows = {series.id: series.window for series in self.series.values()}
        snapshot.save(snapshot.path_of(self.path), windows)

    # -- starting

    def _load(self) -> None:
        connection = self._connection
        for row in connection.execute(
            "SELECT id, provider, model, server, source, first_id, counted_id, count, failed, first_us, "
            "last_us, judged_id, last_id FROM series"
        ):
            series = Series(
                row[0],
                SeriesKey(*row[1:5]),
                first_id=row[5],
                counted_id=row[6],
                count=row[7],
                failed=row[8],
                first_us=row[9],
                last_us=row[10],
                judged_id=row[11],
                last_id=row[12],
                saved=True,
            )
            self.series[series.id] = self.series_by_key[series.key] = series
        for prompt_id, digest, has_text in connection.execute(
            "SELECT id, hash, text IS NOT NULL FROM prompt"
        ):
            self.prompt_hash_by_id[prompt_id] = digest
            self._prompt_by_hash[digest] = (prompt_id, bool(has_text))
        for row in connection.execute(
            f"SELECT {_BASELINE_COLUMNS} FROM baseline ORDER BY series_id, metric, version"
        ):
            self.baselines.setdefault((row[0], row[1]), []).append(BaselineRow(*row))
        self._load_windows()

    def _load_windows(self) -> None:
        """Read the last 24 hours, and whatever was not counted yet, into memory."""
        connection = self._connection
        minute = (self._clock_us() - WINDOW_US) // 60_000_000
        found = connection.execute(
            "SELECT min(first_id) FROM arrival WHERE minute >= ?", (minute,)
        ).fetchone()
        window_from = self.next_id if found[0] is None else found[0]
        held_id = self._load_snapshot(window_from)
        start = min([max(window_from, held_id + 1), *(s.counted_id + 1 for s in self.series.values())])
        found_rows = reading.rows(connection, start)
        while chunk := list(itertools.islice(found_rows, 20_000)):
            block = np.array(chunk, dtype=np.float64)
            for series_id in np.unique(block[:, r.SERIES_ID]):
                part = block[block[:, r.SERIES_ID] == series_id]
                self._count(self.series[int(series_id)], part)
                recent = part[part[:, r.ID] >= max(window_from, held_id + 1)]
                self.series[int(series_id)].window.extend_array(recent)
        for series in self.series.values():
            self._load_failing(series)

    def _load_snapshot(self, window_from: int) -> int:
        """Take over the windows of the last clean stop; the row up to which they are complete, 0 without any."""
        found = snapshot.load(snapshot.path_of(self.path))
        if found is None or found.held.keys() - self.series.keys():
            return 0
        row = reading.row(self._connection, found.last_id)
        if row is None or row[r.TIME_US] != found.last_us:
            return 0  # of another database
        for series_id, held in found.held.items():
            first = int(np.searchsorted(held.ids, window_from))
            self.series[series_id].window.extend_columns(
                held.ids[first:], held.times_us[first:], held.measured[first:]
            )
        return found.last_id

    @staticmethod
    def _count(series: Series, block: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        new = block[block[:, r.ID] > series.counted_id]
        if len(new) == 0:
            return
        times = new[:, r.TIME_US]
        series.count += len(new)
        series.failed += int(np.count_nonzero(new[:, r.OUTCOME]))
        series.first_us = min(int(times.min()), FAR_FUTURE_US if series.first_us is None else series.first_us)
        series.last_us = max(int(times.max()), series.last_us or 0)
        series.last_id = series.counted_id = int(new[-1, r.ID])

    def _load_failing(self, series: Series) -> None:
        outcomes = series.window.column("outcome")
        good = np.flatnonzero(outcomes == 0.0)
        first = int(good[-1]) + 1 if len(good) else 0
        series.failed_in_row = len(outcomes) - first
        if series.failed_in_row:
            series.failing_since_us = int(series.window.times_us[first])
            series.error_kind = r.OUTCOMES[int(outcomes[-1])].value
            series.error = self.failure(int(series.window.ids[-1]))

    # -- naming

    def series_for(self, key: SeriesKey) -> Series:
        """The series of that name, made if it is new."""
        series = self.series_by_key.get(key)
        if series is None:
            series = Series(max(self.series, default=0) + 1, key, first_id=self.next_id)
            self.series[series.id] = self.series_by_key[key] = series
        return series

    def prompt_for(self, digest: str, text: str | None) -> int | None:
        """The id of a prompt by its hash; its text is stored the first time it is told.

        None when it is new and there are MAX_PROMPTS: the observation counts, its prompt is not kept.
        """
        known = self._prompt_by_hash.get(digest)
        if known is None:
            if len(self.prompt_hash_by_id) >= MAX_PROMPTS:
                return None
            prompt_id = len(self.prompt_hash_by_id) + 1
            self.prompt_hash_by_id[prompt_id] = digest
        elif text is None or known[1]:
            return known[0]
        else:
            prompt_id = known[0]
        self._prompt_by_hash[digest] = (prompt_id, text is not None)
        self._unsaved_prompts[prompt_id] = (prompt_id, digest, text)
        return prompt_id

    # -- writing

    def append(
        self,
        rows: Sequence[Row],
        failures: Sequence[tuple[int, str]],
        sender: str | None,
        first_seq: int,
        on_done: Callable[[Append, Exception | None], None],
    ) -> None:
        """Hand rows to the writer; `on_done` is called on its thread once they are on disk, or could not be."""
        new_series = [
            (s.id, *s.key, s.first_id)
            for s in {row[r.SERIES_ID]: self.series[row[r.SERIES_ID]] for row in rows}.values()
            if not s.saved
        ]
        prompts = list(self._unsaved_prompts.values()) if self._unsaved_prompts else ()
        self._writer.submit(Append(rows, on_done, new_series, prompts, failures, sender, first_seq))

    def committed(self, job: Append) -> None:
        """Note that what this job introduced is on disk."""
        for introduced in job.series:
            self.series[introduced[0]].saved = True
        for prompt in job.prompts:
            if self._unsaved_prompts.get(prompt[0]) == prompt:
                del self._unsaved_prompts[prompt[0]]

    def save(
        self,
        violations: Iterable[Violation],
        baselines: Iterable[BaselineRow],
        records: Iterable[Any],
        states: Iterable[tuple[int, int, str]],
        on_done: Callable[[Exception | None], None],
    ) -> None:
        """Store what was found, in one transaction.

        `records` are those of `store.incidents`; `states` say what the charts of a series remember: series, the
        row they have judged so far, and a document.
        """
        found = [v.as_row() for v in violations]
        fitted = [tuple(getattr(b, name) for name in BaselineRow.__slots__) for b in baselines]
        kept, marks = list(records), list(states)

        def run(connection: sqlite3.Connection) -> None:
            self.violations.upsert(connection, found)
            self.records.put(connection, kept)
            connection.executemany(
                f"INSERT OR REPLACE INTO baseline ({_BASELINE_COLUMNS}) "
                f"VALUES ({', '.join('?' * len(BaselineRow.__slots__))})",
                fitted,
            )
            connection.executemany(
                "INSERT OR REPLACE INTO chart_state (series_id, row_id, document) VALUES (?, ?, ?)", marks
            )
            connection.executemany(
                "UPDATE series SET judged_id = ? WHERE id = ?", [(row_id, of) for of, row_id, _ in marks]
            )

        self._writer.submit(Write(run, on_done))

    def chart_states(self) -> dict[int, tuple[int, str]]:
        """What the charts of each series remember: the row they have judged so far, and the document."""
        found = self.read().execute("SELECT series_id, row_id, document FROM chart_state")
        return {series_id: (row_id, document) for series_id, row_id, document in found}

    def checkpoint(self) -> None:
        """Note the running counts of all series, so that a start need not count again."""
        # rows are counted in order of arrival: up to the newest counted one of any series, all are
        upto = max((s.counted_id for s in self.series.values()), default=0)
        counts = [
            (upto, s.last_id, s.count, s.failed, s.first_us, s.last_us, s.id) for s in self.series.values()
        ]
        self._writer.submit(Write(lambda connection: _save_counts(connection, counts), _ignore))

    def write(
        self, run: Callable[[sqlite3.Connection], None], on_done: Callable[[Exception | None], None]
    ) -> None:
        """Run any other write on the writer's thread, in a transaction."""
        self._writer.submit(Write(run, on_done))

    @property
    def fault(self) -> StorageFault | None:
        """What kept the last write from the disk; None when it got there."""
        return self._writer.fault

    def touch(self, on_done: Callable[[Exception | None], None]) -> None:
        """Write something that changes nothing, to see whether writes reach the disk."""
        self.write(_touch, on_done)

    # -- reading what is older than the windows

    def read(self) -> sqlite3.Connection:
        """A read connection of the calling thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect(check_same_thread=False)
            connection.execute("PRAGMA query_only = 1")
            self._local.connection = connection
            self._readers.append(connection)
        return connection

    def rows_from(self, row_id: int) -> Iterator[Row]:
        """Every row from `row_id` on, in order of arrival."""
        return reading.rows(self.read(), row_id)

    def rows_between(
        self, series_id: int, first_id: int, last_id: int, from_us: int, to_us: int
    ) -> list[Row]:
        """The rows of a series among those ids that were observed in [from_us, to_us)."""
        return list(reading.rows(self.read(), first_id, last_id, series_id, from_us, to_us))

    def row(self, row_id: int) -> Row | None:
        return reading.row(self.read(), row_id)

    def neighbours(self, series_id: int, row_id: int, before: int, after: int) -> tuple[list[Row], list[Row]]:
        """The rows of one series just before `row_id`, and those from it on, both in order of arrival.

        They end where some were given up, and are none where that row itself was.
        """
        connection = self.read()
        first_id, last_id = self.keeper.whole_around(connection, series_id, row_id)
        earlier, later = reading.neighbours(connection, series_id, row_id, before, after)
        return (
            [row for row in earlier if first_id <= row[r.ID]],
            [row for row in later if first_id <= row[r.ID] <= last_id],
        )

    def failure(self, row_id: int) -> str | None:
        found = (
            self.read().execute("SELECT message FROM failure WHERE observation_id = ?", (row_id,)).fetchone()
        )
        return None if found is None else str(found[0])

    def failures(self, row_ids: Sequence[int]) -> dict[int, str]:
        """Why those observations failed, in words, where it is known."""
        if not row_ids:
            return {}
        marks = ",".join("?" * len(row_ids))
        return dict(
            self.read().execute(
                f"SELECT observation_id, message FROM failure WHERE observation_id IN ({marks})", row_ids
            )
        )

    def prompt_text(self, prompt_id: int | None) -> str | None:
        if prompt_id is None:
            return None
        found = self.read().execute("SELECT text FROM prompt WHERE id = ?", (prompt_id,)).fetchone()
        return None if found is None else found[0]

    def count_rows(self) -> int:
        """How many observations are stored; reads the whole table."""
        found = self.read().execute(
            "SELECT (SELECT count(*) FROM observation) + (SELECT coalesce(sum(rows), 0) FROM pack)"
        )
        return int(found.fetchone()[0])


_SAVE_COUNTS = (
    "UPDATE series SET counted_id = ?, last_id = ?, count = ?, failed = ?, first_us = ?, last_us = ? "
    "WHERE id = ?"
)


def _save_counts(connection: sqlite3.Connection, counts: Sequence[tuple[int | None, ...]]) -> None:
    connection.executemany(_SAVE_COUNTS, counts)


def _touch(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE rolled SET row_id = row_id")


def _ignore(error: Exception | None) -> None:
    """The writer has logged it; the counts are made again at the next start."""


def open_store(
    path: Path | str, clock_us: Callable[[], int] | None = None, keep: Keep | None = None
) -> Store:
    """Open the database, creating and migrating it as needed, and load the last 24 hours.

    Raises schema.SchemaTooNew, or sqlite3.Error when the file is not a usable database.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Store(path, clock_us or (lambda: time.time_ns() // 1000), keep or Keep())
