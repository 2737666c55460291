"""The door: what is accepted, what is refused with a name, and what comes back."""

import datetime as dt
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.serving import OCEAN, served, wall_us

from llmscope.api.shapes import NumbersOut


def recent(**changes: Any) -> dict[str, Any]:
    stamp = dt.datetime.now(dt.UTC).isoformat()
    return OCEAN | {"timestamp": stamp} | changes


async def test_the_originals_body_comes_back_in_the_window(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        answer = await api.post(recent())
        window = await api.get("/api/stats/spc", hours=24)

    assert answer == {"status": "ok", "logged": True, "accepted": 1}
    assert window["values"] == [2.0505]
    assert window["models"] == ["llama3"]
    assert window["providers"] == ["ollama"]
    assert window["total_durations"] == [2050.5]
    assert window["load_durations"] == [50.2]
    assert window["prompt_eval_durations"] == [100.3]
    assert window["eval_durations"] == [1900.0]
    assert window["queue_durations"] == [0.0]
    assert window["prompt_eval_counts"] == [26]
    assert window["eval_counts"] == [42]
    assert window["tokens_per_second"] == [22.105]
    assert window["cpu_percents"] == [35.2]
    assert window["memory_percents"] == [45.6]
    assert window["gpu_percents"] == [78.5]
    assert window["gpu_memory_percents"] == [62.3]
    assert window["prompt_hashes"] == ["a1b2c3d4"]
    assert window["spc"]["n"] == 1
    assert window["spc"]["centre"] is None


async def test_a_time_without_zone_is_utc_and_a_missing_one_is_now(tmp_path: Path) -> None:
    earlier = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)
    naive = earlier.replace(tzinfo=None, microsecond=250_000).isoformat()
    async with served(tmp_path / "a.db") as api:
        await api.post(recent(timestamp=naive))
        before = wall_us()
        await api.post({k: v for k, v in OCEAN.items() if k != "timestamp"})
        window = await api.get("/api/stats/spc", hours=1)

    assert window["timestamps"][0] == naive + "Z"
    assert dt.datetime.fromisoformat(window["timestamps"][1]).timestamp() * 1e6 >= before - 1


