"""What the API says when a request cannot be served: RFC 9457 problem details that name row and field."""

import logging
import sqlite3
from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from llmscope.api.parts import parts_of
from llmscope.store import FaultKind, StorageFault, fault_of

log = logging.getLogger(__name__)

TITLES = {
    400: "Bad request",
    401: "Not known",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Body too large",
    415: "Unsupported media type",
    421: "Not this server",
    422: "Not valid",
    429: "Too many",
    500: "Internal error",
    503: "Not available",
    507: "No space left",
}


RETRY_AFTER_S = 5  # a full disk and a lock do not clear within a second, and nobody should wait a minute


def status_of(kind: FaultKind) -> int:
    """The status of a request that the storage could not serve."""
    return 507 if kind is FaultKind.FULL else 503


def problem_bytes(status: int, detail: str, errors: Sequence[dict[str, Any]] = ()) -> bytes:
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": TITLES.get(status, "Error"),
            "status": status,
            "detail": detail,
            "errors": list(errors),
        }
    )


def problem(status: int, detail: str, errors: Sequence[dict[str, Any]] = ()) -> Response:
    return Response(
        problem_bytes(status, detail, errors), status_code=status, media_type="application/problem+json"
    )


def not_valid(field: str) -> dict[str, Any]:
    """The error of a query parameter, whose detail stands in the problem."""
    return {"row": None, "field": field, "message": "is not valid"}


def install(app: FastAPI) -> None:
    """Make every error of the application a problem document."""

    @app.exception_handler(HTTPException)
    async def http_error(_request: Request, error: HTTPException) -> Response:
        answer = problem(error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    def not_served(fault: StorageFault) -> Response:
        answer = problem(status_of(fault.kind), str(fault))
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
        return answer

    @app.exception_handler(StorageFault)
    async def storage_fault(_request: Request, fault: StorageFault) -> Response:
        return not_served(fault)

    @app.exception_handler(sqlite3.Error)
    async def database_error(request: Request, error: sqlite3.Error) -> Response:
        fault = fault_of(error, parts_of(request).store.path)
        if fault is None:
            return await internal(request, error)
        log.error("%s", fault)
        return not_served(fault)

    @app.exception_handler(RequestValidationError)
    async def refused(_request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"row": None, "field": ".".join(str(p) for p in e["loc"][1:]), "message": e["msg"]}
            for e in error.errors()
        ]
        detail = "; ".join(f"{e['field']}: {e['message']}" for e in errors)
        return problem(422, detail, errors)

    @app.exception_handler(Exception)
    async def internal(_request: Request, _error: Exception) -> Response:
        return problem(500, "LLMscope made a mistake; its log has the details.")
