"""One connection of a client, which must say what it wants within bounds of time and size.

uvicorn waits for ever for the rest of a request and takes headers of any length; this gives up. A request that comes
in one piece, as nearly all do, pays for no timer.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ARRIVES_WITHIN_S = 30.0  # all of a request, from its first byte on; 8 MB at 2 Mbit/s
MAX_HEAD_BYTES = 65_536
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with those bounds."""

    arrives_within_s = ARRIVES_WITHIN_S

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._is_head = True  # what comes next belongs to the head of a request
        self._is_arriving = True
        self._head_bytes = 0
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._patience = self.loop.call_later(self.arrives_within_s, self._give_up, TOO_SLOW)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_arriving:
            if self._patience is not None:
                self._stop_waiting()
            return
        if self._patience is None:
            self._patience = self.loop.call_later(self.arrives_within_s, self._give_up, TOO_SLOW)
        if self._is_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._give_up(TOO_LONG)

    def on_message_begin(self) -> None:
        self._is_head = self._is_arriving = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_arriving = False
        super().on_message_complete()

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self, answer: bytes) -> None:
        """Answer, unless an answer to this client is on its way, and close."""
        self._patience = None
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(answer)
        self.transport.close()
