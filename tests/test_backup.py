"""Backups: taken while observations come in, put back, and refused where they would do harm."""

import json
import os
import signal
import sqlite3
import stat
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.faults.test_database import command, filled, overwrite, root_page, sentence
from tests.processes import App, history, observation
from tests.serving import opened
from tests.store.test_upgrades import unpacked

from llmscope.api.stats import decode
from llmscope.ingest import Ingest
from llmscope.store import SCHEMA_VERSION, snapshot
from llmscope.store.backup import backup
from llmscope.store.integrity import connect_readonly


class Posting:
    """Posts one observation after another to a server, on a thread, until stopped; remembers what was acknowledged."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged: list[float] = []
        self.slowest_s = 0.0

    def __enter__(self) -> "Posting":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        n = 0
        while not self._stop.is_set():
            n += 1
            begun = time.monotonic()
            self._app.post([observation(1000.0 + n, ago_s=0.0)])
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
            self.acknowledged.append(1000.0 + n)


def latencies(path: Path) -> list[float]:
    with closing(connect_readonly(path)) as connection:
        return [row[0] / 1e3 for row in connection.execute("SELECT latency_us FROM observation ORDER BY id")]


def judged(ingest: Ingest) -> Any:
    """What the charts found: marks, alarms, and the versions of the limits."""
    marks = [
        (
            v.metric,
            v.chart,
            v.rule,
            v.side,
            v.first_signal_id,
            v.last_signal_id,
            v.count,
            v.open,
            v.superseded,
        )
        for v in ingest.findings.recent[1].values()
    ]
    alarms = [
        (a.metric, a.detector, a.opened_id, a.closed_id, a.state) for a in ingest.findings.alarms[1].values()
    ]
    fitted = {key: [(v.fitted_id, v.n) for v in versions] for key, versions in ingest.store.baselines.items()}
    return sorted(marks), sorted(alarms), fitted


def test_a_backup_under_load_holds_all_that_was_acknowledged_and_a_server_starts_on_it(
    tmp_path: Path,
) -> None:
    app = App(tmp_path, ["serve", "--db", "llmscope.db"])
    app.start()
    try:
        app.post(history(20.0))
        n = len(history(20.0))
        with Posting(app) as posting:
            time_to_have_posted(posting, 100)
            before = len(posting.acknowledged)
            told = command("backup", tmp_path / "copy.db", "--db", tmp_path / "llmscope.db")
            after = len(posting.acknowledged)
            time_to_have_posted(posting, after + 20)
        assert told.exit_code == 0, told.output
        assert "checked" in told.output
        assert after > before
        kept = latencies(tmp_path / "copy.db")[n:]
        assert kept == posting.acknowledged[: len(kept)]
        assert len(kept) >= before
        assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
        assert [p.name for p in tmp_path.glob("copy.db*")] == ["copy.db"]

        app.stop()
        told = command("restore", tmp_path / "copy.db", "--db", tmp_path / "llmscope.db")
        assert told.exit_code == 0, told.output
        app.start()
        assert app.get("/api/series")["series"][0]["count"] == n + len(kept)
        (aside,) = [
            p for p in tmp_path.glob("llmscope.db.before-restore-*") if not p.name.endswith(("-wal", "-shm"))
        ]
        assert latencies(aside)[n:] == posting.acknowledged
    finally:
        app.stop()


def time_to_have_posted(posting: Posting, n: int) -> None:
    deadline = time.monotonic() + 20.0
    while len(posting.acknowledged) < n:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("batch", [1, 100, 300])
async def test_what_came_after_the_stored_state_is_judged_as_the_server_judged_it(
    tmp_path: Path, batch: int
) -> None:
    rows, now_us = history(50.0), time.time_ns() // 1000
    async with opened(tmp_path / "a.db", lambda: now_us) as (_store, ingest, _hub):  # no state is due twice
        for start in range(0, len(rows), batch):
            await ingest.accept(decode(json.dumps(rows[start : start + batch]).encode()))
            if start + batch == 300:
                await ingest.settle()
        await ingest.settle()
        of_server = judged(ingest)
        backup(tmp_path / "a.db", tmp_path / "copy.db", lambda _done, _total: None)
    with closing(connect_readonly(tmp_path / "copy.db")) as connection:
        (stated_id,) = connection.execute("SELECT row_id FROM chart_state").fetchone()
    assert (
        stated_id < 906
    )  # where the limits are learnt from half an hour, of which the state knows nothing yet
    async with opened(tmp_path / "copy.db") as (_store, ingest, _hub):
        assert judged(ingest) == of_server
        assert len(of_server[0]) > 50


def test_a_backup_replaces_nothing_unless_told_and_a_restore_keeps_what_was_there(tmp_path: Path) -> None:
    db = filled(tmp_path / "a.db", 100)
    copy = tmp_path / "backups" / "copy.db"
    assert command("backup", copy, "--db", db).exit_code == 0
    assert "exists; name another file, or pass --force" in sentence(command("backup", copy, "--db", db))
    assert command("backup", copy, "--db", db, "--force").exit_code == 0
    assert "is the database itself" in sentence(command("backup", db, "--db", db, "--force"))
    assert "there is no database" in sentence(
        command("backup", tmp_path / "x.db", "--db", tmp_path / "no.db")
    )

    before = latencies(db)
    db.unlink()
    filled(db, 7)
    db.chmod(0o640)
    assert snapshot.path_of(db).exists()
    told = command("restore", copy, "--db", db)
    assert told.exit_code == 0, told.output
    (aside,) = [p for p in tmp_path.glob("a.db.before-restore-*") if not p.name.endswith(("-wal", "-shm"))]
    assert latencies(db) == before
    assert len(latencies(aside)) == 7
    assert stat.S_IMODE(db.stat().st_mode) == 0o640  # the server's user must still be able to open it
    assert not snapshot.path_of(db).exists()  # windows of the database that was there


def test_a_log_that_was_not_carried_over_goes_aside_with_its_database(tmp_path: Path) -> None:
    copy = filled(tmp_path / "copy.db", 50)
    app = App(tmp_path, ["serve", "--db", "a.db"])
    app.start()
    app.post([observation(1500.0, ago_s=5.0)])
    app.stop(signal.SIGKILL)
    assert (tmp_path / "a.db-wal").stat().st_size > 0
    assert command("restore", copy, "--db", tmp_path / "a.db").exit_code == 0
    (aside,) = tmp_path.glob("a.db.before-restore-*[0-9]")

    assert len(latencies(tmp_path / "a.db")) == 50
    assert latencies(aside) == [1500.0]


def test_what_is_not_a_sound_backup_is_not_restored(tmp_path: Path) -> None:
    db = filled(tmp_path / "a.db", 10)
    before = db.read_bytes()
    damaged = filled(tmp_path / "damaged.db")
    overwrite(damaged, root_page(damaged, "observation"))
    newer = filled(tmp_path / "newer.db", 10)
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    (tmp_path / "text.db").write_text("not a database")
    for name, said in {
        "damaged.db": "is damaged",
        "newer.db": "install a newer LLMscope",
        "other.db": "a database of another program",
        "text.db": "does not begin like a SQLite database",
        "none.db": "there is no backup",
        "a.db": "is the database itself",
    }.items():
        assert said in sentence(command("restore", tmp_path / name, "--db", db))

    assert db.read_bytes() == before
    assert list(tmp_path.glob("a.db.*")) == []


def test_a_backup_of_an_earlier_schema_is_restored_and_upgraded_by_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = unpacked(3, tmp_path / "old")
    assert "1,498 observations, schema 3" in command("restore", old, "--db", tmp_path / "llmscope.db").output
    app = App(tmp_path, ["serve", "--db", "llmscope.db"])
    app.start()
    try:
        assert app.get("/api/series")["series"][0]["count"] == 1498
        assert f"from schema 3 to {SCHEMA_VERSION}" in (tmp_path / "log").read_text()
    finally:
        app.stop()


def test_a_backup_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    db = filled(tmp_path / "a.db", 20_000)

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup(db, tmp_path / "copies" / "copy.db", stop)

    assert os.listdir(tmp_path / "copies") == []
    assert len(latencies(db)) == 20_000
