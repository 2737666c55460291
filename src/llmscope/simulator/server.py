"""The simulated Ollama: its HTTP interface, its queue, its memory, and the incidents of a scenario.

Durations that it reports are those that really passed, in nanoseconds, and they add up: load is the time until
the model is ready, the wait for a slot is in the total only.
"""

import asyncio
import contextlib
import datetime as dt
import json
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from llmscope.simulator.model import MODELS, Model, Pace, answer, tokens_of
from llmscope.simulator.protocol import (
    BUSY,
    KEEP_ALIVE_S,
    Refusal,
    parse_body,
    parse_keep_alive,
    parse_options,
)
from llmscope.simulator.scenarios import SCENARIOS, Incident, Scenario

VERSION = "0.33.0"
AUTO_CONTEXT = 4096
WARM_LOAD_MS = 1.5  # never exactly 0 on a real server
CACHED_PREFILL_MS = 0.7
WATCH_EVERY_S = 0.05
FOR_EVER = "2319-03-05T11:42:06.847175951Z"  # what a real server says of keep_alive -1

Clock = Callable[[], float]


@dataclass(slots=True)
class Loaded:
    """A model in memory: its context length, when it leaves, and the prompt its slot remembers."""

    model: Model
    num_ctx: int
    expires_at: float = math.inf
    last_prompt: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Timing:
    """What passed during one request, seconds on the simulator's clock; None where it did not happen."""

    start: float
    loaded: float = 0.0
    prefill_s: float | None = None
    decode_s: float | None = None
    prompt_tokens: int = 0
    tokens: int = 0

    def document(self, now: float) -> dict[str, int]:
        """The last line's numbers; those that are zero are left out, as Ollama does."""
        numbers = {
            "total_duration": round((now - self.start) * 1e9),
            "load_duration": round((self.loaded - self.start) * 1e9),
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": round((self.prefill_s or 0.0) * 1e9),
            "eval_count": self.tokens,
            "eval_duration": round((self.decode_s or 0.0) * 1e9),
        }
        return {name: number for name, number in numbers.items() if number}


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
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.scenario = scenario
        self.models = {model.name: model for model in models}
        self._speed = speed
        self._rng = random.Random(seed)
        self._pace = Pace(self._rng)
        self._monotonic = monotonic
        self._max_queue = max_queue
        self._max_loaded = max_loaded
        self._on_event = on_event or (lambda _said: None)
        self._slots = asyncio.Semaphore(num_parallel)
        self._loading = asyncio.Lock()
        self._waiting_to_load = 0
        self._loaded: dict[str, Loaded] = {}
        self._started = 0.0
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._watching: asyncio.Task[None] | None = None
        self._address = ("127.0.0.1", 0)

    # -- life

    @property
    def url(self) -> str:
        return f"http://{self._address[0]}:{self._address[1]}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; returns the port. Raises OSError when it is taken."""
        app = web.Application(middlewares=[_in_ollamas_words])
        for method, path, handler in (
            ("GET", "/", self._root),
            ("GET", "/api/version", self._version),
            ("GET", "/api/tags", self._tags),
            ("GET", "/api/ps", self._ps),
            ("POST", "/api/show", self._show),
            ("POST", "/api/generate", self._generate),
            ("POST", "/api/chat", self._chat),
            ("GET", "/v1/models", self._v1_models),
            ("POST", "/v1/chat/completions", self._v1_chat),
        ):
            app.router.add_route(method, path, handler)
        app.router.add_route("HEAD", "/", self._root)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        self._address = (host, port)
        await self._listen()
        self._started = self._monotonic()
        self._watching = asyncio.create_task(self._watch())
        return self._address[1]

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        if self._runner is not None:
            await self._runner.cleanup()

    async def _listen(self) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, *self._address, reuse_address=True)
        await self._site.start()
        if self._address[1] == 0:
            self._address = (self._address[0], self._runner.addresses[0][1])

    def seconds(self) -> float:
        """How far into its script it is."""
        return (self._monotonic() - self._started) * self._speed

    async def _watch(self) -> None:
        """Do what cannot be done by a request: evict models, stop listening, say what begins and ends."""
        going_on: tuple[Incident, ...] = ()
        while True:
            now = self.scenario.current(self.seconds())
            for incident in now:
                if incident not in going_on:
                    self._on_event(f"{self.seconds():7.0f} s  begins: {incident.title}")
                    if incident.effect.evicted:
                        self._loaded.clear()
            for incident in going_on:
                if incident not in now and incident.length_s > 1.0:
                    self._on_event(f"{self.seconds():7.0f} s  over:   {incident.title}")
            going_on = now
            refused = any(incident.effect.refused for incident in now)
            if refused and self._site is not None:
                site, self._site = self._site, None
                await site.stop()
            elif not refused and self._site is None:
                await self._listen()
            await asyncio.sleep(WATCH_EVERY_S / self._speed)

    async def _spend(self, ms: float) -> None:
        await asyncio.sleep(ms / 1000.0 / self._speed)

    # -- memory and queue

    def _expire(self) -> None:
        now = self._monotonic()
        for name in [name for name, held in self._loaded.items() if held.expires_at <= now]:
            del self._loaded[name]

    def _find(self, name: str) -> Model:
        model = self.models.get(name) or self.models.get(f"{name}:latest")
        if model is None:
            raise Refusal(404, f"model '{name}' not found")
        return model

    async def _load(self, model: Model, options: dict[str, Any], keep_alive: float | None) -> Loaded:
        """The model in memory with the asked-for context; waits for its turn when it must be (re)loaded."""
        num_ctx = int(options.get("num_ctx") or AUTO_CONTEXT)
        self._expire()
        held = self._loaded.get(model.name)
        if held is None or held.num_ctx != num_ctx:
            if self._waiting_to_load >= self._max_queue:
                raise Refusal(503, BUSY)
            self._waiting_to_load += 1
            try:
                async with self._loading:
                    held = self._loaded.get(model.name)
                    if held is None or held.num_ctx != num_ctx:
                        await self._spend(model.load_ms * self._pace.next_request())
                        held = Loaded(model, num_ctx)
                        self._loaded[model.name] = held
                        while len(self._loaded) > self._max_loaded:
                            del self._loaded[next(iter(self._loaded))]
            finally:
                self._waiting_to_load -= 1
        else:
            await self._spend(WARM_LOAD_MS)
        keep_s = KEEP_ALIVE_S if keep_alive is None else keep_alive
        held.expires_at = self._monotonic() + keep_s / self._speed
        return held

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """One of the runner's slots, first come first served; others may hold it first."""
        async with self._slots:
            wait_ms = self.scenario.effect_at(self.seconds()).queue_ms
            if wait_ms:
                await self._spend(wait_ms * self._pace.next_request())
            yield

    async def _tokens(
        self, held: Loaded, prompt: str, options: dict[str, Any], timing: Timing
    ) -> AsyncIterator[tuple[str, str]]:
        """The pieces of the answer as they come, each with the reason why it ends so far ("" until it does)."""
        tokens = tokens_of(prompt) or [""]
        effect = self.scenario.effect_at(self.seconds())
        pace = self._pace.next_request()
        timing.prompt_tokens = len(tokens) + 1
        began = self._monotonic()
        known = 0
        while known < min(len(tokens), len(held.last_prompt)) and tokens[known] == held.last_prompt[known]:
            known += 1
        held.last_prompt = tokens
        new = len(tokens) - known
        prefill_ms = new * held.model.prefill_ms_per_token * pace * effect.prefill
        await self._spend(max(prefill_ms, CACHED_PREFILL_MS))
        timing.prefill_s = self._monotonic() - began
        limit = options.get("num_predict")
        pieces, reason = answer(limit if limit is not None and limit > 0 else None)
        began = due = self._monotonic()
        for piece in pieces:
            step_ms = held.model.decode_ms_per_token * pace * effect.decode * self._pace.next_token()
            due += step_ms / 1000.0 / self._speed
            await asyncio.sleep(max(0.0, due - self._monotonic()))
            timing.tokens += 1
            timing.decode_s = self._monotonic() - began
            yield piece, ""
        if reason == "stop":
            timing.tokens += 1  # the end token counts, and shows nothing
        yield "", reason

    # -- the native interface

    async def _root(self, _request: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": VERSION})

    async def _tags(self, _request: web.Request) -> web.Response:
        listed = [
            {
                "name": m.name,
                "model": m.name,
                "modified_at": "2026-11-01T08:00:00.000000000Z",
                "size": m.size_bytes,
                "digest": m.digest,
                "details": m.details() | {"context_length": m.context_length},
                "capabilities": ["completion"],
            }
            for m in self.models.values()
        ]
        return web.json_response({"models": listed})

    async def _ps(self, _request: web.Request) -> web.Response:
        self._expire()
        listed = [
            {
                "name": held.model.name,
                "model": held.model.name,
                "size": held.model.size_bytes,
                "digest": held.model.digest,
                "details": held.model.details(),
                "expires_at": self._expires(held),
                "size_vram": held.model.size_bytes,
                "context_length": held.num_ctx,
            }
            for held in self._loaded.values()
        ]
        return web.json_response({"models": listed})

    def _expires(self, held: Loaded) -> str:
        left = held.expires_at - self._monotonic()
        return FOR_EVER if math.isinf(left) else _now_text(left)

    async def _show(self, request: web.Request) -> web.Response:
        name = str(parse_body(await request.read()).get("model", ""))
        model = self.models.get(name) or self.models.get(f"{name}:latest")
        if model is None:
            raise Refusal(404, f"model '{name if ':' in name else name + ':latest'}' not found")
        return web.json_response(
            {
                "modelfile": f"FROM {model.name}\n",
                "parameters": "",
                "template": "{{ .Prompt }}",
                "details": model.details(),
                "model_info": {
                    "general.architecture": model.family,
                    f"{model.family}.context_length": model.context_length,
                },
                "capabilities": ["completion"],
                "modified_at": "2026-11-01T08:00:00.000000000Z",
            }
        )

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = parse_body(await request.read())
        return await self._answer(request, body, str(body.get("prompt") or ""), _generate_line)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = parse_body(await request.read())
        prompt = "\n".join(str(m.get("content", "")) for m in body.get("messages") or [])
        return await self._answer(request, body, prompt, _chat_line)

    async def _answer(
        self, request: web.Request, body: dict[str, Any], prompt: str, line: Callable[[str], dict[str, Any]]
    ) -> web.StreamResponse:
        timing = Timing(self._monotonic())
        name = str(body.get("model", ""))
        model = self._find(name)
        options = parse_options(body)
        keep_alive = parse_keep_alive(body.get("keep_alive"))
        if body.get("think"):
            raise Refusal(400, f'"{name}" does not support thinking')
        if not prompt:
            if keep_alive == 0.0:
                self._loaded.pop(model.name, None)
                reason = "unload"
            else:
                await self._load(model, options, keep_alive)
                reason = "load"
            return web.json_response(
                {"model": name, "created_at": _now_text(), **line(""), "done": True, "done_reason": reason}
            )
        held = await self._load(model, options, keep_alive)
        timing.loaded = self._monotonic()
        is_generate = line is _generate_line
        text: list[str] = []
        reason = ""
        stream: web.StreamResponse | None = None
        async with self._slot():
            async for piece, reason in self._tokens(held, prompt, options, timing):
                if reason:
                    break
                if body.get("stream", True):
                    if stream is None:
                        stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
                        await stream.prepare(request)
                    await stream.write(
                        _json({"model": name, "created_at": _now_text(), **line(piece), "done": False})
                    )
                else:
                    text.append(piece)
        if keep_alive == 0.0:
            self._loaded.pop(model.name, None)
        last = {
            "model": name,
            "created_at": _now_text(),
            **line("".join(text)),
            "done": True,
            "done_reason": reason,
        }
        if is_generate:
            last["context"] = list(range(1, timing.prompt_tokens + timing.tokens))
        last |= timing.document(self._monotonic())
        if stream is None:
            return web.json_response(last)
        await stream.write(_json(last))
        await stream.write_eof()
        return stream

    # -- the OpenAI-compatible interface

    async def _v1_models(self, _request: web.Request) -> web.Response:
        listed = [
            {"id": m.name, "object": "model", "created": 1_793_520_000, "owned_by": "library"}
            for m in self.models.values()
        ]
        return web.json_response({"object": "list", "data": listed})

    async def _v1_chat(self, request: web.Request) -> web.StreamResponse:
        body = parse_body(await request.read())
        name = str(body.get("model", ""))
        try:
            model = self._find(name)
        except Refusal as refusal:
            error = {"message": refusal.message, "type": "not_found_error", "param": None, "code": None}
            return web.json_response({"error": error}, status=refusal.status)
        timing = Timing(self._monotonic())
        prompt = "\n".join(str(m.get("content", "")) for m in body.get("messages") or []) or " "
        options = {"num_predict": body.get("max_tokens") or body.get("max_completion_tokens")}
        held = await self._load(model, options, None)
        number = f"chatcmpl-{self._rng.randrange(1000)}"
        common = {"id": number, "created": int(time.time()), "model": name, "system_fingerprint": "fp_ollama"}
        text: list[str] = []
        reason = ""
        stream: web.StreamResponse | None = None
        async with self._slot():
            async for piece, reason in self._tokens(held, prompt, options, timing):
                if reason:
                    break
                text.append(piece)
                if not body.get("stream"):
                    continue
                if stream is None:
                    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                    await stream.prepare(request)
                delta = {"role": "assistant", "content": piece}
                await stream.write(_event(common, [{"index": 0, "delta": delta, "finish_reason": None}]))
        usage = {
            "prompt_tokens": timing.prompt_tokens,
            "completion_tokens": timing.tokens,
            "total_tokens": timing.prompt_tokens + timing.tokens,
        }
        if stream is None:
            message = {"role": "assistant", "content": "".join(text)}
            choice = {"index": 0, "message": message, "finish_reason": reason}
            return web.json_response(
                {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
            )
        await stream.write(_event(common, [{"index": 0, "delta": {}, "finish_reason": reason}]))
        if (body.get("stream_options") or {}).get("include_usage"):
            await stream.write(_event(common, [], usage))
        await stream.write(b"data: [DONE]\n\n")
        await stream.write_eof()
        return stream


def _generate_line(text: str) -> dict[str, Any]:
    return {"response": text}


def _chat_line(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}


def _now_text(ahead_s: float = 0.0) -> str:
    """RFC 3339 in UTC with nine digits, as Go writes it."""
    now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=ahead_s)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def _event(common: dict[str, Any], choices: list[Any], usage: dict[str, int] | None = None) -> bytes:
    document = {**common, "object": "chat.completion.chunk", "choices": choices}
    if usage is not None:
        document["usage"] = usage
    return b"data: " + _json(document) + b"\n"


@web.middleware
async def _in_ollamas_words(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return web.json_response({"error": refusal.message}, status=refusal.status)
    except web.HTTPNotFound:
        return web.Response(status=404, text="404 page not found")
    except web.HTTPMethodNotAllowed:
        return web.Response(status=405, text="405 method not allowed")


async def serve(host: str, port: int, scenario: str, on_event: Callable[[str], None]) -> None:
    """Run the simulator until cancelled; says its address and each incident. Raises OSError, KeyError."""
    simulator = Simulator(SCENARIOS[scenario], on_event=on_event)
    await simulator.start(host, port)
    on_event(f"Simulated Ollama at {simulator.url}, scenario {scenario}: {simulator.scenario.title}")
    try:
        await asyncio.Event().wait()
    finally:
        await simulator.stop()
