"""The simulator answers as a real Ollama was recorded to answer, and its incidents come when they should."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from llmscope.simulator import MODELS, SCENARIOS, Effect, Incident, Scenario, Simulator

TINY = MODELS[0].name
FINAL = {
    "model",
    "created_at",
    "response",
    "done",
    "done_reason",
    "context",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
}


class Client:
    """Speaks to a simulator over HTTP."""

    def __init__(self, simulator: Simulator, http: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.http = http

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, str, str]:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with self.http.request(method, self.simulator.url + path, data=data) as answer:
            return answer.status, answer.headers.get("Content-Type", ""), await answer.text()

    async def generate(self, **body: Any) -> dict[str, Any]:
        asked = {"model": TINY, "prompt": "hello there", "stream": False} | body
        status, _kind, text = await self.ask("POST", "/api/generate", asked)
        assert status == 200, text
        found: dict[str, Any] = json.loads(text)
        return found


@contextlib.asynccontextmanager
async def running(scenario: Scenario = SCENARIOS["steady"], **more: Any) -> AsyncIterator[Client]:
    simulator = Simulator(scenario, **({"speed": 20.0} | more))
    await simulator.start()
    try:
        async with aiohttp.ClientSession() as http:
            yield Client(simulator, http)
    finally:
        await simulator.stop()


async def test_it_greets_as_ollama() -> None:
    async with running() as client:
        assert (await client.ask("GET", "/"))[2] == "Ollama is running"
        assert json.loads((await client.ask("GET", "/api/version"))[2]).keys() == {"version"}
        tags = json.loads((await client.ask("GET", "/api/tags"))[2])["models"]
        nothing = json.loads((await client.ask("GET", "/api/ps"))[2])

    assert [m["name"] for m in tags] == [m.name for m in MODELS]
    assert tags[0].keys() == {"name", "model", "modified_at", "size", "digest", "details", "capabilities"}
    assert nothing == {"models": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("GET", "/nope", None, 404, "404 page not found"),
        ("GET", "/api/generate", None, 405, "405 method not allowed"),
        ("POST", "/api/generate", b"", 400, '{"error":"missing request body"}'),
        (
            *("POST", "/api/generate", b"{bad", 400),
            '{"error":"invalid character \'b\' looking for beginning of object key string"}',
        ),
        ("POST", "/api/generate", {}, 404, '{"error":"model \'\' not found"}'),
        ("POST", "/api/chat", {"model": "nope"}, 404, '{"error":"model \'nope\' not found"}'),
        ("POST", "/api/show", {"model": "nope"}, 404, '{"error":"model \'nope:latest\' not found"}'),
        (
            *("POST", "/api/generate", {"model": TINY, "prompt": "x", "keep_alive": "abc"}, 400),
            '{"error":"time: invalid duration \\"abc\\""}',
        ),
        (
            *(
                "POST",
                "/api/generate",
                {"model": TINY, "prompt": "x", "options": {"temperature": "hot"}},
                500,
            ),
            '{"error":"option \\"temperature\\" must be of type float32"}',
        ),
    ],
)
async def test_errors_are_in_ollamas_words(method: str, path: str, body: Any, status: int, text: str) -> None:
    async with running() as client:
        assert (await client.ask(method, path, body))[::2] == (status, text)


async def test_a_stream_is_lines_of_json_and_the_last_has_the_numbers() -> None:
    async with running() as client:
        asked = {"model": TINY, "prompt": "hello", "options": {"num_predict": 5}}
        status, kind, text = await client.ask("POST", "/api/generate", asked)
    lines = [json.loads(line) for line in text.splitlines()]

    assert (status, kind) == (200, "application/x-ndjson")
    assert all(line.keys() == {"model", "created_at", "response", "done"} for line in lines[:-1])
    assert [line["done"] for line in lines] == [False] * 5 + [True]
    assert lines[-1].keys() == FINAL
    assert (lines[-1]["done_reason"], lines[-1]["eval_count"], lines[-1]["response"]) == ("length", 5, "")


async def test_durations_add_up_and_agree_with_the_wall() -> None:
    async with running(speed=5.0) as client:
        await client.generate()
        start = time.monotonic()
        final = await client.generate()
        wall_ms = 1000 * (time.monotonic() - start)
    ms = {name: final[name] / 1e6 for name in FINAL if name.endswith("duration")}
    parts = ms["load_duration"] + ms["prompt_eval_duration"] + ms["eval_duration"]

    assert 0 < ms["load_duration"] < 20
    assert parts <= ms["total_duration"] <= parts + 20
    assert ms["total_duration"] <= wall_ms <= ms["total_duration"] + 40


async def test_a_slot_that_is_taken_is_waited_for_in_the_total_only() -> None:
    async with running(speed=5.0) as client:
        await client.generate()
        finals = await asyncio.gather(*(client.generate(prompt=f"{i} nonce") for i in range(3)))
    unaccounted = sorted(
        f["total_duration"] - f["load_duration"] - f["prompt_eval_duration"] - f["eval_duration"]
        for f in finals
    )
    longest_work = max(f["prompt_eval_duration"] + f["eval_duration"] for f in finals)

    assert unaccounted[0] < 20e6
    assert unaccounted[2] > 1.2 * longest_work


async def test_a_full_queue_of_a_cold_model_says_busy() -> None:
    async with running(max_queue=2) as client:
        asked = {"model": TINY, "prompt": "x", "stream": False}
        answers = await asyncio.gather(*(client.ask("POST", "/api/generate", asked) for _ in range(5)))
    busy = [text for status, _kind, text in answers if status == 503]

    assert len(busy) == 2  # two queue, and the one that is being loaded for queues no longer
    assert json.loads(busy[0]) == {
        "error": "server busy, please try again.  maximum pending requests exceeded"
    }


async def test_another_num_ctx_reloads_and_the_same_does_not() -> None:
    async with running() as client:
        await client.generate(options={"num_ctx": 2048})
        held = json.loads((await client.ask("GET", "/api/ps"))[2])["models"][0]
        same = await client.generate(options={"num_ctx": held["context_length"]})
        other = await client.generate()

    assert held["context_length"] == 2048
    assert same["load_duration"] < 20e6
    assert other["load_duration"] > 25e6  # 950 ms, twenty times faster


async def test_the_prompt_is_cached_up_to_where_it_differs() -> None:
    prompt = "Write one sentence about the ocean and everything that lives in it. " * 8
    async with running(speed=4.0) as client:
        first = await client.generate(prompt=prompt)
        again = await client.generate(prompt=prompt)
        nonce = await client.generate(prompt="f3a9 " + prompt)

    assert again["prompt_eval_duration"] < 0.2 * first["prompt_eval_duration"]
    assert again["prompt_eval_count"] == first["prompt_eval_count"]
    assert nonce["prompt_eval_duration"] > 0.5 * first["prompt_eval_duration"]


async def test_keep_alive_unloads_and_every_request_renews_it() -> None:
    async with running() as client:
        loaded = await client.generate(prompt="")
        unloaded = await client.generate(prompt="", keep_alive=0)
        gone = json.loads((await client.ask("GET", "/api/ps"))[2])
        await client.generate(keep_alive=-1)
        for_ever = json.loads((await client.ask("GET", "/api/ps"))[2])["models"][0]["expires_at"]
        await client.generate(keep_alive="2s")
        await asyncio.sleep(0.15)  # 3 s of its time
        expired = json.loads((await client.ask("GET", "/api/ps"))[2])

    assert loaded["done_reason"] == "load"
    assert unloaded["done_reason"] == "unload"
    assert gone == expired == {"models": []}
    assert for_ever.startswith("2319-")


async def test_a_client_that_leaves_frees_the_slot_at_once() -> None:
    async with running(speed=1.0) as client:
        await client.generate(options={"num_predict": 1})
        url = client.simulator.url + "/api/generate"
        async with client.http.post(url, json={"model": TINY, "prompt": "a"}) as leaving:
            await leaving.content.readline()
        start = time.monotonic()
        await client.generate(prompt="b", options={"num_predict": 1})

    assert time.monotonic() - start < 0.2  # the whole answer would have taken about 0.4 s


async def test_the_openai_path_streams_events_with_usage_when_asked() -> None:
    body = {"model": TINY, "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 3}
    async with running() as client:
        _s, kind, plain = await client.ask("POST", "/v1/chat/completions", body)
        asked = body | {"stream_options": {"include_usage": True}}
        _s, _k, text = await client.ask("POST", "/v1/chat/completions", asked)
        missing = await client.ask("POST", "/v1/chat/completions", body | {"model": "nope"})
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]

    assert kind.startswith("text/event-stream")
    assert '"usage"' not in plain
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"] == []
    assert json.loads(events[-2])["usage"]["completion_tokens"] == 3
    assert json.loads(events[-3])["choices"][0]["finish_reason"] == "length"
    assert json.loads(missing[2])["error"]["type"] == "not_found_error"


async def test_during_an_outage_nothing_listens_and_then_it_does_again() -> None:
    down = Scenario("down", (Incident("down", 0.0, 6.0, Effect(refused=True)),))
    async with running(down) as client:
        await asyncio.sleep(0.05)
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.ask("GET", "/api/version")
        await asyncio.sleep(0.4)

        assert (await client.ask("GET", "/api/version"))[0] == 200


async def test_an_eviction_makes_the_next_request_load() -> None:
    evicted = Scenario("evicted", (Incident("evicted", 6.0, 1.0, Effect(evicted=True)),))
    async with running(evicted) as client:
        await client.generate()
        await asyncio.sleep(max(0.0, 7.5 - client.simulator.seconds()) / 20.0 + 0.01)

        assert (await client.generate())["load_duration"] > 25e6


def test_the_demo_has_a_spike_within_90_s_and_a_lasting_shift_within_3_minutes() -> None:
    demo = SCENARIOS["demo"]
    first_spike = min(i.start_s for i in demo.incidents if i.effect.evicted)
    shifted = [t for t in range(180) if demo.effect_at(float(t)).decode >= 1.3]

    assert 45.0 < first_spike < 80.0  # after 20 good probes, and leaving time to be seen
    assert len(shifted) >= 2 * 9  # nine probes at one every 2 s
    assert shifted[0] + 2 * 9 < 180


def test_a_ramp_grows_from_nothing_to_the_whole() -> None:
    drift = SCENARIOS["drift"]
    start = drift.incidents[0].start_s

    assert drift.effect_at(start - 1).decode == 1.0
    assert drift.effect_at(start + 300).decode == pytest.approx(1.25)
    assert drift.effect_at(start + 700).decode == 1.5


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_but_steady_changes_something(name: str) -> None:
    effects = {SCENARIOS[name].effect_at(t / 2) for t in range(4000)}

    assert (len(effects) > 1) == (name != "steady")
