"""Reading a request's body whole, within a bound."""

from typing import Any

from starlette.types import Receive

Headers = dict[bytes, bytes]


class Refused(Exception):
    """The request is answered with this problem; nothing was stored."""

    def __init__(self, status: int, detail: str, row: int | None = None, field: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors: list[dict[str, Any]] = (
            [] if field is None else [{"row": row, "field": field, "message": detail}]
        )


async def read_body(headers: Headers, receive: Receive, most_bytes: int) -> bytes:
    """The body. Raises Refused: 413 when it is longer, 400 when it breaks off."""
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and (len(length) > 18 or int(length) > most_bytes):
        shown = f"{int(length):,}" if len(length) <= 18 else "very many"
        raise Refused(413, f"the body has {shown} bytes; at most {most_bytes:,} are accepted", None, "body")
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and message["type"] == "http.request":
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most_bytes:
            raise Refused(413, f"the body has more than {most_bytes:,} bytes", None, "body")
    if message["type"] == "http.disconnect":
        raise Refused(400, "the body broke off", None, "body")
    return b"".join(parts)
