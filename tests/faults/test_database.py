"""A database that is used by two, locked, not to be written, or damaged: what is said, and what is lost."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.processes import App, alone, observation
from tests.serving import served, wall_us
from tests.store.test_contract import append, row
from typer.testing import CliRunner, Result

from llmscope.cli import cli
from llmscope.opening import StartError, open_database
from llmscope.store import DatabaseInUse, DatabaseLock, open_store
from llmscope.store.integrity import connect_readonly, quick_check

PAGE = 4096


def command(*words: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "200", "LLMSCOPE_CONFIG": None}).invoke(cli, [str(w) for w in words])


def sentence(result: Result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    return line


def filled(path: Path, n: int = 3_000) -> Path:
    """A database of so many rows, closed cleanly."""

    async def fill() -> None:
        store = open_store(path)
        start = wall_us() - n * 2_000_000
        await append(store, [row(store, 1000.0 + i % 97, start + i * 2_000_000) for i in range(n)])
        store.close()

    asyncio.run(fill())
    return path


def root_page(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    return int(found[0])


def leaf_of_observations(path: Path) -> int:
    """The page of the rows in the middle: the root's cells name the leaves by their pages."""
    content = path.read_bytes()
    root = content[(root_page(path, "observation") - 1) * PAGE :][:PAGE]
    assert root[0] == 5, "the root of a table with many rows is an interior page"
    cells = int.from_bytes(root[3:5], "big")
    at = int.from_bytes(root[12 + 2 * (cells // 2) :][:2], "big")
    return int.from_bytes(root[at : at + 4], "big")


def overwrite(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(bytes((7 * i) % 251 for i in range(PAGE)))


# -- two on one database


def test_a_second_server_is_refused_readers_are_not_and_a_kill_leaves_nothing_to_clear(
    tmp_path: Path,
) -> None:
    app = App(tmp_path, ["serve", "--db", "llmscope.db"])
    app.start()
    try:
        assert app.process is not None
        holder = app.process.pid
        app.post([observation(1500.0, ago_s=10.0)])
        second = App(tmp_path / "second", ["serve", "--db", str(tmp_path / "llmscope.db")])
        second.start_only()
        assert second.process is not None
        assert second.process.wait(20) == 2
        said = (tmp_path / "second" / "log").read_text()
        assert f"is in use by another LLMscope (process {holder} on " in said
        assert "stop that one first" in said

        db = ("--db", tmp_path / "llmscope.db")
        checks = json.loads(command("doctor", *db, "--json").output)
        assert [c["state"] for c in checks if c["what"] == "database"] == ["ok", "ok"]
        assert command("backup", *db, tmp_path / "copy.db").exit_code == 0
        assert command("export", *db, tmp_path / "all.csv").exit_code == 0
        for refused in (("restore", tmp_path / "copy.db"), ("repair",), ("import", tmp_path / "all.csv")):
            assert f"process {holder} on" in sentence(command(*refused, *db))

        app.stop(signal.SIGKILL)
        app.start()
        assert app.get("/api/series")["series"][0]["count"] == 1
    finally:
        app.stop()


def test_the_lock_tells_whether_the_holder_before_ended_cleanly(tmp_path: Path) -> None:
    with DatabaseLock(tmp_path / "a.db") as lock:
        assert not lock.was_unclean
        with pytest.raises(DatabaseInUse, match=f"process {os.getpid()} on"):
            DatabaseLock(tmp_path / "a.db")
    killed = "import os, sys, pathlib; from llmscope.store import DatabaseLock; "
    killed += "DatabaseLock(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "a.db")], check=False)

    with DatabaseLock(tmp_path / "a.db") as lock:
        assert lock.was_unclean
    with DatabaseLock(tmp_path / "a.db") as lock:
        assert not lock.was_unclean


# -- locked by another process


async def test_a_database_locked_by_another_is_waited_for_then_refused_then_used_again(
    tmp_path: Path,
) -> None:
    async with served(tmp_path / "a.db") as api:
        api.store._connection.execute("PRAGMA busy_timeout = 300")  # 5 s are long for a test
        other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        body = observation(1500.0, ago_s=5.0)
        begun = time.monotonic()
        async with api.http.post(api.url + "/api/stats", json=body) as answer:
            problem = await answer.json(content_type=None)
        waited_s = time.monotonic() - begun
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert "is locked by another process" in problem["detail"]
        assert waited_s >= 0.3
        assert await api.get("/api/stats/spc", hours=1) is not None  # reads go on
        many = await asyncio.gather(*(api.post(observation(1000.0 + i), 503) for i in range(5)))
        assert len(many) == 5
        other.execute("ROLLBACK")
        other.close()

        assert (await api.post(body))["accepted"] == 1
        assert api.store.fault is None


# -- not to be written


def as_nobody(path: Path) -> str:
    """What `open_database` says to a user who owns nothing; as oneself, who is not root, where one is not."""
    code = (
        "import os, sys, pathlib\n"
        "from llmscope.opening import StartError, open_database\n"
        "os.getuid() == 0 and os.setuid(65534)\n"
        "try:\n    open_database(pathlib.Path(sys.argv[1])).close()\n"
        "except StartError as error:\n    print(error)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=alone(), check=True
    ).stdout


def test_a_file_or_folder_that_cannot_be_written_is_said_with_what_to_do(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):  # pytest makes them for their owner alone
        folder.chmod(0o755)
    path = filled(tmp_path / "data" / "a.db", 10)
    path.parent.chmod(0o555)
    assert f"cannot write {path}-lock (Permission denied); allow it" in as_nobody(path)

    path.parent.chmod(0o777)
    (tmp_path / "data" / "a.db-lock").unlink(missing_ok=True)
    path.chmod(0o444)
    said = as_nobody(path)
    assert f"the database {path} cannot be written" in said
    assert "allow it" in said


def test_a_database_of_another_program_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE telemetry (id INTEGER PRIMARY KEY, latency_ms REAL)")
    before = path.read_bytes()

    with pytest.raises(StartError, match="a database of the prototype: take it over with llmscope import"):
        open_database(path)
    assert path.read_bytes() == before


# -- damaged

DAMAGE: dict[str, tuple[Callable[[Path], int], int]] = {
    "the header": (lambda path: 1, 3_000),
    "a leaf of the observations": (leaf_of_observations, 2_880),
    "the root of the observations": (lambda path: root_page(path, "observation"), 3_000),
    "the names of the series": (lambda path: root_page(path, "series"), 3_000),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_at_the_start_kept_aside_and_repaired(tmp_path: Path, what: str) -> None:
    page_of, least = DAMAGE[what]
    path = filled(tmp_path / "a.db")
    overwrite(path, page_of(path))
    damaged = path.read_bytes()

    with pytest.raises(
        StartError, match=r"is damaged .* left as it is: run llmscope repair, or llmscope restore"
    ):
        open_database(path)
    assert path.read_bytes() == damaged
    assert "llmscope repair" in command("doctor", "--db", path).output
    told = command("repair", "--db", path)
    assert told.exit_code == 0, told.output
    assert "is sound again" in told.output
    (aside,) = tmp_path.glob("a.db.damaged-*")
    assert aside.read_bytes() == damaged
    with closing(connect_readonly(path)) as connection:
        quick_check(connection)
        rows = connection.execute("SELECT id, latency_us FROM observation").fetchall()
    assert len(rows) >= least
    assert all(latency == (1000 + (i - 1) % 97) * 1000 for i, latency in rows)
    opened = open_database(path)
    assert opened.store.series[1].count == len(rows)
    opened.close()


def test_a_sound_database_is_not_repaired_and_a_hopeless_one_is_left_alone(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.db", 10)
    assert "nothing to repair" in command("repair", "--db", path).output
    assert list(tmp_path.glob("a.db.damaged-*")) == []

    hopeless = tmp_path / "b.db"
    hopeless.write_bytes(os.urandom(5 * PAGE))
    before = hopeless.read_bytes()
    assert "llmscope restore" in sentence(command("repair", "--db", hopeless))
    assert hopeless.read_bytes() == before


def test_damage_that_is_met_while_running_is_told_clearly(tmp_path: Path) -> None:
    path = filled(tmp_path / "llmscope.db")
    app = App(tmp_path, ["serve", "--db", "llmscope.db"])
    app.start()
    try:
        overwrite(path, root_page(path, "annotation"))
        app.post([observation(1500.0, ago_s=5.0)])  # other connections let go of the pages that they hold
        with pytest.raises(urllib.error.HTTPError) as told:
            app.get("/api/series/1/annotations?hours=24")
        problem = json.loads(told.value.read())
    finally:
        app.stop()

    assert told.value.code == 503
    assert "is damaged" in problem["detail"]
    assert "llmscope repair" in problem["detail"]
