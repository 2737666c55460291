"""What comes in over raw sockets: broken, endless, slow, half; the server answers 4xx or closes, and goes on."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.processes import observation
from tests.serving import Served, eventually, served

from llmscope.api.connection import MAX_HEAD_BYTES, Connection

POST = b"POST /api/stats HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"

MALFORMED = {
    "no request at all": b"\r\n\r\n\r\n",
    "null bytes": b"\0" * 300,
    "TLS to the plain port": bytes.fromhex("16030100a5010000a10303") + b"\x13\x37" * 80,
    "a request line of one word": b"GET\r\n\r\n",
    "an unknown method": b"BREW /api/stats HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/9.9": b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "HTTP/2 by prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "a target that is no address": b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a target of bytes": b"GET /\xff\xfe\x80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "CONNECT": b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "OPTIONS of everything": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a null byte in the path": b"GET /%00/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path that climbs": b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path that climbs in code": b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a query that is no text": b"GET /api/stats/spc?hours=%ff%fe%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a header without a colon": GET + b"nonsense\r\n\r\n",
    "a header with a null byte": GET + b"X-Odd: a\0b\r\n\r\n",
    "a length that is no number": POST + b"Content-Length: many\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -5\r\n\r\n{}",
    "a length beyond all": POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
    "a length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks of nonsense": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than it says": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}}}}\r\n0\r\n\r\n",
    "a chunk of endless size": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
    "an encoding nobody knows": POST + b"Transfer-Encoding: rot13\r\n\r\n{}",
    "a body that is not UTF-8": POST + b'Content-Length: 17\r\n\r\n{"provider":"\xff\xfe"}',
    "a body of null bytes": POST + b"Content-Length: 4\r\n\r\n\0\0\0\0",
    "a sender that is not text": POST + b"X-LLMscope-Sender: \xff\x80\r\nContent-Length: 2\r\n\r\n{}",
    "a cursor that is no number": b"GET /api/stream HTTP/1.0\r\nLast-Event-ID: \xff\xb2\r\n\r\n",
    "an upgrade to a socket": GET
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "ten thousand headers": GET + b"X: y\r\n" * 20_000 + b"\r\n",
}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path / "llmscope.db") as server:
        yield server


class Client:
    """A socket and what comes back on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # it may have closed in the middle of what is too much
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self, within_s: float = 5.0) -> bytes:
        """Everything until the server closes or has nothing to say for a while."""
        got = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while data := await asyncio.wait_for(self.reader.read(65536), within_s):
                got += data
        return got


@contextlib.asynccontextmanager
async def connected(here: Served) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(here.url.rpartition(":")[2]))
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_malformed_requests_are_refused_or_closed_and_never_the_servers_mistake(here: Served) -> None:
    said: dict[str, str] = {}
    for name, data in MALFORMED.items():
        async with connected(here) as client:
            await client.send(data)
            client.writer.write_eof()
            answer = await client.answer(1.0)
            said[name] = answer[9:12].decode() if answer.startswith(b"HTTP/") else "closed"
            await here.get("/healthz")

    mistakes = {name: status for name, status in said.items() if status.startswith("5")}
    assert mistakes == {}
    taken = {name for name, status in said.items() if status == "200"}
    # an old way to ask, and offers that need not be taken up
    assert taken <= {"HTTP/0.9", "a cursor that is no number", "an upgrade to a socket"}
    assert here.store.next_id == 1, "something of it was stored"


async def test_each_byte_alone_is_as_good_as_all_at_once(here: Served) -> None:
    async with connected(here) as client:
        for i in range(len(GET)):
            await client.send(GET[i : i + 1])
        await client.send(b"Connection: close\r\n\r\n")

        assert (await client.answer()).startswith(b"HTTP/1.1 200")


async def test_requests_in_one_go_are_answered_in_order(here: Served) -> None:
    async with connected(here) as client:
        await client.send((GET + b"\r\n") * 40 + b"GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n")
        answer = await client.answer()

    assert answer.count(b"HTTP/1.1 200") == 40
    assert answer.rfind(b"HTTP/1.1 404") > answer.rfind(b"HTTP/1.1 200")


async def test_a_head_without_end_is_refused_at_64_kb(here: Served) -> None:
    async with connected(here) as client:
        await client.send(GET + b"X-Long: " + b"x" * (2 * MAX_HEAD_BYTES))

        assert (await client.answer()).startswith(b"HTTP/1.1 431")


async def test_a_body_beyond_8_mb_is_refused_whatever_its_length_says(here: Served) -> None:
    async with connected(here) as client:
        await client.send(POST + b"Content-Length: 9000000\r\n\r\n")
        assert (await client.answer(0.5)).startswith(b"HTTP/1.1 413")
    async with connected(here) as client:
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(9):
            await client.send(b"f4240\r\n" + b" " * 1_000_000 + b"\r\n")

        assert (await client.answer(0.5)).startswith(b"HTTP/1.1 413")


async def test_what_comes_too_slowly_is_refused_and_holds_up_nobody(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "request_within_s", 0.3)
    begun = (b"", b"GET /heal", GET, POST + b"Content-Length: 500\r\n\r\n{")
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(here)) for _ in begun for _ in range(10)]
        for i, client in enumerate(clients):
            await client.send(begun[i % len(begun)])
        await here.post(observation(1000.0))
        answers = await asyncio.gather(*(client.answer(3.0) for client in clients))

    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 408"] * len(clients)


async def test_a_thousand_idle_connections_hold_up_nobody(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "request_within_s", 2.0)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(1000):
            await stack.enter_async_context(connected(here))
        await here.post(observation(1000.0))
        async with connected(here) as client:
            await client.send(GET + b"Connection: close\r\n\r\n")

            assert (await client.answer()).startswith(b"HTTP/1.1 200")


async def test_a_half_closed_request_is_answered_and_one_broken_off_stores_nothing(here: Served) -> None:
    async with connected(here) as client:
        await client.send(GET + b"\r\n")
        client.writer.write_eof()
        half = await client.answer()
    rows = b"[" + b",".join([b'{"provider":"p","model":"m","latency_ms":1}'] * 3000) + b"]"
    head = POST + b"Content-Length: %d\r\n\r\n" % len(rows)
    for is_reset in (False, True):
        async with connected(here) as client:
            await client.send(head + rows[: len(rows) // 2])
            if is_reset:
                linger = struct.pack("ii", 1, 0)
                client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                client.writer.transport.abort()
    await here.get("/healthz")

    assert half.startswith(b"HTTP/1.1 200") or half == b""  # closing one side may mean that nobody listens
    assert here.store.next_id == 1


async def test_a_listener_that_hangs_up_is_forgotten(here: Served) -> None:
    async with connected(here) as client:
        await client.send(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await eventually(lambda: len(here.hub) == 1)

    assert await eventually(lambda: len(here.hub) == 0) is True
