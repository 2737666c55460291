"""A server that answers with given bytes, cut, delayed and ended as a test wants; it keeps what was asked."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

DATA = Path(__file__).parent.parent / "data"
Ending = Literal["whole", "closed", "reset", "silent"]


def recorded(name: str) -> bytes:
    return (DATA / name).read_bytes()


@dataclass
class Reply:
    """An answer: its bytes in pieces with a pause after each, and how the connection ends.

    "whole" ends the body as HTTP says; "closed" and "reset" end the connection instead; "silent" keeps it
    open without another byte. `status` 0 sends no head: what `pieces` has is all.
    """

    pieces: Sequence[bytes] = ()
    status: int = 200
    kind: str = "application/x-ndjson"
    ending: Ending = "whole"
    pause_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    connection: int


class Replay:
    """Answers each path with its reply, the last one of a list for ever; 404 for paths without one."""

    def __init__(self, replies: dict[str, Reply | list[Reply]]) -> None:
        self._replies = {path: r if isinstance(r, list) else [r] for path, r in replies.items()}
        self.asked: list[Asked] = []
        self.url = ""
        self.connections = 0
        self._open: set[asyncio.Task[None]] = set()

    def posts(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "POST"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        number = self.connections
        try:
            while await self._serve_one(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve_one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *rest = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = first.split()
        self.asked.append(Asked(method, path, headers, json.loads(body) if body else None, number))
        replies = self._replies.get(path, [Reply([b"404 page not found"], 404, "text/plain")])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        return await self._answer(reply, writer)

    async def _answer(self, reply: Reply, writer: asyncio.StreamWriter) -> bool:
        if reply.status:
            extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
            head = f"HTTP/1.1 {reply.status} X\r\nContent-Type: {reply.kind}\r\n{extra}"
            writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for piece in reply.pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if reply.status else piece)
            await writer.drain()
            await asyncio.sleep(reply.pause_s)
        if reply.ending == "whole":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return True
        if reply.ending == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        if reply.ending == "silent":
            await asyncio.get_running_loop().create_future()
        return False

    async def stop(self) -> None:
        """Wait for connections that are about to end, and end the others."""
        if self._open:
            _, waiting = await asyncio.wait(self._open, timeout=0.1)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting)


@contextlib.asynccontextmanager
async def replaying(**replies: Reply | list[Reply]) -> AsyncIterator[Replay]:
    """A server on a free port; `generate`, `ps`, `chat`, … stand for the paths of the protocols."""
    paths = {
        "generate": "/api/generate",
        "ps": "/api/ps",
        "tags": "/api/tags",
        "version": "/api/version",
        "chat": "/v1/chat/completions",
        "models": "/v1/models",
    }
    replay = Replay({paths[name]: reply for name, reply in replies.items()})
    server = await asyncio.start_server(replay.serve, "127.0.0.1", 0)
    replay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield replay
    finally:
        server.close()
        await replay.stop()
        await server.wait_closed()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
