"""Who may do what on a server: tokens, the password, sessions of browsers, and the addresses it answers for.

Decides and remembers; knows nothing of HTTP.
"""

from llmscope.access.attempts import Attempts, TooManyAttempts
from llmscope.access.password import Password
from llmscope.access.policy import Access, Caller, host_name, is_loopback
from llmscope.access.sessions import Session, Sessions, read_key
from llmscope.access.tokens import SCOPES, Scope, Token, Tokens, digest_of, new_token

__all__ = [
    "SCOPES",
    "Access",
    "Attempts",
    "Caller",
    "Password",
    "Scope",
    "Session",
    "Sessions",
    "Token",
    "Tokens",
    "TooManyAttempts",
    "digest_of",
    "host_name",
    "is_loopback",
    "new_token",
    "read_key",
]
