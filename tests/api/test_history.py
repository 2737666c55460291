"""The history of any span: points while they are few, stretches otherwise, and what the chart says of them."""

import asyncio
import datetime as dt
import random
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.processes import App, wait_for
from tests.serving import OCEAN, Served, served, wall_us

from llmscope.api.shapes import HistoryOut

DAY_S = 86_400
HOUR_US, MINUTE_US = 3_600_000_000, 60_000_000
NAME: dict[str, Any] = {"provider": "ollama", "model": "llama3"}


def observation(time_us: int, ms: float | None, **changes: Any) -> dict[str, Any]:
    stamp = dt.datetime.fromtimestamp(time_us / 1e6, dt.UTC).isoformat()
    if ms is None:
        return NAME | {"timestamp": stamp, "ok": False, "error_kind": "timeout"} | changes
    body = {k: v for k, v in OCEAN.items() if k != "prompt_text"}
    return body | {"timestamp": stamp, "latency_ms": ms} | changes


async def post(api: Served, rows: Sequence[dict[str, Any]]) -> None:
    for at in range(0, len(rows), 2_000):
        await api.post(list(rows[at : at + 2_000]))


async def history(api: Served, from_us: int, to_us: int, status: int = 200, **query: Any) -> Any:
    span = {"from": text(from_us), "to": text(to_us)}
    answer = await api.get("/api/history", status, **(span | query))
    if status == 200:
        HistoryOut.model_validate(answer)
    return answer


def text(time_us: int) -> str:
    return dt.datetime.fromtimestamp(time_us / 1e6, dt.UTC).isoformat()


def month(now_us: int, every_s: int = 120, seed: int = 5) -> list[tuple[int, float | None]]:
    """Thirty days up to now: times and latencies in ms, None where it failed."""
    rng = random.Random(seed)
    n = 30 * DAY_S // every_s
    return [
        (
            now_us - (n - i) * every_s * 1_000_000,
            None if rng.random() < 0.01 else round(rng.lognormvariate(7.4, 0.1), 3),
        )
        for i in range(n)
    ]


