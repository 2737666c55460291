"""A real API over real HTTP and a database on disk, for tests."""

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from llmscope.access import Access
from llmscope.api import Parts, create_app
from llmscope.api.connection import Connection, listen
from llmscope.api.forwarded import Forwarded
from llmscope.engine import Engine
from llmscope.ingest import Ingest
from llmscope.live import Hub
from llmscope.observation import METRICS
from llmscope.rolling import Roller
from llmscope.store import Store, open_store

OCEAN = {
    "provider": "ollama",
    "model": "llama3",
    "latency_ms": 2050.5,
    "timestamp": "2025-10-28T12:34:56.789",
    "total_duration_ms": 2050.5,
    "load_duration_ms": 50.2,
    "prompt_eval_duration_ms": 100.3,
    "eval_duration_ms": 1900.0,
    "prompt_eval_count": 26,
    "eval_count": 42,
    "cpu_percent": 35.2,
    "memory_percent": 45.6,
    "gpu_percent": 78.5,
    "gpu_memory_percent": 62.3,
    "prompt_hash": "a1b2c3d4",
    "prompt_text": "Write one sentence about the ocean.",
}
"""The body that the original's monitor posts."""


def wall_us() -> int:
    return time.time_ns() // 1000


@dataclass
class Served:
    """A running API and the parts behind it."""

    url: str
    http: aiohttp.ClientSession
    store: Store
    ingest: Ingest
    hub: Hub
    roller: Roller

    async def get(self, path: str, status: int = 200, **query: Any) -> Any:
        async with self.http.get(self.url + path, params=query) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json(content_type=None)

    async def post(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Any:
        """Post to /api/stats; `body` is JSON to be encoded, or bytes as they are."""
        what = {"data": io.BytesIO(body)} if isinstance(body, bytes) else {"json": body}
        async with self.http.post(self.url + "/api/stats", headers=headers, **what) as answer:
            text = await answer.text()
            assert answer.status == status, text
            return await answer.json(content_type=None)


@contextlib.asynccontextmanager
async def opened(
    path: Path, clock_us: Callable[[], int] = wall_us
) -> AsyncIterator[tuple[Store, Ingest, Hub]]:
    """Store, engine and ingest as a server has them after its start."""
    store = open_store(path, clock_us)
    try:
        hub = Hub()
        ingest = Ingest(store, Engine(charted=tuple(METRICS)), hub, clock_us)
        ingest.restore()
        yield store, ingest, hub
        ingest.stop()
    finally:
        store.close()


@contextlib.asynccontextmanager
async def served(
    path: Path,
    clock_us: Callable[[], int] = wall_us,
    access: Callable[[Store], Access] = lambda _store: Access(),
    trusted_proxies: Sequence[str] = (),
) -> AsyncIterator[Served]:
    """The API on a free port of the loopback, over the database at `path`."""
    async with opened(path, clock_us) as (store, ingest, hub):
        parts = Parts(
            store=store,
            engine=ingest.engine,
            ingest=ingest,
            hub=hub,
            clock_us=clock_us,
            about=about,
            system=system,
            dashboard=path.parent / "no-dashboard",
            access=access(store),
        )
        listening = listen("127.0.0.1", 0)
        api = create_app(parts)
        config = uvicorn.Config(
            Forwarded(api, trusted_proxies) if trusted_proxies else api,
            http=Connection,
            ws="none",
            proxy_headers=False,
            log_level="error",
            lifespan="off",
            access_log=False,
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        saving = asyncio.create_task(ingest.run())
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            jar = aiohttp.CookieJar(unsafe=True)  # keeps those of a server without a name too
            async with aiohttp.ClientSession(cookie_jar=jar) as http:
                yield Served(url, http, store, ingest, hub, Roller(store))
        finally:
            hub.close()
            server.should_exit = True
            await serving
            await parts.end()
            saving.cancel()
            await asyncio.wait([saving])
            listening.close()


def about() -> dict[str, Any]:
    return {
        "version": "0",
        "mode": "serve",
        "notice": None,
        "simulated": False,
        "targets": [],
        "interval_s": None,
        "provisional_n": 20,
        "budget": "1/week",
        "min_change_percent": 10.0,
        "slo": [],
        "docs": "/docs",
    }


def system() -> dict[str, Any]:
    return {
        "time": "2026-01-01T00:00:00.000000Z",
        "host": "test",
        "cpu_percent": 1.0,
        "memory_percent": 2.0,
        "memory_used_bytes": 1,
        "memory_total_bytes": 2,
        "gpu_percent": None,
        "gpu_memory_percent": None,
        "gpus": [],
        "in_container": False,
    }


async def eventually(check: Callable[[], Any], within_s: float = 10.0) -> Any:
    """Wait until `check()` is truthy and return it; fails after the deadline."""
    deadline = time.monotonic() + within_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"did not come true within {within_s} s"
        await asyncio.sleep(0.01)
    return found
