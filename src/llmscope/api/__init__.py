"""HTTP: the routes, their documentation, and the built page. `create_app` joins them for given parts."""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmscope import __version__
from llmscope.api import (
    backtest,
    docs,
    health,
    history,
    incidents,
    login,
    overview,
    pages,
    phases,
    problems,
    series,
    spc,
    storage,
    stream,
    system,
    violations,
)
from llmscope.api.body import Headers, Refused, read_body
from llmscope.api.guard import SAFE_METHODS, Guard
from llmscope.api.headers import with_safety
from llmscope.api.parts import Parts
from llmscope.api.shapes import (
    STREAM_EVENTS,
    AcceptedOut,
    Problem,
)
from llmscope.api.stats import StatsDoor, send_problem
from llmscope.observation import Observation

__all__ = ["Parts", "create_app", "openapi"]

_REF = "#/components/schemas/{name}"


MAX_BODY_BYTES = 1_000_000  # of everything but observations


class Api:
    """The application: whom the guard admits goes on, observations straight to their door, the rest to the routes."""

    def __init__(self, routes: ASGIApp, door: StatsDoor, guard: Guard) -> None:
        self._routes = routes
        self._door = door
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._routes(scope, receive, send)
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        headers: Headers = dict(scope["headers"])
        try:
            caller = self._guard.admit(scope, path, headers)
            if path == "/api/stats" and scope["method"] == "POST":
                await self._door(headers, receive, send)
                return
            scope["llmscope.caller"] = caller
            if scope["method"] not in SAFE_METHODS:
                receive = _held(await read_body(headers, receive, MAX_BODY_BYTES), receive)
        except Refused as refused:
            await send_problem(send, refused)
            return
        await self._routes(scope, receive, with_safety(send, keep=not path.startswith("/api/")))


def _held(body: bytes, rest: Receive) -> Receive:
    """A `receive` that gives a body that was read already."""
    told = False

    async def receive() -> Message:
        nonlocal told
        if told:
            return await rest()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _routes() -> FastAPI:
    app = FastAPI(
        title="LLMscope",
        version=__version__,
        description="Statistical process control for language-model services.",
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    for module in (
        spc,
        history,
        series,
        overview,
        phases,
        incidents,
        violations,
        backtest,
        stream,
        system,
        storage,
        login,
        docs,
        health,
    ):
        app.include_router(module.router)
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    return app


def create_app(parts: Parts) -> ASGIApp:
    """The ASGI application over these parts."""
    app = _routes()
    app.state.parts = parts
    app.state.jobs = jobs = backtest.Jobs()
    parts.at_end.append(jobs.close)
    page = parts.dashboard
    files = [f"/{file.relative_to(page).as_posix()}" for file in page.rglob("*") if file.is_file()]
    if "/index.html" in files:
        app.mount("/", StaticFiles(directory=page, html=True))
    else:
        app.include_router(pages.router)
    return Api(app, StatsDoor(parts.ingest), Guard(parts.access, files))


def openapi(app: FastAPI | None = None) -> dict[str, Any]:
    """The OpenAPI document, with the door that the framework does not see."""
    app = app or _routes()
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = document["components"]["schemas"]
    (observation,), components = msgspec.json.schema_components([Observation], ref_template=_REF)
    schemas.update(components)
    extra: tuple[type[BaseModel], ...] = (
        AcceptedOut,
        Problem,
        *STREAM_EVENTS,
    )
    for model in extra:
        schema = model.model_json_schema(ref_template=_REF.replace("{name}", "{model}"))
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    many = {"type": "array", "items": observation}
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    document["paths"]["/api/stats"] = {
        "post": {
            "tags": ["stats"],
            "summary": "Post observations",
            "description": "One observation, an array of them, or one a line (NDJSON). The answer comes when "
            "they are on disk. With the headers `X-LLMscope-Sender` and `X-LLMscope-First-Seq` (the number of "
            "the first row; the rest follow) a delivery may be repeated without harm.",
            "operationId": "post_stats",
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"oneOf": [observation, many]}},
                    "application/x-ndjson": {"schema": {"type": "string"}},
                },
            },
            "responses": {
                "200": {
                    "description": "On disk.",
                    "content": {"application/json": {"schema": {"$ref": _REF.format(name="AcceptedOut")}}},
                },
                "400": {"description": "Not JSON.", "content": problem},
                "401": {"description": "No token, or one that does not work.", "content": problem},
                "403": {"description": "The token may not do this.", "content": problem},
                "413": {"description": "More than 8 MB or 20,000 observations.", "content": problem},
                "422": {"description": "A field is not valid; nothing was stored.", "content": problem},
                "429": {"description": "Too many series.", "content": problem},
                "503": {"description": "Not stored; send it again later.", "content": problem},
                "507": {"description": "Not stored, the disk is full; send it later.", "content": problem},
            },
        }
    }
    app.openapi_schema = document
    return document