async def test_a_month_is_told_in_stretches_of_whole_hours_that_are_what_the_rows_say(tmp_path: Path) -> None:
    now_us = wall_us()
    rows = month(now_us)
    shuffled = random.Random(1).sample(rows, len(rows))  # most come late
    from_us = now_us - 30 * DAY_S * 1_000_000
    async with served(tmp_path / "a.db") as api:
        await post(api, [observation(t, ms) for t, ms in shuffled[:20_000]])
        await api.roller.finish()
        await post(api, [observation(t, ms) for t, ms in shuffled[20_000:]])  # not rolled yet
        told = await history(api, from_us, now_us, **NAME)
    rollup = told["rollup"]

    assert told["points"] is None
    assert rollup["step_s"] == 7_200.0
    assert 360 <= len(rollup["times_ms"]) <= 361
    stretches: dict[int, list[float | None]] = {}
    for t, ms in rows:
        stretches.setdefault(t // (2 * HOUR_US), []).append(ms)
    assert rollup["times_ms"] == [s * 2 * HOUR_US / 1000 for s in sorted(stretches)]
    for i, slot in enumerate(sorted(stretches)):
        good = np.array([ms / 1000 for ms in stretches[slot] if ms is not None])
        assert rollup["seen"][i] == len(stretches[slot])
        assert rollup["failed"][i] == len(stretches[slot]) - len(good)
        assert rollup["mean"][i] == pytest.approx(good.mean(), abs=2e-6)
        assert rollup["min"][i] == pytest.approx(good.min(), abs=2e-6)
        assert rollup["max"][i] == pytest.approx(good.max(), abs=2e-6)
        for name, rank in (("p5", 0.05), ("median", 0.5), ("p95", 0.95)):
            exact = np.quantile(good, rank, method="lower")
            assert rollup[name][i] == pytest.approx(exact, rel=0.0101)
    good = np.array([ms / 1000 for _, ms in rows if ms is not None])
    assert told["spc"]["n"] == len(good)
    assert told["spc"]["mean"] == pytest.approx(good.mean())
    assert told["spc"]["std"] == pytest.approx(good.std(ddof=1), rel=1e-4)
    assert np.mean(good <= told["spc"]["p95"]) == pytest.approx(0.95, abs=0.03)
    assert told["spc"]["failures"]["seen"] == rollup["seen"]
    assert told["first_ms"] == pytest.approx(rows[0][0] / 1000)


@pytest.mark.parametrize(
    ("hours", "width", "step_s"),
    [(24, 480, 300), (24, 2_000, 60), (24, 100, 900), (24, 10, 10_800), (700, 4_000, 900)],
)
async def test_the_step_is_the_shortest_whole_one_of_which_width_cover_the_span(
    tmp_path: Path, hours: int, width: int, step_s: int
) -> None:
    now_us = wall_us()
    rows = [(now_us - i * 1_000_000 - 1, 2000.0) for i in range(21_000)]
    async with served(tmp_path / "a.db") as api:
        await post(api, [observation(t, ms) for t, ms in rows])
        await api.roller.finish()
        told = await history(api, now_us - hours * HOUR_US, now_us, width=width)

    assert told["rollup"]["step_s"] == step_s
    assert sum(told["rollup"]["seen"]) == len(rows)


@pytest.mark.parametrize("rolled", [True, False])
async def test_a_span_in_memory_and_the_same_from_disk_are_the_same_points(
    tmp_path: Path, rolled: bool
) -> None:
    now_us = wall_us()
    past_us = now_us - 40 * DAY_S * 1_000_000
    rows = month(past_us, every_s=600)
    random.Random(3).shuffle(rows)
    other = {"model": "other"}
    from_us, to_us = past_us - 7 * DAY_S * 1_000_000, past_us - 5 * DAY_S * 1_000_000
    async with served(tmp_path / "a.db", lambda: past_us) as api:
        await post(api, [observation(t, ms, **c) for t, ms in rows for c in ({}, other)])
        if rolled:
            await api.roller.finish()
        in_memory = await history(api, from_us, to_us, **NAME)
    async with served(tmp_path / "a.db") as api:
        assert len(api.store.series[1].window) == 0
        await api.roller.finish()
        from_disk = await history(api, from_us, to_us, **NAME)
    inside = sorted((t, ms) for t, ms in rows if from_us <= t < to_us)

    assert from_disk["rollup"] is None
    assert from_disk["points"] == in_memory["points"]
    assert from_disk["points"]["times_ms"] == [t / 1000 for t, _ in inside]
    assert from_disk["points"]["values"] == pytest.approx(
        [None if ms is None else ms / 1000 for _, ms in inside]
    )
    assert from_disk["points"]["oks"] == [int(ms is not None) for _, ms in inside]
    assert from_disk["spc"]["n"] == sum(ms is not None for _, ms in inside)
    assert from_disk["spc"]["failures"] == in_memory["spc"]["failures"]


async def test_points_spread_among_too_many_others_are_told_as_stretches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmscope.api.history.MOST_READ", 50)
    past_us = wall_us() - 40 * DAY_S * 1_000_000
    rows = [
        observation(past_us - i * 1_000_000, 2000.0, model=m) for i in range(100) for m in ("llama3", "other")
    ]
    async with served(tmp_path / "a.db", lambda: past_us) as api:
        await post(api, rows)
    async with served(tmp_path / "a.db") as api:
        await api.roller.finish()
        told = await history(api, past_us - 50_000_000, past_us, **NAME)

    assert told["points"] is None
    assert told["rollup"]["step_s"] == 60


async def test_what_has_just_arrived_is_in_the_newest_stretch(tmp_path: Path) -> None:
    now_us = wall_us()
    rows = [(now_us - i * 1_000_000, 2000.0) for i in range(20_500)]
    async with served(tmp_path / "a.db") as api:
        await post(api, [observation(t, ms) for t, ms in rows])
        await api.roller.finish()
        before = await history(api, now_us - 8 * HOUR_US, now_us + HOUR_US, **NAME)
        await api.post(observation(now_us + 1, 9_000.0))
        after = await history(api, now_us - 8 * HOUR_US, now_us + HOUR_US, **NAME)

    assert sum(after["rollup"]["seen"]) == sum(before["rollup"]["seen"]) + 1
    assert after["rollup"]["max"][-1] == 9.0
    assert after["spc"]["n"] == before["spc"]["n"] + 1


async def test_a_metric_that_a_series_never_tells_has_stretches_without_values(tmp_path: Path) -> None:
    now_us = wall_us()
    rows = [NAME | {"timestamp": text(now_us - i * 1_000_000), "latency_ms": 5.0} for i in range(20_500)]
    async with served(tmp_path / "a.db") as api:
        await post(api, rows)
        await api.roller.finish()
        told = await history(api, now_us - 8 * HOUR_US, now_us + 1, metric="ttft")

    assert sum(told["rollup"]["seen"]) == 20_500
    assert set(told["rollup"]["median"]) == {None}
    assert told["spc"]["n"] == 0
    assert told["spc"]["mean"] is None


async def test_the_chart_of_a_past_span_has_the_limits_marks_and_notes_of_then(tmp_path: Path) -> None:
    now_us = wall_us()
    past_us = now_us - 3 * DAY_S * 1_000_000
    rng = random.Random(2)
    start_us = past_us - 2 * HOUR_US
    rows = [(start_us + i * 2_000_000, rng.lognormvariate(7.4, 0.05)) for i in range(3_600)]
    rows = [(t, ms * (1.5 if i >= 3_000 else 1.0)) for i, (t, ms) in enumerate(rows)]
    async with served(tmp_path / "a.db", lambda: past_us) as api:
        await post(api, [observation(t, round(ms, 3)) for t, ms in rows])
        note = {"time": text(start_us + HOUR_US), "text": "new driver"}
        async with api.http.post(api.url + "/api/series/1/annotations", json=note) as answer:
            assert answer.status == 201
        then = await api.get("/api/stats/spc", hours=3, **NAME)
    async with served(tmp_path / "a.db") as api:
        await api.roller.finish()
        whole = await history(api, start_us, past_us, **NAME)
        early = await history(api, start_us, start_us + HOUR_US // 2, **NAME)

    assert whole["spc"]["limits"] == then["spc"]["limits"]
    assert len(early["spc"]["limits"]) < len(whole["spc"]["limits"])
    assert [i["id"] for i in whole["spc"]["incidents"]] == [i["id"] for i in then["spc"]["incidents"]] != []
    assert early["spc"]["incidents"] == []
    assert [a["text"] for a in whole["spc"]["annotations"]] == ["new driver"]
    assert early["spc"]["annotations"] == []
    assert {v["id"] for v in whole["violations"]} == {v["id"] for v in then["violations"]} != set()
    assert whole["violations_total"] == len(whole["violations"])
    firsts = [v["first_signal"] for v in whole["violations"]]
    assert firsts == sorted(firsts, reverse=True)


async def test_of_many_violations_the_furthest_out_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmscope.api.history.MOST_VIOLATIONS", 5)
    now_us = wall_us()
    rng = random.Random(2)
    rows = [
        (
            now_us - (900 - i) * 2_000_000,
            rng.lognormvariate(7.4, 0.05) * (1.0 if i % 50 or i < 200 else 1.3 + i / 900),
        )
        for i in range(900)
    ]
    async with served(tmp_path / "a.db") as api:
        await post(api, [observation(t, round(ms, 3)) for t, ms in rows])
        window = await api.get("/api/stats/spc", hours=1, **NAME)
        told = await history(api, now_us - HOUR_US, now_us, **NAME)
    furthest = sorted(window["violations"], key=lambda v: (-abs(v["peak_z"]), -v["id"]))[:5]

    assert told["violations_total"] == len(window["violations"]) > 5
    assert [v["id"] for v in told["violations"]] == sorted((v["id"] for v in furthest), reverse=True)


SPAN: dict[str, Any] = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}


@pytest.mark.parametrize(
    ("changes", "status", "names"),
    [
        ({"from": "yesterday"}, 422, "from"),
        ({"from": "2026-01-01T00:00:00"}, 422, "from"),
        ({"to": "2026-01-02T00:00:00"}, 422, "to"),
        ({"to": "2026-01-01T00:00:00Z"}, 422, "to"),
        ({"to": "2025-01-01T00:00:00Z"}, 422, "to"),
        ({"metric": "speed"}, 422, "metric"),
        ({"width": "0"}, 422, "width"),
        ({"width": "1e9"}, 422, "width"),
        ({"model": None}, 422, "model"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(
    tmp_path: Path, changes: dict[str, str | None], status: int, names: str
) -> None:
    query = {k: v for k, v in (SPAN | {"model": "llama3"} | changes).items() if v is not None}
    async with served(tmp_path / "a.db") as api:
        await api.post([OCEAN, OCEAN | {"model": "other"}])
        told = await api.get("/api/history", status, **query)

    assert [error["field"] for error in told["errors"]] == [names]
    assert told["detail"].startswith(names + ": ")


async def test_a_span_must_be_named_and_the_series_exist(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await api.get("/api/history", 422)
        told = await api.get("/api/history", 404, **SPAN)

    assert "GET /api/series" in told["detail"]


@pytest.mark.parametrize(
    ("from_", "to"),
    [("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"), ("0001-01-01T00:00:00+14:00", "1960-01-01T00:00:00Z")],
)
async def test_spans_without_end_are_answered(tmp_path: Path, from_: str, to: str) -> None:
    async with served(tmp_path / "a.db") as api:
        await api.post(OCEAN)
        await api.roller.finish()
        span: dict[str, Any] = {"from": from_, "to": to}
        told = await api.get("/api/history", **span)

    HistoryOut.model_validate(told)
    assert told["points"]["ids"] == ([1] if to.startswith("9") else [])


def _rolled(database: Path) -> tuple[int, int, int]:
    """The row rolled so far, and what the minutes and the hours have seen."""
    with closing(sqlite3.connect(database)) as connection:
        (row_id,) = connection.execute("SELECT row_id FROM rolled").fetchone()
        hours = "id & (1 << 40) != 0"
        minutes, by_hour = (
            connection.execute(f"SELECT coalesce(sum(seen), 0) FROM rollup WHERE {where}").fetchone()[0]
            for where in (f"NOT ({hours})", hours)
        )
    return row_id, minutes, by_hour


def test_a_server_killed_while_it_rolls_goes_on_where_it_was(tmp_path: Path) -> None:
    now_us = wall_us()
    app = App(tmp_path, ["serve", "--db", str(tmp_path / "a.db")])
    app.start()
    n = 16_000
    for at in range(0, n, 4_000):
        app.post([observation(now_us - (n - i) * 2_000_000, 2000.0 + i % 300) for i in range(at, at + 4_000)])
    app.stop(signal.SIGKILL)
    seen = [_rolled(tmp_path / "a.db")]
    while seen[-1][0] < n:
        app.start()
        wait_for(lambda: _rolled(tmp_path / "a.db")[0] > seen[-1][0])
        app.stop(signal.SIGKILL)
        seen.append(_rolled(tmp_path / "a.db"))

    assert all(row_id == minutes == hours for row_id, minutes, hours in seen)
    assert seen[-1] == (n, n, n)


async def test_a_stop_takes_up_what_is_left(tmp_path: Path) -> None:
    app = App(tmp_path, ["serve", "--db", str(tmp_path / "a.db")])
    app.start()
    await asyncio.to_thread(app.post, [observation(wall_us() - i * 1_000_000, 2000.0) for i in range(300)])
    app.stop()

    assert _rolled(tmp_path / "a.db") == (300, 300, 300)
