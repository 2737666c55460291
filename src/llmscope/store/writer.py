"""The one thread that owns the write connection: it gathers what is waiting, commits once, and answers.

Group commit: while one transaction reaches the disk the next jobs gather, so a single write costs one
`fdatasync` and many at a time share it. A job that fails alone does not take its neighbours with it; when it is the
storage that fails, all that wait hear of it at once.
"""

import contextlib
import itertools
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from llmscope.store.faults import FaultKind, StorageFault, fault_of, has_room
from llmscope.store.rows import COLUMNS, Row

log = logging.getLogger(__name__)

ROWS_PER_STATEMENT = (
    64  # one step per 64 rows: sqlite3 gives the GIL away at each step, and getting it back costs
)
MAX_ROWS_PER_COMMIT = 20_000  # bounds how long one commit can take
MINUTE_US = 60_000_000
MAX_SENDERS = 10_000  # whose numbers are remembered: invented names must not fill the disk


class Job(Protocol):
    """Something to write. `done` is called on the writer thread, after the commit or the failure."""

    def done(self, error: Exception | None) -> None: ...


@dataclass(slots=True)
class Append:
    """Rows to append, with the series, prompts and failure messages that they are the first to name."""

    rows: Sequence[Row]
    on_done: Callable[["Append", Exception | None], None]
    series: Sequence[tuple[int, str, str, str, str, int]] = ()
    prompts: Sequence[tuple[int, str, str | None]] = ()
    failures: Sequence[tuple[int, str]] = ()
    sender: str | None = None
    first_seq: int = 0
    skipped: int = field(default=0)  # rows at the front that this sender had delivered before

    def done(self, error: Exception | None) -> None:
        self.on_done(self, error)


@dataclass(slots=True)
class Write:
    """Any other write, as a function of the connection."""

    run: Callable[[sqlite3.Connection], None]
    on_done: Callable[[Exception | None], None]

    def done(self, error: Exception | None) -> None:
        self.on_done(error)


def _insert(n: int) -> str:
    row = "(" + ",".join("?" * len(COLUMNS)) + ")"
    return f"INSERT INTO observation ({', '.join(COLUMNS)}) VALUES {','.join([row] * n)}"


