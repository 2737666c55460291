"""False alarms and delays of the calibrated charts, simulated: the tables of docs/statistics.md.

    python bench/false_alarms.py              everything, on all cores; ends where an earlier run stopped
    python bench/false_alarms.py --quick      a tenth of it
    python bench/false_alarms.py --report     only write the tables and figures again

Every piece of work is seeded by its name, so a run can be interrupted and any piece be checked by itself.
"""

import argparse
import json
import math
import os
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from generators import CENTRE_MS, HARD, KINDS, ar
from rich.progress import Progress

from llmscope.spc.arl import cusum_arl, cusum_h
from llmscope.spc.baseline import Baseline
from llmscope.spc.calibration import Budget
from llmscope.spc.chart import ControlChart, ManyVerdicts, Plan, phase_one
from llmscope.spc.rules import RULES

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "false_alarms.jsonl"
DOCS = HERE.parent / "docs"

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US
START_US = 1_767_225_600 * SECOND_US  # any midnight
LEARN_H = (0.5, 1.0, 2.0, 6.0, 24.0)
FEWEST = 450  # good points the product asks for
BUDGETS = {"1/day": 1.0, "1/week": 1.0 / 7.0}
JUDGED_DAYS = 7
SERIES = 10  # in one piece of work
PIECES = 8
DELAY_KINDS = {"lognormal .25": 0.0, "AR .3": 0.3, "AR .6": 0.6, "1 % cold starts": 0.0}
CHANGES = ("+1 sigma", "+20 %", "+10 %", "variance x2", "drift +50 % in 2 h", "spikes x5")
REPEATS = 40  # changes in one piece of work
TRAFFIC = {0.2: (30, 5), 20.0: (12, 1)}  # requests a second: pieces, series in each


# -- in control


def plan(budget_a_day: float | None, bucket_rules: str = "none") -> Plan:
    return Plan("none", bucket_rules, Budget(budget_a_day), min_change=0.0)


def incidents(told: ManyVerdicts) -> tuple[int, dict[str, int]]:
    """Alarms that do not overlap, and alarms by detector."""
    count = is_open = 0
    by_detector: dict[str, int] = defaultdict(int)
    for event in told.alarms:
        if event.kind == "opened":
            count += is_open == 0
            is_open += 1
            by_detector[event.alarm.detector] += 1
        elif event.kind == "closed":
            is_open -= 1
    return count, dict(by_detector)


def judge(
    values: Floats, times_us: Integers, until: int, learn_us: int, marks: bool
) -> dict[str, Any] | None:
    """Learn from the `learn_us` before row `until`, then judge what follows under both budgets."""
    first = int(np.searchsorted(times_us, times_us[until] - learn_us))
    if until - first < FEWEST:
        return None
    baseline = phase_one(values[first:until], times_us[first:until], "log", "locked", plan(None))
    if baseline is None or baseline.reference is None:
        return None
    ids = np.arange(len(values))
    found: dict[str, Any] = {}
    for name, rate in BUDGETS.items():
        chart = ControlChart("log", plan(rate), baseline=baseline)
        count, by_detector = incidents(chart.update_many(values[until:], ids[until:], times_us[until:]))
        found[name] = {"alarms": count, **by_detector}
    if marks:
        found["marks"] = marks_of(baseline, values[until:], ids[until:], times_us[until:])
    return found


def marks_of(baseline: Baseline, values: Floats, ids: Integers, times_us: Integers) -> dict[str, int]:
    """Points of the 30 s chart at which each rule begins an episode, and how many points there were."""
    chart = ControlChart("log", plan(None, "nelson"), baseline=baseline)
    told = chart.update_many(values, ids, times_us)
    counts = {rule: 0 for rule in RULES}
    for event in told.events:
        if event.kind == "opened":
            counts[event.episode.rule] += 1
    counts["points"] = int(sum(np.count_nonzero(~np.isnan(b.us)) for b in told.buckets))
    return counts


def probes(kind: str, interval_s: int, piece: int) -> dict[str, Any]:
    """Series of one kind, probed every `interval_s`, learnt for several lengths and judged for a week."""
    rng = np.random.default_rng([zlib.crc32(kind.encode()), interval_s, piece])
    learnt = 86_400 // interval_s
    n = learnt + JUDGED_DAYS * 86_400 // interval_s
    values = (KINDS | HARD)[kind](rng, n, SERIES)
    times_us = START_US + np.arange(n) * interval_s * SECOND_US
    return _judge_all([(np.ascontiguousarray(values[:, i]), times_us) for i in range(SERIES)], learnt)


