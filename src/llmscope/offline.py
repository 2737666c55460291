"""The commands that need no server: `llmscope analyze` and `llmscope backtest`."""

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table as RichTable
from rich.text import Text

from llmscope.settings import METRIC_KEYS, budget_text, rules_text, seconds, share

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

CHARTS = ("points", "buckets", "imr", "xbar-s", "p", "np", "u", "c", "ewma", "cusum")
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _fail(message: str) -> NoReturn:
    err.print(Text(f"llmscope: {message}"), soft_wrap=True)
    raise typer.Exit(2)


def _read(flag: str, text: str, how: Any) -> Any:
    try:
        return how(text)
    except (ValueError, TypeError) as error:
        _fail(f"{flag} {error} (it is {text!r})")


def _range(text: str) -> tuple[int, int]:
    start, colon, stop = text.partition(":")
    if not colon:
        return (0, int(start))
    return int(start), int(stop)


def _rows(text: str) -> tuple[tuple[int, int], ...]:
    found = []
    for part in text.split(","):
        start, colon, stop = part.partition(":")
        found.append((int(start), int(stop) if colon else int(start) + 1))
    return tuple(found)


def _number_or_range(flag: str, what: str) -> Any:
    def read(text: str) -> tuple[int, int]:
        try:
            found = _range(text)
        except ValueError:
            raise ValueError(f"must be {what}") from None
        return found

    return read


def _learn(text: str) -> tuple[int | None, int | None]:
    """(µs, points) of which one is given."""
    if text.isdigit():
        return None, int(text)
    return round(seconds(text) * 1e6), None


def analyze(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="CSV with a header, JSON lines, or - for stdin.")
    ],
    value: Annotated[str, typer.Option(metavar="COLUMN", help="What is charted.")] = "value",
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="RFC 3339, or s, ms or µs since 1970.")
    ] = None,
    interval: Annotated[str, typer.Option(metavar="TIME", help="Between two rows, without --time.")] = "2s",
    scale: Annotated[
        str, typer.Option(help="log, linear, or auto: log where all values are above zero.")
    ] = "auto",
    chart: Annotated[str, typer.Option(help=f"One of {', '.join(CHARTS)}.")] = "points",
    centre: Annotated[float | None, typer.Option(help="Known centre line.")] = None,
    sigma: Annotated[float | None, typer.Option(help="Known sigma, on the chart's scale.")] = None,
    sigma_from: Annotated[
        str | None, typer.Option(help="total, mr, median-mr or mad. Default: mr; total for points.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="N|START:END", help="Rows that the limits come from; END not included."),
    ] = None,
    exclude: Annotated[
        str | None,
        typer.Option(
            metavar="3,7:9", help="Rows shown, but not learnt from and in no violation; 9 not included."
        ),
    ] = None,
    phase_at: Annotated[
        list[int] | None,
        typer.Option(metavar="ROW", help="A phase with its own limits begins here. Repeatable."),
    ] = None,
    rules: Annotated[
        str, typer.Option(help="R1,R2 and so on, or nelson, western-electric, nhs, original, none.")
    ] = "nelson",
    size: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What counts are out of: p, np, u.")
    ] = None,
    subgroup: Annotated[
        str | None, typer.Option(metavar="N|COLUMN", help="Rows, or the column that names it: xbar-s.")
    ] = None,
    weight: Annotated[
        float, typer.Option("--lambda", min=0.001, max=1.0, help="Weight of the newest value: ewma.")
    ] = 0.2,
    width: Annotated[float, typer.Option(min=0.1, help="Limits in sigma: ewma.")] = 3.0,
    k: Annotated[float, typer.Option("--k", min=0.0, help="Reference value in sigma: cusum.")] = 0.5,
    h: Annotated[float, typer.Option("--h", min=0.01, help="Decision line in sigma: cusum.")] = 5.0,
    target: Annotated[float | None, typer.Option(help="Default: the centre line. cusum.")] = None,
    budget: Annotated[
        str, typer.Option(help="False alarms accepted: 1/day, 1/week, 1/month or none.")
    ] = "1/week",
    min_change: Annotated[
        str, typer.Option(help="Smallest change that is an alarm; 0 for every certain one.")
    ] = "10%",
    learn: Annotated[
        str, typer.Option(metavar="TIME|N", help="What the detectors learn from, unless --baseline.")
    ] = "24h",
    format: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the chart: .html or .png.")] = None,
) -> None:
    """Chart a file: limits, rules and alarms, by the same code as live. Rows are counted from 0.

    Examples:

        llmscope analyze latencies.csv --value latency_ms --time timestamp

        llmscope analyze rings.csv --chart xbar-s --subgroup sample --format json

        llmscope analyze failures.csv --chart p --value failed --size requests --baseline 30 --plot chart.html
    """
    from llmscope import analyze as offline
    from llmscope.spc.rules import UnknownRule

    if chart not in CHARTS:
        _fail(f"--chart must be one of {', '.join(CHARTS)} (it is {chart!r})")
    for flag, text, known in (
        ("--scale", scale, ("log", "linear", "auto")),
        ("--format", format, ("table", "json")),
        ("--sigma-from", sigma_from, (None, "total", "mr", "median-mr", "mad")),
    ):
        if text not in known:
            _fail(f"{flag} must be one of {', '.join(str(one) for one in known if one)} (it is {text!r})")
    if sigma is not None and sigma <= 0.0:
        _fail(f"--sigma must be above zero (it is {sigma:g})")
    learn_us, learn_n = _read("--learn", learn, _learn)
    number = subgroup is not None and subgroup.isdigit()
    options = offline.Options(
        chart=chart,  # type: ignore[arg-type]
        interval_s=_read("--interval", interval, seconds),
        scale=scale,  # type: ignore[arg-type]
        centre=centre,
        sigma=sigma,
        sigma_from=sigma_from,
        baseline=None
        if baseline is None
        else _read("--baseline", baseline, _number_or_range("", "N or START:END")),
        exclude=() if exclude is None else _read("--exclude", exclude, _excluded),
        phase_at=tuple(phase_at or ()),
        rules=_read("--rules", rules, rules_text),
        subgroup=int(subgroup) if number and subgroup is not None else None,
        weight=weight,
        width=width,
        k=k,
        h=h,
        target=target,
        budget=_read("--budget", budget, budget_text),
        min_change=_read("--min-change", min_change, share),
        learn_us=learn_us,
        learn_n=learn_n,
    )
    if options.interval_s <= 0.0:
        _fail(f"--interval must be above zero (it is {interval!r})")
    try:
        with Progress(
            SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn(),
            console=err, transient=True, disable=not err.is_terminal,
        ) as progress:  # fmt: skip
            bar = progress.add_task("reading rows", total=None)
            table = offline.read(
                file,
                value,
                time,
                size,
                None if number else subgroup,
                lambda done: progress.update(bar, completed=done),
            )
            progress.update(bar, description="judging")
            analysis = offline.analyze(table, options)
    except (offline.CannotAnalyze, UnknownRule) as error:
        _fail(str(error))
    document = offline.document(analysis)
    if plot is not None:
        from llmscope.plot import CannotPlot, draw

        try:
            draw(analysis, plot)
        except (CannotPlot, OSError) as error:
            _fail(str(error))
    if format == "json":
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _print_analysis(document)


