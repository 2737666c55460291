"""The charts of a series: a restart ends where never stopping ends; cold starts and failures stand apart."""

import dataclasses
import math
from itertools import pairwise

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import latencies

from llmscope.engine import ColdStarts, Engine, Floats, Integers, Judged, Row, Rows, SeriesState
from llmscope.observation import METRICS, Measured
from llmscope.spc.alarms import AlarmEvent
from llmscope.spc.baseline import Baseline

STEP_US = 2_000_000


def rows_of(values: list[float | None], load_ms: float | None = None) -> list[Row]:
    return [
        Row(
            i + 1,
            i * STEP_US,
            v is not None,
            Measured(latency_ms=v, ttft_ms=None if v is None else v / 10, load_ms=load_ms),
        )
        for i, v in enumerate(values)
    ]


def observe(engine: Engine, rows: list[Row]) -> list[Judged]:
    return [engine.observe(1, row) for row in rows]


@settings(deadline=None)
@given(latencies, st.data())
def test_a_restart_anywhere_ends_where_never_stopping_ends(
    values: list[float | None], data: st.DataObject
) -> None:
    rows = rows_of(values)
    straight = observe(Engine(("latency", "ttft")), rows)
    saved_at = data.draw(st.integers(1, len(rows)), label="saved up to")

    stopped = Engine(("latency", "ttft"))
    judged = observe(stopped, rows[:saved_at])
    stored = msgspec.json.encode(stopped.state(1, saved_at))
    baselines: dict[str, Baseline] = {metric: b for one in judged for metric, b in one.baselines}
    again = Engine(("latency", "ttft"))
    missing = again.resume(1, msgspec.json.decode(stored, type=SeriesState), baselines)

    assert missing == []
    assert judged + observe(again, rows[saved_at:]) == straight


def test_a_metric_that_is_watched_anew_is_named_at_a_restart() -> None:
    engine = Engine(("latency",))
    observe(engine, rows_of([100.0, 101.0]))
    state = engine.state(1, 2)
    assert state is not None

    assert Engine(("latency", "ttft")).resume(1, state, {}) == ["ttft"]


def test_a_long_load_is_a_cold_start_and_the_usual_load_is_not() -> None:
    loads = ColdStarts()
    reported = [2000.0, *[150.0] * 20, 160.0, 3000.0, 150.0, None]
    cold = [loads.is_cold(ms, i, i * STEP_US) for i, ms in enumerate(reported)]

    assert [i for i, is_cold in enumerate(cold) if is_cold] == [0, 22]
    assert loads.ids == [0, 22]


def test_a_series_that_is_always_silent_between_is_not_cold_each_time() -> None:
    loads = ColdStarts()

    assert not any([loads.is_cold(None, i, i * 600_000_000) for i in range(20)])


def test_where_no_load_is_reported_the_first_after_five_idle_minutes_is_cold() -> None:
    minutes = [0, 1, 7, 8, 9, 15, 16]
    failed = {15}  # asked for, if in vain: not idle
    loads = ColdStarts()

    assert [m for m in minutes if loads.is_cold(None, m, m * 60_000_000, m not in failed)] == [7]


def test_a_cold_start_is_marked_and_not_learnt_from() -> None:
    rng = np.random.default_rng(3)
    values = np.exp(rng.normal(4.6, 0.05, 60)).tolist()
    engine = Engine(("latency", "load"))
    observe(engine, rows_of(values, load_ms=20.0))
    judged = engine.observe(1, Row(61, 60 * STEP_US, True, Measured(latency_ms=5000.0, load_ms=4800.0)))

    chart, load = engine.chart(1, "latency"), engine.chart(1, "load")
    assert chart is not None
    assert load is not None
    assert judged.cold
    assert judged.verdicts["latency"].rules == (("R1", "above"),)
    assert (chart.learned_n, load.learned_n) == (60, 61)
    assert engine.cold_ids(1) == [61]


