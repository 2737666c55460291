"""Tables and figures of docs/statistics.md from the results of bench/false_alarms.py, and two worked examples.

Nothing is judged here but the examples: the pieces of work are summed and printed, as many as there are.
"""

import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from false_alarms import (
    BUDGETS,
    CHANGES,
    DELAY_KINDS,
    DOCS,
    HOUR_US,
    JUDGED_DAYS,
    LEARN_H,
    SECOND_US,
    START_US,
    TRAFFIC,
    optimum_s,
    pieces,
    plan,
)
from generators import CENTRE_MS, HARD, KINDS, lognormal
from matplotlib.figure import Figure

from llmscope.spc.calibration import FAST_K, SLOW_K, Budget
from llmscope.spc.chart import ControlChart, Plan, phase_one
from llmscope.spc.detectors import Cusum
from llmscope.spc.episodes import spans
from llmscope.spc.rules import ARL, rules_named
from llmscope.spc.scan import scan

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Found = dict[str, Any]  # the sum of pieces of work, as `false_alarms` makes them

PAGE = DOCS / "statistics.md"
IMAGES = DOCS / "img"
BEGIN, END = "<!-- false_alarms:begin -->", "<!-- false_alarms:end -->"
LOWEST, HIGHEST = 0.5, 1.6  # false alarms over budget that we accept
INTERVALS_S = (2, 10, 60)
ALL_EIGHT_ARL = 73.7  # points until the first signal of any rule
CONFIDENCE = 0.95
WIDTH = 116  # of the page's prose
BLUE, ORANGE, RED, GREEN, GREY = "#1f6fb4", "#d9730d", "#c0262d", "#2b8a3e", "#7a7a7a"