async def test_an_old_observation_is_stored_but_is_in_no_window(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await api.post(OCEAN)
        window = await api.get("/api/stats/spc", hours=24)
        series = await api.get("/api/series")

    assert window["values"] == []
    assert series["series"][0]["count"] == 1
    assert series["series"][0]["first"] == "2025-10-28T12:34:56.789000Z"


FAILED = {"provider": "ollama", "model": "llama3", "ok": False, "error_kind": "timeout", "error": "60 s"}


async def test_a_failure_is_stored_and_shown_and_has_no_latency(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await api.post([recent(), FAILED])
        window = await api.get("/api/stats/spc", hours=1)
        status = (await api.get("/api/series"))["series"][0]["status"]

    assert window["values"] == [2.0505, None]
    assert window["eval_counts"] == [42, None]
    assert window["oks"] == [1, 0]
    assert window["spc"]["n"] == 1
    assert status["state"] == "failing"
    assert status["error_kind"] == "timeout"
    assert status["error"] == "60 s"


async def test_ndjson_and_arrays_are_batches(tmp_path: Path) -> None:
    lines = b"\n".join(json.dumps(recent(latency_ms=float(ms))).encode() for ms in (1, 2, 3))
    async with served(tmp_path / "a.db") as api:
        by_type = await api.post(lines, headers={"content-type": "application/x-ndjson"})
        by_look = await api.post(lines.replace(b"llama3", b"other"))

    assert by_type["accepted"] == 3
    assert by_look["accepted"] == 3


def bodies() -> list[tuple[str, int, str, Any]]:
    """What is wrong, the status, the field that must be named, and the body."""
    ahead = (dt.datetime.now(dt.UTC) + dt.timedelta(days=2)).isoformat()
    lacking = {k: v for k, v in recent().items() if k != "model"}
    return [
        ("negative latency", 422, "latency_ms", recent(latency_ms=-1.0)),
        ("NaN latency", 422, "latency_ms", json.dumps(recent(latency_ms=float("nan"))).encode()),
        (
            "infinite total",
            422,
            "total_duration_ms",
            json.dumps(recent(total_duration_ms=float("inf"))).encode(),
        ),
        (
            "too large a number",
            422,
            "eval_duration_ms",
            json.dumps(recent()).replace("1900.0", "1e999").encode(),
        ),
        ("percent over 100", 422, "cpu_percent", recent(cpu_percent=100.1)),
        ("negative percent", 422, "gpu_percent", recent(gpu_percent=-0.1)),
        ("empty model", 422, "model", recent(model="")),
        ("blank model", 422, "model", recent(model="  ")),
        ("control character", 422, "provider", recent(provider="a\nb")),
        ("missing model", 422, "model", lacking),
        ("model of another type", 422, "model", recent(model=7)),
        ("latency of another type", 422, "latency_ms", recent(latency_ms="fast")),
        ("fraction of a token", 422, "eval_count", recent(eval_count=4.5)),
        ("unknown field", 422, "latencyms", recent(latencyms=1)),
        ("unknown error kind", 422, "error_kind", FAILED | {"error_kind": "sad"}),
        ("failure without a kind", 422, "error_kind", {"provider": "a", "model": "b", "ok": False}),
        ("failure with a latency", 422, "latency_ms", FAILED | {"latency_ms": 3.0}),
        ("success without a latency", 422, "latency_ms", {"provider": "a", "model": "b"}),
        ("no time", 422, "timestamp", recent(timestamp="yesterday")),
        ("time ahead", 422, "timestamp", recent(timestamp=ahead)),
        ("time before clocks", 422, "timestamp", recent(timestamp="1970-01-01T00:00:00Z")),
        (
            "third row wrong",
            422,
            "memory_percent",
            [recent(), recent(latency_ms=1.0), recent(memory_percent=101)],
        ),
        ("broken off", 400, "latency_ms", b'{"provider":"a","model":"b","latency_ms":'),
        ("no JSON", 400, "body", b"hello"),
        ("empty", 422, "body", b""),
        ("another shape", 422, "body", b"7"),
        ("too long a name", 422, "model", recent(model="x" * 257)),
    ]


@pytest.mark.parametrize(
    ("status", "field", "body"), [pytest.param(*b[1:], id=b[0].replace(" ", "-")) for b in bodies()]
)
async def test_a_malformed_body_is_refused_by_name_and_changes_nothing(
    tmp_path: Path, status: int, field: str, body: Any
) -> None:
    async with served(tmp_path / "a.db") as api:
        answer = await api.post(body, status=status)
        series = await api.get("/api/series")
        rows = api.store.count_rows()

    assert answer["status"] == status
    assert answer["errors"][0]["field"] == field
    assert field in answer["detail"]
    assert rows == 0
    assert series["series"] == []


async def test_the_row_of_a_batch_is_named(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        answer = await api.post([recent(), recent(latency_ms=-1)], status=422)

    assert answer["errors"] == [{"row": 1, "field": "latency_ms", "message": answer["detail"]}]
    assert "row 1" in answer["detail"]


async def test_a_body_over_8_mb_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        answer = await api.post(b"[" + b" " * 8_000_000 + b"]", status=413)

    assert "8,000,000" in answer["detail"]


async def test_redelivery_of_the_same_observation_is_harmless(tmp_path: Path) -> None:
    body = [recent(), recent(latency_ms=7.0)]
    async with served(tmp_path / "a.db") as api:
        first = await api.post(body)
        second = await api.post(body)
        rows = api.store.count_rows()
    async with served(tmp_path / "a.db") as api:
        third = await api.post(body)

    assert first == {"status": "ok", "logged": True, "accepted": 2}
    assert second == third == {"status": "ok", "logged": True, "accepted": 0, "duplicates": 2}
    assert rows == 2


async def test_numbered_deliveries_are_stored_once_even_without_times(tmp_path: Path) -> None:
    rows = [{"provider": "a", "model": "b", "latency_ms": float(i)} for i in range(6)]

    def numbered(first: int) -> dict[str, str]:
        return {"X-LLMscope-Sender": "monitor-1", "X-LLMscope-First-Seq": str(first)}

    async with served(tmp_path / "a.db") as api:
        one = await api.post(rows[:3], headers=numbered(0))
        again = await api.post(rows[:3], headers=numbered(0))
        overlap = await api.post(rows[1:5], headers=numbered(1))
    async with served(tmp_path / "a.db") as api:
        after_restart = await api.post(rows, headers=numbered(0))
        window = await api.get("/api/stats/spc", hours=1)

    assert [a["accepted"] for a in (one, again, overlap, after_restart)] == [3, 0, 2, 1]
    assert window["values"] == [0.0, 0.001, 0.002, 0.003, 0.004, 0.005]


@pytest.mark.parametrize("name", ["X-LLMscope-Sender", "X-LLMscope-First-Seq"])
async def test_a_wrong_numbering_is_refused(tmp_path: Path, name: str) -> None:
    headers = {"X-LLMscope-Sender": "m", "X-LLMscope-First-Seq": "0"} | {name: ""}
    async with served(tmp_path / "a.db") as api:
        answer = await api.post(recent(), status=422, headers=headers)

    assert answer["errors"][0]["field"] == name


async def test_since_gives_only_what_came_after(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await api.post([recent(latency_ms=1000.0), recent(latency_ms=2000.0)])
        first = await api.get("/api/stats/spc", hours=1)
        nothing = await api.get("/api/stats/spc", hours=1, since=first["cursor"])
        await api.post(recent(latency_ms=3000.0))
        later = await api.get("/api/stats/spc", hours=1, since=first["cursor"])

    assert first["values"] == [1.0, 2.0]
    assert nothing["values"] == []
    assert later["values"] == [3.0]


async def test_several_series_are_merged_by_time_and_have_no_limits(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    rows = [
        recent(model=m, latency_ms=s * 1000.0, timestamp=(now - dt.timedelta(seconds=60 - s)).isoformat())
        for m, s in (("a", 1), ("a", 4), ("b", 2), ("b", 3))
    ]
    async with served(tmp_path / "a.db") as api:
        await api.post(rows)
        both = await api.get("/api/stats/spc", hours=1)
        only = await api.get("/api/stats/spc", hours=1, model="b", fields="values,times_ms")

    assert both["values"] == [1.0, 2.0, 3.0, 4.0]
    assert both["models"] == ["a", "b", "b", "a"]
    assert both["spc"] is None
    assert only["values"] == [2.0, 3.0]
    assert "models" not in only


async def test_late_observations_are_shown_in_order_of_time(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    rows = [
        recent(latency_ms=s * 1000.0, timestamp=(now - dt.timedelta(seconds=60 - s)).isoformat())
        for s in (3, 1, 2)
    ]
    async with served(tmp_path / "a.db") as api:
        await api.post(rows)
        window = await api.get("/api/stats/spc", hours=1)

    assert window["values"] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"hours": 0}, "hours"),
        ({"hours": 25}, "hours"),
        ({"hours": "x"}, "hours"),
        ({"metric": "speed"}, "metric"),
        ({"since": "abc"}, "since"),
        ({"fields": "values,nothing"}, "fields"),
        ({"limit": 0}, "limit"),
    ],
)
async def test_a_wrong_query_is_refused_by_name(tmp_path: Path, query: dict[str, Any], field: str) -> None:
    async with served(tmp_path / "a.db") as api:
        answer = await api.get("/api/stats/spc", status=422, **query)

    assert answer["errors"][0]["field"] == field
    assert field in answer["detail"]


async def test_an_unknown_path_is_a_problem_document(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        answer = await api.get("/api/nothing", status=404)

    assert answer["status"] == 404


async def test_one_large_batch_is_judged_as_many_small_ones(tmp_path: Path) -> None:
    rng = random.Random(7)
    start = dt.datetime.now(dt.UTC) - dt.timedelta(hours=3)
    rows = [
        OCEAN
        | {
            "timestamp": (start + dt.timedelta(seconds=2 * i)).isoformat(),
            "latency_ms": round(1500.0 * rng.lognormvariate(0.0, 0.1) * (1.3 if i > 4200 else 1.0), 3),
        }
        for i in range(5000)
    ]
    found = []
    for size in (5000, 50):
        async with served(tmp_path / f"{size}.db") as api:
            for first in range(0, len(rows), size):
                await api.post(json.dumps(rows[first : first + size]).encode())
            await api.ingest.settle()
            versions = [
                (v.metric, v.fitted_id, v.n, round(v.centre, 9), round(v.sigma, 9))
                for versions in api.store.baselines.values()
                for v in versions
            ]
            marks = [
                (v.metric, v.chart, v.rule, v.side, v.first_signal_id, v.last_signal_id, v.count, v.open)
                for v in api.ingest.recent[1].values()
            ]
            alarms = [
                (a.metric, a.detector, a.change_id, a.opened_id, a.state)
                for a in api.ingest.findings.alarms[1].values()
            ]
            found.append((sorted(versions), sorted(marks), sorted(alarms)))

    assert found[0] == found[1]
    assert len(found[0][0]) > 6  # limits at 20, 40, 80, 150 points, then the calibrated charts
    assert any(alarm[:2] == ("latency", "SHIFT") for alarm in found[0][2])


async def test_the_numbers_alone_are_those_of_the_window(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await api.post([recent(latency_ms=1000.0 + i) for i in range(30)])
        window = await api.get("/api/stats/spc", hours=1)
        numbers = await api.get("/api/stats/numbers", hours=1)
        nobody = await api.get("/api/stats/numbers", status=404, model="nobody")
        unknown = await api.get("/api/stats/numbers", status=422, metric="odd")

    for name in ("n", "mean", "std", "p95", "learned_n", "marks"):
        assert numbers[name] == window["spc"][name], name
    assert NumbersOut.model_validate(numbers).status.state == "learning"
    assert nobody["status"] == 404
    assert unknown["errors"][0]["field"] == "metric"
