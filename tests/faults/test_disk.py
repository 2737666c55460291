"""A disk that fills up: what is refused, what still works, and that it goes on by itself once there is room."""

import contextlib
import json
import os
import resource
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.processes import App, observation, wait_for
from tests.serving import eventually

from llmscope.observation import Observation
from llmscope.outbox import MOST_IN_MEMORY, DirectTransport, NotDelivered, Outbox
from llmscope.store.integrity import connect_readonly, quick_check

SMALL = 1_000_000
LARGE = 64_000_000


@dataclass
class Disk:
    """A folder whose room can be made small and large for a process."""

    folder: Path
    resize: Callable[[int, int], None]  # bytes, process


@contextlib.contextmanager
def file_size_limit(folder: Path) -> Iterator[Disk]:
    """What a quota does: a file cannot grow beyond a size."""

    def resize(size: int, process: int) -> None:
        hard = resource.prlimit(process, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(process, resource.RLIMIT_FSIZE, (size, hard))

    yield Disk(folder, resize)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", folder], check=True)

    def resize(size: int, _process: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)

    try:
        yield Disk(folder, resize)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def can_mount() -> bool:
    return os.getuid() == 0 and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0


DISKS = [file_size_limit, *([small_disk] if can_mount() else [])]


def refused(app: App, rows: list[dict[str, Any]]) -> urllib.error.HTTPError | None:
    try:
        app.post(rows)
    except urllib.error.HTTPError as error:
        return error
    return None


def noted(app: App) -> int:
    """The status with which a note is answered."""
    body = json.dumps({"text": "x" * 900}).encode()
    asked = urllib.request.Request(
        f"{app.url}/api/series/1/annotations", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def rows(first: int, number: int) -> list[dict[str, Any]]:
    return [observation(1500.0 + i % 97, ago_s=3000.0 - i * 0.2) for i in range(first, first + number)]


@pytest.mark.parametrize("disk_of", DISKS)
def test_a_full_disk_refuses_posts_serves_reads_and_goes_on_when_there_is_room(
    tmp_path: Path, disk_of: Callable[[Path], contextlib.AbstractContextManager[Disk]]
) -> None:
    (tmp_path / "disk").mkdir()
    app = App(tmp_path, ["serve", "--db", "disk/llmscope.db"])
    with disk_of(tmp_path / "disk") as disk:
        app.start()
        try:
            assert app.process is not None
            stored = 0
            disk.resize(SMALL, app.process.pid)
            while (error := refused(app, rows(stored, 100))) is None:
                stored += 100
            problem = error.read().decode()
            assert error.code == 507
            assert error.headers["Retry-After"] == "5"
            assert error.headers["Content-Type"] == "application/problem+json"
            assert "no space left for the database" in problem
            assert "no space left" in app.get("/api/about")["notice"]
            assert len(app.get("/api/stats/spc?hours=2&limit=43200")["values"]) == stored
            answered = [noted(app) for _ in range(8)]  # what was free in a page may take some
            assert answered[-1] == 507, answered

            disk.resize(LARGE, app.process.pid)
            wait_for(lambda: app.get("/api/about")["notice"] is None)
            assert refused(app, rows(stored, 100)) is None
            assert noted(app) == 201
            assert app.get("/readyz") == {"status": "ready"}
            found = app.get("/api/violations?hours=2&limit=1")
            app.stop()
            with closing(connect_readonly(tmp_path / "disk" / "llmscope.db")) as connection:
                quick_check(connection)
                (kept,) = connection.execute("SELECT count(*) FROM observation").fetchone()
            assert kept == stored + 100
            app.start()
            assert app.get("/api/violations?hours=2&limit=1") == found
        finally:
            app.stop()


async def test_a_full_disk_of_the_monitor_keeps_the_newest_in_memory_and_counts_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmscope.outbox.MOST_IN_MEMORY", 50)
    got: list[Observation] = []
    said: list[str] = []
    is_away = True

    async def deliver(observations: list[Observation], _sender: str, _first_seq: int) -> None:
        if is_away:
            raise NotDelivered("connection refused")
        got.extend(observations)

    async with Outbox(
        tmp_path / "spool.db", DirectTransport(deliver), retry_s=(0.01, 0.05), on_event=said.append
    ) as box:
        for number in range(20):
            box.put(Observation(provider="ollama", model="m", latency_ms=float(number)))
        await eventually(lambda: box.waiting == 20 and not box._fresh)
        pages_full(box)
        for number in range(20, 100):
            box.put(Observation(provider="ollama", model="m", latency_ms=float(number)))
        await eventually(lambda: box.dropped == 30)
        is_away = False
        await box.emptied()

    assert [o.latency_ms for o in got] == [*range(20), *range(50, 100)]
    assert sum("probing goes on" in sentence for sentence in said) == 1
    assert any("dropped so far" in sentence for sentence in said)
    assert MOST_IN_MEMORY == 20_000


def pages_full(box: Outbox) -> None:
    """What SQLite says of a full disk, from SQLite: the file may have no more pages than it has."""
    connection: sqlite3.Connection = box._spool._database
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
