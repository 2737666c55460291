"""Sessions of browsers: a signed text in a cookie that says until when, and those that were ended before.

The signing key is made of a file beside the database, which only its owner can read, and of the password: whoever
changes the password ends every session.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KEY_BYTES = 32
_FORM = struct.Struct(">16sQ")  # an id, and the moment it ends in µs since 1970


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that knew the password."""

    id: bytes
    expires_us: int


class Sessions:
    """Begins, recognises and ends sessions. `ended` are those that were ended before their time."""

    def __init__(
        self,
        key: bytes,
        password: str,
        lasts_s: float,
        clock_us: Callable[[], int],
        ended: dict[bytes, int] | None = None,
    ) -> None:
        self._key = hmac.digest(key, b"session\0" + password.encode(errors="surrogatepass"), "sha256")
        self._clock_us = clock_us
        self._ended = {} if ended is None else ended
        self.lasts_s = lasts_s
        # Cookies know no ports: two servers on one machine must not take each other's for forged.
        self.cookie = f"llmscope_{hashlib.sha256(b'name' + key).hexdigest()[:8]}"

    def begin(self) -> str:
        """The text of a new session."""
        body = _FORM.pack(secrets.token_bytes(16), self._clock_us() + round(self.lasts_s * 1e6))
        return base64.urlsafe_b64encode(body + self._signed(body)).decode().rstrip("=")

    def recognised(self, text: str) -> Session | None:
        """The session of that text; None when it is forged, over or ended."""
        try:
            whole = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        body, signature = whole[: _FORM.size], whole[_FORM.size :]
        if not hmac.compare_digest(self._signed(body), signature):
            return None
        session = Session(*_FORM.unpack(body))
        return session if self.goes_on(session) else None

    def goes_on(self, session: Session) -> bool:
        return self._clock_us() < session.expires_us and session.id not in self._ended

    def end(self, session: Session) -> None:
        """End it now. What is held of it goes when its time is over."""
        now_us = self._clock_us()
        for old in [key for key, expires_us in self._ended.items() if expires_us <= now_us]:
            del self._ended[old]
        self._ended[session.id] = session.expires_us

    def _signed(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def read_key(path: Path) -> bytes:
    """The key in that file, made if there is none; readable by its owner alone. Raises OSError."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) != KEY_BYTES:
        key = secrets.token_bytes(KEY_BYTES)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key)
        fresh.replace(path)
    elif path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return key
