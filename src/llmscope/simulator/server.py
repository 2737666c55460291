"""The simulated Ollama's HTTP interface, and the incidents that no request can play: evictions and outages.

The durations that it reports are those that really passed, so they agree with the client's wall clock.
"""

import asyncio
import contextlib
import ipaddress
import math
import random
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import hdrs, web

from llmscope.simulator.answers import (
    FOR_EVER_NS,
    JSON,
    Chat,
    Dialect,
    Generate,
    OpenAIChat,
    dump,
    in_memory,
    openai_error,
    openai_model,
    shown,
    tag,
)
from llmscope.simulator.machine import CRASHED, Clock, Job, Machine, RunnerCrashed
from llmscope.simulator.model import MODELS, Model
from llmscope.simulator.requests import (
    Refusal,
    check_format,
    is_local_host,
    parse_body,
    parse_keep_alive,
    parse_options,
    prompt_of,
)
from llmscope.simulator.scenarios import SCENARIOS, Incident, Scenario

VERSION = "0.33.0"
WATCH_EVERY_S = 0.05  # of the script
BODY_LIMIT_BYTES = 64 << 20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Simulator:
    """A simulated Ollama server. `speed` runs its script and its work that many times faster, for tests."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        models: Sequence[Model] = MODELS,
        seed: int = 1,
        speed: float = 1.0,
        num_parallel: int = 1,
        max_queue: int = 512,
        max_loaded: int = 3,
        monotonic: Clock = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.scenario = scenario
        self.models = {model.name: model for model in models}
        self._speed = speed
        self._rng = random.Random(seed)
        self._monotonic = monotonic
        self._wall_ns = wall_ns
        self._on_event = on_event or (lambda _said: None)
        self._machine = Machine(
            rng=self._rng,
            effect=lambda: scenario.effect_at(self.seconds()),
            monotonic=monotonic,
            speed=speed,
            num_parallel=num_parallel,
            max_queue=max_queue,
            max_loaded=max_loaded,
        )
        self._own_names = frozenset({socket.gethostname().lower()})
        self._started = 0.0
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._watching: asyncio.Task[None] | None = None
        self._address = ("127.0.0.1", 0)

    # -- life

    @property
    def url(self) -> str:
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def seconds(self) -> float:
        """How far into its script it is."""
        return (self._monotonic() - self._started) * self._speed

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; returns the port. Raises OSError when it is taken."""
        app = web.Application(
            middlewares=[self._only_local, _in_ollamas_words], client_max_size=BODY_LIMIT_BYTES
        )
        app.on_response_prepare.append(_unsigned)
        routes: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "/", self._root),
            ("HEAD", "/", self._root),
            ("GET", "/api/version", self._version),
            ("GET", "/api/tags", self._tags),
            ("GET", "/api/ps", self._ps),
            ("POST", "/api/show", self._show),
            ("POST", "/api/generate", self._generate),
            ("POST", "/api/chat", self._chat),
            ("GET", "/v1/models", self._openai_models),
            ("POST", "/v1/chat/completions", self._openai_chat),
        )
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
        # handler_cancellation: a client that hangs up ends its generation at once, as on a real server
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        self._address = (host, port)
        try:
            await self._listen()
        except OSError:
            await self._runner.cleanup()
            raise
        self._started = self._monotonic()
        self._watching = asyncio.create_task(self._watch())
        return self._address[1]

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        if self._runner is not None:
            await self._runner.cleanup()

    async def _listen(self) -> None:
        assert self._runner is not None
        site = web.TCPSite(self._runner, *self._address, reuse_address=True)
        try:
            await site.start()
        except OSError:
            with contextlib.suppress(RuntimeError):
                await site.stop()
            raise
        self._site = site
        if self._address[1] == 0:
            self._address = (self._address[0], self._runner.addresses[0][1])

    async def _refuse(self) -> None:
        """Stop listening and cut every connection, as when the process is killed; memory is lost."""
        assert self._site is not None
        assert self._runner is not None
        assert self._runner.server is not None
        site, self._site = self._site, None
        await site.stop()
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        self._machine.unload_all()

    async def _watch(self) -> None:
        """Evict models, stop and resume listening, and say what begins and ends."""
        before: tuple[Incident, ...] = ()
        while True:
            seconds = self.seconds()
            now = self.scenario.current(seconds)
            for incident in now:
                if incident not in before:
                    self._on_event(f"{seconds:7.0f} s  begins: {incident.title}")
                    if incident.effect.evicted:
                        self._machine.unload_all()
            for incident in before:
                if incident not in now and incident.length_s > 1.0:
                    self._on_event(f"{seconds:7.0f} s  over:   {incident.title}")
            before = now
            is_refused = any(incident.effect.refused for incident in now)
            if is_refused and self._site is not None:
                await self._refuse()
            elif not is_refused and self._site is None:
                with contextlib.suppress(OSError):  # somebody else has the port for the moment: try again
                    await self._listen()
            await asyncio.sleep(WATCH_EVERY_S / self._speed)

    # -- what is there

    async def _root(self, _request: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def _version(self, _request: web.Request) -> web.Response:
        return _json({"version": VERSION})

    async def _tags(self, _request: web.Request) -> web.Response:
        return _json({"models": [tag(model) for model in self.models.values()]})

    async def _ps(self, _request: web.Request) -> web.Response:
        listed = []
        for runner in self._machine.loaded():
            left_s = self._machine.seconds_left(runner)
            left_ns = FOR_EVER_NS if math.isinf(left_s) else int(left_s * 1e9)
            listed.append(in_memory(runner.model, runner.num_ctx, self._wall_ns() + left_ns))
        return _json({"models": listed})

    async def _show(self, request: web.Request) -> web.Response:
        name = str(parse_body(await request.read()).get("model") or "")
        full_name = name if ":" in name else f"{name}:latest"
        model = self.models.get(full_name)
        if model is None:
            raise Refusal(404, f"model '{full_name}' not found")
        return _json(shown(model))

    async def _openai_models(self, _request: web.Request) -> web.Response:
        listed = [openai_model(model) for model in self.models.values()]
        return _json({"object": "list", "data": listed}, OpenAIChat.json_type)

    def _find(self, name: str) -> Model:
        model = self.models.get(name if ":" in name else f"{name}:latest")
        if model is None:
            raise Refusal(404, f"model '{name}' not found")
        return model

    # -- answers

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        return await self._native(request, Generate())

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._native(request, Chat())

    async def _native(self, request: web.Request, dialect: Generate) -> web.StreamResponse:
        body = parse_body(await request.read())
        keep_alive_s = parse_keep_alive(body.get("keep_alive"))
        name = str(body.get("model") or "")
        model = self._find(name)
        prompt = prompt_of(body)
        if not prompt and keep_alive_s == 0.0:
            self._machine.unload(model)
            return _json(dialect.empty(name, "unload", self._wall_ns()))
        if body.get("think"):
            raise Refusal(400, f'"{name}" does not support thinking')
        job = self._machine.job(model, prompt, parse_options(body), keep_alive_s)
        if not prompt:
            async with self._machine.hold(job):
                return _json(dialect.empty(name, "load", self._wall_ns()))
        is_stream = body.get("stream") is not False
        return await self._answer(request, body, name, job, dialect, is_stream=is_stream)

    async def _openai_chat(self, request: web.Request) -> web.StreamResponse:
        body = parse_body(await request.read(), when_empty="EOF")
        name = str(body.get("model") or "")
        if not body.get("messages"):
            raise Refusal(400, "[] is too short - 'messages'")
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        options = {"num_predict": limit, "temperature": body.get("temperature", 1.0)}
        job = self._machine.job(self._find(name), prompt_of(body), parse_options({"options": options}), None)
        dialect = OpenAIChat(
            self._rng.randrange(1000),
            self._wall_ns() // 1_000_000_000,
            with_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        )
        return await self._answer(request, {}, name, job, dialect, is_stream=body.get("stream") is True)

    async def _answer(
        self,
        request: web.Request,
        body: dict[str, Any],
        name: str,
        job: Job,
        dialect: Dialect,
        *,
        is_stream: bool,
    ) -> web.StreamResponse:
        """Load, wait, read and write; the status stays open until there is a first token to send."""
        said: list[str] = []
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: dialect.stream_type})
        try:
            async with self._machine.hold(job) as runner:
                check_format(body)
                async with contextlib.aclosing(self._machine.generate(job, runner)) as tokens:
                    async for token in tokens:
                        said.append(token)
                        if is_stream:
                            if not response.prepared:
                                await response.prepare(request)
                            await response.write(dialect.piece(name, token, self._wall_ns()))
        except RunnerCrashed:
            if not response.prepared:
                raise Refusal(500, CRASHED) from None
            await response.write(dialect.broken())
            await response.write_eof()
            return response
        now, now_ns = self._monotonic(), self._wall_ns()
        if not is_stream:
            return _json(dialect.whole(name, "".join(said), job, now, now_ns), dialect.json_type)
        await response.write(dialect.last(name, job, now, now_ns))
        await response.write_eof()
        return response

    # -- around every request

    @web.middleware
    async def _only_local(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Bound to loopback, a strange Host is answered 403 with nothing; bound elsewhere, all are welcome."""
        if _is_loopback(self._address[0]) and not is_local_host(request.host, self._own_names):
            return web.Response(status=403)
        return await handler(request)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@web.middleware
async def _in_ollamas_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        if request.path.startswith("/v1/"):
            document = openai_error(refusal.status, refusal.message)
            return _json(document, OpenAIChat.json_type, refusal.status)
        return _json({"error": refusal.message}, status=refusal.status)
    except web.HTTPNotFound:
        return web.Response(status=404, body=b"404 page not found", content_type="text/plain")
    except web.HTTPMethodNotAllowed:
        return web.Response(status=405, body=b"405 method not allowed", content_type="text/plain")


async def _unsigned(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """A real server does not say what it is made of."""
    response.headers.popall(hdrs.SERVER, None)


def _json(document: dict[str, Any], content_type: str = JSON, status: int = 200) -> web.Response:
    return web.Response(status=status, body=dump(document), headers={hdrs.CONTENT_TYPE: content_type})


async def serve(host: str, port: int, scenario: str, on_event: Callable[[str], None]) -> None:
    """Run the simulator until cancelled or told by SIGTERM; says its address and each incident.

    Raises OSError, KeyError.
    """
    simulator = Simulator(SCENARIOS[scenario], on_event=on_event)
    await simulator.start(host, port)
    try:
        on_event(f"Simulated Ollama at {simulator.url}, scenario {scenario}: {simulator.scenario.title}")
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, ended.set
        )  # nobody else does, as process 1
        await ended.wait()
    finally:
        await simulator.stop()
