"""The live stream: what happens arrives, small, and nothing is missed or doubled over a reconnection."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from tests.serving import Served, eventually, served


@dataclass
class Event:
    kind: str
    id: str | None
    data: Any
    size: int


class Listening:
    """Collects the events of a stream."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def of(self, kind: str) -> list[Event]:
        return [e for e in self.events if e.kind == kind]

    async def read(self, answer: aiohttp.ClientResponse) -> None:
        text = b""
        async for piece in answer.content.iter_any():
            text += piece
            while b"\n\n" in text:
                block, _, text = text.partition(b"\n\n")
                fields = dict(line.split(": ", 1) for line in block.decode().splitlines() if ": " in line)
                if "event" in fields:
                    data = json.loads(fields["data"])
                    self.events.append(Event(fields["event"], fields.get("id"), data, len(block) + 2))


@contextlib.asynccontextmanager
async def listening(api: Served, last: str | None = None, **query: str) -> AsyncIterator[Listening]:
    headers = {} if last is None else {"Last-Event-ID": last}
    async with api.http.get(api.url + "/api/stream", params=query, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        heard = Listening()
        reading = asyncio.create_task(heard.read(answer))
        try:
            await eventually(lambda: heard.of("about"))
            yield heard
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading


def observation(ms: float, **changes: Any) -> dict[str, Any]:
    return {"provider": "ollama", "model": "llama3", "latency_ms": ms} | changes


async def test_an_observation_arrives_in_less_than_a_kilobyte(tmp_path: Path) -> None:
    full = observation(
        2050.5, ttft_ms=100.25, eval_count=42, eval_duration_ms=1900.1, total_duration_ms=2050.1
    )
    full |= {
        "load_duration_ms": 12.1,
        "prompt_eval_duration_ms": 80.5,
        "prompt_eval_count": 26,
        "cpu_percent": 35.2,
    }
    async with served(tmp_path / "a.db") as api, listening(api) as heard:
        await api.post(full)
        (event,) = await eventually(lambda: heard.of("observation"))

    assert event.data["latency_ms"] == 2050.5
    assert event.data["eval_count"] == 42
    assert event.size <= 1024


async def test_a_filter_keeps_other_series_out(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api, listening(api, model="b") as heard:
        await api.post(observation(1.0, model="a"))
        await api.post(observation(2.0, model="b"))
        (event,) = await eventually(lambda: heard.of("observation"))

    assert event.data["model"] == "b"


async def test_a_listener_that_comes_back_gets_exactly_what_it_missed(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api:
        async with listening(api) as heard:
            for i in range(3):
                await api.post(observation(float(i)))
            await eventually(lambda: len(heard.of("observation")) == 3)
            last = heard.of("observation")[-1].id
        for i in range(3, 6):
            await api.post(observation(float(i)))
        async with listening(api, last) as again:
            await api.post(observation(6.0))
            await eventually(lambda: len(again.of("observation")) >= 4)

    assert [e.data["latency_ms"] for e in again.of("observation")] == [3.0, 4.0, 5.0, 6.0]


async def test_a_cursor_that_is_not_known_says_reset(tmp_path: Path) -> None:
    async with served(tmp_path / "a.db") as api, listening(api, "999999") as heard:
        await eventually(lambda: heard.of("reset"))


async def test_limits_and_violations_are_told_as_they_come(tmp_path: Path) -> None:
    usual = [observation(1000.0 + 7 * (i % 5)) for i in range(30)]
    async with served(tmp_path / "a.db") as api, listening(api, metric="latency") as heard:
        await api.post(usual)
        await eventually(lambda: heard.of("limits"))
        await api.post(observation(9000.0))
        (event,) = await eventually(lambda: [e for e in heard.of("violation") if e.data["rule"] == "R1"])
        log = await api.get("/api/violations", rule="R1")

    assert heard.of("limits")[-1].data["spc"]["state"] == "provisional"
    assert event.data["side"] == "above"
    assert event.data["value"] == 9.0
    assert event.data["provisional"] is True
    assert [v["id"] for v in log["violations"]] == [event.data["id"]]
