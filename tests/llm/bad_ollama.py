"""An Ollama that answers wrongly: the model that is asked for says how."""

import asyncio
import contextlib
import gzip
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]

LINE = b'{"model":"m","response":"The","done":false}\n'
LAST = b'{"model":"m","done":true,"total_duration":9000000,"eval_count":4,"eval_duration":5000000}\n'
LIVING = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n"
HEAD = LIVING + b"\r\n"
BOMB_BYTES = 200_000_000


def says(*pieces: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return answer


def repeats(first: bytes, piece: bytes, pause_s: float = 0.0) -> Answer:
    """The piece again and again, until the other side has had enough."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return answer


async def reset(writer: asyncio.StreamWriter) -> None:
    await says(HEAD, LINE)(writer)
    await asyncio.sleep(0.01)
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def silence(_writer: asyncio.StreamWriter) -> None:
    await asyncio.get_running_loop().create_future()


def page(status: int) -> Answer:
    text = b"<html><body><h1>It is not your day</h1></body></html>"
    head = b"HTTP/1.1 %d X\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % (status, len(text))
    return says(head + text)


def bomb() -> Answer:
    small = gzip.compress(b" " * BOMB_BYTES)
    head = LIVING + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(small)
    return says(head, small)


FAULTS: dict[str, tuple[Answer, tuple[str | None, ...]]] = {
    "none": (says(HEAD, LINE, LAST), (None,)),
    "reset": (reset, ("truncated",)),
    "black-hole": (silence, ("timeout",)),
    "cut-off": (says(HEAD, LINE, LINE[:20]), ("truncated",)),
    "nothing": (says(), ("truncated",)),
    "slow-drip": (repeats(HEAD, b" ", 0.05), ("timeout",)),
    "garbage": (says(b"\x16\x03\x01 no HTTP \xff\xfe\r\n\r\n"), ("bad_response",)),
    "garbage-after-200": (says(HEAD, b"\xff\xfe\0{]\n" * 9), ("bad_response",)),
    "line-of-10-mb": (says(HEAD, b'{"response":"' + b"x" * 10_000_000 + b'"}\n', LAST), ("bad_response",)),
    "line-without-end": (repeats(HEAD, b"x" * 65_536), ("bad_response", "timeout")),
    "head-without-end": (repeats(LIVING, b"X-More: " + b"x" * 4000 + b"\r\n"), ("bad_response",)),
    "answer-without-end": (repeats(HEAD, LINE * 500, 0.01), ("bad_response", "timeout")),
    "gzip-bomb": (bomb(), ("bad_response",)),
    "page": (page(200), ("bad_response",)),
    "redirect": (
        says(b"HTTP/1.1 302 X\r\nLocation: http://\xff\xfe/\r\nContent-Length: 0\r\n\r\n"),
        ("bad_response",),
    ),
    "http-404": (page(404), ("http_404",)),
    "http-429": (page(429), ("busy",)),
    "http-500": (page(500), ("server_error",)),
    "http-503": (page(503), ("busy",)),
    "error-line": (says(HEAD, LINE, b'{"error":"out of memory"}\n'), ("server_error",)),
}
"""What the model of that name does, and the kinds of failure that it may be called."""

LISTS = {"/api/version": {"version": "0.13.0"}, "/api/ps": {"models": []}, "/api/tags": {"models": []}}


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(
        OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError
    ):
        first = await reader.readexactly(1)
        if first == b"\x16":  # the hello of TLS
            await page(400)(writer)
        else:
            await _answer(first + await reader.readuntil(b"\r\n\r\n"), reader, writer)
    writer.close()


async def _answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path = head.split(b" ", 2)[1].decode()
    if path in LISTS:
        await says(HEAD, json.dumps(LISTS[path]).encode())(writer)
    elif length := re.search(rb"(?i)content-length: (\d+)", head):
        asked = json.loads(await reader.readexactly(int(length[1])))
        await FAULTS[asked["model"]][0](writer)


@contextlib.asynccontextmanager
async def bad_ollama() -> AsyncIterator[int]:
    """On a free port of the loopback, which it gives."""
    under_way: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_serve(reader, writer))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
