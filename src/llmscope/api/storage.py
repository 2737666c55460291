"""`GET /api/storage`: what the database takes on disk, and what it will take."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from llmscope import documents
from llmscope.api.parts import parts_of
from llmscope.api.shapes import StorageOut
from llmscope.store import Usage, usage
from llmscope.store.keeping import DAY_US

FORECAST_DAYS = (30, 365)

router = APIRouter(tags=["system"])


@router.get("/api/storage", response_model=StorageOut)
async def storage(request: Request) -> dict[str, Any]:
    """Size and content of the database; the forecast assumes that observations go on arriving as in the last week."""
    parts = parts_of(request)
    store, now_us = parts.store, parts.clock_us()
    found = await run_in_threadpool(lambda: usage(store.read(), store.path, store.keeper.keep, now_us))
    return storage_document(found, now_us)


def storage_document(found: Usage, now_us: int) -> dict[str, Any]:
    """What the page and `doctor` tell."""
    keep, rates = found.keep, found.rates
    return {
        "file_bytes": found.file_bytes,
        "unused_bytes": found.unused_bytes,
        "disk_free_bytes": found.disk_free_bytes,
        "observations": found.plain + found.packed,
        "packed": found.packed,
        "violations": found.violations,
        "first": documents.time_text(found.oldest_us),
        "raw_from": documents.time_text(found.raw_from_us),
        "keep_raw_days": None if keep.raw_us is None else keep.raw_us / DAY_US,
        "keep_minutes_days": None if keep.minutes_us is None else keep.minutes_us / DAY_US,
        "observations_per_day": None if rates is None else round(rates.observations),
        "forecast": [
            {"days": days, "bytes": round(size)}
            for days in FORECAST_DAYS
            if (size := found.forecast(days, now_us)) is not None
        ],
    }
