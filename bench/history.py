"""Rollups and the history of any span: what they take on disk, to make, to ask for, and from those who post meanwhile.

    python bench/history.py                   30 days of one observation every 2 s: 1.3 million rows
    python bench/history.py --days 3          fewer

Writes a database of an earlier version (rows without rollups), starts `llmscope serve` on it, posts while it is being
rolled and after, and asks for spans over HTTP. Prints one table. Figures depend on the machine and what else it does:
compare within one run only.
"""

import argparse
import datetime as dt
import json
import os
import platform
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ingest import body, free_port, quantile, request, sequential

from llmscope.store import open_store
from llmscope.store import rows as r

EVERY_US = 2_000_000
HOUR_US = 3_600_000_000
CHUNK = 100_000
INSERT = f"INSERT INTO observation ({', '.join(r.COLUMNS)}) VALUES ({', '.join('?' * len(r.COLUMNS))})"
LEVEL = "(id >> 40) & 1"


def fill(database: Path, n: int, until_us: int) -> None:
    """Rows as a server of an earlier version has left them: observed and arrived one every 2 s, none rolled."""
    open_store(database).close()
    rng = np.random.default_rng(7)
    with sqlite3.connect(database) as connection:
        connection.execute(
            "INSERT INTO series (id, provider, model, server, source, first_id) "
            "VALUES (1, 'ollama', 'llama3', '', 'probe', 1)"
        )
        for at in range(0, n, CHUNK):
            ids = np.arange(at, min(n, at + CHUNK)) + 1
            times = until_us - (n - ids + 1) * EVERY_US
            columns = dict.fromkeys(r.COLUMNS, np.zeros(len(ids), np.int64))
            generation = (1_800_000 * rng.lognormal(0.0, 0.1, len(ids))).astype(np.int64)
            load, prompt = rng.integers(8_000, 12_000, len(ids)), rng.integers(80_000, 120_000, len(ids))
            columns |= {
                "id": ids,
                "series_id": np.ones_like(ids),
                "time_us": times,
                "latency_us": load + prompt + generation + 3_000,
                "ttft_us": load + prompt + 5_000,
                "total_us": load + prompt + generation + rng.integers(1_000, 3_000, len(ids)),
                "load_us": load,
                "prompt_eval_us": prompt,
                "eval_us": generation,
                "prompt_eval_count": np.full_like(ids, 26),
                "eval_count": np.full_like(ids, 42),
            }
            table = np.column_stack([columns[name] for name in r.COLUMNS])
            connection.executemany(INSERT, table.tolist())
            minutes, first = np.unique(times // 60_000_000, return_index=True)
            connection.executemany(
                "INSERT OR IGNORE INTO arrival (minute, first_id) VALUES (?, ?)",
                zip(minutes.tolist(), ids[first].tolist(), strict=True),
            )
        connection.execute(
            "UPDATE series SET counted_id = ?, count = ?, first_us = ?, last_us = ?",
            (n, n, until_us - n * EVERY_US, until_us - EVERY_US),
        )


def ask(port: int, from_us: int, to_us: int, times: int = 11) -> tuple[float, int, dict[str, Any]]:
    """Median milliseconds and bytes of a history over HTTP, and what it says."""
    span = {"from": text(from_us), "to": text(to_us), "model": "llama3"}
    url = f"http://127.0.0.1:{port}/api/history?{urllib.parse.urlencode(span)}"
    taken, answer = [], b""
    for _ in range(times):
        start = time.perf_counter()
        with urllib.request.urlopen(url) as found:
            answer = found.read()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken), len(answer), json.loads(answer)


def text(time_us: int) -> str:
    return dt.datetime.fromtimestamp(time_us / 1e6, dt.UTC).isoformat()


def posting(port: int, seconds: float, is_over: Callable[[], bool] = lambda: False) -> list[float]:
    """Milliseconds of single POSTs, one every 5 ms on one connection."""
    rng = random.Random(3)
    message = [request(port, json.dumps(body(rng, model="posted")).encode())]
    taken: list[float] = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline and not is_over():
        for _ in range(100):
            taken += sequential(port, message)
            time.sleep(0.005)
    return taken


def asked(database: Path, sql: str) -> Any:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(sql).fetchone()[0]
    finally:
        connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30, help="of one observation every 2 s")
    days = parser.parse_args().days
    n = days * 43_200
    table: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "bench.db"
        port = free_port()
        now_us = time.time_ns() // 1000
        fill(database, n, now_us)
        before = os.path.getsize(database)
        command = [str(Path(sys.executable).parent / "llmscope"), "serve", "--port", str(port)]
        server = subprocess.Popen([*command, "--db", str(database)], stdout=subprocess.DEVNULL, cwd=folder)
        try:
            start = time.perf_counter()
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").read()
                    break
                except OSError:
                    time.sleep(0.05)
            table.append((f"start on {n:,} rows not rolled, s", f"{time.perf_counter() - start:.1f}"))

            def is_rolled() -> bool:
                return bool(asked(database, "SELECT row_id FROM rolled") >= n)

            start = time.perf_counter()
            busy = posting(port, 600.0, is_rolled)
            seconds = time.perf_counter() - start
            table.append(
                (
                    "to roll a million rows beside POSTs, resting half of the time, s",
                    f"{1e6 * seconds / n:.1f}",
                )
            )
            quiet = posting(port, 8.0)
            for name, taken in (("while an old database is rolled", busy), ("else", quiet)):
                table.append(
                    (
                        f"POST {name}, p50 / p99 / max ms",
                        f"{quantile(taken, 0.5):.2f} / {quantile(taken, 0.99):.2f} / {max(taken):.1f}",
                    )
                )
            for name, from_us, to_us in (
                ("30 days", now_us - 720 * HOUR_US, now_us),
                ("7 days", now_us - 168 * HOUR_US, now_us),
                ("24 hours", now_us - 24 * HOUR_US, now_us),
                ("11 hours, in memory", now_us - 11 * HOUR_US, now_us),
                ("11 hours, two days ago", now_us - 59 * HOUR_US, now_us - 48 * HOUR_US),
                ("1 hour, two days ago", now_us - 49 * HOUR_US, now_us - 48 * HOUR_US),
            ):
                ms, size, told = ask(port, from_us, to_us)
                what = (
                    f"{len(told['points']['ids']):,} points"
                    if told["points"]
                    else f"{len(told['rollup']['seen'])} of {told['rollup']['step_s'] / 60:g} min"
                )
                table.append((f"GET {name}: ms, KiB, what", f"{ms:.1f}, {size / 1024:,.0f}, {what}"))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
        of_series = f"FROM rollup WHERE id >> 41 = 1 AND {LEVEL} ="
        minutes = n / 30
        for name, level in (("minutes", 0), ("hours", 1)):
            size = asked(database, f"SELECT sum(length(document) + 16) {of_series} {level}")
            table.append((f"rollups by {name}, bytes a minute of a series", f"{size / minutes:,.0f}"))
        grown = os.path.getsize(database) - before
        table.append(("both on disk, pages and all, bytes a minute of a series", f"{grown / minutes:,.0f}"))
        table.append(("its observations on disk, bytes a minute", f"{before / minutes:,.0f}"))
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
    width = max(len(name) for name, _ in table)
    for name, value in table:
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