def _excluded(text: str) -> tuple[tuple[int, int], ...]:
    try:
        return _rows(text)
    except ValueError:
        raise ValueError("must be rows such as 3,7:9") from None


def _line(line: Any) -> str:
    if line is None:
        return "none"
    return f"{line:.6g}" if isinstance(line, float) else "varies"


def _print_analysis(document: dict[str, Any]) -> None:
    out.print(
        f"{document['n']:,} points, {document['chart']} chart, {document['scale']} scale: "
        f"centre {_line(document['centre'])}, LCL {_line(document['lcl'])}, UCL {_line(document['ucl'])}"
    )
    if len(document["phases"]) > 1:
        phases = RichTable("phase", "rows", "centre", "sigma", "LCL", "UCL", "learnt from", box=None)
        for i, phase in enumerate(document["phases"], 1):
            phases.add_row(
                str(i), f"{phase['start']}:{phase['stop']}", _line(phase["centre"]), _line(phase["sigma"]),
                _line(phase["lcl"]), _line(phase["ucl"]), str(phase["n"]),
            )  # fmt: skip
        out.print(phases)
    rules = RichTable("rule", "points", "episodes", "first at rows", box=None)
    for rule, rows in document["hits"].items():
        mine = [v for v in document["violations"] if v["rule"] == rule]
        shown = ", ".join(str(v["first_signal"]) for v in mine[:6]) + (", …" if len(mine) > 6 else "")
        rules.add_row(rule, f"{len(rows):,}", f"{len(mine):,}", shown)
    if document["hits"]:
        out.print(rules)
    if document["alarms"]:
        alarms = RichTable("alarm", "change at", "opened", "closed", "size", "state", box=None)
        for alarm in document["alarms"]:
            closed = "" if alarm["closed"] is None else str(alarm["closed"])
            alarms.add_row(
                f"{alarm['detector']} {alarm['direction']}", str(alarm["change"]), str(alarm["opened"]), closed,
                f"{alarm['size_percent']:+.0f} % ({alarm['size_low']:.0f} to {alarm['size_high']:.0f})",
                alarm["state"],
            )  # fmt: skip
        out.print(alarms)
    elif document["chart"] in ("points", "buckets"):
        out.print("No alarm.")
    if document["marks"]:
        out.print(f"{len(document['marks'])} certain changes of the level were below --min-change.")
    if document["expected_false_alarms_per_day"] is not None:
        out.print(f"Expected by chance: {document['expected_false_alarms_per_day']:.3g} a day.")
    for warning in document["warnings"]:
        err.print(Text(f"llmscope: {warning}"), soft_wrap=True)


def _moment(text: str) -> int:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a date and time such as 2026-11-23T12:00:00Z") from None
    return (moment.replace(tzinfo=moment.tzinfo or dt.UTC) - EPOCH) // dt.timedelta(microseconds=1)


