"""Twelve kinds of latency in control, and a few changes, for the benches: many series at once, seeded.

Values are in ms, shape (points, series). The rows are one interval apart.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Generator = Callable[[np.random.Generator, int, int], Floats]

CENTRE_MS = 50.0


def ar(rng: np.random.Generator, n: int, series: int, phi: float) -> Floats:
    """AR(1) with variance 1."""
    x = rng.standard_normal((n, series))
    if phi == 0.0:
        return x
    x[1:] *= math.sqrt(1.0 - phi * phi)
    for i in range(1, n):
        x[i] += phi * x[i - 1]
    return x


def lognormal(sd: float, phi: float = 0.0) -> Generator:
    return lambda rng, n, series: CENTRE_MS * np.exp(sd * ar(rng, n, series, phi))


def gamma(rng: np.random.Generator, n: int, series: int) -> Floats:
    return rng.gamma(4.0, CENTRE_MS / 4.0, (n, series))


def with_cold_starts(of: Generator, share: float = 0.01) -> Generator:
    """A share of the values is a load of 5 to 20 times as long, untagged."""

    def make(rng: np.random.Generator, n: int, series: int) -> Floats:
        values = of(rng, n, series)
        cold = rng.random((n, series)) < share
        values[cold] *= rng.uniform(5.0, 20.0, int(cold.sum()))
        return values

    return make


def two_prompts(rng: np.random.Generator, n: int, series: int) -> Floats:
    """Two kinds of request, one 1.6 times as long as the other."""
    values = lognormal(0.12)(rng, n, series)
    values[rng.random((n, series)) < 0.3] *= 1.6
    return values


def heavy_tails(rng: np.random.Generator, n: int, series: int) -> Floats:
    return CENTRE_MS * np.exp(0.15 * rng.standard_t(3.0, (n, series)))


def rounded(rng: np.random.Generator, n: int, series: int) -> Floats:
    """Whole steps of 5 ms: five or six distinct values."""
    return np.maximum(5.0, np.round(lognormal(0.10, 0.3)(rng, n, series) / 5.0) * 5.0)


def moving_average(rng: np.random.Generator, n: int, series: int) -> Floats:
    x = rng.standard_normal((n + 1, series))
    return CENTRE_MS * np.exp(0.25 * (x[1:] + 0.6 * x[:-1]) / math.sqrt(1.36))


def two_scales(rng: np.random.Generator, n: int, series: int) -> Floats:
    """White noise about a level that wanders with a time constant of a minute: what servers do."""
    return CENTRE_MS * np.exp(0.2 * ar(rng, n, series, 0.0) + 0.08 * ar(rng, n, series, math.exp(-1 / 30)))


def restless(rng: np.random.Generator, n: int, series: int) -> Floats:
    """Lognormal whose sd itself wanders by a quarter, over two minutes."""
    sd = 0.2 * np.exp(0.25 * ar(rng, n, series, math.exp(-1 / 60)))
    return CENTRE_MS * np.exp(sd * rng.standard_normal((n, series)))


KINDS: dict[str, Generator] = {
    "lognormal .25": lognormal(0.25),
    "lognormal .50": lognormal(0.50),
    "gamma, shape 4": gamma,
    "AR .3": lognormal(0.25, 0.3),
    "AR .6": lognormal(0.25, 0.6),
    "AR .8": lognormal(0.25, 0.8),
    "moving average .6": moving_average,
    "1 % cold starts": with_cold_starts(lognormal(0.25)),
    "AR .6, 1 % cold starts": with_cold_starts(lognormal(0.25, 0.6)),
    "two prompts": two_prompts,
    "heavy tails, t with 3": heavy_tails,
    "rounded to 5 ms, AR .3": rounded,
}
HARD: dict[str, Generator] = {"two time scales": two_scales, "restless spread": restless}
