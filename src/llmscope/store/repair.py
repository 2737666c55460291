"""Makes a sound database of what can still be read of a damaged one; the damaged file is kept as it is.

Tables are read row by row, around the pages that give an error. Where a tree is so broken that rows behind it are out
of reach, they are looked for in the file's leaf pages. Indexes and views are made anew.
"""

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from llmscope.store import leaves, packs
from llmscope.store import rows as r
from llmscope.store.backup import BESIDE, keep_aside, put
from llmscope.store.integrity import DatabaseDamaged, connect_readonly, quick_check
from llmscope.store.schema import MIGRATIONS, SCHEMA_VERSION

ROWS_AT_ONCE = 2_000
FURTHEST = 2**62
MANY = 1_000  # rows lost at once: more than a few leaves, so it is the way to them that is broken
NUMBERED = (
    "observation",
    "violation",
    "incident",
    "alarm",
    "annotation",
    "exclusion",
)  # ids count their rows

Tell = Callable[[str, int], None]
"""Is told how many rows of which table are recovered."""


class CannotRepair(Exception):
    """Nothing can be recovered, or the new database cannot be written; the message is one sentence."""


@dataclass(slots=True)
class Recovered:
    """What became of a table. `lost` is None where rows are missing and nothing says how many."""

    table: str
    rows: int = 0
    lost: int | None = 0

    @property
    def is_whole(self) -> bool:
        return self.lost == 0


@dataclass(frozen=True, slots=True)
class Repaired:
    """The tables as recovered, and where the damaged file is now."""

    tables: tuple[Recovered, ...]
    aside: Path


def repair(database: Path, tell: Tell) -> Repaired:
    """Put a sound database of all that can be read in the place of a damaged one, whose lock the caller holds.

    Raises CannotRepair.
    """
    if not database.exists() or database.stat().st_size == 0:
        raise CannotRepair(f"there is nothing to repair in {database}")
    new = database.with_name(database.name + ".new")
    _discard(new)
    try:
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with (
            contextlib.closing(connect_readonly(database)) as old,
            contextlib.closing(sqlite3.connect(new, isolation_level=None)) as sound,
        ):
            old.execute("PRAGMA cell_size_check = 1")
            tables = _recover(database, old, sound, tell)
            if not any(table.rows for table in tables):
                raise CannotRepair(
                    f"nothing of {database} can be read; it was left as it is: run llmscope restore with a backup"
                )
            _mend(sound, tables)
            quick_check(sound)
        aside = keep_aside(database, "damaged")
        assert aside is not None
        put(new, database)
    except (sqlite3.Error, OSError, DatabaseDamaged) as error:
        raise CannotRepair(f"cannot repair {database}: {error}") from None
    finally:
        _discard(new)
    return Repaired(tuple(tables), aside)


def _discard(new: Path) -> None:
    for suffix in ("", "-journal", *BESIDE):
        Path(f"{new}{suffix}").unlink(missing_ok=True)


def _recover(path: Path, old: sqlite3.Connection, sound: sqlite3.Connection, tell: Tell) -> list[Recovered]:
    for version, script in enumerate(MIGRATIONS[: _version(old)], start=1):
        sound.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {version};\nCOMMIT;")
    sound.execute("PRAGMA synchronous = OFF")  # it is synced as a whole before it gets its name
    sound.execute("BEGIN")
    named = sound.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rootpage").fetchall()
    tables = [Recovered(name) for (name,) in named]
    for table in tables:
        sound.execute(f"DELETE FROM {table.table}")  # what a migration puts there
        _take_table(old, sound, table, tell)
    broken = {t.table: t for t in tables if t.table in leaves.TABLES and (t.lost is None or t.lost >= MANY)}
    if broken:
        _take_leaves(path, sound, broken, tell)
    sound.execute("COMMIT")
    return tables


def _version(old: sqlite3.Connection) -> int:
    with contextlib.suppress(sqlite3.DatabaseError):
        (version,) = old.execute("PRAGMA user_version").fetchone()
        if 1 <= version <= SCHEMA_VERSION:
            return int(version)
    return SCHEMA_VERSION


