"""Exact average run lengths against the published ones, against each other and against simulation."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from llmscope.spc import arl
from llmscope.spc.arl import (
    cusum_arl,
    cusum_h,
    cusum_siegmund_arl,
    ewma_arl,
    ewma_width,
    poisson_cusum_arl,
    rules_arl,
)

WESTERN_ELECTRIC = ["R1", "R2", "R5", "R6"]
ALL = ["R1", "R2", "R5", "R6", "R7", "R8"]

Bools = npt.NDArray[np.bool_]


@pytest.mark.parametrize(
    ("rules", "shift", "run_length", "points", "within"),
    [
        (["R1"], 0.0, 9, 370.40, 0.005),
        (["R2"], 0.0, 9, 511.0, 1e-6),  # 2^9 - 1
        (["R2"], 0.0, 8, 255.0, 1e-6),
        (["R2"], 0.0, 7, 127.0, 1e-6),
        (["R5"], 0.0, 9, 510.7, 0.05),
        (["R6"], 0.0, 9, 291.3, 0.05),
        (["R7"], 0.0, 9, 963.3, 0.05),
        (["R8"], 0.0, 9, 14_342.0, 0.5),
        (["R1", "R2"], 0.0, 9, 216.70, 0.005),
        (WESTERN_ELECTRIC, 0.0, 8, 91.75, 0.005),
        (WESTERN_ELECTRIC, 0.0, 9, 109.05, 0.005),
        (ALL, 0.0, 9, 98.18, 0.005),
        (["R1"], 1.0, 9, 43.89, 0.006),  # 43.895
        (WESTERN_ELECTRIC, 1.0, 8, 9.22, 0.005),
    ],
)
def test_the_rules_have_the_run_lengths_of_champ_and_woodall(
    rules: list[str], shift: float, run_length: int, points: float, within: float
) -> None:
    assert rules_arl(rules, shift, run_length) == pytest.approx(points, abs=within)


@pytest.mark.parametrize("shift", [0.3, 1.0, 2.5])
def test_a_shift_down_is_found_as_fast_as_a_shift_up(shift: float) -> None:
    assert rules_arl(ALL, -shift) == pytest.approx(rules_arl(ALL, shift), rel=1e-9)


def test_the_order_of_the_rules_and_a_rule_named_twice_change_nothing() -> None:
    assert rules_arl([*reversed(ALL), "R1"]) == pytest.approx(rules_arl(ALL), rel=1e-9)


@pytest.mark.parametrize("rule", ALL)
def test_merging_states_changes_no_run_length(rule: str) -> None:
    """Pairs with R2, whose states it multiplies: the chain before merging, solved by going through it."""
    after = arl._reachable([arl._steps(9)[name] for name in ("R2", rule)])
    chances = np.array(arl._zone_chances(0.4))
    mean, alive = 0.0, np.eye(1, len(after))[0]
    while alive.sum() > 1e-13:
        mean += alive.sum()
        going = np.bincount(1 + after.ravel(), np.outer(alive, chances).ravel(), len(after) + 1)
        alive = going[1:]

    assert rules_arl(["R2", rule], 0.4) == pytest.approx(mean, rel=1e-8)


@pytest.mark.parametrize("rules", [[], ["R3"], ["R1", "R4"], ["R9"]])
def test_rules_without_a_chain_of_zones_are_refused(rules: list[str]) -> None:
    with pytest.raises(ValueError, match="no Markov chain"):
        rules_arl(rules)


def test_what_practically_never_signals_runs_for_ever() -> None:
    """Fifteen in a row within one sigma, eight sigma away: the chance is below 1e-170."""
    assert rules_arl(["R7"], 8.0) == math.inf


def last(hits: Bools, of: int) -> npt.NDArray[np.int64]:
    """How many of the last `of` points were hits, at every point; shape (series, points)."""
    total = np.cumsum(hits, axis=1, dtype=np.int64)
    total[:, of:] -= total[:, :-of].copy()
    return total


def both(up: Bools, down: Bools, needed: int, of: int) -> Bools:
    """Signals where this point is a hit and `needed` of the last `of` are, on one side or the other."""
    return (up & (last(up, of) >= needed)) | (down & (last(down, of) >= needed))


def first_signals(zs: npt.NDArray[np.float64], rules: list[str]) -> npt.NDArray[np.int64]:
    """The point, counted from 1, at which each series first breaks one of the rules: by their windows."""
    beyond = np.abs(zs) > 1.0
    above, below = (zs > 1.0), (zs < -1.0)
    eight = (last(beyond, 8) == 8) & (last(above, 8) > 0) & (last(below, 8) > 0)
    signals = {
        "R1": np.abs(zs) > 3.0,
        "R2": both(zs > 0.0, zs < 0.0, 9, 9),
        "R5": both(zs > 2.0, zs < -2.0, 2, 3),
        "R6": both(above, below, 4, 5),
        "R7": last(~beyond, 15) == 15,
        "R8": eight,
    }
    broken = np.logical_or.reduce([signals[rule] for rule in rules])
    assert broken.any(axis=1).all()
    first: npt.NDArray[np.int64] = broken.argmax(axis=1) + 1
    return first


@pytest.mark.parametrize(
    ("rules", "shift", "longest"),
    [
        (["R5"], 1.0, 400),
        (["R6"], 0.7, 400),
        (["R8", "R1"], 1.5, 200),
        (ALL, 0.0, 2000),
        (ALL, 0.5, 800),
    ],
)
def test_simulated_rules_run_as_long(rules: list[str], shift: float, longest: int) -> None:
    rng = np.random.default_rng(20260101)
    runs = first_signals(rng.normal(shift, 1.0, (4000, longest)), rules)

    standard_error = runs.std() / math.sqrt(len(runs))
    assert abs(runs.mean() - rules_arl(rules, shift)) < 4.0 * standard_error


@pytest.mark.parametrize(
    ("h", "points"),
    [(4.0, 167.7), (5.0, 465.4)],
)
def test_the_two_sided_cusum_has_the_published_run_length(h: float, points: float) -> None:
    """Montgomery, Introduction to Statistical Quality Control, table of k = .5: 168 and 465."""
    assert cusum_arl(0.5, h, two_sided=True) == pytest.approx(points, abs=0.05)


@pytest.mark.parametrize(("points", "h"), [(370.0, 4.77), (2_880.0, 6.81), (20_160.0, 8.75)])
def test_the_two_sided_cusum_has_the_published_line(points: float, h: float) -> None:
    assert cusum_h(0.5, points, two_sided=True) == pytest.approx(h, abs=0.005)


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("k", [0.25, 0.5, 1.5])
@pytest.mark.parametrize("points", [50.0, 2_880.0, 1e6])
def test_the_line_gives_the_run_length_it_was_asked_for(k: float, points: float, two_sided: bool) -> None:
    h = cusum_h(k, points, two_sided)

    assert cusum_arl(k, h - 1e-6, 0.0, two_sided) < points < cusum_arl(k, h + 1e-6, 0.0, two_sided)


def test_no_line_is_low_enough_for_a_run_length_below_that_of_a_line_at_zero() -> None:
    assert cusum_h(0.5, 2.0) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("k", "h", "shift"), [(0.5, 5.0, 0.0), (0.5, 10.0, 1.0), (1.5, 3.0, 0.0), (0.25, 20.0, 0.0)]
)
def test_more_nodes_give_the_same_cusum(
    k: float, h: float, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = cusum_arl.__wrapped__(k, h, shift)
    monkeypatch.setattr(arl, "NODES", 200)

    assert few == pytest.approx(cusum_arl.__wrapped__(k, h, shift), rel=2e-8)


def test_a_cusum_with_the_line_at_zero_signals_as_often_as_a_point_exceeds_k() -> None:
    assert cusum_arl(1.0, 1e-9) == pytest.approx(2.0 / math.erfc(1.0 / math.sqrt(2.0)), rel=1e-6)


@pytest.mark.parametrize(("k", "h", "shift"), [(0.5, 3.0, 0.0), (0.5, 4.0, 1.0), (1.5, 1.4, 0.3)])
def test_a_simulated_cusum_runs_as_long(k: float, h: float, shift: float) -> None:
    rng = np.random.default_rng(20260102)
    upper, lower, runs = np.zeros(20_000), np.zeros(20_000), list[npt.NDArray[np.int64]]()
    n = 0
    while len(upper):
        n += 1
        x = rng.normal(shift, 1.0, len(upper))
        upper, lower = np.maximum(0.0, upper + x - k), np.maximum(0.0, lower - x - k)
        out = (upper > h) | (lower > h)
        runs.append(np.full(int(out.sum()), n))
        upper, lower = upper[~out], lower[~out]
    lengths = np.concatenate(runs)

    standard_error = lengths.std() / math.sqrt(len(lengths))
    assert abs(lengths.mean() - cusum_arl(k, h, shift, two_sided=True)) < 4.0 * standard_error


@pytest.mark.parametrize("h", [3.0, 4.0, 5.0, 7.0, 9.0])
def test_siegmund_comes_within_one_per_cent_in_control(h: float) -> None:
    assert cusum_siegmund_arl(0.5, h) == pytest.approx(cusum_arl(0.5, h), rel=0.01)


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_siegmund_comes_within_four_per_cent_of_the_delay(shift: float) -> None:
    """At shift = k the formula is 0 / 0: its limit is b^2."""
    assert cusum_siegmund_arl(0.5, 5.0, shift) == pytest.approx(cusum_arl(0.5, 5.0, shift), rel=0.04)


@pytest.mark.parametrize(("lam", "width"), [(0.2, 2.962), (0.1, 2.814)])
def test_the_ewma_of_run_length_500_has_the_published_width(lam: float, width: float) -> None:
    """Lucas and Saccucci, Technometrics 32, 1990, table 3."""
    assert ewma_width(lam, 500.0) == pytest.approx(width, abs=0.0005)
    assert ewma_arl(lam, width) == pytest.approx(500.0, rel=0.001)


@pytest.mark.parametrize("shift", [0.0, 1.0, -2.0])
def test_an_ewma_without_memory_is_rule_1(shift: float) -> None:
    assert ewma_arl(1.0, 3.0, shift) == pytest.approx(rules_arl(["R1"], shift), rel=1e-8)


def test_a_simulated_ewma_runs_as_long() -> None:
    rng = np.random.default_rng(20260103)
    lam, width, shift = 0.2, 2.0, 0.3
    level, n, lengths = np.zeros(20_000), 0, list[int]()
    while len(level):
        n += 1
        level = (1.0 - lam) * level + lam * rng.normal(shift, 1.0, len(level))
        out = np.abs(level) > width * math.sqrt(lam / (2.0 - lam))
        lengths += [n] * int(out.sum())
        level = level[~out]

    standard_error = np.std(lengths) / math.sqrt(len(lengths))
    assert abs(np.mean(lengths) - ewma_arl(lam, width, shift)) < 4.0 * standard_error


def test_a_count_cusum_of_whole_numbers_is_a_chain_of_a_few_states() -> None:
    """k = 1, h = 2, so C is 0, 1 or 2; with a = P(0), b = P(1), c = P(2), d = P(3):

    the chart stays in 0 with a + b, and moves 0 -> 1 with c, 0 -> 2 with d, and so on.
    """
    a, b, c, d = (math.exp(-0.5) * 0.5**n / math.factorial(n) for n in range(4))
    move = np.array([[a + b, c, d], [a, b, c], [0.0, a, b]])

    expected = np.linalg.solve(np.eye(3) - move, np.ones(3))[0]
    assert poisson_cusum_arl(0.5, 1.0, 2.0) == pytest.approx(expected, rel=1e-9)
    assert poisson_cusum_arl(0.5, 1.0, 2.9) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("mean", "k", "h"), [(0.3, 0.65, 2.3), (0.15, 0.325, 1.7), (6.0, 8.3, 5.1), (0.4, 1.0, 0.0)]
)
def test_a_simulated_count_cusum_runs_as_long(mean: float, k: float, h: float) -> None:
    rng = np.random.default_rng(20260104)
    level, n, lengths = np.zeros(10_000), 0, list[int]()
    while len(level):
        n += 1
        level = np.maximum(0.0, level + rng.poisson(mean, len(level)) - k)
        out = level > h + 1e-9
        lengths += [n] * int(out.sum())
        level = level[~out]

    standard_error = np.std(lengths) / math.sqrt(len(lengths))
    assert abs(np.mean(lengths) - poisson_cusum_arl(mean, k, h)) < 4.0 * standard_error


def test_counts_that_never_come_never_signal() -> None:
    assert poisson_cusum_arl(0.0, 1.0, 3.0) == math.inf
