"""The overview: every series at a glance, the worst first, with a picture that agrees with its rows."""

import math
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.test_incidents import post, story
from tests.processes import observation
from tests.serving import served

from llmscope.api.overview import Grid, picture, significant
from llmscope.api.shapes import OverviewOut


def steady(model: str, n: int = 40, until_s: float = 1.0, **changes: Any) -> list[dict[str, Any]]:
    """Observations every 2 s up to a moment, at about a second."""
    return [
        observation(1000.0 + 7.0 * (i % 5), until_s + 2.0 * (n - i), model=model, **changes) for i in range(n)
    ]


def failed(model: str) -> dict[str, Any]:
    kept = {name: steady(model, 1)[0][name] for name in ("provider", "model", "server", "timestamp")}
    return kept | {"ok": False, "error_kind": "refused", "error": "connection refused"}


async def test_the_worst_come_first_and_the_rest_by_name(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await api.post([*steady("b-learns"), *steady("a-learns"), *steady("marked"), *steady("fails")])
        await api.post([observation(9000.0, model="marked"), failed("fails")])
        await api.post(steady("silent", until_s=1200.0))
        for factor, model in ((1.25, "slower"), (1.6, "much-slower")):
            await post(api, [row | {"model": model} for row in story(factor)])
        found = await api.get("/api/overview")
        again = await api.get("/api/overview")
        stored = {s["id"] for s in (await api.get("/api/series"))["series"]}

    read = OverviewOut.model_validate(found).model_dump(mode="json", exclude_unset=True)
    assert read == found
    told = [(t["model"], t["standing"]) for t in found["targets"]]
    assert told == [
        ("much-slower", "out"),
        ("slower", "out"),
        ("fails", "failing"),
        ("silent", "stale"),
        ("marked", "learning"),
        ("a-learns", "learning"),
        ("b-learns", "learning"),
    ]
    assert [t["model"] for t in again["targets"]] == [t["model"] for t in found["targets"]]
    assert {t["id"] for t in found["targets"]} == stored
    by_model = {t["model"]: t for t in found["targets"]}
    assert "above its learnt level" in by_model["slower"]["headline"]
    assert by_model["slower"]["open_incidents"] == 1
    assert by_model["slower"]["since"] < by_model["slower"]["status"]["last"]
    assert by_model["fails"]["failed_percent"] == 2.43902  # one of 41
    assert by_model["fails"]["since"] == by_model["fails"]["status"]["since"]
    assert by_model["marked"]["open_marks"] >= 1
    assert by_model["marked"]["last"] == 9.0
    assert by_model["marked"]["last_z"] > 3.0
    assert by_model["marked"]["provisional"] is True
    assert by_model["marked"]["lcl"] < by_model["marked"]["centre"] < by_model["marked"]["ucl"] < 9.0


async def test_the_picture_is_in_the_unit_of_the_chart_and_the_cursor_leads_on(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await api.post(steady("m", n=900))
        found = await api.get("/api/overview", hours=1)
        window = await api.get("/api/stats/spc", fields="values")
        (target,) = found["targets"]

    assert found["step_s"] == 30.0
    assert 60 <= len(target["times_ms"]) <= 121
    assert {b - a for a, b in pairwise(target["times_ms"])} == {30_000.0}
    assert all(len(target[name]) == len(target["times_ms"]) for name in ("low", "middle", "high"))
    assert target["middle"][0] is None  # the hour is half empty
    assert min(v for v in target["low"] if v is not None) == min(window["values"])
    assert max(v for v in target["high"] if v is not None) == max(window["values"])
    assert target["last"] == window["values"][-1]
    assert found["cursor"] == window["cursor"]


async def test_a_metric_that_a_series_does_not_tell_is_not_judged(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        await api.post(steady("m", ttft_ms=None))
        (target,) = (await api.get("/api/overview", metric="ttft"))["targets"]

    assert target["standing"] == "not_judged"
    assert target["last"] is target["last_z"] is target["centre"] is None
    assert set(target["middle"]) == {None}


async def test_without_series_there_is_nothing_and_what_is_wrong_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        empty = await api.get("/api/overview")
        await api.get("/api/overview", status=422, metric="speed")
        await api.get("/api/overview", status=422, hours=0)
        await api.get("/api/overview", status=422, hours=24.5)
        await api.get("/api/overview", status=422, hours="nan")

    assert empty["targets"] == []
    assert (empty["metric"], empty["hours"], empty["cursor"]) == ("latency", 1.0, "0")


rows = st.lists(
    st.tuples(st.integers(-5, 45), st.sampled_from([1.0, 2.0, 3.5, 1e6]) | st.just(math.nan)), max_size=60
)


@given(rows)
def test_each_stretch_shows_least_median_and_greatest_of_its_values(rows: list[tuple[int, float]]) -> None:
    grid = Grid(from_us=0, step_us=10, n=4)
    times_us, values = (
        (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.empty(0),) * 2
    )
    found = picture(times_us.astype(np.int64), values.astype(np.float64), grid)

    for i in range(grid.n):
        held = [value for time, value in rows if time // 10 == i and value == value]
        expected = [min(held), median(held), max(held)] if held else [None] * 3
        assert [None if v != v else v for v in found[:, i].tolist()] == expected


@given(st.integers(0, 2**50), st.floats(0.001, 24.0))
def test_the_stretches_cover_the_span_and_are_about_a_hundred(now_us: int, hours: float) -> None:
    grid = Grid.of(now_us, hours)

    assert grid.from_us <= now_us - hours * 3.6e9 + 1
    assert grid.from_us + grid.n * grid.step_us > now_us
    assert grid.n <= 122
    assert grid.n >= 60 or grid.step_us == 1_000_000


@given(st.lists(st.floats(-1e9, 1e9).filter(lambda v: v == 0.0 or abs(v) > 1e-9), max_size=5))
def test_pictures_are_rounded_as_every_number_of_a_document(values: list[float]) -> None:
    assert significant(np.array(values)).tolist() == pytest.approx(
        [float(f"{v:.6g}") for v in values], rel=2e-6
    )
