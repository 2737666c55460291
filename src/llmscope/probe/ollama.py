"""Ollama's own protocol: one streamed `POST /api/generate`, its answer one JSON object a line.

The probe must not change the server for its users: it asks `/api/ps` first and sends the context length that
the model is loaded with, because any other would reload it, twice; and it never sends `keep_alive`.
"""

from dataclasses import dataclass
from typing import Any

import aiohttp

from llmscope.observation import Observation
from llmscope.probe.exchange import (
    Exchange,
    Lines,
    ProbeFailed,
    ask,
    count,
    duration_ms,
    entries,
    error_in,
    json_object,
)
from llmscope.probe.instants import Clock, Instants
from llmscope.probe.prompt import fresh
from llmscope.probe.target import Target

NS_PER_MS = 1e6
SEED = 7  # any, but always the same
OWN_ENDPOINTS_MISSING = (404, 405)  # a gateway that only knows /api/generate, or a very old server


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in the server's memory, and its context length where the server tells it."""

    context_length: int | None


async def probe(target: Target, http: aiohttp.ClientSession, clock: Clock) -> Observation | None:
    """Measure one answer; None when the target is to be probed only while it is loaded, and is not."""
    exchange = Exchange(target, http, clock)
    try:
        loaded = await find_loaded(target, http)
        if loaded is None and target.when == "loaded":
            return None
        body = request(target, loaded)
        async with exchange.post(f"{target.base_url}/api/generate", body) as lines:
            last = await last_line(lines, exchange)
    except ProbeFailed as failure:
        return exchange.failed(failure)
    return exchange.observed(**numbers(last))


async def find_loaded(target: Target, http: aiohttp.ClientSession) -> Loaded | None:
    """The target's model in `/api/ps`, None when it is not there; raises ProbeFailed.

    A server without `/api/ps` is taken to have nothing loaded: no context length is sent to it. Any other
    failure is the observation: the server is away or unwell, and a request in the dark could do harm.
    """
    try:
        document = await ask(http, f"{target.base_url}/api/ps", target.headers)
    except ProbeFailed as failure:
        if failure.status in OWN_ENDPOINTS_MISSING and target.when == "always":
            return None
        raise
    wanted = full_name(target.model)
    for entry in entries(document, "models"):
        if wanted in (full_name(str(entry.get("name"))), full_name(str(entry.get("model")))):
            return Loaded(count(entry.get("context_length")) or None)
    return None


def full_name(model: str) -> str:
    """The name with its tag, as Ollama compares it.

    >>> full_name("Llama3"), full_name("hf.co/some/model:Q4_K_M")
    ('llama3:latest', 'hf.co/some/model:q4_k_m')
    """
    name = model.casefold()
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def request(target: Target, loaded: Loaded | None) -> dict[str, Any]:
    """The body that is sent: nothing in it may reload the model or move its expiry."""
    options: dict[str, Any] = {"num_predict": target.num_predict, "temperature": 0, "seed": SEED}
    if loaded is not None and loaded.context_length is not None:
        options["num_ctx"] = loaded.context_length
    return {"model": target.model, "prompt": fresh(target.prompt), "stream": True, "options": options}


async def last_line(lines: Lines, exchange: Exchange) -> dict[str, Any]:
    """Read the answer up to the line that ends it, noting when content came; raises ProbeFailed."""
    async for line, is_whole in lines:
        if not line.strip():
            continue
        document = json_object(line, is_whole)
        if (error := error_in(document)) is not None:  # after a 200 that cannot be taken back
            raise ProbeFailed("server_error", error)
        _mark(document, exchange.instants)
        if document.get("done") is True:
            return document
    raise ProbeFailed("truncated", 'the answer ended without its last line ("done": true)')


def _mark(document: dict[str, Any], instants: Instants) -> None:
    """Thinking counts as content: it is the first thing that the model says."""
    message = document.get("message")
    inner = message if isinstance(message, dict) else {}
    if (
        document.get("response")
        or document.get("thinking")
        or inner.get("content")
        or inner.get("thinking")
        or inner.get("tool_calls")
    ):
        instants.mark_piece()


def numbers(last: dict[str, Any]) -> dict[str, float | int | None]:
    """The server's own numbers; Ollama leaves out those that are 0, and absent is None."""
    return {
        "total_duration_ms": duration_ms(last.get("total_duration"), NS_PER_MS),
        "load_duration_ms": duration_ms(last.get("load_duration"), NS_PER_MS),
        "prompt_eval_duration_ms": duration_ms(last.get("prompt_eval_duration"), NS_PER_MS),
        "eval_duration_ms": duration_ms(last.get("eval_duration"), NS_PER_MS),
        "prompt_eval_count": count(last.get("prompt_eval_count")),
        "eval_count": count(last.get("eval_count")),
    }
