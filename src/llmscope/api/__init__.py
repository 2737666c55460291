"""HTTP: the routes, their documentation, and the built page. `create_app` joins them for given parts."""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from llmscope import __version__
from llmscope.api import (
    backtest,
    health,
    history,
    incidents,
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
from llmscope.api.parts import Parts
from llmscope.api.shapes import (
    STREAM_EVENTS,
    AcceptedOut,
    Problem,
)
from llmscope.api.stats import StatsDoor
from llmscope.observation import Observation

__all__ = ["Parts", "create_app", "openapi"]

_REF = "#/components/schemas/{name}"


class Api:
    """The application: `POST /api/stats` goes straight to its door, everything else through the routes."""

    def __init__(self, routes: ASGIApp, door: StatsDoor) -> None:
        self._routes = routes
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"].removeprefix(scope.get("root_path", "")) == "/api/stats"
        ):
            await self._door(scope, receive, send)
        else:
            await self._routes(scope, receive, send)


def _routes() -> FastAPI:
    app = FastAPI(
        title="LLMscope",
        version=__version__,
        description="Statistical process control for language-model services.",
        docs_url="/docs",
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
        health,
    ):
        app.include_router(module.router)
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    return app


def create_app(parts: Parts) -> ASGIApp:
    """The ASGI application over these parts."""
    app = _routes()
    app.state.parts = parts
    app.state.jobs = backtest.Jobs()
    if (parts.dashboard / "index.html").exists():
        app.mount("/", StaticFiles(directory=parts.dashboard, html=True))
    else:
        app.include_router(pages.router)
    return Api(app, StatsDoor(parts.ingest))


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
                "413": {"description": "More than 8 MB.", "content": problem},
                "422": {"description": "A field is not valid; nothing was stored.", "content": problem},
                "429": {"description": "Too many series.", "content": problem},
                "503": {"description": "Not stored; send it again later.", "content": problem},
                "507": {"description": "Not stored, the disk is full; send it later.", "content": problem},
            },
        }
    }
    app.openapi_schema = document
    return document
