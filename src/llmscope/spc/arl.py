"""Exact average run lengths: how long a chart runs, on average, until it signals.

The average run length (ARL) is in points and zero-state: the chart starts empty, and the point that signals counts.
Points are independent N(shift, 1) unless said. Nothing here judges data or knows a budget.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
History = tuple[int, ...]
Step = Callable[[History, int], History | None]

NODES = 64  # of Gauss-Legendre at least; 128 give the same ARL to nine digits (tests/spc/test_arl.py)
NODES_PER_SIGMA = (
    6  # of a wide chart: the kernel is a normal density with sd 1, which four a sigma already resolve
)
SIEGMUND_SHIFT = 1.166  # twice .583, the mean overshoot of a normal random walk
LATTICE = (
    200  # steps to h of a count CUSUM, or up to twice as many: one solve takes one to three milliseconds
)
LONGEST = 1e13  # beyond it 1 - (chance to go on) has lost its digits in double precision

# A zone is a side, the sign, and one more than the whole sigmas it lies beyond: 3 is 2 < z <= 3, -1 is -1 <= z < 0.
ZONES = (-4, -3, -2, -1, 1, 2, 3, 4)


def rules_arl(rules: Sequence[str], shift: float = 0.0, run_length: int = 9) -> float:
    """ARL, in points, of the Nelson rules named, together, on independent N(shift, 1); `run_length` is that of R2.

    R3 and R4 compare points with each other, not with zones, and have no such chain: ValueError. The states are
    what the rules remember of the zones gone by, found from the empty history onwards and merged where nothing
    that follows can tell them apart. All six rules have 1,081 states, 567 merged. Infinite where the answer is
    beyond 1e13.

    >>> round(rules_arl(["R1"]), 2), round(rules_arl(["R1", "R2"]), 2)
    (370.4, 216.7)

    Source: C. W. Champ and W. H. Woodall, Technometrics 29(4), 1987, p. 393-399.
    """
    steps = _steps(run_length)
    if not rules or not set(rules) <= set(steps):
        raise ValueError(f"no Markov chain for {list(rules)}: name one or more of {', '.join(steps)}")
    after = _merged(_reachable([steps[rule] for rule in dict.fromkeys(rules)]))
    states = len(after)
    move = np.zeros((states, states + 1))  # the last column: signalled
    for zone, chance in enumerate(_zone_chances(shift)):
        np.add.at(move, (np.arange(states), after[:, zone]), chance)
    return _run_length(move[:, :states])


def _steps(run_length: int) -> dict[str, Step]:
    """Of each rule: what it remembers after one more zone, from what it remembered; None when it signals."""

    def beyond_limits(past: History, zone: int) -> History | None:
        return None if abs(zone) > 3 else past

    def one_side(past: History, zone: int) -> History | None:
        side = _side(zone, 0)
        run = (past[0] if past else 0) * side
        return None if run + 1 >= run_length else (side * (max(run, 0) + 1),)

    def some_beyond(sigmas: int, needed: int, of: int) -> Step:
        def step(past: History, zone: int) -> History | None:
            side = _side(zone, sigmas)
            if side and past.count(side) >= needed - 1:
                return None
            return (*past, side)[-(of - 1) :]

        return step

    def hugging(past: History, zone: int) -> History | None:
        inside = (past[0] if past else 0) + 1
        if abs(zone) > 1:
            return ()
        return None if inside >= 15 else (inside,)

    def avoiding(past: History, zone: int) -> History | None:
        side = _side(zone, 1)
        if not side:
            return ()
        points, on = past or (0, side)  # `on` is 0 once both sides were seen
        on = side if side == on else 0
        return None if points >= 7 and on == 0 else (min(points + 1, 7), on)

    return {
        "R1": beyond_limits,
        "R2": one_side,
        "R5": some_beyond(2, 2, 3),
        "R6": some_beyond(1, 4, 5),
        "R7": hugging,
        "R8": avoiding,
    }


def _side(zone: int, sigmas: int) -> int:
    """1 or -1 where the zone lies beyond that many sigmas, above or below; else 0."""
    return 0 if abs(zone) <= sigmas else 1 if zone > 0 else -1


def _reachable(steps: Sequence[Step]) -> npt.NDArray[np.int64]:
    """The state after each state and zone, shape (states, 8); state 0 is the start, -1 has signalled."""
    start: tuple[History, ...] = ((),) * len(steps)
    number = {start: 0}
    states, after = [start], list[list[int]]()
    for state in states:  # grows as new ones are met
        row: list[int] = []
        for zone in ZONES:
            told = [step(past, zone) for step, past in zip(steps, state, strict=True)]
            heard = tuple(past for past in told if past is not None)
            if len(heard) < len(told):
                row.append(-1)
                continue
            if heard not in number:
                number[heard] = len(states)
                states.append(heard)
            row.append(number[heard])
        after.append(row)
    return np.array(after)


def _merged(after: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The smallest chain with the same futures (Moore's partition refinement); state 0 remains the start."""
    label = np.zeros(len(after) + 1, dtype=np.int64)
    label[-1] = -1  # signalled: what -1 in `after` points to
    kinds = 0
    while True:
        rows, first, same = np.unique(label[after], axis=0, return_index=True, return_inverse=True)
        label[:-1] = same.ravel()
        if len(rows) == kinds:
            break
        kinds = len(rows)
    swap = np.arange(-1, kinds)  # by label + 1: the start's own label and 0 change places
    swap[1 + label[0]], swap[1] = 0, label[0]
    first[[0, label[0]]] = first[[label[0], 0]]
    return swap[1 + label[after[first]]]


