"""What every answer says to browsers: run only what is ours, ask nobody else, show it in no frame."""

from starlette.types import Message, Send

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

SAFETY: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
NOT_KEPT = (b"cache-control", b"no-store")
DATA_SAFETY: tuple[tuple[bytes, bytes], ...] = (  # of an answer that is no page, each header costs time
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    NOT_KEPT,
)


def with_safety(send: Send, keep: bool) -> Send:
    """A `send` that adds these headers to what it sends, where an answer does not set them itself.

    Without `keep`, browsers are told to store nothing.
    """

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            named = {name.lower() for name, _ in headers}
            headers += [header for header in SAFETY if header[0] not in named]
            if not keep and NOT_KEPT[0] not in named:
                headers.append(NOT_KEPT)
            message = {**message, "headers": headers}
        await send(message)

    return sending
