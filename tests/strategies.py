"""Values for the property tests, shaped so that the interesting cases are common."""

import math

from hypothesis import strategies as st

levels = st.sampled_from([-4.0, -3.0, -2.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.5, 3.0, 4.0])
runs = st.lists(st.tuples(levels, st.integers(1, 12)), max_size=10).map(
    lambda r: [z for z, n in r for _ in range(n)]
)
trends = st.lists(st.tuples(levels, st.sampled_from([-0.25, 0.0, 0.25]), st.integers(1, 9)), max_size=8).map(
    lambda parts: [z + step * i for z, step, n in parts for i in range(n)]
)
zigzags = st.lists(st.tuples(levels, levels, st.integers(1, 18)), max_size=5).map(
    lambda parts: [v for a, b, n in parts for i in range(n) for v in [a if i % 2 else b]]
)
scores = st.one_of(runs, trends, zigzags, st.lists(levels, max_size=60))
"""Standardised values: runs on one side, trends, ties, points on the lines themselves."""

on_a_line = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0])
beside_a_line = st.builds(math.nextafter, on_a_line, st.sampled_from([-math.inf, math.inf]))
near_a_line = st.one_of(on_a_line, beside_a_line, beside_a_line)
sides = st.sampled_from([-1.0, 1.0])


def _stretch(points: st.SearchStrategy[float], longest: int) -> st.SearchStrategy[list[float]]:
    return st.lists(points, min_size=1, max_size=longest)


def _one_side(side: float) -> st.SearchStrategy[list[float]]:
    """A run above or below some number of sigmas: R2, R5, R6, and R8 where two meet."""
    return st.sampled_from([0.0, 1.0, 2.0]).flatmap(
        lambda low: _stretch(st.sampled_from([low + 0.25, low + 0.5, math.nextafter(low, 9.0)]), 11).map(
            lambda zs: [side * z for z in zs]
        )
    )


def _alternating(start: float, steps: list[float]) -> list[float]:
    """Up and down in turn, a step of 0 being a tie: R4."""
    zs = [start]
    for i, step in enumerate(steps):
        zs.append(zs[-1] + step * (-1.0) ** i)
    return zs


_steps = st.lists(st.sampled_from([0.5, 0.75, 1.0]), min_size=11, max_size=18)
_alternations = st.builds(
    lambda start, steps, tie: _alternating(start, [0.0 if i == tie else s for i, s in enumerate(steps)]),
    st.sampled_from([-1.0, 0.0, 0.5]),
    _steps,
    st.sampled_from([-1, -1, 2, 8]),  # where two neighbours are equal; -1 for nowhere
)
_hugging = _stretch(st.sampled_from([0.0, 0.5, -0.5, 1.0, -1.0, 0.25]), 22)
_avoiding = _stretch(st.sampled_from([1.25, -1.25, 1.5, -2.5, 2.5, math.nextafter(1.0, 2.0)]), 12)
_slopes = st.builds(
    lambda start, step, n: [start + step * i for i in range(n)],
    st.sampled_from([-1.0, 0.0, 1.0]),
    st.sampled_from([-0.25, 0.0, 0.25]),
    st.integers(1, 9),
)
_stretches = st.one_of(
    sides.flatmap(_one_side),
    _alternations,
    _hugging,
    _avoiding,
    _slopes,
    _stretch(near_a_line, 6),
    _stretch(st.floats(-4.0, 4.0), 6),
)
nelson_zs = st.lists(_stretches, max_size=6).map(lambda parts: [z for part in parts for z in part])
"""Standardised values for all eight rules: stretches that follow, or nearly follow, one of them, put end to end."""

latencies = st.lists(
    st.one_of(
        st.floats(80.0, 120.0),
        st.floats(80.0, 120.0),
        st.sampled_from([100.0, 160.0, 40.0, 1000.0]),
        st.none(),
    ),
    min_size=30,
    max_size=260,
)
"""Milliseconds of probes: mostly usual, some out of control, some failed."""
