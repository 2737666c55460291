"""`/api/violations`: the log, one violation with the observations around it, acknowledgement, CSV and JSON."""

import asyncio
import csv
import dataclasses
import io
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import AwareDatetime, BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from llmscope import documents
from llmscope.api.parts import Hours, Parts, Selection, SeriesFilter, parts_of
from llmscope.api.shapes import AcknowledgedOut, ContextOut, ViolationOut, ViolationPageOut
from llmscope.observation import METRICS, tokens_per_second
from llmscope.spc.rules import RULES
from llmscope.store import Series, Violation, ViolationQuery
from llmscope.store import rows as r
from llmscope.store.rows import Row, ms

RULE_NAMES = tuple(RULES)
BASELINE_POINTS = 150  # the good points before the pattern that "what it usually is" is the median of
EXPORT_PAGE = 1_000

router = APIRouter(tags=["violations"])


def _query(
    request: Request,
    selection: Selection,
    hours: Hours = None,
    metric: Annotated[str | None, Query(description="Only this metric.")] = None,
    rule: Annotated[str | None, Query(description="Only these rules, comma-separated: R1,R2")] = None,
    acknowledged: Annotated[bool | None, Query(description="Only acknowledged ones, or only others.")] = None,
    open: Annotated[bool | None, Query(description="Only those still going on, or only others.")] = None,
    chart: Annotated[
        Literal["points", "buckets"] | None,
        Query(description="Only those of single points, or of half minutes."),
    ] = None,
    superseded: Annotated[
        bool, Query(description="Those of judgements that were made again, instead of those in force.")
    ] = False,
    severity: Annotated[
        Literal["critical", "warning"] | None, Query(description="critical is R1, warning every other rule.")
    ] = None,
    from_: Annotated[
        AwareDatetime | None, Query(alias="from", description="Only those that lasted until then, or later.")
    ] = None,
    to: Annotated[AwareDatetime | None, Query(description="Only those that began by then.")] = None,
    search: Annotated[
        str | None,
        Query(
            max_length=100,
            description="Only those with this text, in whatever case, in model, provider, server, rule, side, "
            "cause, note or the name of who acknowledged.",
        ),
    ] = None,
) -> ViolationQuery:
    rules = None if rule is None else tuple(rule.split(","))
    if rules is not None and (unknown := [name for name in rules if name not in RULE_NAMES]):
        raise HTTPException(422, f"rule: '{unknown[0]}' is not one of {', '.join(RULE_NAMES)}")
    if metric is not None and metric not in METRICS:
        raise HTTPException(422, f"metric: '{metric}' is not one of {', '.join(METRICS)}")
    since_us = [] if hours is None else [parts_of(request).clock_us() - int(hours * 3.6e9)]
    since_us += [] if from_ is None else [documents.to_us(from_)]
    s: SeriesFilter = selection
    return ViolationQuery(
        max(since_us, default=None),
        s.provider,
        s.model,
        s.server,
        s.source,
        metric,
        rules,
        acknowledged,
        open,
        chart,
        superseded,
        None if to is None else documents.to_us(to),
        severity,
        search or None,
    )


Wanted = Annotated[ViolationQuery, Depends(_query)]


@router.get("/api/violations", response_model=ViolationPageOut)
async def list_violations(
    request: Request,
    wanted: Wanted,
    limit: Annotated[int, Query(ge=1, le=1000, description="Entries a page.")] = 100,
    after: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    offset: Annotated[
        int, Query(ge=0, lt=2**31, description="Entries to pass over, instead of `after`.")
    ] = 0,
) -> Response:
    """Violations, newest first; `next` is null on the last page."""
    parts = parts_of(request)
    position = _position(after)
    if position is not None and offset:
        raise HTTPException(422, "offset: cannot be given together with after")
    await parts.ingest.settle()
    body = await run_in_threadpool(_page, parts, wanted, limit, position, offset)
    return Response(body, media_type="application/json")


def _page(
    parts: Parts, wanted: ViolationQuery, limit: int, position: tuple[int, int] | None, offset: int
) -> bytes:
    log = parts.store.violations
    found = log.page(wanted, limit + 1, position, offset)
    counts = log.counts(dataclasses.replace(wanted, rules=None))
    page = found[:limit]
    return orjson.dumps(
        {
            "violations": [_document(parts, v) for v in page],
            "next": f"{page[-1].first_signal_us}-{page[-1].id}" if len(found) > limit else None,
            "total": sum(n for rule, n in counts.items() if wanted.rules is None or rule in wanted.rules),
            "counts": counts,
        }
    )


@router.get("/api/violations.csv")
async def violations_csv(request: Request, wanted: Wanted) -> StreamingResponse:
    """All violations that the filters admit, newest first, as CSV."""
    parts = parts_of(request)
    await parts.ingest.settle()
    return StreamingResponse(
        _csv(parts, wanted),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="llmscope-violations.csv"'},
    )