def _zone_chances(shift: float) -> list[float]:
    """Of N(shift, 1), the chance of each zone of ZONES."""
    edges = [-math.inf, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, math.inf]
    return [_between(low - shift, high - shift) for low, high in pairwise(edges)]


def _between(low: float, high: float) -> float:
    """Chance of N(0, 1) between the two, without cancellation in either tail."""
    if low > 0.0:
        low, high = -high, -low
    return 0.5 * (math.erfc(-high / math.sqrt(2.0)) - math.erfc(-low / math.sqrt(2.0)))


def _run_length(move: Floats) -> float:
    """Mean steps until the chain that starts in state 0 is gone; `move`, shape (n, n), is what stays in it."""
    try:
        mean = float(np.linalg.solve(np.eye(len(move)) - move, np.ones(len(move)))[0])
    except np.linalg.LinAlgError:
        return math.inf
    return mean if 0.0 < mean < LONGEST else math.inf


@lru_cache(maxsize=1024)
def cusum_arl(k: float, h: float, shift: float = 0.0, two_sided: bool = False) -> float:
    """ARL, in points, of the upper CUSUM C = max(0, C + x - k) that signals when C > h, x from N(shift, 1).

    k and h are in sigma; `two_sided` adds the mirror image: 1/ARL = 1/ARL+ + 1/ARL-. Page's integral equation by
    Gauss-Legendre, with the atom at zero apart. Infinite beyond 1e13.

    >>> round(cusum_arl(0.5, 4.0, two_sided=True), 1), round(cusum_arl(0.5, 5.0, two_sided=True), 1)
    (167.7, 465.4)

    Source: E. S. Page, Biometrika 41, 1954, p. 100-115; two sides: K. W. Kemp, JRSS B 23, 1961, p. 149-153.
    """
    at, weights = _nodes(0.0, h, h)
    start = np.concatenate([[0.0], at])
    move = np.empty((len(start), len(start)))
    move[:, 0] = _cdf(k - shift - start)
    move[:, 1:] = weights * _density(at[None, :] - start[:, None] + k - shift)
    upper = _run_length(move)
    if not two_sided:
        return upper
    rate = 1.0 / upper + 1.0 / (upper if shift == 0.0 else cusum_arl(k, h, -shift))
    return 1.0 / rate if rate > 0.0 else math.inf


def cusum_siegmund_arl(k: float, h: float, shift: float = 0.0) -> float:
    """Siegmund's approximation of the one-sided `cusum_arl`: at k = .5 within 1 % in control from h = 3.

    (exp(-2 d b) + 2 d b - 1) / (2 d^2), d = shift - k, b = h + 1.166.

    Source: D. Siegmund, Sequential Analysis, 1985, chapter 2.
    """
    drift, b = shift - k, h + SIEGMUND_SHIFT
    if abs(drift) < 1e-6:
        return b * b
    return (math.exp(-2.0 * drift * b) + 2.0 * drift * b - 1.0) / (2.0 * drift * drift)


