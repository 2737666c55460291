"""A month of one observation every 2 s: what it takes on disk, to put in order, to ask for, and from those who post.

    python bench/history.py                   30 days: 1.3 million rows, a few minutes
    python bench/history.py --days 3          fewer

Writes a database of an earlier version (rows without rollups), starts `llmscope serve` on it, and posts while it is
migrated and rolled, packed, backed up, and, started again with another --keep-raw, given up; asks for spans over
HTTP. Prints one table. Figures depend on the machine and what else it does: compare within one run only.
"""

import argparse
import contextlib
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ingest import body, free_port, quantile, request, sequential

from llmscope.store import rows as r
from llmscope.store.keeping import PLAIN_US
from llmscope.store.packs import ROWS
from llmscope.store.schema import MIGRATIONS, SMALLER_ROLLUPS

EVERY_US = 2_000_000
HOUR_US = 3_600_000_000
LLMSCOPE = str(Path(sys.executable).parent / "llmscope")
CHUNK = 100_000
INSERT = f"INSERT INTO observation ({', '.join(r.COLUMNS)}) VALUES ({', '.join('?' * len(r.COLUMNS))})"
EARLIER = MIGRATIONS[: MIGRATIONS.index(SMALLER_ROLLUPS)]


def fill(database: Path, n: int, until_us: int) -> None:
    """Rows as a server of an earlier version has left them: observed and arrived one every 2 s, none rolled."""
    with sqlite3.connect(database, isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for script in EARLIER:
            connection.executescript(script)
        connection.execute(f"PRAGMA user_version = {len(EARLIER)}")
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
                "connect_us": rng.integers(200, 600, len(ids)),
                "gap_mean_us": generation // 41,
                "gap_max_us": generation // 20,
                "cpu_permille": rng.integers(200, 600, len(ids)),
                "memory_permille": np.full_like(ids, 456),
                "gpu_permille": rng.integers(500, 1000, len(ids)),
                "gpu_memory_permille": np.full_like(ids, 623),
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


def asked(database: Path, sql: str, read: Callable[[Any], Any] = lambda found: found) -> Any:
    connection = sqlite3.connect(database)
    try:
        return read(connection.execute(sql).fetchone()[0])
    finally:
        connection.close()


@contextlib.contextmanager
def server(database: Path, *flags: str) -> Iterator[tuple[int, float]]:
    """`llmscope serve` on the database: its port, and how many seconds it took until it answered."""
    port = free_port()
    command = [LLMSCOPE, "serve", "--port", str(port), "--db", str(database), *flags]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=database.parent)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").read()
                break
            except OSError:
                time.sleep(0.02)
        yield port, time.perf_counter() - start
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30, help="of one observation every 2 s")
    days = parser.parse_args().days
    n = days * 43_200
    table: list[tuple[str, str]] = []

    def told(name: str, taken: list[float], seconds: float) -> None:
        figures = f"{quantile(taken, 0.5):.2f} / {quantile(taken, 0.99):.2f} / {max(taken):.1f}"
        table.append((f"POST {name}, p50 / p99 / max ms, for s", f"{figures}, {seconds:.0f}"))

    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "bench.db"
        now_us = time.time_ns() // 1000
        fill(database, n, now_us)
        before = os.path.getsize(database)
        packable = (n - PLAIN_US // EVERY_US) // ROWS

        def posted(name: str, is_over: Callable[[], bool]) -> None:
            start = time.perf_counter()
            told(name, posting(port, 900.0, is_over), time.perf_counter() - start)

        with server(database) as (port, seconds):
            table.append((f"start on {n:,} rows of an earlier version, s", f"{seconds:.1f}"))
            posted("while it is rolled anew", lambda: asked(database, "SELECT row_id FROM rolled") >= n)
            posted(
                "while it is packed",
                lambda: asked(database, "SELECT count(*) FROM pack") >= packable,
            )
            told("else", posting(port, 10.0), 10.0)
            backup = subprocess.Popen(
                [LLMSCOPE, "backup", str(Path(folder) / "backup.db"), "--db", str(database)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            posted("while it is backed up", lambda: backup.poll() is not None)
            if backup.returncode != 0:
                raise SystemExit("the backup failed")
            for name, from_us, to_us in (
                ("30 days", now_us - 720 * HOUR_US, now_us),
                ("7 days", now_us - 168 * HOUR_US, now_us),
                ("24 hours", now_us - 24 * HOUR_US, now_us),
                ("11 hours, in memory", now_us - 11 * HOUR_US, now_us),
                ("11 hours, plain rows", now_us - 47 * HOUR_US, now_us - 36 * HOUR_US),
                ("11 hours, packed", now_us - 83 * HOUR_US, now_us - 72 * HOUR_US),
                ("1 hour, packed", now_us - 73 * HOUR_US, now_us - 72 * HOUR_US),
            ):
                ms, size, found = ask(port, from_us, to_us)
                what = (
                    f"{len(found['points']['ids']):,} points"
                    if found["points"]
                    else f"{len(found['rollup']['seen'])} of {found['rollup']['step_s'] / 60:g} min"
                )
                table.append((f"GET {name}: ms, KiB, what", f"{ms:.1f}, {size / 1024:,.0f}, {what}"))
        sizes = dict(
            asked(
                database,
                "SELECT json_group_object(name, size) FROM (SELECT name, sum(pgsize) AS size "
                "FROM dbstat GROUP BY name)",
                json.loads,
            )
        )
        plain = asked(database, "SELECT count(*) FROM observation")
        packed = asked(database, "SELECT sum(rows) FROM pack")
        of_rows = (sizes["observation"] + sizes["pack"]) / (plain + packed)
        table += [
            ("file, the rows of an earlier version alone, MB", f"{before / 1e6:.1f}"),
            ("file now, what is free in it included, MB", f"{os.path.getsize(database) / 1e6:.1f}"),
            ("backup of it, MB", f"{os.path.getsize(Path(folder) / 'backup.db') / 1e6:.1f}"),
            ("bytes a plain row", f"{sizes['observation'] / plain:.1f}"),
            ("bytes a packed row", f"{sizes['pack'] / packed:.1f}"),
            ("bytes a row of the month, plain and packed", f"{of_rows:.1f}"),
            ("bytes a minute of a series, rolled", f"{sizes['rollup'] / (n / 30):.0f}"),
        ]
        with server(database, "--keep-raw", "3d") as (port, seconds):
            table.append(("start of that, s", f"{seconds:.1f}"))
            left = packable - (days - 3) * 43_200 // ROWS + 2
            posted(
                f"while {days - 3} of {days} days are given up",
                lambda: asked(database, "SELECT count(*) FROM pack") <= left,
            )
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
    width = max(len(name) for name, _ in table)
    for name, value in table:
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
