"""The simulated machine: which models are in memory, who waits for what, and how long the work takes. No HTTP.

Two queues, as in Ollama. A request whose model must be (re)loaded waits in the scheduler's, which is bounded and
counts as load; one whose model is there waits for one of the runner's slots, which is unbounded and appears in
the total only.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field

from llmscope.simulator.model import Model, Pace, common_head, reply, tokens_of
from llmscope.simulator.requests import Refusal
from llmscope.simulator.scenarios import Effect

BUSY = "server busy, please try again.  maximum pending requests exceeded"
CRASHED = "an error was encountered while running the model: unexpected EOF"
KEEP_ALIVE_S = 300.0
AUTO_CONTEXT = 4096  # what a request without num_ctx gets
WARM_LOAD_MS = 1.5  # never exactly 0 on a real server
CACHED_PREFILL_MS = 0.7
SHARING = 0.9  # a second busy slot makes tokens this much slower: measured 2.7 s for two, 0.9 s for one
TOKENS_BEFORE_CRASH = 5

Clock = Callable[[], float]


class RunnerCrashed(Exception):
    """The process that runs the model is gone."""


@dataclass(slots=True)
class Job:
    """One request's work: what was asked, and what passed so far, in seconds of the machine's clock."""

    model: Model
    prompt: list[str]
    num_ctx: int
    num_predict: int  # 0 and less: until the model stops by itself
    temperature: float
    keep_alive_s: float | None
    pace: float
    started: float
    loaded: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    shown_tokens: int = 0
    eval_count: int = 0  # the end token counts, and shows nothing
    done_reason: str = ""

    def numbers(self, now: float) -> dict[str, int]:
        """The last line's numbers, ns; those that are zero are left out, as Ollama does."""
        found = {
            "total_duration": int((now - self.started) * 1e9),
            "load_duration": int(((self.loaded or now) - self.started) * 1e9),
            "prompt_eval_count": len(self.prompt),
            "prompt_eval_duration": int((self.prefill_s or 0.0) * 1e6) * 1000,  # the runner counts in µs
            "eval_count": self.eval_count,
            "eval_duration": int((self.decode_s or 0.0) * 1e6) * 1000,
        }
        return {name: number for name, number in found.items() if number}


@dataclass(slots=True)
class Slot:
    """Where one answer at a time is made; it remembers the prompt it has read."""

    remembered: list[str] = field(default_factory=list)
    is_busy: bool = False


class Runner:
    """A model in memory with its slots."""

    def __init__(self, model: Model, num_ctx: int, num_parallel: int) -> None:
        self.model = model
        self.num_ctx = num_ctx
        self.keep_alive_s = KEEP_ALIVE_S
        self.expires_at = math.inf
        self.users = 0
        self.is_leaving = False  # it goes when its last user has gone, and takes no new one
        self.is_crashed = False
        self.idle = asyncio.Event()
        self.idle.set()
        self.slots = [Slot() for _ in range(num_parallel)]
        self.free_slots = asyncio.Semaphore(num_parallel)

    def take_slot(self, prompt: list[str]) -> tuple[Slot, int]:
        """A free slot, the one that remembers most of this prompt, and how many tokens of it that is."""
        free = [slot for slot in self.slots if not slot.is_busy]
        slot = max(free, key=lambda slot: common_head(slot.remembered, prompt))
        slot.is_busy = True
        return slot, common_head(slot.remembered, prompt)


