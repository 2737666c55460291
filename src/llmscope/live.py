"""Fan-out of what just happened to whoever listens. It never waits: a listener that is too slow is cut off.

A listener that was cut off comes back with the id of the last event it saw and is given what it missed.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

QUEUE_LIMIT = 2_000  # frames a listener may fall behind before it is cut off; about a megabyte


@dataclass(frozen=True, slots=True)
class Filter:
    """Which series a listener wants; None means any."""

    provider: str | None = None
    model: str | None = None
    server: str | None = None
    source: str | None = None
    metric: str | None = None

    def admits(self, about: Mapping[str, str]) -> bool:
        """Whether an event about the series (and metric) named is wanted; what it does not name, passes."""
        for name in ("provider", "model", "server", "source", "metric"):
            wanted = getattr(self, name)
            if wanted is not None and name in about and about[name] != wanted:
                return False
        return True


EVERYTHING = Filter()


@dataclass(eq=False, slots=True)
class Listener:
    """One subscriber: `get` gives the next frame, or None when it was cut off or the hub closed.

    `name` says in the log who it was; `abort` ends its connection, which may be waiting for it to read.
    """

    filter: Filter = EVERYTHING
    name: str = "a listener"
    abort: Callable[[], object] | None = None
    _frames: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(QUEUE_LIMIT + 1))
    cut_off: bool = False

    async def get(self) -> bytes | None:
        return await self._frames.get()

    def offer(self, frame: bytes) -> None:
        if self.cut_off:
            return
        if self._frames.qsize() >= QUEUE_LIMIT:
            log.warning(
                "%s of the live stream does not keep up: cut off, %d frames behind", self.name, QUEUE_LIMIT
            )
            while not self._frames.empty():  # it can have them from the store when it comes back
                self._frames.get_nowait()
            self.end()
            if self.abort is not None:
                self.abort()
        else:
            self._frames.put_nowait(frame)

    def end(self) -> None:
        if not self.cut_off:
            self.cut_off = True
            self._frames.put_nowait(None)


class Hub:
    """Knows the listeners; `publish` encodes nothing and waits for nobody. Used on the event loop only."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self.closed = False

    def __len__(self) -> int:
        return len(self._listeners)

    def subscribe(
        self, wanted: Filter = EVERYTHING, name: str = "a listener", abort: Callable[[], object] | None = None
    ) -> Listener:
        listener = Listener(wanted, name, abort)
        if self.closed:
            listener.end()
        else:
            self._listeners.add(listener)
        return listener

    def unsubscribe(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def publish(self, frame: bytes, about: Mapping[str, str]) -> None:
        """Offer a frame to every listener whose filter admits what it is about."""
        for listener in self._listeners:
            if listener.filter.admits(about):
                listener.offer(frame)

    def close(self) -> None:
        """End every listener, after what it has not read yet; used when the server stops."""
        self.closed = True
        for listener in self._listeners:
            listener.end()

    def abort(self) -> None:
        """End the connections of those that are still there."""
        for listener in self._listeners:
            if listener.abort is not None:
                listener.abort()


def frame(event: str, data: bytes, event_id: str | None = None) -> bytes:
    """A server-sent event. `data` must hold no newline.

    >>> frame("status", b"{}", "7")
    b'event: status\\nid: 7\\ndata: {}\\n\\n'
    """
    head = f"event: {event}\n" if event_id is None else f"event: {event}\nid: {event_id}\n"
    return b"".join((head.encode(), b"data: ", data, b"\n\n"))
