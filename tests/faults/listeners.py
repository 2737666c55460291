"""Many listeners of the live stream, each on a connection of its own; and one that never reads."""

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator

EVENT = re.compile(rb"event: observation\nid: (\d+)")


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
