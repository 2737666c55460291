"""The classical control charts, as practitioners know them: arrays in, lines out.

Limits may be learnt from a part of the rows (a frozen baseline), by phase, without excluded rows, or be given.
Source: D. C. Montgomery, Introduction to Statistical Quality Control, 7th edition, chapters 6, 7 and 9.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from llmscope.spc.constants import MAD_TO_SIGMA, MEDIAN_RANGE, b3, b4, c4

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
# To the digits that textbooks and packages print: with all of them Montgomery's example 6.5 ends in another cent.
RANGE_TO_SIGMA = 1.128
RANGE_UCL = 3.267
SIGMA_FROM = ("total", "mr", "median-mr", "mad")


class NoData(ValueError):
    """A phase or baseline without a value to learn from."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Rows [start, stop) that share their limits; `learns` marks the rows (of all) that they come from."""

    start: int
    stop: int
    learns: Bools


@dataclass(slots=True)
class Panel:
    """What is plotted and its lines, one entry a row; nan where a row has no value. `sigma` is that of the
    statistic, so z = (statistic - centre) / sigma."""

    statistic: Floats
    centre: Floats
    sigma: Floats
    ucl: Floats
    lcl: Floats

    @property
    def z(self) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self.statistic - self.centre) / self.sigma)


@dataclass(slots=True)
class Chart:
    """A chart: its main panel, perhaps a second one, and the sigma of the process by stage."""

    main: Panel
    second: Panel | None = None
    sigmas: list[float] = field(default_factory=list)
    centres: list[float] = field(default_factory=list)


def _blank(n: int) -> Panel:
    return Panel(*(np.full(n, np.nan) for _ in range(5)))


def _fill(panel: Panel, rows: slice, centre: float, sigma: Floats | float, width: float = 3.0) -> None:
    panel.centre[rows] = centre
    panel.sigma[rows] = sigma
    panel.ucl[rows] = centre + width * panel.sigma[rows]
    panel.lcl[rows] = centre - width * panel.sigma[rows]


def moving_ranges(values: Floats) -> Floats:
    """|x_i - x_(i-1)|, nan at the first row and beside a gap; shape (n,)."""
    return np.abs(np.diff(values, prepend=np.nan))


def sigma_of(values: Floats, how: str) -> float:
    """Sigma of individuals, of values without gaps.

    `total` is the sample standard deviation, `mr` the mean moving range over d2(2), `median-mr` its median over
    .9539, `mad` the median absolute deviation times 1.4826.
    """
    if len(values) < 2:
        raise NoData("fewer than two values to learn a sigma from")
    if how == "total":
        return float(values.std(ddof=1))
    if how == "mad":
        return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))
    ranges = np.abs(np.diff(values))
    return float(ranges.mean()) / RANGE_TO_SIGMA if how == "mr" else float(np.median(ranges)) / MEDIAN_RANGE


def individuals(
    values: Floats,
    stages: Sequence[Stage],
    how: str = "mr",
    centre: float | None = None,
    sigma: float | None = None,
    ranges: bool = True,
) -> Chart:
    """Individuals and, unless `ranges` is false, their moving ranges; `centre` and `sigma` may be known."""
    centres: list[float] = []
    sigmas: list[float] = []
    for stage in stages:
        learnt = values[stage.learns & ~np.isnan(values)]
        if len(learnt) == 0 and (centre is None or sigma is None):
            raise NoData(f"no value to learn limits from for the rows from {stage.start}")
        middle = float(learnt.mean()) if centre is None else centre
        spread = sigma_of(learnt, how) if sigma is None else sigma
        centres.append(middle)
        sigmas.append(spread)

    def line(of_centre: float, of_sigma: float) -> Floats:
        levels = [of_centre * c + of_sigma * s for c, s in zip(centres, sigmas, strict=True)]
        return _stepped(len(values), stages, levels)

    main = Panel(values, line(1.0, 0.0), line(0.0, 1.0), line(1.0, 3.0), line(1.0, -3.0))
    second = None
    if ranges:
        mean = RANGE_TO_SIGMA  # of the moving ranges, in sigma
        second = Panel(
            moving_ranges(values),
            line(0.0, mean),
            line(0.0, (RANGE_UCL - 1.0) * mean / 3.0),
            line(0.0, RANGE_UCL * mean),
            line(0.0, 0.0),
        )
    return Chart(main, second, sigmas, centres)


def _stepped(n: int, stages: Sequence[Stage], levels: Sequence[float]) -> Floats:
    """A line that is level in each stage, shape (n,); of a single stage it takes no memory."""
    if len(stages) == 1:
        return np.broadcast_to(np.float64(levels[0]), (n,))
    line = np.full(n, np.nan)
    for stage, level in zip(stages, levels, strict=True):
        line[stage.start : stage.stop] = level
    return line


