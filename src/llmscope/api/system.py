"""`GET /api/system`: the host that LLMscope runs on, now; `GET /api/about`: this server and its targets."""

from typing import Any

from fastapi import APIRouter, Request

from llmscope.api.parts import parts_of
from llmscope.api.shapes import AboutOut, SystemOut

router = APIRouter(tags=["system"])


@router.get("/api/system", response_model=SystemOut)
async def system(request: Request) -> dict[str, Any]:
    """CPU, memory and GPUs now; null for what this host does not tell."""
    return parts_of(request).system()


@router.get("/api/about", response_model=AboutOut)
async def about(request: Request) -> dict[str, Any]:
    """Version, targets, and the notice that every page must show (a simulated server, say)."""
    return parts_of(request).about()
