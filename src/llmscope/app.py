"""The composition root: builds the parts from the settings, joins them, and runs them until told to stop."""

import asyncio
import contextlib
import errno
import logging
import resource
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import uvicorn

from llmscope import __version__, documents
from llmscope.access import Access, Password, Session, Sessions, Token, Tokens, digest_of, read_key
from llmscope.api import Parts, create_app
from llmscope.api.below import Below
from llmscope.api.connection import Connection, listen
from llmscope.api.forwarded import Forwarded
from llmscope.api.stream import status_frame
from llmscope.engine import Engine
from llmscope.host import HostSampler
from llmscope.ingest import Ingest, NotStored
from llmscope.live import Hub, frame
from llmscope.monitor import Monitor
from llmscope.observation import METRICS, Observation
from llmscope.opening import Say, StartError, clock_us, open_database
from llmscope.outbox import DirectTransport, HttpTransport, NotDelivered, Outbox, Spool, SpoolInUse, Transport
from llmscope.probe import Target, Unreachable, find_target, open_session
from llmscope.rolling import Roller
from llmscope.settings import Settings, TargetSetting, without_passwords
from llmscope.spc.calibration import Budget
from llmscope.spc.chart import EARLY_FITS, Plan
from llmscope.store import Keep, SchemaTooNew, Store, end_session, ended_sessions, opened_tokens

if TYPE_CHECKING:
    from llmscope.simulator import Simulator

log = logging.getLogger(__name__)

DASHBOARD = Path(__file__).parent / "dashboard"
LOOK_AGAIN_S = 30.0  # how often a missing Ollama is looked for while the simulator stands in
WAIT_FOR_TARGET_S = 5.0  # how often a named target that does not answer is tried, until its model is known
SYSTEM_EVERY_S = 2.0
MAX_CONNECTIONS = 3_000  # then 503; a listener of the live stream is one
LISTENERS_GO_WITHIN_S = (
    0.5  # at a stop: one that has not read by then is stuck, and comes back with its cursor
)
MOST_FILES = 65_536
ALIVE_EVERY_S = 10.0  # a health check may call a monitor dead that has not touched its file for a minute
STANDBY_LOOKS_S = 5.0
STANDBY_LOOKS = (
    8  # at so many in a row the spool must be free: a monitor that only restarts has it back before
)


@dataclass(slots=True)
class State:
    """What `GET /api/about` tells, as it changes."""

    mode: str
    interval_s: float | None
    budget: str
    min_change_percent: float
    slo: Sequence[dict[str, Any]] = ()
    docs: str = "/docs"
    notice: str | None = None
    targets: list[Target] = field(default_factory=list)

    def document(self, trouble: str | None = None) -> dict[str, Any]:
        """`trouble` with the storage is told before anything else."""
        return {
            "version": __version__,
            "mode": self.mode,
            "notice": trouble or self.notice,
            "simulated": any(t.source == "simulator" for t in self.targets),
            "targets": [
                {
                    "provider": t.provider,
                    "model": t.model,
                    "server": t.server,
                    "source": t.source,
                    "url": without_passwords(t.base_url),
                }
                for t in self.targets
            ],
            "interval_s": self.interval_s,
            "provisional_n": EARLY_FITS[0],
            "budget": self.budget,
            "min_change_percent": self.min_change_percent,
            "slo": list(self.slo),
            "docs": self.docs,
        }


def _state(mode: str, interval_s: float | None, settings: Settings) -> State:
    slo = [promise.model_dump() for promise in settings.slo]
    return State(
        mode, interval_s, settings.budget, 100.0 * settings.min_change, slo, f"{settings.root_path}/docs"
    )


def plan_of(settings: Settings) -> Plan:
    """How the charts judge, from the settings."""
    return Plan(
        point_rules=settings.rules,
        budget=Budget.parse(settings.budget),
        min_change=settings.min_change,
        learn_us=round(settings.learn * 1e6),
    )


