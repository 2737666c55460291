"""The test prompt: a fresh nonce first, so that the prefill is really done, then text that stays the same."""

import hashlib
import secrets

OCEAN = "Write one sentence about the ocean."
NONCE_DIGITS = 9  # digits of a fixed number: tokenizers cut them evenly, so that prompts keep their length


def fresh(prompt: str) -> str:
    """The prompt behind a line that no earlier request had: a server's prompt cache finds nothing of it.

    >>> first, rest = fresh(OCEAN).split(chr(10))
    >>> len(first), rest
    (9, 'Write one sentence about the ocean.')
    """
    return f"{secrets.randbelow(10**NONCE_DIGITS):0{NONCE_DIGITS}d}\n{prompt}"


def prompt_hash(prompt: str) -> str:
    """The first 8 hex digits of the SHA-256 of the prompt without its nonce.

    >>> prompt_hash("Write one sentence about the ocean.")
    'bbb33c07'
    """
    return hashlib.sha256(prompt.encode()).hexdigest()[:8]
