"""What a real server does: probes of llama.cpp with nothing done to it, then with things done on purpose.

    python bench/reality.py record            about 2 h 45 min: probes every half second into results/reality.csv
    python bench/reality.py record --quiet 2  the same with 2 minutes of nothing
    python bench/reality.py report            judges what was recorded, and prints it

The server runs a model of random weights with two threads. After the quiet stretch a CPU burner runs for 5 minutes,
twice, and the server is restarted with one thread for 10. What was done when is in results/reality.json.
"""

import argparse
import asyncio
import csv
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tests.llm.server import unused_port  # noqa: E402
from tests.llm.tiny_model import write_model  # noqa: E402

from llmscope.observation import Observation  # noqa: E402
from llmscope.probe import SystemClock, Target, open_session, probe  # noqa: E402

PROBES = HERE / "results" / "reality.csv"
STORY = HERE / "results" / "reality.json"
INTERVAL_S = 0.5
TOKENS = 24
COLUMNS = ("t", "latency_ms", "ttft_ms", "eval_count", "prompt_ms", "eval_ms", "ms_per_token", "outcome")
SERVE = """
import sys, threading, signal, xllamacpp
model, port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.warmup = model, 4096, 1, True
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
p.hostnames, p.port = ["127.0.0.1"], port
server = xllamacpp.Server(p)
sys.stdin.buffer.read()
"""


class Server:
    """llama.cpp on one port, with as many threads as asked."""

    def __init__(self, model: Path) -> None:
        self.model, self.port = model, unused_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, self.model.name, str(self.port), str(threads)],
            cwd=self.model.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def burn() -> None:
    """Keep one core busy."""
    while True:
        sum(i * i for i in range(100_000))


async def record(quiet_min: float, rest_min: float) -> None:
    """Probe and disturb, in real time."""
    PROBES.parent.mkdir(exist_ok=True)
    done: list[dict[str, Any]] = []

    def note(what: str) -> None:
        done.append({"t": time.time(), "what": what})
        STORY.write_text(json.dumps(done, indent=1))

    with tempfile.TemporaryDirectory() as folder, PROBES.open("w", newline="") as file:
        server = Server(write_model(Path(folder) / "tiny.gguf", "tiny"))
        server.start(2)
        await asyncio.sleep(3.0)
        target = Target(
            provider="openai",
            base_url=f"http://127.0.0.1:{server.port}/v1",
            model="tiny.gguf",
            num_predict=TOKENS,
            timeout_s=10.0,
        )
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        stop = asyncio.Event()
        probing = asyncio.create_task(_probe_until(stop, target, rows, file))
        note("quiet")
        await asyncio.sleep(60.0 * quiet_min)
        for _ in range(2):
            burners = [multiprocessing.Process(target=burn, daemon=True) for _ in range(os.cpu_count() or 1)]
            for burner in burners:
                burner.start()
            note("burner")
            await asyncio.sleep(300.0)
            for burner in burners:
                burner.kill()
            note("quiet")
            await asyncio.sleep(60.0 * rest_min)
        server.stop()
        server.start(1)
        note("one thread")
        await asyncio.sleep(600.0)
        server.stop()
        server.start(2)
        note("quiet")
        await asyncio.sleep(60.0)
        stop.set()
        await probing
        server.stop()
        note("end")


async def _probe_until(stop: asyncio.Event, target: Target, rows: Any, file: Any) -> None:
    async with open_session() as http:
        clock = SystemClock()
        due = time.monotonic()
        while not stop.is_set():
            due = max(due + INTERVAL_S, time.monotonic())
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now = time.time()
            found = await probe(target, http, clock)
            assert found is not None
            rows.writerow(_row(now, found))
            file.flush()


def _row(now: float, o: Observation) -> list[Any]:
    per_token = (
        o.eval_duration_ms / o.eval_count if o.ok and o.eval_duration_ms and (o.eval_count or 0) > 1 else None
    )
    return [
        f"{now:.3f}",
        o.latency_ms,
        o.ttft_ms,
        o.eval_count,
        o.prompt_eval_duration_ms,
        o.eval_duration_ms,
        per_token,
        str(o.outcome),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("record", "report"))
    parser.add_argument("--quiet", type=float, default=120.0, metavar="MINUTES")
    parser.add_argument("--rest", type=float, default=11.0, metavar="MINUTES")
    given = parser.parse_args()
    if given.what == "record":
        asyncio.run(record(given.quiet, given.rest))


if __name__ == "__main__":
    main()