class Writer:
    """Owns `connection` from `start` to `stop`; `submit` may be called from any thread.

    `fault` is what kept the last transaction from the disk, None when it got there.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, clock_us: Callable[[], int] | None = None
    ) -> None:
        self._connection = connection
        self._path = path
        self.fault: StorageFault | None = None
        self._clock_us = clock_us or (lambda: time.time_ns() // 1000)
        self._jobs: queue.SimpleQueue[Append | Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="llmscope-writer", daemon=True)
        self._statements = {n: _insert(n) for n in range(1, ROWS_PER_STATEMENT + 1)}
        self._last_seq: dict[str, int] = {}
        self._staged_seq: dict[str, int] = {}
        self._minute = -1

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Append | Write) -> None:
        self._jobs.put(job)

    def stop(self) -> None:
        """Write what is waiting, then end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            first = self._jobs.get()
            group: list[Append | Write] = []
            rows = 0
            job: Append | Write | None = first
            while True:
                if job is None:
                    stopping = True
                    break
                group.append(job)
                rows += len(job.rows) if isinstance(job, Append) else 1
                if rows >= MAX_ROWS_PER_COMMIT:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._commit(group)

    def _commit(self, group: list[Append | Write]) -> None:
        try:
            self._transact(group)
        except Exception as error:
            fault = fault_of(error, self._path)
            if fault is None and len(group) > 1:
                for job in group:
                    self._commit([job])
                return
            if fault is None:
                log.error("write failed: %s", error)
            self._note(fault)
            for job in group:
                job.done(fault or error)
            return
        self._note(None)
        for job in group:
            job.done(None)

    def _note(self, fault: StorageFault | None) -> None:
        """Log trouble when it begins and when it is over, not with every write."""
        before = self.fault
        if (
            fault is None
            and before is not None
            and before.kind is FaultKind.FULL
            and not has_room(self._path)
        ):
            return  # a small write found a place where a large one did not
        self.fault = fault
        if fault is not None and (before is None or before.kind != fault.kind):
            log.error("nothing is stored: %s", fault)
        elif fault is None and before is not None:
            log.warning("the database takes writes again")

    def _transact(self, group: list[Append | Write]) -> None:
        connection = self._connection
        minute = self._minute
        self._staged_seq.clear()
        connection.execute("BEGIN IMMEDIATE")
        try:
            rows: list[Row] = []
            for job in group:
                if isinstance(job, Append):
                    rows.extend(self._prepare(job))
                else:
                    job.run(connection)
            if rows:
                minute = self._append(rows)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):  # the first error says more
                    connection.execute("ROLLBACK")
            raise
        self._minute = minute
        self._last_seq.update(self._staged_seq)

    def _prepare(self, job: Append) -> Sequence[Row]:
        """Write what the rows refer to; return the rows that are new."""
        connection = self._connection
        rows = job.rows
        job.skipped = 0
        if job.sender is not None:
            job.skipped = min(len(rows), max(0, self._last(job.sender) + 1 - job.first_seq))
            last = job.first_seq + len(rows) - 1
            if job.skipped < len(rows):
                if self._last(job.sender) < 0:
                    self._make_room_for_sender()
                connection.execute(
                    "INSERT INTO sender (id, last_seq, last_us) VALUES (?, ?, ?) "
                    "ON CONFLICT (id) DO UPDATE SET last_seq = excluded.last_seq, last_us = excluded.last_us",
                    (job.sender, last, self._clock_us()),
                )
                self._staged_seq[job.sender] = last
            rows = rows[job.skipped :]
        if job.series:
            connection.executemany(
                "INSERT OR IGNORE INTO series (id, provider, model, server, source, first_id) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                job.series,
            )
        if job.prompts:
            connection.executemany(
                "INSERT INTO prompt (id, hash, text) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET text = coalesce(text, excluded.text)",
                job.prompts,
            )
        if job.failures:
            kept = {row[0] for row in rows}
            connection.executemany(
                "INSERT INTO failure (observation_id, message) VALUES (?, ?)",
                [failure for failure in job.failures if failure[0] in kept],
            )
        return rows

    def _append(self, rows: list[Row]) -> int:
        connection = self._connection
        minute = self._clock_us() // MINUTE_US
        if minute != self._minute:
            connection.execute(
                "INSERT OR IGNORE INTO arrival (minute, first_id) VALUES (?, ?)", (minute, rows[0][0])
            )
        for start in range(0, len(rows), ROWS_PER_STATEMENT):
            part = rows[start : start + ROWS_PER_STATEMENT]
            connection.execute(self._statements[len(part)], tuple(itertools.chain.from_iterable(part)))
        return minute

    def _make_room_for_sender(self) -> None:
        """Forget the senders that have been silent longest, a tenth of them at once, when there are too many."""
        connection = self._connection
        (count,) = connection.execute("SELECT count(*) FROM sender").fetchone()
        if count < MAX_SENDERS:
            return
        connection.execute(
            "DELETE FROM sender WHERE id IN (SELECT id FROM sender ORDER BY last_us LIMIT ?)",
            (MAX_SENDERS // 10,),
        )
        self._last_seq.clear()  # read again from the table as they come

    def _last(self, sender: str) -> int:
        """The last sequence number stored of this sender, those of the open transaction included; -1 if none."""
        last = self._staged_seq.get(sender, self._last_seq.get(sender))
        if last is None:
            found = self._connection.execute("SELECT last_seq FROM sender WHERE id = ?", (sender,)).fetchone()
            if found is None:
                return -1
            last = self._last_seq[sender] = found[0]
        return last
