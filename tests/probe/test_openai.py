"""The OpenAI-compatible protocol: what is measured, what is sent, and what breaks it."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.probe.replay import Reply, recorded, replaying

from llmscope.observation import Observation
from llmscope.probe import SystemClock, Target, open_session, probe

CLOCK = SystemClock()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


def target(url: str, **changes: Any) -> Target:
    fields: dict[str, Any] = {
        "provider": "openai",
        "base_url": f"{url}/v1",
        "model": "tiny",
        "timeout_s": 5.0,
    }
    return Target(**fields | changes)


def stream(name: str, **changes: Any) -> Reply:
    return Reply(**{"pieces": [recorded(f"openai/{name}")], "kind": "text/event-stream"} | changes)


async def observe(http: aiohttp.ClientSession, *replies: Reply) -> Observation:
    async with replaying(chat=list(replies)) as server:
        observation = await probe(target(server.url), http, CLOCK)
    assert observation is not None
    return observation


async def test_llamacpp_tells_its_own_times(http: aiohttp.ClientSession) -> None:
    seen = await observe(http, stream("llamacpp-usage-and-timings.sse"))

    assert seen.ok
    assert seen.eval_count == 4
    assert seen.eval_duration_ms is not None
    assert seen.eval_duration_ms > 0
    assert seen.prompt_eval_duration_ms is not None
    assert seen.prompt_eval_count is not None
    assert seen.prompt_eval_count > 30
    assert seen.total_duration_ms is None  # not told, so not known
    assert seen.load_duration_ms is None


async def test_the_prompt_count_is_that_of_the_prompt_time(http: aiohttp.ClientSession) -> None:
    # 54 tokens, of which 53 came from the cache: the 0.212 ms are those of the one
    seen = await observe(http, stream("llamacpp-timings-without-usage.sse"))

    assert (seen.prompt_eval_count, seen.prompt_eval_duration_ms) == (1, 0.212)
    assert (seen.eval_count, seen.eval_duration_ms) == (4, 0.697)


@pytest.mark.parametrize(
    ("name", "eval_count"),
    [
        ("ollama-usage-chunk-without-choices.sse", 3),
        ("usage-null-until-the-last.sse", 3),
        ("several-tokens-a-chunk.sse", 5),  # one chunk, five tokens
        ("no-done.sse", None),  # three chunks, and nobody says how many tokens
        ("reasoning-first.sse", None),
        ("done-without-finish-reason.sse", None),
        ("comments-and-fields.sse", 3),
    ],
)
async def test_answers_that_are_whole(http: aiohttp.ClientSession, name: str, eval_count: int | None) -> None:
    seen = await observe(http, stream(name))

    assert seen.ok, seen.error
    assert seen.eval_count == eval_count
    assert seen.eval_duration_ms is None
    assert seen.latency_ms is not None
    assert seen.ttft_ms is not None
    assert seen.ttft_ms <= seen.latency_ms


@pytest.mark.parametrize("cut", [1, 13])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
async def test_events_may_be_cut_anywhere(http: aiohttp.ClientSession, newline: bytes, cut: int) -> None:
    whole = recorded("openai/comments-and-fields.sse").replace(b"\n", newline)
    pieces = [whole[i : i + cut] for i in range(0, len(whole), cut)]

    seen = await observe(http, stream("no-done.sse", pieces=pieces))

    assert seen.ok, seen.error
    assert seen.eval_count == 3


async def test_reasoning_is_the_first_token_and_the_role_is_not(http: aiohttp.ClientSession) -> None:
    role, thought, *rest = recorded("openai/reasoning-first.sse").split(b"\n\n")
    pieces = [role + b"\n\n", thought + b"\n\n", b"\n\n".join(rest)]

    seen = await observe(http, stream("no-done.sse", pieces=pieces, pause_s=0.05))

    assert seen.ttft_ms is not None
    assert seen.latency_ms is not None
    assert seen.ttft_ms >= 49
    assert seen.latency_ms - seen.ttft_ms >= 49


CUT = recorded("openai/no-finish-no-done.sse")
TRAPS = {
    "neither finish nor done": (stream("no-finish-no-done.sse"), "truncated", "without a finish_reason"),
    "runner killed": (stream("runner-killed.sse"), "truncated", "without a finish_reason"),
    "done after nothing": (stream("done-after-nothing.sse"), "truncated", "without a finish_reason"),
    "half a chunk": (stream("half-chunk.sse"), "truncated", "middle of a line"),
    "closed": (stream("no-done.sse", pieces=[CUT], ending="closed"), "truncated", "closed the connection"),
    "empty": (stream("no-done.sse", pieces=[]), "truncated", "without a finish_reason"),
    "error in the stream": (stream("error-in-stream.sse"), "server_error", "the engine is dead"),
    "error event": (stream("error-event.sse"), "server_error", "context shift failed"),
    "one object": (stream("not-a-stream.json"), "bad_response", "not a stream"),
    "error object": (Reply([b'{"error":{"message":"no GPU"}}']), "server_error", "no GPU"),
    "a page": (Reply([b"<html>\n<p>Sign in\n"]), "bad_response", "not JSON"),
    "wrong key": (Reply([b'{"error":{"message":"wrong key"}}'], 401), "server_error", "wrong key"),
    "loading": (Reply([b'{"error":{"message":"Loading model","code":503}}'], 503), "busy", "Loading model"),
    "too many": (Reply([b'{"error":{"message":"rate limit"}}'], 429), "busy", "rate limit"),
    "missing": (Reply([b'{"error":{"message":"no model tiny"}}'], 404), "http_404", "no model tiny"),
    "bad request": (Reply([b'{"detail":"no such thing"}'], 400), "server_error", "HTTP 400"),
    "silence": (stream("no-done.sse", pieces=[CUT], ending="silent"), "timeout", "no complete answer"),
}


@pytest.mark.parametrize("trap", TRAPS)
async def test_a_failure_is_an_observation_with_its_kind(http: aiohttp.ClientSession, trap: str) -> None:
    reply, kind, words = TRAPS[trap]

    async with replaying(chat=reply) as server:
        timeout_s = 0.2 if kind == "timeout" else 5.0
        seen = await probe(target(server.url, timeout_s=timeout_s), http, CLOCK)

    assert seen is not None
    assert (seen.ok, seen.error_kind, seen.latency_ms, seen.ttft_ms) == (False, kind, None, None)
    assert seen.error is not None
    assert words in seen.error


async def test_what_is_sent(http: aiohttp.ClientSession) -> None:
    async with replaying(chat=stream("no-done.sse")) as server:
        await probe(target(server.url, api_key="hunter2", num_predict=16), http, CLOCK)
        (asked,) = server.posts()

    content = asked.body["messages"][0].pop("content")
    assert content.endswith("\nWrite one sentence about the ocean.")
    assert asked.headers["authorization"] == "Bearer hunter2"
    assert asked.body == {
        "model": "tiny",
        "messages": [{"role": "user"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 16,
        "temperature": 0,
    }


async def test_a_server_without_stream_options_is_asked_once_without_and_then_always(
    http: aiohttp.ClientSession,
) -> None:
    refusal = Reply([b'{"error":{"message":"Unknown field: stream_options"}}'], 400, pause_s=0.2)
    async with replaying(chat=[refusal, stream("no-done.sse")]) as server:
        here = target(server.url)
        first = await probe(here, http, CLOCK)
        await probe(here, http, CLOCK)
        asked = ["stream_options" in request.body for request in server.posts()]

    assert asked == [True, False, False]
    assert first is not None
    assert first.ok
    assert first.latency_ms is not None
    assert first.latency_ms < 150  # the refusal took 200 ms, and is not part of it
    assert first.eval_count is None


async def test_other_names_and_limits_are_learnt_from_refusals(http: aiohttp.ClientSession) -> None:
    refusals = [
        b"Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        b"'temperature' does not support 0 with this model.",
    ]
    replies = [Reply([b'{"error":{"message":"%b"}}' % words], 400) for words in refusals]
    async with replaying(chat=[*replies, stream("no-done.sse")]) as server:
        seen = await probe(target(server.url), http, CLOCK)
        last = server.posts()[-1].body

    assert seen is not None
    assert seen.ok
    assert "max_tokens" not in last
    assert last["max_completion_tokens"] == 32
    assert "temperature" not in last


async def test_a_refusal_that_stays_is_an_observation(http: aiohttp.ClientSession) -> None:
    reply = Reply([b'{"error":{"message":"stream_options, temperature: no"}}'], 400)
    async with replaying(chat=reply) as server:
        seen = await probe(target(server.url), http, CLOCK)
        requests = len(server.posts())

    assert seen is not None
    assert seen.error_kind == "server_error"
    assert requests == 3  # each field is left out once, and that is all
