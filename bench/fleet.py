"""Many targets at once, for a page to be looked at under load: an hour of history each, then live points on schedule.

Posts to a running LLMscope as its probes would. Most targets are steady; some have shifted, one in twenty fails, one
in twenty fell silent, and any may load its model now and then. Prints what was posted and accepted and how long a
POST took.

    llmscope serve --port 8000
    python bench/fleet.py --url http://127.0.0.1:8000 --targets 60
"""

import argparse
import asyncio
import datetime as dt
import math
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

MODELS = (
    ("llama3.1:8b", 22.0),
    ("qwen2.5:14b", 41.0),
    ("mistral:7b", 19.0),
    ("gemma2:27b", 78.0),
    ("phi3:mini", 9.0),
)
KINDS = ("steady",) * 15 + ("shifted", "shifted", "spread", "failing", "stale")
SINCE_S = {"shifted": 900.0, "spread": 600.0, "failing": 90.0, "stale": 300.0}  # before the live points begin
BATCH = 400
COLD_ONE_IN = 900  # requests that wait for the model to be loaded


@dataclass
class Target:
    """A model on a host, and what befalls it."""

    number: int
    model: str
    token_ms: float
    kind: str
    rng: random.Random
    wander: float = 0.0  # of the log of the time a token takes, from request to request

    @classmethod
    def of(cls, number: int) -> "Target":
        model, token_ms = MODELS[number % len(MODELS)]
        kind = KINDS[(number + number // len(KINDS)) % len(KINDS)]  # not always the same model
        return cls(number, model, token_ms, kind, random.Random(number))

    def observation(self, at: dt.datetime, since_s: float) -> dict[str, Any] | None:
        """What a probe measures at a moment, `since_s` after the change of its kind; None when it is silent."""
        changed = since_s >= 0.0
        if changed and self.kind == "stale":
            return None
        name = {
            "provider": "ollama",
            "model": self.model,
            "server": f"host-{self.number + 1:02d}:11434",
            "timestamp": at.isoformat(),
            "host": "llm_host",
        }
        if changed and self.kind == "failing":
            return name | {"ok": False, "error_kind": "refused", "error": "connection refused"}
        rng = self.rng
        self.wander = 0.3 * self.wander + rng.gauss(0.0, 0.12 if changed and self.kind == "spread" else 0.04)
        token_ms = (
            self.token_ms * math.exp(self.wander) * (1.3 if changed and self.kind == "shifted" else 1.0)
        )
        cold = rng.randrange(COLD_ONE_IN) == 0
        load = rng.uniform(2_500.0, 4_000.0) if cold else rng.uniform(9.0, 14.0)
        tokens, prompt = rng.randint(28, 32), 3.5 * self.token_ms * rng.lognormvariate(0.0, 0.05)
        generation, queue, network = tokens * token_ms, rng.expovariate(0.5), rng.uniform(0.8, 2.5)
        total = load + queue + prompt + generation
        return name | {
            "latency_ms": round(total + network, 3),
            "ttft_ms": round(network + load + queue + prompt + token_ms, 3),
            "connect_ms": round(rng.uniform(0.2, 0.6), 3),
            "total_duration_ms": round(total, 3),
            "load_duration_ms": round(load, 3),
            "prompt_eval_duration_ms": round(prompt, 3),
            "eval_duration_ms": round(generation, 3),
            "prompt_eval_count": 26,
            "eval_count": tokens,
            "cpu_percent": round(rng.uniform(20.0, 60.0), 1),
            "memory_percent": 45.6,
            "gpu_percent": round(rng.uniform(50.0, 100.0), 1),
            "gpu_memory_percent": 62.3,
            "prompt_hash": "a1b2c3d4",
        }


@dataclass
class Posts:
    """What was posted, what became of it, and the milliseconds of each live POST."""

    http: aiohttp.ClientSession
    url: str
    posted: int = 0
    accepted: int = 0
    late: int = 0  # live points that were due before the one before had been answered
    errors: Counter[str] = field(default_factory=Counter)
    taken_ms: list[float] = field(default_factory=list)

    async def post(self, rows: list[dict[str, Any]], live: bool = False) -> None:
        self.posted += len(rows)
        start = time.perf_counter()
        try:
            async with self.http.post(f"{self.url}/api/stats", json=rows) as answer:
                said = await answer.json(content_type=None)
                if answer.status == 200:
                    self.accepted += said["accepted"]
                else:
                    self.errors[str(said.get("detail", answer.status))] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self.errors[type(error).__name__] += 1
        if live:
            self.taken_ms.append(1000.0 * (time.perf_counter() - start))


async def history(
    target: Target, posts: Posts, minutes: float, interval_s: float, until: dt.datetime
) -> None:
    """The minutes before `until`, in batches."""
    n = int(60.0 * minutes / interval_s)
    rows: list[dict[str, Any]] = []
    for i in range(n, 0, -1):
        ago_s = i * interval_s
        row = target.observation(until - dt.timedelta(seconds=ago_s), SINCE_S.get(target.kind, 0.0) - ago_s)
        rows += [] if row is None else [row]
    for start in range(0, len(rows), BATCH):
        await posts.post(rows[start : start + BATCH])


async def live(target: Target, posts: Posts, minutes: float, interval_s: float, offset_s: float) -> None:
    """A point every interval, from an offset on, so that the targets do not all post at once."""
    start = time.monotonic() + offset_s
    for i in range(int(60.0 * minutes / interval_s)):
        wait_s = start + i * interval_s - time.monotonic()
        posts.late += wait_s < -interval_s
        await asyncio.sleep(max(0.0, wait_s))
        row = target.observation(dt.datetime.now(dt.UTC), SINCE_S.get(target.kind, 0.0) + i * interval_s)
        if row is not None:
            await posts.post([row], live=True)


def quantile(taken: list[float], q: float) -> float:
    return sorted(taken)[min(len(taken) - 1, int(q * len(taken)))]


async def run(chosen: argparse.Namespace) -> None:
    targets = [Target.of(i) for i in range(chosen.targets)]
    kinds = Counter(target.kind for target in targets)
    print(", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        posts = Posts(http, chosen.url.rstrip("/"))
        begin = time.monotonic()
        now = dt.datetime.now(dt.UTC)
        for target in targets:
            await history(target, posts, chosen.history_minutes, chosen.interval, now)
        print(
            f"history: posted {posts.posted:,}, accepted {posts.accepted:,} in {time.monotonic() - begin:.1f} s"
        )
        posts.posted = posts.accepted = 0
        step = chosen.interval / len(targets)
        await asyncio.gather(
            *(live(t, posts, chosen.minutes, chosen.interval, i * step) for i, t in enumerate(targets))
        )
    print(f"live: posted {posts.posted:,}, accepted {posts.accepted:,}, late {posts.late:,}")
    if posts.taken_ms:
        p50, p99 = quantile(posts.taken_ms, 0.5), quantile(posts.taken_ms, 0.99)
        print(f"POST p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {max(posts.taken_ms):.1f} ms")
    for error, times in posts.errors.most_common(5):
        print(f"{times} times: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--targets", type=int, default=60)
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between two points of a target")
    parser.add_argument("--minutes", type=float, default=10.0, help="of live points")
    parser.add_argument("--history-minutes", type=float, default=60.0, help="posted first, in batches")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
