"""`/api/series/{id}/phases`, `/exclusions`, `/annotations`: what people decide of a series, with who and when."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, HTTPException, Request
from pydantic import AwareDatetime, BaseModel, Field, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from llmscope import documents
from llmscope.api.parts import Parts, parts_of
from llmscope.api.shapes import (
    AnnotationListOut,
    AnnotationOut,
    ExclusionListOut,
    ExclusionOut,
    PhaseListOut,
)
from llmscope.findings import NoSuchRows
from llmscope.store import Annotation, Exclusion, Series

router = APIRouter(tags=["phases"])

# What people decide is kept for ever: a program that decides without end must not fill the disk.
MOST_ANNOTATIONS = 20_000
MOST_EXCLUSIONS = 5_000
MOST_PHASES = 2_000  # of one series and metric

Text = Annotated[str, Field(min_length=1, max_length=2000)]
Who = Annotated[str | None, Field(max_length=200)]


class NewPhase(BaseModel):
    """A phase to begin: `at` a past moment, or now; of one metric, or of every one with a chart."""

    at: AwareDatetime | None = None
    metric: str | None = None
    cause: Text = "begun by hand"
    who: Who = None
    note: Annotated[str | None, Field(max_length=2000)] = None


class NewExclusion(BaseModel):
    """Observations to leave out, and why."""

    model_config = {"populate_by_name": True}

    from_: AwareDatetime = Field(alias="from")
    to: AwareDatetime
    reason: Text
    who: Who = None

    @model_validator(mode="after")
    def _in_order(self) -> "NewExclusion":
        if self.to < self.from_:
            raise ValueError("to lies before from")
        return self


class NewAnnotation(BaseModel):
    """A note on a moment; now if it names none."""

    time: AwareDatetime | None = None
    text: Text
    who: Who = None


@router.get("/api/series/{series_id}/phases", response_model=PhaseListOut)
async def list_phases(request: Request, series_id: int) -> Response:
    """The phases of each metric of a series, oldest first, with the versions of their limits."""
    parts = parts_of(request)
    series = _series(parts, series_id)
    return _answer({"phases": phase_documents(parts, series)})


def phase_documents(parts: Parts, series: Series, metric: str | None = None) -> list[documents.Document]:
    """The phases of a series; a metric without a decision has had one, from its first observation on."""
    found: list[documents.Document] = []
    for key in parts.engine.metrics_of(series.id) if metric is None else (metric,):
        versions = parts.store.baselines.get((series.id, key), ())
        phases = parts.ingest.findings.phases_of(series, key)
        found += [documents.phase_document(phase, versions) for phase in phases]
    return found


@router.post("/api/series/{series_id}/phases", response_model=PhaseListOut, status_code=201)
async def begin_phase(request: Request, series_id: int, new: NewPhase) -> Response:
    """Begin a phase, now or at a moment of the last 24 hours: limits are learnt anew from there on.

    What was found since then is judged again; the judgement before is kept as superseded.
    """
    parts = parts_of(request)
    series = _series(parts, series_id)
    metrics = parts.engine.metrics_of(series.id)
    if new.metric is not None and new.metric not in metrics:
        raise HTTPException(422, f"metric: '{new.metric}' is not one of {', '.join(metrics)}")
    metrics = metrics if new.metric is None else [new.metric]
    for metric in metrics:
        _room(len(parts.ingest.findings.phases_of(series, metric)), MOST_PHASES, f"phases of {metric} here")
    at_us = None if new.at is None else documents.to_us(new.at)
    if at_us is not None and at_us > parts.clock_us():
        raise HTTPException(422, "at: lies in the future")
    try:
        phases = await parts.ingest.findings.begin_phase(series, metrics, at_us, new.cause, new.who, new.note)
    except NoSuchRows as error:
        raise HTTPException(422, f"at: {error}") from None
    told = [documents.phase_document(p, parts.store.baselines.get((series.id, p.metric), ())) for p in phases]
    return _answer({"phases": told}, 201)


@router.get("/api/series/{series_id}/exclusions", response_model=ExclusionListOut)
async def list_exclusions(request: Request, series_id: int) -> Response:
    """What was excluded, also what was taken back."""
    parts = parts_of(request)
    series = _series(parts, series_id)
    held = parts.ingest.findings.exclusions.get(series.id, [])
    return _answer({"exclusions": [documents.exclusion_document(e) for e in held]})


@router.post("/api/series/{series_id}/exclusions", response_model=ExclusionOut, status_code=201)
async def exclude(request: Request, series_id: int, new: NewExclusion) -> Response:
    """Leave observations out of learning and judging; they are still shown. The phase is judged again."""
    parts = parts_of(request)
    series = _series(parts, series_id)
    _room(parts.store.records.last_id(Exclusion), MOST_EXCLUSIONS, "exclusions")
    from_us, to_us = documents.to_us(new.from_), documents.to_us(new.to)
    exclusion = await parts.ingest.findings.exclude(series, from_us, to_us, new.reason, new.who)
    return _answer(documents.exclusion_document(exclusion), 201)


@router.delete("/api/series/{series_id}/exclusions/{exclusion_id}", response_model=ExclusionOut)
async def withdraw(request: Request, series_id: int, exclusion_id: int) -> Response:
    """Take an exclusion back; it stays on record. The phase is judged again."""
    parts = parts_of(request)
    series = _series(parts, series_id)
    found: list[Exclusion] = [
        e
        for e in parts.ingest.findings.exclusions.get(series.id, [])
        if e.id == exclusion_id and e.withdrawn_us is None
    ]
    if not found:
        raise HTTPException(404, f"series {series_id} has no exclusion {exclusion_id} in force")
    withdrawn = await parts.ingest.findings.withdraw(found[0], None)
    return _answer(documents.exclusion_document(withdrawn))


@router.get("/api/series/{series_id}/annotations", response_model=AnnotationListOut)
async def list_annotations(request: Request, series_id: int) -> Response:
    """What was noted, oldest first."""
    parts = parts_of(request)
    series = _series(parts, series_id)
    await parts.ingest.settle()
    held = await run_in_threadpool(
        parts.store.records.all, Annotation, "series_id = ? ORDER BY time_us, id", (series.id,)
    )
    return _answer({"annotations": [documents.annotation_document(a) for a in held]})


@router.post("/api/series/{series_id}/annotations", response_model=AnnotationOut, status_code=201)
async def annotate(request: Request, series_id: int, new: NewAnnotation) -> Response:
    """Note something of a moment."""
    parts = parts_of(request)
    series = _series(parts, series_id)
    _room(parts.store.records.last_id(Annotation), MOST_ANNOTATIONS, "annotations")
    time_us = parts.clock_us() if new.time is None else documents.to_us(new.time)
    annotation = await parts.ingest.findings.annotate(series, time_us, new.text, new.who)
    return _answer(documents.annotation_document(annotation), 201)


def _room(held: int, most: int, what: str) -> None:
    if held >= most:
        raise HTTPException(429, f"there are {most:,} {what}, the most that this server keeps")


def _series(parts: Parts, series_id: int) -> Series:
    series = parts.store.series.get(series_id)
    if series is None:
        raise HTTPException(404, f"there is no series {series_id}; GET /api/series lists them")
    return series


def _answer(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")
