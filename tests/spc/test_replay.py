"""One by one, many at once, or with restarts between: the charts find the same."""

import dataclasses
import math
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.spc.series import Made, found, made, stream

from llmscope.spc.chart import ControlChart, ManyVerdicts
from llmscope.spc.state import ChartState, resume, state_of

SEEDED = settings(deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
"""No shrinking: a smaller seed makes no simpler series, and each try takes a second."""


def close(a: Any, b: Any) -> bool:
    """Equal, numbers but for rounding, which the small difference of two levels can enlarge a hundred times."""
    if dataclasses.is_dataclass(a):
        return all(close(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-6)
    return bool(a == b)


@settings(SEEDED, max_examples=8)
@given(made(), st.lists(st.integers(1, 2_599), max_size=3))
def test_many_at_once_find_what_one_by_one_finds(data: Made, cuts: list[int]) -> None:
    chart = data.chart()
    one_by_one = found(stream(chart, data))
    many_chart = data.chart()
    many = ManyVerdicts()
    edges = [0, *sorted(set(cuts)), len(data.values)]
    for start, stop in pairwise(edges):
        part = slice(start, stop)
        told = many_chart.update_many(data.values[part], data.ids[part], data.times_us[part], data.cold[part])
        many.events += told.events
        many.alarms += told.alarms
    at_once = found(many)

    assert at_once.episodes.keys() == one_by_one.episodes.keys()
    assert at_once.alarms.keys() == one_by_one.alarms.keys()
    for key, episode in one_by_one.episodes.items():
        assert close(at_once.episodes[key], episode), key
    for alarm_key, alarm in one_by_one.alarms.items():
        assert close(at_once.alarms[alarm_key], alarm), alarm_key
    assert chart.state == many_chart.state


@settings(SEEDED, max_examples=10)
@given(made(), st.lists(st.integers(1, 2_599), min_size=1, max_size=4))
def test_a_restart_anywhere_is_as_if_it_had_never_stopped(data: Made, cuts: list[int]) -> None:
    straight = stream(data.chart(), data)
    chart = data.chart()
    verdicts = []
    edges = [0, *sorted(set(cuts)), len(data.values)]
    for start, stop in pairwise(edges):
        verdicts += stream(chart, data, start, stop)
        stored = msgspec.json.encode(state_of(chart))
        before, chart = chart, data.chart()
        resume(chart, msgspec.json.decode(stored, type=ChartState), _stored(before))

    assert verdicts == straight


def _stored(chart: ControlChart) -> Any:
    """The baseline as a store gives it back."""
    if chart.baseline is None:
        return None
    return msgspec.json.decode(msgspec.json.encode(chart.baseline), type=type(chart.baseline))


@settings(SEEDED, max_examples=5)
@given(made(), st.sampled_from([2.0**-6, 2.0, 2.0**9]))
def test_scaling_all_values_changes_nothing_found(data: Made, factor: float) -> None:
    as_it_is = found(stream(data.chart(), data))
    scaled = found(stream(data.chart(factor), data, factor=factor))

    assert scaled.episodes.keys() == as_it_is.episodes.keys()
    assert scaled.alarms.keys() == as_it_is.alarms.keys()
    for key, alarm in as_it_is.alarms.items():
        assert math.isclose(scaled.alarms[key].size_percent, alarm.size_percent, rel_tol=1e-6, abs_tol=1e-6)


@settings(SEEDED, max_examples=8)
@given(made())
def test_an_episode_keeps_its_invariants(data: Made) -> None:
    for verdict in stream(data.chart(), data):
        for event in verdict.events:
            e = event.episode
            assert e.pattern_start_id <= e.first_signal_id <= e.last_signal_id
            assert e.first_signal_id <= e.peak_id <= e.last_signal_id
            assert 1 <= e.count
            assert e.lcl < e.centre < e.ucl
            assert event.kind != "closed" or not e.open
        for alarm_event in verdict.alarms:
            alarm = alarm_event.alarm
            assert alarm.change_us <= alarm.opened_us
            assert alarm.closed_us is None or alarm.closed_us >= alarm.opened_us
            assert alarm.size_low <= alarm.size_percent <= alarm.size_high
