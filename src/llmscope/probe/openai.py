"""The OpenAI-compatible protocol: one streamed `POST /v1/chat/completions`, answered in server-sent events.

Tokens are what the server says they are, never the number of chunks. llama.cpp adds `timings`; its `prompt_n`
leaves out what came from the cache, as `prompt_ms` does, and is taken instead of the count in the usage.
"""

from dataclasses import dataclass, field
from typing import Any

import aiohttp

from llmscope.observation import Observation
from llmscope.probe.exchange import Exchange, Lines, ProbeFailed, count, duration_ms, error_in, json_object
from llmscope.probe.instants import Clock
from llmscope.probe.prompt import fresh
from llmscope.probe.target import Quirks, Target, split_url

CONTENT = ("content", "reasoning", "reasoning_content", "refusal", "tool_calls")
NOT_ACCEPTED = (400, 422)


@dataclass(slots=True)
class Answer:
    """What the chunks of one answer said."""

    usage: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)
    has_finished: bool = False
    has_content: bool = False


async def probe(target: Target, http: aiohttp.ClientSession, clock: Clock) -> Observation | None:
    """Measure one answer. A first request that the server refuses for what it carries is not measured."""
    while True:
        exchange = Exchange(target, http, clock)
        try:
            async with exchange.post(
                f"{api_root(target.base_url)}/chat/completions", request(target)
            ) as lines:
                answer = await read(lines, exchange)
        except ProbeFailed as failure:
            if learnt(target.quirks, failure):
                continue
            return exchange.failed(failure)
        return exchange.observed(**numbers(answer))


def api_root(base_url: str) -> str:
    """Where the API begins: `/v1` unless the address names a path of its own.

    >>> api_root("http://localhost:8080"), api_root("https://llm.example/openai/v1")
    ('http://localhost:8080/v1', 'https://llm.example/openai/v1')
    """
    base_url = base_url.rstrip("/")
    return base_url if split_url(base_url).path else f"{base_url}/v1"


def request(target: Target) -> dict[str, Any]:
    """The body that is sent, less what this server was found not to accept."""
    quirks = target.quirks
    bound = "max_completion_tokens" if quirks.max_completion_tokens else "max_tokens"
    body: dict[str, Any] = {
        "model": target.model,
        "messages": [{"role": "user", "content": fresh(target.prompt)}],
        "stream": True,
        bound: target.num_predict,
    }
    if not quirks.no_temperature:
        body["temperature"] = 0
    if not quirks.no_stream_options:
        body["stream_options"] = {"include_usage": True}
    return body


def learnt(quirks: Quirks, failure: ProbeFailed) -> bool:
    """Whether the refusal names a field that can be left out or renamed; it is remembered."""
    if failure.status not in NOT_ACCEPTED:
        return False
    for words, name in (
        (("stream_options", "include_usage"), "no_stream_options"),
        (("max_completion_tokens",), "max_completion_tokens"),
        (("temperature",), "no_temperature"),
    ):
        if any(word in failure.message for word in words) and not getattr(quirks, name):
            setattr(quirks, name, True)
            return True
    return False


async def read(lines: Lines, exchange: Exchange) -> Answer:
    """Read the events of the answer, noting when content came; raises ProbeFailed.

    Whole is an answer that was ended by `[DONE]`, or by a finish_reason where the server sends no `[DONE]`.
    A stream that says neither, or says `[DONE]` after nothing at all, belongs to a runner that died.
    """
    answer = Answer()
    is_done = False
    async for line, is_whole in lines:
        name, _, data = line.strip().partition(b":")
        data = data.strip()
        if name == b"data" and data == b"[DONE]":
            is_done = True
            break
        if name in (b"data", b"error") and data:
            chunk = json_object(data, is_whole)
            if name == b"error" or chunk.get("error") is not None:
                raise ProbeFailed("server_error", error_in(chunk) or str(chunk.get("message") or "error"))
            _take(chunk, answer, exchange)
        elif name not in (b"", b"event", b"id", b"retry", b"data", b"error"):
            _not_an_event(line, is_whole)
    if answer.has_finished or (is_done and answer.has_content):
        return answer
    raise ProbeFailed(
        "truncated", "the stream ended without a finish_reason" + (" or [DONE]" * (not is_done))
    )


def _not_an_event(line: bytes, is_whole: bool) -> None:
    """A server that ignores `stream` answers one JSON object; an error may be in it."""
    if (error := error_in(json_object(line, is_whole))) is not None:
        raise ProbeFailed("server_error", error)
    raise ProbeFailed("bad_response", "the answer is not a stream of server-sent events")


def _take(chunk: dict[str, Any], answer: Answer, exchange: Exchange) -> None:
    """Note what one chunk says. The chunk with the usage has no choices; others have `usage: null`."""
    for name in ("usage", "timings"):
        if isinstance(chunk.get(name), dict):
            setattr(answer, name, chunk[name])
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return
    delta = choices[0].get("delta")
    if isinstance(delta, dict) and any(delta.get(key) for key in CONTENT):
        answer.has_content = True
        exchange.instants.mark_piece()
    if choices[0].get("finish_reason"):
        answer.has_finished = True


def numbers(answer: Answer) -> dict[str, float | int | None]:
    """The server's own numbers; None for what it does not say."""
    usage, timings = answer.usage, answer.timings
    prompt_count = count(timings.get("prompt_n"))
    eval_count = count(usage.get("completion_tokens"))
    return {
        "prompt_eval_duration_ms": duration_ms(timings.get("prompt_ms")),
        "eval_duration_ms": duration_ms(timings.get("predicted_ms")),
        "prompt_eval_count": count(usage.get("prompt_tokens")) if prompt_count is None else prompt_count,
        "eval_count": count(timings.get("predicted_n")) if eval_count is None else eval_count,
    }
