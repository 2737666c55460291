"""Bearer tokens: 256 random bits with a scope, of which a server keeps only the SHA-256."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal["ingest", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "llmscope_"  # lets a scanner for leaked secrets find it
LOOKED_AT_AGAIN_S = 1.0  # a token that is revoked elsewhere stops working after so long


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is stored: everything but the token itself."""

    id: int
    name: str
    scope: Scope
    made_us: int
    expires_us: int | None = None
    revoked_us: int | None = None

    def works_at(self, now_us: int) -> bool:
        return self.revoked_us is None and (self.expires_us is None or now_us < self.expires_us)


def new_token() -> str:
    """A token that nobody has: 256 bits from the system's generator.

    >>> len(new_token()), new_token() == new_token()
    (52, False)
    """
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> bytes:
    """What is stored of a token. Not salted and not slow: 256 random bits cannot be guessed however fast one tries."""
    return hashlib.sha256(token.encode()).digest()


Find = Callable[[bytes], Token | None]


class Tokens:
    """The tokens of a server; `find` reads one from where they are stored.

    What was found is held for a second, so that a request costs a look-up in memory and a change made by another
    process is seen soon. Only tokens that exist are held: invented ones fill nothing.
    """

    def __init__(
        self,
        find: Find,
        clock_us: Callable[[], int],
        monotonic_s: Callable[[], float],
        fixed: dict[bytes, Token] | None = None,
    ) -> None:
        self._find = find
        self._clock_us = clock_us
        self._monotonic_s = monotonic_s
        self._fixed = fixed or {}  # from the settings
        self._held: dict[bytes, tuple[Token, float]] = {}

    def known(self, token: str) -> Token | None:
        """The token with that text, None when there is none or it no longer works."""
        digest = digest_of(token)
        if (fixed := self._fixed.get(digest)) is not None:
            return fixed
        now_s = self._monotonic_s()
        held = self._held.get(digest)
        if held is None or now_s - held[1] > LOOKED_AT_AGAIN_S:
            found = self._find(digest)
            if found is None:
                self._held.pop(digest, None)
                return None
            self._held[digest] = held = found, now_s
        return held[0] if held[0].works_at(self._clock_us()) else None
