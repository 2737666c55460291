"""The probe against the simulated Ollama: both must understand the protocol in the same way."""

import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from llmscope.observation import Measured, queue_ms
from llmscope.probe import SystemClock, Target, find_target, open_session, probe
from llmscope.simulator import Effect, Incident, Scenario, Simulator

CLOCK = SystemClock()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


@contextlib.asynccontextmanager
async def simulated(*effects: Effect) -> AsyncIterator[Simulator]:
    """A simulator in which the effects last for ever, twenty times as fast as life."""
    incidents = tuple(Incident("always", 0.0, 1e9, effect) for effect in effects)
    simulator = Simulator(Scenario("test", incidents), speed=20.0)
    await simulator.start()
    try:
        yield simulator
    finally:
        await simulator.stop()


async def test_a_cold_start_then_a_warm_answer(http: aiohttp.ClientSession) -> None:
    async with simulated() as simulator:
        target = await find_target(
            simulator.url, http, source="simulator", server="simulator", num_predict=16
        )
        cold = await probe(target, http, CLOCK)
        warm = await probe(target, http, CLOCK)

    assert (target.provider, target.server, target.source) == ("ollama", "simulator", "simulator")
    assert cold is not None
    assert warm is not None
    assert cold.ok, cold.error
    assert warm.ok, warm.error
    assert cold.load_duration_ms is not None
    assert warm.load_duration_ms is not None
    assert cold.load_duration_ms > 10 * warm.load_duration_ms  # the probe's num_ctx has not reloaded it
    assert warm.eval_count is not None
    assert 0 < warm.eval_count <= 16
    assert warm.prompt_eval_count is not None
    assert warm.ttft_ms is not None
    assert warm.latency_ms is not None
    assert 0 < warm.ttft_ms < warm.latency_ms


async def test_a_queue_is_in_the_queue_time(http: aiohttp.ClientSession) -> None:
    async with simulated(Effect(queue_ms=3000.0)) as simulator:
        target = await find_target(simulator.url, http, num_predict=4)
        await probe(target, http, CLOCK)
        seen = await probe(target, http, CLOCK)

    assert seen is not None
    waited_ms = queue_ms(
        Measured(
            total_ms=seen.total_duration_ms,
            load_ms=seen.load_duration_ms,
            prompt_ms=seen.prompt_eval_duration_ms,
            eval_ms=seen.eval_duration_ms,
        )
    )
    assert waited_ms is not None
    assert waited_ms > 50.0


async def test_an_unloaded_model_is_left_unloaded(http: aiohttp.ClientSession) -> None:
    async with simulated() as simulator:
        found = await find_target(simulator.url, http, num_predict=4)
        careful = Target(
            provider="ollama", base_url=simulator.url, model=found.model, when="loaded", num_predict=4
        )
        before = await probe(careful, http, CLOCK)
        still = await probe(careful, http, CLOCK)
        await probe(found, http, CLOCK)
        after = await probe(careful, http, CLOCK)

    assert before is None
    assert still is None
    assert after is not None
    assert after.ok


@pytest.mark.parametrize("path", ["", "/v1"])
async def test_a_model_that_is_not_there_is_http_404(http: aiohttp.ClientSession, path: str) -> None:
    async with simulated() as simulator:
        target = await find_target(simulator.url + path, http, model="nobody")
        seen = await probe(target, http, CLOCK)

    assert seen is not None
    assert seen.error_kind == "http_404"
    assert seen.error is not None
    assert "nobody" in seen.error


async def test_the_openai_path_counts_tokens_and_has_no_server_times(http: aiohttp.ClientSession) -> None:
    async with simulated() as simulator:
        target = await find_target(f"{simulator.url}/v1", http, num_predict=8)
        seen = await probe(target, http, CLOCK)

    assert target.provider == "openai"
    assert seen is not None
    assert seen.ok, seen.error
    assert seen.eval_count is not None
    assert seen.ttft_ms is not None
    assert seen.eval_duration_ms is None
