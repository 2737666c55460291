"""A monitor among LLM servers that do everything wrong, each a target of its own, and what it makes of them."""

import asyncio
import contextlib
import sqlite3
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.llm.bad_ollama import FAULTS, bad_ollama
from tests.llm.server import unused_port
from tests.processes import App

INTERVAL_MS, TIMEOUT_MS = 250, 600
KINDS = {name: kinds for name, (_, kinds) in FAULTS.items()} | {
    "refused": ("refused",),
    "tls-to-plain": ("refused",),
}


@dataclass
class Seen:
    """What is stored of one fault, and how far its probes began from their ticks, ms."""

    kinds: Counter[str | None]
    jitter_ms: float


@dataclass
class Watch:
    seen: dict[str, Seen]
    memory_mb: list[float]
    log: str

    def wrong(self) -> dict[str, Counter[str | None]]:
        """Faults that were called by another name, or by none."""
        return {
            name: seen.kinds
            for name, kinds in KINDS.items()
            if not (seen := self.seen[name]).kinds or set(seen.kinds) - set(kinds)
        }


async def watch(folder: Path, seconds: float) -> Watch:
    """Let a monitor probe all of them at once for so long."""
    async with bad_ollama() as port:
        places = {name: f"http://127.0.0.1:{port}" for name in FAULTS}
        places |= {
            "refused": f"http://127.0.0.1:{unused_port()}/v1",
            "tls-to-plain": f"https://127.0.0.1:{port}/v1",
        }
        targets = [word for name, url in places.items() for word in ("--target", url, "--model", name)]
        api = App(folder / "api", ["serve"])
        times = ["--interval", f"{INTERVAL_MS}ms", "--timeout", f"{TIMEOUT_MS}ms"]
        monitor = App(folder / "monitor", ["monitor", "--api", api.url, *times, *targets])
        await asyncio.to_thread(api.start)
        try:
            monitor.start_only()
            assert monitor.process is not None
            process = psutil.Process(monitor.process.pid)
            memory_mb = []
            for _ in range(round(seconds / 0.1)):
                await asyncio.sleep(0.1)
                memory_mb.append(process.memory_info().rss / 1e6)
            await asyncio.to_thread(monitor.stop)
        finally:
            monitor.stop()
            api.stop()
    return Watch(_seen(api), memory_mb, (monitor.folder / "log").read_text())


def _seen(api: App) -> dict[str, Seen]:
    seen = {}
    with contextlib.closing(sqlite3.connect(api.folder / "data" / "llmscope.db")) as connection:
        for name in KINDS:
            rows = connection.execute(
                "SELECT error_kind, timestamp, o.time_us FROM telemetry t JOIN observation o USING (id) "
                "WHERE t.model = ? ORDER BY o.id",
                (name,),
            ).fetchall()
            seen[name] = Seen(Counter(kind for kind, _, _ in rows), jitter_ms([row[2] for row in rows]))
    return seen


def jitter_ms(times_us: list[int]) -> float:
    """How far apart the beginnings lie from whole intervals: the median over all, ms."""
    if len(times_us) < 3:
        return 0.0
    phases = [(time_us - times_us[0]) / 1e3 % INTERVAL_MS for time_us in times_us]
    wrapped = [phase - INTERVAL_MS if phase > INTERVAL_MS / 2 else phase for phase in phases]
    middle = statistics.median(wrapped)
    return statistics.median(abs(phase - middle) for phase in wrapped)
