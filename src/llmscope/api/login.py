"""`/api/login`, `/api/logout` and `/api/session`: how a browser becomes known, and how it leaves."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from llmscope.access import Caller, TooManyAttempts
from llmscope.api.parts import parts_of
from llmscope.api.shapes import SessionOut

MOST_AT_ONCE = 4  # passwords compared at the same time: each takes 16 MB and a core for 50 ms

router = APIRouter(tags=["session"])
_comparing = asyncio.Semaphore(MOST_AT_ONCE)


class Login(BaseModel):
    """What a person knows."""

    password: Annotated[str, Field(max_length=1000)]


@router.get("/api/session", response_model=SessionOut)
async def session(request: Request) -> dict[str, bool]:
    """Whether this server asks who is calling, whether it knows this caller, and whether it has a password."""
    access = parts_of(request).access
    caller: Caller = request.scope["llmscope.caller"]
    return {
        "login": access.login,
        "known": "read" in caller.scopes,
        "password": access.password is not None,
    }


@router.post(
    "/api/login",
    status_code=204,
    responses={
        401: {"description": "Not the password."},
        409: {"description": "This server has no password."},
        429: {"description": "Too many attempts; `Retry-After` says when to try again."},
    },
)
async def log_in(request: Request, login: Login) -> Response:
    """Begin a session: the answer sets a cookie that scripts cannot read and other sites cannot use."""
    access = parts_of(request).access
    if access.password is None or access.sessions is None:
        raise HTTPException(409, "this server has no password; start it with LLMSCOPE_PASSWORD to log in")
    address = request.client.host if request.client else ""
    try:
        access.attempts.begin(address)
    except TooManyAttempts as error:
        raise HTTPException(429, str(error), {"Retry-After": str(error.retry_after_s)}) from None
    async with _comparing:
        is_right = await asyncio.to_thread(access.password.is_right, login.password)
    if not is_right:
        raise HTTPException(401, "That is not the password.")
    access.attempts.succeeded(address)
    return _with_cookie(request, access.sessions.begin(), int(access.sessions.lasts_s))


@router.post("/api/logout", status_code=204)
async def log_out(request: Request) -> Response:
    """End this browser's session, here and in the browser."""
    access = parts_of(request).access
    caller: Caller = request.scope["llmscope.caller"]
    if caller.session is not None:
        access.end(caller.session)
    return _with_cookie(request, "", 0)


def _with_cookie(request: Request, text: str, lasts_s: int) -> Response:
    sessions = parts_of(request).access.sessions
    answer = Response(status_code=204)
    if sessions is not None:
        answer.set_cookie(
            sessions.cookie,
            text,
            max_age=lasts_s,
            path=request.scope.get("root_path") or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
    return answer
