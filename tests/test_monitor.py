"""The loop: its schedule, what it attaches, and what it does when the server is slow, away or unloaded."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.llm.server import LlamaServer

from llmscope.host import HostLoad
from llmscope.monitor import Monitor, Schedule, host_role
from llmscope.observation import Observation
from llmscope.outbox import DirectTransport, Outbox
from llmscope.probe import PROBES, Target, find_target, open_session

LOAD = HostLoad(cpu_percent=35.2, memory_percent=45.6, gpu_percent=78.5, gpu_memory_percent=62.3)


class FixedHost:
    def sample(self) -> HostLoad:
        return LOAD


class ListBox:
    """Takes observations and does nothing with them."""

    def __init__(self) -> None:
        self.outages = 0
        self.rows: list[Observation] = []

    def put(self, observation: Observation) -> None:
        self.rows.append(observation)


class LeapingClock:
    """Time that passes only while someone sleeps, and at once; or when a test lets it pass."""

    def __init__(self) -> None:
        self.ms = 1_000.0

    def now_us(self) -> int:
        return 1_764_000_000_000_000 + round(self.ms * 1000)

    def monotonic_ms(self) -> float:
        return self.ms

    async def sleep_until(self, monotonic_ms: float) -> None:
        await asyncio.sleep(0)
        self.ms = max(self.ms, monotonic_ms)


def target(**changes: Any) -> Target:
    fields: dict[str, Any] = {"provider": "ollama", "base_url": "http://127.0.0.1:1", "model": "tiny"}
    return Target(**fields | changes)


def ok(here: Target, **changes: Any) -> Observation:
    row = Observation(
        provider=here.provider, model=here.model, server=here.server, latency_ms=1.0, prompt_hash="a1b2c3d4"
    )
    return msgspec.structs.replace(row, **changes)


Probing = Callable[[Target], Awaitable[Observation | None]]


@contextlib.contextmanager
def probing(function: Probing) -> Any:
    """Let the function stand for the protocol of Ollama."""

    async def probe(here: Target, _http: Any, _clock: Any) -> Observation | None:
        return await function(here)

    real = PROBES["ollama"]
    PROBES["ollama"] = probe
    try:
        yield
    finally:
        PROBES["ollama"] = real


async def end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


async def eventually(check: Callable[[], Any], within_s: float = 10.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := check()):
        assert time.monotonic() < deadline, "did not come true"
        await asyncio.sleep(0.005)
    return found


class Watched:
    """A monitor on leaping time whose probes take the given times; it ends with the last of them."""

    def __init__(self, durations_ms: Sequence[float], interval_s: float = 2.0) -> None:
        self.clock = LeapingClock()
        self.box = ListBox()
        self.said: list[str] = []
        self.starts_ms: list[float] = []
        self.ends_ms: list[float] = []
        self._durations_ms = durations_ms
        self._is_over = asyncio.Event()
        self.monitor = Monitor(
            [target()],
            None,  # type: ignore[arg-type]
            self.box,
            FixedHost(),
            self.clock,
            interval_s,
            self.said.append,
            random.Random(1),
        )

    async def _probe(self, here: Target) -> Observation:
        if len(self.starts_ms) == len(self._durations_ms):
            self._is_over.set()
            await asyncio.get_running_loop().create_future()
        duration_ms = self._durations_ms[len(self.starts_ms)]
        self.starts_ms.append(self.clock.ms)
        await asyncio.sleep(0)
        self.clock.ms += duration_ms
        self.ends_ms.append(self.clock.ms)
        return ok(here)

    async def run(self) -> "Watched":
        with probing(self._probe):
            running = asyncio.create_task(self.monitor.run())
            await asyncio.wait_for(self._is_over.wait(), 10.0)
            await end(running)
        return self


durations = st.lists(
    st.one_of(
        st.floats(0.0, 1999.0), st.sampled_from([0.0, 1999.999, 2000.0, 4000.0]), st.floats(2000.0, 9000.0)
    ),
    min_size=1,
    max_size=30,
)


@given(durations)
def test_probes_start_on_the_ticks_and_every_tick_is_probed_or_counted(durations_ms: list[float]) -> None:
    async def run() -> Watched:
        return await Watched([*durations_ms, 0.0]).run()

    watched = asyncio.run(run())

    first = watched.starts_ms[0]
    ticks = [(start - first) / 2000.0 for start in watched.starts_ms]
    assert ticks == pytest.approx([round(tick) for tick in ticks], abs=1e-6)  # no drift, ever
    for end_ms, start_ms in zip(watched.ends_ms, watched.starts_ms[1:], strict=False):
        assert start_ms >= end_ms  # never two at once
        assert start_ms - end_ms <= 2000.0 + 1e-6  # and no tick left out that could be kept
    assert watched.monitor.skipped == round(ticks[-1]) - (len(ticks) - 1)


def test_a_slow_answer_skips_ticks_and_says_how_many() -> None:
    async def run() -> Watched:
        return await Watched([100.0, 5_000.0, 100.0]).run()

    watched = asyncio.run(run())

    # the probe of tick 1 lasts over the ticks 2 and 3
    assert [round(ms - watched.starts_ms[0]) for ms in watched.starts_ms] == [0, 2_000, 8_000]
    assert watched.monitor.skipped == 2
    assert watched.said == ["tiny at 127.0.0.1:1: too slow for its interval, 2 probes left out (2 so far)"]


def test_the_start_is_spread_over_the_interval() -> None:
    async def first_start_ms(seed: int) -> float:
        watched = Watched([0.0])
        watched.monitor._rng = random.Random(seed)
        return (await watched.run()).starts_ms[0] - 1_000.0

    starts = [asyncio.run(first_start_ms(seed)) for seed in range(20)]

    assert all(0.0 <= start <= 2_000.0 for start in starts)
    assert max(starts) - min(starts) > 1_000.0


@given(st.floats(1.0, 1e6), st.floats(0.0, 1e9), st.lists(st.floats(0.0, 1e7), max_size=20))
def test_the_next_tick_is_the_first_after_now(
    interval_ms: float, start_ms: float, passed: list[float]
) -> None:
    schedule = Schedule(start_ms, interval_ms)
    now_ms, tick = start_ms, 0
    for more in passed:
        now_ms += more
        due_ms, skipped = schedule.after(now_ms)

        assert due_ms == start_ms + schedule.tick * interval_ms  # computed from the start: nothing adds up
        assert schedule.tick == tick + skipped + 1
        assert due_ms > now_ms or schedule.tick == tick + 1
        assert start_ms + (schedule.tick - 1) * interval_ms <= now_ms or skipped == 0
        tick = schedule.tick


async def test_an_observation_gets_the_hosts_load_and_says_whose_it_is() -> None:
    box = ListBox()

    async def probe(here: Target) -> Observation:
        return ok(here)

    here, there = target(), target(base_url="http://llm.example:1")
    with probing(probe):
        running = start(Monitor([here, there], None, box, FixedHost(), LeapingClock()))  # type: ignore[arg-type]
        await eventually(lambda: len(box.rows) > 10)
        await end(running)
    hosts = {(row.server, row.host) for row in box.rows}

    assert hosts == {("127.0.0.1:1", "llm_host"), ("llm.example:1", "monitor_host")}
    row = box.rows[0]
    assert (row.cpu_percent, row.memory_percent) == (35.2, 45.6)
    assert (row.gpu_percent, row.gpu_memory_percent) == (78.5, 62.3)


def start(monitor: Monitor) -> "asyncio.Task[None]":
    return asyncio.create_task(monitor.run())


async def test_the_prompts_text_goes_with_the_first_row_and_again_after_an_outage() -> None:
    box = ListBox()

    async def probe(here: Target) -> Observation:
        if len(box.rows) == 3:
            box.outages += 1
        return ok(here)

    with probing(probe):
        running = start(Monitor([target(prompt="Say yes.")], None, box, FixedHost(), LeapingClock()))  # type: ignore[arg-type]
        await eventually(lambda: len(box.rows) >= 6)
        await end(running)

    assert [row.prompt_text for row in box.rows[:6]] == ["Say yes.", None, None, "Say yes.", None, None]


async def test_changes_are_said_once_and_unloaded_is_not_down() -> None:
    box, said = ListBox(), list[str]()
    here = target()
    refused = ok(here, ok=False, latency_ms=None, error_kind="refused", error="connection refused")
    script: list[Observation | None] = [ok(here), refused, refused, None, None, ok(here), ok(here)]
    left = iter(script)

    async def probe(_: Target) -> Observation | None:
        try:
            return next(left)
        except StopIteration:
            await asyncio.get_running_loop().create_future()
            return None

    with probing(probe):
        running = start(Monitor([here], None, box, FixedHost(), LeapingClock(), on_event=said.append))  # type: ignore[arg-type]
        await eventually(lambda: len(box.rows) == 5)
        await asyncio.sleep(0)
        await end(running)

    assert [row.ok for row in box.rows] == [True, False, False, True, True]
    name = "tiny at 127.0.0.1:1"
    assert said == [
        f"{name}: refused: connection refused",
        f"{name}: not loaded; it is left alone until someone uses it",
        f"{name}: answers",
    ]


async def test_a_mistake_of_our_own_is_counted_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    box = ListBox()
    calls = 0

    async def probe(here: Target) -> Observation:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise ZeroDivisionError("a mistake")
        return ok(here)

    monitor = Monitor([target()], None, box, FixedHost(), LeapingClock())  # type: ignore[arg-type]
    with probing(probe):
        running = start(monitor)
        await eventually(lambda: len(box.rows) >= 3)
        await end(running)

    assert monitor.broken >= 3
    assert "probing tiny at 127.0.0.1:1 broke" in caplog.text


async def test_targets_come_and_go_while_it_runs() -> None:
    box = ListBox()
    under_way: list[str] = []

    async def probe(here: Target) -> Observation:
        under_way.append(here.model)
        try:
            await asyncio.sleep(0)
            return ok(here)
        finally:
            under_way.remove(here.model)

    simulated, real = target(model="demo", source="simulator"), target(model="llama3")
    monitor = Monitor([simulated], None, box, FixedHost(), LeapingClock())  # type: ignore[arg-type]
    with probing(probe):
        running = start(monitor)
        await eventually(lambda: box.rows)
        await monitor.remove_target(simulated)
        assert under_way == []
        box.rows.clear()
        monitor.add_target(real)
        monitor.add_target(real)
        await eventually(lambda: len(box.rows) > 3)
        models = {row.model for row in box.rows}
        targets = monitor.targets
        await end(running)

    assert models == {"llama3"}
    assert targets == (real,)
    assert running.cancelled()


@pytest.mark.parametrize(
    ("url", "role"),
    [
        ("http://localhost:11434", "llm_host"),
        ("http://127.0.0.1:11434", "llm_host"),
        ("http://[::1]:11434", "llm_host"),
        ("http://192.0.2.7:11434", "monitor_host"),
        ("https://api.openai.example/v1", "monitor_host"),
        ("http://host.docker.internal:11434", "monitor_host"),
    ],
)
def test_whose_load_it_is(url: str, role: str) -> None:
    assert host_role(target(base_url=url)) == role


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


async def test_a_real_server_killed_and_started_again_is_seen_to_fail_and_recover(
    http: aiohttp.ClientSession, llama_server: LlamaServer, tmp_path: Path
) -> None:
    rows: list[Observation] = []

    async def deliver(delivered: list[Observation], _sender: str, _first_seq: int) -> None:
        rows.extend(delivered)

    here = await find_target(llama_server.url, http, num_predict=8)
    async with Outbox(tmp_path / "outbox.db", DirectTransport(deliver)) as outbox:
        running = start(Monitor([here], http, outbox, FixedHost(), interval_s=0.05))
        await eventually(lambda: len(rows) >= 5)
        await asyncio.to_thread(llama_server.kill)
        await eventually(lambda: sum(row.error_kind == "refused" for row in rows) >= 3)
        await asyncio.to_thread(llama_server.start)
        failed = len([row for row in rows if not row.ok])
        await eventually(lambda: len(rows) >= 5 + failed + 5 and rows[-1].ok)
        await end(running)

    outcomes = [row.outcome.value for row in rows]
    assert outcomes[:5] == ["ok"] * 5
    assert outcomes[-3:] == ["ok"] * 3
    assert set(outcomes) <= {"ok", "refused", "truncated", "busy"}  # cut off once at most, then refused
    assert all(row.latency_ms is None for row in rows if not row.ok)
    assert all(row.ttft_ms is not None and row.eval_count == 8 for row in rows if row.ok)
    assert [row.timestamp for row in rows] == sorted(row.timestamp or "" for row in rows)
