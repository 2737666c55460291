"""When things happened during one request: connected, sent, first piece, last byte; monotonic clock."""

import asyncio
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import aiohttp

from llmscope.destination import socket_factory

CONNECT_WITHIN_S = 10.0


class Clock(Protocol):
    """The wall clock stamps observations; every duration comes from the monotonic one."""

    def now_us(self) -> int: ...
    def monotonic_ms(self) -> float: ...
    async def sleep_until(self, monotonic_ms: float) -> None: ...


class SystemClock:
    """The clocks of this machine."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_ms(self) -> float:
        return time.monotonic_ns() / 1e6

    async def sleep_until(self, monotonic_ms: float) -> None:
        await asyncio.sleep(max(0.0, monotonic_ms - self.monotonic_ms()) / 1000.0)


@dataclass(slots=True)
class Instants:
    """The instants of one request, ms on the monotonic clock; None until they happen.

    `read_ms` is when the newest bytes were read. Pieces that arrive in one read share its instant, for a
    client cannot know more: gaps between them are 0, and only the mean over the whole answer stays exact.
    """

    clock: Clock
    connecting_ms: float | None = None
    connected_ms: float | None = None
    sent_ms: float | None = None
    read_ms: float | None = None
    first_piece_ms: float | None = None
    last_piece_ms: float | None = None
    pieces: int = 0
    gap_max_ms: float | None = None
    is_reused: bool = False

    def mark_sent(self) -> None:
        self.sent_ms = self.clock.monotonic_ms()

    def mark_read(self) -> None:
        self.read_ms = self.clock.monotonic_ms()

    def mark_piece(self) -> None:
        """Content came with the newest read."""
        if self.last_piece_ms is not None and self.read_ms is not None:
            self.gap_max_ms = max(self.gap_max_ms or 0.0, self.read_ms - self.last_piece_ms)
        if self.first_piece_ms is None:
            self.first_piece_ms = self.read_ms
        self.last_piece_ms = self.read_ms
        self.pieces += 1

    @property
    def connect_ms(self) -> float | None:
        """Name look-up, TCP and TLS together."""
        return _between(self.connecting_ms, self.connected_ms)

    @property
    def ttft_ms(self) -> float | None:
        return _between(self.sent_ms, self.first_piece_ms)

    @property
    def latency_ms(self) -> float | None:
        return _between(self.sent_ms, self.read_ms)

    @property
    def gap_mean_ms(self) -> float | None:
        whole = _between(self.first_piece_ms, self.last_piece_ms)
        return None if whole is None or self.pieces < 2 else round(whole / (self.pieces - 1), 3)


def _between(start_ms: float | None, end_ms: float | None) -> float | None:
    if start_ms is None or end_ms is None:
        return None
    return round(max(0.0, end_ms - start_ms), 3)


def open_session(allow_link_local: bool = False) -> aiohttp.ClientSession:
    """A session for probes: a new connection each time, its parts timed on the request's `Instants`.

    A kept connection would hide the cost of connecting, and a server that closes an idle one just as the
    probe is sent would look like a failure of the model. Link-local and metadata addresses are not connected to
    unless that is allowed.
    """
    connector = aiohttp.TCPConnector(
        force_close=True, limit=0, use_dns_cache=False, socket_factory=socket_factory(allow_link_local)
    )
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WITHIN_S)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, trace_configs=[tracing()])


def tracing() -> aiohttp.TraceConfig:
    """What makes a session write the instants of a request into its `trace_request_ctx`."""
    trace = aiohttp.TraceConfig()

    def on(signal: Any, mark: Any) -> None:
        async def call(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
            if isinstance(context.trace_request_ctx, Instants):
                mark(context.trace_request_ctx)

        signal.append(call)

    def connecting(instants: Instants) -> None:
        instants.connecting_ms = instants.clock.monotonic_ms()

    def connected(instants: Instants) -> None:
        instants.connected_ms = instants.clock.monotonic_ms()

    def reused(instants: Instants) -> None:
        instants.is_reused = True

    on(trace.on_connection_create_start, connecting)
    on(trace.on_connection_create_end, connected)
    on(trace.on_connection_reuseconn, reused)
    on(trace.on_request_headers_sent, Instants.mark_sent)  # just before head and body are written as one
    return trace
