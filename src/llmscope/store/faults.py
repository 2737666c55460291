"""What keeps the database from taking a write or giving a row: which kind of trouble it is, and what to do."""

import errno
import os
import resource
import sqlite3
import tempfile
from enum import StrEnum
from pathlib import Path

ROOM = 1 << 18  # bytes that must be writable for the disk not to count as full: a commit of many rows


class FaultKind(StrEnum):
    """What is wrong with the storage."""

    FULL = "full"
    LOCKED = "locked"
    READ_ONLY = "read_only"
    DAMAGED = "damaged"
    OTHER = "other"


class StorageFault(Exception):
    """Trouble with the storage as a whole; its text is a sentence for people."""

    def __init__(self, kind: FaultKind, said: str) -> None:
        super().__init__(said)
        self.kind = kind


_KINDS = {
    sqlite3.SQLITE_FULL: FaultKind.FULL,
    sqlite3.SQLITE_BUSY: FaultKind.LOCKED,
    sqlite3.SQLITE_LOCKED: FaultKind.LOCKED,
    sqlite3.SQLITE_READONLY: FaultKind.READ_ONLY,
    sqlite3.SQLITE_PERM: FaultKind.READ_ONLY,
    sqlite3.SQLITE_CORRUPT: FaultKind.DAMAGED,
    sqlite3.SQLITE_NOTADB: FaultKind.DAMAGED,
    sqlite3.SQLITE_IOERR: FaultKind.OTHER,
    sqlite3.SQLITE_CANTOPEN: FaultKind.OTHER,
    sqlite3.SQLITE_NOMEM: FaultKind.OTHER,
}


def fault_of(error: BaseException | None, path: Path) -> StorageFault | None:
    """The trouble with the database at `path` that an error tells of; None when it is of one statement alone."""
    code = getattr(error, "sqlite_errorcode", None)
    kind = None if code is None else _KINDS.get(code & 0xFF)
    if kind is None:
        return None
    if kind is FaultKind.OTHER and _is_full(path):
        kind = FaultKind.FULL
    return StorageFault(kind, _sentence(kind, path, str(error)))


def _sentence(kind: FaultKind, path: Path, error: str) -> str:
    match kind:
        case FaultKind.FULL:
            return f"no space left for the database {path}; make room, it goes on by itself"
        case FaultKind.LOCKED:
            return f"the database {path} is locked by another process"
        case FaultKind.READ_ONLY:
            return f"the database {path} cannot be written ({error}); allow it, it goes on by itself"
        case FaultKind.DAMAGED:
            return (
                f"the database {path} is damaged ({error}); stop LLMscope, then run llmscope repair, or llmscope "
                "restore with a backup"
            )
        case _:
            return f"the database {path} does not take writes ({error})"


def _is_full(path: Path) -> bool:
    """Whether it is for want of room that nothing more is written: SQLite has one code for all its I/O errors."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY:
        sizes = [p.stat().st_size for p in (path, Path(f"{path}-wal"), Path(f"{path}-shm")) if p.exists()]
        if max(sizes, default=0) + ROOM > limit:
            return True
    return not has_room(path)


def has_room(path: Path) -> bool:
    """Whether the disk of the database takes as much as a commit of many rows may need."""
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return True
