"""`GET /api/series`: what is being watched, and how each of it stands."""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from llmscope import documents
from llmscope.api.parts import Selection, parts_of
from llmscope.api.shapes import SeriesListOut

router = APIRouter(tags=["series"])


@router.get("/api/series", response_model=SeriesListOut)
async def list_series(request: Request, selection: Selection) -> Response:
    """Every series with its first and last observation, its counts and its status, one entry a metric that it has a
    chart of."""
    parts = parts_of(request)
    now_us = parts.clock_us()
    found: list[dict[str, Any]] = []
    for series in selection.series(parts.store):
        for metric in parts.engine.metrics_of(series.id):
            chart = parts.engine.chart(series.id, metric)
            found.append(
                {
                    "id": series.id,
                    **documents.name_document(series),
                    "metric": metric,
                    "first": documents.time_text(series.first_us),
                    "last": documents.time_text(series.last_us),
                    "count": series.count,
                    "failed": series.failed,
                    "status": documents.status_document(series, chart, now_us),
                }
            )
    return Response(orjson.dumps({"series": found}), media_type="application/json")
