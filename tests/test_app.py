"""The whole program as processes, with a real language model behind it. tests/faults kills them."""

import http.client
import signal
import statistics
import time
from pathlib import Path

from tests.llm.server import LlamaServer
from tests.processes import App, observation, wait_for

from llmscope.api.shapes import AboutOut
from llmscope.store import open_store


def test_the_simulator_ends_in_order_when_told(tmp_path: Path) -> None:
    simulator = App(tmp_path / "simulator", ["simulate"])
    simulator.start_only()
    wait_for(lambda: simulator.get("/api/version"))
    assert simulator.process is not None
    simulator.process.send_signal(signal.SIGTERM)

    assert simulator.process.wait(5) == 0


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
    assert statistics.median(seen["values"][i] for i in good) < 2.0


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
