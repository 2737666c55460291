"""What the API says when a request cannot be served: RFC 9457 problem details that name row and field."""

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

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
