"""A simulator that runs, and the numbers of an answer of it, in ms."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from llmscope.simulator import Incident, Model, Scenario, Simulator

LOAD_MS = 120.0
TINY = Model("tiny:latest", "llama", "4.36M", 8_768_516, LOAD_MS, 0.5, 2.0, context_length=4096)
SMALL = Model("small:latest", "llama", "29.17M", 58_404_933, LOAD_MS, 0.5, 2.0, context_length=4096)
STEADY = Model("steady:latest", "llama", "29.17M", 58_404_933, LOAD_MS, 0.5, 2.0, context_length=4096)
SLOW = Model("slow:latest", "llama", "29.17M", 58_404_933, LOAD_MS, 0.5, 100.0)  # a whole answer takes 3 s
QUIET = Scenario("nothing happens")
SOON_S = 10.0  # no wait of these tests may be longer


class LeapingClock:
    """A monotonic clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@contextlib.asynccontextmanager
async def simulated(
    *incidents: Incident, models: tuple[Model, ...] = (SMALL, TINY, STEADY, SLOW), **settings: Any
) -> AsyncIterator[Simulator]:
    """A simulator on a free port of loopback, with these incidents."""
    simulator = Simulator(Scenario("test", incidents), models=models, **settings)
    await simulator.start("127.0.0.1", 0)
    try:
        yield simulator
    finally:
        await simulator.stop()


@dataclass(frozen=True)
class Answer:
    """A whole answer of /api/generate; durations in ms, 0 where absent."""

    status: int
    document: dict[str, Any]
    wall_ms: float

    def _ms(self, name: str) -> float:
        return float(self.document.get(name, 0)) / 1e6

    @property
    def total_ms(self) -> float:
        return self._ms("total_duration")

    @property
    def load_ms(self) -> float:
        return self._ms("load_duration")

    @property
    def prompt_ms(self) -> float:
        return self._ms("prompt_eval_duration")

    @property
    def eval_ms(self) -> float:
        return self._ms("eval_duration")

    @property
    def queue_ms(self) -> float:
        """What no other duration accounts for."""
        return self.total_ms - self.load_ms - self.prompt_ms - self.eval_ms


async def ask(
    http: aiohttp.ClientSession,
    prompt: str = "x",
    *,
    model: str = "tiny",
    num_predict: int = 4,
    options: dict[str, Any] | None = None,
    **fields: Any,
) -> Answer:
    """One request that is not streamed."""
    body = {
        "model": model,
        "prompt": prompt,
        "stream": False,
        "options": {"num_predict": num_predict, "temperature": 0, **(options or {})},
        **fields,
    }
    began = time.monotonic()
    async with http.post("/api/generate", json=body) as response:
        document = json.loads(await response.read())
    return Answer(response.status, document, (time.monotonic() - began) * 1000.0)


async def loaded(http: aiohttp.ClientSession) -> list[dict[str, Any]]:
    async with http.get("/api/ps") as response:
        models: list[dict[str, Any]] = (await response.json())["models"]
    return models


async def until(claim: Callable[[], bool]) -> None:
    """Wait until a claim holds, not longer than is decent."""
    async with asyncio.timeout(SOON_S):
        while not claim():  # noqa: ASYNC110 (a claim about numbers has no event)
            await asyncio.sleep(0.002)


def session(simulator: Simulator) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(simulator.url, timeout=aiohttp.ClientTimeout(total=SOON_S))
