"""The log of violations as stored: pages, counts and filters agree with a plain reading of the whole."""

import asyncio
import dataclasses
import sqlite3
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.store import SeriesKey, Store, Violation, ViolationQuery, open_store

HOUR_US = 3_600_000_000
MODELS = ("llama3.1:8b", "Qwen_2%", "GRÖSSE")
NOTES = (None, "Backup Job", "100% \\ disk_full", "größer")
RULES = ("R1", "R2", "R3")


def violation(i: int, series_id: int) -> Violation:
    """Every kind in turn, two at each moment."""
    first_us = i // 2 * 60_000_000
    return Violation(
        id=i + 1,
        series_id=series_id,
        metric=("latency", "ttft")[i % 2],
        chart=("points", "buckets")[i // 2 % 2],
        rule=RULES[i % 3],
        side=("above", "below")[i // 3 % 2],
        pattern_start_id=i + 1,
        pattern_start_us=first_us,
        first_signal_id=i + 1,
        first_signal_us=first_us,
        last_signal_id=i + 2,
        last_signal_us=first_us + i % 7 * 100_000_000,
        open=i % 5 == 0,
        count=1 + i % 4,
        peak_z=4.0,
        peak_value=2.0,
        peak_id=i + 1,
        value=2.0,
        centre=1.0,
        sigma=0.1,
        ucl=1.3,
        lcl=0.7,
        n=60,
        mean=None,
        std=None,
        provisional=False,
        acknowledged_us=None if i % 4 else first_us,
        acknowledged_by=None if i % 4 else "Ann",
        note=None if i % 4 else NOTES[i // 4 % 4],
        superseded=i % 11 == 0,
        cause_part=("load", None, "generation")[i // 5 % 3],
    )


async def fill(store: Store) -> list[Violation]:
    series = [store.series_for(SeriesKey("ollama", model, "gpu-1:11434", "probe")) for model in MODELS]
    found = [violation(i, series[i % 3].id) for i in range(240)]
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    named = [(s.id, *s.key, 1) for s in series]

    def run(connection: sqlite3.Connection) -> None:
        connection.executemany(
            "INSERT INTO series (id, provider, model, server, source, first_id) VALUES (?, ?, ?, ?, ?, ?)",
            named,
        )
        store.violations.upsert(connection, [v.as_row() for v in found])

    def finish(_error: Exception | None) -> None:
        loop.call_soon_threadsafe(done.set_result, None)

    store.write(run, finish)
    await done
    return found


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, list[Violation]]]:
    store = open_store(tmp_path_factory.mktemp("log") / "a.db")
    found = asyncio.run(fill(store))
    yield store, sorted(found, key=lambda v: (-v.first_signal_us, -v.id))
    store.close()


def admits(q: ViolationQuery, v: Violation, model: str) -> bool:
    """What the filters mean, one by one."""
    texts = (model, "ollama", "gpu-1:11434", v.rule, v.side, v.note, v.acknowledged_by, v.cause_part)
    return all(
        (
            q.model in (None, model),
            q.metric in (None, v.metric),
            q.chart in (None, v.chart),
            q.rules is None or v.rule in q.rules,
            q.severity is None or (v.rule == "R1") == (q.severity == "critical"),
            q.acknowledged in (None, v.acknowledged_us is not None),
            q.open in (None, v.open),
            q.superseded == v.superseded,
            q.since_us is None or max(v.first_signal_us, v.last_signal_us) >= q.since_us,
            q.until_us is None or v.first_signal_us <= q.until_us,
            q.search is None or any(q.search.casefold() in t.casefold() for t in texts if t is not None),
        )
    )


moments = st.none() | st.integers(0, 3 * HOUR_US)
queries = st.builds(
    ViolationQuery,
    since_us=moments,
    until_us=moments,
    model=st.none() | st.sampled_from([*MODELS, "none"]),
    metric=st.sampled_from([None, "latency", "ttft"]),
    rules=st.none() | st.lists(st.sampled_from(RULES), min_size=1, unique=True).map(tuple),
    severity=st.sampled_from([None, "critical", "warning"]),
    acknowledged=st.sampled_from([None, True, False]),
    open=st.sampled_from([None, True, False]),
    chart=st.sampled_from([None, "points", "buckets"]),
    superseded=st.booleans(),
    search=st.none()
    | st.sampled_from(
        ["r2", "LLAMA", "_", "%", "ann", "\\", "Größe", "GRÖSSER", "above", "backup job", "LOAD", "zzz"]
    ),
)


@given(queries, st.integers(1, 50), st.integers(0, 250))
def test_pages_and_counts_are_what_reading_the_whole_log_gives(
    log: tuple[Store, list[Violation]], query: ViolationQuery, limit: int, offset: int
) -> None:
    store, whole = log
    model = {s.id: s.key.model for s in store.series.values()}
    wanted = [v for v in whole if admits(query, v, model[v.series_id])]
    everyrule = dataclasses.replace(query, rules=None)

    assert store.violations.page(query, limit, None, offset) == wanted[offset : offset + limit]
    assert store.violations.counts(query) == Counter(v.rule for v in wanted)
    assert store.violations.counts(everyrule) == Counter(
        v.rule for v in whole if admits(everyrule, v, model[v.series_id])
    )


@given(st.integers(1, 30))
def test_following_the_pages_reads_each_once(log: tuple[Store, list[Violation]], limit: int) -> None:
    store, whole = log
    read: list[Violation] = []
    after: tuple[int, int] | None = None
    while page := store.violations.page(ViolationQuery(superseded=None), limit, after):
        read += page
        after = page[-1].first_signal_us, page[-1].id

    assert read == whole
