"""How much the database takes on disk, and what it will take if observations go on arriving as they do now."""

import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from llmscope.store.keeping import DAY_US, MINUTE_US, PLAIN_US, Keep
from llmscope.store.reading import snapshot
from llmscope.store.rollups import HOURS, MINUTES, Level

PLAIN_BYTES = 72.0  # of a row of `observation` with every number told, of its table alone
PACKED_BYTES = 21.0  # where no row has been packed yet
VIOLATION_BYTES = 380.0  # with its indexes
OVERHEAD_BYTES = 40.0  # of a rollup beside its document
ROLLUP_BYTES = 290.0  # where nothing has been rolled yet
LOOK_BACK_US = 7 * DAY_US  # over which arrivals are counted
LEAST_SPAN_US = 10 * MINUTE_US  # under which nothing is forecast
SAMPLE = 200


@dataclass(frozen=True, slots=True)
class Rates:
    """What came in a day, and how many bytes of each kind take."""

    observations: float
    violations: float
    minutes: float
    packed_bytes: float
    minute_bytes: float
    hour_bytes: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What is stored now; sizes in bytes. `raw_from_us` is from when on every observation is there, `oldest_us` of when
    the first one ever was. `rates` is None while too little has come to say.
    """

    file_bytes: int
    unused_bytes: int
    disk_free_bytes: int
    plain: int
    packed: int
    violations: int
    raw_from_us: int | None
    oldest_us: int | None
    rates: Rates | None
    keep: Keep

    def forecast(self, days: float, now_us: int) -> float | None:
        """Bytes in so many days, what is free inside the file used first; None without rates."""
        if self.rates is None:
            return None
        age = 0.0 if self.oldest_us is None else max(0.0, (now_us - self.oldest_us) / DAY_US)
        growth = self._expected(age + days) - self._expected(age)
        return max(float(self.file_bytes), self.file_bytes - self.unused_bytes + growth)

    def _expected(self, days: float) -> float:
        """Bytes of so many days of arrivals."""
        rates = self.rates
        assert rates is not None
        raw = days if self.keep.raw_us is None else min(days, self.keep.raw_us / DAY_US)
        minutes = days if self.keep.minutes_us is None else min(days, self.keep.minutes_us / DAY_US)
        plain = min(raw, PLAIN_US / DAY_US)
        return (
            rates.observations * (plain * PLAIN_BYTES + (raw - plain) * rates.packed_bytes)
            + rates.minutes * (minutes * rates.minute_bytes + days * rates.hour_bytes / 60)
            + rates.violations * days * VIOLATION_BYTES
        )


def usage(connection: sqlite3.Connection, path: Path, keep: Keep, now_us: int) -> Usage:
    """Of the database at `path`, open for reading in `connection`. No work that grows with what is stored."""
    with snapshot(connection):

        def one(sql: str, *values: int) -> int | None:
            found: int | None = connection.execute(sql, values).fetchone()[0]
            return found

        page, pages, unused = (
            one(f"PRAGMA {name}") or 0 for name in ("page_size", "page_count", "freelist_count")
        )
        first = one("SELECT min(id) FROM observation")
        last = one("SELECT max(id) FROM observation")
        packed = one("SELECT coalesce(sum(rows), 0) FROM pack") or 0
        raw_from_us = one(
            "SELECT coalesce((SELECT from_us FROM pack WHERE first_id > ? ORDER BY first_id LIMIT 1), "
            "(SELECT time_us FROM observation ORDER BY id LIMIT 1))",
            one("SELECT row_id FROM given_up") or 0,
        )
        first_us = one("SELECT min(first_us) FROM series")  # as of the last checkpoint
        wal = path.with_name(path.name + "-wal")
        return Usage(
            file_bytes=page * pages + (wal.stat().st_size if wal.exists() else 0),
            unused_bytes=page * unused,
            disk_free_bytes=shutil.disk_usage(path.parent).free,
            plain=0 if first is None or last is None else last - first + 1,
            packed=packed,
            violations=one("SELECT coalesce(max(id), 0) FROM violation") or 0,
            raw_from_us=raw_from_us,
            oldest_us=raw_from_us if first_us is None else first_us,
            rates=_rates(connection, now_us),
            keep=keep,
        )


def _rates(connection: sqlite3.Connection, now_us: int) -> Rates | None:
    since = (now_us - LOOK_BACK_US) // MINUTE_US
    first_minute, first_id = connection.execute(
        "SELECT minute, first_id FROM arrival WHERE minute >= ? ORDER BY minute LIMIT 1", (since,)
    ).fetchone() or (None, 0)
    if first_minute is None:
        return None
    span_us = now_us - first_minute * MINUTE_US
    if span_us < LEAST_SPAN_US:
        return None
    days = span_us / DAY_US
    (last_id,) = connection.execute("SELECT coalesce(max(id), 0) FROM observation").fetchone()
    (violations,) = connection.execute(
        "SELECT count(*) FROM violation WHERE first_signal_us >= ?", (now_us - span_us,)
    ).fetchone()
    (active,) = connection.execute(
        "SELECT count(*) FROM series WHERE last_us >= ?", (now_us - DAY_US,)
    ).fetchone()
    packed = connection.execute(
        "SELECT sum(length(document)), sum(rows) FROM (SELECT document, rows FROM pack ORDER BY first_id DESC LIMIT ?)",
        (SAMPLE,),
    ).fetchone()
    return Rates(
        observations=max(0, last_id - first_id + 1) / days,
        violations=violations / days,
        minutes=1_440.0 * active,
        packed_bytes=packed[0] / packed[1] if packed[1] else PACKED_BYTES,
        minute_bytes=_rollup_bytes(connection, MINUTES),
        hour_bytes=_rollup_bytes(connection, HOURS),
    )


def _rollup_bytes(connection: sqlite3.Connection, level: Level) -> float:
    """Of a slot of that level, by some of the newest of one series."""
    (mean,) = connection.execute(
        "SELECT avg(length(document)) FROM (SELECT document FROM rollup WHERE (id >> 40) & 1 = ? "
        "ORDER BY id DESC LIMIT ?)",
        (level.number, SAMPLE),
    ).fetchone()
    return ROLLUP_BYTES if mean is None else OVERHEAD_BYTES + float(mean)