class _Server(uvicorn.Server):
    """Leaves signals to us, and lets the listeners of the live stream go before it waits for connections."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hub.close()
        asyncio.get_running_loop().call_later(LISTENERS_GO_WITHIN_S, self._hub.abort)
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} on {host} is in use, perhaps by another LLMscope; stop it, or pass --port"
            ) from None
        why = error.strerror or error
        raise StartError(f"cannot listen on {host}:{port}: {why}; pass another --host or --port") from None


def _allow_many_connections() -> None:
    """Let this process hold as many open files as the system lets it; the usual 1,024 are soon taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and (soft < hard or hard == resource.RLIM_INFINITY):
        most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _refuse_to_stand_open(settings: Settings) -> None:
    """Raise StartError when others could reach the server and nothing would ask them who they are."""
    if not settings.needs_login or settings.password is not None or settings.ingest_token is not None:
        return
    if settings.db.exists():
        # What is wrong with the database is said when it is opened for good.
        with contextlib.suppress(sqlite3.Error, SchemaTooNew), opened_tokens(settings.db) as tokens:
            if tokens.has_working(clock_us()):
                return
    raise StartError(
        f"others than this machine could reach {settings.exposed_on}, and there is no login: set LLMSCOPE_PASSWORD "
        '(or LLMSCOPE_PASSWORD_FILE), make a token with "llmscope token create", or pass --insecure to let everybody '
        "on a trusted network in"
    )


def _access(settings: Settings, store: Store) -> Access:
    """Who may do what, from the settings and the tokens in the database. Raises StartError."""
    exposed_on, password = settings.exposed_on, settings.password
    ingest = settings.ingest_token
    fixed = {}
    if ingest is not None:
        fixed[digest_of(ingest.get_secret_value())] = Token(0, "LLMSCOPE_INGEST_TOKEN", "ingest", 0)
    sessions = None
    if password is not None:
        path = settings.db.with_name(f"{settings.db.name}.key")
        try:
            key = read_key(path)
        except OSError as error:
            raise StartError(f"cannot keep the key of sessions in {path}: {error}") from None
        sessions = Sessions(
            key,
            password.get_secret_value(),
            settings.login_lasts,
            clock_us,
            ended_sessions(store.read(), clock_us()),
        )

    def ended(session: Session) -> None:
        store.write(
            lambda connection: end_session(connection, session.id, session.expires_us, clock_us()),
            lambda _error: None,  # the writer logs it; in this process the session is over
        )

    names_anyone = exposed_on is not None and not settings.allowed_hosts
    return Access(
        login=settings.needs_login,
        password=None if password is None else Password(password.get_secret_value()),
        sessions=sessions,
        tokens=Tokens(store.tokens.find, clock_us, time.monotonic, fixed),
        hosts=None if names_anyone else settings.allowed_hosts,
        on_ended=ended,
    )


@contextlib.asynccontextmanager
async def _stopped_by_signal() -> AsyncIterator[asyncio.Event]:
    """An event that SIGINT or SIGTERM sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _keep(settings: Settings) -> Keep:
    return Keep.of_seconds(settings.keep_raw, settings.keep_minutes)


@contextlib.asynccontextmanager
async def taking_in(settings: Settings, say: Say) -> AsyncIterator[Ingest]:
    """The one door for observations without a server before it. Raises StartError."""
    opened = open_database(settings.db, _keep(settings), say)
    try:
        engine = Engine(tuple(settings.watched), plan_of(settings), charted=tuple(METRICS))
        ingest = Ingest(opened.store, engine, Hub(), clock_us)
        ingest.restore()
        yield ingest
        ingest.stop()
        await Roller(opened.store).finish()
    finally:
        opened.close()


@contextlib.asynccontextmanager
async def _serving(settings: Settings, state: State, host: HostSampler, port: int) -> AsyncIterator[Parts]:
    """The API and the page over the database, from the first answer to the last write."""
    _refuse_to_stand_open(settings)
    _allow_many_connections()
    listening = _listen(settings.host, port)
    try:
        opened = open_database(settings.db, _keep(settings))
    except StartError:
        listening.close()
        raise
    store = opened.store
    try:
        access = _access(settings, store)
    except StartError:
        listening.close()
        opened.close()
        raise
    hub = Hub()
    engine = Engine(tuple(settings.watched), plan_of(settings), charted=tuple(METRICS))
    ingest = Ingest(store, engine, hub, clock_us)
    ingest.restore()
    roller = Roller(store)
    parts = Parts(
        store=store,
        engine=engine,
        ingest=ingest,
        hub=hub,
        clock_us=clock_us,
        about=lambda: state.document(opened.trouble),
        system=lambda: _system(host),
        dashboard=DASHBOARD,
        access=access,
    )
    served = create_app(parts)
    if settings.trusted_proxies:
        served = Forwarded(served, settings.trusted_proxies)
    config = uvicorn.Config(
        Below(settings.root_path, served) if settings.root_path else served,
        http=Connection,
        ws="none",
        proxy_headers=False,  # `Forwarded` does that, and only for proxies that are named
        limit_concurrency=MAX_CONNECTIONS,
        log_level="error",  # a line for every broken request would let strangers fill the disk
        access_log=False,  # costs 39 % of the throughput
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    server = _Server(config, hub)
    tasks = [
        asyncio.create_task(ingest.run()),
        asyncio.create_task(roller.run()),
        asyncio.create_task(_tell_state(parts)),
    ]
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started:
            if serving.done():
                await serving
                raise StartError("the server did not start; its log says why")
            await asyncio.sleep(0.005)
        yield parts
    finally:
        server.should_exit = True
        await serving
        await parts.end()
        await _end(tasks)
        ingest.stop()
        await roller.finish()
        opened.close()
        listening.close()


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            log.error("a task had ended with %r", result)


def _system(host: HostSampler) -> dict[str, Any]:
    load = host.sample()
    return {
        "time": documents.time_text(clock_us()),
        "host": socket.gethostname(),
        **load.document(),
    }


async def _tell_state(parts: Parts) -> None:
    """Tell listeners how the host stands every 2 s, and a series' status when it changes."""
    told: dict[int, str] = {}
    about = b""
    while True:
        if parts.store.fault is not None:  # so that the notice goes when there is room again
            parts.store.touch(lambda _error: None)
        if len(parts.hub):
            parts.hub.publish(frame("system", orjson.dumps(parts.system())), {})
            now = orjson.dumps(parts.about())
            if now != about:
                parts.hub.publish(frame("about", now), {})
            about = now
            metric = parts.engine.alarmed[0]
            for series in parts.store.series.values():
                chart = parts.engine.chart(series.id, metric)
                state = documents.status_document(series, chart, parts.clock_us())["state"]
                if told.get(series.id) != state:
                    told[series.id] = state
                    parts.hub.publish(status_frame(parts, series, metric), documents.name_document(series))
        await asyncio.sleep(SYSTEM_EVERY_S)


