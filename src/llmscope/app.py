"""The composition root: builds the parts from the settings, joins them, and runs them until told to stop."""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import uvicorn

from llmscope import __version__, documents
from llmscope.api import Parts, create_app
from llmscope.api.below import Below
from llmscope.api.stream import status_frame
from llmscope.engine import Engine
from llmscope.host import HostSampler
from llmscope.ingest import Ingest
from llmscope.live import Hub, frame
from llmscope.monitor import Monitor
from llmscope.observation import METRICS, Observation
from llmscope.outbox import DirectTransport, HttpTransport, Outbox, Spool, SpoolInUse, Transport
from llmscope.probe import Target, Unreachable, find_target, open_session
from llmscope.rolling import Roller
from llmscope.settings import Settings, TargetSetting
from llmscope.spc.calibration import Budget
from llmscope.spc.chart import EARLY_FITS, Plan
from llmscope.store import SchemaTooNew, open_store

if TYPE_CHECKING:
    from llmscope.simulator import Simulator

log = logging.getLogger(__name__)

DASHBOARD = Path(__file__).parent / "dashboard"
LOOK_AGAIN_S = 30.0  # how often a missing Ollama is looked for while the simulator stands in
WAIT_FOR_TARGET_S = 5.0  # how often a named target that does not answer is tried, until its model is known
SYSTEM_EVERY_S = 2.0
ALIVE_EVERY_S = 10.0  # a health check may call a monitor dead that has not touched its file for a minute
STANDBY_LOOKS_S = 5.0
STANDBY_LOOKS = (
    8  # at so many in a row the spool must be free: a monitor that only restarts has it back before
)

Say = Callable[[str], None]


class StartError(Exception):
    """Something a person can mend keeps LLMscope from starting; the message says what and how."""


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

    def document(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "mode": self.mode,
            "notice": self.notice,
            "simulated": any(t.source == "simulator" for t in self.targets),
            "targets": [
                {
                    "provider": t.provider,
                    "model": t.model,
                    "server": t.server,
                    "source": t.source,
                    "url": t.base_url,
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
        await super().shutdown(sockets)


def _clock_us() -> int:
    return time.time_ns() // 1000


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: turns Nagle off
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} on {host} is in use, perhaps by another LLMscope; stop it, or pass --port"
            ) from None
        why = error.strerror or error
        raise StartError(f"cannot listen on {host}:{port}: {why}; pass another --host or --port") from None
    listening.setblocking(False)
    return listening


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


@contextlib.asynccontextmanager
async def _serving(settings: Settings, state: State, host: HostSampler, port: int) -> AsyncIterator[Parts]:
    """The API and the page over the database, from the first answer to the last write."""
    listening = _listen(settings.host, port)
    try:
        store = open_store(settings.db, _clock_us)
    except SchemaTooNew as error:
        listening.close()
        raise StartError(f"{settings.db}: {error}") from None
    except (sqlite3.Error, OSError) as error:
        listening.close()
        raise StartError(
            f"cannot open the database {settings.db}: {error}; pass another file with --db"
        ) from None
    hub = Hub()
    engine = Engine(tuple(settings.watched), plan_of(settings), charted=tuple(METRICS))
    ingest = Ingest(store, engine, hub, _clock_us)
    ingest.restore()
    roller = Roller(store)
    parts = Parts(
        store=store,
        engine=engine,
        ingest=ingest,
        hub=hub,
        clock_us=_clock_us,
        about=state.document,
        system=lambda: _system(host),
        dashboard=DASHBOARD,
    )
    config = uvicorn.Config(
        Below(settings.root_path, create_app(parts)) if settings.root_path else create_app(parts),
        log_level="warning",
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
        await _end(tasks)
        ingest.stop()
        await roller.finish()
        store.close()
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
        "time": documents.time_text(_clock_us()),
        "host": socket.gethostname(),
        **load.document(),
    }


async def _tell_state(parts: Parts) -> None:
    """Tell listeners how the host stands every 2 s, and a series' status when it changes."""
    told: dict[int, str] = {}
    about = b""
    while True:
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
            async with _monitoring(settings, state, host, HttpTransport(settings.api, http), say):
                say(
                    f"LLMscope {__version__} monitor: posting to {settings.api} every {settings.interval:g} s"
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
                    await parts.ingest.accept(observations, sender, first_seq)

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
    async with outbox, open_session() as http:
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
        self._say = say
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
                notice = f"{why} Looking again every {WAIT_FOR_TARGET_S:g} s."
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
        self._state.notice = notice
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
