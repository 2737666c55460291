"""The tables of who may use the API. Other processes write them while a server runs: it reads them each time."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from llmscope.access import Scope, Token
from llmscope.store.schema import migrate

MOST_TOKENS = 1_000
_COLUMNS = "id, name, scope, made_us, expires_us, revoked_us"


class TooManyTokens(Exception):
    """There is no room for another token."""


class TokenTable:
    """The tokens of a database, read and written over the connection that `connection()` gives."""

    def __init__(self, connection: Callable[[], sqlite3.Connection]) -> None:
        self._connection = connection

    def find(self, digest: bytes) -> Token | None:
        """The token with that digest."""
        row = (
            self._connection().execute(f"SELECT {_COLUMNS} FROM token WHERE digest = ?", (digest,)).fetchone()
        )
        return None if row is None else Token(*row)

    def all(self) -> list[Token]:
        """Every token, the oldest first."""
        return [
            Token(*row) for row in self._connection().execute(f"SELECT {_COLUMNS} FROM token ORDER BY id")
        ]

    def has_working(self, now_us: int) -> bool:
        return any(token.works_at(now_us) for token in self.all())

    def add(self, digest: bytes, name: str, scope: Scope, now_us: int, expires_us: int | None) -> Token:
        """Store a token. Raises TooManyTokens."""
        connection = self._connection()
        (count,) = connection.execute("SELECT count(*) FROM token").fetchone()
        if count >= MOST_TOKENS:
            raise TooManyTokens(f"there are {MOST_TOKENS:,} tokens, the most; remove some that are revoked")
        row = connection.execute(
            "INSERT INTO token (digest, name, scope, made_us, expires_us) VALUES (?, ?, ?, ?, ?) "
            f"RETURNING {_COLUMNS}",
            (digest, name, scope, now_us, expires_us),
        ).fetchone()
        return Token(*row)

    def revoke(self, token_id: int, now_us: int) -> bool:
        """Make a token stop working; False when there is none with that id, or it was revoked before."""
        done = self._connection().execute(
            "UPDATE token SET revoked_us = ? WHERE id = ? AND revoked_us IS NULL", (now_us, token_id)
        )
        return done.rowcount == 1


@contextlib.contextmanager
def opened_tokens(path: Path) -> Iterator[TokenTable]:
    """The tokens of that database, made if it does not exist; beside a server that has it open, if there is one.

    Raises schema.SchemaTooNew or sqlite3.Error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA busy_timeout = 5000")
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection)
        yield TokenTable(lambda: connection)


def ended_sessions(connection: sqlite3.Connection, now_us: int) -> dict[bytes, int]:
    """Sessions that were ended and would go on otherwise: until when."""
    found = connection.execute("SELECT id, expires_us FROM ended_session WHERE expires_us > ?", (now_us,))
    return dict(found.fetchall())


def end_session(connection: sqlite3.Connection, session_id: bytes, expires_us: int, now_us: int) -> None:
    """Remember that a session was ended, and forget those whose time is over."""
    connection.execute("DELETE FROM ended_session WHERE expires_us <= ?", (now_us,))
    connection.execute(
        "INSERT OR REPLACE INTO ended_session (id, expires_us) VALUES (?, ?)", (session_id, expires_us)
    )
