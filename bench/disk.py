"""Days of one observation every 2 s, judged and marked as they come, in virtual time: what they take on disk.

    python bench/disk.py                   30 days: some minutes
    python bench/disk.py --days 3          fewer

Everything goes through `Ingest`; rolling, packing and giving up run as they do in a server, each virtual half hour.
Prints what each table takes, with its indexes, what was forecast on the third day, and what a history of all of it
takes over HTTP. Every number of an observation is told and noisy, as by Ollama with a GPU; nothing is wrong with it,
so the marks are those that chance brings.
"""

import argparse
import asyncio
import datetime as dt
import os
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec
from ingest import body

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.serving import Served, served

from llmscope.observation import Observation
from llmscope.store import usage

EVERY_US = 2_000_000
DAY_US = 86_400_000_000
AT_ONCE = 900
FORECAST_ON = 3
OF_OBSERVATIONS = ("observation", "pack", "arrival", "failure", "prompt")


def observation(rng: random.Random, time_us: int) -> Observation:
    stamp = dt.datetime.fromtimestamp(time_us / 1e6, dt.UTC).isoformat()
    return msgspec.convert(body(rng, stamp), Observation)


async def fill(api: Served, clock: list[int], days: int) -> float | None:
    """Live through the days; what was forecast for their end on day FORECAST_ON."""
    rng, began, forecast = random.Random(3), clock[0], None
    for at in range(0, days * 43_200, AT_ONCE):
        times_us = [began + (at + i) * EVERY_US + rng.randrange(100_000) for i in range(AT_ONCE)]
        clock[0] = began + (at + AT_ONCE) * EVERY_US
        for first in range(0, AT_ONCE, 250):  # few at a time are judged one by one, as a monitor's are
            await api.ingest.accept([observation(rng, t) for t in times_us[first : first + 250]])
        api.ingest.findings.save()
        api.ingest.findings.forget_old()
        while await api.roller._roll() or await api.roller._keep():
            pass
        if at + AT_ONCE == FORECAST_ON * 43_200:
            api.store.checkpoint()
            await api.ingest.settle()
            used = usage(api.store.read(), api.store.path, api.store.keeper.keep, clock[0])
            forecast = used.forecast(days - FORECAST_ON, clock[0])
    await api.ingest.settle()
    return forecast


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    days = parser.parse_args().days
    n = days * 43_200
    clock = [time.time_ns() // 1000 - days * DAY_US]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        async with served(path, lambda: clock[0]) as api:
            start = time.perf_counter()
            forecast = await fill(api, clock, days)
            took = time.perf_counter() - start
            api.store.checkpoint()
            await api.ingest.settle()
            used = usage(api.store.read(), path, api.store.keeper.keep, clock[0])
            asked = {
                "from": dt.datetime.fromtimestamp(clock[0] / 1e6 - days * 86_400, dt.UTC).isoformat(),
                "to": dt.datetime.fromtimestamp(clock[0] / 1e6, dt.UTC).isoformat(),
                "model": "llama3",
            }
            answers = []
            for _ in range(21):
                begun = time.perf_counter()
                await api.get("/api/history", **asked)
                answers.append(1000 * (time.perf_counter() - begun))
        size = path.stat().st_size
        connection = sqlite3.connect(path)
        sizes: Counter[str] = Counter()
        for name, pages in connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"):
            kind = (
                "observations, plain and packed"
                if name in OF_OBSERVATIONS
                else "rollups"
                if name == "rollup"
                else "marks and their indexes"
                if "violation" in name
                else "everything else"
            )
            sizes[kind] += pages
        free = connection.execute("PRAGMA freelist_count").fetchone()[0] * 4096
        marks = connection.execute("SELECT count(*) FROM violation").fetchone()[0]
        connection.close()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print(f"{n:,} observations of {days} days, {marks:,} marks; took {took:.0f} s")
    for kind, taken in sizes.most_common():
        print(f"  {kind:<32} {taken / 1e6:7.1f} MB  {taken / n:6.1f} bytes an observation")
    print(f"  {'free in the file':<32} {free / 1e6:7.1f} MB")
    print(f"  {'the file':<32} {size / 1e6:7.1f} MB  {size / n:6.1f} bytes an observation")
    print(f"  {'while it runs, with its journal':<32} {used.file_bytes / 1e6:7.1f} MB")
    if forecast is not None:
        print(f"  {f'what day {FORECAST_ON} forecast of that':<32} {forecast / 1e6:7.1f} MB")
    print(
        f"GET {days} days, read by a client here: {statistics.median(answers):.1f} ms, worst {max(answers):.1f}"
    )


if __name__ == "__main__":
    asyncio.run(main())
