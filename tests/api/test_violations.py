"""The violations log: what was found, with the observations around it, and what people say of it."""

import csv
import datetime as dt
import io
from pathlib import Path
from typing import Any

from tests.api.test_stream import listening
from tests.serving import Served, eventually, served, wall_us

from llmscope.api.shapes import ContextOut, SeriesListOut, ViolationPageOut, WindowOut
from llmscope.findings import MOST_TOLD


def observation(i: int, ms: float) -> dict[str, Any]:
    """One every 2 s ending about now; the parts of the time add up."""
    at_s = wall_us() // 1_000_000 - (400 - i) * 2
    return {
        "provider": "ollama",
        "model": "llama3",
        "timestamp": dt.datetime.fromtimestamp(at_s, dt.UTC).isoformat(),
        "latency_ms": ms,
        "total_duration_ms": ms - 5.0,
        "load_duration_ms": 10.0,
        "prompt_eval_duration_ms": 50.0,
        "eval_duration_ms": ms - 70.0,
        "prompt_eval_count": 20,
        "eval_count": 30,
        "prompt_hash": "a1b2c3d4",
        "prompt_text": "Write one sentence.",
    }


USUAL = [1000.0, 1010.0, 990.0, 1005.0, 995.0, 1002.0, 998.0]


async def post_story(api: Served) -> None:
    """150 usual points, one spike, 20 usual, a shift of twelve, 20 usual."""
    values = [USUAL[i % 7] for i in range(150)] + [5000.0] + [USUAL[i % 7] for i in range(20)]
    values += [1015.0 + USUAL[i % 7] - 990.0 for i in range(12)] + [USUAL[i % 7] for i in range(20)]
    await api.post([observation(i, value) for i, value in enumerate(values)])