@lru_cache(maxsize=1024)
def cusum_h(k: float, arl: float, two_sided: bool = False) -> float:
    """The h, in sigma, at which the in-control ARL is `arl` points; right to 1e-7. Zero where even h = 0 has more.

    >>> [round(cusum_h(0.5, arl, two_sided=True), 2) for arl in (370.0, 2880.0, 20160.0)]
    [4.77, 6.81, 8.75]
    """
    return _reaching(arl, lambda h: cusum_arl(k, h, 0.0, two_sided), 4.0)


def ewma_arl(lam: float, width: float, shift: float = 0.0) -> float:
    """ARL, in points, of E = (1 - lam) E + lam x from E = 0, that signals when |E| > width * sqrt(lam / (2 - lam)).

    `width` is in sigma of E; the limits are the asymptotic ones from the first point. 0 < lam <= 1; at 1 it is
    R1 with that width. The integral equation by Gauss-Legendre. Infinite beyond 1e13.

    Source: S. V. Crowder, Technometrics 29(4), 1987, p. 401-407.
    """
    limit = width * math.sqrt(lam / (2.0 - lam))
    at, weights = _nodes(-limit, limit, 2.0 * limit / lam)
    start = np.concatenate([[0.0], at])
    move = np.zeros((len(start), len(start)))  # nothing returns to the start itself
    move[:, 1:] = weights / lam * _density((at[None, :] - (1.0 - lam) * start[:, None]) / lam - shift)
    return _run_length(move)


def ewma_width(lam: float, arl: float) -> float:
    """The width, in sigma of the EWMA, at which its in-control ARL is `arl` points; right to 1e-7.

    >>> round(ewma_width(0.2, 500.0), 3), round(ewma_width(0.1, 500.0), 3)
    (2.962, 2.814)
    """
    return _reaching(arl, lambda width: ewma_arl(lam, width), 3.0)


def poisson_cusum_arl(mean: float, k: float, h: float) -> float:
    """In-control ARL, in points, of the count CUSUM C = max(0, C + x - k) > h, x Poisson with that mean.

    Solved on a lattice of 200 to 400 steps to h, taken so that k lies nearly on a step; h then falls to a step,
    which changes nothing, as C takes no value between. For means of .1 to .45 and h of 2 to 6, against 3,000
    steps: median error 1e-11, 95 % below 3 %, worst 10 %, where the ARL jumps at an h next to the one asked for.

    >>> round(poisson_cusum_arl(0.5, 1.0, 3.0), 1)
    632.7

    Source: J. M. Lucas, Technometrics 27(2), 1985, p. 129-144; the chain: D. Brook and D. A. Evans, Biometrika 59,
    1972, p. 539-549.
    """
    if mean <= 0.0:
        return math.inf
    steps = _lattice(k, h)
    down, top = round(k * steps), math.floor(h * steps + 1e-9)
    states = np.arange(top + 1)
    move = np.zeros((top + 1, top + 1))
    for count, chance in enumerate(_poisson_chances(mean, (top + down) // steps)):
        to = np.maximum(0, states + count * steps - down)
        stays = to <= top
        np.add.at(move, (states[stays], to[stays]), chance)
    return _run_length(move)


def _lattice(k: float, h: float) -> int:
    """Steps to a count: LATTICE to h, six at least, or up to twice as many if k is nearer to a step there."""
    fewest = max(6, round(LATTICE / max(h, 1.0)))
    return min(range(fewest, 2 * fewest + 1), key=lambda steps: abs(k - round(k * steps) / steps))


def _poisson_chances(mean: float, most: int) -> list[float]:
    """Chances of 0 to `most` counts."""
    return [math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(most + 1)]


def _nodes(low: float, high: float, sigmas: float) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights on (low, high), more of them where it is many sigmas wide."""
    nodes, weights = np.polynomial.legendre.leggauss(max(NODES, math.ceil(NODES_PER_SIGMA * sigmas)))
    half = (high - low) / 2.0
    return low + half * (nodes + 1.0), half * weights


def _cdf(x: Floats) -> Floats:
    return np.array([0.5 * math.erfc(-v / math.sqrt(2.0)) for v in x.tolist()])


def _density(x: Floats) -> Floats:
    density: Floats = np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return density


def _reaching(arl: float, arl_at: Callable[[float], float], high: float) -> float:
    """Where the rising function `arl_at` reaches `arl`, by bisection up from 0."""
    low = 0.0
    while arl_at(high) < arl:
        low, high = high, 1.5 * high
    while high - low > 1e-7:
        middle = 0.5 * (low + high)
        if arl_at(middle) < arl:
            low = middle
        else:
            high = middle
    return high
