"""What becomes of data as it ages: packed after two days, given up when its time is over, but not around findings.

Everything is done in small steps, each a transaction of a few milliseconds, so that what arrives never waits long.
Age is counted from the arrival of a row: an import of last year's data is not given up at once.
"""

import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from llmscope.store import packs, reading
from llmscope.store import rows as r
from llmscope.store.rollups import MINUTES, slot_range
from llmscope.store.rows import Row
from llmscope.store.settled import Write, write_now

DAY_US = 86_400_000_000
MINUTE_US = 60_000_000
PLAIN_US = 2 * DAY_US  # so long rows stay plain
LEAST_RAW_US = 3 * DAY_US  # the charts read a day back, and what is kept around a finding lies within another
AROUND = 100  # rows of the series on both sides of a finding that are kept with it
ANCHORS_AT_ONCE = 20
MINUTES_AT_ONCE = 300
EVERY_US = 3_600_000_000  # how often old minutes are looked for


@dataclass(frozen=True, slots=True)
class Keep:
    """How long observations and the rollups by minute are kept; None is for ever, as are hours and findings."""

    raw_us: int | None = 30 * DAY_US
    minutes_us: int | None = 365 * DAY_US

    @classmethod
    def of_seconds(cls, raw_s: float, minutes_s: float) -> "Keep":
        """From seconds; infinity is for ever."""
        return cls(*(None if math.isinf(s) else round(s * 1e6) for s in (raw_s, minutes_s)))


