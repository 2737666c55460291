"""Made-up observations with changes, long enough for the detectors, for the property tests."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from llmscope.spc.alarms import Alarm
from llmscope.spc.calibration import Budget
from llmscope.spc.chart import ControlChart, ManyVerdicts, Plan, Verdict
from llmscope.spc.episodes import Episode

STEP_US = 2_000_000
START_US = 1_700_000_000_000_000
LEARN_US = 45 * 60_000_000
PLAN = Plan(point_rules="nelson", budget=Budget(24.0), min_change=0.05, learn_us=LEARN_US)
"""A false alarm an hour: so that alarms come in the short series of tests."""


@dataclass(frozen=True)
class Made:
    """Observations of one metric, ms; nan where the request failed."""

    values: npt.NDArray[np.float64]
    ids: npt.NDArray[np.int64]
    times_us: npt.NDArray[np.int64]
    cold: npt.NDArray[np.bool_]

    def chart(self, factor: float = 1.0, plan: Plan = PLAN) -> ControlChart:
        """A chart that learns from these observations, up to the one it was given last."""
        chart = ControlChart("log", plan)

        def history(row_id: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
            upto = self.ids <= row_id
            chosen = upto & ~self.cold & ~np.isnan(self.values)
            return self.values[chosen] * factor, self.times_us[chosen]

        chart.history = history
        return chart


@st.composite
def made(draw: st.DrawFn, n: int = 2_600) -> Made:
    """Two regimes of probing, drawn dependence and spread, a change or two, failures, cold starts, silences."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    phi = draw(st.sampled_from([0.0, 0.3, 0.6]), label="phi")
    x = rng.standard_normal(n)
    for i in range(1, n):
        x[i] = phi * x[i - 1] + np.sqrt(1.0 - phi * phi) * x[i]
    values = 50.0 * np.exp(draw(st.sampled_from([0.02, 0.2]), label="sd") * x)
    for _ in range(draw(st.integers(0, 2), label="changes")):
        start = draw(st.integers(0, n - 1))
        values[start : start + draw(st.sampled_from([30, 300, n]))] *= draw(
            st.sampled_from([0.8, 1.1, 1.3, 2.0])
        )
    if draw(st.booleans(), label="rounded"):
        values = np.round(values, 1)
    values[rng.random(n) < 0.01] = np.nan
    steps = np.full(n, STEP_US) + rng.integers(-1000, 1000, n)
    for _ in range(draw(st.integers(0, 2), label="silences")):
        steps[draw(st.integers(0, n - 1))] += draw(st.sampled_from([5, 40, 600])) * 1_000_000
    return Made(values, np.arange(n) * 3 + 1, START_US + np.cumsum(steps), rng.random(n) < 0.005)


@dataclass
class Found:
    """The final state of all that was found."""

    episodes: dict[tuple[str, str, str, int], Episode]
    alarms: dict[tuple[str, int, str], Alarm]


def found(verdicts: list[Verdict] | ManyVerdicts) -> Found:
    if isinstance(verdicts, ManyVerdicts):
        events, alarms = verdicts.events, verdicts.alarms
    else:
        events = [event for verdict in verdicts for event in verdict.events]
        alarms = [event for verdict in verdicts for event in verdict.alarms]
    return Found(
        {
            (e.episode.chart, e.episode.rule, e.episode.side, e.episode.first_signal_id): e.episode
            for e in events
        },
        {(a.alarm.detector, a.alarm.opened_id, _kind(a.alarm)): a.alarm for a in alarms},
    )


def _kind(alarm: Alarm) -> str:
    return "mark" if alarm.state == "below_min_change" else "alarm"


def stream(
    chart: ControlChart, data: Made, start: int = 0, stop: int | None = None, factor: float = 1.0
) -> list[Verdict]:
    """The verdicts on observations one by one."""
    return [
        chart.update(
            None if np.isnan(data.values[i]) else float(data.values[i]) * factor,
            int(data.ids[i]),
            int(data.times_us[i]),
            bool(data.cold[i]),
        )
        for i in range(start, len(data.values) if stop is None else stop)
    ]
