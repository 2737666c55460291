"""Deliveries that come late, twice, together and in any order: the rows are those that were observed.

Rows are judged in order of arrival. Repeats change nothing of what is found; rows that come late are judged when
they come, so what is found depends on their order, while windows and histories are told by time.
"""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.processes import history
from tests.serving import opened, served

from llmscope.observation import Observation

BASE_US = 1_764_000_000_000_000

moments = st.integers(0, 5).map(lambda s: f"2025-11-24T16:00:0{s}Z")
observed = st.builds(
    Observation,
    provider=st.just("ollama"),
    model=st.sampled_from(["a", "b"]),
    server=st.sampled_from(["", "here:1"]),
    timestamp=moments,
    latency_ms=st.sampled_from([1.0, 1000.0, 20_000.123]),
    eval_count=st.none() | st.integers(1, 3),
)


Rounds = list[list[list[Observation]]]


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Observation], Rounds]:
    """Distinct observations; and rounds of batches that are sent together, with every one of them at least once."""
    rows = draw(st.lists(observed, min_size=1, max_size=12, unique=True))
    sent = draw(st.permutations(rows + draw(st.lists(st.sampled_from(rows), max_size=12))))
    cuts = draw(
        st.lists(st.tuples(st.integers(1, 6), st.integers(0, 1)), min_size=len(sent), max_size=len(sent))
    )
    rounds: Rounds = []
    for size, is_beside in cuts:
        batch, sent = sent[:size], sent[size:]
        if rounds and is_beside:
            rounds[-1].append(batch)
        else:
            rounds.append([batch])
    return rows, rounds


@given(deliveries())
@settings(max_examples=25)
def test_in_any_order_and_number_each_observation_is_stored_once(
    tmp_path_factory: Any, sent: tuple[list[Observation], Rounds]
) -> None:
    rows, rounds = sent

    async def run() -> tuple[Counter[tuple[Any, ...]], int]:
        path = tmp_path_factory.mktemp("order") / "llmscope.db"
        accepted = 0
        for half in (rounds[: len(rounds) // 2], rounds[len(rounds) // 2 :]):  # with a restart between
            async with opened(path, lambda: BASE_US + 60_000_000) as (store, ingest, _hub):
                for batches in half:
                    answers = await asyncio.gather(*(ingest.accept(batch) for batch in batches))
                    accepted += sum(answer.accepted for answer in answers)
                kept = store.read().execute(
                    "SELECT model, server, timestamp, latency_ms, eval_count FROM telemetry"
                )
                found = Counter(kept.fetchall())
        return found, accepted

    found, accepted = asyncio.run(run())

    assert found == Counter(
        (o.model, o.server, (o.timestamp or "")[:-1] + ".000000Z", o.latency_ms, o.eval_count) for o in rows
    )
    assert accepted == len(rows)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10)), min_size=1, max_size=10))
@settings(max_examples=15)
def test_numbered_rows_are_stored_once_however_far_back_a_sender_begins_again(
    tmp_path_factory: Any, steps: list[tuple[int, int]]
) -> None:
    async def run() -> tuple[int, list[float]]:
        path = tmp_path_factory.mktemp("numbered") / "llmscope.db"
        reached = 0
        async with opened(path, lambda: BASE_US) as (store, ingest, _hub):
            for back, number in steps:
                first = max(0, reached - back)
                batch = [
                    Observation(provider="p", model="m", latency_ms=float(i))
                    for i in range(first, first + number)
                ]
                await ingest.accept(batch, "sender", first)
                reached = max(reached, first + number)
            kept = store.read().execute("SELECT latency_ms FROM telemetry ORDER BY id").fetchall()
        return reached, [latency for (latency,) in kept]

    reached, kept = asyncio.run(run())

    assert kept == [float(i) for i in range(reached)]


async def test_repeats_change_nothing_of_what_is_found(tmp_path: Path) -> None:
    rows = history(30)
    rng = random.Random(5)
    found = []
    for name in ("plain", "repeated"):
        async with served(tmp_path / name / "llmscope.db") as here:
            at = 0
            while at < len(rows):
                back = rng.randint(0, 40) if name == "repeated" else 0
                number = rng.randint(1, 120)
                await here.post(rows[max(0, at - back) : at + number])
                at += number
            log = (await here.get("/api/violations", limit=1000))["violations"]
            found.append([v | {"id": 0, "series": None} for v in log])

    assert found[0] == found[1]
    assert len(found[0]) > 5


async def test_rows_that_come_late_are_told_in_order_of_time_and_none_is_lost(tmp_path: Path) -> None:
    rows = history(10)
    shuffled = random.Random(7).sample(rows, len(rows))
    windows = []
    for name, sent in (("in order", rows), ("shuffled", shuffled)):
        async with served(tmp_path / name / "llmscope.db") as here:
            for first in range(0, len(sent), 7):
                await here.post(sent[first : first + 7])
            windows.append(await here.get("/api/stats/spc", hours=1))

    for key in ("timestamps", "values", "oks"):
        assert windows[0][key] == windows[1][key]
    assert len(windows[0]["values"]) == len(rows)


def test_a_row_says_all_that_tells_it_from_another() -> None:
    names = set(Observation.__struct_fields__)

    assert {"provider", "model", "server", "source", "timestamp"} < names
    assert msgspec.json.decode(b'{"provider":"p","model":"m"}', type=Observation).timestamp is None