def traffic(rate: float, piece: int, series: int) -> dict[str, Any]:
    """Requests that come by themselves, `rate` a second by night and twice as many by day."""
    rng = np.random.default_rng([99, int(rate * 10), piece])
    made: list[tuple[Floats, Integers]] = []
    seconds = (1 + JUDGED_DAYS) * 86_400
    for _ in range(series):
        by_night = rng.poisson(rate, seconds)
        by_day = rng.poisson(rate, seconds)
        hour = (np.arange(seconds) // 3600) % 24
        counts = by_night + np.where((hour >= 8) & (hour < 20), by_day, 0)
        times_us = np.repeat(np.arange(seconds), counts) * SECOND_US
        times_us = START_US + np.sort(times_us + (rng.random(len(times_us)) * SECOND_US).astype(np.int64))
        level = np.repeat(0.06 * ar(rng, seconds // 30, 1, 0.4)[:, 0], 30)
        values = CENTRE_MS * np.exp(0.25 * rng.standard_normal(len(times_us)) + np.repeat(level, counts))
        made.append((values, times_us))
    return _judge_all(made, None)


def _judge_all(made: list[tuple[Floats, Integers]], learnt: int | None) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for values, times_us in made:
        until = int(np.searchsorted(times_us, START_US + DAY_US)) if learnt is None else learnt
        for hours in LEARN_H:
            found = judge(values, times_us, until, int(hours * HOUR_US), marks=hours == 24.0)
            if found is not None:
                _add(total.setdefault(str(hours), {"series": 0}), found | {"series": 1})
    return total


def _add(total: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict):
            _add(total.setdefault(key, {}), value)
        else:
            total[key] = total.get(key, 0) + value


# -- a change


def changed(kind: str, change: str, rng: np.random.Generator, values: Floats, at: int) -> Floats:
    """The values with the change from row `at` on."""
    after = values[at:].copy()
    sd = 0.25
    if change == "+1 sigma":
        after *= math.exp(sd)
    elif change.startswith("+"):
        after *= 1.2 if change == "+20 %" else 1.1
    elif change == "variance x2":
        after = CENTRE_MS * (after / CENTRE_MS) ** math.sqrt(2.0)
    elif change.startswith("drift"):
        after *= 1.0 + 0.5 * np.minimum(1.0, np.arange(len(after)) / 3600.0)
    else:  # spikes: four more in a hundred, beside the one that there is or the like of it
        spikes = rng.random(len(after)) < 0.04
        after[spikes] *= rng.uniform(5.0, 20.0, int(spikes.sum()))
    return np.concatenate([values[:at], after])


def delays(kind: str, change: str, piece: int) -> dict[str, Any]:
    """How long until a change is found, at one false alarm a week, learnt for 24 h, every 2 s."""
    rng = np.random.default_rng([zlib.crc32(kind.encode()), zlib.crc32(change.encode()), piece])
    if change.startswith("spikes") and kind != "1 % cold starts":
        return {}
    learnt, before, after = 43_200, 1_800, 10_800
    baselines = KINDS[kind](rng, learnt, 4)
    found: dict[str, Any] = {"delays_s": [], "errors_s": [], "missed": 0}
    times = START_US + np.arange(learnt) * 2 * SECOND_US
    fitted = [
        phase_one(np.ascontiguousarray(baselines[:, i]), times, "log", "locked", plan(None)) for i in range(4)
    ]
    for i in range(REPEATS):
        start_us = int(times[-1]) + 2 * SECOND_US
        values = KINDS[kind](rng, before + after, 1)[:, 0]
        at = before + int(rng.integers(0, 15))
        values = changed(kind, change, rng, values, at)
        times_us = start_us + np.arange(len(values)) * 2 * SECOND_US
        baseline = fitted[i % 4]
        assert baseline is not None
        chart = ControlChart("log", plan(BUDGETS["1/week"]), baseline=baseline)
        told = chart.update_many(values, np.arange(len(values)), times_us)
        opened = [e.alarm for e in told.alarms if e.kind == "opened" and e.alarm.opened_us >= times_us[at]]
        if not opened:
            found["missed"] += 1
            continue
        # found when the bucket is complete: at the next observation after it
        found["delays_s"].append((opened[0].opened_us + 2 * SECOND_US - int(times_us[at])) / SECOND_US)
        found["errors_s"].append((opened[0].change_us - int(times_us[at])) / SECOND_US)
    return found


def optimum_s(phi: float, change: str) -> float | None:
    """The shortest mean delay that any detector can have for a known shift at one false alarm a week.

    CUSUM of the innovations, by point. Source: Moustakides, Annals of Statistics 14, 1986.
    """
    size = {"+1 sigma": 1.0, "+20 %": math.log(1.2) / 0.25, "+10 %": math.log(1.1) / 0.25}.get(change)
    if size is None:
        return None
    shift = size * (1.0 - phi) / math.sqrt(1.0 - phi * phi)
    return 2.0 * cusum_arl(shift / 2.0, cusum_h(shift / 2.0, 302_400.0), shift)


# -- the work


def pieces(share: float) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Every piece of work: its name, the function and its arguments."""
    count = max(1, round(PIECES * share))
    for piece in range(count):
        for kind in KINDS:
            for change in CHANGES if kind in DELAY_KINDS and piece < 5 else ():
                yield f"delays|{kind}|{change}|{piece}", "delays", (kind, change, piece)
        for kind in KINDS | HARD:
            for interval in (2, 10, 60):
                yield f"probes|{kind}|{interval}|{piece}", "probes", (kind, interval, piece)
    for rate, (of, series) in TRAFFIC.items():
        for piece in range(max(1, round(of * share))):
            yield f"traffic|{rate}|every {rate}|{piece}", "traffic", (rate, piece, series)


def work(name: str, function: str, arguments: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    return name, {"probes": probes, "traffic": traffic, "delays": delays}[function](*arguments)


def load() -> dict[str, dict[str, Any]]:
    if not RESULTS.exists():
        return {}
    return dict(json.loads(line) for line in RESULTS.read_text().splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--report", action="store_true", help="only write what is known")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    done = load()
    RESULTS.parent.mkdir(exist_ok=True)
    todo = [] if given.report else [p for p in pieces(0.1 if given.quick else 1.0) if p[0] not in done]
    with ProcessPoolExecutor(given.jobs) as pool, Progress(disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("simulating", total=len(todo))
        jobs = [pool.submit(work, *piece) for piece in todo]
        with RESULTS.open("a") as file:
            for job in as_completed(jobs):
                name, found = job.result()
                done[name] = found
                file.write(json.dumps([name, found]) + "\n")
                file.flush()
                progress.advance(bar)
    from false_alarms_report import report

    sys.stdout.write(report(done) + "\n")


if __name__ == "__main__":
    main()
