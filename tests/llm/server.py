"""A real llama.cpp server in a process of its own, to be started, stopped and killed by tests."""

import http.client
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

SERVE = Path(__file__).with_name("serve.py")
START_WITHIN_S = 20.0


def unused_port() -> int:
    """A port on which nobody listens, and that the system gives to nobody while the server is down."""
    for port in random.SystemRandom().sample(range(20_000, 30_000), 100):  # below the ephemeral ones
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no unused port")


class LlamaServer:
    """Serves a model on one port of the loopback, the same after each start."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self.port = unused_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [sys.executable, str(SERVE), self._model.name, str(self.port)]
        self._process = subprocess.Popen(
            command,
            cwd=self._model.parent,  # the server names the model as it was asked to open it
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_WITHIN_S
        while not self._is_ready():
            assert self._process.poll() is None, "llama.cpp ended at its start"
            assert time.monotonic() < deadline, f"llama.cpp did not answer within {START_WITHIN_S:g} s"
            time.sleep(0.01)

    def stop(self) -> None:
        """Ask it to end, and wait for that; nothing happens when it is not there."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin is not None
        process.stdin.close()

    def wait_until_busy(self) -> None:
        """Wait until it is in the middle of an answer."""
        deadline = time.monotonic() + START_WITHIN_S
        while b'"is_processing":true' not in self._get("/slots")[1]:
            assert time.monotonic() < deadline, "llama.cpp was given nothing to do"
            time.sleep(0.005)

    def _is_ready(self) -> bool:
        try:
            return self._get("/health")[0] == 200
        except OSError:
            return False

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1.0)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
