"""The baseline of a chart: centre and sigma learnt from good points, the control limits they give, and the
reference of the calibrated chart once there is one."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from llmscope.spc.reference import Reference

Scale = Literal["log", "linear"]
State = Literal["provisional", "locked"]

MAD_TO_SIGMA = 1.4826  # 1 / quantile(3/4) of N(0, 1): makes the median absolute deviation estimate sigma
SCREEN_SIGMA = 4.0  # points further out are left out of a fit, once: a cold start must not widen the limits
SIGMA_FLOOR = (
    1e-3  # of the centre: 0.1 %; equal readings would otherwise make any other reading infinitely far
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Lines of a chart in the metric's unit; `sigma` is a sixth of the distance between the limits."""

    centre: float
    sigma: float
    ucl: float
    lcl: float
    zones: tuple[float, ...]  # the seven lines from LCL to UCL, one sigma apart on the chart's scale


@dataclass(frozen=True, slots=True)
class Baseline:
    """Centre and sigma of ln(value) on the log scale, of the value itself on the linear one.

    `interval_us` is the median spacing of the points it was learnt from: a longer silence than three of them
    is a gap. `reference` is None while too little is known for the detectors. `rates_a_day` are the episodes of
    each rule on the points it was learnt from, a day: what the same process, left alone, goes on to show.

    >>> limits = Baseline(math.log(100.0), 0.1, "log", 150, 2_000_000, "locked").limits()
    >>> round(limits.lcl, 2), round(limits.centre, 2), round(limits.ucl, 2)
    (74.08, 100.0, 134.99)
    """

    centre: float
    sigma: float
    scale: Scale
    n: int
    interval_us: int
    state: State
    reference: Reference | None = None
    rates_a_day: dict[str, float] | None = None

    def limits(self) -> Limits:
        """The control limits in the metric's unit; on the log scale the LCL is always above zero."""
        return limits(self.centre, self.sigma, self.scale)


def limits(centre: float, sigma: float, scale: Scale) -> Limits:
    """The lines for a centre and sigma on the scale."""
    lines = [centre + k * sigma for k in (-3, -2, -1, 0, 1, 2, 3)]
    if scale == "log":
        lines = [math.exp(line) for line in lines]
    return Limits(lines[3], (lines[6] - lines[0]) / 6.0, lines[6], lines[0], tuple(lines))


def fit(
    values: npt.NDArray[np.float64],
    times_us: npt.NDArray[np.int64],
    scale: Scale,
    state: State,
    least_sigma: float = 0.0,
) -> Baseline | None:
    """Baseline of good values (ln of them on the log scale, as the chart holds them), shape (n,).

    Points further than 4 robust sigma from the median are left out once; then mean and sample standard
    deviation, at least `least_sigma` on the scale. None with fewer than two points. `n` counts all points given.
    """
    if len(values) < 2:
        return None
    middle = float(np.median(values))
    spread = MAD_TO_SIGMA * float(np.median(np.abs(values - middle)))
    kept = values[np.abs(values - middle) <= SCREEN_SIGMA * spread] if spread > 0.0 else values
    if len(kept) < 2:
        kept = values
    centre = float(kept.mean())
    floor = SIGMA_FLOOR if scale == "log" else SIGMA_FLOOR * max(abs(centre), 1e-9)
    sigma = max(float(kept.std(ddof=1)), floor, least_sigma)
    spacing = np.diff(np.sort(times_us))
    return Baseline(centre, sigma, scale, len(values), int(np.median(spacing)), state)
