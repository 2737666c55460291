"""The loop: wait for the tick, probe, attach the host's load, deliver. One loop for each target.

It judges nothing and stores nothing. Failures of the measured server are observations; mistakes of our own
are caught at the outer edge of a target's loop, logged with its name and counted, and the loop goes on.
"""

import asyncio
import ipaddress
import logging
import math
import random
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
import msgspec
import psutil

from llmscope.host import HostLoad
from llmscope.observation import HostRole, Observation
from llmscope.probe import Clock, SystemClock, Target, probe

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
LONGEST_START_S = 5.0  # of the random start: even with long intervals a first point should come soon


class Host(Protocol):
    """Tells the load of this machine at once."""

    def sample(self) -> HostLoad: ...


class Box(Protocol):
    """Takes observations at once; `outages` counts how often the API was found away."""

    outages: int

    def put(self, observation: Observation) -> None: ...


@dataclass(slots=True)
class Schedule:
    """Ticks at start + k * interval, so that no delay adds up; ticks that are late are skipped.

    >>> schedule = Schedule(start_ms=0.0, interval_ms=100.0)
    >>> schedule.after(30.0), schedule.after(100.0), schedule.after(430.0)
    ((100.0, 0), (200.0, 0), (500.0, 2))
    """

    start_ms: float
    interval_ms: float
    tick: int = 0

    def after(self, now_ms: float) -> tuple[float, int]:
        """When the next tick is due, and how many before it were missed."""
        reached = math.floor((now_ms - self.start_ms) / self.interval_ms)
        if self.start_ms + reached * self.interval_ms > now_ms:  # the quotient was rounded up
            reached -= 1
        following = max(self.tick, reached) + 1
        skipped = following - self.tick - 1
        self.tick = following
        return self.start_ms + following * self.interval_ms, skipped


class Monitor:
    """Probes its targets until it is cancelled. Targets can be added and removed while it runs.

    `http` is a session of `probe.open_session`. `on_event` is told in a sentence what a person may want to
    know: probes that begin to fail and recover, ticks that were skipped, a model that is left unloaded.
    `skipped` counts ticks without a probe, `broken` our own mistakes.
    """

    def __init__(
        self,
        targets: Iterable[Target],
        http: aiohttp.ClientSession,
        outbox: Box,
        host: Host,
        clock: Clock | None = None,
        interval_s: float = INTERVAL_S,
        on_event: Callable[[str], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._http = http
        self._outbox = outbox
        self._host = host
        self._clock: Clock = clock or SystemClock()
        self._interval_ms = interval_s * 1000.0
        self._say = on_event or log.info
        self._rng = rng or random.Random()
        self._targets = dict.fromkeys(targets)
        self._loops: dict[Target, asyncio.Task[None]] = {}
        self._is_running = False
        self._told_prompts: dict[str, int] = {}  # by hash: the count of outages when its text was last sent
        self.skipped = 0
        self.broken = 0

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(self._targets)

    def add_target(self, target: Target) -> None:
        """Begin to probe it; nothing happens when it is probed already."""
        if target in self._targets:
            return
        self._targets[target] = None
        if self._is_running:
            self._start(target)

    async def remove_target(self, target: Target) -> None:
        """Stop probing it; a probe under way is broken off."""
        self._targets.pop(target, None)
        if (task := self._loops.pop(target, None)) is not None:
            task.cancel()
            await asyncio.wait([task])

    async def run(self) -> None:
        """Probe until cancelled; then every loop has ended when this returns."""
        self._is_running = True
        for target in self._targets:
            self._start(target)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._is_running = False
            tasks = list(self._loops.values())
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            self._loops.clear()

    def _start(self, target: Target) -> None:
        name = f"probe {target.model} at {target.server}"
        self._loops[target] = asyncio.create_task(self._watch(target), name=name)

    async def _watch(self, target: Target) -> None:
        role = host_role(target)
        delay_ms = self._rng.uniform(0.0, min(self._interval_ms, LONGEST_START_S * 1000.0))
        start_ms = self._clock.monotonic_ms() + delay_ms
        schedule = Schedule(start_ms, self._interval_ms)
        state = "ok"
        await self._clock.sleep_until(start_ms)
        while True:
            try:
                observation = await probe(target, self._http, self._clock)
                if observation is not None:
                    self._outbox.put(self._completed(observation, target, role))
                state = self._tell_change(target, state, observation)
            except Exception as error:
                self.broken += 1
                log.exception("probing %s at %s broke", target.model, target.server)
                self._say(f"{_name(target)}: the probe itself broke ({self.broken} so far): {error!r}")
            await self._next_tick(target, schedule)

    def _tell_change(self, target: Target, before: str, observation: Observation | None) -> str:
        """Say it when probes begin to fail, fail otherwise, or recover; returns the state they are in."""
        state = "not loaded" if observation is None else str(observation.outcome)
        if state == before:
            return state
        if observation is None:
            said = "not loaded; it is left alone until someone uses it"
        elif observation.ok:
            said = "answers"
        else:
            said = f"{state}: {observation.error}"
        self._say(f"{_name(target)}: {said}")
        return state

    async def _next_tick(self, target: Target, schedule: Schedule) -> None:
        """Sleep to the next tick; one that is over before we wake (the machine stood still) is missed."""
        missed = 0
        while True:
            due_ms, skipped = schedule.after(self._clock.monotonic_ms())
            missed += skipped
            await self._clock.sleep_until(due_ms)
            if self._clock.monotonic_ms() < due_ms + self._interval_ms:
                break
            missed += 1
        if missed:
            self.skipped += missed
            self._say(
                f"{_name(target)}: too slow for its interval, {missed} probes left out ({self.skipped} so far)"
            )

    def _completed(self, observation: Observation, target: Target, role: HostRole) -> Observation:
        """With the host's load, and with the prompt's text where the API may not know it."""
        load = self._host.sample()
        changes: dict[str, object] = {
            "cpu_percent": load.cpu_percent,
            "memory_percent": load.memory_percent,
            "gpu_percent": load.gpu_percent,
            "gpu_memory_percent": load.gpu_memory_percent,
            "host": role,
        }
        key = observation.prompt_hash
        if key is not None and self._told_prompts.get(key) != self._outbox.outages:
            self._told_prompts[key] = self._outbox.outages
            changes["prompt_text"] = target.prompt
        return msgspec.structs.replace(observation, **changes)


def _name(target: Target) -> str:
    return f"{target.model} at {target.server}"


def host_role(target: Target) -> HostRole:
    """Whose load this machine's is: the LLM server's, when the target's address is one of this machine."""
    return "llm_host" if is_this_machine(urlsplit(target.base_url).hostname or "") else "monitor_host"


def is_this_machine(host: str) -> bool:
    """Whether the name or address is this machine's own. Names are not looked up, but for its own names.

    >>> [is_this_machine(host) for host in ("localhost", "127.0.0.2", "::1", "llm.example")]
    [True, True, True, False]
    """
    host = host.strip("[]").casefold().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        own = socket.gethostname().casefold()
        return host in (own, own.partition(".")[0], f"{own}.local")
    if address.is_loopback or address.is_unspecified:
        return True
    own_addresses = (
        entry.address.partition("%")[0] for part in psutil.net_if_addrs().values() for entry in part
    )
    return str(address) in own_addresses