def report(done: dict[str, Found]) -> str:
    """Write tables and figures of the pieces that are there; the tables, for the terminal."""
    sums, delays = summed(done), delays_of(done)
    text = "\n\n".join(
        _wrapped(part)
        for part in (
            how_many(done),
            summary(sums),
            *(in_control(sums, interval) for interval in INTERVALS_S),
            of_traffic(sums),
            of_marks(sums),
            of_delays(delays),
        )
        if part
    )
    _write(text)
    IMAGES.mkdir(exist_ok=True)
    with matplotlib.rc_context(
        {"svg.hashsalt": "llmscope", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        if sums:
            _save(draw_false_alarms(sums), "false-alarms.svg")
        if delays:
            _save(draw_delays(delays), "delays.svg")
        _save(draw_two_charts(), "two-charts.svg")
        _save(draw_shift(), "shift.svg")
    return text


def _wrapped(part: str) -> str:
    """Markdown with its paragraphs, not its tables, at the width of the page."""
    paragraphs = part.split("\n\n")
    return "\n\n".join(p if p[0] in "|#" else textwrap.fill(p, WIDTH) for p in paragraphs)


def _write(text: str) -> None:
    """Put the tables between their markers; a page without them is left alone."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


# -- sums


def summed(done: dict[str, Found]) -> dict[tuple[str, str, str], Found]:
    """In control, by work ("probes" or "traffic"), kind and interval: all pieces together."""
    sums: dict[tuple[str, str, str], Found] = {}
    for name, found in sorted(done.items()):
        work, kind, interval, _ = name.split("|")
        if work != "delays":
            _add(sums.setdefault((work, kind, interval), {}), found)
    return sums


def _add(total: Found, more: Found) -> None:
    for key, value in more.items():
        if isinstance(value, dict):
            _add(total.setdefault(key, {}), value)
        else:
            total[key] = total.get(key, 0) + value


def delays_of(done: dict[str, Found]) -> dict[tuple[str, str], Found]:
    """By kind and change: all delays and errors of the change time, in seconds, and how many were missed."""
    found: dict[tuple[str, str], Found] = {}
    for kind in DELAY_KINDS:
        for change in CHANGES:
            parts = [
                part
                for name, part in sorted(done.items())
                if name.startswith(f"delays|{kind}|{change}|") and part
            ]
            if parts:
                found[kind, change] = {
                    "delays_s": np.array([s for part in parts for s in part["delays_s"]]),
                    "errors_s": np.array([s for part in parts for s in part["errors_s"]]),
                    "missed": sum(part["missed"] for part in parts),
                }
    return found


def how_many(done: dict[str, Found]) -> str:
    """How much of the work is in."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for name, _, _ in pieces(1.0):
        wanted[name.split("|")[0]].append(name)
    parts = [
        f"{sum(name in done for name in names)} of {len(names)} {work}" for work, names in wanted.items()
    ]
    whole = all(name in done for names in wanted.values() for name in names)
    return f"Pieces of work in these tables: {', '.join(parts)}{'' if whole else ' (a partial run)'}."


# -- rates


@lru_cache(maxsize=4096)
def garwood(count: int) -> tuple[float, float]:
    """Exact 95 % interval of a Poisson mean of which `count` were seen.

    >>> [round(end, 2) for end in garwood(10)]
    [4.8, 18.39]

    Source: F. Garwood, Biometrika 28, 1936, p. 437-442.
    """
    tail = (1.0 - CONFIDENCE) / 2.0
    far = count + 6.0 * math.sqrt(count + 4.0) + 6.0
    low = 0.0 if count == 0 else _mean_where(count - 1, 1.0 - tail, far)
    return low, _mean_where(count, tail, far)


def _mean_where(most: int, chance: float, far: float) -> float:
    """The Poisson mean at which `most` or fewer have this chance, by bisection: it falls as the mean grows."""
    counts = np.arange(most + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
    low, high = 1e-12, far
    for _ in range(48):
        middle = 0.5 * (low + high)
        if float(np.exp(counts * math.log(middle) - middle - factorials).sum()) > chance:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def ratio(found: Found | None, hours: float, budget: str) -> tuple[float, float, float] | None:
    """False alarms over those that the budget allows, and the ends of its interval; None if not simulated."""
    part = (found or {}).get(str(hours))
    if part is None:
        return None
    allowed = part["series"] * JUDGED_DAYS * BUDGETS[budget]
    count = part.get(budget, {}).get("alarms", 0)
    low, high = garwood(count)
    return count / allowed, low / allowed, high / allowed


def _number(value: float) -> str:
    return f"{value:.2f}"


def _marked(value: float) -> str:
    """The number, in bold where it is not what we accept."""
    return _number(value) if LOWEST <= value <= HIGHEST else f"**{_number(value)}**"


def _cell(found: tuple[float, float, float] | None) -> str:
    return "" if found is None else f"{_marked(found[0])} ({_number(found[1])}–{_number(found[2])})"


def _range(ratios: Iterable[tuple[float, float, float] | None]) -> str:
    """min..max (mean)."""
    values = [one[0] for one in ratios if one is not None]
    if not values:
        return ""
    return f"{_marked(min(values))}..{_marked(max(values))} ({_marked(sum(values) / len(values))})"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _hours(hours: float) -> str:
    return "30 min" if hours == 0.5 else f"{hours:g} h"


# -- tables


def summary(sums: dict[tuple[str, str, str], Found]) -> str:
    """Over the kinds, by interval and learning time."""
    rows = []
    for interval in INTERVALS_S:
        for hours in LEARN_H:
            of = {kind: sums.get(("probes", kind, str(interval))) for kind in KINDS | HARD}
            cells = [_range(ratio(of[kind], hours, budget) for kind in KINDS) for budget in BUDGETS]
            cells += [
                " / ".join(
                    _marked(one[0])
                    for budget in BUDGETS
                    if (one := ratio(of[kind], hours, budget)) is not None
                )
                for kind in HARD
            ]
            if any(cells):
                rows.append([f"{interval} s", _hours(hours), *cells])
    if not rows:
        return ""
    header = [
        "every",
        "learnt from",
        *(f"{len(KINDS)} kinds at {budget}: min..max (mean)" for budget in BUDGETS),
        *(f"{kind}, {' / '.join(BUDGETS)}" for kind in HARD),
    ]
    return (
        "### False alarms over the budget, nothing wrong: summary\n\n"
        f"1 is what was asked for; bold lies outside {_number(LOWEST)} to {HIGHEST}. The two kinds on the right "
        "are built to break the assumptions and are not in the ranges.\n\n" + _table(header, rows)
    )


def in_control(sums: dict[tuple[str, str, str], Found], interval: int) -> str:
    """Per kind and learning time, one table for each budget."""
    parts = []
    for budget in BUDGETS:
        times = [
            hours
            for hours in LEARN_H
            if any(str(hours) in sums.get(("probes", kind, str(interval)), {}) for kind in KINDS | HARD)
        ]
        rows = []
        days = set()
        for kind in KINDS | HARD:
            found = sums.get(("probes", kind, str(interval)))
            if found is not None:
                days |= {part["series"] * JUDGED_DAYS for part in found.values()}
                rows.append([kind, *(_cell(ratio(found, hours, budget)) for hours in times)])
        if rows:
            parts.append(
                f"At {budget}; {_between(days)} judged days a cell:\n\n"
                + _table(["kind", *map(_hours, times)], rows)
            )
    if not parts:
        return ""
    return "\n\n".join(
        [f"### Probes every {interval} s: false alarms over the budget (95 % interval)", *parts]
    )


def _between(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def of_traffic(sums: dict[tuple[str, str, str], Found]) -> str:
    """Requests that come by themselves."""
    rows = []
    for rate in TRAFFIC:
        found = sums.get(("traffic", str(rate), f"every {rate}"))
        for budget in BUDGETS if found else ():
            series = _between({part["series"] * JUDGED_DAYS for part in found.values()})
            cells = [_cell(ratio(found, hours, budget)) for hours in LEARN_H]
            rows.append([f"{rate:g} to {2 * rate:g} a second", budget, series, *cells])
    if not rows:
        return ""
    return (
        "### Traffic: false alarms over the budget (95 % interval)\n\n"
        "Poisson arrivals, twice as many by day as by night, about a level that wanders.\n\n"
        + _table(["requests", "budget", "judged days", *map(_hours, LEARN_H)], rows)
    )


def of_marks(sums: dict[tuple[str, str, str], Found]) -> str:
    """Episodes of each rule on the half-minute chart over those that theory expects."""
    parts = []
    for interval in INTERVALS_S:
        by_kind = {
            kind: marks
            for kind in KINDS | HARD
            if (marks := sums.get(("probes", kind, str(interval)), {}).get("24.0", {}).get("marks"))
        }
        if not by_kind:
            continue
        over = {
            kind: [marks[rule] * arl / marks["points"] for rule, arl in ARL.items()]
            + [_all_rules(marks) / marks["points"] / sum(1.0 / arl for arl in ARL.values())]
            for kind, marks in by_kind.items()
        }
        if interval == INTERVALS_S[0]:
            rows = [[kind, *map(_number, numbers)] for kind, numbers in over.items()]
            parts.append(_table(["every 2 s", *ARL, "sum"], rows))
        columns = zip(*(over[kind] for kind in KINDS if kind in over), strict=True)
        ranges = [f"{_number(min(column))}..{_number(max(column))}" for column in columns]
        parts.append(
            _table([f"every {interval} s, range over the kinds", *ARL, "sum"], [["min..max", *ranges]])
        )
    if not parts:
        return ""
    rate = sum(1.0 / arl for arl in ARL.values())
    return (
        "### Marks on the half-minute chart over what chance brings\n\n"
        "Episodes of a rule, over judged buckets / its average run length; learnt from 24 h. “sum” adds the "
        f"episodes of all eight and compares them with the sum of the eight rates, one in {1.0 / rate:.1f} "
        f"buckets. That is more often than one in {ALL_EIGHT_ARL}, the run length of all eight together: there "
        "only the first rule to signal counts, here two rules broken by the same points are two episodes.\n\n"
        + "\n\n".join(parts)
    )


def _all_rules(marks: dict[str, int]) -> int:
    return sum(marks[rule] for rule in ARL)


def of_delays(delays: dict[tuple[str, str], Found]) -> str:
    """How long until a change is found."""
    rows = []
    for (kind, change), found in delays.items():
        seconds, errors = found["delays_s"], found["errors_s"]
        changes = len(seconds) + found["missed"]
        if not len(seconds):
            rows.append([kind, change, str(changes), "", "", "", "", "100 %", ""])
            continue
        median = float(np.median(np.concatenate([seconds, np.full(found["missed"], np.inf)])))
        best = optimum_s(DELAY_KINDS[kind], change)
        low, middle, high = np.percentile(errors, [25, 50, 75]).tolist()
        rows.append(
            [
                kind,
                change,
                str(changes),
                f"{median:,.0f} s",
                f"{float(seconds.mean()):,.0f} s",
                "" if best is None else f"{best:,.0f} s",
                "" if best is None else _number(median / best),
                f"{100.0 * found['missed'] / changes:.1f} %",
                f"{middle:+,.0f} s ({low:+,.0f} to {high:+,.0f})".replace("-", "−"),
            ]
        )
    if not rows:
        return ""
    header = ["kind", "change", "changes", "median delay", "mean", "optimum", "ratio", "missed"]
    return (
        "### Delays\n\n"
        "At one false alarm a week, `min_change` off, learnt from 24 h, a point every 2 s; each change is watched "
        "for six hours. A missed one counts as infinite in the median and not in the mean. The optimum is the "
        "mean delay of the best detector of that very shift (Moustakides 1986); the ratio is median over optimum, "
        "so it can fall below 1. With cold starts it is the optimum without them. The error of the change time "
        "is what the chart says less what is true: its median and its quartiles.\n\n"
        + _table([*header, "error of the change time"], rows)
    )


# -- figures of the results


def _save(figure: Figure, name: str) -> None:
    path = IMAGES / name
    figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})
    plt.close(figure)
    drawn = path.read_text(encoding="utf-8")
    drawn = re.sub(r"(\d\.\d\d)\d+", r"\1", drawn)  # a hundredth of a point is enough: half the size
    path.write_text(re.sub(r" +$", "", drawn, flags=re.MULTILINE), encoding="utf-8")


def draw_false_alarms(sums: dict[tuple[str, str, str], Found]) -> Figure:
    """Ratios by learning time, a panel for each budget."""
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.8), sharey=True, layout="constrained")
    places = np.arange(len(LEARN_H))
    looks = {2: (BLUE, "o", -0.2), 10: (ORANGE, "s", 0.05), 60: (GREEN, "D", 0.25)}
    for panel, budget in zip(panels, BUDGETS, strict=True):
        panel.axhspan(LOWEST, HIGHEST, color="#e4ecf4", zorder=0)
        panel.axhline(1.0, color=GREY, linewidth=0.8)
        for interval, (colour, marker, aside) in looks.items():
            for hard in (False, True):
                label = f"every {interval} s" + (", hard kinds" if hard else "")
                for kind in HARD if hard else KINDS:
                    found = sums.get(("probes", kind, str(interval)))
                    at = [ratio(found, hours, budget) for hours in LEARN_H]
                    ok = [i for i, one in enumerate(at) if one is not None]
                    if not ok:
                        continue
                    ys = [max(at[i][0], 0.05) for i in ok]
                    look = {"markerfacecolor": "white" if hard else colour, "markeredgecolor": colour}
                    panel.plot(places[ok] + aside, ys, marker, markersize=4, alpha=0.75, label=label, **look)
                    label = None
        panel.set_yscale("log")
        panel.set_yticks([0.25, 0.5, 1.0, 1.6, 4.0, 8.0], ["¼", "½", "1", "1.6", "4", "8"])
        panel.minorticks_off()
        panel.set_xticks(places, [_hours(hours) for hours in LEARN_H])
        panel.set_xlabel("learnt from")
        panel.set_title(f"budget {budget}", loc="left")
    panels[0].set_ylabel("false alarms / budget")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_delays(delays: dict[tuple[str, str], Found]) -> Figure:
    """Median delay and its quartiles, against the optimum where there is one."""
    rows = [(change, kind) for change in CHANGES for kind in DELAY_KINDS if (kind, change) in delays]
    figure, panel = plt.subplots(figsize=(8.4, 0.8 + 0.24 * len(rows)), layout="constrained")
    for y, (change, kind) in enumerate(rows):
        found = delays[kind, change]
        seconds = np.concatenate([found["delays_s"], np.full(found["missed"], 1e9)])
        low, middle, high = np.percentile(seconds, [25, 50, 75], method="inverted_cdf").tolist()
        panel.plot([low, min(high, 21_600)], [y, y], color=BLUE, linewidth=4, alpha=0.3)
        panel.plot(middle, y, "o", color=BLUE, markersize=5, label=None if y else "median (bar: quartiles)")
        best = optimum_s(DELAY_KINDS[kind], change)
        if best is not None:
            label = None if y else "optimum of any detector"
            panel.plot(best, y, "|", color=RED, markersize=11, markeredgewidth=2, label=label)
    panel.set_yticks(range(len(rows)), [f"{change}, {kind}" for change, kind in rows])
    panel.invert_yaxis()
    panel.set_xscale("log")
    ticks = [30, 60, 120, 300, 600, 1800, 3600]
    panel.set_xticks(ticks, ["30 s", "1 min", "2 min", "5 min", "10 min", "30 min", "1 h"])
    panel.minorticks_off()
    panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    panel.set_xlabel("until the change is found, at one false alarm a week")
    panel.legend(frameon=False, loc="lower left")
    return figure


