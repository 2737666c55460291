"""What the routes work with, handed to them on the application's state, and the filters they share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Query, Request

from llmscope.access import Access
from llmscope.engine import Engine
from llmscope.ingest import Ingest
from llmscope.live import Filter, Hub
from llmscope.store import Series, Store


@dataclass(slots=True)
class Parts:
    """The parts of a running server. `about` and `system` are asked anew each time."""

    store: Store
    engine: Engine
    ingest: Ingest
    hub: Hub
    clock_us: Callable[[], int]
    about: Callable[[], dict[str, Any]]
    system: Callable[[], dict[str, Any]]
    dashboard: Path
    access: Access = field(default_factory=Access)
    at_end: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def end(self) -> None:
        """End what the routes have begun; when the server stops."""
        for end in self.at_end:
            await end()


def parts_of(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


@dataclass(frozen=True, slots=True)
class SeriesFilter:
    """Which series a request is about; what is not given matches any."""

    provider: str | None
    model: str | None
    server: str | None
    source: str | None

    def series(self, store: Store) -> list[Series]:
        """The matching series, the one longest known first."""
        return [
            s
            for s in store.series.values()
            if self.provider in (None, s.key.provider)
            and self.model in (None, s.key.model)
            and self.server in (None, s.key.server)
            and self.source in (None, s.key.source)
        ]

    def live(self, metric: str | None = None) -> Filter:
        return Filter(self.provider, self.model, self.server, self.source, metric)


def _selection(
    provider: Annotated[str | None, Query(description="Only this provider, such as ollama.")] = None,
    model: Annotated[str | None, Query(description="Only this model.")] = None,
    server: Annotated[str | None, Query(description="Only this server, host:port.")] = None,
    source: Annotated[str | None, Query(description="probe, proxy, otlp or simulator.")] = None,
) -> SeriesFilter:
    return SeriesFilter(provider, model, server, source)


Selection = Annotated[SeriesFilter, Depends(_selection)]

LONGEST_HOURS = 876_600  # a century: beyond it an instant no longer fits what the database can hold
Hours = Annotated[
    float | None, Query(gt=0, le=LONGEST_HOURS, description="Only those of the last so many hours.")
]