async def test_the_spike_is_one_violation_with_its_statistics_and_neighbours(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post_story(api)
        log = await api.get("/api/violations", rule="R1", metric="latency")
        spike = log["violations"][-1]
        context = await api.get(f"/api/violations/{spike['id']}/context")
        narrow = await api.get(f"/api/violations/{spike['id']}/context", points=3)

    assert spike["value"] == spike["peak_value"] == 5.0
    assert spike["count"] == 1
    assert spike["open"] is False
    assert spike["n"] == 150
    assert spike["lcl"] < spike["centre"] < spike["ucl"] < spike["value"]
    assert len(context["points"]) == 21
    assert context["points"][context["index"]]["latency_ms"] == 5000.0
    assert context["points"][context["index"]]["queue_ms"] == 5.0
    assert context["points"][context["index"]]["network_ms"] == 5.0
    assert context["points"][context["index"]]["z"] == spike["peak_z"]
    assert context["baseline"]["latency_ms"] == 1000.0
    assert context["baseline"]["eval_ms"] == 930.0
    assert spike["cause"] == {"part": "generation", "ms": 4930.0, "usual_ms": 930.0}
    assert context["prompt_text"] == "Write one sentence."
    assert len(narrow["points"]) == 7


async def test_the_answers_fit_their_documented_shapes(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post_story(api)
        window = await api.get("/api/stats/spc", hours=24)
        log = await api.get("/api/violations")
        context = await api.get(f"/api/violations/{log['violations'][0]['id']}/context")
        series = await api.get("/api/series")

    for model, answer in (
        (WindowOut, window),
        (ViolationPageOut, log),
        (ContextOut, context),
        (SeriesListOut, series),
    ):
        read = model.model_validate(answer).model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert read == answer


async def test_filters_and_pages_agree_with_the_whole_log(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post_story(api)
        whole = (await api.get("/api/violations", limit=1000))["violations"]
        only = (await api.get("/api/violations", rule="R2", metric="latency"))["violations"]
        other = (await api.get("/api/violations", model="nothing"))["violations"]
        paged: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            query: dict[str, Any] = {"limit": 2} | ({} if after is None else {"after": after})
            page = await api.get("/api/violations", **query)
            paged += page["violations"]
            after = page["next"]
            if after is None:
                break

    assert len(whole) >= 3
    assert paged == whole
    assert only == [v for v in whole if v["rule"] == "R2" and v["metric"] == "latency"]
    assert only
    assert other == []
    assert page["total"] == len(whole)


async def test_the_csv_has_what_the_filters_admit(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post_story(api)
        whole = (await api.get("/api/violations", rule="R1", limit=1000))["violations"]
        async with api.http.get(api.url + "/api/violations.csv?rule=R1") as answer:
            rows = list(csv.DictReader(io.StringIO(await answer.text())))
        async with api.http.get(api.url + "/api/violations.csv?rule=R1&model=none") as answer:
            empty = list(csv.DictReader(io.StringIO(await answer.text())))

    assert [int(row["id"]) for row in rows] == [v["id"] for v in whole]
    assert list(rows[0]) == [*whole[0], "cause_ms", "cause_usual_ms"]
    assert [row["cause"] for row in rows] == [(v["cause"] or {"part": ""})["part"] for v in whole]
    assert "generation" in [row["cause"] for row in rows]
    assert empty == []


async def test_the_json_file_has_what_the_filters_admit(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post_story(api)
        whole = (await api.get("/api/violations", rule="R1", limit=1000))["violations"]
        async with api.http.get(api.url + "/api/violations.json?rule=R1") as answer:
            file, name = await answer.json(), answer.headers["content-disposition"]
        empty = await api.get("/api/violations.json", model="none")

    assert file == whole
    assert name == 'attachment; filename="llmscope-violations.json"'
    assert empty == []


async def test_a_page_is_found_by_its_offset_and_says_how_many_there_are_of_each_rule(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post_story(api)
        whole = await api.get("/api/violations", limit=1000)
        page = await api.get("/api/violations", limit=2, offset=1, rule="R1,R2")
        beyond = await api.get("/api/violations", offset=10_000)

    rules = [v["rule"] for v in whole["violations"]]
    assert whole["counts"] == {rule: rules.count(rule) for rule in sorted(set(rules))}
    assert page["violations"] == [v for v in whole["violations"] if v["rule"] in ("R1", "R2")][1:3]
    assert page["counts"] == whole["counts"]
    assert page["total"] == rules.count("R1") + rules.count("R2")
    assert (beyond["violations"], beyond["next"], beyond["total"]) == ([], None, len(rules))


async def test_the_log_can_be_searched_and_cut_by_severity_and_time(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post_story(api)
        whole = (await api.get("/api/violations", limit=1000))["violations"]
        critical = (await api.get("/api/violations", severity="critical"))["violations"]
        above = (await api.get("/api/violations", search="ABOVE"))["violations"]
        percent = (await api.get("/api/violations", search="%"))["violations"]
        spike = next(v for v in whole if v["value"] == 5.0)
        at = spike["first_signal"]
        then = (await api.get("/api/violations", **{"from": at, "to": at}))["violations"]

    assert critical == [v for v in whole if v["rule"] == "R1"]
    assert above == [v for v in whole if v["side"] == "above"]
    assert percent == []
    assert then == [v for v in whole if v["first_signal"] <= at <= v["last_signal"]]


async def test_many_are_acknowledged_at_once_and_whoever_listens_is_told(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api, listening(api) as heard:
        await post_story(api)
        whole = (await api.get("/api/violations", limit=1000))["violations"]
        ids = [v["id"] for v in whole]
        path = f"{api.url}/api/violations/acknowledge"
        body = {"ids": [*ids, ids[0]], "who": "ann", "note": "backup job"}
        async with api.http.post(path, json=body) as answer:
            said = await answer.json()
        await eventually(
            lambda: {e.data["id"] for e in heard.of("violation") if e.data["acknowledged_by"]} == set(ids)
        )
        seen = (await api.get("/api/violations", acknowledged="true", limit=1000))["violations"]
        window = await api.get("/api/stats/spc", hours=24, fields="none")

    told = {e.data["id"]: e.data for e in heard.of("violation") if e.data["acknowledged_by"] == "ann"}
    assert said == {"acknowledged": len(ids)}
    assert seen == [told[i] for i in ids]
    assert {v["acknowledged_by"] for v in window["violations"]} == {"ann"}


async def test_an_unknown_one_among_many_is_named_and_none_is_acknowledged(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post_story(api)
        first = (await api.get("/api/violations"))["violations"][0]["id"]
        path = f"{api.url}/api/violations/acknowledge"
        async with api.http.post(path, json={"ids": [first, 998, 999], "who": "ann"}) as answer:
            refused = answer.status, (await answer.json())["detail"]
        seen = await api.get("/api/violations", acknowledged="true")
        refusals: list[dict[str, Any]] = [
            {"ids": []},
            {"ids": [first] * 10_001},
            {"ids": [0]},
            {"ids": [first], "who": ""},
        ]
        for wrong in refusals:
            async with api.http.post(path, json={"who": "ann"} | wrong) as answer:
                assert answer.status == 422

    assert refused == (404, "there is no violation 998")
    assert seen["violations"] == []


async def test_of_very_many_at_once_listeners_hear_only_that_there_is_more(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post_story(api)
        found = (await api.get("/api/violations", limit=1000))["violations"]
        held = [v for by_id in api.ingest.recent.values() for v in by_id.values()]
        async with listening(api) as heard:
            api.ingest.findings.acknowledged(held * (1 + MOST_TOLD // len(held)))
            await eventually(lambda: heard.of("reset"))

    assert found
    assert heard.of("violation") == []


async def test_an_acknowledgement_is_kept_over_a_restart_and_can_be_taken_back(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post_story(api)
        first = (await api.get("/api/violations"))["violations"][0]["id"]
        path = f"{api.url}/api/violations/{first}/acknowledge"
        async with api.http.post(path, json={"who": "ann", "note": "backup job"}) as answer:
            said = await answer.json()
    async with served(tmp_path / "a.db") as api:
        kept = await api.get(f"/api/violations/{first}")
        seen = await api.get("/api/violations", acknowledged="true")
        async with api.http.delete(f"{api.url}/api/violations/{first}/acknowledge") as answer:
            taken = await answer.json()

    assert said == kept
    assert kept["acknowledged_by"] == "ann"
    assert kept["note"] == "backup job"
    assert [v["id"] for v in seen["violations"]] == [first]
    assert taken["acknowledged_at"] is None


async def test_a_cold_load_is_the_cause_of_its_violation_also_after_a_restart(tmp_path: Path) -> None:
    cold = observation(150, 4000.0) | {"load_duration_ms": 3000.0, "eval_duration_ms": 945.0}
    async with served(tmp_path / "a.db") as api, listening(api, metric="latency") as heard:
        await api.post([observation(i, USUAL[i % 7]) for i in range(150)])
        await api.post(cold)
        (told,) = await eventually(lambda: [e for e in heard.of("violation") if e.data["rule"] == "R1"])
        found = (await api.get("/api/violations", search="LOAD", metric="latency"))["violations"]
    async with served(tmp_path / "a.db") as api:
        again = await api.get(f"/api/violations/{told.data['id']}")

    assert told.data["cause"] == {"part": "load", "ms": 3000.0, "usual_ms": 10.0}
    assert again["cause"] == told.data["cause"]
    assert [v["id"] for v in found] == [told.data["id"]]


async def test_a_cause_follows_the_peak_and_is_the_same_one_by_one_and_at_once(tmp_path: Path) -> None:
    usual = [observation(i, USUAL[i % 7]) for i in range(330)]
    queued = observation(330, 3000.0) | {"eval_duration_ms": 930.0}
    slow = observation(331, 9000.0)
    causes = []
    for name, posts in (("one", [usual, queued, slow]), ("many", [[*usual, queued, slow]])):
        async with served(tmp_path / f"{name}.db") as api:
            for post in posts:
                await api.post(post)
            found = (await api.get("/api/violations", rule="R1", metric="latency"))["violations"]
            causes.append([(v["peak_value"], v["cause"]["part"]) for v in found])

    assert causes == [[(9.0, "generation")]] * 2


async def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await api.get("/api/violations/99", status=404)
        await api.get("/api/violations/99/context", status=404)
        await api.get("/api/violations", status=422, rule="R17")
        await api.get("/api/violations", status=422, after="x")
        await api.get("/api/violations", status=422, after="1-1", offset=1)
        await api.get("/api/violations", status=422, offset=-1)
        await api.get("/api/violations", status=422, severity="grave")
        await api.get("/api/violations", status=422, search="x" * 101)
        await api.get("/api/violations", status=422, **{"from": "2026-01-01T00:00:00"})  # of which zone?
        async with api.http.post(f"{api.url}/api/violations/1/acknowledge", json={"who": ""}) as answer:
            assert answer.status == 422
            assert (await answer.json())["errors"][0]["field"] == "who"


async def test_a_restart_finds_the_same_violations_and_none_twice(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await post_story(api)
        before = (await api.get("/api/violations", limit=1000))["violations"]
    async with served(tmp_path / "a.db") as api:
        after = (await api.get("/api/violations", limit=1000))["violations"]
        await api.post(observation(399, 7000.0))
        more = (await api.get("/api/violations", limit=1000))["violations"]

    assert after == before
    assert len(more) > len(after)
