"""LLMscope as processes: started on a free port, stopped, killed, started again on the same database."""

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def alone() -> dict[str, str]:
    """The environment without settings of the machine that runs the tests."""
    ours = ("LLMSCOPE_", "OLLAMA_", "MONITOR_", "OPENAI_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


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
    settings: dict[str, str] = field(default_factory=dict)  # as environment variables
    program: list[str] = field(default_factory=lambda: [str(Path(sys.executable).parent / "llmscope")])
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait for the first answer."""
        begun = time.monotonic()
        self.start_only()
        wait_for(lambda: self.get("/healthz"), 60.0)
        self.started_s = time.monotonic() - begun

    def start_only(self) -> None:
        command = [*self.program, *self.arguments, "--port", str(self.port)]
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.arguments[0] == "monitor":
            command = command[:-2]  # it listens on no port
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, env=alone() | self.settings
            )

    def stop(self, how: int = signal.SIGTERM) -> int | None:
        """End it and return its exit code; None when it was not running."""
        process, self.process = self.process, None
        if process is None:
            return None
        process.send_signal(how)
        return process.wait(60)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.loads(answer.read())

    def post(self, body: Any, headers: dict[str, str] | None = None) -> Any:
        data = json.dumps(body).encode()
        named = {"Content-Type": "application/json"} | (headers or {})
        asked = urllib.request.Request(self.url + "/api/stats", data, named)
        with urllib.request.urlopen(asked, timeout=30) as answer:
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
