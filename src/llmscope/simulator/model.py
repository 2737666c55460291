"""The simulated models: how long they take, and what they say."""

import math
import random
from dataclasses import dataclass

ANSWER = (
    "The ocean breathes in long slow waves, holding light on its skin and whole quiet worlds in the dark "
    "water below, where the oldest songs are still being sung."
).split(" ")

AR_PHI = 0.3  # of the log of successive requests' speed: real servers remember (measured .3 to .6)
LOG_SD = 0.05
TOKEN_LOG_SD = 0.10


@dataclass(frozen=True, slots=True)
class Model:
    """A model and its usual speed on the simulated machine."""

    name: str
    family: str
    parameter_size: str
    size_bytes: int
    digest: str
    load_ms: float
    prefill_ms_per_token: float
    decode_ms_per_token: float
    context_length: int = 131_072
    quantization: str = "Q8_0"

    def details(self) -> dict[str, object]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameter_size,
            "quantization_level": self.quantization,
        }


MODELS = (
    Model("llama3.2:1b", "llama", "1.2B", 1_321_098_329, "ba" * 32, 950.0, 1.6, 12.0),
    Model("qwen2.5:7b", "qwen2", "7.6B", 4_683_087_332, "84" * 32, 2600.0, 3.4, 26.0, 32_768, "Q4_K_M"),
)


class Pace:
    """How fast this request runs against the usual: lognormal, correlated with the request before."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._state = 0.0

    def next_request(self) -> float:
        self._state = AR_PHI * self._state + math.sqrt(1 - AR_PHI**2) * self._rng.gauss(0.0, 1.0)
        return math.exp(LOG_SD * self._state)

    def next_token(self) -> float:
        return math.exp(self._rng.gauss(0.0, TOKEN_LOG_SD))


def tokens_of(text: str) -> list[str]:
    """The text in pieces that stand for tokens.

    >>> tokens_of("Write one.")
    ['Writ', 'e', 'one.']
    """
    return [word[i : i + 4] for word in text.split() for i in range(0, len(word), 4)]


def answer(limit: int | None) -> tuple[list[str], str]:
    """The pieces of the reply and why it ends: `stop`, or `length` when the limit was reached."""
    pieces = [ANSWER[0], *(" " + word for word in ANSWER[1:])]
    if limit is None or limit > len(pieces):
        return pieces, "stop"
    return pieces[:limit], "length"