def _take_table(old: sqlite3.Connection, sound: sqlite3.Connection, table: Recovered, tell: Tell) -> None:
    info = sound.execute(f"PRAGMA table_info({table.table})").fetchall()
    columns = ", ".join(column[1] for column in info)
    keys = [column[1] for column in sorted(info, key=lambda c: c[5]) if column[5]]
    has_row_id = len(keys) == 1 and info[0][2] == "INTEGER"
    reading = (
        _by_row_id(old, table, columns) if has_row_id or not keys else _from_ends(old, table, columns, keys)
    )
    insert = f"INSERT OR IGNORE INTO {table.table} ({columns}) VALUES ({', '.join('?' * len(info))})"
    chunk: list[Sequence[Any]] = []
    for row in reading:
        if table.table == "pack" and not _is_whole(row):
            table.lost = None
            continue
        chunk.append(row)
        if len(chunk) == ROWS_AT_ONCE:
            _put_rows(sound, insert, chunk, table)
            tell(table.table, table.rows)
            chunk = []
    _put_rows(sound, insert, chunk, table)
    tell(table.table, table.rows)


def _put_rows(
    sound: sqlite3.Connection, insert: str, rows: Sequence[Sequence[Any]], table: Recovered
) -> None:
    """Rows that are not of the column's types are garbage of a damaged page."""
    sound.execute("SAVEPOINT rows")
    try:
        table.rows += sound.executemany(insert, rows).rowcount if rows else 0
    except sqlite3.Error:
        sound.execute("ROLLBACK TO rows")
        for row in rows:
            try:
                table.rows += sound.execute(insert, row).rowcount
            except (sqlite3.IntegrityError, sqlite3.DataError):
                table.lost = None if table.lost is None else table.lost + 1
    sound.execute("RELEASE rows")


def _by_row_id(old: sqlite3.Connection, table: Recovered, columns: str) -> Iterator[tuple[Any, ...]]:
    """Rows in order of their ids, going on behind each stretch that cannot be read."""
    at = 0
    select = f"SELECT rowid, {columns} FROM {table.table} WHERE rowid >= ? ORDER BY rowid"
    while True:
        try:
            for row in old.execute(select, (at,)):
                if row[0] < at:
                    raise sqlite3.DatabaseError("row ids out of order")
                yield row[1:]
                at = row[0] + 1
            return
        except sqlite3.DatabaseError as error:
            if _is_missing(error):
                table.lost = None
                return
            behind = _behind(old, table.table, at)
            if behind is None or at == 0 or table.table not in NUMBERED:
                table.lost = None
            elif table.lost is not None:
                table.lost += behind - at
            if behind is None:
                return
            at = behind


def _behind(old: sqlite3.Connection, table: str, at: int) -> int | None:
    """The first id behind a stretch that cannot be read; None when nothing is readable behind it."""
    seek = f"SELECT rowid FROM {table} WHERE rowid >= ? ORDER BY rowid LIMIT 1"

    def readable(row_id: int) -> int | None:
        try:
            found = old.execute(seek, (row_id,)).fetchone()
        except sqlite3.DatabaseError:
            return None
        return FURTHEST if found is None else max(int(found[0]), row_id)

    low, step = at, 1
    while (high := readable(low + step)) is None:
        low, step = low + step, 2 * step
        if step > FURTHEST:
            return None
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        if readable(middle) is None:
            low = middle
        else:
            high = middle
    found = readable(high)
    return None if found in (None, FURTHEST) else found


