"""Copies of the database: taken while a server writes, put back while none does. Both appear whole or not at all."""

import contextlib
import datetime as dt
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmscope.store import snapshot
from llmscope.store.integrity import DatabaseDamaged, connect_readonly, quick_check, version_of

PACKED_SINCE = 7  # the schema in which old rows are in packs
PAGES_PER_STEP = 2_000  # 8 MB between two words about how far it is
BESIDE = ("-wal", "-shm")

Tell = Callable[[int, int], None]
"""Is told how many pages of how many are done."""


class CannotCopy(Exception):
    """The copy cannot be made or used; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds."""

    schema: int
    observations: int
    size_bytes: int


def backup(source: Path, target: Path, tell: Tell, *, overwrite: bool = False) -> Copied:
    """Write a checked copy of the database as it is now; a server may go on writing meanwhile.

    All of it is read in one transaction, so it holds what was committed before it began and nothing later; the server's
    log grows until it is done. Raises CannotCopy.
    """
    if not source.exists():
        raise CannotCopy(f"there is no database {source}; name it with --db")
    if target.is_dir():
        raise CannotCopy(f"{target} is a folder; name a file")
    if target.exists():
        if target.resolve() == source.resolve():
            raise CannotCopy(f"{target} is the database itself; name another file")
        if not overwrite:
            raise CannotCopy(f"{target} exists; name another file, or pass --force to replace it")
    new = target.with_name(target.name + ".new")
    try:
        version_of(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _or_nothing(new):
            _copy(source, new, tell)
            copied = _checked(new)
            put(new, target)
    except DatabaseDamaged as error:
        raise CannotCopy(f"{source} is damaged ({error}); run llmscope repair first") from None
    except (sqlite3.Error, OSError) as error:
        raise CannotCopy(f"cannot copy {source} to {target}: {error}") from None
    return copied


def restore(source: Path, database: Path, tell: Tell) -> tuple[Copied, Path | None]:
    """Put a backup in the place of the database, whose lock the caller holds; also where the present one is kept.

    Raises CannotCopy, and what `version_of` raises of the backup.
    """
    if not source.exists():
        raise CannotCopy(f"there is no backup {source}")
    if database.exists() and source.resolve() == database.resolve():
        raise CannotCopy(f"{source} is the database itself; name a backup of it")
    new = database.with_name(database.name + ".new")
    try:
        if version_of(source) == 0:
            raise CannotCopy(f"{source} is empty; name a backup")
        with _or_nothing(new):
            _copy(source, new, tell)
            copied = _checked(new)
            aside = keep_aside(database, "before-restore")
            put(new, database)
    except DatabaseDamaged as error:
        raise CannotCopy(f"{source} is damaged ({error}); the database was left as it is") from None
    except (sqlite3.Error, OSError) as error:
        raise CannotCopy(f"cannot restore {source} to {database}: {error}") from None
    return copied, aside


def keep_aside(database: Path, why: str) -> Path | None:
    """Give the database another name too, its log with it, so that another can take its place; None without one.

    The log goes before the database is replaced: SQLite would play the log of one into the other.
    """
    snapshot.path_of(database).unlink(missing_ok=True)
    if not database.exists():
        for suffix in BESIDE:
            Path(f"{database}{suffix}").unlink(missing_ok=True)
        return None
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S%f")[:-3]
    aside = database.with_name(f"{database.name}.{why}-{stamp}")
    log = Path(f"{database}-wal")
    if log.exists() and log.stat().st_size:
        _also_named(log, Path(f"{aside}-wal"))
    _also_named(database, aside)
    sync_folder(database.parent)
    for suffix in BESIDE:
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    return aside


def _also_named(path: Path, name: Path) -> None:
    try:
        os.link(path, name)
    except OSError:  # a file system without hard links
        shutil.copy2(path, name)


@contextlib.contextmanager
def _or_nothing(new: Path) -> Iterator[None]:
    """Whatever happens, no half of a copy is left."""
    new.unlink(missing_ok=True)
    try:
        yield
    finally:
        for suffix in ("", "-journal", *BESIDE):
            Path(f"{new}{suffix}").unlink(missing_ok=True)


def _copy(source: Path, new: Path, tell: Tell) -> None:
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with (
        contextlib.closing(connect_readonly(source)) as old,
        contextlib.closing(sqlite3.connect(new)) as copy,
    ):
        old.execute("BEGIN")  # one snapshot for all steps: else each write of the server would begin it anew
        old.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        old.backup(
            copy, pages=PAGES_PER_STEP, progress=lambda _status, left, total: tell(total - left, total)
        )
        old.execute("COMMIT")
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it


def _checked(new: Path) -> Copied:
    with contextlib.closing(connect_readonly(new)) as copy:
        quick_check(copy)
        (schema,) = copy.execute("PRAGMA user_version").fetchone()
        (rows,) = copy.execute("SELECT count(*) FROM observation").fetchone()
        if schema >= PACKED_SINCE:
            rows += copy.execute("SELECT coalesce(sum(rows), 0) FROM pack").fetchone()[0]
    return Copied(schema, rows, new.stat().st_size)


def put(new: Path, target: Path) -> None:
    """Give a finished file its name, in the place of what had it before, to whom it belongs as that did."""
    with new.open("rb") as file:
        if target.exists():
            before = target.stat()
            os.fchmod(file.fileno(), before.st_mode & 0o777)
            with contextlib.suppress(PermissionError):  # only root may give a file away
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
        os.fsync(file.fileno())
    os.replace(new, target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make names that were given or taken in a folder last through a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
