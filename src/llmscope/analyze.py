"""Control charts of a file: `llmscope analyze`. The same rules, charts and detectors as live, without a server.

`read` takes the columns out of CSV or JSONL, `analyze` judges them, `document` is the JSON that comes out.
"""

import csv
import datetime as dt
import functools
import io
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

import msgspec
import numpy as np
import numpy.typing as npt

from llmscope.spc import classic
from llmscope.spc.alarms import Alarm
from llmscope.spc.arl import cusum_arl, ewma_arl, rules_arl
from llmscope.spc.baseline import Scale
from llmscope.spc.calibration import Budget
from llmscope.spc.chart import FEWEST_LEARNT, ControlChart, ManyVerdicts, Plan, phase_one
from llmscope.spc.episodes import Span, spans
from llmscope.spc.rules import ARL, PRESETS, Rule, rules_named
from llmscope.spc.scan import scan

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CHUNK = 100_000  # rows read at a time
NAMED_ROWS = 5  # rows that a warning names
DAY_S = 86_400.0
ChartKind = Literal["points", "buckets", "imr", "xbar-s", "p", "np", "u", "c", "ewma", "cusum"]
LARGEST = 1e100  # beyond it nothing is measured, and squares no longer fit
LARGEST_LOG = 700.0  # exp of a little more is no float
FARTHEST_US = 2**62  # from 1970; the year 148,000


class CannotAnalyze(ValueError):
    """The file or an option cannot be used; the message is one sentence that says why."""


@dataclass(slots=True)
class Table:
    """Columns of a file, one entry a row; nan where a cell is empty or not a number."""

    values: Floats
    times_us: Integers | None = None
    sizes: Floats | None = None
    groups: list[str] | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Options:
    """What to make of a table. Rows are counted from 0; ranges do not include their end."""

    chart: ChartKind = "points"
    interval_s: float = 2.0
    scale: Literal["log", "linear", "auto"] = "auto"
    centre: float | None = None
    sigma: float | None = None
    sigma_from: str | None = None
    baseline: tuple[int, int] | None = None
    exclude: tuple[tuple[int, int], ...] = ()
    phase_at: tuple[int, ...] = ()
    rules: str = "nelson"
    subgroup: int | None = None
    weight: float = 0.2
    width: float = 3.0
    k: float = 0.5
    h: float = 5.0
    target: float | None = None
    budget: str = "1/week"
    min_change: float = 0.10
    learn_us: int | None = None
    learn_n: int | None = None


# -- reading


