"""Data as it ages: packed without loss, given up in time, kept around findings, and none of it twice or in between."""

import random
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving import served
from tests.store.test_rollups import FOREVER_US, KEYS, START_US, roll_all, store_rows

from llmscope import backtest
from llmscope.observation import Observation
from llmscope.spc.chart import Plan
from llmscope.store import Keep, Store, open_store, packs, usage
from llmscope.store import rows as r
from llmscope.store.keeping import DAY_US, MINUTE_US, Keeper
from llmscope.store.rollups import HOURS, MINUTES
from llmscope.store.rows import Row

HOUR_US = HOURS.width_us


def packable() -> st.SearchStrategy[list[Row]]:
    """Rows in order of id, as odd as the table allows."""
    numbers = st.none() | st.integers(0, 10) | st.integers(0, 90_000_000_000)

    def numbered(rows: list[tuple[int, tuple[Any, ...]]]) -> list[Row]:
        found, row_id = [], 0
        for step, rest in rows:
            row_id += step
            found.append((row_id, *rest))
        return found

    rest = st.tuples(
        st.integers(1, 4), st.integers(946_684_800_000_000, FOREVER_US), st.integers(0, 7), *[numbers] * 17
    )
    return st.lists(st.tuples(st.integers(1, 2**40), rest), min_size=1, max_size=40).map(numbered)


@given(packable(), st.integers(1, 4))
def test_what_comes_out_of_a_pack_is_what_went_in(rows: list[Row], series_id: int) -> None:
    document = packs.pack(rows)

    assert packs.unpack(document) == rows
    assert packs.unpack(document, series_id) == [row for row in rows if row[r.SERIES_ID] == series_id]


