"""Rollups are what the rows say: in whatever order they come, however they are taken up, wherever it breaks off."""

import random
import sqlite3
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope.observation import METRICS, Observation
from llmscope.store import SeriesKey, Store, open_store
from llmscope.store import rows as r
from llmscope.store.rollups import HOURS, LEVELS, MINUTES, Level, Rollups, Slots
from llmscope.store.rows import Row
from llmscope.store.schema import MIGRATIONS, ROLLUPS
from llmscope.store.summary import ACCURACY, QUANTILES, Floats, Summaries, joined, summaries_of, unpack
from llmscope.store.writer import Append

START_US = 1_700_000_000_000_000 - 1_700_000_000_000_000 % HOURS.width_us
FOREVER_US = 4_000_000_000_000_000
KEYS = [SeriesKey("ollama", model, "", "probe") for model in ("a", "b")]


def observations() -> st.SearchStrategy[tuple[int, int, Observation]]:
    """A series, seconds after the start, and what was measured: often in the same minute, often without a number."""
    number = st.none() | st.floats(0.0, 60_000.0)
    count = st.none() | st.integers(0, 300)

    def made(
        latency: float | None, total: float | None, load: float | None, eval_n: int | None
    ) -> Observation:
        if latency is None:
            return Observation(provider="ollama", model="a", ok=False, error_kind="timeout")
        return Observation(
            provider="ollama",
            model="a",
            latency_ms=latency,
            ttft_ms=load,
            total_duration_ms=total,
            load_duration_ms=load,
            prompt_eval_duration_ms=total,
            eval_duration_ms=latency,
            prompt_eval_count=eval_n,
            eval_count=eval_n,
        )

    at = st.integers(0, 150) | st.integers(3_500, 3_700) | st.integers(-90_000, 90_000)
    return st.tuples(st.integers(0, 1), at, st.builds(made, number, number, number, count))


def store_rows(store: Store, told: Sequence[tuple[int, int, Observation]]) -> None:
    rows = []
    for which, seconds, o in told:
        series = store.series_for(KEYS[which])
        rows.append(r.to_row(o, store.next_id, series.id, START_US + seconds * 1_000_000, None))
        store.next_id += 1
    done = threading.Event()
    if rows:
        jobs: list[Append] = []

        def tell(job: Append, _error: Exception | None) -> None:
            jobs.append(job)
            done.set()

        store.append(rows, [], None, 0, tell)
        assert done.wait(10)
        store.committed(jobs[0])


def roll_all(store: Store, steps: Callable[[], int] = lambda: 1_000) -> None:
    while store.rollups.roll(steps()):
        pass


def slots(store: Store, level: Level) -> dict[tuple[int, int], tuple[Slots, int]]:
    """Each slot by series and number: as columns, and its place in them. They tell all metrics."""
    found: dict[tuple[int, int], tuple[Slots, int]] = {}
    for series in store.series.values():
        parts = {m: store.rollups.read(series.id, level, 0, FOREVER_US, m)[1] for m in METRICS}
        told = replace(parts["latency"], summaries={m: part.summaries[m] for m, part in parts.items()})
        found |= {(series.id, number): (told, i) for i, number in enumerate(told.numbers.tolist())}
    return found


