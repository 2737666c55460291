"""`/api/stats`: the door for observations (`POST`, the hot path) and the window of a series (`GET …/spc`).

The POST bypasses the framework's parsing: msgspec decodes and checks the raw body in one step, three times
faster than a validated model (docs/decisions). It is documented in the OpenAPI file all the same.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec
from starlette.types import Receive, Send

from llmscope.api.body import Headers, Refused, read_body
from llmscope.api.headers import DATA_SAFETY
from llmscope.api.problems import RETRY_AFTER_S, problem_bytes, status_of
from llmscope.ingest import Ingest, InvalidObservation, NotStored, TooManySeries
from llmscope.observation import Observation

MAX_BODY_BYTES = 8_000_000
MAX_BATCH = 20_000  # observations at once: judging them holds up everybody else for about a second
MAX_SENDER = 64

_one = msgspec.json.Decoder(Observation)
_many = msgspec.json.Decoder(list[Observation])
_where = re.compile(r" - at `(?P<path>[^`]*)`$")
_field = re.compile(r"(?:required|unknown) field `(?P<name>[^`]*)`")
_json_headers = (b"content-type", b"application/json")
_retry_headers = ((b"retry-after", b"%d" % RETRY_AFTER_S),)
_problem_headers = (b"content-type", b"application/problem+json")


class StatsDoor:
    """The ASGI endpoint of `POST /api/stats`."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def __call__(self, headers: Headers, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(headers, receive, MAX_BODY_BYTES)
            sender, first_seq = _numbering(headers)
            observations = decode(body, lines=b"ndjson" in headers.get(b"content-type", b""))
            if len(observations) > MAX_BATCH:
                raise Refused(
                    413, f"{len(observations):,} observations; at most {MAX_BATCH:,} at once are accepted"
                )
            accepted = await self._ingest.accept(observations, sender, first_seq)
        except Refused as refused:
            await send_problem(send, refused)
        except InvalidObservation as invalid:
            where = f"row {invalid.row}: " if len(observations) > 1 else ""
            detail = f"{where}{invalid.field} {invalid.message}"
            error = {"row": invalid.row, "field": invalid.field, "message": invalid.message}
            await _send(send, 422, problem_bytes(422, detail, [error]))
        except TooManySeries as error:
            await _send(send, 429, problem_bytes(429, str(error)))
        except NotStored as error:
            status = status_of(error.kind)
            body = problem_bytes(status, f"not stored: {error}; send it again later")
            await _send(send, status, body, _retry_headers)
        else:
            more = b"" if accepted.duplicates == 0 else b',"duplicates":%d' % accepted.duplicates
            body = b'{"status":"ok","logged":true,"accepted":%d%b}' % (accepted.accepted, more)
            await _send(send, 200, body)


async def send_problem(send: Send, refused: Refused) -> None:
    """Answer with the problem."""
    body = problem_bytes(refused.status, refused.detail, refused.errors)
    await _send(send, refused.status, body)


async def _send(send: Send, status: int, body: bytes, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    kind = _json_headers if status == 200 else _problem_headers
    headers = [kind, (b"content-length", str(len(body)).encode()), *more, *DATA_SAFETY]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="LLMscope"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _numbering(headers: dict[bytes, bytes]) -> tuple[str | None, int]:
    """The sender's name and the number of its first row, from the headers."""
    sender = headers.get(b"x-llmscope-sender")
    if sender is None:
        return None, 0
    name = sender.decode("latin-1")
    number = headers.get(b"x-llmscope-first-seq", b"")
    if not 0 < len(name) <= MAX_SENDER or not name.isprintable():
        raise Refused(422, f"must have 1 to {MAX_SENDER} printable characters", None, "X-LLMscope-Sender")
    if not number.isdigit() or len(number) > 18:
        raise Refused(422, "must be a whole number, 0 or more", None, "X-LLMscope-First-Seq")
    return name, int(number)


def decode(body: bytes, lines: bool = False) -> Sequence[Observation]:
    """One observation, an array of them, or one a line; raises Refused naming row and field."""
    start = body.lstrip()[:1]
    try:
        if lines:
            return _one.decode_lines(body)
        if start == b"[":
            return _many.decode(body)
        try:
            return (_one.decode(body),)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            if start == b"{" and b"\n" in body.strip():
                return _one.decode_lines(body)
            raise
    except msgspec.ValidationError as error:
        _refuse_value(error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse_text(body, error)


def _not_utf8(body: bytes) -> int:
    """Where the body stops being UTF-8."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(body)


def _refuse_value(error: msgspec.ValidationError) -> NoReturn:
    """Say which row and field a well-formed body has wrong."""
    text = str(error)
    path = found["path"] if (found := _where.search(text)) else "$"
    message = _where.sub("", text)
    row = int(index[1]) if (index := re.match(r"\$\[(\d+)\]", path)) else None
    field = path.rpartition(".")[2] if "." in path else ""
    if named := _field.search(message):
        field = named["name"]
    message = message.replace("`", "")
    where = f"row {row}: " if row is not None else ""
    raise Refused(422, f"{where}{field or 'body'}: {message}", row, field or "body") from None


def _refuse_text(body: bytes, error: msgspec.DecodeError | UnicodeDecodeError | RecursionError) -> NoReturn:
    """Say where the text stops being JSON: the field of a NaN, or the last field before the fault."""
    if not body.strip():
        raise Refused(422, "body: is empty; send a JSON object, an array or NDJSON", None, "body") from None
    bad: list[tuple[int | None, str]] = []

    def look(value: Any, row: int | None, field: str) -> None:
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            bad.append((row, field))
        elif isinstance(value, dict):
            for name, inner in value.items():
                look(inner, row, str(name))
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                look(inner, i if row is None else row, field)

    try:
        look(json.loads(body), None, "body")
    except (ValueError, RecursionError):
        pass
    if bad:
        row, field = bad[0]
        where = f"row {row}: " if row is not None else ""
        raise Refused(422, f"{where}{field}: must be a finite number", row, field) from None
    position = int(found[1]) if (found := re.search(r"byte (\d+)", str(error))) else len(body)
    if isinstance(error, UnicodeDecodeError):  # counts from where its string begins
        position = _not_utf8(body)
    names = re.findall(rb'"([a-z_]{1,40})"\s*:', body[: position + 1])
    field = names[-1].decode() if names else "body"
    raise Refused(400, f"{field}: the body is not valid JSON: {error}", None, field) from None
