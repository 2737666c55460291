"""Hosting below a path of another server, whether or not its proxy takes the path off what it hands on."""

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Below:
    """An application whose addresses all begin with `root_path`, such as `/llmscope`.

    A request without it comes from a proxy that took it off, or from a health check on this machine. The path
    alone leads to the path with a slash, below which the page finds its parts.
    """

    def __init__(self, root_path: str, app: ASGIApp) -> None:
        self._root_path = root_path
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path == self._root_path:
            query = scope["query_string"].decode("latin-1")
            to = f"{self._root_path}/" + (f"?{query}" if query else "")
            await RedirectResponse(to, 308)(scope, receive, send)
            return
        if not path.startswith(f"{self._root_path}/"):
            path = self._root_path + path
        await self._app({**scope, "root_path": self._root_path, "path": path}, receive, send)
