"""What the pictures of the page show: servers with a past, kept live, in the states that a person may meet."""

import contextlib
import math
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.processes import App, observation

ROWS = 2_000  # in a batch


def post(app: App, rows: list[dict[str, Any]]) -> None:
    for first in range(0, len(rows), ROWS):
        app.post(rows[first : first + ROWS])


def request(rng: random.Random, ago_s: float, factor: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A good request of about 1.66 s, every part of it with its own noise."""
    first = 130.0 * rng.lognormvariate(0.0, 0.08)
    loading = changes.get("load_ms", 11.0) - 11.0
    row = observation(1660.0 * factor * rng.lognormvariate(0.0, 0.045) + loading, ago_s, **changes)
    row["ttft_ms"] = round(first + loading, 3)
    row["prompt_eval_duration_ms"] = round(first * 0.8, 3)
    row["load_duration_ms"] = round(row["load_duration_ms"] * rng.uniform(0.9, 1.1), 3)
    row["cpu_percent"] = round(35.0 + 6.0 * rng.random(), 1)
    row["gpu_percent"] = changes.get("gpu_percent", round(82.0 + 6.0 * rng.random(), 1))
    return row


def failed(
    ago_s: float, kind: str = "refused", text: str = "connection refused", **changes: Any
) -> dict[str, Any]:
    row = observation(1.0, ago_s, **changes)
    kept = ("provider", "model", "server", "timestamp", "cpu_percent", "memory_percent", "host")
    return {name: row[name] for name in kept} | {"ok": False, "error_kind": kind, "error": text}


def busy_past(hours: float = 4.0, seed: int = 5) -> list[dict[str, Any]]:
    """Hours of one model: a cold load an hour, a short shift, an outage, and a slow-down that still runs."""
    rng = random.Random(seed)
    n = int(hours * 1800)
    rows = []
    for i in range(n):
        left = n - i
        ago = 2.0 + 2.0 * left
        if i % 1800 == 400:
            rows.append(request(rng, ago, load_ms=3020.0, gpu_percent=16.0))
        elif 1490 < left < 1500:
            rows.append(failed(ago))
        else:
            rows.append(request(rng, ago, 1.22 if left < 330 else 1.15 if 2560 < left < 2600 else 1.0))
    return rows


def calm_past(minutes: float = 50.0, seed: int = 6, **changes: Any) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    n = int(minutes * 30)
    return [request(rng, 2.0 + 2.0 * (n - i), **changes) for i in range(n)]


def long_past(days: float = 30.0, step_s: float = 120.0, seed: int = 7) -> list[dict[str, Any]]:
    """Weeks of one model, sparse, with a daily rhythm and a step down a week ago."""
    rng = random.Random(seed)
    n = int(days * 86_400 / step_s)
    rows = []
    for i in range(n):
        ago = 60.0 + step_s * (n - i)
        rhythm = 1.0 + 0.03 * math.sin(2 * math.pi * ago / 86_400)
        rows.append(request(rng, ago, rhythm * (0.86 if ago < 7 * 86_400 else 1.0)))
    return rows


@contextlib.contextmanager
def kept_live(
    app: App, factor: float = 1.0, every_s: float = 1.0, is_down: bool = False, **changes: Any
) -> Iterator[None]:
    """Post a request now and then while the pictures are taken."""
    stopped = threading.Event()
    rng = random.Random(1)

    def run() -> None:
        while not stopped.wait(every_s):
            with contextlib.suppress(OSError):
                app.post(failed(0.0, **changes) if is_down else request(rng, 0.0, factor, **changes))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@contextlib.contextmanager
def fleet_kept_live(app: App, targets: int = 12) -> Iterator[None]:
    """Every target of `fleet_past` but the silent one goes on as it was."""
    with contextlib.ExitStack() as stack:
        for n in range(targets):
            if n != 2:
                stack.enter_context(kept_live(app, 1.25 if n == 0 else 1.0, 2.0, is_down=n == 1, **target(n)))
        yield


@contextlib.contextmanager
def serving(
    folder: Path, rows: list[dict[str, Any]], arguments: tuple[str, ...] = ("serve",)
) -> Iterator[App]:
    app = App(folder, list(arguments))
    app.start()
    try:
        post(app, rows)
        yield app
    finally:
        app.stop()


def fleet_past(targets: int = 12) -> list[dict[str, Any]]:
    """An hour of several models on several hosts: one slower since a while, one down, one silent, one new."""
    rows = []
    for n in range(targets):
        named = {
            "model": ("llama3.1:8b", "qwen2.5:7b", "mistral:7b")[n % 3],
            "server": f"host-{n + 1:02d}:11434",
        }
        rng = random.Random(100 + n)
        count = 60 if n == 3 else 1800
        for i in range(count):
            left = count - i
            ago = 2.0 + 2.0 * left
            if n == 2 and left < 300:
                continue
            if n == 1 and left < 60:
                rows.append(failed(ago, **named))
            else:
                rows.append(request(rng, ago, 1.25 if n == 0 and left < 400 else 1.0, **named))
    return rows


def target(n: int) -> dict[str, Any]:
    return {"model": ("llama3.1:8b", "qwen2.5:7b", "mistral:7b")[n % 3], "server": f"host-{n + 1:02d}:11434"}


NAMES = target(0)
