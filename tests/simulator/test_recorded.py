"""The simulator's answers against recorded ones: status, header fields, fields in their order, types, and the
words of errors."""

import asyncio
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.simulator.running import LOAD_MS, ask, session, simulated

from llmscope.simulator import Effect, Incident, Scenario, Simulator

RECORDED = Path(__file__).parent.parent / "data" / "ollama"
CRASHING = Incident("every answer crashes", 0.0, 1e9, Effect(crashed=True))
NEEDS_A_CRASH = {"error-line-after-200", "500-crash-when-not-streaming", "openai-stream-cut-by-a-crash"}
NEEDS_A_CROWD = {"503-busy-with-two-spaces"}
NEEDS_A_LOADED_MODEL = {"ps-loaded"}
SAID_LITERALLY = {
    "done", "done_reason", "error", "finish_reason", "format", "model", "name", "object", "owned_by", "role",
    "system_fingerprint", "type",
}  # fmt: skip
"""Fields that a client may compare with a word."""


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its answer."""

    method: str
    path: str
    sent: bytes
    status: int
    headers: dict[str, str]
    text: str


def read(name: str) -> Exchange:
    head, _, text = (RECORDED / f"{name}.http").read_text(encoding="utf-8").partition("\n\n")
    sent = [line[2:] for line in head.splitlines() if line.startswith("> ")]
    status, *headers = [line[2:] for line in head.splitlines() if line.startswith("< ")]
    method, path = sent[0].split()
    fields = dict(line.split(": ", 1) for line in headers)
    return Exchange(method, path, "".join(sent[1:]).encode(), int(status), fields, text)


def shape(value: Any, name: str = "") -> Any:
    """What must agree: fields in order, kinds of values, and words that clients compare.

    >>> shape({"done": True, "created_at": "2026-11-23T11:54:49.72Z", "context": [1, 2], "size": 3})
    [('done', True), ('created_at', 'a time'), ('context', ['int']), ('size', 'int')]
    """
    if isinstance(value, dict):
        return [(key, shape(child, key)) for key, child in value.items()]
    if isinstance(value, list):
        return [shape(child) for child in value[:1]]
    if name in SAID_LITERALLY:
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", value):
        return "a time"
    return type(value).__name__


def shapes(text: str) -> list[Any]:
    """The shapes of a body's lines, those that repeat the one before left out."""
    found: list[Any] = []
    for line in text.splitlines():
        json_text = line.removeprefix("data: ")
        try:
            found.append((line.startswith("data: "), shape(json.loads(json_text))))
        except ValueError:
            found.append(line)
    lines = [line for line in found if line != ""]  # the empty ones between events, and at the end
    return [line for line, _ in itertools.groupby(lines)]


NAMES = sorted(path.stem for path in RECORDED.glob("*.http"))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NEEDS_A_CROWD])
async def test_the_answer_is_like_the_recorded_one(name: str) -> None:
    recorded = read(name)
    incidents = (CRASHING,) if name in NEEDS_A_CRASH else ()

    async with simulated(*incidents, speed=20.0) as simulator, session(simulator) as http:
        if name in NEEDS_A_LOADED_MODEL:
            await ask(http, model="tiny", num_predict=1)
        async with http.request(recorded.method, recorded.path, data=recorded.sent or None) as response:
            text = await response.text()

    assert response.status == recorded.status
    seen = {key: value for key, value in response.headers.items() if key != "Date"}
    assert {key: seen.get(key) if value != "*" else "*" for key, value in recorded.headers.items()} == (
        recorded.headers
    )
    assert seen.keys() == recorded.headers.keys()
    assert shapes(text) == shapes(recorded.text)
    if recorded.status >= 400 and name not in NEEDS_A_CRASH:
        assert text == recorded.text.removesuffix("\n")  # to the byte: Go writes no space after , and :


