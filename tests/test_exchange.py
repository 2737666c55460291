"""What goes out comes back: every format, twice, from the prototype, and with what is wrong named by line and field."""

import csv
import datetime as dt
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.test_database import command, sentence
from tests.processes import history, observation
from tests.serving import OCEAN, opened

from llmscope.api.stats import decode
from llmscope.exchange.export import OBSERVATIONS
from llmscope.exchange.tables import guarded, unguarded
from llmscope.rolling import Roller
from llmscope.store import reading
from llmscope.store import rows as r
from llmscope.store.integrity import connect_readonly
from llmscope.store.keeping import _PUT, _pack_of

FORMATS = ("csv", "jsonl", "parquet")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty minutes of a model with failures and violations, names that a spreadsheet would run, rows of one moment."""
    import asyncio

    path = tmp_path_factory.mktemp("stored") / "llmscope.db"
    rows = history(50.0)
    odd = observation(900.0, ago_s=3.0, model="=1+1", server="'quoted", prompt_text='a "b", c\nd', host=None)
    rows += [odd, odd | {"latency_ms": 901.0}]  # of one moment, and not the same

    async def fill() -> None:
        async with opened(path) as (store, ingest, _hub):
            for start in range(0, len(rows), 250):
                await ingest.accept(decode(json.dumps(rows[start : start + 250]).encode()))
            await Roller(store).finish()

    asyncio.run(fill())
    return path


def table(file: Path) -> list[dict[str, Any]]:
    """The rows of an exported file."""
    if file.suffix == ".parquet":
        return list(pq.read_table(file).to_pylist())
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines] if file.suffix == ".jsonl" else list(csv.DictReader(lines))


def stored(path: Path) -> list[Any]:
    """Every observation, by the names that its ids stand for, and every mark."""
    with closing(connect_readonly(path)) as connection:
        series = {
            row[0]: row[1:]
            for row in connection.execute("SELECT id, provider, model, server, source FROM series")
        }
        prompts = {row[0]: row[1:] for row in connection.execute("SELECT id, hash, text FROM prompt")}
        failures = dict(connection.execute("SELECT observation_id, message FROM failure"))
        return [
            (
                series[row[r.SERIES_ID]],
                row[2:-2],
                prompts.get(row[r.PROMPT_ID]),
                row[r.HOST],
                failures.get(row[r.ID]),
            )
            for row in reading.rows(connection)
        ]


def marks(path: Path) -> list[Any]:
    with closing(connect_readonly(path)) as connection:
        return connection.execute(
            "SELECT metric, chart, rule, side, first_signal_us, last_signal_us, count, round(value, 9) FROM violation "
            "WHERE chart = 'points' ORDER BY metric, rule, side, first_signal_us"
        ).fetchall()


# -- out and in again


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_exported_and_imported_is_the_same_and_twice_adds_nothing(
    tmp_path: Path, database: Path, format: str
) -> None:
    file, again = tmp_path / f"all.{format}", tmp_path / "again.db"
    assert "1,500 rows" in command("export", file, "--db", database).output
    dry = command("import", file, "--db", again, "--dry-run")
    assert "Would import 1,500 rows; 0 are stored already" in dry.output
    assert not again.exists()
    first = command("import", file, "--db", again)
    assert first.exit_code == 0, first.output
    assert "Imported 1,500 rows" in first.output
    second = command("import", file, "--db", again)

    assert "Imported 0 rows" in second.output
    assert "1,500 were stored already" in second.output
    assert stored(again) == stored(database)
    assert marks(again) == marks(database)
    assert list(tmp_path.glob("*.new")) == []


def test_an_import_that_broke_off_is_completed_by_the_next(tmp_path: Path, database: Path) -> None:
    whole, part = tmp_path / "whole.csv", tmp_path / "part.csv"
    command("export", whole, "--db", database)
    lines = whole.read_text().splitlines(keepends=True)
    part.write_text("".join(lines[:701]))
    command("import", part, "--db", tmp_path / "a.db")
    told = command("import", whole, "--db", tmp_path / "a.db")

    assert "Imported 800 rows" in told.output
    assert "700 were stored already" in told.output
    assert stored(tmp_path / "a.db") == stored(database)


def test_an_export_takes_times_names_and_columns(tmp_path: Path, database: Path) -> None:
    with closing(connect_readonly(database)) as connection:
        (middle_us,) = connection.execute("SELECT time_us FROM observation WHERE id = 501").fetchone()
    middle = (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=middle_us)).isoformat()
    file = tmp_path / "some.csv"
    told = command(
        "export", file, "--db", database, "--from", middle, "--model", "llama3.1:8b", "--columns", "latency_ms,id"
    )  # fmt: skip
    with file.open(newline="") as text:
        rows = list(csv.reader(text))

    assert "998 rows" in told.output
    assert rows[0] == ["latency_ms", "id"]
    assert [row[1] for row in rows[1:]] == [str(i) for i in range(501, 1499)]
    assert "no column 'latency'" in sentence(
        command("export", tmp_path / "x.csv", "--db", database, "--columns", "latency")
    )
    assert not (tmp_path / "x.csv").exists()
    assert "exists; name another file" in sentence(command("export", file, "--db", database))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("what", ["violations", "incidents", "minutes", "hours"])
async def test_findings_and_rollups_are_exported_too(
    tmp_path: Path, database: Path, what: str, format: str
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        expected = {
            "violations": connection.execute("SELECT count(*) FROM violation").fetchone()[0],
            "incidents": connection.execute(
                "SELECT count(*) FROM alarm WHERE incident_id IS NOT NULL"
            ).fetchone()[0],
        }
    file = tmp_path / f"{what}.{format}"
    told = command("export", file, "--db", database, "--what", what)
    assert told.exit_code == 0, told.output
    rows = table(file)

    if what in expected:
        assert len(rows) == expected[what]
    else:
        of_latency = [row for row in rows if row["metric"] == "latency"]
        assert sum(int(row["seen"]) for row in of_latency) == 1500
        assert sum(int(row["n"]) for row in of_latency) == 1494
        assert all(float(row["min"]) <= float(row["p50"]) <= float(row["max"]) for row in rows)


def test_rows_in_packs_are_exported_as_plain_ones_are(tmp_path: Path, database: Path) -> None:
    packed = tmp_path / "packed.db"
    packed.write_bytes(database.read_bytes())
    with closing(sqlite3.connect(packed)) as connection, connection:
        rows = connection.execute(f"{r.SELECT} WHERE id <= 1000 ORDER BY id").fetchall()
        connection.execute(_PUT, _pack_of(rows))
        connection.execute("DELETE FROM observation WHERE id <= 1000")
    for name, path in (("a.csv", database), ("b.csv", packed)):
        command("export", tmp_path / name, "--db", path)

    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_spreadsheet_shows_and_does_not_run_what_is_exported(tmp_path: Path, database: Path) -> None:
    file = tmp_path / "a.csv"
    command("export", file, "--db", database)
    with file.open(newline="") as text:
        last = list(csv.DictReader(text))[-1]

    assert (last["model"], last["server"]) == ("'=1+1", "''quoted")


@given(st.text(st.sampled_from("=+-@'\t\ra"), max_size=4))
def test_guarding_a_cell_is_undone_by_reading_it(text: str) -> None:
    shown = guarded(text)

    assert unguarded(shown) == text
    assert shown[:1] not in tuple("=+-@\t\r")


# -- from elsewhere

PROTOTYPE = """
CREATE TABLE telemetry (
    id INTEGER PRIMARY KEY AUTOINCREMENT, provider TEXT, model TEXT, latency_ms REAL, timestamp TEXT,
    total_duration_ms REAL, load_duration_ms REAL, prompt_eval_duration_ms REAL, eval_duration_ms REAL,
    prompt_eval_count INTEGER, eval_count INTEGER, cpu_percent REAL, memory_percent REAL, gpu_percent REAL,
    gpu_memory_percent REAL, prompt_hash TEXT, prompt_text TEXT, mood TEXT
);
CREATE TABLE violations (id INTEGER PRIMARY KEY);
"""


def test_the_database_of_the_prototype_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    stamps = ("2025-10-28T12:34:56.789", "2025-10-28 12:34:58", "2025-10-28T13:35:00+01:00", "1761654902.5")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(PROTOTYPE)
        for i, stamp in enumerate(stamps):
            row = OCEAN | {
                "timestamp": stamp,
                "latency_ms": 2050.5 + i,
                "gpu_percent": None if i else "78.5",
                "mood": "x",
            }
            connection.execute(
                f"INSERT INTO telemetry ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                tuple(row.values()),
            )
    told = command(
        "import",
        path,
        "--db",
        tmp_path / "new.db",
        "--server",
        "localhost:11434",
        "--timezone",
        "Europe/Berlin",
    )
    assert told.exit_code == 0, told.output
    command("export", tmp_path / "new.jsonl", "--db", tmp_path / "new.db")
    rows = table(tmp_path / "new.jsonl")

    assert "does not know, ignored: mood" in " ".join(told.output.split())
    assert [row["timestamp"] for row in rows] == [
        "2025-10-28T11:34:56.789000Z", "2025-10-28T11:34:58.000000Z", "2025-10-28T12:35:00.000000Z",
        "2025-10-28T12:35:02.500000Z",
    ]  # fmt: skip
    assert [row["gpu_percent"] for row in rows] == [78.5, None, None, None]
    assert rows[0]["server"] == "localhost:11434"
    assert rows[0]["prompt_text"] == OCEAN["prompt_text"]
    assert "Imported 0 rows" in command(
        "import", path, "--db", tmp_path / "new.db", "--server", "localhost:11434", "--timezone", "Europe/Berlin"
    ).output  # fmt: skip


HEAD = "provider,model,timestamp,latency_ms,eval_count\n"
GOOD = "ollama,m,2026-01-01T00:00:00Z,100.5,42.0\n"
WRONG = {
    "a number that is none": (HEAD + GOOD + "ollama,m,2026-01-01T00:00:02Z,fast,42\n", "line 3: latency_ms: expected"),
    "a negative number": (HEAD + GOOD + "ollama,m,2026-01-01T00:00:02Z,-1,42\n", "line 3: latency_ms: expected"),
    "no time": (HEAD + "ollama,m,,100,42\n", "line 2: timestamp: is required"),
    "a time that is none": (HEAD + "ollama,m,noon,100,42\n", "line 2: timestamp: must be a date and time"),
    "no model": (HEAD + "ollama,,2026-01-01T00:00:00Z,100,42\n", "line 2: row: object missing required field model"),
    "a cell too many": (HEAD + GOOD + GOOD.strip() + ",7\n", "line 3 has 6 cells, the header 5"),
    "nothing": ("", "the file is empty"),
    "broken JSON": ('{"provider":"ollama"\n', "line 1 is not JSON"),
    "a column twice": ("model,model\na,b\n", "names the column 'model' twice"),
    "not a text": ("provider,m\xf6del\n", "not a text in UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_by_line_and_field_and_nothing_is_imported(tmp_path: Path, what: str) -> None:
    text, expected = WRONG[what]
    (tmp_path / "bad.csv").write_text(text, encoding="latin-1")
    said = sentence(command("import", tmp_path / "bad.csv", "--db", tmp_path / "a.db"))

    assert expected in said
    assert not (tmp_path / "a.db").exists()


def test_rows_that_are_not_valid_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(HEAD + GOOD + "ollama,m,2026-01-01T00:00:02Z,fast,42\n")
    told = command("import", tmp_path / "bad.csv", "--db", tmp_path / "a.db", "--skip-invalid")

    assert "2 rows, 1 of them not valid" in told.output
    assert "Left out: line 3: latency_ms" in told.output
    assert [row[1][2] for row in stored(tmp_path / "a.db")] == [100_500]


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    assert 'pip install "llmscope[parquet]"' in sentence(
        command("export", tmp_path / "a.parquet", "--db", database)
    )
    assert list(tmp_path.iterdir()) == []


def test_the_columns_are_those_of_an_observation() -> None:
    from llmscope.observation import Observation

    assert {column.name for column in OBSERVATIONS} == {"id", *Observation.__struct_fields__}
