"""The commands that keep the database safe: `llmscope backup`, `restore` and `repair`."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Database = Annotated[
    Path | None, typer.Option("--db", metavar="FILE", help="The database. Default: data/llmscope.db")
]


def fail(message: str) -> NoReturn:
    err.print(Text(f"llmscope: {message}"), soft_wrap=True)
    raise typer.Exit(2)


def say(message: str) -> None:
    out.print(Text(message), soft_wrap=True)


def _path(db: Path | None) -> Path:
    from llmscope.settings import WrongSetting, load

    try:
        return load({"db": db}).db
    except WrongSetting as error:
        fail(str(error))


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, as a function of done and total; nothing where that is no terminal."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=err, transient=True, disable=not err.is_terminal,
    ) as progress:  # fmt: skip
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes.")],
    db: Database = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Copy the database, checked and whole, while a server may be writing to it.

    The copy holds everything that was acknowledged before the command began.

    Examples:

        llmscope backup /mnt/backups/llmscope-monday.db

        llmscope backup --db /var/lib/llmscope/llmscope.db --force /mnt/backups/newest.db
    """
    from llmscope.store.backup import CannotCopy
    from llmscope.store.backup import backup as copy
    from llmscope.store.integrity import NotOurs
    from llmscope.store.schema import SchemaTooNew

    source = _path(db)
    try:
        with _bar("copying") as tell:
            copied = copy(source, file, tell, overwrite=force)
    except CannotCopy as error:
        fail(str(error))
    except (NotOurs, SchemaTooNew) as error:
        fail(f"cannot copy {source}: {error}")
    say(
        f"{file}: {copied.observations:,} observations, schema {copied.schema}, {_size(copied.size_bytes)}, checked"
    )


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    db: Database = None,
) -> None:
    """Put a backup in the place of the database. The server must be stopped; the present database is kept aside.

    Example:

        llmscope restore /mnt/backups/llmscope-monday.db
    """
    from llmscope.store.backup import CannotCopy
    from llmscope.store.backup import restore as put_back
    from llmscope.store.integrity import NotOurs
    from llmscope.store.schema import SchemaTooNew

    database = _path(db)
    try:
        with _locked(database), _bar("restoring") as tell:
            copied, aside = put_back(file, database, tell)
    except CannotCopy as error:
        fail(str(error))
    except (NotOurs, SchemaTooNew) as error:
        fail(f"cannot restore {file}: {error}")
    say(f"{database}: {copied.observations:,} observations, schema {copied.schema}, restored from {file}")
    if aside is not None:
        say(f"The database that was there is kept as {aside}; delete it when you do not need it.")


def repair(
    db: Database = None,
    force: Annotated[bool, typer.Option("--force", help="Also when no damage is found.")] = False,
) -> None:
    """Make a sound database of all that can be read of a damaged one. The server must be stopped.

    The damaged file is kept aside. Says of each table what was recovered and what was lost.

    Example:

        llmscope repair
    """
    from llmscope.store.integrity import DatabaseDamaged, NotOurs, connect_readonly, quick_check, version_of
    from llmscope.store.repair import CannotRepair
    from llmscope.store.repair import repair as recover
    from llmscope.store.schema import SchemaTooNew

    database = _path(db)
    if not database.exists():
        fail(f"there is no database {database}; name it with --db")
    try:
        with _locked(database):
            try:
                version_of(database)
                with contextlib.closing(connect_readonly(database)) as connection:
                    quick_check(connection)
            except DatabaseDamaged as damaged:
                say(f"Found: {damaged}")
            else:
                if not force:
                    say(f"{database} is sound; nothing to repair.")
                    return
            with Progress(
                TextColumn("{task.description}"), console=err, transient=True, disable=not err.is_terminal
            ) as bar:
                task = bar.add_task("")
                repaired = recover(database, lambda what, n: bar.update(task, description=f"{what}: {n:,}"))
    except CannotRepair as error:
        fail(str(error))
    except (NotOurs, SchemaTooNew, sqlite3.Error, OSError) as error:
        fail(f"cannot repair {database}: {error}")
    table = Table("table", "recovered", "lost", box=None)
    for found in repaired.tables:
        lost = (
            "some, it is not known how many"
            if found.lost is None
            else f"at most {found.lost:,}"
            if found.lost
            else "0"
        )
        table.add_row(found.table, f"{found.rows:,}", lost)
    out.print(table)
    say(f"{database} is sound again. The damaged file is kept as {repaired.aside}.")


@contextlib.contextmanager
def _locked(database: Path) -> Iterator[None]:
    """Nobody else writes to the database meanwhile."""
    from llmscope.store import DatabaseInUse, DatabaseLock

    try:
        lock = DatabaseLock(database)
    except DatabaseInUse as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write {error.filename or database} ({error.strerror or error}); allow it, or pass --db")
    try:
        yield
    finally:
        lock.release()
