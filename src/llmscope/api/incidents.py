"""`/api/incidents`: what a person is told, newest first; acknowledgement, and taking a new level as a new phase."""

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from llmscope.api.parts import Hours, Parts, Selection, parts_of
from llmscope.api.shapes import IncidentOut, IncidentPageOut, PhaseOut
from llmscope.documents import phase_document
from llmscope.store import Incident

router = APIRouter(tags=["incidents"])


class Said(BaseModel):
    """Who says it, and what."""

    who: str | None = Field(None, max_length=200)
    note: str | None = Field(None, max_length=2000)


@router.get("/api/incidents", response_model=IncidentPageOut)
async def list_incidents(
    request: Request,
    selection: Selection,
    hours: Hours = None,
    state: Annotated[
        Literal["open", "recovered", "accepted", "ended"] | None,
        Query(description="Only those in this state."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> Response:
    """Incidents, newest first, each with its alarms. Superseded ones, of judgements made again, are left out."""
    parts = parts_of(request)
    await parts.ingest.settle()
    ids = [series.id for series in selection.series(parts.store)]
    where = f"superseded = 0 AND series_id IN ({','.join('?' * len(ids))})"
    values: list[Any] = list(ids)
    if hours is not None:
        where += " AND (closed_us IS NULL OR closed_us >= ?)"
        values.append(parts.clock_us() - int(hours * 3.6e9))
    if state is not None:
        where += " AND state = ?"
        values.append(state)
    found = await run_in_threadpool(
        parts.store.records.all, Incident, f"{where} ORDER BY opened_us DESC, id DESC", values
    )
    page = [parts.ingest.findings.incident_document(i) for i in found[offset : offset + limit]]
    return Response(orjson.dumps({"incidents": page, "total": len(found)}), media_type="application/json")


@router.get("/api/incidents/{incident_id}", response_model=IncidentOut)
async def get_incident(request: Request, incident_id: int) -> Response:
    """One incident."""
    parts = parts_of(request)
    incident = await _incident(parts, incident_id)
    return Response(
        orjson.dumps(parts.ingest.findings.incident_document(incident)), media_type="application/json"
    )


@router.put("/api/incidents/{incident_id}/acknowledgement", response_model=IncidentOut)
async def acknowledge(request: Request, incident_id: int, said: Said) -> Response:
    """Note that somebody has seen it, and what they say of it."""
    parts = parts_of(request)
    incident = await _incident(parts, incident_id)
    incident = await parts.ingest.findings.acknowledge_incident(
        incident, parts.clock_us(), said.who, said.note
    )
    return Response(
        orjson.dumps(parts.ingest.findings.incident_document(incident)), media_type="application/json"
    )


@router.delete("/api/incidents/{incident_id}/acknowledgement", response_model=IncidentOut)
async def take_back(request: Request, incident_id: int) -> Response:
    """Take an acknowledgement back."""
    parts = parts_of(request)
    incident = await _incident(parts, incident_id)
    incident = await parts.ingest.findings.acknowledge_incident(incident, None, None, None)
    return Response(
        orjson.dumps(parts.ingest.findings.incident_document(incident)), media_type="application/json"
    )


@router.post("/api/incidents/{incident_id}/accept", response_model=list[PhaseOut])
async def accept(request: Request, incident_id: int, said: Said) -> Response:
    """Take the new level as normal: a phase begins where it changed, with what was learnt moved to it.

    409 when no level of this incident is open.
    """
    parts = parts_of(request)
    incident = await _incident(parts, incident_id)
    findings = parts.ingest.findings
    levels = [a for a in findings.alarms_of(incident) if a.detector == "SHIFT" and a.state == "open"]
    if not levels:
        raise HTTPException(409, f"incident {incident_id} has no open change of a level to accept")
    phases = [await findings.accept(alarm, said.who, said.note) for alarm in levels]
    told = [
        phase_document(phase, parts.store.baselines.get((phase.series_id, phase.metric), ()))
        for phase in phases
    ]
    return Response(orjson.dumps(told), media_type="application/json")


async def _incident(parts: Parts, incident_id: int) -> Incident:
    await parts.ingest.settle()
    found: list[Incident] = []
    if 0 < incident_id < 2**63:
        found = await run_in_threadpool(parts.store.records.all, Incident, "id = ?", (incident_id,))
    if not found:
        raise HTTPException(404, f"there is no incident {incident_id}")
    return found[0]
