"""A client's connection, bounded where uvicorn leaves it open: how long a request may take to arrive, how large
its head may be, and how long a peer that takes nothing is kept.
"""

import asyncio
import http
import socket
from typing import ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_WITHIN_S = 30.0  # 8 MB in that time are 2 Mbit/s; whoever is slower sends smaller batches
MAX_HEAD_BYTES = 65_536  # a request line and headers; browsers and proxies stay below 16 kB
PIECE_BYTES = 16_384  # one read can hold more than a head may have: it is taken in pieces
PEER_SILENT_MS = 30_000  # what was sent and is not taken for so long: the peer is gone, or stuck


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, whose connections the kernel ends when their peer has been silent. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: turns Nagle off
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_SILENT_MS)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


class Connection(HttpToolsProtocol):
    """One HTTP connection. A request that is too slow is answered 408, one with too long a head 431.

    Requests are given `extensions["abort"]`, which ends the connection at once, with all that is unsent.
    """

    request_within_s: ClassVar[float] = REQUEST_WITHIN_S

    _due: asyncio.TimerHandle | None = None
    _is_in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        while self._is_in_head and len(data) > PIECE_BYTES and not self.transport.is_closing():
            self._feed(data[:PIECE_BYTES])
            data = data[PIECE_BYTES:]
        if not self.transport.is_closing():
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"abort": cast(dict[object, object], self.transport.abort)}
        self._is_in_head = True
        self._head_bytes = 0
        self._expect()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:  # not what follows a chunked body: nobody reads it
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._arrived()
        self._is_in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def _expect(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(self.request_within_s, self._too_slow)

    def _arrived(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _too_slow(self) -> None:
        self._due = None
        self._refuse(408)

    def _refuse(self, status: int) -> None:
        """Say why, unless an answer is under way already, and end the connection."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        text = http.HTTPStatus(status).phrase
        head = f"HTTP/1.1 {status} {text}\r\ncontent-type: text/plain\r\ncontent-length: {len(text)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n{text}".encode())
        self.transport.close()