# -- the commands


async def run_serve(settings: Settings, say: Say) -> None:
    """API and dashboard until SIGINT or SIGTERM. Raises StartError."""
    port = settings.port or 8000
    state = _state("serve", None, settings)
    async with _stopped_by_signal() as stop:
        with HostSampler() as host:
            async with _serving(settings, state, host, port):
                _say_where(settings, port, say)
                await stop.wait()


async def run_monitor(settings: Settings, say: Say) -> None:
    """Probe the targets and post to the API until SIGINT or SIGTERM. Raises StartError."""
    state = _state("monitor", settings.interval, settings)
    shown_alive = _shown_alive(settings.alive_file) if settings.alive_file else contextlib.nullcontext()
    async with _stopped_by_signal() as stop, shown_alive, aiohttp.ClientSession() as http:
        if settings.standby:
            await _stand_by(settings.spool, stop, say)
            if stop.is_set():
                return
        with HostSampler() as host:
            token = settings.token.get_secret_value() if settings.token else None
            async with _monitoring(settings, state, host, HttpTransport(settings.api, http, token), say):
                say(
                    f"LLMscope {__version__} monitor: posting to {without_passwords(settings.api)} every "
                    f"{settings.interval:g} s"
                )
                await stop.wait()


@contextlib.asynccontextmanager
async def _shown_alive(path: Path) -> AsyncIterator[None]:
    """Touches a file while the event loop turns: what a health check of a program without a port can look at."""

    def touch() -> None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    async def touch_again() -> None:
        while True:
            touch()
            await asyncio.sleep(ALIVE_EVERY_S)

    touching = asyncio.create_task(touch_again())
    try:
        yield
    finally:
        await _end([touching])


async def _stand_by(spool: Path, stop: asyncio.Event, say: Say) -> None:
    """Wait until no other monitor uses the spool, or until `stop`. One that was seen must be gone for a while."""
    looks_left = 1
    while not stop.is_set():
        try:
            Spool(spool).close()
        except SpoolInUse:
            if looks_left == 1:
                say(f"Standing by: another monitor uses {spool}.")
            looks_left = STANDBY_LOOKS
        except (sqlite3.Error, OSError):
            return  # whoever opens it next says what is wrong
        else:
            looks_left -= 1
            if looks_left == 0:
                return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), STANDBY_LOOKS_S)


async def run_up(settings: Settings, say: Say) -> None:
    """API, dashboard and monitor in one process until SIGINT or SIGTERM. Raises StartError."""
    port = settings.port or 8081
    state = _state("up", settings.interval, settings)
    async with _stopped_by_signal() as stop:
        with HostSampler() as host:
            async with _serving(settings, state, host, port) as parts:

                async def deliver(observations: list[Observation], sender: str, first_seq: int) -> None:
                    try:
                        await parts.ingest.accept(observations, sender, first_seq)
                    except NotStored as error:
                        raise NotDelivered(str(error)) from None

                _say_where(settings, port, say)
                async with _monitoring(settings, state, host, DirectTransport(deliver), say):
                    await stop.wait()


