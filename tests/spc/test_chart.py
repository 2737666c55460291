"""The chart: learning, limits, episodes. Streaming against definition, whatever the values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import oracle
from tests.strategies import latencies, scores

from llmscope.spc.baseline import Baseline, fit
from llmscope.spc.chart import ControlChart, Plan
from llmscope.spc.episodes import Episode
from llmscope.spc.reference import interval_of, learn

STEP_US = 2_000_000
KNOWN = Baseline(0.0, 1.0, "linear", 150, STEP_US, "locked")


def known(rules: str = "original") -> ControlChart:
    return ControlChart("linear", Plan(point_rules=rules), baseline=KNOWN)


def judged(chart: ControlChart, values: list[float | None]) -> list[Episode]:
    """The final state of every episode, in order of opening."""
    found: dict[tuple[str, str, int], Episode] = {}
    for i, value in enumerate(values):
        for event in chart.update(value, i, i * STEP_US).events:
            episode = event.episode
            found[episode.rule, episode.side, episode.first_signal_id] = episode
    return list(found.values())


@given(scores)
def test_episodes_are_the_merged_signals_of_the_definition(zs: list[float]) -> None:
    found = judged(known("nelson"), list(zs))
    every: dict[tuple[str, str], list[int]] = {}
    for rule in oracle.DEFINITIONS:
        for i, side in enumerate(oracle.signals(rule, zs)):
            if side is not None:
                every.setdefault((rule, side), []).append(i)

    for (rule, side), indices in every.items():
        mine = [e for e in found if (e.rule, e.side) == (rule, side)]
        expected = oracle.episodes(indices)
        assert [(e.first_signal_id, e.last_signal_id, e.count) for e in mine] == [
            (run[0], run[-1], len(run)) for run in expected
        ]
        for episode, run in zip(mine, expected, strict=True):
            assert abs(episode.peak_z) == max(abs(zs[i]) for i in run)
            assert episode.open == (len(zs) - 1 - run[-1] <= 2)
    assert sum(e.count for e in found) == sum(len(i) for i in every.values())


@given(latencies, st.sampled_from([2.0**-4, 2.0, 2.0**10]))
def test_scaling_all_values_changes_no_violation_on_the_log_scale(
    values: list[float | None], factor: float
) -> None:
    as_it_is = judged(ControlChart("log"), values)
    scaled = judged(ControlChart("log"), [None if v is None else v * factor for v in values])

    def facts(episodes: list[Episode]) -> list[tuple[str, str, int, int]]:
        return [
            (e.rule, e.side, e.first_signal_id, e.count) for e in episodes if abs(abs(e.peak_z) - 3.0) > 1e-6
        ]

    assert facts(scaled) == facts(as_it_is)


@given(latencies)
def test_failures_change_neither_limits_nor_violations(values: list[float | None]) -> None:
    with_failures, without = ControlChart("log"), ControlChart("log")
    good = [(i, v) for i, v in enumerate(values) if v is not None]
    found = judged(with_failures, values)
    expected: dict[tuple[str, str, int], Episode] = {}
    for i, value in good:
        for event in without.update(value, i, i * STEP_US).events:
            e = event.episode
            expected[e.rule, e.side, e.first_signal_id] = e

    assert found == list(expected.values())
    assert with_failures.baseline == without.baseline


def test_the_first_limits_come_at_20_good_points_and_stay_provisional() -> None:
    rng = np.random.default_rng(1)
    chart = ControlChart("log")
    states = []
    for i, value in enumerate(np.exp(rng.normal(7.0, 0.1, 400)).tolist()):
        chart.update(value, i, i * STEP_US)
        states.append((chart.state, None if chart.baseline is None else chart.baseline.n))

    assert states[18] == ("learning", None)
    assert states[19] == ("provisional", 20)
    assert states[39] == ("provisional", 40)
    assert states[148] == ("provisional", 80)
    assert states[149] == ("provisional", 150)
    assert states[399] == ("provisional", 150)


def test_the_lower_limit_stays_above_zero_on_the_log_scale() -> None:
    limits = Baseline(math.log(5.0), 2.0, "log", 150, STEP_US, "locked").limits()

    assert 0.0 < limits.lcl < limits.centre < limits.ucl
    assert limits.centre == pytest.approx(5.0)


def test_a_cold_start_does_not_widen_the_limits() -> None:
    rng = np.random.default_rng(2)
    usual = rng.normal(7.0, 0.1, 20)
    times = np.arange(20) * STEP_US
    cold = usual.copy()
    cold[0] += math.log(20.0)
    clean, spoilt = fit(usual[1:], times[1:], "log", "provisional"), fit(cold, times, "log", "provisional")

    assert clean is not None
    assert spoilt is not None
    assert spoilt.centre == pytest.approx(clean.centre)
    assert spoilt.sigma == pytest.approx(clean.sigma)


def test_equal_readings_still_give_limits() -> None:
    baseline = fit(np.full(20, 7.0), np.arange(20) * STEP_US, "log", "provisional")

    assert baseline is not None
    assert baseline.sigma > 0.0


def test_a_silence_of_more_than_three_intervals_restarts_the_rules() -> None:
    chart = known()
    times = [i * STEP_US for i in range(8)] + [(8 + 4) * STEP_US + i * STEP_US for i in range(8)]
    events = [e for i, t in enumerate(times) for e in chart.update(1.0, i, t).events]

    assert events == []


def test_what_was_known_at_detection_is_frozen_into_the_violation() -> None:
    chart = known()
    for i in range(70):
        chart.update(0.5 if i % 2 else -0.5, i, i * STEP_US)
    (event,) = chart.update(4.0, 70, 70 * STEP_US).events
    (grown,) = chart.update(5.0, 71, 71 * STEP_US).events

    assert event.episode.mean == pytest.approx(0.0)
    assert (event.episode.ucl, event.episode.lcl, event.episode.n) == (3.0, -3.0, 150)
    assert (grown.episode.first_signal_id, grown.episode.last_signal_id) == (70, 71)
    assert (grown.episode.mean, grown.episode.value) == (event.episode.mean, 4.0)
    assert (grown.episode.peak_z, grown.episode.peak_id) == (5.0, 71)


def test_a_pattern_starts_at_its_first_point() -> None:
    chart = known()
    chart.update(-1.0, 100, 0)
    events = [e for i in range(9) for e in chart.update(1.0, 101 + i, (i + 1) * STEP_US).events]

    assert [(e.episode.rule, e.episode.pattern_start_id, e.episode.first_signal_id) for e in events] == [
        ("R2", 101, 109)
    ]


def test_readings_that_never_vary_are_no_alarm() -> None:
    n = 2600
    values = np.full(n, 0.5)
    chart = ControlChart("log", Plan(), lambda row: (values[: row + 1], np.arange(row + 1) * STEP_US))
    skipped = {i for i in range(2000, 2300)} - {i for i in range(2000, 2300, 7)}
    told = [chart.update(None if i in skipped else 0.5, i, i * STEP_US) for i in range(n)]

    assert chart.buckets is not None
    assert [event for verdict in told for event in verdict.alarms] == []


def test_a_change_that_makes_observations_rare_is_not_a_gap() -> None:
    rng = np.random.default_rng(5)
    values = np.exp(rng.normal(7.0, 0.1, 1500))  # about 1.1 s, every 2 s
    times = np.arange(1500) * STEP_US
    slow = np.exp(rng.normal(9.0, 0.1, 60))  # about 8 s: one observation every 8 s
    chart = ControlChart("log", Plan(), lambda row: (values[: row + 1], times[: row + 1]))
    for i in range(1500):
        chart.update(float(values[i]), i, int(times[i]))
    told = [
        event
        for i in range(60)
        for event in chart.update(float(slow[i]), 1500 + i, int(times[-1]) + (i + 1) * 8_000_000).alarms
    ]

    opened = [event.alarm for event in told if event.kind == "opened"]
    assert [(a.detector, a.direction) for a in opened if a.detector == "SHIFT"] == [("SHIFT", "up")]
    assert opened[0].opened_us - int(times[-1]) < 120_000_000


def test_a_stretch_that_came_out_of_order_can_be_learnt_from() -> None:
    rng = np.random.default_rng(3)
    times_us = 2_000_000 * np.arange(2_000, dtype=np.int64)
    late = np.concatenate([times_us[1_000:], times_us[:1_000]])  # an hour that was delivered after the next
    values = np.log(50.0) + 0.1 * rng.standard_normal(2_000)

    assert interval_of(late) == interval_of(times_us) == (2_000_000, False)
    assert learn(values, late) is not None
