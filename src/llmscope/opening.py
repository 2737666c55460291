"""The database of a process: locked, checked and brought up to date before anything is served from it."""

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llmscope.store import (
    SCHEMA_VERSION,
    DatabaseInUse,
    DatabaseLock,
    Keep,
    SchemaTooNew,
    Store,
    fault_of,
    open_store,
)
from llmscope.store.integrity import (
    WAIT_S,
    WAIT_UNCLEAN_S,
    DatabaseDamaged,
    NotOurs,
    StartCheck,
    version_of,
)

log = logging.getLogger(__name__)

LARGE_BYTES = 100_000_000  # of a database whose upgrade is felt
REMEDY = "run llmscope repair, or llmscope restore with a backup"

Say = Callable[[str], None]


def clock_us() -> int:
    """Microseconds since 1970, now."""
    return time.time_ns() // 1000


class StartError(Exception):
    """Something a person can mend keeps LLMscope from starting; the message says what and how."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The database of this process, and nobody else's, until `close`."""

    store: Store
    lock: DatabaseLock
    check: StartCheck

    @property
    def trouble(self) -> str | None:
        """What people should know of the storage just now."""
        if self.store.fault is not None:
            return f"Observations are not stored: {self.store.fault}."
        if self.check.damage is not None:
            return f"The database is damaged ({self.check.damage}): {REMEDY}."
        return None

    def close(self) -> None:
        self.store.close()
        self.lock.release()


def open_database(path: Path, keep: Keep | None = None, say: Say = log.warning) -> Opened:
    """Lock, check, migrate and load the database. Raises StartError."""
    try:
        lock = DatabaseLock(path)
    except DatabaseInUse as error:
        raise StartError(str(error)) from None
    except OSError as error:
        raise StartError(
            f"cannot write {error.filename or path.parent} ({error.strerror or error}); allow it, or name another "
            "file with --db"
        ) from None
    try:
        return Opened(*_checked(path, lock, keep, say))
    except BaseException:
        lock.release()
        raise


def _checked(
    path: Path, lock: DatabaseLock, keep: Keep | None, say: Say
) -> tuple[Store, DatabaseLock, StartCheck]:
    if path.exists() and not os.access(path, os.W_OK):
        raise StartError(f"the database {path} cannot be written; allow it, or name another file with --db")
    try:
        version = version_of(path)
        check = StartCheck(path)
        check.wait(WAIT_UNCLEAN_S if lock.was_unclean else WAIT_S)
        if 0 < version < SCHEMA_VERSION:
            say(f"Upgrading {path} from schema {version} to {SCHEMA_VERSION}{_warning(path)}")
        return open_store(path, clock_us, keep), lock, check
    except SchemaTooNew as error:
        raise StartError(f"{path}: {error}") from None
    except NotOurs as error:
        raise StartError(f"cannot use {path}: {error}; name another file with --db") from None
    except DatabaseDamaged as error:
        raise StartError(
            f"the database {path} is damaged ({error}) and was left as it is: {REMEDY}"
        ) from None
    except (sqlite3.Error, OSError) as error:
        fault = fault_of(error, path)
        why = f"cannot open the database {path}: {error}" if fault is None else str(fault)
        raise StartError(f"{why}; or pass another file with --db") from None


def _warning(path: Path) -> str:
    """What to know before a large database is upgraded."""
    size = path.stat().st_size
    if size < LARGE_BYTES:
        return ""
    return (
        f"; with {size / 1e9:.1f} GB this may take minutes. To have a copy of it as it is, stop LLMscope now and run "
        "llmscope backup"
    )