def _say_where(settings: Settings, port: int, say: Say) -> None:
    say(
        f"LLMscope {__version__} at http://{_shown(settings.host)}:{port}{settings.root_path}  (data in {settings.db})"
    )


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextlib.asynccontextmanager
async def _monitoring(
    settings: Settings, state: State, host: HostSampler, transport: Transport, say: Say
) -> AsyncIterator[None]:
    """A running monitor that finds its targets by itself."""
    try:
        outbox = Outbox(settings.spool, transport, on_event=say)
    except (SpoolInUse, sqlite3.Error, OSError) as error:
        raise StartError(
            f"cannot use the spool {settings.spool}: {error}; pass another file with --spool"
        ) from None
    async with outbox, open_session(settings.allow_link_local) as http:
        monitor = Monitor([], http, outbox, host, interval_s=settings.interval, on_event=say)
        finder = _Finder(settings, state, monitor, http, say)
        tasks = [asyncio.create_task(monitor.run()), asyncio.create_task(finder.find())]
        try:
            yield
        finally:
            await _end(tasks)
            await finder.close()


class _Finder:
    """Finds the targets: the named ones, else Ollama, else the simulator until Ollama appears."""

    def __init__(
        self, settings: Settings, state: State, monitor: Monitor, http: aiohttp.ClientSession, say: Say
    ) -> None:
        self._settings = settings
        self._state = state
        self._monitor = monitor
        self._http = http
        self._say: Say = lambda text: say(without_passwords(text))
        self._simulator: Simulator | None = None  # imported only when it is needed

    async def find(self) -> None:
        settings = self._settings
        if settings.demo:
            await self._simulate("Simulated server (--demo).")
        elif settings.target_named:
            await asyncio.gather(*(self._wait_for(named) for named in settings.targets))
        else:
            (default,) = settings.targets
            try:
                self._add(await self._resolve(default))
            except Unreachable as why:
                reason = "" if why.kind == "refused" else why.in_brackets
                await self._simulate(
                    f"Simulated server. No Ollama at {default.url}{reason}. Start Ollama, or pass --target."
                )
                await self._switch_when_there(default)

    async def close(self) -> None:
        if self._simulator is not None:
            await self._simulator.stop()
            self._simulator = None

    async def _resolve(self, setting: TargetSetting) -> Target:
        """The target with its protocol and model. Raises Unreachable."""
        settings = self._settings
        return await find_target(
            setting.url,
            self._http,
            model=setting.model,
            provider=None if setting.provider == "auto" else setting.provider,
            api_key=settings.api_key.get_secret_value() if settings.api_key else None,
            prompt=settings.prompt,
            num_predict=settings.num_predict,
            timeout_s=settings.timeout_s,
            when=settings.probe_when,
        )

    async def _wait_for(self, named: TargetSetting) -> None:
        told = ""
        while True:
            try:
                target = await self._resolve(named)
            except Unreachable as why:
                notice = without_passwords(f"{why} Looking again every {WAIT_FOR_TARGET_S:g} s.")
                if told != notice:
                    self._say(notice)
                self._state.notice = told = notice
                await asyncio.sleep(WAIT_FOR_TARGET_S)
            else:
                if self._state.notice == told:
                    self._state.notice = None
                self._add(target)
                return

    async def _switch_when_there(self, default: TargetSetting) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            try:
                target = await self._resolve(default)
            except Unreachable:
                continue
            self._say(f"Ollama has appeared at {default.url}: switching from the simulator to {target.model}")
            for simulated in list(self._state.targets):
                await self._monitor.remove_target(simulated)
                self._state.targets.remove(simulated)
            await self.close()
            self._state.notice = None
            self._add(target)
            return

    async def _simulate(self, notice: str) -> None:
        from llmscope.simulator import SCENARIOS, Simulator

        simulator = Simulator(SCENARIOS[self._settings.scenario])
        await simulator.start("127.0.0.1", 0)
        self._simulator = simulator
        self._state.notice = without_passwords(notice)
        self._say(notice)
        target = await find_target(
            simulator.url,
            self._http,
            source="simulator",
            server="simulator",
            prompt=self._settings.prompt,
            num_predict=self._settings.num_predict,
            timeout_s=self._settings.timeout_s,
        )
        self._add(target)

    def _add(self, target: Target) -> None:
        self._state.targets.append(target)
        self._monitor.add_target(target)
        self._say(f"Watching {target.model} at {target.base_url} ({target.provider})")
