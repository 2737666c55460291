"""What a request must show before it is served: a name that is ours, a caller who may, and no other site behind it.

A page of another site cannot read our answers, for they grant no CORS. That it cannot make a browser *do* anything
here either rests on three things: the cookie is SameSite=Strict, what the browser says of the request's origin must
be this server, and a request that rests on a cookie must carry a header of ours, which no form can send.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.types import Scope

from llmscope.access import Access, Caller
from llmscope.access import Scope as Rights
from llmscope.access.policy import ANYBODY
from llmscope.api.body import Headers, Refused

PAGE_HEADER = b"x-llmscope-page"  # the page sends it with every change
LONGEST_HOST = 261  # a name of 253 bytes, a port, and what is between
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEALTH = (
    "/healthz",
    "/readyz",
)  # asked by orchestrators under whatever address they have, and telling nothing
OPEN_PATHS = ("/", *HEALTH, "/api/session", "/api/login", "/api/logout")
INGEST_PATHS = ("/api/stats",)
HARMLESS = "/api/backtest"  # a job that reads: whoever may read may start and stop one

HINT = {
    "ingest": "a token with scope ingest, such as LLMSCOPE_INGEST_TOKEN",
    "read": "the password or a token with scope read",
    "admin": "the password or a token with scope admin",
}


NOBODY = Caller((), lambda: False)


class Guard:
    """Lets requests pass or raises Refused. `open_files` are the paths of the page's own files."""

    def __init__(self, access: Access, open_files: Collection[str] = ()) -> None:
        self.access = access
        self._open = frozenset((*OPEN_PATHS, *open_files))

    def admit(self, scope: Scope, path: str, headers: Headers) -> Caller:
        """Who is calling. Raises Refused: 421, 401 or 403."""
        access = self.access
        host = headers.get(b"host")
        if (
            host is not None
            and path not in HEALTH
            and not (len(host) <= LONGEST_HOST and access.answers_for(host))
        ):
            name = host.decode("latin-1")[:200]
            raise Refused(
                421,
                f"this server answers on localhost, not as {name!r}; if that is how you reach it, "
                "name it in LLMSCOPE_ALLOWED_HOSTS",
            )
        method: str = scope["method"]
        is_change = method not in SAFE_METHODS
        if not access.login:
            if is_change:
                refuse_other_sites(headers)
            return ANYBODY
        caller = self._caller(headers)
        if is_change and (caller is None or caller.session is not None):
            refuse_other_sites(headers)
            if caller is not None and PAGE_HEADER not in headers:
                raise Refused(403, "a change by a browser must carry the header X-LLMscope-Page")
        if path in self._open:
            return caller or NOBODY
        needed = rights_for(method, path)
        if caller is None:
            if b"authorization" in headers:
                raise Refused(401, "this token is not known here, or it is revoked or over")
            raise Refused(401, f"this server asks who is calling: send {HINT[needed]}")
        if needed not in caller.scopes:
            raise Refused(403, f"this token may not do that: it takes {HINT[needed]}")
        return caller

    def _caller(self, headers: Headers) -> Caller | None:
        """Whom the token names, or else the cookie; None when what is sent does not work."""
        if (authorization := headers.get(b"authorization")) is not None:
            kind, _, token = authorization.decode("latin-1").partition(" ")
            return self.access.bearer(token.strip()) if kind.lower() == "bearer" else None
        sessions = self.access.sessions
        if sessions is None or (cookies := headers.get(b"cookie")) is None:
            return None
        text = cookie_named(sessions.cookie, cookies.decode("latin-1"))
        return None if text is None else self.access.cookie(text)


def rights_for(method: str, path: str) -> Rights:
    """What a caller must be allowed to do; of what is not named here, everything.

    >>> [rights_for(*asked) for asked in (("POST", "/api/stats"), ("GET", "/api/stats"), ("POST", "/api/stats/x"))]
    ['ingest', 'read', 'admin']
    """
    if method in SAFE_METHODS:
        return "read"
    if method == "POST" and path in INGEST_PATHS:
        return "ingest"
    if path == HARMLESS or path.startswith(f"{HARMLESS}/"):
        return "read"
    return "admin"


def refuse_other_sites(headers: Headers) -> None:
    """Raise Refused when a browser says that another site's page makes the request.

    Sec-Fetch-Site says it outright, but browsers send it only over HTTPS and to localhost; else Origin must name
    the host that is asked. A program that is no browser sends neither.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        if site in (b"same-origin", b"none"):
            return
        raise Refused(403, "a page of another site may not change anything here")
    origin = headers.get(b"origin")
    if origin is None:
        return
    asked = headers.get(b"host", b"").decode("latin-1").lower()
    try:
        parts = urlsplit(origin.decode("latin-1").lower())
    except ValueError:
        parts = urlsplit("")
    if not parts.netloc or parts.netloc != asked:
        raise Refused(403, "a page of another site may not change anything here")


def cookie_named(name: str, cookies: str) -> str | None:
    """The value of that cookie.

    >>> cookie_named("b", "a=1; b=2")
    '2'
    """
    for part in cookies.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return None