def _from_ends(
    old: sqlite3.Connection, table: Recovered, columns: str, keys: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """Rows of a table without row ids: from the first on, and where that ends early from the last backwards."""
    for order in ("ASC", "DESC"):
        by = ", ".join(f"{key} {order}" for key in keys)
        try:
            yield from old.execute(f"SELECT {columns} FROM {table.table} ORDER BY {by}")
            return
        except sqlite3.DatabaseError as error:
            table.lost = None
            if _is_missing(error):
                return


def _is_missing(error: sqlite3.DatabaseError) -> bool:
    """Whether the table itself is unknown. Raises what is no damage: a lock, a disk that fails."""
    if isinstance(error, sqlite3.OperationalError) and "decode" not in str(error):
        if "no such table" in str(error):
            return True
        raise error
    return False


def _take_leaves(path: Path, sound: sqlite3.Connection, broken: dict[str, Recovered], tell: Tell) -> None:
    """What of these tables stands in leaf pages that no tree leads to."""
    shapes, inserts = [], {}
    for name in broken:
        info = sound.execute(f"PRAGMA table_info({name})").fetchall()
        shapes.append(leaves.Shape.of(name, info))
        inserts[name] = f"INSERT OR IGNORE INTO {name} VALUES ({', '.join('?' * len(info))})"
    for name, row in leaves.rows_in(path, shapes, lambda done, _all: tell("pages", done)):
        table = broken[name]
        if name == "pack" and not _is_whole(row):
            continue
        try:
            found = sound.execute(inserts[name], row).rowcount
        except (sqlite3.IntegrityError, sqlite3.DataError):
            continue
        table.rows += found
        if table.lost is not None:
            table.lost = max(0, table.lost - found)


# What is known of rows that are lost must not be taken for what is known of those that get their ids next.
_LAST = """(SELECT max((SELECT coalesce(max(id), 0) FROM observation), (SELECT coalesce(max(last_id), 0) FROM {packs}),
    (SELECT coalesce(max(row_id), 0) FROM {rolled})))"""
_MEND = """
UPDATE series SET judged_id = min(judged_id, {last}), counted_id = min(counted_id, {last});
DELETE FROM failure WHERE observation_id > {last};
DELETE FROM arrival WHERE first_id > {last};
"""
_MEND_STATES = "UPDATE chart_state SET row_id = min(row_id, {last})"
_MEND_ROLLED = """
INSERT INTO rolled (row_id) SELECT coalesce(max(last_id), 0) FROM rollup WHERE NOT EXISTS (SELECT 1 FROM rolled)
"""
_MEND_GIVEN_UP = """
INSERT INTO given_up (row_id, minutes_us) SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM given_up)
"""
_COUNT_AGAIN = "UPDATE series SET counted_id = 0, count = 0, failed = 0, first_us = NULL, last_us = NULL"
_NAME = """
INSERT OR IGNORE INTO series (id, provider, model, server, source, first_id)
    VALUES (:id, 'recovered', 'series ' || :id, '', 'probe', :first)
"""


def _mend(sound: sqlite3.Connection, tables: Sequence[Recovered]) -> None:
    """Bring in line with the observations what refers to them."""
    names = {table.table for table in tables}
    lost = {table.table for table in tables if not table.is_whole}
    if "rolled" in names:
        sound.execute(_MEND_ROLLED)
    if "given_up" in names:
        sound.execute(_MEND_GIVEN_UP)
    no_ids = "(SELECT 0 AS row_id, 0 AS last_id)"
    last = _LAST.format(
        packs="pack" if "pack" in names else no_ids, rolled="rolled" if "rolled" in names else no_ids
    )
    sound.executescript(_MEND.format(last=last))
    if "chart_state" in names:
        sound.execute(_MEND_STATES.format(last=last))
    if lost & {"observation", "pack"}:
        sound.execute(_COUNT_AGAIN)
    if "series" in lost:
        sound.executemany(_NAME, _series_seen(sound, "pack" in names))


def _series_seen(sound: sqlite3.Connection, has_packs: bool) -> Iterator[dict[str, int]]:
    """The series that rows are of, each with its first row."""
    first = dict(sound.execute("SELECT series_id, min(id) FROM observation GROUP BY series_id"))
    if has_packs:
        for (document,) in sound.execute("SELECT document FROM pack ORDER BY first_id DESC"):
            for row in reversed(packs.unpack(document)):
                first[row[r.SERIES_ID]] = row[r.ID]
    return ({"id": series_id, "first": row_id} for series_id, row_id in first.items())


def _is_whole(row: Sequence[Any]) -> bool:
    """Whether a row of `pack` holds what it held."""
    try:
        return bool(len(packs.unpack(row[-1])) == row[4])
    except (zlib.error, ValueError, IndexError, TypeError, msgspec.MsgspecError):
        return False
