"""What is right, what is not, and what to do about it: the checks of `llmscope doctor`. Changes nothing."""

import asyncio
import os
import platform
import socket
import sqlite3
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from llmscope import __version__
from llmscope.host import HostSampler
from llmscope.probe import Reach, open_session, reachable
from llmscope.settings import Settings, TargetSetting
from llmscope.store import SCHEMA_VERSION


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
    checks = [_version()]
    async with open_session() as http:
        key = settings.api_key.get_secret_value() if settings.api_key else None
        for target in settings.targets:
            reach = await reachable(target.url, http, key)
            checks += _target(target, reach)
    checks += [
        *_database(settings.db),
        _folder("spool", settings.spool),
        await asyncio.to_thread(_gpu),
        await asyncio.to_thread(_port, settings.host, settings.port or 8081),
        _dashboard(),
    ]
    return checks


def _version() -> Check:
    return Check(
        "version", "ok", f"llmscope {__version__}, Python {platform.python_version()}, {platform.system()}"
    )


def _target(target: TargetSetting, reach: Reach) -> Iterator[Check]:
    if reach.error_kind is not None:
        yield Check(
            "target",
            "wrong",
            f"{target.url} does not answer ({reach.error})",
            'start Ollama with "ollama serve", or name another server with --target',
        )
        return
    kind = f"{reach.provider} {reach.version}" if reach.version else f"{reach.provider}"
    yield Check("target", "ok", f"{target.url} answers ({kind})")
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


def _database(path: Path) -> Iterator[Check]:
    check = _folder("db", path)
    yield Check("database", check.state, check.said, check.remedy)
    if not path.exists() or check.state == "wrong":
        return
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            rows, failed = connection.execute("SELECT total(count), total(failed) FROM series").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        yield Check(
            "database", "wrong", f"{path} cannot be read ({error})", "restore it, or name another with --db"
        )
        return
    if sound != "ok":
        yield Check("database", "wrong", f"{path} is damaged: {sound}", "restore it from a backup")
    elif version > SCHEMA_VERSION:
        yield Check(
            "database",
            "wrong",
            f"schema {version} is newer than {SCHEMA_VERSION}",
            "install a newer LLMscope",
        )
    else:
        yield Check(
            "database", "ok", f"schema {version}, sound, about {rows:,.0f} observations, {failed:,.0f} failed"
        )


def _gpu() -> Check:
    with HostSampler() as host:
        gpus = host.sample().gpus
    if not gpus:
        return Check("gpu", "note", "none seen by this process; GPU numbers will be empty")
    return Check("gpu", "ok", ", ".join(f"{gpu.name or 'GPU'} {gpu.index}" for gpu in gpus))


def _port(host: str, port: int) -> Check:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
        return Check("port", "ok", f"{port} on {host} is free")
    except OSError as error:
        if _is_llmscope(port):
            return Check("port", "ok", f"LLMscope is running at http://{host}:{port}")
        return Check("port", "wrong", f"{port} on {host}: {error.strerror}", "pass another --port")


def _is_llmscope(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/about", timeout=2) as answer:
            return b'"learn_n"' in answer.read()
    except OSError:
        return False


def _dashboard() -> Check:
    if (Path(__file__).parent / "dashboard" / "index.html").exists():
        return Check("dashboard", "ok", "built")
    return Check("dashboard", "wrong", "was not built", "run scripts/install (it needs Node.js 20 or newer)")
