"""What a trusted reverse proxy says of the client behind it: its address, scheme and the host that it asked for."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class Forwarded:
    """An application to which proxies at these addresses may speak for others; of others nothing is believed."""

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self._rest = ProxyHeadersMiddleware(app, list(trusted))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if client is not None and client[0] in self._rest.trusted_hosts:
            told = [value for name, value in scope["headers"] if name == b"x-forwarded-host"]
            if told:
                host = told[-1].rpartition(b",")[2].strip()
                others = [header for header in scope["headers"] if header[0] != b"host"]
                scope = {**scope, "headers": [*others, (b"host", host)]}
        await self._rest(scope, receive, send)  # type: ignore[arg-type]
