"""Two days in the life of a simulated server: what is scripted at known times, beside what LLMscope told of it.

    python bench/life.py [--seed 1]         about two minutes; prints a timeline, writes results/life.json

Nothing sleeps. The simulator's own `Machine` (loading, queue, prefill, decode, token by token), `Model`, `Scenario`
and `Incident` run on an event loop whose clock jumps to the next timer, one probe every 2 s; its HTTP server is left
out, so what it does itself, refusing and forgetting its models, is done here. The durations are read by the probe's
own `Instants` and `numbers`. The observations then go through `Ingest.accept` into SQLite on disk, a minute at a
time and judged one by one, with the default plan.

Every alarm is compared with the script: "right" is a detector and a metric that the event is to be found by, within
the event, "misdated" the same with a change time from before it by more than a minute; "explained" another one of the
same event, or one soon after its end; all else is FALSE. Which those are is written down with the events, before
anything is run.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import datetime as dt
import json
import math
import random
import selectors
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tests.serving import opened  # noqa: E402

from llmscope import documents  # noqa: E402
from llmscope.ingest import Ingest  # noqa: E402
from llmscope.observation import Observation  # noqa: E402
from llmscope.probe.exchange import rfc3339  # noqa: E402
from llmscope.probe.instants import Instants  # noqa: E402
from llmscope.probe.ollama import numbers  # noqa: E402
from llmscope.probe.prompt import OCEAN, prompt_hash  # noqa: E402
from llmscope.simulator.machine import Machine  # noqa: E402
from llmscope.simulator.model import MODELS  # noqa: E402
from llmscope.simulator.scenarios import Effect, Incident, Scenario  # noqa: E402
from llmscope.store import Incident as Told  # noqa: E402
from llmscope.store import Phase, Series, Store, StoredAlarm  # noqa: E402

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0  # s
MIDNIGHT_US = 1_767_571_200_000_000  # 2026-01-05, a Monday
INTERVAL_S = 2.0
END_S = 2 * DAY + 4 * HOUR
MODEL = dataclasses.replace(MODELS[0], load_ms=4_000.0)  # from a disk that is not new
TOKENS = 16  # half of the default: a short answer keeps the run short
RHYTHM = 0.04  # of every duration, highest at 14:00
SPIKE_SHARE, SPIKE = 0.04, 5.0
ACCEPTED_S = DAY + 15 * HOUR
BATCH = 30
HOUSEKEEPING_S = 600.0  # the server does it every minute of its life
GRACE_S = 15 * MINUTE  # 20 half minutes until an alarm may close, and some
EARLY_S = 60.0  # the dating of a change may err by two half minutes
RESULTS = HERE / "results" / "life.json"

LEVELS = frozenset({("SHIFT", "ms_per_token"), ("SHIFT", "latency")})
WAITS = frozenset({("SHIFT", "ttft"), ("SHIFT", "latency")})
SPIKES = frozenset({("SPIKE", "ms_per_token"), ("SPIKE", "latency"), ("SPIKE", "ttft")})
FAILURES = frozenset({("FAILURES", "failures")})
NOTHING: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Event:
    """Something in the script, and the detectors and metrics that are to find it; none means: no alarm."""

    name: str
    start_s: float
    end_s: float
    found_by: frozenset[tuple[str, str]]
    incidents: tuple[Incident, ...] = ()

    def covers(self, at_s: float, late_s: float = 0.0) -> bool:
        return self.start_s - EARLY_S <= at_s < self.end_s + late_s


def at(hour: float) -> float:
    """An hour of the second day, s since the first midnight."""
    return DAY + hour * HOUR


def lasting(
    name: str, hour: float, length_s: float, found_by: frozenset[tuple[str, str]], effect: Effect
) -> Event:
    start_s = at(hour)
    return Event(name, start_s, start_s + length_s, found_by, (Incident(name, start_s, length_s, effect),))


def drift(name: str, hour: float, up_s: float, down_s: float, share: float) -> Event:
    """Up by a share on a straight line, and back to nothing on another."""
    start_s, top = at(hour), Effect(decode=1.0 + share, prefill=1.0 + share)
    undone = Effect(decode=1.0 / top.decode, prefill=1.0 / top.prefill)
    parts = (
        Incident(name, start_s, up_s, top, ramp=True),
        Incident(name, start_s + up_s, down_s, top),
        Incident(name, start_s + up_s, down_s, undone, ramp=True),
    )
    return Event(name, start_s, start_s + up_s + down_s, LEVELS | {("SHIFT", "ttft")}, parts)


SCRIPT = (
    *(lasting("cold start", hour, 1.0, NOTHING, Effect(evicted=True)) for hour in (1.0, 1.5, 2.0)),
    lasting("ms/token +25 %", 3.0, 40 * MINUTE, LEVELS, Effect(decode=1.25)),
    drift("drift to +30 % in 2 h, back in 1 h", 5.0, 2 * HOUR, HOUR, 0.30),
    lasting("queue, 150 ms before each answer", 10.0, 20 * MINUTE, WAITS, Effect(queue_ms=150.0)),
    lasting("outage (refused)", 11.5, 3 * MINUTE, FAILURES, Effect(refused=True)),
    Event("4 % of answers 5 times as slow", at(12.5), at(12.5) + 20 * MINUTE, SPIKES),
    lasting(
        "new level +20 %",
        14.0,
        END_S - at(14.0),
        LEVELS | {("SHIFT", "ttft")},
        Effect(decode=1.2, prefill=1.2),
    ),
)
SPIKING = next(event for event in SCRIPT if event.found_by == SPIKES)
NEW_LEVEL = SCRIPT[-1]
JUDGED_UNTIL_S = {NEW_LEVEL.name: ACCEPTED_S}  # after that the new level is the usual one
SCENARIO = Scenario("a day", tuple(i for event in SCRIPT for i in event.incidents))


# -- the server, in time that jumps


class Leaping(selectors.SelectSelector):
    """Waits for nothing: the time that it was to wait is over at once. Sockets are not served."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing is left to wait for"
        self.now_s += max(0.0, timeout)
        return []


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time goes from timer to timer."""

    def __init__(self) -> None:
        self._leaping = Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now_s


@dataclass(slots=True)
class VirtualClock:
    """The probe's clock on that loop."""

    loop: asyncio.AbstractEventLoop

    def now_us(self) -> int:
        return MIDNIGHT_US + round(self.loop.time() * 1e6)

    def monotonic_ms(self) -> float:
        return self.loop.time() * 1e3

    async def sleep_until(self, monotonic_ms: float) -> None:
        await asyncio.sleep(max(0.0, monotonic_ms - self.monotonic_ms()) / 1e3)


class Server:
    """The simulated machine on the script, and a probe of it."""

    def __init__(self, seed: int, rhythm: float) -> None:
        self._rhythm = rhythm
        self._loop = asyncio.get_running_loop()
        self._clock = VirtualClock(self._loop)
        self._rng = random.Random(seed)
        self._nonces = random.Random(seed + 1)
        self._spikes = random.Random(seed + 2)
        self._machine = Machine(rng=self._rng, effect=self._effect, monotonic=self._loop.time)
        self._evicted: set[Incident] = set()

    def _effect(self) -> Effect:
        """The script's effect now, the hour's, and a spike's by chance."""
        now_s = self._loop.time()
        effect = SCENARIO.effect_at(now_s)
        factor = 1.0 + self._rhythm * math.cos(2.0 * math.pi * (now_s / HOUR - 14.0) / 24.0)
        if SPIKING.start_s <= now_s < SPIKING.end_s and self._spikes.random() < SPIKE_SHARE:
            factor *= SPIKE
        return dataclasses.replace(effect, decode=factor * effect.decode, prefill=factor * effect.prefill)

    def _evict(self) -> bool:
        """Forget the models where the script says so, as the HTTP server does; whether it refuses now."""
        now = SCENARIO.current(self._loop.time())
        begun = {i for i in now if i.effect.evicted or i.effect.refused} - self._evicted
        if begun:
            self._machine.unload_all()
            self._evicted |= begun
        return any(i.effect.refused for i in now)

    async def probe(self) -> Observation:
        """Ask once, as the probe of an Ollama server does."""
        sent_us = self._clock.now_us()
        if self._evict():
            return observation(sent_us, ok=False, error_kind="refused", error="connection refused")
        instants = Instants(self._clock)
        prompt = f"{self._nonces.randrange(10**9):09d}\n{OCEAN}"
        job = self._machine.job(MODEL, prompt, {"num_predict": TOKENS, "temperature": 0}, None)
        instants.mark_sent()
        async with (
            self._machine.hold(job) as runner,
            contextlib.aclosing(self._machine.generate(job, runner)) as tokens,
        ):
            async for _token in tokens:
                instants.mark_read()
                instants.mark_piece()
        instants.mark_read()
        return observation(
            sent_us,
            latency_ms=instants.latency_ms,
            ttft_ms=instants.ttft_ms,
            gap_mean_ms=instants.gap_mean_ms,
            **numbers(job.numbers(self._loop.time())),
        )


def observation(sent_us: int, **fields: Any) -> Observation:
    return Observation(
        provider="ollama",
        model=MODEL.name,
        server="scripted:11434",
        source="simulator",
        timestamp=rfc3339(sent_us),
        prompt_hash=prompt_hash(OCEAN),
        **fields,
    )


async def probed(seed: int, rhythm: float) -> list[Observation]:
    """Every probe of the two days; one that is still busy when the next is due leaves that out."""
    server, loop = Server(seed, rhythm), asyncio.get_running_loop()
    observations = []
    for tick in range(int(END_S / INTERVAL_S)):
        wait_s = tick * INTERVAL_S - loop.time()
        if wait_s >= 0.0:
            await asyncio.sleep(wait_s)
            observations.append(await server.probe())
    return observations


# -- the product


@dataclass(slots=True)
class Life:
    """What the product said, read from its store and its API's documents."""

    alarms: list[StoredAlarm] = field(default_factory=list)
    incidents: list[Told] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    marks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by metric, of the last 24 hours
    failures: int = 0
    cold_times_s: list[float] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    baselines: list[tuple[str, int, str, float, float]] = field(default_factory=list)


async def lived(observations: Sequence[Observation], path: Path) -> Life:
    """Hand every observation in at its time, accept the new level at its hour, and read what was found."""
    now_us = MIDNIGHT_US
    life = Life()
    async with opened(path, lambda: now_us) as (store, ingest, _hub):
        kept_us = MIDNIGHT_US
        for i in range(0, len(observations), BATCH):
            batch = observations[i : i + BATCH]
            now_us = time_us(batch[-1]) + 1_000_000
            if seconds(now_us) >= ACCEPTED_S and not life.accepted:
                life.accepted = await accept(ingest)
            told = await ingest.accept(batch)
            assert told.accepted == len(batch), told
            if now_us - kept_us >= HOUSEKEEPING_S * 1e6:
                kept_us = now_us
                ingest.findings.save()
                store.checkpoint()
                ingest.findings.forget_old()
        await ingest.settle()
        ids = range(store.next_id - len(observations), store.next_id)
        read(life, store, ingest, now_us, {i: time_us(o) for i, o in zip(ids, observations, strict=True)})
    life.failures = sum(not o.ok for o in observations)
    return life


async def accept(ingest: Ingest) -> list[str]:
    """Take every open change of a level as a new phase, as `POST /api/incidents/{id}/accept` does."""
    findings = ingest.findings
    said = []
    for held in list(findings.incidents.values()):
        for incident in list(held.values()):
            levels = [a for a in findings.alarms_of(incident) if a.detector == "SHIFT" and a.state == "open"]
            for alarm in levels:
                await findings.accept(alarm, "operator", None)
                proposed = (
                    "not proposed" if alarm.proposed_us is None else f"proposed {clock(alarm.proposed_us)}"
                )
                said.append(
                    f"{alarm.metric}, phase from {clock(alarm.change_us)} ({proposed}), of incident {incident.id}"
                )
    return said or ["nothing: no change of a level was open"]


def read(life: Life, store: Store, ingest: Ingest, now_us: int, sent_us_by_id: dict[int, int]) -> None:
    (series,) = store.series.values()
    life.alarms = store.records.all(StoredAlarm, "1 ORDER BY opened_us, id")
    life.incidents = store.records.all(Told, "1 ORDER BY opened_us, id")
    life.phases = store.records.all(Phase, "1 ORDER BY metric, number")
    life.cold_times_s = [seconds(sent_us_by_id[row_id]) for row_id in ingest.engine.cold_ids(series.id)]
    life.marks = {metric: marks(ingest, series, metric, now_us) for metric in ingest.engine.alarmed}
    for metric in ingest.engine.alarmed:
        for v in store.baselines.get((series.id, metric), []):
            life.baselines.append((metric, v.phase, f"{clock(v.fitted_us)} {v.state}", v.centre, v.sigma))


def marks(ingest: Ingest, series: Series, metric: str, now_us: int) -> list[dict[str, Any]]:
    """What the dashboard prints beside each rule."""
    chart = ingest.engine.chart(series.id, metric)
    assert chart is not None
    window = series.window
    day_ago_us = now_us - int(DAY * 1e6)
    judged = int(((window.times_us >= day_ago_us) & (window.column("outcome") == 0.0)).sum())
    recent = [v for v in ingest.recent[series.id].values() if v.metric == metric and not v.superseded]
    trace = ingest.engine.trace(series.id, metric)
    found = documents.marks_document(chart, recent, now_us, judged, trace)
    for row in found:
        row["quiet"] = sum(
            v.chart == row["chart"] and v.rule == row["rule"] and is_quiet(seconds(v.first_signal_us))
            for v in recent
            if v.first_signal_us >= day_ago_us
        )
    return found


def is_quiet(at_s: float) -> bool:
    """Whether nothing of the script goes on, nor has just been."""
    return not any(
        event.start_s <= at_s < JUDGED_UNTIL_S.get(event.name, event.end_s) + GRACE_S for event in SCRIPT
    )


# -- the verdict


@dataclass(frozen=True, slots=True)
class Ruling:
    """What an alarm is worth: "right", "misdated", "explained" or "FALSE", and the event that it is of."""

    word: str
    event: Event | None
    said: str


def ruling(alarm: StoredAlarm) -> Ruling:
    """Compare an alarm with the script."""
    opened_s, changed_s = seconds(alarm.opened_us), seconds(alarm.change_us)
    for event in SCRIPT:
        until_s = JUDGED_UNTIL_S.get(event.name, event.end_s)
        if not (event.start_s <= opened_s < until_s + GRACE_S):
            continue
        is_expected = (alarm.detector, alarm.metric) in event.found_by
        of = f"{event.name} of {clock_s(event.start_s)}"
        dated = (
            f"change time {changed_s - event.start_s:+,.0f} s, found after {opened_s - event.start_s:,.0f} s"
        )
        if is_expected and opened_s < until_s:
            word = "right" if event.covers(changed_s) else "misdated"
            return Ruling(word, event, f"{of}, {dated}{over(alarm, until_s)}")
        if event.found_by:
            return Ruling("explained", event, f"{of}, {dated}{over(alarm, until_s)}")
        return Ruling("FALSE", event, f"{of} is to raise nothing; {dated}")
    return Ruling("FALSE", None, "nothing in the script")


def over(alarm: StoredAlarm, until_s: float) -> str:
    """How long after the end it closed."""
    if alarm.closed_us is None:
        return ", STILL OPEN"
    return f", closed {seconds(alarm.closed_us) - until_s:+,.0f} s from the end"


def report(life: Life, seed: int, rhythm: float) -> Iterator[str]:
    """The timeline as lines of text."""
    yield (
        f"seed {seed}; day 1 is learnt, day 2 is scripted, till day 3 {clock_s(END_S)[2:]}; "
        f"rhythm ±{rhythm:.0%} throughout"
    )
    yield ""
    yield "SCRIPT"
    for event in SCRIPT:
        yield f"  {clock_s(event.start_s)}  to {clock_s(event.end_s)}  {event.name}"
    yield f"  {clock_s(ACCEPTED_S)}                  the new level is accepted:"
    yield from (f"                                {said}" for said in life.accepted)
    yield ""
    yield "INCIDENTS"
    for incident in life.incidents:
        yield from told_incident(life, incident)
    yield ""
    yield "SCRIPT EVENTS NOT FOUND"
    yield from not_found(life) or ["  none"]
    yield ""
    yield "COLD STARTS TAGGED: " + ", ".join(clock_s(t) for t in life.cold_times_s)
    yield ""
    yield "LEVEL MARKS BELOW MIN_CHANGE (no alarm)"
    yield from (alarm_line(a) for a in life.alarms if a.incident_id is None)
    yield ""
    yield from marks_table(life)
    yield ""
    yield "PHASES"
    for p in life.phases:
        yield f"  {p.metric:<14} {p.number}  from {clock(p.start_us)}  {p.cause}"
    yield "BASELINES (centre in the unit of the metric)"
    for metric, phase, when, centre, sigma in life.baselines:
        yield f"  {metric:<14} phase {phase}  {when:<26} {math.exp(centre):9.3f}  sigma {sigma:.4f}"
    yield ""
    yield tally(life)


def told_incident(life: Life, incident: Told) -> Iterator[str]:
    yield (
        f"  #{incident.id}  {clock(incident.opened_us)} to {clock(incident.closed_us)}  {incident.state}"
        f"{'  SUPERSEDED' if incident.superseded else ''}"
    )
    for alarm in life.alarms:
        if alarm.incident_id == incident.id:
            yield alarm_line(alarm)
            found = ruling(alarm)
            yield f"          {found.word}: {found.said}"


def alarm_line(a: StoredAlarm) -> str:
    return (
        f"    {a.detector:<8} {a.metric:<13} {a.direction:<4} change {clock(a.change_us)} opened {clock(a.opened_us)} "
        f"closed {clock(a.closed_us):<11} {a.size_percent:+7.1f} % ({a.size_low:+.1f} to {a.size_high:+.1f})  "
        f"{a.state}, phase {a.phase}{', provisional' if a.provisional else ''}{', superseded' if a.superseded else ''}"
    )


def not_found(life: Life) -> list[str]:
    right: dict[str, set[tuple[str, str]]] = {}
    for alarm in counted(life):
        found = ruling(alarm)
        if found.word in ("right", "misdated") and found.event is not None:
            right.setdefault(found.event.name, set()).add((alarm.detector, alarm.metric))
    lines = []
    for event in SCRIPT:
        if event.found_by and event.name not in right:
            lines.append(f"  {event.name}: NOT FOUND")
        elif missing := event.found_by - right.get(event.name, set()):
            lines.append(f"  {event.name}: not by {', '.join(' '.join(one) for one in sorted(missing))}")
    return lines


def marks_table(life: Life) -> Iterator[str]:
    """Episodes of the last 24 hours, as the dashboard counts them, and those of them outside of every event."""
    yield "MARKS, last 24 h: episodes, expected by chance; of them outside of the script's events, and expected there"
    quiet_s = sum(MINUTE for m in range(int(DAY / MINUTE)) if is_quiet(END_S - DAY + m * MINUTE))
    for metric, rows in life.marks.items():
        for row in rows:
            expected = row["expected"] or 0.0
            beyond = "beyond chance" if row["beyond_chance"] else ""
            yield (
                f"  {metric:<13} {row['chart']:<8} {row['rule']:<3} {row['today']:>5} {expected:>8.1f} "
                f"{beyond:<13}  {row['quiet']:>5} {expected * quiet_s / DAY:>8.1f}"
            )


def counted(life: Life) -> list[StoredAlarm]:
    """Alarms that a person is told."""
    return [a for a in life.alarms if a.incident_id is not None]


def tally(life: Life) -> str:
    words = [ruling(alarm).word for alarm in counted(life)]
    counts = ", ".join(f"{words.count(word)} {word}" for word in ("right", "misdated", "explained", "FALSE"))
    return (
        f"{len(life.incidents)} incidents with {len(words)} alarms: {counts}; {life.failures} refused probes"
    )


def save(life: Life, seed: int, rhythm: float) -> None:
    document = {
        "seed": seed,
        "rhythm": rhythm,
        "script": [
            {"name": e.name, "start_s": e.start_s, "end_s": e.end_s, "found_by": sorted(e.found_by)}
            for e in SCRIPT
        ],
        "accepted": life.accepted,
        "incidents": [dataclasses.asdict(i) for i in life.incidents],
        "alarms": [dataclasses.asdict(a) | ruled(a) for a in life.alarms],
        "marks": life.marks,
        "phases": [dataclasses.asdict(p) for p in life.phases],
        "cold_times_s": life.cold_times_s,
        "tally": tally(life),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=1))


def ruled(alarm: StoredAlarm) -> dict[str, str]:
    found = ruling(alarm)
    return {"ruling": "mark" if alarm.incident_id is None else found.word, "because": found.said}


# -- times


def time_us(o: Observation) -> int:
    stamp = dt.datetime.fromisoformat(o.timestamp or "")
    return (stamp - documents.EPOCH) // dt.timedelta(microseconds=1)


def seconds(time_us: int) -> float:
    return (time_us - MIDNIGHT_US) / 1e6


def clock_s(at_s: float) -> str:
    """Day and time of day: 2 03:00:00."""
    whole = int(at_s)
    return f"{whole // 86_400 + 1} {whole // 3_600 % 24:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def clock(time_us: int | None) -> str:
    return "-" if time_us is None else clock_s(seconds(time_us))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--rhythm", type=float, default=RHYTHM, metavar="SHARE", help="of the day; 0 for none"
    )
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        observations = runner.run(probed(given.seed, given.rhythm))
    with tempfile.TemporaryDirectory() as folder:
        life = asyncio.run(lived(observations, Path(folder) / "life.db"))
    print("\n".join(report(life, given.seed, given.rhythm)))
    save(life, given.seed, given.rhythm)


if __name__ == "__main__":
    main()
