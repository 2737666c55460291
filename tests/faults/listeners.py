"""Many listeners of the live stream, each on a connection of its own; and one that never reads."""

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import psutil
from tests.processes import App, observation
from tests.serving import eventually

EVENT = re.compile(rb"event: observation\nid: (\d+)")

CUT_OFF = "does not keep up"
A_BATCH = 250  # below the number from which listeners are told to load the window instead


class Listeners:
    """`heard[i]` has when each listener heard of row i; `ended` counts those whose stream the server ended."""

    def __init__(self) -> None:
        self.heard: dict[int, list[float]] = {}
        self.ended = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self, port: int, number: int, query: str = "") -> None:
        """So many more listen; returns when each has been welcomed."""
        welcomed = [asyncio.get_running_loop().create_future() for _ in range(number)]
        for future in welcomed:
            self._tasks.append(asyncio.create_task(self._listen(port, query, future)))
        await asyncio.gather(*welcomed)

    async def _listen(self, port: int, query: str, welcomed: "asyncio.Future[None]") -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET /api/stream{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            rest = b""
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    now = time.monotonic()
                    if not welcomed.done() and b"retry: " in data:
                        welcomed.set_result(None)
                    *frames, rest = (rest + data).split(b"\n\n")
                    for frame in frames:
                        if found := EVENT.search(frame):
                            self.heard.setdefault(int(found[1]), []).append(now)
            self.ended += 1
        finally:
            writer.close()

    def count(self) -> int:
        """How many observations were heard, by all together."""
        return sum(map(len, self.heard.values()))

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def listening(port: int, number: int, query: str = "") -> AsyncIterator[Listeners]:
    listeners = Listeners()
    try:
        await listeners.join(port, number, query)
        yield listeners
    finally:
        await listeners.leave()


@contextlib.contextmanager
def stuck(port: int) -> Iterator[socket.socket]:
    """A listener to everything that asks and never reads, with as small a buffer as can be had."""
    with socket.socket() as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ear.connect(("127.0.0.1", port))
        ear.sendall(b"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        yield ear


# -- many of them, one of them stuck


@dataclass
class Heard:
    """For each point posted: how long until the last of all listeners had it, and until the POST was answered."""

    delays_s: list[float]
    posts_s: list[float]
    before_mb: float
    after_mb: float
    flooded: int  # rows until the stuck one was cut off


def memory_mb(app: App) -> float:
    assert app.process is not None
    return float(psutil.Process(app.process.pid).memory_info().rss / 1e6)


def flood(app: App) -> int:
    """Post until the log says that a listener was cut off; how many rows that took."""
    for batch in range(1, 200):
        app.post([observation(1000.0 + i, 300.0 - batch + i / 1e3, model="flood") for i in range(A_BATCH)])
        if CUT_OFF in (app.folder / "log").read_text():
            return batch * A_BATCH
    raise AssertionError("the stuck listener was not cut off")


async def hear(app: App, many: int, points: int, every_s: float) -> Heard:
    """Post points to many listeners, while one more is stuck under a flood of another model."""
    app.post(observation(1000.0, 60.0, model="quiet"))
    before_mb = memory_mb(app)
    sent: list[float] = []
    posts_s: list[float] = []
    async with listening(app.port, many, "?model=quiet") as listeners:
        with stuck(app.port):
            flooding = asyncio.create_task(asyncio.to_thread(flood, app))
            while not flooding.done() or len(sent) < points:
                sent.append(time.monotonic())
                await asyncio.to_thread(app.post, observation(1500.0, model="quiet"))
                posts_s.append(time.monotonic() - sent[-1])
                await asyncio.sleep(every_s)
            flooded = await flooding
        await eventually(lambda: listeners.count() == many * len(sent))
        after_mb = memory_mb(app)
        heard = [listeners.heard[row] for row in sorted(listeners.heard)]
    delays_s = [max(at) - since for at, since in zip(heard, sent, strict=True)]
    return Heard(delays_s, posts_s, before_mb, after_mb, flooded)
