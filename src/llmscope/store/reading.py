"""Observations by id, wherever they lie: the older ones in packs, the newer ones in rows of their own.

Every packed id is below every plain one. What reads both does so in one transaction, because rows move meanwhile.
"""

import contextlib
import sqlite3
from collections.abc import Iterator

from llmscope.store import rows as r
from llmscope.store.packs import unpack
from llmscope.store.rows import Row

FAR = 2**62
MOST_PACKS = 500  # that are looked through for the neighbours of a row, in each direction

_FROM = "first_id >= coalesce((SELECT max(first_id) FROM pack WHERE first_id <= :first), 0)"


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """The database as it is now, for all that is read inside."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def rows(
    connection: sqlite3.Connection,
    first_id: int = 0,
    last_id: int = FAR,
    series_id: int | None = None,
    from_us: int = -FAR,
    to_us: int = FAR,
) -> Iterator[Row]:
    """Rows with ids in [first_id, last_id] that were observed in [from_us, to_us), in order of arrival."""
    span = {"first": first_id, "last": last_id, "series": series_id, "from": from_us, "to": to_us}
    with snapshot(connection):
        packs = connection.execute(
            f"SELECT document FROM pack WHERE {_FROM} AND first_id <= :last AND from_us < :to AND to_us >= :from "
            "ORDER BY first_id",
            span,
        )
        for (document,) in packs:
            for row in unpack(document, series_id):
                if first_id <= row[r.ID] <= last_id and from_us <= row[r.TIME_US] < to_us:
                    yield row
        one = "" if series_id is None else "AND series_id = :series "
        yield from connection.execute(
            f"{r.SELECT} WHERE id BETWEEN :first AND :last {one}AND time_us >= :from AND time_us < :to ORDER BY id",
            span,
        )


def row(connection: sqlite3.Connection, row_id: int) -> Row | None:
    found = list(rows(connection, row_id, row_id))  # to the end, which ends the transaction
    return found[0] if found else None


def neighbours(
    connection: sqlite3.Connection, series_id: int, row_id: int, before: int, after: int
) -> tuple[list[Row], list[Row]]:
    """The rows of one series just before `row_id`, and those from it on, both in order of arrival."""
    with snapshot(connection):
        return _before(connection, series_id, row_id, before), _from(connection, series_id, row_id, after + 1)


def _before(connection: sqlite3.Connection, series_id: int, row_id: int, n: int) -> list[Row]:
    found: list[Row] = connection.execute(
        f"{r.SELECT} WHERE id < ? AND series_id = ? ORDER BY id DESC LIMIT ?", (row_id, series_id, n)
    ).fetchall()[::-1]
    packs = connection.execute(
        "SELECT document FROM pack WHERE first_id < ? ORDER BY first_id DESC LIMIT ?", (row_id, MOST_PACKS)
    )
    while len(found) < n and (pack := packs.fetchone()):
        found = [row for row in unpack(pack[0], series_id) if row[r.ID] < row_id] + found
    return found[max(0, len(found) - n) :]


def _from(connection: sqlite3.Connection, series_id: int, row_id: int, n: int) -> list[Row]:
    found: list[Row] = []
    packs = connection.execute(
        f"SELECT document FROM pack WHERE {_FROM} ORDER BY first_id LIMIT :most",
        {"first": row_id, "most": MOST_PACKS},
    )
    while len(found) < n and (pack := packs.fetchone()):
        found += [row for row in unpack(pack[0], series_id) if row[r.ID] >= row_id]
    if len(found) < n:
        found += connection.execute(
            f"{r.SELECT} WHERE id >= ? AND series_id = ? ORDER BY id LIMIT ?",
            (row_id, series_id, n - len(found)),
        )
    return found[:n]
