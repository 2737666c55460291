"""Whether a file is a sound database of LLMscope: a look at its header and tables, and SQLite's own quick check.

Nothing here writes. A damaged file stays as it is, for whoever repairs it.
"""

import contextlib
import logging
import sqlite3
import threading
from pathlib import Path

from llmscope.store.schema import SCHEMA_VERSION, SchemaTooNew

log = logging.getLogger(__name__)

MAGIC = b"SQLite format 3\0"
WAIT_S = 2.0  # a check reads about 200 MB/s from the page cache; a start does not wait longer for a big file
WAIT_UNCLEAN_S = 20.0  # after a kill or a power cut damage is likelier


class DatabaseDamaged(Exception):
    """The file is not a sound database; the message says what was found."""


class NotOurs(Exception):
    """The file is a database of another program; the message says which, where that is seen."""


def connect_readonly(path: Path) -> sqlite3.Connection:
    """A connection that cannot change the file, nor carry its log over into it."""
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


def version_of(path: Path) -> int:
    """The schema version of the database, 0 for none or an empty one, from its header and its list of tables.

    Raises DatabaseDamaged, NotOurs, SchemaTooNew, OSError, or sqlite3.Error where something else is wrong.
    """
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise DatabaseDamaged("it does not begin like a SQLite database")
    with contextlib.closing(connect_readonly(path)) as connection:
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, or not to be read: not damaged
                raise
            raise DatabaseDamaged(str(error)) from None
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"the database has schema version {version}, this LLMscope knows {SCHEMA_VERSION}: "
            "install a newer LLMscope, or name another file with --db"
        )
    if not {"series", "observation"} <= tables and (tables or version):
        if "telemetry" in tables:
            raise NotOurs("it is a database of the prototype: take it over with llmscope import")
        raise NotOurs("it is a database of another program")
    return int(version)


def quick_check(connection: sqlite3.Connection) -> None:
    """SQLite's check of every page. Raises DatabaseDamaged."""
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        found = str(error)
    if found != "ok":
        raise DatabaseDamaged(" ".join(str(found).split()))


class StartCheck:
    """A check of every page that runs beside the start; `wait` for its answer, at most so long.

    A big file is checked further while the server runs already: `damage` then says what was found.
    """

    def __init__(self, path: Path) -> None:
        self.damage: str | None = None
        self._path = path
        self._done = threading.Event()
        threading.Thread(target=self._run, name="llmscope-check", daemon=True).start()

    def wait(self, within_s: float) -> None:
        """Raises DatabaseDamaged when damage is found in time."""
        self._done.wait(within_s)
        if self.damage is not None:
            raise DatabaseDamaged(self.damage)

    def _run(self) -> None:
        try:
            if self._path.exists() and self._path.stat().st_size:
                with contextlib.closing(connect_readonly(self._path)) as connection:
                    quick_check(connection)
        except DatabaseDamaged as damaged:
            self.damage = str(damaged)
            log.error("the database %s is damaged (%s)", self._path, damaged)
        except (sqlite3.Error, OSError) as error:
            log.warning("the database %s could not be checked: %s", self._path, error)
        finally:
            self._done.set()
