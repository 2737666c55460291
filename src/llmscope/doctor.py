"""What is right, what is not, and what to do about it: the checks of `llmscope doctor`. Changes nothing."""

import asyncio
import contextlib
import os
import platform
import socket
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import aiohttp
from pydantic import SecretStr

from llmscope import __version__
from llmscope.host import HostSampler
from llmscope.probe import Reach, open_session, reachable
from llmscope.settings import Settings, TargetSetting, without_passwords
from llmscope.store import SCHEMA_VERSION, Keep, SchemaTooNew, Usage, usage
from llmscope.store.integrity import DatabaseDamaged, NotOurs, quick_check, version_of

UP_PORT = 8081  # where `llmscope up` listens when no port is set
ANSWER_WITHIN_S = 3.0
BEHIND_LOGIN = "behind a login"  # in place of a version


@dataclass(frozen=True, slots=True)
class Check:
    """One line: `wrong` needs doing something, `note` is worth knowing."""

    what: str
    state: Literal["ok", "note", "wrong"]
    said: str
    remedy: str = ""

    def document(self) -> dict[str, Any]:
        return asdict(self)


async def examine(settings: Settings) -> list[Check]:
    """All checks, in the order in which a person would mend things."""
    port = settings.port or UP_PORT
    async with open_session(settings.allow_link_local) as http:
        targets = [] if settings.demo else settings.targets
        key = settings.api_key.get_secret_value() if settings.api_key else None
        reaches = await asyncio.gather(*(reachable(target.url, http, key) for target in targets))
        return [
            _version(),
            *(check for found in zip(targets, reaches, strict=True) for check in _target(*found)),
            *_database(settings.db, Keep.of_seconds(settings.keep_raw, settings.keep_minutes)),
            _spool(settings.spool),
            await asyncio.to_thread(_gpu),
            await _port(settings.host, port, http),
            _login(settings),
            *([await _api(settings.api, http, settings.token)] if "api" in settings.model_fields_set else []),
            _dashboard(),
        ]


def _version() -> Check:
    return Check(
        "version", "ok", f"llmscope {__version__}, Python {platform.python_version()}, {platform.system()}"
    )


def _target(target: TargetSetting, reach: Reach) -> Iterator[Check]:
    shown = without_passwords(target.url)
    if reach.error_kind is not None:
        yield Check(
            "target",
            "wrong",
            without_passwords(f"{target.url} does not answer ({reach.error})"),
            'start Ollama with "ollama serve", or name another server with --target (--demo needs none)',
        )
        return
    kind = f"{reach.provider} {reach.version}" if reach.version else f"{reach.provider}"
    yield Check("target", "ok", f"{shown} answers ({kind})")
    named = target.model
    if named is None and not reach.models:
        yield Check("model", "wrong", "the server has no model", "pull one, such as: ollama pull llama3.2")
    elif named is None:
        chosen = (*reach.loaded, *reach.models)[0]
        yield Check(
            "model", "ok", f"{chosen} would be watched (of {len(reach.models)}; --model names another)"
        )
    elif reach.has(named):
        yield Check("model", "ok", f"{named} is there{', and loaded' if named in reach.loaded else ''}")
    else:
        known = ", ".join(reach.models[:5]) or "none"
        yield Check("model", "wrong", f"{named} is not on the server", f"it has: {known}")


def _folder(what: str, path: Path) -> Check:
    folder = next((p for p in (path.parent, *path.parent.parents) if p.exists()), Path())
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        return Check(what, "wrong", f"{path} cannot be written", f"allow it, or pass --{what} FILE")
    size = f", {path.stat().st_size / 1e6:.1f} MB" if path.exists() else ", will be made"
    return Check(what, "ok", f"{path}{size}")


