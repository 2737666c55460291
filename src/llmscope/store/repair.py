"""Makes a sound database of what can still be read of a damaged one; the damaged file is kept as it is.

Tables are read row by row, around the pages that give an error. Where a tree is so broken that rows behind it are out
of reach, they are looked for in the file's leaf pages. Indexes and views are made anew.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscope.store import leaves
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
            _mend(sound, not all(table.is_whole for table in tables if table.table == "observation"))
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
        try:
            found = sound.execute(inserts[name], row).rowcount
        except (sqlite3.IntegrityError, sqlite3.DataError):
            continue
        table.rows += found
        if table.lost is not None:
            table.lost = max(0, table.lost - found)


# Rows that came after the last one recovered have numbers that will be given again: nothing may claim to know them.
_MEND = """
INSERT INTO series (id, provider, model, server, source, first_id)
    SELECT series_id, 'recovered', 'series ' || series_id, '', 'probe', min(id) FROM observation
    WHERE series_id NOT IN (SELECT id FROM series) GROUP BY series_id;
UPDATE series SET judged_id = min(judged_id, (SELECT coalesce(max(id), 0) FROM observation));
DELETE FROM failure WHERE observation_id > (SELECT coalesce(max(id), 0) FROM observation);
DELETE FROM arrival WHERE first_id > (SELECT coalesce(max(id), 0) FROM observation);
"""
_COUNT_AGAIN = "UPDATE series SET counted_id = 0, count = 0, failed = 0, first_us = NULL, last_us = NULL"
_MEND_STATES = """
UPDATE chart_state SET row_id = min(row_id, (SELECT coalesce(max(id), 0) FROM observation));
"""
_MEND_ROLLED = """
INSERT INTO rolled (row_id) SELECT coalesce(max(last_id), 0) FROM rollup WHERE NOT EXISTS (SELECT 1 FROM rolled);
UPDATE rolled SET row_id = min(row_id, (SELECT coalesce(max(id), 0) FROM observation));
"""


def _mend(sound: sqlite3.Connection, lacks_observations: bool) -> None:
    """Bring in line with the observations what refers to them."""
    tables = {name for (name,) in sound.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    sound.executescript(f"BEGIN;\n{_MEND}\nCOMMIT;")
    if lacks_observations:
        sound.execute(_COUNT_AGAIN)
    if "chart_state" in tables:
        sound.executescript(_MEND_STATES)
    if "rolled" in tables:
        sound.executescript(_MEND_ROLLED)
