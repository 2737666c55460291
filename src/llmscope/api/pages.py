"""What `/` says when the program was installed without its dashboard."""

from fastapi import APIRouter
from starlette.responses import PlainTextResponse

router = APIRouter(include_in_schema=False)


@router.get("/")
async def no_dashboard() -> PlainTextResponse:
    return PlainTextResponse(
        "LLMscope is running, but its dashboard was not built.\n"
        "From a checkout, run scripts/install (it needs Node.js 20 or newer) and start LLMscope again.\n"
        "The API is described at /docs.\n",
        status_code=404,
    )
