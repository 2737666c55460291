"""Replay: a restart at any point, even one that lost the last saves, ends where never stopping ends."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import latencies

from llmscope.engine import Engine, Row, SavedBaseline, SavedSeries
from llmscope.observation import Measured
from llmscope.spc.episodes import Episode

STEP_US = 2_000_000
Key = tuple[str, str, str, int]


def rows_of(values: list[float | None]) -> list[Row]:
    return [
        Row(i + 1, i * STEP_US, v is not None, Measured(latency_ms=v, ttft_ms=None if v is None else v / 10))
        for i, v in enumerate(values)
    ]


class Memory:
    """What a store keeps of one series: episodes by their natural key, the limits in force."""

    def __init__(self) -> None:
        self.episodes: dict[Key, Episode] = {}
        self.baselines: dict[str, SavedBaseline] = {}

    def take(self, engine: Engine, row: Row) -> None:
        self.note(engine.observe(1, row), row)

    def note(self, judged: object, row: Row) -> None:
        for metric, event in judged.events:  # type: ignore[attr-defined]
            e = event.episode
            self.episodes[metric, e.rule, e.side, e.first_signal_id] = e
        for metric, baseline in judged.baselines:  # type: ignore[attr-defined]
            self.baselines[metric] = SavedBaseline(baseline, row.id)

    def saved(self, judged_id: int) -> SavedSeries:
        still_open: dict[str, list[Episode]] = {}
        for (metric, *_), episode in self.episodes.items():
            if episode.open:
                still_open.setdefault(metric, []).append(episode)
        return SavedSeries(judged_id, dict(self.baselines), still_open)


@settings(deadline=None)
@given(latencies, st.data())
def test_a_restart_anywhere_ends_where_never_stopping_ends(
    values: list[float | None], data: st.DataObject
) -> None:
    rows = rows_of(values)
    straight, engine = Memory(), Engine(("latency", "ttft"))
    for row in rows:
        straight.take(engine, row)
    saved_at = data.draw(st.integers(0, len(rows)), label="saved up to")

    before, stopped = Memory(), Engine(("latency", "ttft"))
    for row in rows[:saved_at]:
        before.take(stopped, row)
    again = Engine(("latency", "ttft"))
    for judged, row in zip(again.restore(1, before.saved(saved_at), rows), rows[saved_at:], strict=True):
        before.note(judged, row)

    assert before.episodes == straight.episodes
    assert before.baselines == straight.baselines


def test_a_frozen_chart_needs_only_the_last_rows() -> None:
    values: list[float | None] = [100.0 + (i * 37 % 11) for i in range(600)]
    for i in (250, 251, 380, 381, 382, 520, 599):
        values[i] = 200.0
    rows = rows_of(values)
    straight, engine = Memory(), Engine(("latency",))
    for row in rows:
        straight.take(engine, row)
    before, stopped = Memory(), Engine(("latency",))
    for row in rows[:382]:
        before.take(stopped, row)
    again = Engine(("latency",))
    late = again.restore(1, before.saved(382), rows[300:])
    for judged, row in zip(late, rows[382:], strict=True):
        before.note(judged, row)

    assert before.episodes == straight.episodes


def test_a_metric_that_was_not_measured_is_not_judged() -> None:
    engine = Engine()
    judged = engine.observe(1, Row(1, 0, True, Measured(latency_ms=100.0)))

    assert judged.verdicts["ttft"].z is None
    chart = engine.chart(1, "ttft")
    assert chart is not None
    assert chart.learned_n == 0
    assert engine.chart(1, "queue") is None
    assert engine.chart(2, "latency") is None
