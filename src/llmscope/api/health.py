"""`GET /healthz` says that the process runs, `GET /readyz` that it can store and read."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from llmscope.api.parts import parts_of
from llmscope.api.problems import problem, status_of
from llmscope.store import FaultKind, StorageFault

router = APIRouter(tags=["health"])
NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"description": "The database does not take writes."},
    507: {"description": "The disk of the database is full."},
}


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers as long as the event loop turns."""
    return {"status": "ok"}


@router.get("/readyz", responses=NOT_READY)
async def readyz(request: Request) -> Response:
    """Runs a write through the writer's thread, and so through the disk."""
    store = parts_of(request).store
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Exception | None] = loop.create_future()

    def answer(error: Exception | None) -> None:
        if not done.done():
            done.set_result(error)

    def tell(error: Exception | None) -> None:
        loop.call_soon_threadsafe(answer, error)

    store.touch(tell)
    try:
        error = await asyncio.wait_for(done, 5.0)
    except TimeoutError:
        return problem(503, "the database has not answered for 5 s")
    if error is not None:
        kind = error.kind if isinstance(error, StorageFault) else FaultKind.OTHER
        return problem(status_of(kind), f"the database does not take writes: {error}")
    return JSONResponse({"status": "ready"})