# -- worked examples


def draw_two_charts() -> Figure:
    """An hour of a day in control: rolling mean ± 3 sd of points, and the same on the half-minute chart."""
    day, window = 43_200, 1_800
    made = lognormal(0.25, 0.3)(np.random.default_rng(20_260_101), 2 * day, 1)[:, 0]
    times_us = START_US + np.arange(2 * day) * 2 * SECOND_US
    learnt, values = made[:day], made[day:]
    baseline = phase_one(learnt, times_us[:day], "log", "locked", plan(None))
    assert baseline is not None
    budget = BUDGETS["1/week"]
    chart = ControlChart("log", Plan("none", "nelson", Budget(budget), min_change=0.0), baseline=baseline)
    told = chart.update_many(values, np.arange(day), times_us[day:])

    sums, squares = (np.cumsum(np.insert(made**power, 0, 0.0)) for power in (1, 2))
    ends = np.arange(day, 2 * day)
    means = (sums[ends] - sums[ends - window]) / window
    sds = np.sqrt((squares[ends] - squares[ends - window]) / window - means**2)
    zs = (values - means) / sds
    rules = rules_named("original")
    found = scan(zs, rules)
    episodes = [span for rule in rules for span in spans(rule.name, found[rule.name], zs, rule.points)]

    from_, until = 10 * 1_800, 11 * 1_800
    minutes = np.arange(until - from_) / 30.0
    figure, (above, below) = plt.subplots(2, 1, figsize=(8.4, 5.2), layout="constrained")
    part = slice(from_, until)
    above.plot(minutes, values[part], color=GREY, linewidth=0.4)
    for line in (means, means + 3.0 * sds, means - 3.0 * sds):
        above.plot(minutes[::30], line[part][::30], color=BLUE, linewidth=1)
    for rule, colour in (("R1", RED), ("R2", ORANGE), ("R3", GREEN)):
        at = np.array(
            [e.first_signal for e in episodes if e.rule == rule and from_ <= e.first_signal < until]
        )
        above.plot(
            (at - from_) / 30.0, values[at], "o", color=colour, markersize=4, label=f"{rule}: {len(at)}"
        )
    above.set_title(
        f"Every point, mean ± 3 sd of the last hour, R1 to R3: {len(episodes)} violations this day",
        loc="left",
    )
    above.set_ylabel("latency, ms")
    above.legend(frameon=False, ncols=3, loc="upper right")

    points = told.bucket_points()
    opened = [e for e in told.events if e.kind == "opened"]
    alarms = [a for a in told.alarms if a.kind == "opened"]
    start_us = int(times_us[day + from_])
    shown = [p for p in points if start_us <= p.time_us < start_us + HOUR_US]
    at = [(p.time_us - start_us) / 60.0 / SECOND_US for p in shown]
    us = [math.nan if p.u is None else p.u for p in shown]
    below.plot(at, us, ".-", color=GREY, linewidth=0.7, markersize=4)
    for level in (-3, 0, 3):
        below.axhline(level, color=BLUE, linewidth=1)
    begins = [e.episode for e in opened]
    first = {p.last_id: i for i, p in enumerate(shown)}
    marked = [first[e.first_signal_id] for e in begins if e.first_signal_id in first]
    marks_label = f"marks of R1 to R8: {len(marked)}"
    below.plot(
        [at[i] for i in marked], [us[i] for i in marked], "o", color=ORANGE, markersize=4, label=marks_label
    )
    below.set_ylim(-4.2, 4.2)
    below.set_title(
        f"Half minutes by the learnt reference, R1 to R8: {len(opened)} marks this day, alarms: {len(alarms)}",
        loc="left",
    )
    below.set_ylabel("score u")
    below.set_xlabel("minutes")
    below.legend(frameon=False, loc="upper right")
    return figure


