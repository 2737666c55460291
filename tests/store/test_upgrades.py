"""Databases of every earlier schema, written by the programs of that time, in the hands of this one.

`tests/data/schemas/v*.db.gz` hold 50 minutes of `tests.processes.history` with a level that rises by 30 % at the end,
posted to the program of that schema, and what people then said of it. Versions 4 and 6 never came alone: they are 3
and 5 with that one step. Version 7 is 6 with its observations but for the last packed, 512 in one, by its program.
"""

import gzip
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.serving import opened

from llmscope.observation import Observation
from llmscope.store import SCHEMA_VERSION, open_store
from llmscope.store.integrity import connect_readonly, quick_check, version_of

SCHEMAS = Path(__file__).parent.parent / "data" / "schemas"
VERSIONS = range(1, SCHEMA_VERSION + 1)
KEPT = (
    "SELECT id, series_id, time_us, latency_us, eval_count, gpu_permille, host FROM observation ORDER BY id",
    "SELECT id, provider, model, server, source FROM series",
    "SELECT observation_id, message FROM failure ORDER BY 1",
    "SELECT id, hash, text FROM prompt",
    "SELECT id, last_seq FROM sender",
    "SELECT id, metric, rule, side, first_signal_id, last_signal_id, count, peak_value, acknowledged_by, note "
    "FROM violation ORDER BY id",
    "SELECT series_id, metric, version, centre, sigma, n FROM baseline ORDER BY 1, 2, 3",
)
KEPT_SINCE_2 = (
    "SELECT * FROM incident ORDER BY id",
    "SELECT * FROM alarm ORDER BY id",
    "SELECT * FROM phase ORDER BY 1, 2, 3",
    "SELECT * FROM exclusion",
    "SELECT * FROM annotation",
    "SELECT series_id, row_id, document FROM chart_state",
)
TELEMETRY = "SELECT * FROM telemetry ORDER BY id"


def unpacked(version: int, folder: Path) -> Path:
    path = folder / "llmscope.db"
    path.write_bytes(gzip.decompress((SCHEMAS / f"v{version}.db.gz").read_bytes()))
    return path


def told(path: Path, statements: tuple[str, ...]) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements]


def test_there_is_a_database_of_every_schema() -> None:
    kept = {path.name for path in SCHEMAS.glob("v*.db.gz")}

    assert kept >= {f"v{version}.db.gz" for version in VERSIONS if version < SCHEMA_VERSION}


@pytest.mark.parametrize("version", [v for v in VERSIONS if (SCHEMAS / f"v{v}.db.gz").exists()])
async def test_an_earlier_database_keeps_everything_and_goes_on(tmp_path: Path, version: int) -> None:
    path = unpacked(version, tmp_path)
    statements = (*KEPT, TELEMETRY, *(KEPT_SINCE_2 if version > 1 else ()))
    before = told(path, statements)
    last_us = before[0][-1][2]
    assert version_of(path) == version
    assert len(before[0]) == (1498 if version < 7 else 474)  # the others are packed
    open_store(path, lambda: last_us).close()
    after = told(path, statements)

    assert version_of(path) == SCHEMA_VERSION
    assert after == before
    with closing(connect_readonly(path)) as connection:
        quick_check(connection)
    async with opened(path, lambda: last_us + 60_000_000) as (store, ingest, _hub):
        assert len(store.series[1].window) == 1498
        await ingest.accept(
            [
                Observation(
                    provider="ollama", model="llama3.1:8b", server="localhost:11434", latency_ms=60_000.0
                )
            ]
        )
        await ingest.settle()
        newest = store.violations.recent(last_us)
        assert {"R1"} <= {violation.rule for violation in newest}
        assert store.chart_states().keys() <= {1}


def test_a_migration_that_is_killed_leaves_the_version_before_and_the_next_start_completes(
    tmp_path: Path,
) -> None:
    path = unpacked(1, tmp_path)
    before = told(path, (*KEPT, TELEMETRY))
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(path)], check=False)
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}

    assert killed.returncode == -signal.SIGKILL
    assert version == 1
    assert "violation_2" not in tables
    open_store(path).close()
    assert version_of(path) == SCHEMA_VERSION
    assert told(path, (*KEPT, TELEMETRY)) == before


KILLED_IN_THE_MIDDLE = """
import os, signal, sqlite3, sys
from llmscope.store.schema import migrate

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.set_trace_callback(lambda text: "DROP TABLE violation" in text and os.kill(os.getpid(), signal.SIGKILL))
migrate(connection)
"""
