"""Values for the property tests, shaped so that the interesting cases are common."""

from hypothesis import strategies as st

levels = st.sampled_from([-4.0, -3.0, -2.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.5, 3.0, 4.0])
runs = st.lists(st.tuples(levels, st.integers(1, 12)), max_size=10).map(
    lambda r: [z for z, n in r for _ in range(n)]
)
trends = st.lists(st.tuples(levels, st.sampled_from([-0.25, 0.0, 0.25]), st.integers(1, 9)), max_size=8).map(
    lambda parts: [z + step * i for z, step, n in parts for i in range(n)]
)
scores = st.one_of(runs, trends, st.lists(levels, max_size=60))
"""Standardised values: runs on one side, trends, ties, points on the lines themselves."""

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
