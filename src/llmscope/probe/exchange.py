"""One request to an LLM server and its streamed answer, with everything that can go wrong given its name.

What the server does wrong is data: it is raised as `ProbeFailed` up to the probe, which makes an observation
of it. Decisions where the protocols leave room:

- refused: no connection came about (refused, unreachable, no such name, TLS not agreed);
- truncated: a connection was there and the answer on it was not whole, even when not one byte came;
- server_error: the server says that it failed, by a status of 400 or more that has no kind of its own, or
  by an error in the stream after a 200;
- bad_response: what came is not the protocol (not JSON, a redirect, a line without end).
"""

import asyncio
import contextlib
import datetime as dt
import errno
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import msgspec

from llmscope.destination import ForbiddenAddress
from llmscope.observation import MAX_DURATION_MS, ErrorKind, Observation
from llmscope.probe.instants import Clock, Instants
from llmscope.probe.prompt import prompt_hash
from llmscope.probe.target import Target

MAX_LINE_BYTES = 1_000_000
MAX_ANSWER_BYTES = 32_000_000
MAX_ERROR_BYTES = 65_536
MAX_MESSAGE = 300
ASK_WITHIN_S = 5.0  # for the small questions: versions, lists of models
KIND_OF_STATUS: dict[int, ErrorKind] = {404: "http_404", 429: "busy", 503: "busy"}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class ProbeFailed(Exception):
    """The request did not end well; `kind` is one of the error kinds of an observation."""

    def __init__(self, kind: ErrorKind, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.message = message
        self.status = status


class Lines:
    """The lines of an answer as they arrive; iterates over (line, whether it was ended by a newline)."""

    def __init__(self, response: aiohttp.ClientResponse, instants: Instants) -> None:
        self._content = response.content
        self._instants = instants
        self._lines: list[bytes] = []  # newest first
        self._rest = bytearray()
        self._read_bytes = 0
        self._is_over = False

    def __aiter__(self) -> "Lines":
        return self

    async def __anext__(self) -> tuple[bytes, bool]:
        while not self._lines:
            if self._is_over:
                raise StopAsyncIteration
            data = await self._content.readany()
            if data:
                self._instants.mark_read()
                self._feed(data)
            else:
                self._is_over = True
                if self._rest.strip():
                    return bytes(self._rest), False
        return self._lines.pop(), True

    def _feed(self, data: bytes) -> None:
        self._read_bytes += len(data)
        if self._read_bytes > MAX_ANSWER_BYTES:
            raise ProbeFailed("bad_response", f"the answer has more than {MAX_ANSWER_BYTES:,} bytes")
        if b"\n" in data:
            *lines, rest = data.split(b"\n")
            lines[0] = bytes(self._rest) + lines[0]
            self._rest = bytearray(rest)
            self._lines = lines[::-1]
        else:
            self._rest += data
        if len(self._rest) > MAX_LINE_BYTES or any(len(line) > MAX_LINE_BYTES for line in self._lines):
            raise ProbeFailed("bad_response", f"a line of the answer has more than {MAX_LINE_BYTES:,} bytes")


class Exchange:
    """One measured request of a target: sends it, times it, and makes the observation of it."""

    def __init__(self, target: Target, http: aiohttp.ClientSession, clock: Clock) -> None:
        self._target = target
        self._http = http
        self._clock = clock
        self.instants = Instants(clock)
        self._sent_at_us = clock.now_us()

    @contextlib.asynccontextmanager
    async def post(self, url: str, body: dict[str, Any]) -> AsyncIterator[Lines]:
        """Send and give the lines of the answer; raises ProbeFailed, in its own body too."""
        within_s = self._target.timeout_s
        with failures_named(within_s):
            async with asyncio.timeout(within_s):
                async with await self._sent(url, body) as response:
                    await _expect_ok(response)
                    yield Lines(response, self.instants)

    async def _sent(self, url: str, body: dict[str, Any]) -> aiohttp.ClientResponse:
        """The answer's head. A kept connection that turns out closed says nothing of the model: once more."""
        while True:
            self.instants = instants = Instants(self._clock)
            self._sent_at_us = self._clock.now_us()
            instants.mark_sent()  # for a session that does not trace
            try:
                return await self._http.post(
                    url,
                    json=body,
                    headers=self._target.headers,
                    allow_redirects=False,
                    trace_request_ctx=instants,
                )
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not instants.is_reused:
                    raise

    def observed(self, **numbers: Any) -> Observation:
        """The observation of an answer that came whole; `numbers` are the server's own."""
        return self._observation(
            latency_ms=self.instants.latency_ms,
            ttft_ms=self.instants.ttft_ms,
            gap_mean_ms=self.instants.gap_mean_ms,
            gap_max_ms=None if self.instants.gap_max_ms is None else round(self.instants.gap_max_ms, 3),
            **numbers,
        )

    def failed(self, failure: ProbeFailed) -> Observation:
        """The observation of a failure: its kind and message, and nothing that could pass for a latency."""
        message = failure.message.encode(errors="replace").decode()  # a header may hold what is no text
        message = self._target.without_secrets(message)[:MAX_MESSAGE]
        return self._observation(ok=False, error_kind=failure.kind, error=message)

    def _observation(self, **fields: Any) -> Observation:
        target = self._target
        return Observation(
            provider=target.provider,
            model=target.model,
            server=target.server,
            source=target.source,
            timestamp=rfc3339(self._sent_at_us),
            connect_ms=self.instants.connect_ms,
            prompt_hash=prompt_hash(target.prompt),
            **fields,
        )


async def ask(http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> dict[str, Any]:
    """The JSON object at `url`; raises ProbeFailed."""
    with failures_named(ASK_WITHIN_S):
        async with (
            asyncio.timeout(ASK_WITHIN_S),
            http.get(url, headers=headers, allow_redirects=False) as response,
        ):
            await _expect_ok(response)
            return json_object(await _bounded(response, MAX_ANSWER_BYTES))


async def _expect_ok(response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status == 200:
        return
    if status < 400:
        where = response.headers.get("Location")
        message = f"HTTP {status}" + (f", a redirect to {where}" if where else "")
        raise ProbeFailed("bad_response", message, status)
    text = (await _bounded(response, MAX_ERROR_BYTES)).decode(errors="replace").strip()
    try:
        said = error_in(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        said = None if text.startswith("<") else text
    message = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    raise ProbeFailed(KIND_OF_STATUS.get(status, "server_error"), message, status)


async def _bounded(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, or its first bytes when it is longer."""
    body = bytearray()
    while len(body) < most and (data := await response.content.readany()):
        body += data
    return bytes(body[:most])


def entries(document: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """The objects in the list of that name; none where there is no such list."""
    listed = document.get(key)
    yield from (entry for entry in listed if isinstance(entry, dict)) if isinstance(listed, list) else ()


def error_in(document: object) -> str | None:
    """What an answer says went wrong, in `error` or `error.message`; None if nothing."""
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict):
        return str(
            error.get("message") or error.get("code") or error.get("type") or "an error without a message"
        )
    return None if error is None else str(error) or "an error without a message"


def json_object(text: bytes, is_whole: bool = True) -> dict[str, Any]:
    """The object in a line; raises ProbeFailed: truncated when the line broke off, else bad_response."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if not is_whole and not text.lstrip().startswith(b"<"):  # a page is no line that broke off
            raise ProbeFailed("truncated", "the answer broke off in the middle of a line") from None
        start = text[:60].decode(errors="replace").strip()
        raise ProbeFailed("bad_response", f"not JSON: {start!r}") from None
    if not isinstance(document, dict):
        raise ProbeFailed("bad_response", f"not a JSON object: {text[:60].decode(errors='replace')!r}")
    return document


@contextlib.contextmanager
def failures_named(within_s: float) -> Iterator[None]:
    """Turn what the network throws into ProbeFailed."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError:
        raise ProbeFailed("timeout", "no connection in time") from None
    except TimeoutError:
        raise ProbeFailed("timeout", f"no complete answer within {within_s:g} s") from None
    except aiohttp.ClientConnectorDNSError as error:
        raise ProbeFailed("refused", f"no such host: {error.host}") from None
    except aiohttp.ClientSSLError as error:
        raise ProbeFailed(
            "refused", f"no TLS connection to {error.host}:{error.port}: {error.strerror}"
        ) from None
    except aiohttp.ClientConnectorError as error:
        reason = _reason(error.os_error)
        raise ProbeFailed("refused", f"{reason} ({error.host}:{error.port})") from None
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, OSError) as error:
        is_reset = getattr(error, "errno", None) == errno.ECONNRESET
        how = "reset" if is_reset else "closed"
        raise ProbeFailed(
            "truncated", f"the server {how} the connection before the answer was whole"
        ) from None
    except aiohttp.ClientResponseError as error:
        raise ProbeFailed("bad_response", f"not HTTP: {' '.join(error.message.split())}") from None
    except aiohttp.ClientError as error:
        raise ProbeFailed("bad_response", f"{type(error).__name__}: {error}") from None


def _reason(error: OSError) -> str:
    if isinstance(error, ForbiddenAddress):
        return error.sentence
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return "connection refused" if f"Errno {errno.ECONNREFUSED}" in str(error) else str(error)


def rfc3339(time_us: int) -> str:
    """
    >>> rfc3339(1_764_000_000_000_001)
    '2025-11-24T16:00:00.000001Z'
    """
    return (EPOCH + dt.timedelta(microseconds=time_us)).isoformat(timespec="microseconds")[:-6] + "Z"


def duration_ms(value: object, per_ms: float = 1.0) -> float | None:
    """A duration that a server reports, in ms; None when it is absent or no duration at all."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and value.bit_length() > 64:  # would not fit a float
        return None
    ms = value / per_ms
    return round(ms, 6) if 0.0 <= ms <= MAX_DURATION_MS else None


def count(value: object) -> int | None:
    """A number of tokens that a server reports; None when it is absent or no count at all."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 2**31 else None
