"""An Ollama that numbers its answers: the number stands in `eval_count`, and so in the row that a monitor stores."""

import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = ("llama3.1:8b", "mistral:7b", "qwen3:4b", "gemma3:1b")


class CountingOllama:
    """Serves from threads of this process; `finished` has when each was asked for and sent whole."""

    def __init__(self, answer_s: float = 0.02) -> None:
        self.answer_s = answer_s
        self.finished: dict[int, tuple[float, float]] = {}
        self._numbers = itertools.count(1)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.ollama = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "CountingOllama":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def targets(self, models: int) -> list[str]:
        """The arguments with which a monitor watches so many of its models."""
        return [word for model in MODELS[:models] for word in ("--target", self.url, "--model", model)]

    def next_number(self) -> int:
        return next(self._numbers)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    ollama: CountingOllama

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A monitor that was killed is no mistake of this server."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        documents: dict[str, Any] = {
            "/api/version": {"version": "0.13.0"},
            "/api/ps": {"models": [{"name": model, "context_length": 4096} for model in MODELS]},
            "/api/tags": {"models": [{"name": model} for model in MODELS]},
        }
        self._begin()
        self._line(documents.get(self.path, {}))

    def do_POST(self) -> None:
        ollama, asked_at = self.server.ollama, time.monotonic()
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._begin()
        self._line({"model": asked["model"], "response": "The", "done": False})
        time.sleep(ollama.answer_s)
        number, ms = ollama.next_number(), 1_000_000
        self._line(
            {
                "model": asked["model"],
                "done": True,
                "total_duration": round(ollama.answer_s * 1000 * ms),
                "load_duration": 2 * ms,
                "prompt_eval_count": 26,
                "prompt_eval_duration": 3 * ms,
                "eval_count": number,
                "eval_duration": round(ollama.answer_s * 900 * ms),
            }
        )
        ollama.finished[number] = asked_at, time.monotonic()

    def _begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()

    def _line(self, document: dict[str, Any]) -> None:
        self.wfile.write(json.dumps(document).encode() + b"\n")
        self.wfile.flush()
