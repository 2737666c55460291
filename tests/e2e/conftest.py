"""A real browser on a real LLMscope: the API in a process of its own, Debian's Chromium driven by Playwright."""

import datetime as dt
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(check: Any, within_s: float = 20.0) -> Any:
    """Wait until `check()` is truthy and return it; an OSError counts as "not yet"."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if found := check():
                return found
        except OSError:
            pass
        assert time.monotonic() < deadline, f"did not come true within {within_s} s"
        time.sleep(0.02)


@dataclass
class App:
    """A process of LLMscope that can be stopped and started again on the same port and database."""

    folder: Path
    arguments: list[str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "llmscope"), *self.arguments, "--port", str(self.port)]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        wait_for(lambda: self.get("/healthz"))

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(15)
            self.process = None

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.loads(answer.read())

    def post(self, body: Any) -> Any:
        data = json.dumps(body).encode()
        asked = urllib.request.Request(self.url + "/api/stats", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.loads(answer.read())


def observation(ms: float, ago_s: float = 0.0, **changes: Any) -> dict[str, Any]:
    """A request of that latency, its parts adding up, so long ago."""
    at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=ago_s)
    load = changes.pop("load_ms", 11.0)
    return {
        "provider": "ollama",
        "model": "llama3.1:8b",
        "server": "localhost:11434",
        "timestamp": at.isoformat(),
        "latency_ms": round(ms, 3),
        "ttft_ms": round(load + 110.0, 3),
        "connect_ms": 0.4,
        "total_duration_ms": round(ms - 3.0, 3),
        "load_duration_ms": load,
        "prompt_eval_duration_ms": 104.5,
        "eval_duration_ms": round(ms - load - 130.0, 3),
        "prompt_eval_count": 26,
        "eval_count": 42,
        "cpu_percent": 35.2,
        "memory_percent": 45.6,
        "gpu_percent": 78.5,
        "gpu_memory_percent": 62.3,
        "host": "llm_host",
        "prompt_hash": "a1b2c3d4",
        "prompt_text": "Write one sentence about the ocean.",
    } | changes


def history(minutes: float = 50.0, until_s: float = 4.0, seed: int = 3) -> list[dict[str, Any]]:
    """An hour of a model at about 1.66 s: two cold loads, a shift, a drift, a short outage."""
    rng = random.Random(seed)
    n = int((minutes * 60 - until_s) / 2)
    rows = []
    noise = 0.0
    for i in range(n):
        ago = until_s + 2.0 * (n - i)
        noise = 0.2 * noise + rng.gauss(0.0, 0.045)
        factor = 2.718281828**noise
        if 700 <= i < 726:
            factor *= 1.14
        if 1040 <= i < 1049:
            factor *= 1.0 + 0.03 * (i - 1040)
        if i in (420, 980):
            rows.append(observation(1660.0 * factor + 3010.0, ago, load_ms=3020.0, gpu_percent=16.0))
        elif 860 <= i < 866:
            failed = observation(1.0, ago)
            keep = ("provider", "model", "server", "timestamp", "cpu_percent", "memory_percent", "host")
            rows.append(
                {name: failed[name] for name in keep}
                | {"ok": False, "error_kind": "refused", "error": "connection refused"}
            )
        else:
            rows.append(observation(1660.0 * factor, ago))
    return rows


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    assert os.path.exists(CHROMIUM), "these tests need Debian's chromium; scripts/test installs it as root"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """`llmscope serve` over an empty database."""
    app = App(tmp_path / "app", ["serve"])
    app.start()
    yield app
    app.stop()


@dataclass
class Visit:
    """A page that remembers what the console said."""

    page: Page
    said: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """What the chart says of itself."""
        found: dict[str, Any] = self.page.evaluate("window.__llmscope ?? {count: 0, markers: []}")
        return found


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    page = context.new_page()
    visit = Visit(page)
    page.on("console", lambda m: visit.said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: visit.said.append(str(e)))
    yield visit
    context.close()