def read(
    path: str,
    value: str,
    time: str | None = None,
    size: str | None = None,
    group: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Table:
    """The columns of a CSV with a header, or of JSON lines; "-" is standard input.

    `progress` is called with the bytes or rows read so far. Raises CannotAnalyze.
    """
    import sys

    wanted = [name for name in dict.fromkeys((value, time, size, group)) if name is not None]
    try:
        with sys.stdin if path == "-" else Path(path).open(newline="", encoding="utf-8-sig") as file:
            text: TextIO = io.StringIO(file.read()) if path == "-" else file
            first = text.read(1)
            text.seek(0)
            as_json = first == "{" or path.endswith((".jsonl", ".ndjson"))
            chunks = (_json_chunks if as_json else _csv_chunks)(text, wanted, path)
            return _gather(chunks, value, time, size, group, progress)
    except OSError as error:
        raise CannotAnalyze(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise CannotAnalyze(f"{path} is not a text file in UTF-8") from None
    except csv.Error as error:
        raise CannotAnalyze(f"{path} is not a CSV file: {error}") from None


def _csv_chunks(text: TextIO, wanted: Sequence[str], path: str) -> Iterator[list[list[Any]]]:
    reader = csv.reader(text)
    header = [name.strip() for name in next(reader, [])]
    places = []
    for name in wanted:
        if name not in header:
            raise CannotAnalyze(f"{path} has no column '{name}'; it has {', '.join(header) or 'none'}")
        places.append(header.index(name))
    last = max(places)
    while rows := list(itertools.islice(reader, CHUNK)):
        full = [row if len(row) > last else [*row, *[""] * (last + 1 - len(row))] for row in rows if row]
        yield [[row[place] for row in full] for place in places]


def _json_chunks(text: TextIO, wanted: Sequence[str], path: str) -> Iterator[list[list[Any]]]:
    decode = msgspec.json.Decoder().decode
    seen: set[str] = set()
    number = 0
    while lines := list(itertools.islice(text, CHUNK)):
        rows: list[dict[str, Any]] = []
        for line in lines:
            number += 1
            if not line.strip():
                continue
            try:
                row = decode(line)
            except (msgspec.DecodeError, RecursionError):
                raise CannotAnalyze(f"{path}, line {number} is not JSON") from None
            if not isinstance(row, dict):
                raise CannotAnalyze(f"{path}, line {number} is not an object")
            rows.append(row)
            seen |= row.keys()
        yield [[row.get(name) for row in rows] for name in wanted]
    for name in wanted:
        if name not in seen:
            raise CannotAnalyze(f"{path} has no column '{name}'; it has {', '.join(sorted(seen)) or 'none'}")


def _gather(
    chunks: Iterator[list[list[Any]]],
    value: str,
    time: str | None,
    size: str | None,
    group: str | None,
    progress: Callable[[int], None] | None,
) -> Table:
    names = [name for name in dict.fromkeys((value, time, size, group)) if name is not None]
    parts: dict[str, list[Any]] = {name: [] for name in names}
    groups: list[str] = []
    done = 0
    for chunk in chunks:
        for name, cells in zip(names, chunk, strict=True):
            if name == group:
                groups += [str(cell) for cell in cells]
            if name == time:
                parts[name].append(np.array([_time_us(cell) for cell in cells], np.float64))
            elif name in (value, size):
                parts[name].append(_numbers(cells))
        done += len(chunk[0])
        if progress is not None:
            progress(done)
    values = np.concatenate(parts[value]) if parts[value] else np.empty(0)
    table = Table(values, groups=groups if group is not None else None)
    gaps = np.flatnonzero(np.isnan(values))
    if len(gaps):
        table.warnings.append(_named(gaps, f"without a number in '{value}', taken as gaps"))
    if size is not None:
        table.sizes = np.concatenate(parts[size]) if parts[size] else np.empty(0)
        bad = np.flatnonzero(~(table.sizes > 0.0))
        if len(bad):
            table.values[bad] = np.nan
            table.warnings.append(_named(bad, f"without a size above zero in '{size}', taken as gaps"))
    if time is not None:
        table.times_us = _times(np.concatenate(parts[time]) if parts[time] else np.empty(0), time, table)
    if not len(values) or bool(np.isnan(table.values).all()):
        raise CannotAnalyze(f"there is no row with a number in column '{value}'")
    return table


def _named(rows: Integers, what: str) -> str:
    shown = ", ".join(str(row) for row in rows[:NAMED_ROWS].tolist())
    return f"{len(rows)} row{'s' if len(rows) > 1 else ''} {what}: {shown}{', …' if len(rows) > NAMED_ROWS else ''}"


def _numbers(cells: Sequence[Any]) -> Floats:
    """Cells as floats, nan where they are none; true and false are none either."""
    try:
        return (
            _finite(np.array(cells, dtype=np.float64)) if not isinstance(cells[0], bool) else _slowly(cells)
        )
    except (ValueError, TypeError, IndexError, OverflowError):
        return _slowly(cells)


def _slowly(cells: Sequence[Any]) -> Floats:
    return _finite(np.array([_number(cell) for cell in cells], np.float64))


def _finite(values: Floats) -> Floats:
    values[~(np.abs(values) <= LARGEST)] = np.nan
    return values


def _number(cell: Any) -> float:
    if cell is None or isinstance(cell, bool):
        return math.nan
    try:
        return float(cell)
    except (ValueError, TypeError, OverflowError):
        return math.nan


def _time_us(cell: Any) -> float:
    """A moment in µs: a number of s, ms or µs since 1970 by its size, or RFC 3339."""
    number = _number(cell)
    if not math.isnan(number):
        return number * (1e6 if number < 1e11 else 1e3 if number < 1e14 else 1.0)
    try:
        moment = dt.datetime.fromisoformat(str(cell))
    except ValueError:
        return math.nan
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp() * 1e6


def _times(times: Floats, name: str, table: Table) -> Integers:
    times[~(np.abs(times) < FARTHEST_US)] = np.nan
    bad = np.flatnonzero(np.isnan(times))
    if len(bad) == len(times):
        raise CannotAnalyze(f"there is no time in column '{name}'")
    if len(bad):
        table.values[bad] = np.nan
        table.warnings.append(_named(bad, f"without a time in '{name}', taken as gaps"))
        good = np.flatnonzero(~np.isnan(times))
        times = np.interp(np.arange(len(times)), good, times[good])
    return times.astype(np.int64)


# -- judging


@dataclass(slots=True)
class Analysis:
    """What was found; `rows` are the file's rows that are plotted, for a chart of subgroups their number."""

    options: Options
    scale: Scale
    chart: classic.Chart
    stages: list[classic.Stage]
    hits: dict[str, list[int]]
    violations: list[Span]
    alarms: list[Alarm] = field(default_factory=list)
    marks: list[Alarm] = field(default_factory=list)
    expected_a_day: float | None = None
    warnings: list[str] = field(default_factory=list)
    learnt: list[int] = field(default_factory=list)  # points that the limits of each stage came from


def analyze(table: Table, options: Options) -> Analysis:
    """Judge a table. Raises CannotAnalyze."""
    try:
        if options.chart in ("points", "buckets"):
            return _calibrated(table, options)
        return _classical(table, options)
    except classic.NoData as error:
        raise CannotAnalyze(str(error)) from None


def _stages(n: int, options: Options, usable: Bools) -> list[classic.Stage]:
    edges = [0, *sorted(set(options.phase_at)), n]
    if any(not 0 < at < n for at in options.phase_at):
        raise CannotAnalyze(f"--phase-at must be a row from 1 to {n - 1}")
    allowed = usable.copy()
    for start, stop in options.exclude:
        if not 0 <= start < stop <= n:
            raise CannotAnalyze(f"--exclude {start}:{stop} lies outside the {n} rows")
        allowed[start:stop] = False
    stages = []
    for i, (start, stop) in enumerate(itertools.pairwise(edges)):
        learns = np.zeros(n, bool)
        learns[start:stop] = True
        if i == 0 and options.baseline is not None:
            first, last = options.baseline
            if not 0 <= first < last <= n:
                raise CannotAnalyze(f"--baseline {first}:{last} lies outside the {n} rows")
            learns[:] = False
            learns[first:last] = True
        stages.append(classic.Stage(start, stop, learns & allowed))
    return stages


def _excluded(n: int, options: Options) -> Bools:
    excluded = np.zeros(n, bool)
    for start, stop in options.exclude:
        excluded[start:stop] = True
    return excluded


def _classical(table: Table, options: Options) -> Analysis:
    values, kind = table.values, options.chart
    if options.scale == "log":
        raise CannotAnalyze(f"--scale log goes with the charts points and buckets, not with {kind}")
    groups = _groups(table, options) if kind == "xbar-s" else None
    n = len(values) if groups is None else len(groups)
    usable = ~np.isnan(values) if groups is None else np.ones(n, bool)
    stages = _stages(n, options, usable)
    known = options.centre, options.sigma
    if groups is not None:
        chart = classic.xbar_s(groups, stages, *known)
    elif kind in ("p", "np", "c", "u"):
        chart = _attributes(table, options, stages)
    else:
        how = options.sigma_from or "mr"
        chart = classic.individuals(values, stages, how, *known)
        if kind == "ewma":
            chart = classic.ewma(values, stages, chart, options.weight, options.width)
        elif kind == "cusum":
            chart = classic.cusum(values, stages, chart, options.k, options.h, options.target)
    rules = rules_named(options.rules)
    warnings = list(table.warnings)
    z = chart.main.z
    if kind in ("ewma", "cusum"):
        if any(rule.name != "R1" for rule in rules):
            warnings.append(
                f"only the limits (R1) are judged: the points of a chart of kind {kind} depend on each other"
            )
        rules = tuple(rule for rule in rules if rule.name == "R1")
        if kind == "cusum" and chart.second is not None:
            low = chart.second.z
            z = np.where(np.abs(low) > z, low, z)
    analysis = Analysis(options, "linear", chart, stages, {}, [], warnings=warnings)
    found = _judged(analysis, z, rules, options, n)
    if kind in ("ewma", "cusum") and rules:
        arl = (
            ewma_arl(options.weight, options.width)
            if kind == "ewma"
            else cusum_arl(options.k, options.h, two_sided=True)
        )
        found.expected_a_day = DAY_S / options.interval_s / arl
    return found


def _groups(table: Table, options: Options) -> list[Floats]:
    values = table.values
    if table.groups is not None:
        order = list(dict.fromkeys(table.groups))
        names = np.array(table.groups)
        return [values[(names == name) & ~np.isnan(values)] for name in order]
    size = options.subgroup
    if size is None:
        raise CannotAnalyze(
            "--chart xbar-s needs --subgroup: a number of rows, or the column that names the subgroup"
        )
    if size < 2:
        raise CannotAnalyze("--subgroup must be at least 2")
    parts = [values[i : i + size] for i in range(0, len(values) - size + 1, size)]
    return [part[~np.isnan(part)] for part in parts]


def _attributes(table: Table, options: Options, stages: Sequence[classic.Stage]) -> classic.Chart:
    sizes = table.sizes
    if sizes is None:
        if options.chart == "c":
            sizes = np.ones(len(table.values))
        else:
            raise CannotAnalyze(
                f"--chart {options.chart} needs --size: the column of what the counts are out of"
            )
    return classic.attributes(options.chart, table.values, sizes, stages, options.centre)


def _judged(
    analysis: Analysis, z: Floats, rules: Sequence[Rule], options: Options, n: int, gaps: Bools | None = None
) -> Analysis:
    """Run the rules over the standardised points; excluded ones and phase boundaries interrupt patterns.

    An excluded point is still plotted: beyond the limits it is a hit of R1, and part of no violation.
    """
    z = z.copy()
    excluded = _excluded(n, options)
    outside = np.flatnonzero(excluded & (np.abs(z) > 3.0))
    z[excluded] = np.nan
    z[np.abs(z) < 1e-9] = 0.0
    breaks = np.zeros(n, bool) if gaps is None else gaps.copy()
    breaks[[stage.start for stage in analysis.stages]] = True
    found = scan(z, rules, breaks)
    for rule in rules:
        signals = found[rule.name]
        analysis.hits[rule.name] = np.flatnonzero(signals).tolist()
        analysis.violations += spans(rule.name, signals, z, rule.points, breaks)
    if "R1" in analysis.hits:
        analysis.hits["R1"] = sorted([*analysis.hits["R1"], *outside.tolist()])
    analysis.violations.sort(key=lambda span: (span.first_signal, span.rule))
    analysis.learnt = [int(np.count_nonzero(stage.learns)) for stage in analysis.stages]
    analysis.expected_a_day = _chance(options.rules, rules) * DAY_S / options.interval_s
    return analysis


def _chance(names: str, rules: Sequence[Rule]) -> float:
    """False signals a point that chance gives these rules on independent normal data."""
    if not rules:
        return 0.0
    known = PRESETS.get(names.strip().lower())
    if known is not None:
        return 1.0 / known.arl
    keys = [rule.name for rule in rules]
    windows = [key for key in keys if key not in ("R3", "R4")]
    rate = 1.0 / rules_arl(windows) if windows else 0.0
    return rate + sum(1.0 / ARL[key] for key in keys if key in ("R3", "R4"))


def _scale_of(values: Floats, options: Options, warnings: list[str]) -> Scale:
    good = values[~np.isnan(values)]
    if options.scale == "linear":
        return "linear"
    bad = np.flatnonzero(values <= 0.0)
    if options.scale == "log":
        if len(bad) == len(good):
            raise CannotAnalyze("--scale log needs values above zero")
        if len(bad):
            warnings.append(_named(bad, "not above zero, taken as gaps on the log scale"))
        return "log"
    if options.centre is not None or options.sigma is not None:
        return "linear"  # known parameters are meant as they are written
    return "linear" if len(bad) else "log"


def _calibrated(table: Table, options: Options) -> Analysis:
    """The charts of points and of half minutes, with the detectors, as live."""
    warnings = list(table.warnings)
    values = table.values.copy()
    scale = _scale_of(values, options, warnings)
    if scale == "log":
        values[values <= 0.0] = np.nan
    n = len(values)
    times_us = table.times_us
    if times_us is None:
        times_us = (np.arange(n) * options.interval_s * 1e6).astype(np.int64)
    options_ = options
    if table.times_us is not None and n > 1:
        spacing = float(np.median(np.diff(times_us))) / 1e6
        options_ = _with(options, interval_s=spacing if spacing > 0.0 else options.interval_s)
    usable = ~np.isnan(values)
    stages = _stages(n, options, usable)
    x = np.log(values) if scale == "log" else values
    centre = (
        None if options.centre is None else math.log(options.centre) if scale == "log" else options.centre
    )
    chart = classic.individuals(x, stages, options.sigma_from or "total", centre, options.sigma, ranges=False)
    told = _detect(values, times_us, scale, stages, options, warnings)
    analysis = Analysis(options_, scale, chart, stages, {}, [], warnings=warnings)
    if options.chart == "points":
        gap_us = 3 * options_.interval_s * 1e6
        gaps = np.diff(times_us, prepend=times_us[0]) > gap_us
        _judged(analysis, chart.main.z, rules_named(options.rules), options_, n, gaps)
    else:
        analysis = _bucket_analysis(analysis, told, values, options_)
    last: dict[tuple[str, int, bool], Alarm] = {}
    for event in told.alarms:
        alarm = event.alarm
        last[alarm.detector, alarm.opened_id, alarm.state == "below_min_change"] = alarm
    analysis.alarms = [a for a in last.values() if a.state != "below_min_change"]
    analysis.marks = [a for a in last.values() if a.state == "below_min_change"]
    budget = Budget.parse(options.budget).alarms_per_day
    if any(told.baselines) and budget is not None:
        analysis.expected_a_day = budget
    return analysis


def _with(options: Options, **changes: Any) -> Options:
    import dataclasses

    return dataclasses.replace(options, **changes)


def _detect(
    values: Floats,
    times_us: Integers,
    scale: Scale,
    stages: Sequence[classic.Stage],
    options: Options,
    warnings: list[str],
) -> ManyVerdicts:
    """Let a chart watch each phase: from its baseline if one is named, else learning as it goes."""
    told = ManyVerdicts()
    excluded = _excluded(len(values), options)
    plan = Plan(
        "none",
        options.rules if options.chart == "buckets" else "none",
        Budget.parse(options.budget),
        options.min_change,
        options.learn_us or 86_400_000_000,
        options.learn_n,
    )
    ids = np.arange(len(values))
    short = False
    for number, stage in enumerate(stages):
        rows = ids[stage.start : stage.stop]
        rows = rows[~np.isnan(values[rows]) & ~excluded[rows]]
        baseline = None
        if number == 0 and options.baseline is not None:
            learns = stage.learns
            baseline = phase_one(values[learns], times_us[learns], scale, "locked", plan)
            if baseline is not None and baseline.reference is None:
                baseline = None
            elif baseline is not None:
                told.baselines.append((options.baseline[1], baseline))
                rows = rows[rows >= options.baseline[1]]
            if baseline is None:
                short = True
                continue
        chart = ControlChart(scale, plan, baseline=baseline)
        chart.history = functools.partial(_history, values, times_us, rows)
        part = chart.update_many(values[rows], rows, times_us[rows])
        short |= chart.buckets is None
        told.events += part.events
        told.alarms += part.alarms
        told.buckets += part.buckets
        told.baselines += [b for b in part.baselines if b[1].reference is not None]
    if short and plan.budget.alarms_per_day is not None:
        warnings.append(
            "too short for the detectors: they need half an hour and "
            f"{FEWEST_LEARNT} values of a phase to learn from (--learn, --baseline)"
        )
    return told


def _history(values: Floats, times_us: Integers, rows: Integers, upto: int) -> tuple[Floats, Integers]:
    seen = rows[: np.searchsorted(rows, upto, side="right")]
    return values[seen], times_us[seen]


def _bucket_analysis(analysis: Analysis, told: ManyVerdicts, values: Floats, options: Options) -> Analysis:
    """The chart of half minutes: statistic u, centre 0, limits 3; rows are the last observation of each bucket."""
    if not told.buckets:
        raise CannotAnalyze(
            "too short for --chart buckets: it needs half an hour and 450 values to learn from"
        )
    us = np.concatenate([many.us for many in told.buckets])
    rows = np.concatenate([many.last_ids for many in told.buckets])
    n = len(us)
    panel = classic.Panel(us, np.zeros(n), np.ones(n), np.full(n, 3.0), np.full(n, -3.0))
    every = np.ones(n, bool)
    analysis.chart = classic.Chart(panel, None, [1.0], [0.0])
    analysis.stages = [classic.Stage(0, n, every)]
    analysis.learnt = [told.baselines[-1][1].n if told.baselines else 0]
    rules = rules_named(options.rules)
    analysis.hits = {rule.name: [] for rule in rules}
    at = 0
    for many in told.buckets:
        scored = np.flatnonzero(~np.isnan(many.us)) + at
        for name, signs in many.signs.items():
            analysis.hits[name] += rows[scored[np.flatnonzero(signs)]].tolist()
        at += len(many.us)
    last = {(e.episode.rule, e.episode.side, e.episode.first_signal_id): e.episode for e in told.events}
    analysis.violations = [
        Span(
            e.rule, e.side, e.pattern_start_id, e.first_signal_id, e.last_signal_id, e.count, e.peak_z, e.open
        )
        for e in last.values()
        if e.chart == "buckets"
    ]
    analysis.violations.sort(key=lambda span: (span.first_signal, span.rule))
    analysis.expected_a_day = _chance(options.rules, rules) * DAY_S / max(30.0, options.interval_s)
    return analysis


# -- telling


def _from_log(values: Any) -> Floats:
    return np.asarray(np.exp(np.minimum(values, LARGEST_LOG)))


def document(analysis: Analysis) -> dict[str, Any]:
    """The result as JSON would say it; numbers as arrays where they vary."""
    chart, options = analysis.chart, analysis.options
    panel = chart.main
    unit = _from_log if analysis.scale == "log" and options.chart == "points" else np.asarray
    ucl, lcl = unit(panel.ucl), unit(panel.lcl)
    centres = [float(unit(np.array(c))) for c in chart.centres]
    if options.chart == "cusum" and options.target is not None:
        centres = [options.target for _ in centres]
    phases = []
    for i, stage in enumerate(analysis.stages):
        rows = slice(stage.start, stage.stop)
        phases.append(
            {
                "start": stage.start,
                "stop": stage.stop,
                "centre": centres[i],
                "sigma": chart.sigmas[i],
                "ucl": _line(ucl[rows]),
                "lcl": _line(lcl[rows]),
                "n": analysis.learnt[i] if analysis.learnt else None,
            }
        )
    found: dict[str, Any] = {
        "n": int(np.count_nonzero(~np.isnan(panel.statistic))),
        "chart": options.chart,
        "scale": analysis.scale,
        "centre": centres[0] if len(set(centres)) == 1 else _numbers_or_none(unit(panel.centre)),
        "sigma": chart.sigmas[0] if len(set(chart.sigmas)) == 1 else _numbers_or_none(_by_row(analysis)),
        "ucl": _line(ucl),
        "lcl": _line(lcl),
        "phases": phases,
        "hits": analysis.hits,
        "violations": [
            {
                "rule": v.rule,
                "side": v.side,
                "pattern_start": v.pattern_start,
                "first_signal": v.first_signal,
                "last_signal": v.last_signal,
                "count": v.count,
                "peak_z": v.peak_z,
                "open": v.open,
            }
            for v in analysis.violations
        ],
        "alarms": [_alarm(a) for a in analysis.alarms],
        "marks": [_alarm(a) for a in analysis.marks],
        "expected_false_alarms_per_day": analysis.expected_a_day,
        "warnings": analysis.warnings,
    }
    if options.chart in ("ewma", "cusum"):
        found["statistic"] = _numbers_or_none(panel.statistic)
    if chart.second is not None and options.chart in ("imr", "xbar-s", "cusum"):
        found["second"] = {
            "statistic": _numbers_or_none(chart.second.statistic),
            "centre": _line(chart.second.centre),
            "ucl": _line(chart.second.ucl),
            "lcl": _line(chart.second.lcl),
        }
    return found


def _by_row(analysis: Analysis) -> Floats:
    sigmas = np.full(len(analysis.chart.main.statistic), np.nan)
    for stage, sigma in zip(analysis.stages, analysis.chart.sigmas, strict=True):
        sigmas[stage.start : stage.stop] = sigma
    return sigmas


def _line(line: Floats) -> Any:
    """One number where a line is level, else one a row."""
    good = line[~np.isnan(line)]
    if len(good) == 0:
        return None
    if bool(np.allclose(good, good[0], rtol=1e-12, atol=1e-15)):
        return float(good[0])
    return _numbers_or_none(line)


def _numbers_or_none(values: Floats) -> list[float | None]:
    return [None if v != v else v for v in values.tolist()]


def _alarm(alarm: Alarm) -> dict[str, Any]:
    return {
        "detector": alarm.detector,
        "opened": alarm.opened_id,
        "change": alarm.change_id,
        "direction": alarm.direction,
        "size_percent": alarm.size_percent,
        "size_low": alarm.size_low,
        "size_high": alarm.size_high,
        "closed": alarm.closed_id,
        "state": alarm.state,
    }


__all__ = ["Analysis", "CannotAnalyze", "Options", "Table", "analyze", "document", "read"]
