"""One writer for a database: a lock of the operating system on a file beside it, for as long as the process lives.

The kernel lets go of it when the process ends, however it ends, so nothing is ever left to be cleared away. What the
file says of its holder is for people; that it still says so when the lock is free tells of an end that was not clean.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
from pathlib import Path
from types import TracebackType

log = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class DatabaseInUse(Exception):
    """Another process writes to the database; the message says which, where that is known."""


def path_of(database: Path) -> Path:
    return database.with_name(database.name + "-lock")


class DatabaseLock:
    """The right to write to a database, from `__init__` to `release`.

    `was_unclean` says that the holder before ended without `release`: killed, or with the machine.
    Raises DatabaseInUse, or OSError when the lock file cannot be made.
    """

    def __init__(self, database: Path) -> None:
        self._path = path_of(database)
        database.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._give_to_owner_of(database)
            self._take(database)
            self.was_unclean = os.fstat(self._file).st_size > 0
            self._write({"pid": os.getpid(), "host": socket.gethostname()})
        except BaseException:
            os.close(self._file)
            raise

    def _give_to_owner_of(self, database: Path) -> None:
        """A command that root runs must not keep the server out that runs as somebody else."""
        if os.geteuid() == 0:
            owner = (database if database.exists() else database.parent).stat()
            os.fchown(self._file, owner.st_uid, owner.st_gid)

    def _take(self, database: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseInUse(
                f"{database} is in use by another LLMscope{_holder(self._file)}; stop that one first, or name "
                "another file with --db"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            log.warning(
                "the file system of %s has no locks (%s): see to it that no second LLMscope uses it",
                self._path, error.strerror,
            )  # fmt: skip

    def _write(self, holder: dict[str, object]) -> None:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without it
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps(holder).encode(), 0)

    def release(self) -> None:
        """Let go, after a clean end. The file stays: removing it would let two hold it."""
        if self._file < 0:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, 0)
        os.close(self._file)
        self._file = -1

    def __enter__(self) -> "DatabaseLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _holder(file: int) -> str:
    """Who holds the lock, in brackets, where the file says so."""
    try:
        holder = json.loads(os.pread(file, 1000, 0))
        return f" (process {holder['pid']} on {holder['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
