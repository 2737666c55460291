"""The commands that move data between the database and files: `llmscope export` and `llmscope import`."""

import asyncio
import contextlib
import datetime as dt
import os
import shutil
import sqlite3
import sys
import tempfile
import time
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from llmscope.upkeep import Database, err, fail, say

if TYPE_CHECKING:
    from llmscope.exchange import Intake, Survey
    from llmscope.settings import Settings

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
WHATS = ("observations", "violations", "incidents", "minutes", "hours")
FORMATS = ("csv", "jsonl", "parquet")


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int | None, int], None]]:
    """A progress bar on standard error, as a function of done, total and rows; nothing where that is no terminal."""
    begun = time.monotonic()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rows]}"), TimeRemainingColumn(),
        console=err, transient=True, disable=not err.is_terminal,
    ) as progress:  # fmt: skip
        bar = progress.add_task(what, total=None, rows="")

        def tell(done: int, total: int | None, rows: int) -> None:
            rate = rows / max(time.monotonic() - begun, 1e-3)
            progress.update(bar, completed=done, total=total, rows=f"{rows:,} rows, {rate:,.0f}/s")

        yield tell


def _moment(flag: str, text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        fail(f"{flag} must be a date and time such as 2026-11-23T12:00:00Z (it is {text!r})")
    return (moment.replace(tzinfo=moment.tzinfo or dt.UTC) - EPOCH) // dt.timedelta(microseconds=1)


def _settings(db: Path | None) -> "Settings":
    from llmscope.settings import WrongSetting, load

    try:
        return load({"db": db})
    except WrongSetting as error:
        fail(str(error))


# -- export


def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - is standard output.")],
    db: Database = None,
    what: Annotated[str, typer.Option("--what", help=f"One of {', '.join(WHATS)}.")] = "observations",
    format: Annotated[
        str | None,
        typer.Option("--format", help="csv, jsonl or parquet. Default: by FILE's ending, else csv."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Observed at this time or later.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Observed before this time.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Only series of this provider.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only series of this model.")] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Only these columns, in this order, with commas between."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Write what is stored into a file, while a server may be writing to the database.

    Times are RFC 3339 in UTC, durations milliseconds, and empty means not measured. `import` gives the same
    observations back.

    Examples:

        llmscope export november.csv --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z

        llmscope export all.parquet

        llmscope export --model llama3.1:8b --columns timestamp,latency_ms,ttft_ms - | head

        llmscope export violations.csv --what violations
    """
    from llmscope.exchange import CannotExport, Selection
    from llmscope.exchange import export as write
    from llmscope.exchange.export import FAR
    from llmscope.exchange.tables import SUFFIXES, NoParquet
    from llmscope.store import SchemaTooNew
    from llmscope.store.integrity import DatabaseDamaged, NotOurs

    format = format or SUFFIXES.get(Path(file).suffix.lower(), "csv")
    if format not in FORMATS:
        fail(f"--format must be one of {', '.join(FORMATS)} (it is {format!r})")
    if what not in WHATS:
        fail(f"--what must be one of {', '.join(WHATS)} (it is {what!r})")
    selection = Selection(provider, model, _moment("--from", since, -FAR), _moment("--to", until, FAR))
    names = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    database = _settings(db).db
    try:
        with _target(file, force) as target, _bar("exporting") as tell:
            rows = write(database, target, what, format, selection, tell, names)  # type: ignore[arg-type]
    except (CannotExport, NoParquet) as error:
        fail(str(error))
    except DatabaseDamaged as error:
        fail(f"{database} is damaged ({error}); run llmscope repair first")
    except (NotOurs, SchemaTooNew) as error:
        fail(f"cannot export {database}: {error}")
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it at exit
        raise typer.Exit(0) from None
    except (sqlite3.Error, OSError) as error:
        fail(f"cannot export {database} to {file}: {error}")
    if file != "-":
        say(f"{file}: {rows:,} rows")


@contextlib.contextmanager
def _target(file: str, force: bool) -> Iterator[BinaryIO]:
    """The file under another name until it is whole; standard output as it is."""
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    if path.is_dir():
        fail(f"{path} is a folder; name a file")
    if path.exists() and not force:
        fail(f"{path} exists; name another file, or pass --force to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


# -- import


def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="CSV, JSON lines, Parquet or SQLite; - is stdin.")
    ],
    db: Database = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all of it and say what would happen.")
    ] = False,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Leave out rows that are not valid, instead of all.")
    ] = False,
    timezone: Annotated[
        str, typer.Option(metavar="ZONE", help="Of times that name none: Europe/Berlin.")
    ] = "UTC",
    provider: Annotated[str | None, typer.Option(help="Of rows that name none.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Of rows that name none.")] = None,
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Of rows that name none.")] = None,
) -> None:
    """Take in observations of a file: an export, another program's table, or the prototype's database.

    The server must be stopped. Every row is checked first; then those that are not stored yet are stored and judged
    in the order of the file. What is stored is known by series and time, so importing twice adds nothing, and an
    import that broke off is completed by running it again.

    Examples:

        llmscope import november.csv --dry-run

        llmscope import /old/data/llmscope.db --server localhost:11434 --timezone Europe/Berlin

        cat rows.jsonl | llmscope import -
    """
    from llmscope.exchange import CannotImport, Intake
    from llmscope.opening import StartError

    try:
        zone = dt.UTC if timezone.upper() == "UTC" else zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        fail(f"--timezone must be a zone such as UTC or Europe/Berlin (it is {timezone!r})")
    given = {"provider": provider, "model": model, "server": server}
    settings = _settings(db)
    try:
        with _source(file) as path:
            intake = Intake(
                path, lambda: time.time_ns() // 1000, name="standard input" if file == "-" else file,
                defaults={name: value for name, value in given.items() if value is not None}, zone=zone,
                skip_invalid=skip_invalid,
            )  # fmt: skip
            with _bar("checking") as tell:
                survey = intake.survey(lambda rows: tell(rows, None, rows))
            _say_survey(survey)
            if dry_run:
                with _bar("comparing") as tell:
                    new = intake.new_in(settings.db, survey, lambda rows: tell(rows, survey.valid, rows))
                say(
                    f"Would import {new:,} rows; {survey.valid - new:,} are stored already. Nothing was changed."
                )
                return
            asyncio.run(_take(intake, survey, settings))
    except (CannotImport, StartError) as error:
        fail(str(error))
    except (sqlite3.Error, OSError) as error:
        fail(f"cannot import {file}: {error}")


async def _take(intake: "Intake", survey: "Survey", settings: "Settings") -> None:
    from llmscope.app import taking_in

    begun = time.monotonic()
    async with taking_in(settings, say) as ingest:
        with _bar("importing") as tell:
            taken = await intake.take(ingest, survey, lambda rows: tell(rows, survey.valid, rows))
        took_s = time.monotonic() - begun
    say(
        f"Imported {taken.accepted:,} rows in {took_s:.1f} s ({taken.accepted / max(took_s, 1e-3):,.0f}/s); "
        f"{taken.known:,} were stored already."
    )


def _say_survey(survey: "Survey") -> None:
    from llmscope.documents import time_text

    say(f"{survey.rows:,} rows" + (f", {survey.invalid:,} of them not valid" if survey.invalid else ""))
    if survey.first_invalid:
        say(f"Left out: {survey.first_invalid}" + (" and others" if survey.invalid > 1 else ""))
    if survey.unknown_columns:
        say(f"Columns that LLMscope does not know, ignored: {', '.join(survey.unknown_columns)}")
    if survey.valid:
        say(
            f"From {time_text(survey.from_us)} to {time_text(survey.to_us)}, of {len(survey.series):,} series:"
        )
        for key, rows in sorted(survey.series.items(), key=lambda item: -item[1])[:10]:
            say(f"  {' '.join(part for part in key if part)}: {rows:,}")


@contextlib.contextmanager
def _source(file: str) -> Iterator[Path]:
    """The file; what comes on standard input is put into one first, because it is read twice."""
    if file != "-":
        yield Path(file)
        return
    with tempfile.NamedTemporaryFile() as kept:
        source: Any = sys.stdin.buffer
        shutil.copyfileobj(source, kept)
        kept.flush()
        yield Path(kept.name)