def test_an_outage_is_an_alarm_within_seconds_and_ends() -> None:
    engine = Engine(("latency",))
    good, bad = [100.0 + i % 7 for i in range(400)], [None] * 20
    judged = observe(engine, rows_of([*good, *bad, *good]))
    told = [(i, metric, event) for i, one in enumerate(judged) for metric, event in one.alarms]
    opened = [(i, e.alarm) for i, metric, e in told if metric == "failures" and e.kind == "opened"]
    closed = [(i, e.alarm) for i, metric, e in told if metric == "failures" and e.kind == "closed"]

    assert [i - 400 for i, _ in opened] == [4]  # the fifth failure in a row
    assert opened[0][1].change_us == 400 * STEP_US
    assert [i - 420 for i, _ in closed] == [29]
    assert closed[0][1].state == "recovered"


def test_rare_single_failures_are_no_alarm() -> None:
    engine = Engine(("latency",))
    values: list[float | None] = [100.0 + i % 7 for i in range(6000)]
    for i in range(300, 6000, 700):
        values[i] = None

    assert [event for one in observe(engine, rows_of(values)) for event in one.alarms] == []


def test_every_metric_can_be_watched() -> None:
    engine = Engine(tuple(METRICS))
    measured = Measured(900.0, 200.0, 850.0, 20.0, 150.0, 600.0, 30, 60)
    for i in range(30):
        engine.observe(1, Row(i + 1, i * STEP_US, True, measured))

    for metric in METRICS:
        chart = engine.chart(1, metric)
        assert chart is not None
        assert chart.learned_n == 30
        assert chart.state == "provisional"


def test_a_metric_that_was_not_measured_is_not_judged() -> None:
    engine = Engine()
    judged = engine.observe(1, Row(1, 0, True, Measured(latency_ms=100.0)))

    assert judged.verdicts["ttft"].z is None
    chart = engine.chart(1, "ttft")
    assert chart is not None
    assert chart.learned_n == 0
    assert engine.chart(1, "queue") is None
    assert engine.chart(2, "latency") is None


def measured(ms_per_token: float, queue_ms: float = 0.0) -> Measured:
    evaluated = 60 * ms_per_token
    return Measured(
        evaluated + 180 + queue_ms, 200.0, evaluated + 170 + queue_ms, 20.0, 150.0, evaluated, 30, 60
    )


def test_only_alarmed_metrics_have_detectors_and_the_others_have_limits_and_marks() -> None:
    rng = np.random.default_rng(5)
    levels = np.where(np.arange(2_500) < 2_000, 10.0, 20.0) * np.exp(rng.normal(0.0, 0.05, 2_500))
    rows = [Row(i + 1, i * STEP_US, True, measured(ms)) for i, ms in enumerate(levels.tolist())]

    def history(_series_id: int, metric: str, row_id: int) -> tuple[Floats, Integers]:
        values = [METRICS[metric].read(row.measured) or 0.0 for row in rows[:row_id]]
        return np.array(values), np.arange(row_id) * STEP_US

    engine = Engine(("ttft",), None, history, charted=tuple(METRICS))
    judged = observe(engine, rows)

    assert [metric for one in judged for metric, _ in one.alarms] == []
    assert {"latency", "ms_per_token", "tokens_per_second"} <= {m for one in judged for m, _ in one.events}
    for metric in METRICS:
        chart = engine.chart(1, metric)
        assert chart is not None
        assert chart.state == "provisional"
        assert chart.buckets is not None
        assert (chart.plan.budget.alarms_per_day is None) == (metric != "ttft")
        assert (chart.buckets.lines.slow is None) == (metric != "ttft")


def test_a_metric_that_is_never_told_has_no_chart_unless_it_is_alarmed() -> None:
    engine = Engine(("latency", "ttft"), charted=tuple(METRICS))
    rows = rows_of([100.0 + i % 7 for i in range(30)], load_ms=20.0)
    judged = observe(
        engine, [dataclasses.replace(row, measured=Measured(100.0, load_ms=20.0)) for row in rows]
    )

    assert engine.metrics_of(1) == ["latency", "ttft", "load"]
    assert engine.metrics_of(2) == ["latency", "ttft"]
    assert engine.chart(1, "queue") is None
    assert set(judged[-1].verdicts) == {"latency", "ttft", "load"}