@router.get(
    "/api/violations.json",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {
                "application/json": {
                    "schema": {"type": "array", "items": {"$ref": "#/components/schemas/ViolationOut"}}
                }
            }
        }
    },
)
async def violations_json(request: Request, wanted: Wanted) -> StreamingResponse:
    """All violations that the filters admit, newest first, as one JSON array."""
    parts = parts_of(request)
    await parts.ingest.settle()
    return StreamingResponse(
        _json(parts, wanted),
        media_type="application/json",
        headers={"Content-Disposition": 'attachment; filename="llmscope-violations.json"'},
    )


@router.get("/api/violations/{violation_id}", response_model=ViolationOut)
async def get_violation(request: Request, violation_id: int) -> dict[str, Any]:
    """One violation."""
    parts = parts_of(request)
    return _document(parts, await _violation(parts, violation_id))


@router.get("/api/violations/{violation_id}/context", response_model=ContextOut)
async def violation_context(
    request: Request,
    violation_id: int,
    points: Annotated[int, Query(ge=0, le=100, description="Observations before, and after.")] = 10,
) -> Response:
    """The observations around the worst point in full, and what its parts usually are."""
    parts = parts_of(request)
    violation = await _violation(parts, violation_id)
    body = await run_in_threadpool(_context, parts, violation, points)
    return Response(orjson.dumps(body), media_type="application/json")


class Acknowledgement(BaseModel):
    """Who has seen a violation, and what they say of it."""

    who: str = Field(min_length=1, max_length=100, description="Your name.")
    note: str | None = Field(None, max_length=2000, description="What it was, or what was done.")


class AcknowledgementOfMany(Acknowledgement):
    """Who has seen these violations, and what they say of them."""

    ids: list[Annotated[int, Field(ge=1, lt=2**63)]] = Field(min_length=1, max_length=10_000)


@router.post("/api/violations/acknowledge", response_model=AcknowledgedOut)
async def acknowledge_many(request: Request, said: AcknowledgementOfMany) -> dict[str, int]:
    """Note that somebody has seen these violations: all of them, or none when there is one that is not known."""
    parts = parts_of(request)
    found = await _acknowledge(parts, said.ids, parts.clock_us(), said.who, said.note)
    return {"acknowledged": len(found)}


@router.post("/api/violations/{violation_id}/acknowledge", response_model=ViolationOut)
async def acknowledge(request: Request, violation_id: int, said: Acknowledgement) -> dict[str, Any]:
    """Note that somebody has seen this violation; a second time replaces the first."""
    parts = parts_of(request)
    (found,) = await _acknowledge(parts, [violation_id], parts.clock_us(), said.who, said.note)
    return _document(parts, found)


@router.delete("/api/violations/{violation_id}/acknowledge", response_model=ViolationOut)
async def unacknowledge(request: Request, violation_id: int) -> dict[str, Any]:
    """Take an acknowledgement back."""
    parts = parts_of(request)
    (found,) = await _acknowledge(parts, [violation_id], None, None, None)
    return _document(parts, found)


async def _acknowledge(
    parts: Parts, ids: Sequence[int], at_us: int | None, who: str | None, note: str | None
) -> list[Violation]:
    """Note it in one transaction, and tell whoever listens; the violations as they are then."""
    await parts.ingest.settle()
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    unknown: list[int | None] = [None]

    def finish(error: Exception | None) -> None:
        if error is None:
            loop.call_soon_threadsafe(done.set_result, None)
        else:
            loop.call_soon_threadsafe(done.set_exception, error)

    def run(connection: sqlite3.Connection) -> None:
        unknown[0] = parts.store.violations.unknown(connection, ids)
        if unknown[0] is None:
            parts.store.violations.acknowledge(connection, ids, at_us, who, note)

    parts.store.write(run, finish)
    await done
    if unknown[0] is not None:
        raise HTTPException(404, f"there is no violation {unknown[0]}")
    found = await run_in_threadpool(parts.store.violations.of_ids, ids)
    parts.ingest.findings.acknowledged(found)
    return found


async def _violation(parts: Parts, violation_id: int) -> Violation:
    await parts.ingest.settle()
    found = None
    if 0 < violation_id < 2**63:
        found = await run_in_threadpool(parts.store.violations.get, violation_id)
    if found is None:
        raise HTTPException(404, f"there is no violation {violation_id}")
    return found


def _document(parts: Parts, violation: Violation) -> dict[str, Any]:
    return documents.violation_document(violation, parts.store.series[violation.series_id])


def _position(after: str | None) -> tuple[int, int] | None:
    if after is None:
        return None
    first_us, dash, violation_id = after.partition("-")
    known = dash and all(part.isdecimal() and len(part) < 19 for part in (first_us, violation_id))
    if not known:
        raise HTTPException(422, "after: is not the `next` of a page")
    return int(first_us), int(violation_id)


