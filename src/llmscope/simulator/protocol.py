"""What Ollama's requests may look like and what it says when they are wrong; measured on a real one."""

import json
import math
import re
from typing import Any

BUSY = "server busy, please try again.  maximum pending requests exceeded"
KEEP_ALIVE_S = 300.0
OPTION_TYPES: dict[str, tuple[type, ...]] = {
    "temperature": (int, float),
    "top_p": (int, float),
    "num_predict": (int,),
    "num_ctx": (int,),
    "seed": (int,),
}
GO_TYPES = {"temperature": "float32", "top_p": "float32"}
UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Refusal(Exception):
    """An answer `{"error": …}` with a status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def parse_body(raw: bytes) -> dict[str, Any]:
    """The request's object; raises Refusal as Ollama words it."""
    if not raw.strip():
        raise Refusal(400, "missing request body")
    try:
        body = json.loads(raw)
    except ValueError:
        text = raw.decode(errors="replace").strip()
        at = text[1:2] if text.startswith("{") else text[:1]
        where = "object key string" if text.startswith("{") else "value"
        raise Refusal(400, f"invalid character '{at}' looking for beginning of {where}") from None
    if not isinstance(body, dict):
        raise Refusal(400, "json: cannot unmarshal into Go value of type api.GenerateRequest")
    return body


def parse_options(body: dict[str, Any]) -> dict[str, Any]:
    """The known options, their types checked as Ollama does."""
    options = body.get("options") or {}
    for name, types in OPTION_TYPES.items():
        value = options.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
            raise Refusal(500, f'option "{name}" must be of type {GO_TYPES.get(name, "integer")}')
    return dict(options)


def parse_keep_alive(value: Any) -> float | None:
    """Seconds to keep the model; infinity for ever, 0 for not at all, None when not asked for.

    >>> [parse_keep_alive(v) for v in (None, 10, "30s", "1h30m", -1, "-1m", 0)]
    [None, 10.0, 30.0, 5400.0, inf, inf, 0.0]
    """
    if value is None:
        return None
    if isinstance(value, int | float):
        return math.inf if value < 0 else float(value)
    text = str(value)
    sign = -1.0 if text.startswith("-") else 1.0
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
    if "".join(n + u for n, u in parts) != text.lstrip("+-") or not parts:
        raise Refusal(400, f'time: invalid duration "{text}"')
    seconds = sum(float(number) * UNIT_S[unit] for number, unit in parts)
    return math.inf if sign < 0 else seconds
