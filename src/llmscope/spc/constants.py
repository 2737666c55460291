"""The constants of classical control charts, from their integrals rather than from a table.

All are for normal data and subgroups of n values. Source of the names: ASTM Manual 7; of the integrals:
L. H. C. Tippett, Biometrika 17, 1925 (the range) and the chi distribution (the standard deviation).
"""

import math
from functools import lru_cache

import numpy as np

MEDIAN_RANGE = 0.9539  # median moving range of two normal values, in sigma: sqrt(2) quantile(3/4)
MAD_TO_SIGMA = 1.4826  # 1 / quantile(3/4)
_STEP = 0.002
_GRID = np.arange(-9.0, 9.0 + _STEP / 2, _STEP)
_CDF = np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in _GRID])
_PDF = np.exp(-0.5 * _GRID**2) / math.sqrt(2.0 * math.pi)


@lru_cache
def d2(n: int) -> float:
    """Mean range of n values, in sigma.

    >>> round(d2(2), 5), round(d2(5), 4)
    (1.12838, 2.3259)
    """
    return float(np.sum(1.0 - _CDF**n - (1.0 - _CDF) ** n) * _STEP)


@lru_cache
def d3(n: int) -> float:
    """Standard deviation of the range of n values, in sigma.

    >>> round(d3(2), 4), round(d3(5), 4)
    (0.8525, 0.8641)
    """
    # P(range < w) = n int pdf(x) (cdf(x + w) - cdf(x))^(n - 1) dx; E w^2 = int 2 w (1 - P) dw
    second = 0.0
    step = 0.01
    for w in np.arange(step / 2, 14.0, step).tolist():
        inside = np.interp(_GRID + w, _GRID, _CDF, right=1.0) - _CDF
        second += 2.0 * w * (1.0 - n * float(np.sum(_PDF * inside ** (n - 1)) * _STEP)) * step
    return math.sqrt(second - d2(n) ** 2)


@lru_cache
def c4(n: int) -> float:
    """Mean sample standard deviation of n values, in sigma.

    >>> round(c4(5), 4)
    0.94
    """
    return math.sqrt(2.0 / (n - 1)) * math.exp(math.lgamma(n / 2.0) - math.lgamma((n - 1) / 2.0))


def a3(n: int) -> float:
    """Limits of means from the mean standard deviation: x +- A3 s.

    >>> round(a3(5), 3)
    1.427
    """
    return 3.0 / (c4(n) * math.sqrt(n))


def b3(n: int) -> float:
    """Lower limit of the standard deviation over its mean."""
    return max(0.0, 1.0 - 3.0 * math.sqrt(1.0 - c4(n) ** 2) / c4(n))


def b4(n: int) -> float:
    """Upper limit of the standard deviation over its mean.

    >>> round(b4(5), 3)
    2.089
    """
    return 1.0 + 3.0 * math.sqrt(1.0 - c4(n) ** 2) / c4(n)


def big_d4(n: int) -> float:
    """Upper limit of the range over its mean.

    >>> round(big_d4(2), 4)
    3.2665
    """
    return 1.0 + 3.0 * d3(n) / d2(n)


def e2(n: int = 2) -> float:
    """Limits of individuals from the mean moving range: x +- E2 MR.

    >>> round(e2(), 4)
    2.6587
    """
    return 3.0 / d2(n)