def _context(parts: Parts, violation: Violation, points: int) -> dict[str, Any]:
    store = parts.store
    series = store.series[violation.series_id]
    before, later = store.neighbours(series.id, violation.peak_id, points, points)
    rows = before + later
    errors = store.failures([row[r.ID] for row in rows if row[r.OUTCOME]])
    z_of = _z_at_the_time(parts, violation)
    observations = [
        documents.observation_document(
            row,
            series,
            store.prompt_hash_by_id.get(row[r.PROMPT_ID]),
            errors.get(row[r.ID]),
            z_of(row),
        )
        for row in rows
    ]
    prompt_id = later[0][r.PROMPT_ID] if later else None
    return {
        "violation": documents.violation_document(violation, series),
        "points": observations,
        "given_up": violation.peak_id <= store.keeper.given_up_id and not later,
        "index": len(before),
        "before": len(before),
        "after": max(0, len(later) - 1),
        "baseline": _usual(parts, series, violation),
        "prompt_text": store.prompt_text(prompt_id),
    }


def _z_at_the_time(parts: Parts, violation: Violation) -> Callable[[Row], float | None]:
    """How far a row is from the centre line in sigma, by the limits that the violation was judged by."""
    versions = parts.store.baselines.get((violation.series_id, violation.metric), [])
    in_force = [v for v in versions if v.fitted_id < violation.first_signal_id]
    if not in_force:
        return lambda _row: None
    baseline = documents.baseline_of(in_force[-1])
    read = METRICS[violation.metric].read

    def z_of(row: Row) -> float | None:
        value = read(r.measured(row)) if row[r.OUTCOME] == 0 else None
        if value is None or (baseline.scale == "log" and value <= 0.0):
            return None
        x = float(np.log(value)) if baseline.scale == "log" else value
        return (x - baseline.centre) / baseline.sigma

    return z_of


def _usual(parts: Parts, series: Series, violation: Violation) -> dict[str, float | None]:
    """Medians of the good points before the pattern began: what a request usually takes, part by part."""
    rows, _later = parts.store.neighbours(series.id, violation.pattern_start_id, BASELINE_POINTS, 0)
    good = [row for row in rows if row[r.OUTCOME] == 0]

    def median(of: Callable[[Row], float | None]) -> float | None:
        values = [value for row in good if (value := of(row)) is not None]
        return float(np.median(values)) if values else None

    def network(row: Row) -> float | None:
        total, latency = row[r.TOTAL], row[r.LATENCY]
        return None if total is None or latency is None else max(0.0, (latency - total) / 1000.0)

    return {
        "n": len(good),
        "latency_ms": median(lambda row: ms(row[r.LATENCY])),
        "ttft_ms": median(lambda row: ms(row[r.TTFT])),
        "load_ms": median(lambda row: ms(row[r.LOAD])),
        "queue_ms": median(lambda row: METRICS["queue"].read(r.measured(row))),
        "prompt_ms": median(lambda row: ms(row[r.PROMPT_EVAL])),
        "eval_ms": median(lambda row: ms(row[r.EVAL])),
        "network_ms": median(network),
        "eval_count": median(lambda row: row[r.EVAL_COUNT]),
        "tokens_per_second": median(lambda row: tokens_per_second(row[r.EVAL_COUNT], ms(row[r.EVAL]))),
    }


def _csv(parts: Parts, wanted: ViolationQuery) -> Iterator[str]:
    """A header and one line a violation, page by page; text that a spreadsheet would run is quoted."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(_CSV_HEADER)
    for page in _pages(parts, wanted):
        for violation in page:
            document = _document(parts, violation)
            cause = document["cause"] or {}
            document |= {"cause": cause.get("part")}
            document |= {"cause_ms": cause.get("ms"), "cause_usual_ms": cause.get("usual_ms")}
            writer.writerow([_cell(value) for value in document.values()])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _json(parts: Parts, wanted: ViolationQuery) -> Iterator[bytes]:
    """An array, page by page."""
    before = b"["
    for page in _pages(parts, wanted):
        if page:
            yield before + b",\n".join([orjson.dumps(_document(parts, v)) for v in page])
            before = b",\n"
    yield b"[]" if before == b"[" else b"]"


def _pages(parts: Parts, wanted: ViolationQuery) -> Iterator[list[Violation]]:
    """All that the filters admit, newest first; the last page may be empty."""
    position: tuple[int, int] | None = None
    while True:
        page = parts.store.violations.page(wanted, EXPORT_PAGE, position)
        yield page
        if len(page) < EXPORT_PAGE:
            return
        position = page[-1].first_signal_us, page[-1].id


def _cell(value: object) -> object:
    """A cell that a spreadsheet shows and does not run."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value


_CSV_HEADER = (*ViolationOut.model_fields, "cause_ms", "cause_usual_ms")
