"""The probe and the monitor against a real llama.cpp server, behind a network that breaks on demand."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.llm.fault_proxy import Faults, faulty
from tests.llm.server import LlamaServer

from llmscope.probe import SystemClock, Target, detect, find_target, open_session, probe

CLOCK = SystemClock()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


async def test_a_real_answer_is_measured_throughout(
    http: aiohttp.ClientSession, llama_server: LlamaServer
) -> None:
    target = await find_target(llama_server.url, http, num_predict=24)
    seen = await probe(target, http, CLOCK)

    assert target.provider == "openai"
    assert target.model == "tiny.gguf"
    assert seen is not None
    assert seen.ok, seen.error
    assert seen.eval_count == 24  # this model never stops by itself
    assert seen.eval_duration_ms is not None
    assert seen.prompt_eval_duration_ms is not None
    assert seen.prompt_eval_count is not None
    assert seen.ttft_ms is not None
    assert seen.latency_ms is not None
    assert seen.prompt_eval_duration_ms < seen.ttft_ms <= seen.latency_ms
    assert seen.gap_mean_ms is not None
    assert seen.gap_max_ms is not None
    assert seen.gap_mean_ms <= seen.gap_max_ms


async def test_no_prompt_is_answered_from_the_cache(
    http: aiohttp.ClientSession, llama_server: LlamaServer
) -> None:
    target = await find_target(llama_server.url, http, num_predict=2)
    counts = [seen.prompt_eval_count for _ in range(6) if (seen := await probe(target, http, CLOCK))]

    # all but the template's head, which stands before the nonce, and a digit or two that chance repeats
    assert all(count is not None and count >= 40 for count in counts), counts


async def test_the_protocol_of_a_bare_address_is_found(
    http: aiohttp.ClientSession, llama_server: LlamaServer
) -> None:
    assert await detect(llama_server.url.removesuffix("/v1"), http) == "openai"


async def test_a_killed_server_is_refused_and_a_new_one_answers(
    http: aiohttp.ClientSession, llama_server: LlamaServer
) -> None:
    target = await find_target(llama_server.url, http)
    before = await probe(target, http, CLOCK)
    await asyncio.to_thread(llama_server.kill)
    gone = await probe(target, http, CLOCK)
    await asyncio.to_thread(llama_server.start)
    after = await probe(target, http, CLOCK)

    assert [seen and seen.error_kind for seen in (before, gone, after)] == [None, "refused", None]
    assert gone is not None
    assert gone.latency_ms is None


async def test_a_server_killed_in_the_middle_of_an_answer_leaves_it_truncated(
    http: aiohttp.ClientSession, llama_server: LlamaServer
) -> None:
    target = Target(provider="openai", base_url=llama_server.url, model="tiny", num_predict=3000)
    probing = asyncio.create_task(probe(target, http, CLOCK))
    await asyncio.to_thread(llama_server.wait_until_busy)
    await asyncio.to_thread(llama_server.kill)
    seen = await probing

    assert seen is not None
    assert (seen.ok, seen.error_kind, seen.latency_ms) == (False, "truncated", None)


FAULTS = {
    "truncated": Faults(close_after_bytes=700),
    "reset": Faults(reset_after_bytes=700),
    "refusing": Faults(is_refusing=True),
    "silent": Faults(is_silent=True),
}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("truncated", "truncated"), ("reset", "truncated"), ("refusing", "truncated"), ("silent", "timeout")],
)
async def test_a_bad_network_is_named(
    http: aiohttp.ClientSession, llama_server: LlamaServer, fault: str, kind: str
) -> None:
    async with faulty(llama_server.port) as proxy:
        proxy.faults = FAULTS[fault]
        url = f"http://127.0.0.1:{proxy.port}/v1"
        timeout_s = 0.5 if kind == "timeout" else 20.0
        target = Target(provider="openai", base_url=url, model="tiny", num_predict=50, timeout_s=timeout_s)
        seen = await probe(target, http, CLOCK)

    assert seen is not None
    assert (seen.ok, seen.error_kind, seen.latency_ms) == (False, kind, None)


async def test_a_delay_before_the_first_byte_is_in_the_ttft(
    http: aiohttp.ClientSession, llama_server: LlamaServer
) -> None:
    async with faulty(llama_server.port) as proxy:
        target = Target(provider="openai", base_url=f"http://127.0.0.1:{proxy.port}/v1", model="tiny")
        proxy.faults = Faults(first_byte_ms=200.0)
        slow = await probe(target, http, CLOCK)

    assert slow is not None
    assert slow.ttft_ms is not None
    assert slow.ttft_ms >= 200.0
