"""`GET /api/stream`: what happens, as server-sent events. A client that comes back is given what it missed."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, HTTPException, Query, Request
from starlette.responses import StreamingResponse

from llmscope import documents
from llmscope.access import Caller
from llmscope.api.parts import Parts, Selection, SeriesFilter, parts_of
from llmscope.engine import Judged
from llmscope.live import frame
from llmscope.store import Series
from llmscope.store import rows as r

KEEP_ALIVE_S = 15.0
LOOK_AT_CALLER_S = 2.0  # at least, and with the next event: a session that is over hears no more
MOST_LISTENERS = 1_000  # each holds a connection and may hold a queue
STUCK_S = 10.0
MOST_MISSED = 5_000  # more than this since the client left: reloading the window is quicker

log = logging.getLogger(__name__)
router = APIRouter(tags=["stream"])


@router.get(
    "/api/stream",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        503: {"description": "Too many listen already."},
    },
)
async def stream(
    request: Request,
    selection: Selection,
    metric: Annotated[str | None, Query(description="Only violations and limits of this metric.")] = None,
    last_event_id: Annotated[
        str | None, Query(description="As the header, for clients that cannot set it.")
    ] = None,
    last_event_id_header: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> StreamingResponse:
    """Events: observation (its id is a cursor), violation, limits, status, system, about, reset.

    `reset` says that too much was missed: load the window again.
    """
    parts = parts_of(request)
    if len(parts.hub) >= MOST_LISTENERS:
        raise HTTPException(
            503, f"{MOST_LISTENERS:,} listen already, the most; try again later", {"Retry-After": "15"}
        )
    caller: Caller = request.scope["llmscope.caller"]
    cursor = last_event_id_header or last_event_id
    return StreamingResponse(
        _events(request, parts, selection, metric, cursor, caller.goes_on),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(
    request: Request,
    parts: Parts,
    selection: SeriesFilter,
    metric: str | None,
    cursor: str | None,
    goes_on: Callable[[], bool],
) -> AsyncIterator[bytes]:
    """The stream, until the listener is cut off or may listen no longer: that is looked at now and then."""
    name = f"{request.client.host}:{request.client.port}" if request.client else "a listener"
    loop = asyncio.get_running_loop()
    abort = request.scope.get("extensions", {}).get("abort")
    listener = parts.hub.subscribe(selection.live(metric), name, abort)
    try:
        # Nothing is awaited between subscribing and collecting what was missed: no gap and no double.
        first = [frame("about", orjson.dumps(parts.about())), frame("system", orjson.dumps(parts.system()))]
        first += _missed(parts, selection, metric, cursor)
        first += [_status(parts, series, metric) for series in selection.series(parts.store)]
        yield b"retry: 2000\n\n" + b"".join(first)
        loop = asyncio.get_running_loop()
        looked_at_s = loop.time()
        while True:
            try:
                message = await asyncio.wait_for(listener.get(), KEEP_ALIVE_S)
            except TimeoutError:
                message = b": keep-alive\n\n"
            if loop.time() - looked_at_s > LOOK_AT_CALLER_S:
                looked_at_s = loop.time()
                if not goes_on():
                    return
            if message is None:
                return
            given_s = loop.time()
            yield message
            if loop.time() - given_s > STUCK_S:  # its connection has gone, or it reads again
                log.warning("%s of the live stream took nothing for %.0f s", name, loop.time() - given_s)
    finally:
        parts.hub.unsubscribe(listener)


def _missed(parts: Parts, selection: SeriesFilter, metric: str | None, cursor: str | None) -> list[bytes]:
    """The observations and violations since the cursor, as events; `reset` when they are too many or unknown."""
    if not cursor:
        return []
    reset = [frame("reset", b"{}", str(parts.ingest.last_id))]
    if not cursor.isdecimal() or len(cursor) > 18 or int(cursor) > parts.ingest.last_id:
        return reset
    since = int(cursor)
    chosen = selection.series(parts.store)
    missed: list[tuple[int, bytes]] = []
    for series in chosen:
        window = series.window
        held_from = int(window.ids[0]) if len(window) else 0
        count = len(window.since_id(since))
        dropped = series.count > len(window) and since < held_from - 1
        if dropped or len(missed) + count > MOST_MISSED:
            return reset
        missed += _observations(parts, series, since, count)
    frames = [message for _id, message in sorted(missed, key=lambda m: m[0])]
    for series in chosen:
        for violation in parts.ingest.recent.get(series.id, {}).values():
            changed = violation.open or violation.last_signal_id > since
            if changed and metric in (None, violation.metric):
                document = documents.violation_document(violation, series)
                frames.append(frame("violation", orjson.dumps(document)))
        findings = parts.ingest.findings
        frames += [
            findings.incident_frame(incident)[0]
            for incident in findings.incidents.get(series.id, {}).values()
            if not incident.superseded
        ]
        for charted in parts.engine.metrics_of(series.id):
            if metric in (None, charted):
                versions = parts.store.baselines.get((series.id, charted), [])
                spc = documents.limits_document(charted, parts.engine.chart(series.id, charted), versions)
                about = documents.name_document(series) | {"metric": charted}
                frames.append(frame("limits", orjson.dumps(about | {"spc": spc})))
    return frames


def _observations(parts: Parts, series: Series, since: int, count: int) -> list[tuple[int, bytes]]:
    if count == 0:
        return []
    name = documents.name_document(series)
    _before, rows = parts.store.neighbours(series.id, since + 1, 0, count - 1)
    errors = parts.store.failures([row[r.ID] for row in rows if row[r.OUTCOME]])
    return [
        (
            row[r.ID],
            frame(
                "observation",
                orjson.dumps(documents.live_document(row, name, errors.get(row[r.ID]), Judged({}))),
                str(row[r.ID]),
            ),
        )
        for row in rows
        if row[r.ID] <= parts.ingest.last_id
    ]


def _status(parts: Parts, series: Series, metric: str | None) -> bytes:
    return status_frame(parts, series, metric or parts.engine.alarmed[0])


def status_frame(parts: Parts, series: Series, metric: str) -> bytes:
    """The status of one series as an event."""
    chart = parts.engine.chart(series.id, metric)
    status = documents.status_document(series, chart, parts.clock_us())
    return frame(
        "status",
        orjson.dumps({"series": documents.name_document(series), "metric": metric, "status": status}),
    )
