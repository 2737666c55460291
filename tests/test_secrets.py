"""Secrets and the texts of people are planted everywhere, and looked for wherever LLMscope speaks."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.attempts import ask, log_in
from tests.processes import App, alone, free_port, observation, wait_for

PASSWORD = "planted-password-1"
INGEST = "planted-ingest-token-2"
TOKEN = "planted-client-token-3"
KEY = "planted-api-key-4"
IN_URL = "planted-in-the-address-5"
PROMPT = "planted prompt of a person 6"
REPLY = "planted reply of a model 7"
SECRETS = {
    "LLMSCOPE_PASSWORD": PASSWORD,
    "LLMSCOPE_INGEST_TOKEN": INGEST,
    "LLMSCOPE_TOKEN": TOKEN,
    "LLMSCOPE_API_KEY": KEY,
    "LLMSCOPE_PROMPT": PROMPT,
}
BEARER = {"Authorization": f"Bearer {INGEST}"}


@contextlib.contextmanager
def simulated() -> Iterator[int]:
    """The port of a simulated Ollama in a process of its own."""
    port = free_port()
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "llmscope"), "simulate", "--port", str(port), "--scenario", "steady"],
        env=alone(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


def planted(text: str) -> list[str]:
    """Which of the planted texts are in it."""
    found = (PASSWORD, INGEST, TOKEN, KEY, IN_URL, PROMPT, REPLY)
    return [secret for secret in found if secret in text or secret.encode("utf-8").hex() in text]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a server says in all places: it watches a real and an unreachable target and is given broken requests."""
    with simulated() as port:
        yield what_is_said(tmp_path_factory.mktemp("secrets"), port)


def what_is_said(folder: Path, port: int) -> dict[str, str]:
    urls = [f"http://ann:{IN_URL}@127.0.0.1:{port}", f"http://ann:{IN_URL}@127.0.0.1:{free_port()}"]
    settings = SECRETS | {
        "LLMSCOPE_TARGETS": json.dumps([{"url": url} for url in urls]),
        "LLMSCOPE_INTERVAL": "200ms",
    }
    app = App(folder / "app", ["up", "--log-level", "debug"], settings=settings)
    try:
        app.start()
        cookie = log_in(app, PASSWORD).headers["set-cookie"].partition(";")[0]
        log_in(app, PASSWORD + "x")
        read = {"Cookie": cookie}
        wait_for(lambda: ask(app, "GET", "/api/about", headers=read).text.count('"model"') > 0, 60)
        text: dict[str, Any] = {"prompt_hash": "h", "prompt_text": PROMPT, "source": "proxy"}
        app.post(observation(1600.0, **text), BEARER)
        bodies = (
            json.dumps(observation(1600.0, **text, reply=REPLY)),
            json.dumps(observation(-1.0, **text)),
            json.dumps(observation(1600.0, **text))[:-1],
            json.dumps(observation(1600.0, **text) | {"latency_ms": PROMPT}),
            '{"prompt_text": NaN, "error": "' + REPLY + '"}',
        )
        answers = [ask(app, "POST", "/api/stats", body, BEARER) for body in bodies]
        for path in ("/api/login", "/api/backtest", "/api/violations/acknowledge"):
            kind = {"Content-Type": "application/json", "X-LLMscope-Page": "1"} | read
            answers.append(ask(app, "POST", path, json.dumps({"password": [PASSWORD], "who": [REPLY]}), kind))
            answers.append(ask(app, "POST", path, json.dumps({"password": PASSWORD})[:-1], kind))
        paths = ("/api/about", "/api/system", "/api/series", "/api/overview?metric=latency&hours=1",
                 "/api/violations", "/api/session", "/openapi.json", "/docs", "/", "/healthz", "/readyz")  # fmt: skip
        served = [ask(app, "GET", path, headers=read) for path in paths]
        process = Path(f"/proc/{app.process.pid}") if app.process else Path()
        return {
            "the process list": (process / "cmdline").read_text() + (process / "comm").read_text(),
            "answers to what is wrong": "".join(f"{a.text}{a.headers}" for a in answers),
            "what is served": "".join(f"{a.text}{a.headers}" for a in served),
            "statuses": " ".join(str(a.status) for a in (*answers, *served)),
            "about": served[0].text,
            "doctor": doctor(folder, settings),
            "the log": "",  # read when the server has ended
        } | {"the log": ended(app)}
    finally:
        app.stop()


def ended(app: App) -> str:
    app.stop()
    return (app.folder / "log").read_text()


def doctor(folder: Path, settings: dict[str, str]) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "llmscope"), "doctor", "--json", "--api", f"http://ann:{IN_URL}@127.0.0.1:1"],
        cwd=folder, env=alone() | settings, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "where", ["the process list", "answers to what is wrong", "what is served", "doctor", "the log"]
)
def test_nothing_that_was_planted_is_told(said: dict[str, str], where: str) -> None:
    assert planted(said[where]) == []
    assert len(said[where]) > 20


def test_what_is_told_was_really_made(said: dict[str, str]) -> None:
    assert said["about"].count("http://***@127.0.0.1") >= 1
    assert "http://***@127.0.0.1" in said["doctor"]
    assert "Watching" in said["the log"]
    assert "422" in said["statuses"]
    assert "500" not in said["statuses"]


def test_a_monitor_does_not_tell_its_token_when_it_is_refused(tmp_path: Path) -> None:
    server = App(tmp_path / "server", ["serve"], settings={"LLMSCOPE_PASSWORD": PASSWORD})
    monitor = App(tmp_path / "monitor", ["monitor", "--interval", "200ms"])
    log = tmp_path / "monitor" / "log"
    with simulated() as port:
        monitor.settings = SECRETS | {"LLMSCOPE_API": server.url, "OLLAMA_HOST": f"127.0.0.1:{port}"}
        try:
            server.start()
            monitor.start_only()
            wait_for(lambda: "not delivered" in log.read_text(), 60)
        finally:
            monitor.stop()
            server.stop()

    assert "LLMSCOPE_TOKEN" in log.read_text()
    assert planted(log.read_text()) == []
