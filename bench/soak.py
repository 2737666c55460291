"""A day compressed: `llmscope up` for ten minutes at 50 observations a second; does anything grow?

The shortest interval that the settings allow is 100 ms, so five targets at 100 ms each make one observation every
20 ms on the average: a day at one every 2 s has 43,200, ten minutes of this have 30,000. Three targets answer, two
fail (one resets the connection, one answers 500). A listener hangs on the live stream and comes back every half
minute; a page asks for windows, the overview and the log every 2 s.

Every 5 s: memory, file handles, threads, asyncio tasks (counted inside the process), the database. After a warm-up,
memory may grow by what the rows in the windows take, the others not at all. Ends with 1 when something grew.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import psutil  # noqa: E402
from tests.faults.listeners import listening  # noqa: E402
from tests.llm.bad_ollama import bad_ollama  # noqa: E402
from tests.llm.counting import CountingOllama  # noqa: E402
from tests.processes import App  # noqa: E402

SAMPLE_EVERY_S = 5.0
BYTES_A_ROW = 400  # of memory, allowed: the window's columns and their slack, what the charts remember
SLACK_MB = 5.0  # of memory, whatever the rows: what the allocator does not give back


@dataclass
class Sample:
    seconds: float
    rss_mb: float
    handles: int
    threads: int
    tasks: int
    rows: int
    database_mb: float


def count_tasks(path: Path) -> None:
    """Run the program as it is, with a thread beside it that asks its loop for the number of its tasks."""
    import uvloop

    from llmscope.cli import main

    make = uvloop.new_event_loop

    def made() -> asyncio.AbstractEventLoop:
        loop = make()

        def note() -> None:
            path.with_suffix(".new").write_text(str(len(asyncio.all_tasks(loop))))
            os.replace(path.with_suffix(".new"), path)

        def ask() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the program has ended
                while True:
                    time.sleep(1.0)
                    loop.call_soon_threadsafe(note)

        threading.Thread(target=ask, daemon=True).start()
        return loop

    uvloop.new_event_loop = made
    main()


def rows_in(database: Path) -> int:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT coalesce(max(id), 0) FROM observation").fetchone()[0])


def sample(app: App, start: float) -> Sample:
    assert app.process is not None
    process = psutil.Process(app.process.pid)
    database = app.folder / "data" / "llmscope.db"
    return Sample(
        round(time.monotonic() - start, 1),
        round(process.memory_info().rss / 1e6, 1),
        process.num_fds(),
        process.num_threads(),
        int((app.folder / "tasks").read_text()),
        rows_in(database),
        round(database.stat().st_size / 1e6, 3),
    )


async def page(app: App) -> None:
    """What an open page asks for, again and again."""
    questions = ("/api/overview", "/api/violations?limit=50", "/api/incidents?limit=50", "/api/stats/numbers")
    while True:
        for question in ("/api/stats/spc?hours=1&model=llama3.1:8b", *questions):
            with contextlib.suppress(OSError):
                await asyncio.to_thread(app.get, question)
        await asyncio.sleep(2.0)


async def listener(app: App) -> None:
    while True:
        async with listening(app.port, 1):
            await asyncio.sleep(30.0)


async def soak(folder: Path, minutes: float) -> list[Sample]:
    samples: list[Sample] = []
    with CountingOllama() as ollama:
        async with bad_ollama() as port:
            bad = [
                w
                for m in ("reset", "http-500")
                for w in ("--target", f"http://127.0.0.1:{port}", "--model", m)
            ]
            arguments = ["up", "--interval", "100ms", *ollama.targets(3), *bad]
            app = App(folder / "soak", arguments, program=[sys.executable, str(HERE / "soak.py"), "--inside"])
            await asyncio.to_thread(app.start)
            beside = [asyncio.create_task(page(app)), asyncio.create_task(listener(app))]
            start = time.monotonic()
            try:
                while time.monotonic() - start < minutes * 60.0:
                    await asyncio.sleep(SAMPLE_EVERY_S)
                    samples.append(await asyncio.to_thread(sample, app, start))
                    print(*astuple(samples[-1]), sep="\t", flush=True)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
                await asyncio.to_thread(app.stop)
    database = app.folder / "data" / "llmscope.db"  # whole now, without a log beside it
    rows, size = rows_in(database), database.stat().st_size
    rate = rows / samples[-1].seconds
    print(
        f"\n{rows:,} rows, {rate:.1f}/s; the database has {size / 1e6:.1f} MB, {size / rows:.0f} bytes a row"
    )
    return samples


def verdict(samples: list[Sample]) -> list[str]:
    """What grew between the first fifth after the warm-up, a fifth of the time, and the last fifth."""
    fifth = max(1, len(samples) // 5)
    early, late = samples[fifth : 2 * fifth], samples[-fifth:]

    def middle(part: list[Sample], name: str) -> float:
        return statistics.median(getattr(s, name) for s in part)

    rows = late[-1].rows - early[0].rows
    allowed = {"rss_mb": SLACK_MB + BYTES_A_ROW * rows / 1e6, "handles": 3, "threads": 2, "tasks": 3}
    grown = []
    print(f"\n{'':10}{'early':>10}{'late':>10}{'allowed':>10}")
    for name, most in allowed.items():
        a, b = middle(early, name), middle(late, name)
        print(f"{name:10}{a:10.1f}{b:10.1f}{a + most:10.1f}")
        if b - a > most:
            grown.append(name)
    return grown


def main() -> int:
    if "--inside" in sys.argv:
        sys.argv.remove("--inside")
        count_tasks(Path("tasks").absolute())
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, help="also write the samples here, as JSON lines")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {platform.machine()}, load before it {load:.1f}")
    print(*(f.name for f in fields(Sample)), sep="\t")
    with tempfile.TemporaryDirectory() as folder:
        samples = asyncio.run(soak(Path(folder), asked.minutes))
    if asked.out is not None:
        names = [f.name for f in fields(Sample)]
        asked.out.write_text(
            "".join(json.dumps(dict(zip(names, astuple(s), strict=True))) + "\n" for s in samples)
        )
    grown = verdict(samples)
    print("nothing grew" if not grown else f"grew: {', '.join(grown)}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
