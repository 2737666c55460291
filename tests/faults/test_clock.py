"""The wall clock jumps an hour forward and back: the schedule is kept, nothing is lost, what is told is sane."""

import asyncio
import functools
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.probe.replay import Reply, recorded, replaying
from tests.serving import Served, eventually, served
from tests.test_monitor import FixedHost, ListBox

from llmscope.documents import time_text
from llmscope.monitor import Monitor
from llmscope.probe import SystemClock, Target, open_session
from llmscope.spc.reference import learn

HOUR_US = 3_600_000_000
START_US = 1_764_000_000_000_000
STEP_US = 2_000_000
LEVEL_MS = 1500.0


class WallClock:
    """A wall clock that goes on by 2 s a row, and jumps when it is told to."""

    def __init__(self) -> None:
        self.us = START_US

    def __call__(self) -> int:
        return self.us


def latencies() -> list[float]:
    """In control, but for a shift that stands out by itself."""
    rng = random.Random(3)
    return [LEVEL_MS * rng.lognormvariate(0.0, 0.05) * (1.6 if 220 <= i < 260 else 1.0) for i in range(400)]


async def observe(here: Served, clock: WallClock, jumps: dict[int, int]) -> list[int]:
    """Post rows that carry no time of their own, so that the server stamps them; their times."""
    times = []
    for i, latency in enumerate(latencies()):
        clock.us += STEP_US + jumps.get(i, 0)
        times.append(clock.us)
        await here.post({"provider": "ollama", "model": "m", "latency_ms": latency})
    return times


async def point_violations(here: Served) -> list[dict[str, Any]]:
    log = (await here.get("/api/violations", limit=1000, chart="points"))["violations"]
    names = ("metric", "rule", "side", "first_signal_id", "last_signal_id", "count", "open", "ucl", "peak_z")
    return sorted(
        ({name: v[name] for name in names} for v in log), key=lambda v: (v["first_signal_id"], v["rule"])
    )


async def test_jumps_of_an_hour_lose_nothing_and_change_no_verdict_on_a_point(tmp_path: Path) -> None:
    jumps = {100: HOUR_US, 200: -HOUR_US, 300: -HOUR_US}
    steady, jumping = WallClock(), WallClock()
    async with served(tmp_path / "steady" / "llmscope.db", steady) as here:
        await observe(
            here, steady, {100: HOUR_US}
        )  # for what is observed, a jump forward is an hour of silence
        expected = await point_violations(here)
    path = tmp_path / "jumping" / "llmscope.db"
    async with served(path, jumping) as here:
        times = await observe(here, jumping, jumps)
        found = await point_violations(here)
        window = await here.get("/api/stats/spc", hours=1)
        incidents = (await here.get("/api/incidents"))["incidents"]
        kept = here.store.read().execute("SELECT id, time_us FROM observation ORDER BY id").fetchall()
        await here.get("/api/overview")
        span: dict[str, Any] = {
            "from": time_text(START_US + HOUR_US),
            "to": time_text(START_US + 2 * HOUR_US),
        }
        ahead = await here.get("/api/history", **span)
        await here.roller.finish()
        minutes = await here.get("/api/stats/numbers", hours=1)
    async with served(path, jumping) as here:
        again = await here.get("/api/stats/spc", hours=1)

    assert [time_us for _, time_us in kept] == times
    assert found == expected
    assert len(expected) > 0
    recent = sorted(time_us for time_us in times if time_us >= jumping.us - HOUR_US)
    assert len(window["values"]) == len(recent)
    assert window["timestamps"] == sorted(window["timestamps"])
    assert (again["timestamps"], again["values"]) == (window["timestamps"], window["values"])
    assert len(ahead["points"]["values"]) == sum(
        START_US + HOUR_US <= time_us < START_US + 2 * HOUR_US for time_us in times
    )
    assert minutes["n"] == len(recent)
    for incident in incidents:
        assert incident["closed"] is None or incident["closed"] >= incident["opened"]


@given(
    st.integers(0, 700),
    st.lists(st.sampled_from([-HOUR_US, -HOUR_US // 40, -10_000_000, HOUR_US]), min_size=1, max_size=3),
)
def test_buckets_go_on_after_the_clock_was_turned_back_one_by_one_and_many_at_once(
    start: int, jumps: list[int]
) -> None:
    values = np.log(np.random.default_rng(5).lognormal(0.0, 0.05, 2000))
    steady_us = START_US + STEP_US * np.arange(2000)
    reference = learn(values[:1000], steady_us[:1000])
    assert reference is not None
    times_us = steady_us[1000:].copy()
    for i, jump_us in enumerate(jumps):
        times_us[start + 60 * i :] += jump_us
    ids = np.arange(1000)
    one, many = reference.collector(), reference.collector()
    single = [
        bucket
        for point in zip(values[1000:].tolist(), ids.tolist(), times_us.tolist(), strict=True)
        if (bucket := one.add(*point)) is not None
    ]
    together = many.add_many(values[1000:], ids, times_us)

    assert [bucket.last_id for bucket in single] == together.last_id.tolist()
    assert [bucket.n for bucket in single] == together.n.tolist()
    assert len(single) >= 1000 // 15 - 2 - 3 * len(jumps), "the chart of buckets was blind for a while"
    assert max(bucket.n for bucket in single) <= 60, "points of an hour in one bucket"


def has_more(box: ListBox, rows: int) -> bool:
    return len(box.rows) >= rows


async def test_probes_keep_their_ticks_and_durations_while_the_wall_clock_jumps() -> None:
    class Jumping(SystemClock):
        ahead_us = 0

        def now_us(self) -> int:
            return super().now_us() + self.ahead_us

    clock, box = Jumping(), ListBox()
    starts_ms: list[float] = []
    whole = Reply([recorded("ollama/probe-whole.ndjson")])
    async with (
        replaying(generate=whole, ps=Reply([b'{"models":[]}'], kind="application/json")) as server,
        open_session() as http,
    ):
        here = Target(provider="ollama", base_url=server.url, model="m")
        running = asyncio.create_task(Monitor([here], http, box, FixedHost(), clock, interval_s=0.1).run())
        for jump_us in (0, HOUR_US, -HOUR_US, 0):
            clock.ahead_us = jump_us
            await eventually(functools.partial(has_more, box, len(box.rows) + 3))
            starts_ms.append(clock.monotonic_ms())
        running.cancel()
        await asyncio.wait([running])

    assert all(row.ok and row.latency_ms is not None and 0.0 <= row.latency_ms < 5_000.0 for row in box.rows)
    assert all(row.connect_ms is not None and row.connect_ms >= 0.0 for row in box.rows)
    assert all(b - a < 5_000.0 for a, b in pairwise(starts_ms)), (
        "a jump of the wall clock held up the schedule"
    )
    hours = {(row.timestamp or "")[11:13] for row in box.rows}
    assert len(hours) >= 3, "the stamps are those of the wall clock"