def xbar_s(
    groups: Sequence[Floats], stages: Sequence[Stage], centre: float | None = None, sigma: float | None = None
) -> Chart:
    """Means and standard deviations of subgroups; where these differ in size, weighted and pooled."""
    n = len(groups)
    sizes = np.array([len(g) for g in groups])
    means = np.array([g.mean() if len(g) else np.nan for g in groups])
    sds = np.array([g.std(ddof=1) if len(g) > 1 else np.nan for g in groups])
    chart = Chart(_blank(n), _blank(n))
    assert chart.second is not None
    chart.main.statistic, chart.second.statistic = means, sds
    for stage in stages:
        used = stage.learns & (sizes > 1)
        if not used.any() and (centre is None or sigma is None):
            raise NoData(f"no subgroup of two or more to learn limits from, from subgroup {stage.start}")
        middle = float(np.average(means[used], weights=sizes[used])) if centre is None else centre
        if sigma is not None:
            spread_mean = None
            process = sigma
        elif len(set(sizes[used].tolist())) == 1:
            spread_mean = float(sds[used].mean())
            process = spread_mean / c4(int(sizes[used][0]))
        else:
            freedom = sizes[used] - 1
            spread_mean = math.sqrt(float(freedom @ sds[used] ** 2) / float(freedom.sum()))
            process = spread_mean
        for i in range(stage.start, stage.stop):
            size = int(sizes[i])
            if size < 2:
                continue
            mean_sd = process * c4(size) if spread_mean is None else spread_mean
            row = slice(i, i + 1)
            _fill(chart.main, row, middle, mean_sd / c4(size) / math.sqrt(size))
            chart.second.centre[row] = mean_sd
            chart.second.ucl[row], chart.second.lcl[row] = b4(size) * mean_sd, b3(size) * mean_sd
            chart.second.sigma[row] = (b4(size) - 1.0) * mean_sd / 3.0
        chart.centres.append(middle)
        chart.sigmas.append(process)
    return chart


def attributes(
    kind: str, counts: Floats, sizes: Floats, stages: Sequence[Stage], centre: float | None = None
) -> Chart:
    """p, np, c and u charts: counts of events, and what they are counted in (ignored by c).

    Limits of p and np are cut to what is possible, no LCL lies below zero.
    """
    n = len(counts)
    chart = Chart(_blank(n))
    panel = chart.main
    per = sizes if kind in ("p", "u") else np.ones(n)
    panel.statistic = counts / per
    for stage in stages:
        used = stage.learns & ~np.isnan(counts)
        if not used.any() and centre is None:
            raise NoData(f"no value to learn limits from for the rows from {stage.start}")
        rows = slice(stage.start, stage.stop)
        if kind == "c":
            rate = float(counts[used].mean()) if centre is None else centre
            line, sigma = rate, np.full(n, math.sqrt(rate))
        elif kind == "u":
            rate = float(counts[used].sum() / sizes[used].sum()) if centre is None else centre
            line, sigma = rate, np.sqrt(rate / sizes)
        else:
            rate = float(counts[used].sum() / sizes[used].sum()) if centre is None else centre
            line = rate if kind == "p" else rate * float(np.nanmean(sizes[rows]))
            variance = rate * (1.0 - rate)
            sigma = np.sqrt(variance / sizes) if kind == "p" else np.sqrt(variance * sizes)
        _fill(panel, rows, line, sigma[rows])
        panel.lcl[rows] = np.maximum(0.0, panel.lcl[rows])
        if kind == "p":
            panel.ucl[rows] = np.minimum(1.0, panel.ucl[rows])
        elif kind == "np":
            panel.ucl[rows] = np.minimum(sizes[rows], panel.ucl[rows])
        chart.centres.append(line)
        chart.sigmas.append(float(np.nanmean(sigma[rows])))
    return chart


def ewma(values: Floats, stages: Sequence[Stage], sigmas: Chart, weight: float, width: float) -> Chart:
    """EWMA with its exact, widening limits; it begins at the centre line of each stage, gaps leave it as it is.

    `sigmas` is the chart of individuals whose centre and sigma it uses.
    """
    n = len(values)
    chart = Chart(_blank(n), None, list(sigmas.sigmas), list(sigmas.centres))
    for stage, centre, sigma in zip(stages, sigmas.centres, sigmas.sigmas, strict=True):
        level, steps = centre, 0
        for i in range(stage.start, stage.stop):
            if not math.isnan(values[i]):
                level = weight * float(values[i]) + (1.0 - weight) * level
                steps += 1
                chart.main.statistic[i] = level
            spread = sigma * math.sqrt(
                weight / (2.0 - weight) * (1.0 - (1.0 - weight) ** (2 * max(steps, 1)))
            )
            _fill(chart.main, slice(i, i + 1), centre, spread * width / 3.0)
    return chart


def cusum(
    values: Floats, stages: Sequence[Stage], sigmas: Chart, k: float, h: float, target: float | None
) -> Chart:
    """Tabular CUSUM in sigma: the upper one in the main panel, the lower one below zero in the second.

    It begins at zero and is not reset; `h` is the decision line.
    """
    n = len(values)
    chart = Chart(_blank(n), _blank(n), list(sigmas.sigmas), list(sigmas.centres))
    assert chart.second is not None
    for stage, centre, sigma in zip(stages, sigmas.centres, sigmas.sigmas, strict=True):
        middle = centre if target is None else target
        up = down = 0.0
        for i in range(stage.start, stage.stop):
            if not math.isnan(values[i]):
                z = (float(values[i]) - middle) / sigma
                up, down = max(0.0, up + z - k), max(0.0, down - z - k)
                chart.main.statistic[i], chart.second.statistic[i] = up, -down
        rows = slice(stage.start, stage.stop)
        for panel in (chart.main, chart.second):
            _fill(panel, rows, 0.0, h / 3.0)
    return chart