class Machine:
    """Memory, queues and speed. `speed` makes everything that many times faster."""

    def __init__(
        self,
        *,
        rng: random.Random,
        effect: Callable[[], Effect],
        monotonic: Clock,
        speed: float = 1.0,
        num_parallel: int = 1,
        max_queue: int = 512,
        max_loaded: int = 3,
    ) -> None:
        self._rng = rng
        self._pace = Pace(rng)
        self._effect = effect
        self._monotonic = monotonic
        self._speed = speed
        self._num_parallel = num_parallel
        self._max_queue = max_queue
        self._max_loaded = max_loaded
        self._runners: dict[str, Runner] = {}
        self._loading = asyncio.Lock()
        self._pending = 0

    def job(self, model: Model, prompt: str, options: dict[str, float], keep_alive_s: float | None) -> Job:
        """A request that has just arrived."""
        num_ctx = int(options.get("num_ctx") or AUTO_CONTEXT)
        return Job(
            model=model,
            prompt=tokens_of(prompt),
            num_ctx=min(num_ctx, model.context_length),
            num_predict=int(options.get("num_predict", 0)),
            temperature=options.get("temperature", 0.8),
            keep_alive_s=keep_alive_s,
            pace=self._pace.next_request(),
            started=self._monotonic(),
        )

    # -- memory

    def loaded(self) -> list[Runner]:
        """The models in memory; looking loads nothing and renews nothing."""
        now = self._monotonic()
        for name, runner in list(self._runners.items()):
            if runner.users == 0 and (runner.is_leaving or runner.expires_at <= now):
                del self._runners[name]
        return list(self._runners.values())

    def seconds_left(self, runner: Runner) -> float:
        """Until it is unloaded if nothing comes, on the script's clock."""
        if runner.users:
            return runner.keep_alive_s
        return (runner.expires_at - self._monotonic()) * self._speed

    def unload(self, model: Model) -> None:
        """Take a model out of memory once nobody uses it."""
        if (runner := self._runners.get(model.name)) is not None:
            runner.is_leaving = True

    def unload_all(self) -> None:
        for runner in self._runners.values():
            runner.is_leaving = True

    @contextlib.asynccontextmanager
    async def hold(self, job: Job) -> AsyncIterator[Runner]:
        """The model in memory, for as long as the job needs it. Raises Refusal when too many wait."""
        runner = self._ready(job)
        if runner is not None:
            self._begin_use(runner)
        else:
            runner = await self._schedule(job)
        try:
            if job.keep_alive_s is not None:  # a request without it leaves the last one's in force
                runner.keep_alive_s = job.keep_alive_s
            await self._spend(WARM_LOAD_MS * job.pace)
            job.loaded = self._monotonic()
            yield runner
        finally:
            self._end_use(runner)

    def _ready(self, job: Job) -> Runner | None:
        self.loaded()
        runner = self._runners.get(job.model.name)
        return runner if runner and not runner.is_leaving and runner.num_ctx == job.num_ctx else None

    def _begin_use(self, runner: Runner) -> None:
        runner.users += 1
        runner.idle.clear()

    def _end_use(self, runner: Runner) -> None:
        runner.users -= 1
        runner.expires_at = self._monotonic() + runner.keep_alive_s / self._speed
        if runner.users == 0:
            runner.idle.set()

    async def _schedule(self, job: Job) -> Runner:
        """Wait for the one loader, then load, unless somebody before has; the caller is a user already."""
        if self._pending > self._max_queue:  # the one being loaded stands no longer in the queue
            raise Refusal(503, BUSY)
        self._pending += 1
        try:
            async with self._loading:
                runner = self._ready(job)
                if runner is None:
                    await self._make_room(job)
                    await self._spend(job.model.load_ms * job.pace)
                    runner = Runner(job.model, job.num_ctx, self._num_parallel)
                    self._runners[job.model.name] = runner
                self._begin_use(runner)
                return runner
        finally:
            self._pending -= 1

    async def _make_room(self, job: Job) -> None:
        """Unload what stands in the way, once its users have gone: the model's other context, or the oldest."""
        if (old := self._runners.get(job.model.name)) is not None:
            await self._unload(old)
        while len(self.loaded()) >= self._max_loaded:
            await self._unload(min(self._runners.values(), key=lambda r: (r.users > 0, r.expires_at)))

    async def _unload(self, runner: Runner) -> None:
        runner.is_leaving = True
        await runner.idle.wait()
        if self._runners.get(runner.model.name) is runner:
            del self._runners[runner.model.name]

    def _crash(self, runner: Runner) -> None:
        runner.is_crashed = True
        if self._runners.get(runner.model.name) is runner:
            del self._runners[runner.model.name]

    # -- work

    async def generate(self, job: Job, runner: Runner) -> AsyncGenerator[str, None]:
        """The tokens of the answer as they come; then the job's numbers are complete. Raises RunnerCrashed.

        Close it (contextlib.aclosing) when you leave it early: that frees the slot.
        """
        async with runner.free_slots:
            effect = self._effect()
            if effect.queue_ms:
                await self._spend(effect.queue_ms * job.pace)  # other clients were here before
            slot, known = runner.take_slot(job.prompt)
            try:
                await self._prefill(job, slot, known, effect)
                async with contextlib.aclosing(self._decode(job, runner, effect)) as tokens:
                    async for token in tokens:
                        yield token
            finally:
                slot.is_busy = False

    async def _prefill(self, job: Job, slot: Slot, known: int, effect: Effect) -> None:
        began = self._monotonic()
        new_ms = (len(job.prompt) - known) * job.model.prefill_ms_per_token * effect.prefill
        await self._spend(max(new_ms, CACHED_PREFILL_MS) * job.pace)
        slot.remembered = job.prompt
        job.prefill_s = self._monotonic() - began

    async def _decode(self, job: Job, runner: Runner, effect: Effect) -> AsyncGenerator[str, None]:
        whole = reply(job.temperature, self._rng)
        shown = whole[: job.num_predict] if job.num_predict > 0 else whole
        job.done_reason = "length" if 0 < job.num_predict <= len(whole) else "stop"
        began = due = self._monotonic()
        for token in [*shown, *([None] if job.done_reason == "stop" else [])]:
            busy = sum(slot.is_busy for slot in runner.slots)
            step_ms = job.model.decode_ms_per_token * job.pace * self._pace.next_token() * effect.decode
            due += step_ms * (1.0 + SHARING * (busy - 1)) / 1000.0 / self._speed
            await asyncio.sleep(max(0.0, due - self._monotonic()))
            if effect.crashed and job.eval_count == min(TOKENS_BEFORE_CRASH, len(shown) - 1):
                self._crash(runner)
            if runner.is_crashed:
                raise RunnerCrashed
            job.eval_count += 1
            job.decode_s = self._monotonic() - began
            if token is not None:
                job.shown_tokens += 1
                yield token

    async def _spend(self, ms: float) -> None:
        await asyncio.sleep(ms / 1000.0 / self._speed)
