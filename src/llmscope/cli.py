"""The commands. Thin: each reads its flags into settings and calls the part that does the work."""

import asyncio
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.exceptions import Abort, TyperException

from llmscope import __version__, credentials, offline, settings, transfer, upkeep

cli = typer.Typer(
    name="llmscope",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Statistical process control for language-model services.\n\n"
    "Probes an LLM server every 2 seconds, draws a live control chart, and says when the process has left "
    "control. Start with `llmscope up` and open http://127.0.0.1:8081.",
    epilog="Settings also come from the environment (`LLMSCOPE_*`, `OLLAMA_HOST`, `OLLAMA_MODEL`) and from "
    "`llmscope.toml`; flags win. Ctrl-C ends a running command quietly. Exit codes: 0 done, 1 `doctor` found "
    "something wrong, 2 something to mend, said in one sentence.",
)
out = Console()
err = Console(stderr=True)

Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        metavar="URL",
        help="LLM server; an address ending in /v1 is OpenAI-compatible. Repeatable.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", metavar="NAME", help="Model, one for each --target in order. Default: the loaded."
    ),
]
Interval = Annotated[
    str | None, typer.Option("--interval", "-i", metavar="TIME", help="Between two probes, such as 2s.")
]
Timeout = Annotated[str | None, typer.Option("--timeout", metavar="TIME", help="When a probe has timed out.")]
Prompt = Annotated[str | None, typer.Option("--prompt", help="Test prompt; a fresh nonce is put before it.")]
NumPredict = Annotated[int | None, typer.Option("--num-predict", help="Most tokens of a probe's answer.")]
ProbeWhen = Annotated[
    str | None,
    typer.Option("--probe-when", help="'always', or 'loaded': only while Ollama has the model in memory."),
]
Database = Annotated[Path | None, typer.Option("--db", metavar="FILE", help="The SQLite database.")]
Spool = Annotated[
    Path | None, typer.Option("--spool", metavar="FILE", help="Keeps what could not be delivered to the API.")
]
Api = Annotated[
    str | None,
    typer.Option("--api", metavar="URL", help="The API to post to. Default: http://127.0.0.1:8000"),
]
Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int | None, typer.Option("--port", "-p", help="Port to listen on.")]
RootPath = Annotated[
    str | None,
    typer.Option(
        "--root-path", metavar="PATH", help="Path below which a reverse proxy shows it, such as /llmscope."
    ),
]
Insecure = Annotated[
    bool | None,
    typer.Option("--insecure", help="Allow --host beyond this machine without login. Trusted networks only."),
]
AlarmBudget = Annotated[
    str | None,
    typer.Option(
        "--budget", metavar="RATE", help="False alarms accepted per series: 1/day, 1/week, 1/month or none."
    ),
]
MinChange = Annotated[
    str | None,
    typer.Option(
        "--min-change", metavar="SHARE", help="Smallest change of a level that opens an incident: 10%."
    ),
]
Rules = Annotated[
    str | None,
    typer.Option(
        "--rules",
        metavar="RULES",
        help="Marked on single points: R1,R2,R3; or nelson, western-electric, nhs, none.",
    ),
]
Learn = Annotated[
    str | None,
    typer.Option(
        "--learn", metavar="TIME", help="Observed time after which a baseline is locked, such as 24h."
    ),
]
Watched = Annotated[
    str | None,
    typer.Option(
        "--watched",
        metavar="METRICS",
        help="Metrics whose changes open incidents. Default: latency,ttft,ms_per_token; also queue, load, "
        "prompt_ms_per_token, tokens_per_second.",
    ),
]
Slo = Annotated[
    str | None,
    typer.Option(
        "--slo",
        metavar="LIST",
        help="What is promised, shown on the charts: latency=2s,llama3.1:8b/ttft=500ms.",
    ),
]
KeepRaw = Annotated[
    str | None,
    typer.Option(
        "--keep-raw", metavar="TIME", help="How long single observations are kept: 30d, 8w, 1y or forever."
    ),
]
KeepMinutes = Annotated[
    str | None,
    typer.Option(
        "--keep-minutes", metavar="TIME", help="How long summaries of minutes are kept: 1y, forever."
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", envvar="LLMSCOPE_CONFIG", help="Default: ./llmscope.toml"),
]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")]


def _version(asked: bool) -> None:
    if asked:
        out.print(f"llmscope {__version__}", highlight=False)
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of all commands."""


def _load(config: Path | None, **flags: Any) -> settings.Settings:
    """The settings; what is wrong with them is one sentence and exit code 2."""
    from llmscope.simulator import SCENARIOS

    try:
        loaded = settings.load(flags, config, SCENARIOS)
    except settings.WrongSetting as error:
        _fail(str(error))
    for sentence in settings.unknown_variables():
        _complain(sentence)
    logging.basicConfig(
        level=loaded.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    return loaded


def _complain(message: str) -> None:
    err.print(Text(f"llmscope: {message}"), soft_wrap=True)


def _fail(message: str) -> NoReturn:
    _complain(message)
    raise typer.Exit(2)


def _say(message: str) -> None:
    out.print(Text(message), soft_wrap=True)


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop; a start that fails is one sentence and exit code 2, and Ctrl-C is the way to end it."""
    import uvloop

    from llmscope.opening import StartError

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
    except StartError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@cli.command()
def up(
    target: Targets = None,
    model: Models = None,
    demo: Annotated[
        bool | None, typer.Option("--demo", help="Watch a simulated server with incidents.")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option("--scenario", help="What the simulator goes through; see `simulate --help`.")
    ] = None,
    interval: Interval = None,
    timeout: Timeout = None,
    prompt: Prompt = None,
    num_predict: NumPredict = None,
    probe_when: ProbeWhen = None,
    db: Database = None,
    spool: Spool = None,
    host: Host = None,
    port: Port = None,
    root_path: RootPath = None,
    insecure: Insecure = None,
    budget: AlarmBudget = None,
    min_change: MinChange = None,
    rules: Rules = None,
    learn: Learn = None,
    watched: Watched = None,
    slo: Slo = None,
    keep_raw: KeepRaw = None,
    keep_minutes: KeepMinutes = None,
    config: Config = None,
    log_level: LogLevel = None,
) -> None:
    """Watch a model: API, dashboard and monitor in one process, on http://127.0.0.1:8081.

    Without --target it watches the Ollama of OLLAMA_HOST, else the one at http://localhost:11434, and of its
    models the loaded one. When no Ollama answers there it watches a simulated server, says so, and switches
    as soon as Ollama appears.

    Examples:

        llmscope up

        llmscope up --target http://localhost:11434 --model llama3.1:8b

        llmscope up -t http://gpu1:8000/v1 -m qwen -t http://gpu2:11434 -m llama3

        llmscope up --demo
    """
    from llmscope import app

    loaded = _load(
        config,
        target=target,
        model=model,
        demo=demo,
        scenario=scenario,
        interval=interval,
        timeout_s=timeout,
        prompt=prompt,
        num_predict=num_predict,
        probe_when=probe_when,
        db=db,
        spool=spool,
        host=host,
        port=port,
        root_path=root_path,
        insecure=insecure,
        log_level=log_level,
        budget=budget,
        min_change=min_change,
        rules=rules,
        learn=learn,
        watched=watched,
        slo=slo,
        keep_raw=keep_raw,
        keep_minutes=keep_minutes,
    )
    _run(app.run_up(loaded, _say))


@cli.command()
def serve(
    host: Host = None,
    port: Port = None,
    root_path: RootPath = None,
    db: Database = None,
    insecure: Insecure = None,
    budget: AlarmBudget = None,
    min_change: MinChange = None,
    rules: Rules = None,
    learn: Learn = None,
    watched: Watched = None,
    slo: Slo = None,
    keep_raw: KeepRaw = None,
    keep_minutes: KeepMinutes = None,
    config: Config = None,
    log_level: LogLevel = None,
) -> None:
    """API and dashboard only, on http://127.0.0.1:8000; observations come from `llmscope monitor` or others.

    Example:

        llmscope serve --port 9000 --db /var/lib/llmscope/llmscope.db
    """
    from llmscope import app

    loaded = _load(
        config,
        host=host,
        port=port,
        root_path=root_path,
        db=db,
        insecure=insecure,
        log_level=log_level,
        budget=budget,
        min_change=min_change,
        rules=rules,
        learn=learn,
        watched=watched,
        slo=slo,
        keep_raw=keep_raw,
        keep_minutes=keep_minutes,
    )
    _run(app.run_serve(loaded, _say))


@cli.command()
def monitor(
    api: Api = None,
    target: Targets = None,
    model: Models = None,
    interval: Interval = None,
    timeout: Timeout = None,
    prompt: Prompt = None,
    num_predict: NumPredict = None,
    probe_when: ProbeWhen = None,
    spool: Spool = None,
    standby: Annotated[
        bool | None,
        typer.Option("--standby", help="Wait while another monitor uses the spool; then take over."),
    ] = None,
    alive_file: Annotated[
        Path | None,
        typer.Option("--alive-file", metavar="FILE", help="Touched every 10 s, for health checks."),
    ] = None,
    config: Config = None,
    log_level: LogLevel = None,
) -> None:
    """The monitor only: probes, and posts to an API. Keeps on disk what it cannot deliver.

    Example:

        llmscope monitor --api http://llmscope:8000 --target http://localhost:11434
    """
    from llmscope import app

    loaded = _load(
        config,
        api=api,
        target=target,
        model=model,
        interval=interval,
        timeout_s=timeout,
        prompt=prompt,
        num_predict=num_predict,
        probe_when=probe_when,
        spool=spool,
        standby=standby,
        alive_file=alive_file,
        log_level=log_level,
    )
    _run(app.run_monitor(loaded, _say))


@cli.command()
def simulate(
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 picks a free one.")] = 11434,
    scenario: Annotated[
        str,
        typer.Option(
            help="steady, cold-start, drift (+50 % over 10 min), shift (+30 %), spikes, contention (queue), "
            "gpu-throttle (slower decode), outage, or demo (some of each)."
        ),
    ] = "demo",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """A simulated Ollama server alone, to try LLMscope or your own client on. Ctrl-C ends it.

    Example:

        llmscope simulate --port 11500 --scenario shift
    """
    from llmscope.simulator import SCENARIOS
    from llmscope.simulator import serve as serve_simulator

    if scenario not in SCENARIOS:
        _fail(f"--scenario must be one of {', '.join(SCENARIOS)} (it is {scenario!r})")
    try:
        _run(serve_simulator(host, port, scenario, _say))
    except OSError as error:
        _fail(f"cannot listen on port {port} of {host} ({error.strerror or error}); pass another --port")


cli.command()(offline.analyze)
cli.command()(offline.backtest)
cli.command()(upkeep.backup)
cli.command()(upkeep.restore)
cli.command()(upkeep.repair)
cli.command()(transfer.export)
cli.command("import")(transfer.import_)
cli.add_typer(credentials.tokens, name="token")


@cli.command()
def doctor(
    target: Targets = None,
    model: Models = None,
    db: Database = None,
    spool: Spool = None,
    api: Api = None,
    host: Host = None,
    port: Port = None,
    insecure: Insecure = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check target, model, database, GPU, port and version; one line each, with what to do.

    Changes nothing. Exits with 1 when something is wrong.

    Examples:

        llmscope doctor

        llmscope doctor --target http://gpu-box:8000/v1 --model my-model --json
    """
    import json

    from llmscope.doctor import examine

    loaded = _load(
        config,
        target=target,
        model=model,
        db=db,
        spool=spool,
        api=api,
        host=host,
        port=port,
        insecure=insecure,
    )
    checks = asyncio.run(examine(loaded))
    if as_json:
        typer.echo(json.dumps([check.document() for check in checks], indent=2))
    else:
        marks = {"ok": ("✓", "green"), "note": ("!", "yellow"), "wrong": ("✗", "red")}
        for check in checks:
            mark, colour = marks[check.state]
            line = Text.assemble((f"{mark} ", colour), (f"{check.what:<10}", "bold"), check.said)
            if check.remedy:
                line.append(f"  → {check.remedy}")
            out.print(line, soft_wrap=True)
    if any(check.state == "wrong" for check in checks):
        raise typer.Exit(1)


def main() -> None:
    """The entry point: runs a command, and says what was wrong with the line in one sentence."""
    try:
        code = cli(standalone_mode=False)
    except TyperException as error:
        if message := error.format_message().replace(": Input should be", ": it must be"):
            _complain(f"{message[0].lower()}{message[1:].rstrip('.')}; see llmscope --help")
        code = error.exit_code
    except Abort:
        code = 130
    sys.exit(code or 0)