class Clock:
    """A clock that is set by hand, at the end of the data at first."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us


def filled(path: Path, n: int = 1_500, keep: Keep | None = None) -> tuple[Store, Clock]:
    """Two series, in turns by lot, one row a minute of each; arrived as they were observed. Small packs."""
    rng = random.Random(4)
    clock = Clock(START_US)
    store = open_store(path, clock, keep)
    for at in range(0, n, 50):
        clock.now_us = START_US + at * MINUTE_US
        told = []
        for i in range(at, at + 50):
            failed = rng.random() < 0.05
            o = Observation(
                provider="ollama",
                model="a",
                ok=not failed,
                error_kind="timeout" if failed else None,
                latency_ms=None if failed else round(rng.lognormvariate(7, 0.2), 3),
                eval_count=rng.choice((None, 40, 41)),
                eval_duration_ms=rng.choice((None, 900.5)),
                total_duration_ms=rng.choice((None, 999.0)),
            )
            told.append((rng.randrange(2), i * 60 - rng.choice((0, 0, 900)), o))
        store_rows(store, told)
    roll_all(store)
    return store, clock


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmscope.store.packs.ROWS", 64)


def work_off(store: Store) -> int:
    steps = 0
    while store.keeper.step():
        steps += 1
    return steps


def tables(store: Store) -> tuple[int, int]:
    """How many rows are plain, and how many packs there are."""
    found = store.read().execute("SELECT (SELECT count(*) FROM observation), (SELECT count(*) FROM pack)")
    plain, packed = found.fetchone()
    return plain, packed


def answers(store: Store) -> dict[str, Any]:
    """Everything that is read by id or time."""
    return {
        "from": [list(store.rows_from(i)) for i in (0, 1, 64, 65, 700, 1_499, 1_500, 9_999)],
        "between": [
            store.rows_between(s, first, last, START_US, START_US + span)
            for s in (1, 2)
            for first, last in ((1, 1_500), (60, 70), (64, 128), (1_400, 3_000))
            for span in (HOUR_US, FOREVER_US)
        ],
        "row": [store.row(i) for i in (1, 63, 64, 65, 1_000, 1_500, 1_501)],
        "neighbours": [
            store.neighbours(s, i, before, after)
            for s in (1, 2)
            for i in (1, 64, 65, 800, 1_450, 1_500)
            for before, after in ((0, 0), (1, 0), (100, 100), (0, 2_000))
        ],
        "count": store.count_rows(),
        "backtest": backtest.run(store.read(), backtest.Question(1, "latency", Plan())),
    }


def test_packed_rows_answer_as_plain_ones_do(tmp_path: Path) -> None:
    store, clock = filled(tmp_path / "a.db")
    plain = answers(store)
    work_off(store)
    assert tables(store) == (1_500, 0)  # none is two days old
    clock.now_us = START_US + 2 * DAY_US + 700 * MINUTE_US
    work_off(store)

    assert 0 < tables(store)[0] < 900
    assert tables(store)[1] > 8
    assert answers(store) == plain
    store.close()
    again = open_store(tmp_path / "a.db", clock)
    assert answers(again) == plain
    assert sum(series.count for series in again.series.values()) == 1_500
    again.close()


def test_rows_that_move_while_they_are_read_are_read_once(tmp_path: Path) -> None:
    store, clock = filled(tmp_path / "a.db")
    clock.now_us = START_US + 9 * DAY_US
    reading = store.rows_from(0)
    found = [next(reading) for _ in range(100)]
    with ThreadPoolExecutor(1) as other:
        while other.submit(store.keeper.step).result():
            found += [row for _ in range(30) if (row := next(reading, None)) is not None]
    found += reading

    assert [row[r.ID] for row in found] == list(range(1, 1_501))
    store.close()


def test_after_its_time_a_row_is_given_up_but_not_around_a_finding(tmp_path: Path) -> None:
    store, clock = filled(tmp_path / "a.db", keep=Keep(raw_us=10 * DAY_US))
    every = list(store.rows_from(0))
    mine = [row[r.ID] for row in every if row[r.SERIES_ID] == 2]
    opened, acknowledged = mine[200], mine[600]
    store_findings(store, opened, acknowledged)
    hours = store.rollups.read(2, HOURS, 0, FOREVER_US, "latency")[1]
    clock.now_us = START_US + 10 * DAY_US + 1_500 * MINUTE_US + HOUR_US
    work_off(store)

    kept = [row[r.ID] for row in store.rows_from(0)]
    assert kept == sorted({*mine[100:301], *mine[500:701]})
    before, after = store.neighbours(2, opened, 100, 100)
    assert [row[r.ID] for row in (*before, *after)] == mine[100:301]
    assert set(store.failures(list(range(1, 1_501)))) <= set(kept)
    assert np.array_equal(store.rollups.read(2, HOURS, 0, FOREVER_US, "latency")[1].seen, hours.seen)
    store.close()

    again = open_store(tmp_path / "a.db", clock)
    assert again.next_id == 1_501
    assert again.keeper.given_up_id == 1_500
    store_rows(again, [(0, 0, Observation(provider="ollama", model="a", latency_ms=1.0))])
    assert [row[r.ID] for row in again.rows_from(0)] == [*kept, 1_501]
    again.close()


def store_findings(store: Store, opened: int, acknowledged: int) -> None:
    """An alarm of an incident at one row, a mark that somebody acknowledged at another, and one that nobody did."""
    with sqlite3.connect(store.path) as connection:
        for table, given in (
            ("alarm", {"incident_id": 1, "opened_id": opened, "change_id": opened, "superseded": 0}),
            ("violation", {"first_signal_id": acknowledged, "peak_id": acknowledged, "acknowledged_us": 1}),
            ("violation", {"first_signal_id": 50, "peak_id": 50, "acknowledged_us": None}),
        ):
            columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
            row = {c[1]: 0 if c[2] in ("INTEGER", "REAL") else "" for c in columns if c[3] or c[5]} | given
            row |= {"series_id": 2, "id": opened if table == "alarm" else given["first_signal_id"]}
            connection.execute(
                f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                list(row.values()),
            )


def test_old_minutes_are_given_up_and_hours_stay(tmp_path: Path) -> None:
    store, clock = filled(tmp_path / "a.db", keep=Keep(raw_us=3 * DAY_US, minutes_us=5 * DAY_US))
    clock.now_us = START_US + 5 * DAY_US + 600 * MINUTE_US
    hours = store.rollups.read(1, HOURS, 0, FOREVER_US, "latency")[1]
    work_off(store)
    minutes = store.rollups.read(1, MINUTES, 0, FOREVER_US, "latency")[1]

    assert minutes.numbers.min() * MINUTE_US >= START_US + 600 * MINUTE_US == store.keeper.minutes_from_us
    assert (
        store.rollups.read(1, HOURS, 0, FOREVER_US, "latency")[1].numbers.tolist() == hours.numbers.tolist()
    )
    store.close()


def test_broken_off_anywhere_nothing_is_lost_or_twice(tmp_path: Path) -> None:
    store, clock = filled(tmp_path / "a.db", keep=Keep(raw_us=10 * DAY_US))
    every = list(store.rows_from(0))
    rng = random.Random(2)

    def write(run: Callable[[sqlite3.Connection], None], on_done: Callable[[Exception | None], None]) -> None:
        def perhaps(connection: sqlite3.Connection) -> None:
            run(connection)
            if rng.random() < 0.5:
                raise sqlite3.OperationalError("the lights went out")

        store.write(perhaps, on_done)

    clock.now_us = START_US + 5 * DAY_US
    for _ in range(200):
        try:
            more = Keeper(store.read, write, clock, store.keeper.keep).step()
        except sqlite3.OperationalError:
            more = True
        assert list(store.rows_from(0)) == every
        if not more:
            break

    assert tables(store) == (1_500 % 64, 1_500 // 64)
    store.close()


async def test_a_span_that_was_given_up_is_told_in_stretches(tmp_path: Path) -> None:
    store, clock = filled(tmp_path / "a.db")
    store.close()
    clock.now_us = START_US + 40 * DAY_US
    async with served(tmp_path / "a.db", clock) as api:
        span = {"from": "2023-11-14T22:00:00Z", "to": "2023-11-15T10:00:00Z", **KEYS[0]._asdict()}
        before = await api.get("/api/history", **span)
        while await api.roller._keep():
            pass
        after = await api.get("/api/history", **span)

    assert before["points"] is not None
    assert after["points"] is None
    assert sum(after["rollup"]["seen"]) == len(before["points"]["ids"])
    assert after["spc"]["n"] == before["spc"]["n"]
    assert after["spc"]["mean"] == pytest.approx(before["spc"]["mean"])


def test_what_is_used_is_told_and_the_forecast_ends_where_things_are_given_up(tmp_path: Path) -> None:
    keep = Keep(raw_us=10 * DAY_US, minutes_us=20 * DAY_US)
    store, clock = filled(tmp_path / "a.db", keep=keep)
    now_us = clock.now_us + 50 * MINUTE_US
    clock.now_us = now_us + 2 * DAY_US - 700 * MINUTE_US
    work_off(store)
    found = usage(store.read(), store.path, keep, clock.now_us)

    assert (found.plain, found.packed) == (tables(store)[0], 1_500 - tables(store)[0])
    assert found.packed > 500
    assert found.file_bytes >= (tmp_path / "a.db").stat().st_size
    assert found.raw_from_us == found.oldest_us == min(row[r.TIME_US] for row in store.rows_from(0))
    assert found.rates is not None
    assert found.rates.observations == pytest.approx(1_500 / ((clock.now_us - START_US) / DAY_US), rel=0.01)
    sizes = [found.forecast(days, clock.now_us) or 0.0 for days in (0, 5, 20, 40, 60)]
    assert sizes == sorted(sizes)
    assert sizes[4] - sizes[3] < 0.2 * (sizes[1] - sizes[0]), "only hours and marks grow for good"
    assert usage(store.read(), store.path, keep, now_us + 99 * DAY_US).forecast(30, now_us) is None
    store.close()


def test_an_empty_database_has_a_size_and_no_forecast(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    found = usage(store.read(), store.path, Keep(), START_US)

    assert (found.plain, found.packed, found.violations, found.rates) == (0, 0, 0, None)
    assert found.file_bytes > 0
    assert found.oldest_us is found.raw_from_us is found.forecast(30, START_US) is None
    store.close()
