"""The hot paths over real HTTP on one machine: POST alone, by many, in batches; the window; one live update.

Starts `llmscope serve` on a fresh database, stores 43,200 observations, and prints one table. Every answer is
durable and judged. Figures depend on the machine and its disk: compare within one run only.
"""

import argparse
import asyncio
import datetime as dt
import json
import multiprocessing
import os
import platform
import random
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

POINTS = 43_200


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def body(rng: random.Random, stamp: str | None = None, model: str = "llama3") -> dict[str, Any]:
    """An observation in the original's shape, with noise in every number."""
    load, prompt, generation = rng.uniform(8, 12), rng.uniform(80, 120), 1800 * rng.lognormvariate(0, 0.1)
    total = load + prompt + generation + rng.uniform(1, 3)
    found = {
        "provider": "ollama",
        "model": model,
        "latency_ms": round(total + rng.uniform(1, 2), 3),
        "ttft_ms": round(load + prompt + 5, 3),
        "connect_ms": round(rng.uniform(0.2, 0.6), 3),
        "gap_mean_ms": round(generation / 41, 3),
        "gap_max_ms": round(generation / 20, 3),
        "total_duration_ms": round(total, 3),
        "load_duration_ms": round(load, 3),
        "prompt_eval_duration_ms": round(prompt, 3),
        "eval_duration_ms": round(generation, 3),
        "prompt_eval_count": 26,
        "eval_count": 42,
        "cpu_percent": round(rng.uniform(20, 60), 1),
        "memory_percent": 45.6,
        "gpu_percent": round(rng.uniform(50, 100), 1),
        "gpu_memory_percent": 62.3,
        "prompt_hash": "a1b2c3d4",
        "host": "llm_host",
    }
    return found if stamp is None else found | {"timestamp": stamp}


def request(port: int, payload: bytes) -> bytes:
    head = f"POST /api/stats HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload


def exchange(connection: socket.socket, message: bytes) -> bytes:
    """Send a request and read its answer, which has a content-length."""
    connection.sendall(message)
    answer = connection.recv(65536)
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, rest = answer.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(rest) < length:
        rest += connection.recv(65536)
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(answer.decode(errors="replace"))
    return rest


def sequential(port: int, messages: list[bytes]) -> list[float]:
    """Milliseconds of each request, one after the other on one connection."""
    taken = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for message in messages:
            start = time.perf_counter()
            exchange(connection, message)
            taken.append(1000 * (time.perf_counter() - start))
    return taken


class Client(asyncio.Protocol):
    """Keeps one request in flight until the deadline."""

    def __init__(self, messages: list[bytes], deadline: float, done: asyncio.Future[None]) -> None:
        self.messages, self.deadline, self.done = messages, deadline, done
        self.taken: list[float] = []
        self.sent = 0
        self.answer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.start = time.perf_counter()
        self.transport.write(self.messages[self.sent % len(self.messages)])
        self.sent += 1

    def data_received(self, data: bytes) -> None:
        self.answer += data
        head, blank, rest = self.answer.partition(b"\r\n\r\n")
        if not blank or len(rest) < int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(self.answer.decode(errors="replace")))
            return
        self.answer = b""
        now = time.perf_counter()
        self.taken.append(1000 * (now - self.start))
        if now < self.deadline:
            self.send()
        else:
            self.transport.close()
            self.done.set_result(None)


def load(port: int, clients: int, seconds: float, batch: int, seed: int) -> list[float]:
    """One process of clients; the milliseconds of every request."""
    rng = random.Random(seed)
    if batch == 1:
        payloads = [json.dumps(body(rng)).encode() for _ in range(200)]
    else:
        payloads = [json.dumps([body(rng) for _ in range(batch)]).encode() for _ in range(20)]

    async def run() -> list[float]:
        loop = asyncio.get_running_loop()
        deadline = time.perf_counter() + seconds
        made = []
        for _ in range(clients):
            done = loop.create_future()
            messages = [request(port, payload) for payload in payloads]
            _transport, client = await loop.create_connection(
                lambda messages=messages, done=done: Client(messages, deadline, done), "127.0.0.1", port
            )
            made.append(client)
        await asyncio.gather(*(client.done for client in made))
        return [ms for client in made for ms in client.taken]

    return asyncio.run(run())