def test_a_queue_that_is_always_empty_does_not_make_the_first_tenth_of_a_millisecond_a_mark() -> None:
    engine = Engine(("latency",), charted=("queue",))
    queues = [0.0] * 500 + [0.2, 5.0]
    judged = [
        engine.observe(1, Row(i + 1, i * STEP_US, True, measured(10.0, ms))) for i, ms in enumerate(queues)
    ]

    assert [i for i, one in enumerate(judged) if one.verdicts["queue"].rules] == [501]


@settings(deadline=None, max_examples=20)
@given(latencies, st.data())
def test_a_state_stored_before_a_metric_was_charted_goes_on(
    values: list[float | None], data: st.DataObject
) -> None:
    rows = rows_of(values, load_ms=20.0)
    saved_at = data.draw(st.integers(1, len(rows)), label="saved up to")
    before, straight = Engine(("latency",)), Engine(("latency",))
    stored = msgspec.json.encode((observe(before, rows[:saved_at]), before.state(1, saved_at))[1])
    baselines = {m: b for one in observe(straight, rows[:saved_at]) for m, b in one.baselines}
    again = Engine(("latency",), charted=("latency", "load"))

    assert again.resume(1, msgspec.json.decode(stored, type=SeriesState), baselines) == ["load"]
    for old, new in zip(observe(straight, rows[saved_at:]), observe(again, rows[saved_at:]), strict=True):
        assert new.verdicts["latency"] == old.verdicts["latency"]
        assert new.alarms == old.alarms


@settings(deadline=None, max_examples=30)
@given(latencies, st.lists(st.integers(1, 400), max_size=3))
def test_many_at_once_are_judged_as_one_by_one(values: list[float | None], cuts: list[int]) -> None:
    data = [value for value in values for _ in range(3)]  # runs of failures and of good ones
    single, many = Engine(("latency", "load")), Engine(("latency", "load"))
    rows = rows_of(data, load_ms=20.0)
    judged = observe(single, rows)
    told: list[tuple[str, AlarmEvent]] = []
    edges = [0, *sorted({cut for cut in cuts if cut < len(rows)}), len(rows)]
    for start, stop in pairwise(edges):
        part = rows[start:stop]
        ms = [math.nan if row.measured.latency_ms is None else row.measured.latency_ms for row in part]
        ok = np.array([row.ok for row in part])
        loads = np.where(ok, 20.0, math.nan)
        ids, times_us = np.array([row.id for row in part]), np.array([row.time_us for row in part])
        told += many.observe_many(
            1, Rows(ids, times_us, ok, loads, {"latency": np.array(ms), "load": loads})
        ).alarms

    assert [e for _, e in told if e.kind != "grown"] == [
        e for one in judged for _, e in one.alarms if e.kind != "grown"
    ]
    assert many.failures(1) == single.failures(1)
    assert many.chart(1, "latency").marks.judged == single.chart(1, "latency").marks.judged  # type: ignore[union-attr]


@given(
    st.lists(
        st.tuples(st.sampled_from([None, 20.0, 150.0, 3000.0]), st.sampled_from([2, 400]), st.booleans()),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 40),
)
def test_cold_starts_of_many_are_those_of_each(rows: list[tuple[float | None, int, bool]], cut: int) -> None:
    times_us = np.cumsum([step * 1_000_000 for _, step, _ in rows])
    loads = np.array([math.nan if load is None else load for load, _, _ in rows])
    ok, ids = np.array([is_ok for _, _, is_ok in rows]), np.arange(len(rows))
    single, many = ColdStarts(), ColdStarts()
    one_by_one = [single.is_cold(load, i, int(times_us[i]), is_ok) for i, (load, _, is_ok) in enumerate(rows)]
    parts = [slice(0, cut), slice(cut, None)]
    at_once = [
        is_cold
        for part in parts
        if len(ids[part])
        for is_cold in many.are_cold(loads[part], ids[part], times_us[part], ok[part]).tolist()
    ]

    assert at_once == one_by_one
    assert many == single
