"""Which part made a request slow: agrees with a plain reading of the rows, and says nothing where nothing is clear."""

import math
from collections.abc import Sequence
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from llmscope.cause import PARTS, cause_of, lasting_cause_of
from llmscope.observation import Observation
from llmscope.store.rows import to_row
from llmscope.store.window import Window

USUAL = {"network": 4.0, "load": 10.0, "queue": 5.0, "prompt": 100.0, "generation": 900.0}


def window_of(requests: Sequence[dict[str, float] | None]) -> Window:
    """A request every 2 s by the times of its parts; None one that failed."""
    window = Window()
    for i, parts in enumerate(requests):
        if parts is None:
            o = Observation(provider="p", model="m", ok=False, error_kind="timeout")
        else:
            total = sum(parts.values()) - parts["network"]
            o = Observation(
                provider="p",
                model="m",
                latency_ms=sum(parts.values()),
                total_duration_ms=total,
                load_duration_ms=parts["load"],
                prompt_eval_duration_ms=parts["prompt"],
                eval_duration_ms=parts["generation"],
            )
        window.extend([to_row(o, i + 1, 1, i * 2_000_000, None)])
    return window


times = st.sampled_from([0.0, 1.0, 10.0, 100.0, 500.0, 900.0, 3000.0])
requests = st.fixed_dictionaries({part: times for part in PARTS})


@given(st.lists(st.none() | requests, min_size=1, max_size=20), requests)
def test_the_cause_is_the_part_that_explains_half_of_the_excess(
    before: list[dict[str, float] | None], peak: dict[str, float]
) -> None:
    good = [r for r in before if r is not None]
    found = cause_of(window_of([*before, peak]), len(before) + 1, len(before) + 1)
    expected = None
    if good:
        usual = {part: median(r[part] for r in good) for part in PARTS}
        latency = median(sum(r.values()) for r in good)
        excess = sum(peak.values()) - latency
        longer = {part: peak[part] - usual[part] for part in PARTS}
        worst = max(PARTS, key=lambda part: longer[part])
        if excess >= 0.05 * latency and longer[worst] >= 0.5 * excess:
            expected = longer[worst]

    told = None if found is None else (found.us - found.usual_us) / 1000.0
    assert (told is None) == (expected is None)
    assert told is None or expected is None or math.isclose(told, expected, abs_tol=0.01)


def test_an_outage_before_the_pattern_leaves_the_usual_times_known() -> None:
    cold = USUAL | {"load": 3000.0}
    found = cause_of(window_of([USUAL] * 20 + [None] * 200 + [cold]), 221, 221)

    assert found is not None
    assert (found.part, found.us, found.usual_us) == ("load", 3_000_000, 10_000)


def test_of_a_half_minute_it_is_what_most_of_its_requests_wait_for() -> None:
    slow, once = USUAL | {"queue": 400.0}, USUAL | {"load": 9000.0}
    found = cause_of(window_of([USUAL] * 50 + [slow] * 14 + [once]), 51, 65, 30_000_000)

    assert found is not None
    assert (found.part, found.us) == ("queue", 400_000)


def test_what_the_window_no_longer_holds_has_no_cause() -> None:
    window = window_of([USUAL, USUAL | {"load": 3000.0}])

    assert cause_of(window, 2, 99) is None
    assert cause_of(window, 1, 2) is None  # nothing from before the pattern
    assert cause_of(Window(), 1, 1) is None


def test_parts_that_the_server_does_not_tell_explain_nothing() -> None:
    window = Window()
    for i, ms in enumerate([100.0] * 20 + [900.0]):
        o = Observation(provider="p", model="m", latency_ms=ms)
        window.extend([to_row(o, i + 1, 1, i, None)])

    assert cause_of(window, 21, 21) is None


@given(st.sampled_from(PARTS), st.sampled_from([0.5, 1.5, 3.0]), st.integers(1, 60))
def test_a_lasting_change_is_told_by_the_part_that_moved(part: str, factor: float, since: int) -> None:
    usual: dict[str, float] | None = {name: 100.0 for name in PARTS}
    changed: dict[str, float] | None = {name: 100.0 * (factor if name == part else 1.0) for name in PARTS}
    window = window_of([*[usual] * 30, None, *[changed] * since])
    change_us = 31 * 2_000_000
    found = lasting_cause_of(window, change_us, None)

    assert found is not None
    assert (found.part, found.us, found.usual_us) == (part, round(100_000 * factor), 100_000)
    assert lasting_cause_of(window, 0, None) is None  # nothing is held from before
    assert lasting_cause_of(window, change_us, change_us - 1) is None  # nothing came since


def test_a_change_that_every_part_shares_has_no_single_cause() -> None:
    usual: dict[str, float] | None = {name: 100.0 for name in PARTS}
    slower: dict[str, float] | None = {name: 150.0 for name in PARTS}
    window = window_of([usual] * 30 + [slower] * 30)

    assert lasting_cause_of(window, 30 * 2_000_000, None) is None