def _database(path: Path, keep: Keep) -> Iterator[Check]:
    check = _folder("db", path)
    yield replace(check, what="database")
    if not path.exists() or check.state == "wrong":
        return
    try:
        version = version_of(path)
        with contextlib.closing(_opened(path)) as connection:
            quick_check(connection)
            rows, failed = connection.execute("SELECT total(count), total(failed) FROM series").fetchone()
            used = (
                usage(connection, path, keep, time.time_ns() // 1000) if version == SCHEMA_VERSION else None
            )
    except DatabaseDamaged as damaged:
        yield Check(
            "database",
            "wrong",
            f"{path} is damaged: {damaged}",
            "run llmscope repair, or llmscope restore with a backup",
        )
        return
    except SchemaTooNew as error:
        yield Check("database", "wrong", str(error), "install a newer LLMscope")
        return
    except (sqlite3.Error, NotOurs) as error:
        yield Check(
            "database",
            "wrong",
            f"{path} is not a database of LLMscope ({error})",
            "restore it, or name another with --db",
        )
        return
    yield Check(
        "database", "ok", f"schema {version}, sound, about {rows:,.0f} observations, {failed:,.0f} failed"
    )
    if used is not None:
        yield _disk(used)


def _disk(used: Usage) -> Check:
    """What the database takes now and in a while, beside the room on the disk."""
    now_us = time.time_ns() // 1000
    said = f"{size_text(used.file_bytes)} used, {size_text(used.disk_free_bytes)} free"
    month, year = used.forecast(30, now_us), used.forecast(365, now_us)
    if month is None or year is None or used.rates is None:
        return Check("disk", "ok", f"{said}; too little has arrived lately for a forecast")
    said += (
        f"; at {used.rates.observations:,.0f} observations a day {size_text(month)} in a month, "
        f"{size_text(year)} in a year"
    )
    if month - used.file_bytes > used.disk_free_bytes:
        return Check(
            "disk", "wrong", said, "free some room, or keep less: --keep-raw 14d, --keep-minutes 90d"
        )
    if year - used.file_bytes > used.disk_free_bytes:
        return Check("disk", "note", said, "there is room for a month, not for a year")
    return Check("disk", "ok", said)


def size_text(size: float) -> str:
    """Bytes as people read them.

    >>> size_text(950), size_text(83_400_000), size_text(2.5e9)
    ('1 kB', '83.4 MB', '2.5 GB')
    """
    if size < 1e6:
        return f"{max(1, round(size / 1e3))} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def _spool(path: Path) -> Check:
    check = _folder("spool", path)
    if not path.exists() or check.state == "wrong":
        return check
    try:
        with contextlib.closing(_opened(path)) as connection:
            (waiting,) = connection.execute("SELECT count(*) FROM waiting").fetchone()
    except sqlite3.Error as error:
        return Check(
            "spool", "wrong", f"{path} is not a spool of LLMscope ({error})", "name another with --spool"
        )
    return replace(check, said=f"{check.said}, {waiting:,} observations wait to be delivered")


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _gpu() -> Check:
    with HostSampler() as host:
        gpus = host.sample().gpus
    if not gpus:
        return Check("gpu", "note", "none seen by this process: its numbers will be empty, the rest works")
    return Check("gpu", "ok", ", ".join(f"{gpu.name or 'GPU'} {gpu.index}" for gpu in gpus))


async def _port(host: str, port: int, http: aiohttp.ClientSession) -> Check:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
    except OSError as error:
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        if (version := await _llmscope_at(url, http)) is not None:
            return Check("port", "ok", f"LLMscope {version} is running at {url}")
        return Check("port", "wrong", f"{port} on {host}: {error.strerror}", "pass another --port")
    return Check("port", "ok", f"{port} on {host} is free")


def _login(settings: Settings) -> Check:
    if settings.needs_login:
        shown = "the password or a token" if settings.password is not None else "a token"
        return Check("login", "ok", f"callers must show {shown}")
    if settings.exposed_on is not None:
        remedy = "set LLMSCOPE_PASSWORD instead of --insecure"
        return Check("login", "note", f"nobody is asked who reaches {settings.exposed_on}", remedy)
    return Check("login", "ok", "nobody is asked; only this machine reaches it")


async def _api(url: str, http: aiohttp.ClientSession, token: SecretStr | None) -> Check:
    shown = without_passwords(url)
    version = await _llmscope_at(url, http, token)
    if version == BEHIND_LOGIN:
        remedy = "set LLMSCOPE_TOKEN to one that llmscope token create has made there"
        return Check("api", "note", f"LLMscope answers at {shown} and asks who is calling", remedy)
    if version is not None:
        return Check("api", "ok", f"LLMscope {version} answers at {shown}")
    return Check(
        "api", "wrong", f"no LLMscope answers at {shown}", 'start it with "llmscope serve", or correct --api'
    )


async def _llmscope_at(url: str, http: aiohttp.ClientSession, token: SecretStr | None = None) -> str | None:
    """The version of the LLMscope that answers there; None when nothing does, or something else."""
    within = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    try:
        async with http.get(
            f"{url}/api/about", timeout=within, headers=headers, allow_redirects=False
        ) as answer:
            if answer.status in (401, 403) and answer.content_type == "application/problem+json":
                return BEHIND_LOGIN
            about = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
    return str(about["version"]) if isinstance(about, dict) and "provisional_n" in about else None


def _dashboard() -> Check:
    if (Path(__file__).parent / "dashboard" / "index.html").exists():
        return Check("dashboard", "ok", "built")
    return Check("dashboard", "wrong", "was not built", "run scripts/install (it needs Node.js 20 or newer)")
