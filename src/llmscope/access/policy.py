"""What a server asks of a request before it serves it: a name it answers for, and who is calling."""

import ipaddress
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache

from llmscope.access.attempts import Attempts
from llmscope.access.password import Password
from llmscope.access.sessions import Session, Sessions
from llmscope.access.tokens import Scope, Token, Tokens

ANYTHING: tuple[Scope, ...] = ("ingest", "read", "admin")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, and whether they still may. `session` is set where a cookie says so."""

    scopes: tuple[Scope, ...]
    goes_on: Callable[[], bool]
    session: Session | None = None


ANYBODY = Caller(ANYTHING, lambda: True)


class Access:
    """The rules of one server.

    `login` says that callers must be known: a token, or a session begun with the password. `hosts` are the names
    that it answers for beside those of this machine; None when it answers for every name.
    """

    def __init__(
        self,
        *,
        login: bool = False,
        password: Password | None = None,
        sessions: Sessions | None = None,
        tokens: Tokens | None = None,
        hosts: Collection[str] | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        on_ended: Callable[[Session], None] = lambda _session: None,
    ) -> None:
        self.login = login
        self.password = password
        self.sessions = sessions
        self.attempts = Attempts(monotonic_s)
        self._tokens = tokens
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._on_ended = on_ended
        self.answers_for = lru_cache(maxsize=256)(self._answers_for)  # of each request the same few

    def _answers_for(self, host: bytes) -> bool:
        """Whether the Host header names this server; a name that anybody may point here does not."""
        if self._hosts is None:
            return True
        name = host_name(host.decode("latin-1"))
        return name in self._hosts or is_loopback(name)

    def bearer(self, token: str) -> Caller | None:
        """Who sends that token; None when it does not work."""
        found = self._known(token)
        if found is None:
            return None
        scopes: tuple[Scope, ...] = ANYTHING if found.scope == "admin" else (found.scope,)
        return Caller(scopes, lambda: self._known(token) is not None)

    def cookie(self, text: str) -> Caller | None:
        """Who sends that session; None when it is not one, or over."""
        sessions = self.sessions
        session = None if sessions is None else sessions.recognised(text)
        if sessions is None or session is None:
            return None
        return Caller(ANYTHING, lambda: sessions.goes_on(session), session)

    def end(self, session: Session) -> None:
        """End a session for good."""
        if self.sessions is not None:
            self.sessions.end(session)
            self._on_ended(session)

    def _known(self, token: str) -> Token | None:
        return None if self._tokens is None else self._tokens.known(token)


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets.

    >>> [host_name(text) for text in ("localhost:8081", "[::1]:8081", "LLM.example.", "::1")]
    ['localhost', '::1', 'llm.example', '::1']
    """
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    if colon and ":" not in name and (port.isdigit() or not port):
        host = name
    return host.removesuffix(".")


def is_loopback(name: str) -> bool:
    """Whether that name can only mean this machine: a name server that lies cannot change where it leads.

    >>> [is_loopback(name) for name in ("localhost", "127.0.0.1", "[::1]", "localhost.evil.example", "192.168.1.2")]
    [True, True, True, False, False]
    """
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