class Keeper:
    """Packs and gives up, a step at a time. `given_up_id` and `minutes_from_us` say what is gone."""

    def __init__(
        self,
        reader: Callable[[], sqlite3.Connection],
        write: Write,
        clock_us: Callable[[], int],
        keep: Keep,
    ) -> None:
        self._reader = reader
        self._write = write
        self._clock_us = clock_us
        self.keep = keep
        self._minutes_due_us = 0
        self._left: list[int] = []  # series whose old minutes are still to be given up
        self.given_up_id, self.minutes_from_us = (
            reader().execute("SELECT row_id, minutes_us FROM given_up").fetchone()
        )

    def step(self) -> bool:
        """Do the next small thing; whether there was one. Blocks: not for the event loop. One call at a time.

        Raises what the writer could not do.
        """
        connection, now_us = self._reader(), self._clock_us()
        raw_id = self._arrived_by(connection, now_us, self.keep.raw_us)
        return (
            self._pack(connection, self._arrived_by(connection, now_us, PLAIN_US), raw_id)
            or self._keep_around(connection, now_us)
            or self._give_up_rows(connection, raw_id)
            or self._give_up_minutes(connection, now_us)
        )

    def whole_around(self, connection: sqlite3.Connection, series_id: int, row_id: int) -> tuple[int, int]:
        """The ids around a row between which every row of the series is there; (0, 0) where it was given up."""
        given_up_id = self.given_up_id
        if row_id > given_up_id:
            return given_up_id + 1, reading.FAR
        first_id, last_id = connection.execute(
            "SELECT min(first_id), max(last_id) FROM kept WHERE series_id = ? AND first_id <= ? AND last_id >= ?",
            (series_id, row_id, row_id),
        ).fetchone()
        return first_id or 0, last_id or 0

    @staticmethod
    def _arrived_by(connection: sqlite3.Connection, now_us: int, age_us: int | None) -> int:
        """The last row that arrived so long ago, FAR when all did; 0 when age is None."""
        if age_us is None:
            return 0
        minute = (now_us - age_us) // MINUTE_US
        (younger,) = connection.execute(
            "SELECT min(first_id) FROM arrival WHERE minute > ?", (minute,)
        ).fetchone()
        return reading.FAR if younger is None else int(younger) - 1

    # -- packing

    def _pack(self, connection: sqlite3.Connection, plain_id: int, raw_id: int) -> bool:
        """Pack the oldest plain rows, if there are enough, or any that are about to be given up."""
        (rolled_id,) = connection.execute("SELECT row_id FROM rolled").fetchone()
        rows = connection.execute(
            f"{r.SELECT} WHERE id <= ? ORDER BY id LIMIT ?", (min(plain_id, rolled_id), packs.ROWS)
        ).fetchall()
        if len(rows) < packs.ROWS:
            rows = [row for row in rows if row[r.ID] <= raw_id]
        if not rows:
            return False
        packed = _pack_of(rows)

        def run(connection: sqlite3.Connection) -> None:
            connection.execute(_PUT, packed)
            connection.execute("DELETE FROM observation WHERE id BETWEEN ? AND ?", packed[:2])

        write_now(self._write, run)
        return True

    # -- what is kept around findings

    def _keep_around(self, connection: sqlite3.Connection, now_us: int) -> bool:
        """Note which rows lie around findings, a day before their neighbours are given up."""
        if self.keep.raw_us is None:
            return False
        upto_id = self._arrived_by(connection, now_us, self.keep.raw_us - DAY_US)
        anchors = connection.execute(
            _ANCHORS, {"after": self.given_up_id, "upto": upto_id, "most": ANCHORS_AT_ONCE}
        ).fetchall()
        if not anchors:
            return False
        kept = []
        for anchor_id, series_id in anchors:
            before, after = reading.neighbours(connection, series_id, anchor_id, AROUND, AROUND)
            ids = [row[r.ID] for row in (*before, *after)] or [anchor_id]
            kept.append((anchor_id, series_id, ids[0], ids[-1]))

        def run(connection: sqlite3.Connection) -> None:
            connection.executemany(_KEEP, kept)

        write_now(self._write, run)
        return True

    # -- giving up

    def _give_up_rows(self, connection: sqlite3.Connection, raw_id: int) -> bool:
        """Give up the oldest pack that is too old, but for what is kept."""
        found = connection.execute(
            "SELECT first_id, last_id, document FROM pack WHERE first_id > ? AND last_id <= ? "
            "ORDER BY first_id LIMIT 1",
            (self.given_up_id, raw_id),
        ).fetchone()
        if found is None:
            return False
        first_id, last_id, document = found
        stretches = connection.execute(
            "SELECT series_id, first_id, last_id FROM kept WHERE last_id >= ? AND first_id <= ?",
            (first_id, last_id),
        ).fetchall()
        kept = list(_within(packs.unpack(document), stretches)) if stretches else []

        def run(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM pack WHERE first_id = ?", (first_id,))
            if kept:
                connection.execute(_PUT, _pack_of(kept))
            ids = ",".join(str(row[r.ID]) for row in kept if row[r.OUTCOME])
            connection.execute(
                f"DELETE FROM failure WHERE observation_id BETWEEN ? AND ? AND observation_id NOT IN ({ids})",
                (first_id, last_id),
            )
            connection.execute("UPDATE given_up SET row_id = ?", (last_id,))

        write_now(self._write, run)
        self.given_up_id = last_id
        return True

    def _give_up_minutes(self, connection: sqlite3.Connection, now_us: int) -> bool:
        """Give up some minutes of a series that are too old, and the notes of when rows arrived."""
        while self._left and self.keep.minutes_us is not None:
            before_us = now_us - self.keep.minutes_us
            before_us -= before_us % EVERY_US  # whole hours, which stay
            old = connection.execute(
                "SELECT id FROM rollup WHERE id >= ? AND id < ? LIMIT ?",
                (*slot_range(self._left[-1], MINUTES, 0, before_us), MINUTES_AT_ONCE),
            ).fetchall()
            if old:
                write_now(self._write, partial(_gave_up, old=old, before_us=before_us))
                self.minutes_from_us = before_us
                return True
            self._left.pop()
        if now_us < self._minutes_due_us:
            return False
        self._minutes_due_us = now_us + EVERY_US
        if self.keep.minutes_us is not None:
            self._left = [series_id for (series_id,) in connection.execute("SELECT id FROM series")]
        if self.keep.raw_us is not None:
            minute = (now_us - self.keep.raw_us - DAY_US) // MINUTE_US

            def run(connection: sqlite3.Connection) -> None:
                connection.execute("DELETE FROM arrival WHERE minute < ?", (minute,))

            write_now(self._write, run)
        return bool(self._left)


_PUT = "INSERT INTO pack (first_id, last_id, from_us, to_us, rows, document) VALUES (?, ?, ?, ?, ?, ?)"
_KEEP = "INSERT OR IGNORE INTO kept (anchor_id, series_id, first_id, last_id) VALUES (?, ?, ?, ?)"
# findings: alarms of incidents, and marks that somebody has acknowledged
_ANCHORS = """
SELECT anchor_id, series_id FROM (
    SELECT change_id AS anchor_id, series_id FROM alarm WHERE incident_id IS NOT NULL AND superseded = 0
    UNION SELECT opened_id, series_id FROM alarm WHERE incident_id IS NOT NULL AND superseded = 0
    UNION SELECT closed_id, series_id FROM alarm WHERE incident_id IS NOT NULL AND superseded = 0
    UNION SELECT first_signal_id, series_id FROM violation WHERE acknowledged_us IS NOT NULL
    UNION SELECT peak_id, series_id FROM violation WHERE acknowledged_us IS NOT NULL
) WHERE anchor_id > :after AND anchor_id <= :upto
EXCEPT SELECT anchor_id, series_id FROM kept
LIMIT :most
"""


def _pack_of(rows: list[Row]) -> tuple[int, int, int, int, int, bytes]:
    """A row of the table `pack`."""
    times = [row[r.TIME_US] for row in rows]
    return rows[0][r.ID], rows[-1][r.ID], min(times), max(times), len(rows), packs.pack(rows)


def _within(rows: Iterable[Row], stretches: list[tuple[int, int, int]]) -> Iterator[Row]:
    for row in rows:
        if any(s == row[r.SERIES_ID] and first <= row[r.ID] <= last for s, first, last in stretches):
            yield row


def _gave_up(connection: sqlite3.Connection, old: list[tuple[int]], before_us: int) -> None:
    connection.executemany("DELETE FROM rollup WHERE id = ?", old)
    connection.execute("UPDATE given_up SET minutes_us = ?", (before_us,))
