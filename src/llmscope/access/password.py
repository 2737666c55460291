"""The password of the page: kept as a scrypt hash from the start of the program on."""

import hashlib
import hmac
import secrets

N, R, P = 2**14, 8, 1  # 16 MB and about 50 ms a try
LONGEST = 1_000


class Password:
    """A password that can be compared with, and not read.

    >>> password = Password("correct horse")
    >>> password.is_right("correct horse"), password.is_right("correct house")
    (True, False)
    """

    def __init__(self, text: str) -> None:
        self._salt = secrets.token_bytes(16)
        self._hash = self._hashed(text)

    def is_right(self, text: str) -> bool:
        """Whether it is the password; takes as long for a wrong one as for the right one."""
        return hmac.compare_digest(self._hashed(text), self._hash)

    def _hashed(self, text: str) -> bytes:
        return hashlib.scrypt(text.encode(errors="surrogatepass"), salt=self._salt, n=N, r=R, p=P)