def draw_shift() -> Figure:
    """A shift of +20 %: points, scores of half minutes, and the CUSUMs on their way to the line."""
    learnt, before, after = 43_200, 600, 450
    made = lognormal(0.25, 0.3)(np.random.default_rng(20_260_103), learnt + before + after, 1)[:, 0]
    made[learnt + before :] *= 1.2
    times_us = START_US + np.arange(len(made)) * 2 * SECOND_US
    baseline = phase_one(made[:learnt], times_us[:learnt], "log", "locked", plan(None))
    assert baseline is not None
    chart = ControlChart("log", Plan(budget=Budget(BUDGETS["1/week"])), baseline=baseline)
    assert chart.buckets is not None
    lines, inflation = chart.buckets.lines, chart.buckets.watch.shift.inflation
    assert lines.slow is not None
    assert lines.fast is not None
    slow, fast = Cusum(SLOW_K, lines.slow), Cusum(FAST_K, lines.fast)
    change_us = int(times_us[learnt + before])
    rows: list[tuple[float, float, float, float]] = []
    alarm = None
    for i in range(learnt, len(made)):
        verdict = chart.update(float(made[i]), i, int(times_us[i]))
        for event in verdict.alarms:
            if event.kind == "opened" and alarm is None:
                alarm = event.alarm
        if verdict.bucket is not None and verdict.bucket.u is not None:
            u = verdict.bucket.u
            for cusum in (slow, fast):
                cusum.update(u / inflation, 0, 0)
            end_us = verdict.bucket.time_us + 30 * SECOND_US
            rows.append(((end_us - change_us) / 60.0 / SECOND_US, u, slow.c / slow.h, fast.c / fast.h))
    minutes, us, slows, fasts = (list(column) for column in zip(*rows, strict=True))

    figure, panels = plt.subplots(
        3, 1, figsize=(8.4, 6.0), sharex=True, layout="constrained", height_ratios=[1.2, 1, 1.2]
    )
    points, scores, evidence = panels
    at = (times_us[learnt:] - change_us) / 60.0 / SECOND_US
    points.plot(at, made[learnt:], color=GREY, linewidth=0.4)
    lines_ms = baseline.limits()
    for level in (lines_ms.lcl, lines_ms.centre, lines_ms.ucl):
        points.axhline(level, color=BLUE, linewidth=1)
    points.set_ylabel("latency, ms")
    points.set_title(f"{CENTRE_MS:g} ms, then {1.2 * CENTRE_MS:g} ms: every point", loc="left")
    scores.plot(minutes, us, ".-", color=GREY, linewidth=0.7, markersize=4)
    for level in (-3, 0, 3):
        scores.axhline(level, color=BLUE, linewidth=1)
    scores.set_ylabel("score u")
    scores.set_title("Half minutes", loc="left")
    evidence.plot(minutes, slows, color=ORANGE, label=f"k = {SLOW_K:g}, h = {lines.slow:.2f}")
    evidence.plot(minutes, fasts, color=GREEN, label=f"k = {FAST_K:g}, h = {lines.fast:.2f}")
    evidence.axhline(1.0, color=RED, linewidth=1)
    evidence.set_ylim(0.0, 2.5)
    evidence.set_ylabel("C / h")
    evidence.set_xlabel("minutes since the change")
    if alarm is not None:
        opened, dated = ((t - change_us) / 60.0 / SECOND_US for t in (alarm.opened_us, alarm.change_us))
        for panel in panels:
            panel.axvline(0.0, color="black", linewidth=0.8, linestyle=":")
            panel.axvline(opened, color=RED, linewidth=0.8)
        evidence.axvline(dated, color=RED, linewidth=0.8, linestyle="--")
        evidence.set_title(
            f"Evidence: incident after {60.0 * opened + 2.0:.0f} s, "
            f"{alarm.size_percent:+.0f} % ({alarm.size_low:+.0f} to {alarm.size_high:+.0f}), "
            f"change dated {60.0 * dated:+.0f} s (dashed)".replace("-", "−"),
            loc="left",
        )
    evidence.legend(frameon=False, loc="upper left")
    return figure
