"""What every store must do. A new one joins by adding a line to STORES."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.serving import wall_us

from llmscope.observation import Observation
from llmscope.store import SCHEMA_VERSION, SchemaTooNew, SeriesKey, Store, open_store
from llmscope.store import rows as r
from llmscope.store.rows import Row
from llmscope.store.writer import Append

STORES: list[Callable[[Path], Store]] = [open_store]
each_store = pytest.mark.parametrize("open_at", STORES)

KEY = SeriesKey("ollama", "llama3", "localhost:11434", "probe")


def row(
    store: Store, latency_ms: float, time_us: int | None = None, key: SeriesKey = KEY, **more: Any
) -> Row:
    series = store.series_for(key)
    o = Observation(provider=key.provider, model=key.model, latency_ms=latency_ms, **more)
    made = r.to_row(o, store.next_id, series.id, time_us or wall_us(), None)
    store.next_id += 1
    return made


async def append(
    store: Store, rows: list[Row], sender: str | None = None, first_seq: int = 0
) -> tuple[Append, Exception | None]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Append, Exception | None]] = loop.create_future()

    def tell(job: Append, error: Exception | None) -> None:
        loop.call_soon_threadsafe(done.set_result, (job, error))

    store.append(rows, [], sender, first_seq, tell)
    job, error = await done
    if error is None:
        store.committed(job)
        for series_id in {row[r.SERIES_ID] for row in job.rows[job.skipped :]}:
            part = [row for row in job.rows[job.skipped :] if row[r.SERIES_ID] == series_id]
            store.series[series_id].take(part, {})
    return job, error


@each_store
async def test_what_was_appended_is_there_after_opening_again(
    tmp_path: Path, open_at: Callable[[Path], Store]
) -> None:
    store = open_at(tmp_path / "a.db")
    rows = [row(store, 100.5, eval_count=3), row(store, 2050.123, cpu_percent=35.2, host="llm_host")]
    await append(store, rows)
    store.close()
    again = open_at(tmp_path / "a.db")

    assert list(again.rows_from(0)) == rows
    assert again.series_by_key[KEY].count == 2
    assert again.series_by_key[KEY].window.ids.tolist() == [1, 2]
    assert again.next_id == 3
    again.close()


@each_store
async def test_a_numbered_delivery_is_stored_once(tmp_path: Path, open_at: Callable[[Path], Store]) -> None:
    store = open_at(tmp_path / "a.db")
    jobs = []
    for first_seq in (0, 0, 1, 5):
        job, _error = await append(store, [row(store, 1.0), row(store, 2.0)], "m", first_seq)
        jobs.append(job.skipped)

    assert jobs == [0, 2, 1, 0]
    assert store.count_rows() == 5
    store.close()


@each_store
async def test_a_failed_write_leaves_its_neighbours_and_later_ones_whole(
    tmp_path: Path, open_at: Callable[[Path], Store]
) -> None:
    store = open_at(tmp_path / "a.db")
    good = row(store, 1.0)
    bad = (*row(store, 2.0)[:2], "no time", *row(store, 2.0)[3:])
    after = row(store, 3.0)
    results = await asyncio.gather(append(store, [good]), append(store, [bad]), append(store, [after]))

    assert [error is None for _job, error in results] == [True, False, True]
    assert [found[r.LATENCY] for found in store.rows_from(0)] == [1000, 3000]
    store.close()


@each_store
async def test_neighbours_are_of_the_same_series_in_order(
    tmp_path: Path, open_at: Callable[[Path], Store]
) -> None:
    store = open_at(tmp_path / "a.db")
    other = KEY._replace(model="other")
    rows = [row(store, float(i), key=KEY if i % 2 else other) for i in range(1, 21)]
    await append(store, rows)
    before, later = store.neighbours(store.series_by_key[KEY].id, rows[10][r.ID], 3, 2)

    assert [found[r.LATENCY] // 1000 for found in before + later] == [5, 7, 9, 11, 13, 15]
    store.close()


async def test_a_row_takes_at_most_80_bytes(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    start = wall_us() - 20_000 * 2_000_000

    def typical(i: int) -> Row:
        return row(
            store,
            2050.513 + i % 997,
            start + i * 2_000_000 + i % 1009,
            ttft_ms=161.3 + i % 31,
            connect_ms=0.412,
            gap_mean_ms=45.2 + i % 7,
            gap_max_ms=92.8 + i % 11,
            total_duration_ms=2049.1 + i % 997,
            load_duration_ms=11.2,
            prompt_eval_duration_ms=100.3 + i % 13,
            eval_duration_ms=1900.9 + i % 997,
            prompt_eval_count=26,
            eval_count=42,
            cpu_percent=35.2,
            memory_percent=45.6,
            gpu_percent=78.5,
            gpu_memory_percent=62.3,
            host="llm_host",
        )

    rows = [typical(i) for i in range(20_000)]
    await append(store, rows)
    store.close()

    assert (tmp_path / "a.db").stat().st_size / len(rows) <= 80


async def test_the_view_has_the_originals_columns(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    await append(store, [row(store, 2050.5, 1_761_654_896_789_000, eval_count=42, cpu_percent=35.2)])
    store.close()
    connection = sqlite3.connect(tmp_path / "a.db")
    found = connection.execute(
        "SELECT id, provider, model, latency_ms, timestamp, total_duration_ms, load_duration_ms, "
        "prompt_eval_duration_ms, eval_duration_ms, prompt_eval_count, eval_count, cpu_percent, memory_percent, "
        "gpu_percent, gpu_memory_percent, prompt_hash, prompt_text FROM telemetry"
    ).fetchall()
    connection.close()

    assert found == [
        (1, "ollama", "llama3", 2050.5, "2025-10-28T12:34:56.789000Z", *(None,) * 5, 42, 35.2, *(None,) * 5)
    ]


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path / "a.db").close()
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()

    with pytest.raises(SchemaTooNew, match="newer LLMscope"):
        open_store(tmp_path / "a.db")
