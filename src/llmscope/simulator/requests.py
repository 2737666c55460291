"""What a client may send to Ollama, and what a real one says when it is wrong."""

import ipaddress
import json
import math
import re
from typing import Any

KINDS: dict[str, tuple[str, type]] = {
    "model": ("string", str),
    "prompt": ("string", str),
    "messages": ("[]api.Message", list),
    "stream": ("bool", bool),
    "options": ("map[string]interface {}", dict),
}
INTEGERS = ("num_predict", "num_ctx", "seed", "top_k", "num_keep", "repeat_last_n", "num_batch", "num_gpu")
FLOATS = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)
UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+")
DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")


class Refusal(Exception):
    """The request is answered with a status and `{"error": …}`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def parse_body(raw: bytes, *, when_empty: str = "missing request body") -> dict[str, Any]:
    """The request's object, what follows it left unread as Go's decoder does; raises Refusal in Go's words."""
    text = raw.decode(errors="replace").lstrip()
    if not text:
        raise Refusal(400, when_empty)
    try:
        body, _end = json.JSONDecoder(parse_constant=_reject).raw_decode(text)
    except json.JSONDecodeError as error:
        raise Refusal(400, _syntax(error)) from None
    except RecursionError:
        raise Refusal(400, "exceeded max depth") from None
    if not isinstance(body, dict):
        raise Refusal(
            400, f"json: cannot unmarshal {_json_kind(body)} into Go value of type api.GenerateRequest"
        )
    for name, (go_type, kind) in KINDS.items():
        value = body.get(name)
        if value is not None and not isinstance(value, kind):
            into = f"Go struct field GenerateRequest.{name} of type {go_type}"
            raise Refusal(400, f"json: cannot unmarshal {_json_kind(value)} into {into}")
    return body


def _reject(constant: str) -> None:
    raise json.JSONDecodeError("Expecting value", constant, 0)  # JSON has no NaN and no Infinity


def _syntax(error: json.JSONDecodeError) -> str:
    """Go's sentence for Python's: the character and what was looked for."""
    if error.pos >= len(error.doc) or error.msg.startswith("Unterminated"):
        return "unexpected EOF"
    character = f"invalid character '{error.doc[error.pos]}'"
    if "property name" in error.msg:
        return f"{character} looking for beginning of object key string"
    if "':'" in error.msg:
        return f"{character} after object key"
    if "','" in error.msg:
        return f"{character} after object key:value pair"
    return f"{character} looking for beginning of value"


def _json_kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def parse_options(body: dict[str, Any]) -> dict[str, float]:
    """The numbers among `options`; others pass unread. Raises Refusal as Ollama does: with status 500."""
    options = body.get("options") or {}
    numbers: dict[str, float] = {}
    for name, value in options.items():
        if value is None or name not in INTEGERS + FLOATS:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            go_type = "integer" if name in INTEGERS else "float32"
            raise Refusal(500, f'option "{name}" must be of type {go_type}')
        numbers[name] = int(value) if name in INTEGERS else float(value)  # Go cuts a fraction off, too
    return numbers


def parse_keep_alive(value: Any) -> float | None:
    """Seconds to keep the model; infinity for ever, 0 for not at all, None when not asked for.

    >>> [parse_keep_alive(v) for v in (None, 10, 0.5, "30s", "1h30m", "0", -1, "-1m", 0)]
    [None, 10.0, 0.5, 30.0, 5400.0, 0.0, inf, inf, 0.0]
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return math.inf if value < 0 else float(value)
    if not isinstance(value, str):
        raise Refusal(400, f"Unsupported type: '{_json_kind(value)}'")
    if value == "0":
        return 0.0
    if not DURATION.fullmatch(value):
        if re.fullmatch(r"[-+]?\d+", value):
            raise Refusal(400, f'time: missing unit in duration "{value}"')
        raise Refusal(400, f'time: invalid duration "{value}"')
    seconds = sum(float(number) * UNIT_S[unit] for number, unit in DURATION_PART.findall(value))
    return math.inf if value.startswith("-") and seconds > 0 else seconds


def check_format(body: dict[str, Any]) -> None:
    """Raises Refusal, once the model is loaded, when the asked-for format is neither JSON nor a schema."""
    asked = body.get("format")
    if asked in (None, "", "json") or isinstance(asked, dict):
        return
    quoted = json.dumps(json.dumps(asked))
    raise Refusal(500, f'invalid format: {quoted}; expected "json" or a valid JSON Schema object')


def prompt_of(body: dict[str, Any]) -> str:
    """What the model is to read: `prompt`, or the text of all `messages`."""
    if "messages" not in body:
        return str(body.get("prompt") or "")
    messages = body.get("messages") or []
    return "\n".join(str(m.get("content") or "") for m in messages if isinstance(m, dict))


def is_local_host(host: str, own_names: frozenset[str]) -> bool:
    """Whether a server bound to loopback answers this Host header; it guards against DNS rebinding.

    >>> own = frozenset({"box"})
    >>> [h for h in ("localhost:1", "127.0.0.1", "x.local", "ollama", "8.8.8.8") if is_local_host(h, own)]
    ['localhost:1', '127.0.0.1', 'x.local']
    """
    name = host.rsplit(":", 1)[0] if re.search(r":\d+$", host) else host
    name = name.strip("[]").lower()
    if name in ("", "localhost") or name in own_names:
        return True
    if name.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified
