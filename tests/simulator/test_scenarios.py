"""The incidents: as a function of time, and as a client lives through them."""

import asyncio
import contextlib
import math
import random
import statistics

import aiohttp
import pytest
from tests.simulator.running import (
    LOAD_MS,
    SOON_S,
    TINY,
    LeapingClock,
    ask,
    loaded,
    session,
    simulated,
    until,
)

from llmscope.simulator import MODELS, SCENARIOS, Effect, Incident, Scenario
from llmscope.simulator.model import Pace, reply, tokens_of

PROBE_EVERY_S = 2.0
LEARN_N = 150
PROMPT_TOKENS = len(tokens_of("nonce123 Write one sentence about the ocean."))


def latencies(scenario: Scenario, n: int, seed: int, offset_s: float) -> list[float | None]:
    """What a probe every 2 s would see, s, from the scenario alone; None where it fails."""
    rng = random.Random(seed)
    pace, model, is_loaded = Pace(rng), MODELS[0], False
    seen: list[float | None] = []
    for k in range(n):
        at_s = offset_s + k * PROBE_EVERY_S
        effect, factor = scenario.effect_at(at_s), pace.next_request()
        since = [scenario.effect_at(max(0.0, at_s - PROBE_EVERY_S * part / 50)) for part in range(50)]
        is_loaded = is_loaded and not any(e.evicted or e.refused for e in since)
        if effect.refused or effect.crashed:
            is_loaded = False
            seen.append(None)
            continue
        load_ms = 0.0 if is_loaded else model.load_ms * factor
        is_loaded = True
        prefill_ms = PROMPT_TOKENS * model.prefill_ms_per_token * factor * effect.prefill
        steps = len(reply(0.0, rng)) + 1
        decode_ms = sum(
            model.decode_ms_per_token * factor * effect.decode * pace.next_token() for _ in range(steps)
        )
        seen.append((load_ms + effect.queue_ms * factor + prefill_ms + decode_ms) / 1000.0)
    return seen


def limits(values: list[float]) -> tuple[float, float]:
    """Centre and sigma of the logarithms, with what lies far out left out once."""
    logs = [math.log(value) for value in values]
    middle = statistics.median(logs)
    far = 4 * 1.4826 * statistics.median(abs(x - middle) for x in logs)
    kept = [x for x in logs if abs(x - middle) <= far]
    return statistics.fmean(kept), statistics.stdev(kept)


STARTS = [(seed, offset_s) for seed in range(1, 6) for offset_s in (0.0, 0.7, 1.4)]


@pytest.mark.parametrize(("seed", "offset_s"), STARTS)
def test_the_demo_has_a_point_beyond_3_sigma_within_90_s(seed: int, offset_s: float) -> None:
    seen = [value for value in latencies(SCENARIOS["demo"], 46, seed, offset_s) if value is not None]
    centre, sigma = limits(seen[:20])

    beyond_s = [
        offset_s + k * PROBE_EVERY_S
        for k, value in enumerate(seen)
        if k >= 20 and math.log(value) > centre + 3 * sigma
    ]

    assert any(54.0 <= at < 57.0 for at in beyond_s)  # the reload
    assert any(74.0 <= at < 77.0 for at in beyond_s)  # the slow answer


@pytest.mark.parametrize(("seed", "offset_s"), STARTS)
def test_the_demo_has_nine_in_a_row_on_one_side_within_3_minutes(seed: int, offset_s: float) -> None:
    seen = [value for value in latencies(SCENARIOS["demo"], 90, seed, offset_s) if value is not None]
    centre, _ = limits(seen[:40])
    first = math.ceil((110.0 - offset_s) / PROBE_EVERY_S)

    shifted = [math.log(value) > centre for value in seen[first : first + 15]]

    assert all(shifted)
    assert offset_s + (first + 8) * PROBE_EVERY_S < 180.0


@pytest.mark.parametrize(("seed", "offset_s"), STARTS)
def test_what_the_demo_lets_one_learn_is_a_healthy_server(seed: int, offset_s: float) -> None:
    seen = [value for value in latencies(SCENARIOS["demo"], LEARN_N, seed, offset_s) if value is not None]
    healthy = [
        value for value in latencies(SCENARIOS["steady"], LEARN_N, seed, offset_s)[1:] if value is not None
    ]

    centre, sigma = limits(seen)
    true_centre, true_sigma = limits(healthy)

    assert abs(centre - true_centre) < 0.35 * true_sigma
    assert sigma < 1.5 * true_sigma


def test_a_probe_of_the_demo_leaves_its_2_s_free_for_the_most_part() -> None:
    seen = [value for value in latencies(SCENARIOS["steady"], 500, 1, 0.0)[1:] if value is not None]

    assert 0.3 < statistics.fmean(seen) < 0.6
    assert max(seen) < 1.0


def test_the_demo_begins_again_with_the_same_story() -> None:
    demo = SCENARIOS["demo"]
    assert demo.repeat_s is not None

    assert demo.current(54.5) == demo.current(54.5 + demo.repeat_s) != ()
    assert all(incident.start_s + incident.length_s < demo.repeat_s for incident in demo.incidents)


def test_the_demo_shows_one_of_everything() -> None:
    effects = [incident.effect for incident in SCENARIOS["demo"].incidents]

    assert any(effect.evicted for effect in effects)
    assert any(effect.refused for effect in effects)
    assert any(effect.crashed for effect in effects)
    assert any(effect.queue_ms for effect in effects)
    assert any(incident.ramp for incident in SCENARIOS["demo"].incidents)


def test_every_scenario_that_was_promised_is_there() -> None:
    assert set(SCENARIOS) == {
        "steady", "cold-start", "drift", "shift", "spikes", "contention", "gpu-throttle", "outage", "demo",
    }  # fmt: skip


def test_the_drift_grows_evenly_to_half_as_much_again_and_stays() -> None:
    drift = SCENARIOS["drift"]

    factors = [drift.effect_at(330.0 + minutes * 60.0).decode for minutes in (-1, 0, 5, 9.999, 10, 60)]

    assert factors == pytest.approx([1.0, 1.0, 1.25, 1.5, 1.5, 1.5], abs=0.001)


def test_the_shift_the_throttle_and_the_outage_do_what_they_say() -> None:
    assert SCENARIOS["shift"].effect_at(10_000.0).decode == 1.3
    throttled = SCENARIOS["gpu-throttle"].effect_at(331.0)
    assert (throttled.decode, throttled.prefill) == (1.6, 1.0)
    assert [SCENARIOS["outage"].effect_at(t).refused for t in (59.0, 60.0, 79.9, 80.1, 241.0)] == [
        False, True, True, False, True,
    ]  # fmt: skip
    assert SCENARIOS["contention"].effect_at(70.0).queue_ms == 600.0
    assert SCENARIOS["steady"].effect_at(70.0) == Effect()


def test_effects_at_the_same_time_multiply() -> None:
    both = Scenario(
        "both", (Incident("a", 0.0, 9.0, Effect(decode=2.0)), Incident("b", 0.0, 9.0, Effect(decode=1.5)))
    )

    assert both.effect_at(1.0).decode == 3.0


async def test_others_in_the_queue_are_felt_in_the_total_only() -> None:
    async with (
        simulated(Incident("busy", 0.0, 1e9, Effect(queue_ms=150.0))) as simulator,
        session(simulator) as http,
    ):
        await ask(http)
        answer = await ask(http)

    assert answer.queue_ms > 100.0
    assert answer.load_ms < 100.0


async def test_an_eviction_makes_the_next_request_load() -> None:
    clock = LeapingClock()
    said: list[str] = []
    async with (
        simulated(
            Incident("evicted", 50.0, 5.0, Effect(evicted=True)), monotonic=clock, on_event=said.append
        ) as simulator,
        session(simulator) as http,
    ):
        await ask(http)
        clock.ahead_s = 50.0
        await until(lambda: said != [])
        after = await ask(http)

    assert "evicted" in said[0]
    assert after.load_ms > LOAD_MS / 2


async def test_an_outage_refuses_cuts_what_is_open_and_ends_with_a_cold_start() -> None:
    clock = LeapingClock()
    said: list[str] = []
    down = Incident("down", 50.0, 20.0, Effect(refused=True))
    async with (
        simulated(down, monotonic=clock, on_event=said.append) as simulator,
        session(simulator) as http,
    ):
        await ask(http, model="slow", num_predict=1)  # leaves a connection that is kept alive
        running = asyncio.create_task(ask(http, model="slow", num_predict=0))
        await asyncio.sleep(0.1)
        clock.ahead_s = 50.0
        with pytest.raises(aiohttp.ClientError):
            await running
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(http)
        clock.ahead_s = 71.0
        async with asyncio.timeout(SOON_S):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    after = await ask(http, model="slow", num_predict=1)
                    break
                await asyncio.sleep(0.01)

    assert after.status == 200
    assert after.load_ms > LOAD_MS / 2
    assert [line.split("s  ")[1] for line in said] == ["begins: down", "over:   down"]


async def test_a_crash_of_the_runner_unloads_and_the_next_request_works() -> None:
    clock = LeapingClock()
    crash = Incident("crash", 0.0, 20.0, Effect(crashed=True))
    async with simulated(crash, monotonic=clock) as simulator, session(simulator) as http:
        crashed = await ask(http, num_predict=8)
        left = await loaded(http)
        clock.ahead_s = 30.0
        after = await ask(http, num_predict=8)

    assert crashed.status == 500
    assert left == []
    assert after.status == 200
    assert after.load_ms > LOAD_MS / 2


async def test_speed_makes_the_script_and_the_work_faster_alike() -> None:
    async with simulated(models=(TINY,), speed=10.0) as simulator, session(simulator) as http:
        answer = await ask(http, num_predict=28)
        seconds = simulator.seconds()

    assert answer.total_ms < 10 * (LOAD_MS + 28 * 2.0)
    assert seconds * 1000.0 > answer.total_ms * 10
