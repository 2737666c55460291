"""Each metric that a series tells has its own chart with limits and marks; only the watched ones can open incidents."""

from pathlib import Path
from typing import Any

from tests.api.test_incidents import N, post, story
from tests.api.test_stream import listening
from tests.serving import eventually, served, wall_us

from llmscope.engine import Engine
from llmscope.ingest import Ingest
from llmscope.live import Hub
from llmscope.observation import Observation
from llmscope.store import open_store

TOLD = ("latency", "ttft", "ms_per_token", "load", "tokens_per_second")


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With a load time; ttft, queue and prefill are never told."""
    return [row | {"load_duration_ms": 20.0 + i % 5} for i, row in enumerate(rows)]


async def test_every_told_metric_has_limits_and_only_watched_ones_a_budget(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post(api, told(story(shift=1.6)))
        series = (await api.get("/api/series"))["series"]
        spc = {
            metric: (await api.get("/api/stats/spc", hours=2, metric=metric, fields="values"))["spc"]
            for metric in ("ms_per_token", "tokens_per_second", "load", "queue")
        }
        marks = await api.get("/api/violations", metric="tokens_per_second", chart="buckets")
        incidents = (await api.get("/api/incidents"))["incidents"]

    assert [s["metric"] for s in series] == list(TOLD)
    for metric in ("ms_per_token", "tokens_per_second", "load"):
        assert spc[metric]["state"] == "provisional"
        assert spc[metric]["lcl"] < spc[metric]["centre"] < spc[metric]["ucl"]
        assert len(spc[metric]["buckets"]["scores"]) > 100
    assert spc["ms_per_token"]["budget_per_day"] == 1 / 7
    assert spc["tokens_per_second"]["budget_per_day"] is None
    assert spc["tokens_per_second"]["calibration"]["detectors"] == []
    assert spc["queue"]["state"] == "none"
    assert marks["total"] > 0
    assert {metric for i in incidents for metric in i["metrics"]} <= {"latency", "ms_per_token"}


async def test_a_phase_of_every_metric_is_one_of_every_chart(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post(api, told(story())[-200:])
        async with api.http.post(api.url + "/api/series/1/phases", json={"cause": "new driver"}) as answer:
            begun = (await answer.json())["phases"]
        wrong = {"metric": "queue"}
        async with api.http.post(api.url + "/api/series/1/phases", json=wrong) as answer:
            refused = answer.status
        listed = (await api.get("/api/series/1/phases"))["phases"]

    assert [p["metric"] for p in begun] == list(TOLD)
    assert refused == 422
    assert {(p["metric"], p["number"]) for p in listed} == {(m, n) for m in TOLD for n in (1, 2)}


async def test_limits_of_other_metrics_are_told_live(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api, listening(api, metric="load") as heard:
        await api.post(told(story())[-30:])
        await eventually(lambda: heard.of("limits"))

    assert {e.data["metric"] for e in heard.of("limits")} == {"load"}


async def test_a_database_from_before_learns_the_other_charts_from_its_last_day(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    ingest = Ingest(store, Engine(), Hub(), wall_us)
    ingest.restore()
    rows = [Observation(**row) for row in told(story())]
    for start in range(0, N, 1_000):
        await ingest.accept(rows[start : start + 1_000])
    ingest.stop()
    store.close()
    async with served(tmp_path / "a.db") as api:
        spc = (await api.get("/api/stats/spc", metric="tokens_per_second", fields="values"))["spc"]
        watched = (await api.get("/api/stats/spc", metric="ms_per_token", fields="values"))["spc"]
    async with served(tmp_path / "a.db") as api:
        again = (await api.get("/api/stats/spc", metric="tokens_per_second", fields="values"))["spc"]

    assert spc["state"] == watched["state"] == "provisional"
    assert abs(spc["centre"] * watched["centre"] - 1000.0) < 20.0
    assert again["limits"] == spc["limits"]
    assert len(again["buckets"]["scores"]) <= len(spc["buckets"]["scores"])
