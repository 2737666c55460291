"""The whole program as processes: killed, restarted, and with a real language model behind it."""

import http.client
import json
import signal
import sqlite3
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.llm.server import LlamaServer
from tests.processes import App, history, observation, wait_for

from llmscope.api.shapes import AboutOut
from llmscope.store import open_store


def stored(app: App) -> list[tuple[Any, ...]]:
    """Model, time and latency of every observation in the database, in order of arrival."""
    connection = sqlite3.connect(app.folder / "data" / "llmscope.db")
    try:
        return connection.execute("SELECT model, latency_ms, ok FROM telemetry ORDER BY id").fetchall()
    finally:
        connection.close()


def facts(app: App) -> list[tuple[Any, ...]]:
    """What was found, without what depends on the moment of asking."""
    found = app.get("/api/violations?limit=1000")["violations"]
    names = ("metric", "rule", "side", "first_signal_id", "last_signal_id", "count", "peak_z", "open", "ucl")
    return sorted(tuple(v[name] for name in names) for v in found)


class Load(threading.Thread):
    """Posts rows one at a time, about 200 a second, until one is not answered; knows which were."""

    def __init__(self, app: App, rows: list[dict[str, Any]]) -> None:
        super().__init__()
        self.app, self.rows = app, rows
        self.answered: list[float] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.app.port, timeout=5)
        try:
            for row in self.rows:
                connection.request(
                    "POST", "/api/stats", json.dumps(row), {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    return
                self.answered.append(row["latency_ms"])
                time.sleep(0.004)
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()


@pytest.mark.parametrize("after", [150, 420, 777])
def test_killed_under_load_it_keeps_every_answered_row_and_finds_the_same(tmp_path: Path, after: int) -> None:
    rows = [row for row in history(40) if row.get("ok", True)]
    app = App(tmp_path / "app", ["serve"])
    app.start()
    load = Load(app, rows)
    load.start()
    wait_for(lambda: len(load.answered) >= after)
    app.stop(signal.SIGKILL)
    load.join()
    app.start()
    kept = [latency for _model, latency, _ok in stored(app)]
    app.post(rows[len(kept) :])
    found = facts(app)
    app.stop()
    undisturbed = App(tmp_path / "undisturbed", ["serve"])
    undisturbed.start()
    undisturbed.post(rows)
    expected = facts(undisturbed)
    undisturbed.stop()

    assert kept[: len(load.answered)] == load.answered
    assert len(kept) <= len(load.answered) + 1  # the one whose answer the kill cut off may be there
    assert found == expected
    assert len(expected) > 5


def test_the_simulator_ends_in_order_when_told(tmp_path: Path) -> None:
    simulator = App(tmp_path / "simulator", ["simulate"])
    simulator.start_only()
    wait_for(lambda: simulator.get("/api/version"))
    assert simulator.process is not None
    simulator.process.send_signal(signal.SIGTERM)

    assert simulator.process.wait(5) == 0


def test_restarted_under_the_monitor_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    simulator = App(tmp_path / "simulator", ["simulate", "--scenario", "steady"])
    simulator.start_only()
    api = App(tmp_path / "api", ["serve"])
    api.start()
    monitor = App(
        tmp_path / "monitor",
        [
            "monitor",
            "--api",
            api.url,
            "--target",
            simulator.url,
            "--model",
            "llama3.2:1b",
            "--interval",
            "500ms",
        ],
    )
    monitor.start_only()
    try:
        wait_for(lambda: len(stored(api)) >= 4)
        api.stop(signal.SIGKILL)
        time.sleep(2.5)  # about five probes while nobody listens
        api.start()
        count = len(stored(api))
        wait_for(lambda: len(stored(api)) >= count + 8)
        spool = monitor.folder / "data" / "spool.db"
        assert spool.exists()
    finally:
        monitor.stop()
        api.stop()
        simulator.stop()
    connection = sqlite3.connect(api.folder / "data" / "llmscope.db")
    times = [row[0] for row in connection.execute("SELECT time_us FROM observation ORDER BY id")]
    connection.close()
    gaps = [b - a for a, b in pairwise(times[1:])]  # the first probe loads the model and skips ticks

    assert len(set(times)) == len(times)
    assert times == sorted(times)
    assert max(gaps) < 1_900_000, "probes of the outage are missing"


def test_a_real_server_is_watched_lost_and_found_again(tmp_path: Path, llama_server: LlamaServer) -> None:
    app = App(
        tmp_path / "app",
        [
            "up",
            "--target",
            llama_server.url,
            "--model",
            "tiny",
            "--interval",
            "250ms",
            "--num-predict",
            "8",
        ],
    )
    app.start()
    try:
        window = "/api/stats/spc?hours=1"
        wait_for(lambda: len(app.get(window)["values"]) >= 8)
        llama_server.kill()
        wait_for(lambda: app.get(window)["oks"].count(0) >= 3)
        failing = app.get("/api/series")["series"][0]["status"]
        llama_server.start()
        wait_for(lambda: app.get(window)["oks"][-4:] == [1, 1, 1, 1])
        seen = app.get(window)
    finally:
        app.stop()
    good = [i for i, ok in enumerate(seen["oks"]) if ok]
    lost = [i for i, ok in enumerate(seen["oks"]) if not ok]

    assert failing["state"] == "failing"
    assert failing["error_kind"] in ("refused", "truncated")
    assert all(seen["values"][i] is None for i in lost)
    assert all(0 < seen["ttfts"][i] <= 1000 * seen["values"][i] + 0.01 for i in good)
    assert all(seen["eval_counts"][i] > 0 and seen["tokens_per_second"][i] > 0 for i in good)
    assert seen["spc"]["n"] == len(good)
    assert max(seen["values"][i] for i in good) < 2.0


def test_it_looks_for_no_ollama_and_says_that_it_simulates(tmp_path: Path) -> None:
    """Without a target and without an Ollama the simulator stands in; skipped where an Ollama runs."""
    app = App(tmp_path / "app", ["up", "--interval", "200ms"])
    app.start()
    try:
        about = wait_for(lambda: (a := app.get("/api/about"))["targets"] and a)
    finally:
        app.stop()
    if about["simulated"]:
        assert about["notice"] == (
            "Simulated server. No Ollama at http://localhost:11434. Start Ollama, or pass --target."
        )
        assert about["notice"] in (app.folder / "log").read_text()
    else:
        assert about["notice"] is None


def test_it_stops_within_seconds_while_a_browser_listens(tmp_path: Path) -> None:
    app = App(tmp_path / "app", ["serve"])
    app.start()
    app.post(observation(1000.0))
    listening = http.client.HTTPConnection("127.0.0.1", app.port, timeout=10)
    listening.request("GET", "/api/stream")
    answer = listening.getresponse()
    answer.read(10)
    start = time.monotonic()
    app.stop()
    listening.close()

    assert time.monotonic() - start < 5.0
    store = open_store(app.folder / "data" / "llmscope.db")
    assert store.count_rows() == 1
    store.close()


def test_what_was_promised_is_told_to_the_page(tmp_path: Path) -> None:
    app = App(tmp_path / "app", ["serve", "--slo", "latency=2s,llama3.1:8b/ttft=500ms"])
    app.start()
    about = app.get("/api/about")
    app.stop()

    AboutOut.model_validate(about)
    assert about["slo"] == [
        {"model": None, "metric": "latency", "value": 2.0},
        {"model": "llama3.1:8b", "metric": "ttft", "value": 0.5},
    ]