def many(port: int, clients: int, seconds: float, batch: int) -> tuple[float, list[float]]:
    """Requests a second of `clients` in two processes, and the milliseconds of each."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        start = time.perf_counter()
        parts = pool.starmap(load, [(port, clients // 2, seconds, batch, seed) for seed in (1, 2)])
        taken = [ms for part in parts for ms in part]
        return len(taken) / (time.perf_counter() - start), taken


def window(port: int, query: str, times: int = 15) -> tuple[float, int]:
    """Median milliseconds and bytes of a window over HTTP."""
    url = f"http://127.0.0.1:{port}/api/stats/spc?{query}"
    taken = []
    size = 0
    for _ in range(times):
        start = time.perf_counter()
        with urllib.request.urlopen(url) as answer:
            size = len(answer.read())
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken), size


def live_update(port: int) -> int:
    """Bytes that one observation sends to a listening browser."""
    with socket.create_connection(("127.0.0.1", port)) as listener:
        listener.sendall(b"GET /api/stream?model=live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.5)
        listener.recv(1_000_000)
        sequential(port, [request(port, json.dumps(body(random.Random(3), model="live")).encode())])
        time.sleep(0.3)
        got = listener.recv(1_000_000)
    return next(len(part) for part in got.split(b"event: ") if part.startswith(b"observation")) + len(
        b"event: "
    )


def quantile(taken: list[float], q: float) -> float:
    return sorted(taken)[min(len(taken) - 1, int(q * len(taken)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each load")
    parser.add_argument("--series", type=int, default=1000, help="series of the many-series run")
    chosen = parser.parse_args()
    rng = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "bench.db"
        port = free_port()
        command = [
            str(Path(sys.executable).parent / "llmscope"),
            "serve",
            "--port",
            str(port),
            "--db",
            str(database),
        ]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
        try:
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").read()
                    break
                except OSError:
                    time.sleep(0.1)
            now = dt.datetime.now(dt.UTC)
            stamps = [(now - dt.timedelta(seconds=2 * i)).isoformat() for i in range(POINTS, 0, -1)]
            batches = [
                json.dumps([body(rng, stamp) for stamp in stamps[i : i + 400]]).encode()
                for i in range(0, POINTS, 400)
            ]
            sequential(port, [request(port, batch) for batch in batches])
            rows = [("43,200 points stored; bytes a row on disk", f"{bytes_a_row(database):.1f}")]

            singles = [request(port, json.dumps(body(rng, model="single")).encode()) for _ in range(2000)]
            taken = sequential(port, singles)
            rows.append(
                (
                    "POST one after another, p50 / p99 ms",
                    f"{quantile(taken, 0.5):.2f} / {quantile(taken, 0.99):.2f}",
                )
            )
            full, size = window(port, "hours=24&model=llama3")
            rows.append(("GET 24 h, all columns: ms, KiB", f"{full:.1f}, {size / 1024:,.0f}"))
            page, size = window(port, "hours=24&model=llama3&fields=ids,times_ms,values,oks,eval_counts")
            rows.append(("GET 24 h, what the page asks for: ms, KiB", f"{page:.1f}, {size / 1024:,.0f}"))
            rows.append(("one live update, bytes", f"{live_update(port):,}"))
            rate, taken = many(port, 32, chosen.seconds, 1)
            rows.append(
                (
                    "POST by 32 clients: a second, p50 / p99 ms",
                    f"{rate:,.0f}, {quantile(taken, 0.5):.1f} / {quantile(taken, 0.99):.1f}",
                )
            )
            rate, taken = many(port, 8, chosen.seconds, 100)
            rows.append(
                (
                    "POST of 100 by 8 clients: rows a second, p50 / p99 ms",
                    f"{100 * rate:,.0f}, {quantile(taken, 0.5):.1f} / {quantile(taken, 0.99):.1f}",
                )
            )
            for count in (10, chosen.series):
                payloads = [
                    json.dumps(
                        [body(rng, model=f"{count}-{rng.randrange(count)}") for _ in range(100)]
                    ).encode()
                    for _ in range(300)
                ]
                start = time.perf_counter()
                sequential(port, [request(port, payload) for payload in payloads])
                rows.append(
                    (
                        f"batches of 100 over {count:,} series, one client: rows a second",
                        f"{30_000 / (time.perf_counter() - start):,.0f}",
                    )
                )
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)
        rows.append(("rows in the database at the end", f"{count_rows(database):,}"))
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def bytes_a_row(database: Path) -> float:
    """Size of the pages in use, indexes and all, over the number of observations."""
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(FULL)")
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    return float(pages * size) / count_rows(database)


def count_rows(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        return int(connection.execute("SELECT count(*) FROM observation").fetchone()[0])


if __name__ == "__main__":
    main()
