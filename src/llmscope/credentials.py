"""`llmscope token`: makes, lists and revokes tokens in the database, beside a server that runs on it or not."""

import contextlib
import datetime as dt
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmscope import settings
from llmscope.access import Scope, Token, digest_of, new_token

if TYPE_CHECKING:
    from llmscope.store import (
        TokenTable,
    )  # the rest of it only when a command runs: the start of others is quicker

tokens = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Tokens for programs that use the API of a server with a login.\n\n"
    "A token is sent as `Authorization: Bearer TOKEN`; the monitor takes it from LLMSCOPE_TOKEN. A server that runs "
    "on the database sees changes within a second.\n\n"
    "Example:\n\n    llmscope token create --scope ingest --name gpu-box",
)
out = Console()
err = Console(stderr=True)

Database = Annotated[Path | None, typer.Option("--db", metavar="FILE", help="The SQLite database.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", envvar="LLMSCOPE_CONFIG", help="Default: ./llmscope.toml"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@tokens.command()
def create(
    scope: Annotated[
        Scope,
        typer.Option(help="ingest: post observations. read: read everything. admin: whatever the page may."),
    ],
    name: Annotated[str, typer.Option(help="Who or what will use it.", metavar="NAME")],
    expires: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="After so long it no longer works, such as 720h or 30d."),
    ] = None,
    db: Database = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and show it, this once: only its SHA-256 is kept.

    Example:

        llmscope token create --scope ingest --name gpu-box --expires 90d
    """
    from llmscope.store import TooManyTokens

    if not name.strip() or not name.isprintable() or len(name) > 100:
        _fail("--name must be a printable name of at most 100 characters")
    lasts_us = None if expires is None else _lasts_us(expires)
    text, now_us = new_token(), time.time_ns() // 1000
    with _table(db, config) as table:
        try:
            token = table.add(
                digest_of(text), name.strip(), scope, now_us, None if lasts_us is None else now_us + lasts_us
            )
        except TooManyTokens as error:
            _fail(str(error))
    if as_json:
        typer.echo(json.dumps(_document(token, now_us) | {"token": text}))
        return
    err.print(f"Token {token.id} for {scope}. It is not shown again:", highlight=False)
    typer.echo(text)


@tokens.command("list")
def list_tokens(db: Database = None, config: Config = None, as_json: AsJson = False) -> None:
    """Show every token: what it may do, since when, and whether it still works.

    Example:

        llmscope token list --json
    """
    now_us = time.time_ns() // 1000
    with _table(db, config) as table:
        documents = [_document(token, now_us) for token in table.all()]
    if as_json:
        typer.echo(json.dumps(documents, indent=2))
        return
    if not documents:
        out.print('No tokens. Make one with "llmscope token create".', highlight=False)
        return
    shown = Table("id", "name", "scope", "state", "made", "expires", box=box.SIMPLE)
    for row in documents:
        shown.add_row(
            *(str(row[key] or "never") for key in ("id", "name", "scope", "state", "made", "expires"))
        )
    out.print(shown)


@tokens.command()
def revoke(
    token_id: Annotated[int, typer.Argument(metavar="ID", help="Its number in `llmscope token list`.")],
    db: Database = None,
    config: Config = None,
) -> None:
    """Make a token stop working, for good.

    Example:

        llmscope token revoke 3
    """
    with _table(db, config) as table:
        if not table.revoke(token_id, time.time_ns() // 1000):
            _fail(f"there is no token {token_id} that works; llmscope token list shows them")
    out.print(f"Token {token_id} is revoked.", highlight=False)


@contextlib.contextmanager
def _table(db: Path | None, config: Path | None) -> Iterator["TokenTable"]:
    """The tokens of the database that the settings name; what is wrong is one sentence and exit code 2."""
    from llmscope.store import SchemaTooNew, opened_tokens

    try:
        path = settings.load({"db": db}, config).db
        with opened_tokens(path) as table:
            yield table
    except settings.WrongSetting as error:
        _fail(str(error))
    except (SchemaTooNew, sqlite3.Error, OSError) as error:
        _fail(f"cannot use the database {path}: {error}; pass another file with --db")


def _lasts_us(text: str) -> int:
    """A duration in µs, days included."""
    days = text.strip().removesuffix("d")
    try:
        lasts_s = float(days) * 86_400 if days != text.strip() else float(settings.seconds(text))
    except ValueError:
        lasts_s = 0.0
    if not 1.0 <= lasts_s <= 3_660 * 86_400:
        _fail(f"--expires must be a duration such as 12h or 30d, at most ten years (it is {text!r})")
    return round(lasts_s * 1e6)


def _document(token: Token, now_us: int) -> dict[str, str | int | None]:
    over = "revoked" if token.revoked_us is not None else "expired"
    return {
        "id": token.id,
        "name": token.name,
        "scope": token.scope,
        "state": "works" if token.works_at(now_us) else over,
        "made": _moment(token.made_us),
        "expires": None if token.expires_us is None else _moment(token.expires_us),
    }


def _moment(time_us: int) -> str:
    return (
        dt.datetime.fromtimestamp(time_us / 1e6, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    )


def _fail(message: str) -> NoReturn:
    err.print(Text(f"llmscope: {message}"), soft_wrap=True)
    raise typer.Exit(2)
