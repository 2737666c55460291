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
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tests.llm.server import unused_port  # noqa: E402
from tests.llm.tiny_model import write_model  # noqa: E402

from llmscope.observation import Observation  # noqa: E402
from llmscope.probe import SystemClock, Target, open_session, probe  # noqa: E402
from llmscope.spc.alarms import Alarm  # noqa: E402
from llmscope.spc.calibration import Budget  # noqa: E402
from llmscope.spc.chart import ControlChart, Plan, phase_one  # noqa: E402

Floats = npt.NDArray[np.float64]
Thing = tuple[str, float, float]  # what was done, from when to when

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


# -- judging what was recorded


METRICS = ("ms_per_token", "ttft", "latency")
STRETCH_S = 600.0
LATE_S = 60.0  # an alarm so long after something ended may still belong to it


def report() -> str:
    """What the charts say of the recording; times in minutes from its beginning."""
    with PROBES.open() as file:
        probes = list(csv.DictReader(file))
    story = json.loads(STORY.read_text())
    start = story[0]["t"]
    things = [
        (a["what"], a["t"], b["t"]) for a, b in itertools.pairwise([*story, {"t": 1e18, "what": "end"}])
    ]
    things = [thing for thing in things if thing[0] not in ("quiet", "end")]
    quiet_until = things[0][1] if things else 1e18
    times = np.array([float(row["t"]) for row in probes])
    lines = [
        f"{len(probes):,} probes in {(times[-1] - start) / 60:.0f} min, "
        f"{sum(row['outcome'] != 'ok' for row in probes)} failed; "
        f"nothing done for the first {(min(quiet_until, times[-1]) - start) / 60:.0f} min"
    ]
    for metric in METRICS:
        column = metric if metric == "ms_per_token" else f"{metric}_ms"
        values = np.array([float(row[column]) if row[column] else np.nan for row in probes])
        lines += ["", *wander(metric, values[times < quiet_until], times[times < quiet_until])]
        for min_change in (0.10, 0.0):
            lines += judged(values, times, start, things, quiet_until, min_change)
        lines += judged(values, times, start, things, quiet_until, 0.10, from_quiet=True)
    return "\n".join(lines)


def wander(metric: str, values: Floats, times: Floats) -> list[str]:
    """How far the level moved by itself: medians of ten minutes, and the dependence of half minutes."""
    x = np.log(values[values > 0.0])
    slots = ((times[values > 0.0] - times[0]) // STRETCH_S).astype(int)
    levels = np.array([np.median(x[slots == slot]) for slot in np.unique(slots)])
    away = 100.0 * np.expm1(levels - np.median(x))
    halves = ((times[values > 0.0] - times[0]) // 30.0).astype(int)
    buckets = np.array([np.median(x[halves == half]) for half in np.unique(halves)])
    return [
        f"{metric}: median {np.exp(np.median(x)):.3g} ms, sd of log {x.std():.3f}, lag-1 of points "
        f"{np.corrcoef(x[1:], x[:-1])[0, 1]:.2f}, of half minutes {np.corrcoef(buckets[1:], buckets[:-1])[0, 1]:.2f}; "
        f"levels of ten minutes from {away.min():+.1f} to {away.max():+.1f} %"
    ]


def judged(
    values: Floats,
    times: Floats,
    start: float,
    things: list[Thing],
    quiet_until: float,
    min_change: float,
    from_quiet: bool = False,
) -> list[str]:
    """The incidents of one metric, and what of what was done they found: learning as it goes, or with a baseline
    from the last quiet hour, as after a new phase."""
    times_us = (times * 1e6).astype(np.int64)
    ids = np.arange(len(values))
    good = ~np.isnan(values)

    def history(row: int) -> tuple[Floats, Any]:
        return values[: row + 1][good[: row + 1]], times_us[: row + 1][good[: row + 1]]

    plan = Plan("none", "none", Budget(1.0 / 7.0), min_change)
    chart = ControlChart("log", plan, history)
    first = 0
    if from_quiet:
        quiet = good & (times < quiet_until) & (times >= quiet_until - 3600.0)
        first = int(np.count_nonzero(times < quiet_until))
        chart = ControlChart(
            "log", plan, baseline=phase_one(values[quiet], times_us[quiet], "log", "locked", plan)
        )
    told = chart.update_many(values[first:], ids[first:], times_us[first:])
    last = {(e.alarm.detector, e.alarm.opened_id): e.alarm for e in told.alarms}
    alarms = [a for a in last.values() if a.state != "below_min_change"]
    marks = [a for a in last.values() if a.state == "below_min_change"]
    by_chance = [a for a in alarms if a.opened_us / 1e6 < quiet_until]
    lines = [
        f"  min_change {100 * min_change:.0f} %, "
        f"{'learnt from the last quiet hour' if from_quiet else f'{len(by_chance)} alarms with nothing done'}"
        f"{''.join(f'; {_told(a, start)}' for a in by_chance)}"
        f"{f'; {len(marks)} changes only marked' if min_change else ''}"
    ]
    for what, began, ended in things:
        found = [a for a in alarms if began <= a.opened_us / 1e6 < ended + LATE_S]
        if not found:
            lines.append(f"    {what} at {(began - start) / 60:.1f}: not found")
            continue
        first = min(found, key=lambda a: a.opened_us)
        lines.append(
            f"    {what} at {(began - start) / 60:.1f}: found after {first.opened_us / 1e6 - began:.0f} s, change time "
            f"{first.change_us / 1e6 - began:+.0f} s; {'; '.join(_told(a, start) for a in found)}"
        )
    return lines


def _told(alarm: Alarm, start: float) -> str:
    closed = "open" if alarm.closed_us is None else f"until {(alarm.closed_us / 1e6 - start) / 60:.1f}"
    return (
        f"{alarm.detector} {alarm.direction} {alarm.size_percent:+.0f} % since "
        f"{(alarm.change_us / 1e6 - start) / 60:.1f}, {closed}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", default="report", choices=("record", "report"))
    parser.add_argument("--quiet", type=float, default=120.0, metavar="MINUTES")
    parser.add_argument("--rest", type=float, default=11.0, metavar="MINUTES")
    given = parser.parse_args()
    if given.what == "record":
        asyncio.run(record(given.quiet, given.rest))
    else:
        print(report() if STORY.exists() else "nothing is recorded yet: python bench/reality.py record")


if __name__ == "__main__":
    main()