def expected(rows: Sequence[Row], level: Level) -> dict[tuple[int, int], list[Row]]:
    found: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        found[row[r.SERIES_ID], row[r.TIME_US] // level.width_us].append(row)
    return found


def check(store: Store) -> None:
    """Each slot against its rows, read and computed one by one."""
    rows = list(store.rows_from(0))
    for level in LEVELS:
        told = slots(store, level)
        wanted = expected(rows, level)
        assert told.keys() == wanted.keys()
        for key, part in wanted.items():
            found, i = told[key]
            assert found.series_ids[i] == key[0]
            assert found.seen[i] == len(part)
            assert found.failed[i] == sum(row[r.OUTCOME] != 0 for row in part)
            assert (found.first_ids[i], found.last_ids[i]) == (part[0][r.ID], part[-1][r.ID])
            for metric in METRICS.values():
                values = [
                    v
                    for row in part
                    if not row[r.OUTCOME] and (v := metric.read(r.measured(row))) is not None
                ]
                check_values(found.summaries[metric.key], i, np.array(values))


def check_values(found: Summaries, i: int, values: Floats) -> None:
    assert found.n[i] == len(values)
    if not len(values):
        assert np.isnan(found.quantiles()[i]).all()
        return
    scale = max(1.0, float(np.abs(values).max()))
    assert found.mean[i] == pytest.approx(values.mean(), abs=1e-6 * scale)
    assert found.m2[i] == pytest.approx(
        np.square(values - values.mean()).sum(), rel=1e-5, abs=1e-6 * scale**2
    )
    assert found.least[i] == pytest.approx(values.min(), rel=1e-6, abs=1e-3)
    assert found.greatest[i] == pytest.approx(values.max(), rel=1e-6, abs=1e-3)
    for rank, value in zip(QUANTILES, found.quantiles(QUANTILES)[i], strict=True):
        exact = np.quantile(values, rank, method="lower")
        assert value == pytest.approx(exact, rel=1.001 * ACCURACY, abs=1e-3)


@settings(max_examples=20)  # each makes a database
@given(st.lists(st.lists(observations(), max_size=12), max_size=5), st.randoms(use_true_random=False))
def test_rolled_in_any_steps_they_are_what_the_rows_say(
    batches: list[list[tuple[int, int, Observation]]], rng: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "a.db")
        for batch in batches:
            store_rows(store, batch)
            for _ in range(rng.randrange(3)):
                store.rollups.roll(rng.randint(1, 9))
        roll_all(store, lambda: rng.randint(1, 9))
        check(store)
        store.close()


@settings(max_examples=20)  # each makes a database
@given(st.lists(observations(), min_size=5, max_size=40), st.randoms(use_true_random=False))
def test_broken_off_anywhere_nothing_is_lost_or_counted_twice(
    told: list[tuple[int, int, Observation]], rng: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        store = open_store(path)
        store_rows(store, told)
        left = True
        while left:
            how = rng.choice(("whole", "broken off", "opened again"))
            if how == "whole":
                left = bool(store.rollups.roll(rng.randint(1, 7)))
            elif how == "broken off":
                broken_off(store, rng.randint(1, 7))
            else:
                store.close()
                store = open_store(path)
        check(store)
        store.close()


def broken_off(store: Store, most: int) -> None:
    """A step whose transaction does all of its work and is then undone, as by a kill before the commit."""

    def write(run: Callable[[sqlite3.Connection], None], on_done: Callable[[Exception | None], None]) -> None:
        def half(connection: sqlite3.Connection) -> None:
            run(connection)
            raise sqlite3.OperationalError("the lights went out")

        store.write(half, on_done)

    try:
        Rollups(store.read, write).roll(most)
    except sqlite3.OperationalError:
        pass


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.floats(0.0, 1e8) | st.sampled_from([0.0, 1.0, 2.0])), max_size=60
    ),
    st.lists(st.integers(0, 2), min_size=5, max_size=5),
    st.sampled_from([np.float32, np.float64]),
)
def test_summaries_packed_and_merged_in_any_order_are_those_of_all_values(
    told: list[tuple[int, float]], into: list[int], moment: type[np.floating[Any]]
) -> None:
    groups, values = np.array([g for g, _ in told], np.int64), np.array([v for _, v in told], np.float64)
    place = np.array(into)
    whole = summaries_of(values, place[groups], 3)
    half = len(told) // 2
    parts = [summaries_of(values[s], groups[s], 5) for s in (slice(half, None), slice(half))]
    kept = [unpack(part.pack(moment), moment) for part in parts]
    merged = joined(kept).merged(np.tile(place, 2), 3)

    assert merged.n.tolist() == whole.n.tolist()
    for name in ("groups", "keys", "counts"):
        assert getattr(merged, name).tolist() == getattr(whole, name).tolist()
    for i in range(3):
        check_values(merged, i, values[place[groups] == i])