async def test_requests_beyond_the_queue_of_a_cold_model_get_the_recorded_503() -> None:
    recorded = read("503-busy-with-two-spaces")

    async with simulated(max_queue=3) as simulator, session(simulator) as http:
        answers = await asyncio.gather(*(ask(http) for _ in range(10)))

    refused = [answer for answer in answers if answer.status != 200]
    assert [answer.status for answer in refused] == [
        503
    ] * 6  # 10, less 3 that queue, less the one that loads
    assert {json.dumps(answer.document, separators=(",", ":")) for answer in refused} == {
        recorded.text.strip()
    }
    served = [answer.load_ms for answer in answers if answer.status == 200]
    assert len(served) == 4
    assert min(served) > LOAD_MS / 2  # those that queued waited for the same load
    assert max(served) < 2 * min(served)


async def test_a_warm_model_refuses_nobody() -> None:
    async with simulated(max_queue=3, speed=10.0) as simulator, session(simulator) as http:
        await ask(http)
        answers = await asyncio.gather(*(ask(http) for _ in range(40)))

    assert {answer.status for answer in answers} == {200}


async def test_show_has_the_fields_that_were_seen() -> None:
    async with simulated() as simulator, session(simulator) as http:
        async with http.post("/api/show", json={"model": "tiny"}) as response:
            seen = await response.json()

    assert {
        "modelfile", "parameters", "template", "details", "model_info", "tensors", "capabilities", "modified_at",
    } <= seen.keys()  # fmt: skip
    assert seen["model_info"]["general.architecture"] == "llama"
    assert seen["model_info"]["llama.context_length"] == 4096


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("ollama:11434", 403),
        ("llm.example.com", 403),
        ("8.8.8.8", 403),
        ("host.docker.internal", 200),
        ("x.local", 200),
        ("localhost:11434", 200),
        ("[::1]:11434", 200),
        ("192.168.1.9", 200),
    ],
)
async def test_on_loopback_a_strange_host_is_forbidden_without_a_word(host: str, status: int) -> None:
    async with simulated() as simulator, session(simulator) as http:
        async with http.get("/api/version", headers={"Host": host}) as response:
            body = await response.read()

    assert response.status == status
    assert (body == b"") is (status == 403)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"  ", "missing request body"),
        (b'{"model": "tiny"', "unexpected EOF"),
        (b'{"model": tiny}', "invalid character 't' looking for beginning of value"),
        (b'{"model": NaN}', "invalid character 'N' looking for beginning of value"),
        (b'{"model" "tiny"}', "invalid character '\"' after object key"),
        (b"[1]", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
        (
            b'{"model": 5}',
            "json: cannot unmarshal number into Go struct field GenerateRequest.model of type string",
        ),
        (b'{"model": "tiny", "keep_alive": "5"}', 'time: missing unit in duration "5"'),
    ],
)
async def test_a_body_that_cannot_be_read_is_400_in_the_words_of_go(sent: bytes, message: str) -> None:
    async with simulated() as simulator, session(simulator) as http:
        async with http.post("/api/generate", data=sent) as response:
            document = await response.json()

    assert response.status == 400
    assert document == {"error": message}


async def test_usage_comes_only_when_it_was_asked_for() -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 2}

    async with simulated(speed=10.0) as simulator, session(simulator) as http:
        async with http.post("/v1/chat/completions", json=body) as response:
            text = await response.text()

    assert "usage" not in text
    assert text.endswith("data: [DONE]\n\n")


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    async with simulated() as first:
        with pytest.raises(OSError, match="address already in use"):
            await Simulator(Scenario("second")).start("127.0.0.1", int(first.url.rsplit(":", 1)[1]))


async def test_a_cut_connection_is_no_error_of_the_simulator(caplog: pytest.LogCaptureFixture) -> None:
    async with simulated() as simulator, session(simulator) as http:
        for is_stream in (True, False):
            with pytest.raises((TimeoutError, aiohttp.ServerTimeoutError)):
                async with http.post(
                    "/api/generate",
                    json={"model": "slow", "prompt": "x", "stream": is_stream},
                    timeout=aiohttp.ClientTimeout(total=0.2),
                ) as response:
                    await response.read()

    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
