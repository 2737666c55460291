"""The simulated models: how fast they are, and what they say."""

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

ANSWERS = (
    "The ocean breathes in long slow waves, holding light on its skin and whole quiet worlds in the dark "
    "water below, where the oldest songs are still being sung.",
    "Far from any shore the ocean keeps its own time, and nothing that falls into it hurries.",
    "The ocean is the largest room on Earth, lit only at the ceiling, and most of those who live in it have "
    "never seen the sun, the land, or one another, yet every one of them can feel the tide turn over.",
)
AR_PHI = 0.3  # of the log of successive requests' speed: real servers remember
LOG_SD = 0.05
TOKEN_LOG_SD = 0.10
TEMPLATE = ("<|start|>", "user", "<|end|>", *("\n",) * 10)
"""Stands before every prompt, as a chat template does; the measured server had 16 tokens for the prompt "x"."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model and its usual speed on the simulated machine."""

    name: str
    family: str
    parameter_size: str
    size_bytes: int
    load_ms: float
    prefill_ms_per_token: float
    decode_ms_per_token: float
    context_length: int = 131_072
    embedding_length: int = 2048
    quantization: str = "Q8_0"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()


MODELS = (
    Model("llama3.2:1b", "llama", "1.2B", 1_321_098_329, 950.0, 1.9, 12.0),
    Model("qwen2.5:7b", "qwen2", "7.6B", 4_683_087_332, 2600.0, 3.9, 26.0, 32_768, 3584, "Q4_K_M"),
)


class Pace:
    """How fast a request runs against the usual: lognormal, correlated with the request before."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._state = rng.gauss(0.0, 1.0)

    def next_request(self) -> float:
        """The factor on every duration of one request."""
        self._state = AR_PHI * self._state + math.sqrt(1 - AR_PHI**2) * self._rng.gauss(0.0, 1.0)
        return math.exp(LOG_SD * self._state)

    def next_token(self) -> float:
        """The factor on the duration of one token, besides its request's."""
        return math.exp(self._rng.gauss(0.0, TOKEN_LOG_SD))


def tokens_of(prompt: str) -> list[str]:
    """The prompt, in its template, in pieces that stand for tokens.

    >>> tokens_of("Write one.")[len(TEMPLATE):]
    ['Writ', 'e', 'one.']
    """
    return [*TEMPLATE, *(word[i : i + 4] for word in prompt.split() for i in range(0, len(word), 4))]


def reply(temperature: float, rng: random.Random) -> list[str]:
    """The tokens of a whole reply: the same at temperature 0, of one length or another above it."""
    text = ANSWERS[0] if temperature == 0.0 else rng.choice(ANSWERS)
    first, *rest = text.split(" ")
    return [first, *(" " + word for word in rest)]


def common_head(a: Sequence[str], b: Sequence[str]) -> int:
    """How many tokens two prompts share from their beginning.

    >>> common_head(["a", "b", "c"], ["a", "b", "d"])
    2
    """
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
