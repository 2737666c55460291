"""Where the time goes: load, queue, prefill, decode, and what a request does to the model in memory."""

import asyncio
import contextlib
import datetime as dt
import itertools
import json
import math
import random
import statistics
import time
from typing import Any

import aiohttp
import pytest
from tests.simulator.running import LOAD_MS, TINY, LeapingClock, ask, loaded, session, simulated

from llmscope.simulator.model import AR_PHI, LOG_SD, Pace

LONG = " ".join(f"{n:04d}" for n in range(200))  # 200 tokens: 100 ms of prefill


async def test_the_durations_add_up_and_agree_with_the_clients_clock() -> None:
    async with simulated() as simulator, session(simulator) as http:
        cold = await ask(http, LONG, num_predict=20)
        warm = await ask(http, "other " + LONG, num_predict=20)

    for answer in (cold, warm):
        parts_ms = answer.load_ms + answer.prompt_ms + answer.eval_ms
        assert parts_ms <= answer.total_ms <= answer.wall_ms
        assert answer.prompt_ms > 50.0
        assert answer.eval_ms > 20.0
    assert cold.load_ms > LOAD_MS / 2
    assert 0.0 < warm.load_ms < cold.load_ms / 2  # never exactly 0


async def test_a_stream_tells_the_same_as_the_clients_clock() -> None:
    lines: list[bytes] = []
    came_at: list[float] = []
    async with simulated() as simulator, session(simulator) as http:
        await ask(http)
        began = time.monotonic()
        body = {"model": "tiny", "prompt": "x", "options": {"num_predict": 20, "temperature": 0}}
        async with http.post("/api/generate", json=body) as response:
            async for line in response.content:
                lines.append(line)
                came_at.append((time.monotonic() - began) * 1000.0)
    last = json.loads(lines[-1])

    assert len(came_at) == 20 + 1
    assert last["eval_count"] == 20
    assert came_at[0] < 0.9 * came_at[-1]  # the tokens came one after another, not all at the end
    assert last["total_duration"] / 1e6 <= came_at[-1]


async def test_the_wait_for_a_slot_is_in_the_total_only() -> None:
    async with simulated() as simulator, session(simulator) as http:
        await ask(http)
        answers = await asyncio.gather(*(ask(http, f"{n}", num_predict=20) for n in range(5)))

    by_wait = sorted(answers, key=lambda answer: answer.queue_ms)
    for before, after in itertools.pairwise(by_wait):
        # each waits for the whole work of those before it
        assert after.queue_ms > before.queue_ms + 0.8 * (before.prompt_ms + before.eval_ms)
    assert by_wait[-1].load_ms < by_wait[-1].queue_ms / 3


async def test_slots_are_given_first_come_first_served() -> None:
    done: list[int] = []

    async def one(n: int) -> None:
        await asyncio.sleep(0.01 * n)
        await ask(http, f"{n}", num_predict=25)
        done.append(n)

    async with simulated() as simulator, session(simulator) as http:
        await ask(http)
        await asyncio.gather(*(one(n) for n in range(4)))

    assert done == [0, 1, 2, 3]


async def test_two_at_a_time_each_decode_slower_than_one_alone() -> None:
    async with simulated(num_parallel=2) as simulator, session(simulator) as http:
        await ask(http)
        alone = await ask(http, "a", num_predict=28)
        both = await asyncio.gather(*(ask(http, f"{n}", num_predict=28) for n in range(2)))

    # a second slot costs 90 %: 1.9 times as slow as alone, less where they do not overlap
    assert min(answer.eval_ms for answer in both) > 1.3 * alone.eval_ms
    assert max(answer.queue_ms for answer in both) < alone.eval_ms


async def test_two_models_do_not_wait_for_each_others_slot() -> None:
    async with simulated() as simulator, session(simulator) as http:
        await ask(http, model="tiny", num_predict=1)
        await ask(http, model="slow", num_predict=1)
        slow, tiny = await asyncio.gather(
            ask(http, model="slow", num_predict=3), ask(http, model="tiny", num_predict=2)
        )

    assert tiny.total_ms < slow.total_ms / 2


async def test_a_prompt_that_was_just_read_is_not_read_again_but_counts() -> None:
    async with simulated() as simulator, session(simulator) as http:
        first, again, other = [await ask(http, prompt) for prompt in (LONG, LONG, "nonce " + LONG)]

    assert again.prompt_ms < first.prompt_ms / 3
    assert other.prompt_ms > first.prompt_ms / 2
    assert first.document["prompt_eval_count"] == again.document["prompt_eval_count"]


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_client_that_hangs_up_frees_the_slot_at_once(is_stream: bool) -> None:
    async with simulated() as simulator, session(simulator) as http:
        await ask(http, model="slow", num_predict=1)
        with contextlib.suppress(TimeoutError):
            async with http.post(
                "/api/generate",
                json={"model": "slow", "prompt": "y", "stream": is_stream},  # would take 3 s
                timeout=aiohttp.ClientTimeout(total=0.2),
            ) as response:
                await response.read()
        after = await ask(http, model="slow", num_predict=1)

    assert after.queue_ms < 1000.0


async def test_another_num_ctx_reloads_and_so_does_none_after_it() -> None:
    async with simulated() as simulator, session(simulator) as http:
        asked = (None, 4096, None, 1024, 1024, None)  # 4096 is what a request without num_ctx gets
        answers = [await ask(http, options={"num_ctx": n} if n else {}) for n in asked]
        context_length = (await loaded(http))[0]["context_length"]

    assert [answer.load_ms > LOAD_MS / 2 for answer in answers] == [True, False, False, True, False, True]
    assert context_length == 4096


