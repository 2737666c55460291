"""The monitor and a server that asks who is calling: what is refused is kept, and delivered once the token is right."""

import contextlib
import sqlite3
from pathlib import Path

from tests.attempts import llmscope
from tests.processes import App, wait_for
from tests.test_secrets import simulated


def count(path: Path, statement: str) -> int:
    """A number from a database that another process has open; 0 while the table is not there."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        try:
            return int(database.execute(statement).fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def test_what_is_measured_with_a_wrong_token_is_delivered_with_the_right_one(tmp_path: Path) -> None:
    server = App(tmp_path / "server", ["serve"], settings={"LLMSCOPE_PASSWORD": "correct horse"})
    monitor = App(tmp_path / "monitor", ["monitor", "--interval", "100ms"])
    log, spool = tmp_path / "monitor" / "log", tmp_path / "monitor" / "data" / "spool.db"
    stored = tmp_path / "server" / "data" / "llmscope.db"
    with simulated() as port:
        monitor.settings = {"LLMSCOPE_API": server.url, "OLLAMA_HOST": f"127.0.0.1:{port}"}
        try:
            server.start()
            monitor.start_only()
            wait_for(lambda: "asks who is calling" in log.read_text(), 60)
            wait_for(lambda: "LLMSCOPE_TOKEN" in log.read_text())
            monitor.stop()
            kept = count(spool, "SELECT count(*) FROM waiting")

            token = llmscope(server, "token", "create", "--scope", "ingest", "--name", "m").strip()
            monitor.settings["LLMSCOPE_TOKEN"] = token
            monitor.start_only()
            wait_for(lambda: count(stored, "SELECT count(*) FROM observation") > kept, 60)
        finally:
            monitor.stop()
            server.stop()

    assert kept > 0
    assert count(stored, "SELECT count(*) FROM observation") > kept