def test_a_busy_hour_is_the_same_however_it_was_rolled(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    latencies = rng.lognormal(7.0, 0.5, 9_000)
    seconds = rng.integers(0, 3_600, 9_000).tolist()
    found = []
    for name, step in (("a", 900), ("b", 700)):
        store = open_store(tmp_path / f"{name}.db")
        for at in range(0, 9_000, 900):
            store_rows(
                store,
                [
                    (0, s, Observation(provider="ollama", model="a", latency_ms=ms))
                    for s, ms in zip(seconds[at : at + 900], latencies[at : at + 900].tolist(), strict=True)
                ],
            )
            while store.rollups.roll(step):
                pass
        for level in LEVELS:
            told = store.rollups.read(1, level, 0, FOREVER_US, "latency")[1].summaries["latency"]
            found.append(told.merged(np.zeros(len(told), np.int64), 1))
        store.close()

    for whole in found:
        check_values(whole, 0, np.round(latencies, 3))
        assert whole.std()[0] == pytest.approx(latencies.std(ddof=1), rel=1e-5)
        assert (whole.keys.tolist(), whole.counts.tolist()) == (
            found[0].keys.tolist(),
            found[0].counts.tolist(),
        )


def test_a_database_of_an_earlier_version_is_rolled_by_the_same_code(tmp_path: Path) -> None:
    told = [
        (i % 2, i * 7, Observation(provider="ollama", model="a", latency_ms=1_000.0 + i)) for i in range(500)
    ]
    new = open_store(tmp_path / "new.db")
    store_rows(new, told)
    new.close()
    before = MIGRATIONS.index(ROLLUPS)
    connection = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
    for script in MIGRATIONS[:before]:
        connection.executescript(script)
    connection.execute(f"PRAGMA user_version = {before}")
    connection.execute("ATTACH ? AS new", (str(tmp_path / "new.db"),))
    for table in ("series", "observation"):
        names = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
        connection.execute(f"INSERT INTO main.{table} SELECT {names} FROM new.{table}")
    connection.close()
    old = open_store(tmp_path / "old.db")

    assert slots(old, MINUTES) == {}
    roll_all(old, lambda: 64)
    check(old)
    assert len(slots(old, MINUTES)) == 118  # 3,493 s of them, in two series
    old.close()


def test_row_ids_of_a_span_hold_its_late_rows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmscope.store.rollups.NEAR", 1)
    store = open_store(tmp_path / "a.db")
    o = Observation(provider="ollama", model="a", latency_ms=1.0)
    store_rows(store, [(0, s, o) for s in (0, 30, 4_000, 4_030, 8_000, 61, 4_100)])
    roll_all(store)
    series = store.series_by_key[KEYS[0]]

    assert store.rollups.arrived(series.id, START_US, START_US + 120_000_000) == [(1, 2), (6, 6)]
    assert store.rollups.arrived(series.id, START_US + 4_020_000_000, FOREVER_US) == [(4, 5), (7, 7)]
    store.close()


def test_a_span_from_before_all_time_holds_slots_of_its_own_series_and_level_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    o = Observation(provider="ollama", model="a", latency_ms=1.0)
    store_rows(store, [(which, s, o) for which in (0, 1) for s in (0, 70, 4_000)])
    roll_all(store)
    found = {
        (series.key.model, level.number): [
            *store.rollups.read(series.id, level, -(10**17), 10**18, "latency")[1].numbers.tolist()
        ]
        for series in store.series.values()
        for level in LEVELS
    }
    minute, hour = START_US // MINUTES.width_us, START_US // HOURS.width_us

    assert found == {
        (model, number): slots
        for model in ("a", "b")
        for number, slots in ((0, [minute, minute + 1, minute + 66]), (1, [hour, hour + 1]))
    }
    store.close()