def backtest(
    db: Annotated[
        Path | None, typer.Option("--db", metavar="FILE", help="The database. Default: data/llmscope.db")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only series of this model.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only series of this provider.")] = None,
    series: Annotated[
        int | None, typer.Option(help="The series by its id, as GET /api/series has it.")
    ] = None,
    metric: Annotated[str, typer.Option(help=f"One of {', '.join(METRIC_KEYS)}.")] = "latency",
    rules: Annotated[str, typer.Option(help="Marked on points: R1,R2 and so on, or a preset.")] = "original",
    budget: Annotated[
        str, typer.Option(help="False alarms accepted: 1/day, 1/week, 1/month or none.")
    ] = "1/week",
    min_change: Annotated[
        str, typer.Option(help="Smallest change that is an alarm; 0 for every certain one.")
    ] = "10%",
    learn: Annotated[
        str, typer.Option(metavar="TIME|N", help="Observed time, or points, until locked.")
    ] = "24h",
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Judge only from here on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Judge only up to here.")] = None,
    phase_at: Annotated[
        list[str] | None, typer.Option(metavar="TIME", help="A phase begins here. Repeatable.")
    ] = None,
    format: Annotated[
        str, typer.Option("--format", help="table, json, or lines: progress and result as JSON lines.")
    ] = "table",
) -> None:
    """Judge what is stored by another configuration: what would have alarmed, and when. Changes nothing.

    Examples:

        llmscope backtest --metric ms_per_token --budget 1/day --min-change 5%

        llmscope backtest --model llama3.1:8b --since 2026-11-01T00:00:00Z --format json
    """
    from llmscope import backtest as past
    from llmscope.settings import WrongSetting, load
    from llmscope.spc.calibration import Budget
    from llmscope.spc.chart import Plan
    from llmscope.spc.rules import UnknownRule

    if metric not in METRIC_KEYS:
        _fail(f"--metric must be one of {', '.join(METRIC_KEYS)} (it is {metric!r})")
    if format not in ("table", "json", "lines"):
        _fail(f"--format must be table, json or lines (it is {format!r})")
    learn_us, learn_n = _read("--learn", learn, _learn)
    plan = Plan(
        point_rules=_read("--rules", rules, rules_text),
        budget=Budget.parse(_read("--budget", budget, budget_text)),
        min_change=_read("--min-change", min_change, share),
        learn_us=learn_us or 86_400_000_000,
        learn_n=learn_n,
    )
    times = [
        None if text is None else _read(flag, text, _moment)
        for flag, text in (("--since", since), ("--until", until))
    ]
    phases = tuple(_read("--phase-at", text, _moment) for text in phase_at or ())
    results: list[dict[str, Any]] = []
    try:
        connection = past.open_readonly(load({"db": db}).db)
        chosen = past.series_named(connection, model, provider)
        chosen = [one for one in chosen if series in (None, one[0])]
        if not chosen:
            _fail("no stored series matches; see GET /api/series for those there are")
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=err, transient=True, disable=not err.is_terminal,
        ) as progress:  # fmt: skip
            for series_id, name in chosen:
                bar = progress.add_task(name)

                def tell(done: int, total: int, bar: Any = bar) -> None:
                    progress.update(bar, completed=done, total=total)
                    if format == "lines":
                        sys.stdout.write(json.dumps({"done": done, "total": total}) + "\n")
                        sys.stdout.flush()

                question = past.Question(series_id, metric, plan, times[0], times[1], phases)
                results.append({"series": name, **past.run(connection, question, tell)})
    except (past.CannotBacktest, UnknownRule, WrongSetting) as error:
        _fail(str(error))
    if format == "json":
        sys.stdout.write(json.dumps(results) + "\n")
    elif format == "lines":
        sys.stdout.write(json.dumps({"result": results[0]}) + "\n")
    else:
        for result in results:
            _print_backtest(result)


def _print_backtest(result: dict[str, Any]) -> None:
    out.print(
        f"{result['series']}, {result['metric']}: {result['observations']:,} observations, {result['days']:.3g} days, "
        f"baseline {result['state']}"
    )
    table = RichTable("alarm", "change", "opened", "closed", "size", box=None)
    for alarm in result["alarms"]:
        table.add_row(
            f"{alarm['detector']} {alarm['direction']}", alarm["change"][:19], alarm["opened"][:19],
            (alarm["closed"] or alarm["state"])[:19],
            f"{alarm['size_percent']:+.0f} % ({alarm['size_low']:.0f} to {alarm['size_high']:.0f})",
        )  # fmt: skip
    if result["alarms"]:
        out.print(table)
    out.print(
        f"{result['alarms_total']} alarms ({result['alarms_per_day']:.3g} a day), "
        f"{result['below_min_change']} changes below the one asked for"
    )
    marks = ", ".join(f"{m['rule']} {m['count']}" for m in result["marks"] if m["chart"] == "points")
    out.print(f"Marks on points: {marks or 'none'}")
    if result["acknowledged"]:
        out.print(
            f"{result['acknowledged_covered']} of {result['acknowledged']} acknowledged violations lie in an alarm"
        )