async def test_a_reload_waits_for_the_answer_that_is_being_made() -> None:
    async with simulated() as simulator, session(simulator) as http:
        await ask(http, model="slow", num_predict=1)
        running = asyncio.create_task(ask(http, model="slow", num_predict=3))
        await asyncio.sleep(0.05)
        reloaded = await ask(http, model="slow", num_predict=1, options={"num_ctx": 512})
        finished = await running

    assert finished.status == 200
    assert reloaded.load_ms > LOAD_MS / 2 + finished.eval_ms / 2  # the wait counts as load


async def test_where_only_one_model_fits_loading_waits_for_the_other_to_finish() -> None:
    async with simulated(max_loaded=1) as simulator, session(simulator) as http:
        await ask(http, model="slow", num_predict=1)
        running = asyncio.create_task(ask(http, model="slow", num_predict=3))
        await asyncio.sleep(0.05)
        other = await ask(http, model="tiny")
        finished = await running
        names = [model["name"] for model in await loaded(http)]

    assert other.load_ms > LOAD_MS / 2 + finished.eval_ms / 2
    assert names == ["tiny:latest"]


def seconds_left(model: dict[str, str]) -> float:
    return (dt.datetime.fromisoformat(model["expires_at"]) - dt.datetime.now(dt.UTC)).total_seconds()


@pytest.mark.parametrize(
    ("keep_alive", "expected_s"),
    [(None, 300.0), ("30s", 30.0), (10, 10.0), ("24h", 86_400.0), ("1m30s", 90.0)],
)
async def test_a_model_stays_as_long_as_it_was_asked_to(
    keep_alive: str | int | None, expected_s: float
) -> None:
    fields: dict[str, Any] = {} if keep_alive is None else {"keep_alive": keep_alive}

    async with simulated(speed=10.0) as simulator, session(simulator) as http:
        await ask(http, **fields)
        left_s = seconds_left((await loaded(http))[0])

    assert expected_s - 9.0 < left_s <= expected_s


@pytest.mark.parametrize("keep_alive", [-1, "-1m"])
async def test_a_negative_keep_alive_is_for_ever(keep_alive: str | int) -> None:
    async with simulated(speed=10.0) as simulator, session(simulator) as http:
        await ask(http, keep_alive=keep_alive)
        expires_at = (await loaded(http))[0]["expires_at"]

    year = dt.datetime.now(dt.UTC).year
    assert expires_at.startswith((f"{year + 292}-", f"{year + 293}-"))  # 2^63 ns from now


async def test_keep_alive_0_unloads_after_the_answer() -> None:
    async with simulated(speed=10.0) as simulator, session(simulator) as http:
        answer = await ask(http, keep_alive=0)
        after = await loaded(http)

    assert answer.document["done_reason"] == "length"
    assert after == []


async def test_every_request_renews_the_time_and_looking_does_not() -> None:
    clock = LeapingClock()
    async with simulated(monotonic=clock) as simulator, session(simulator) as http:
        await ask(http, keep_alive="30s")
        clock.ahead_s += 20.0
        renewed = await ask(http)  # keeps the 30 s of the request before: it named none itself
        clock.ahead_s += 20.0
        seen = [model["name"] for model in await loaded(http)]
        clock.ahead_s += 15.0
        gone = await loaded(http)
        again = await ask(http)

    assert renewed.load_ms < LOAD_MS / 2
    assert seen == ["tiny:latest"]
    assert gone == []
    assert again.load_ms > LOAD_MS / 2


async def test_num_predict_bounds_the_answer_and_0_does_not() -> None:
    async with simulated(speed=10.0) as simulator, session(simulator) as http:
        seen = [(await ask(http, num_predict=n)).document for n in (0, -1, 1000, 29, 5, 1)]

    counts = [(document["eval_count"], document["done_reason"]) for document in seen]
    # the whole answer has 29 words and the end token, which counts
    assert counts == [(30, "stop")] * 3 + [(29, "length"), (5, "length"), (1, "length")]
    assert [len(document["response"].split()) for document in seen] == [29, 29, 29, 29, 5, 1]


async def test_context_holds_the_prompt_and_what_was_shown() -> None:
    async with simulated(speed=10.0) as simulator, session(simulator) as http:
        document = (await ask(http, num_predict=0)).document

    assert len(document["context"]) == document["prompt_eval_count"] - 1 + document["eval_count"] - 1


async def test_only_at_temperature_0_are_answers_always_of_one_length() -> None:
    async with simulated(speed=50.0) as simulator, session(simulator) as http:
        cold = {(await ask(http, num_predict=0)).document["response"] for _ in range(6)}
        warm = {
            (await ask(http, num_predict=0, options={"temperature": 0.8})).document["response"]
            for _ in range(20)
        }

    assert len(cold) == 1
    assert len(warm) > 1


async def test_one_seed_tells_the_same_story() -> None:
    async def paces(seed: int) -> list[float]:
        async with simulated(seed=seed) as simulator:
            return [simulator._machine.job(TINY, "x", {}, None).pace for _ in range(5)]

    assert await paces(3) == await paces(3)
    assert await paces(3) != await paces(4)


def test_paces_are_lognormal_and_remember_the_one_before() -> None:
    pace = Pace(random.Random(1))
    logs = [math.log(pace.next_request()) for _ in range(20_000)]

    assert statistics.pstdev(logs) == pytest.approx(LOG_SD, rel=0.05)
    assert statistics.correlation(logs[:-1], logs[1:]) == pytest.approx(AR_PHI, abs=0.03)
    assert statistics.fmean(logs) == pytest.approx(0.0, abs=0.003)
