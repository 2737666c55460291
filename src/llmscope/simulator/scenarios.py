"""What the simulated server goes through, on a script: a pure function of the seconds since it started."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Effect:
    """What is different at a moment. Factors multiply durations; `queue_ms` is what others hold the slot for."""

    decode: float = 1.0
    prefill: float = 1.0
    queue_ms: float = 0.0
    evicted: bool = False  # the model was pushed out of memory when this began
    refused: bool = False  # nothing listens
    crashed: bool = False  # the process that runs the model dies in the middle of every answer


USUAL = Effect()


@dataclass(frozen=True, slots=True)
class Incident:
    """An effect from `start_s` for `length_s`; with `ramp` it grows from nothing to the whole."""

    title: str
    start_s: float
    length_s: float
    effect: Effect
    ramp: bool = False

    def at(self, t_s: float) -> Effect | None:
        """Its effect at a moment, None outside of it."""
        if not self.start_s <= t_s < self.start_s + self.length_s:
            return None
        if not self.ramp:
            return self.effect
        share = (t_s - self.start_s) / self.length_s
        return replace(
            self.effect,
            decode=1.0 + share * (self.effect.decode - 1.0),
            prefill=1.0 + share * (self.effect.prefill - 1.0),
            queue_ms=share * self.effect.queue_ms,
        )


@dataclass(frozen=True, slots=True)
class Scenario:
    """Incidents on a time line that begins again after `repeat_s`."""

    title: str
    incidents: tuple[Incident, ...] = ()
    repeat_s: float | None = None

    def effect_at(self, t_s: float) -> Effect:
        """Everything that is different `t_s` seconds after the start.

        >>> SCENARIOS["shift"].effect_at(0.0).decode, SCENARIOS["shift"].effect_at(1e6).decode
        (1.0, 1.3)
        """
        moment = t_s % self.repeat_s if self.repeat_s else t_s
        total = USUAL
        for incident in self.incidents:
            effect = incident.at(moment)
            if effect is not None:
                total = Effect(
                    total.decode * effect.decode,
                    total.prefill * effect.prefill,
                    total.queue_ms + effect.queue_ms,
                    total.evicted or effect.evicted,
                    total.refused or effect.refused,
                    total.crashed or effect.crashed,
                )
        return total

    def current(self, t_s: float) -> tuple[Incident, ...]:
        """The incidents going on at a moment."""
        moment = t_s % self.repeat_s if self.repeat_s else t_s
        return tuple(i for i in self.incidents if i.at(moment) is not None)


FOR_EVER_S = 1e9
LEARNT_S = 330.0  # after 150 probes at one every 2 s, and some: the baseline is frozen
ONE_PROBE_S = 2.0  # an incident of this length meets exactly one of the probes that come every 2 s

EVICTED = Effect(evicted=True)
STALLED = Effect(decode=3.0, prefill=3.0)
SLOWER = Effect(decode=1.5, prefill=1.5)
THROTTLED = Effect(decode=1.6)
BUSY = Effect(queue_ms=600.0)
REFUSED = Effect(refused=True)
CRASHED = Effect(crashed=True)
DRIFTED = Effect(decode=1.5, prefill=1.5)


def _evictions(*starts_s: float) -> tuple[Incident, ...]:
    return tuple(Incident("another model pushed this one out of memory", s, 1.0, EVICTED) for s in starts_s)


def _stalls(*starts_s: float) -> tuple[Incident, ...]:
    return tuple(Incident("one answer is three times as slow", s, ONE_PROBE_S, STALLED) for s in starts_s)


SCENARIOS: dict[str, Scenario] = {
    "steady": Scenario("nothing happens"),
    "cold-start": Scenario("the model is reloaded every 2 minutes", _evictions(60.0), 120.0),
    "drift": Scenario(
        "+50 % over 10 minutes, then it stays",
        (
            Incident("everything gets slower, +50 % over 10 minutes", LEARNT_S, 600.0, DRIFTED, ramp=True),
            Incident("everything is 50 % slower", LEARNT_S + 600.0, FOR_EVER_S, DRIFTED),
        ),
    ),
    "shift": Scenario(
        "+30 % from one moment on",
        (Incident("everything is 30 % slower", LEARNT_S, FOR_EVER_S, Effect(decode=1.3, prefill=1.3)),),
    ),
    "spikes": Scenario(
        "one answer in thirty or so is three times as slow", _stalls(45.0, 88.0, 170.0), 200.0
    ),
    "contention": Scenario(
        "other clients hold the slot for 40 s of every 4 minutes",
        (Incident("other clients hold the slot", 60.0, 40.0, BUSY),),
        240.0,
    ),
    "gpu-throttle": Scenario(
        "decoding is 60 % slower for 2 of every 8 minutes",
        (Incident("the GPU is throttled", LEARNT_S, 120.0, THROTTLED),),
        480.0,
    ),
    "outage": Scenario(
        "nothing listens for 20 s of every 3 minutes",
        (Incident("the server is down", 60.0, 20.0, REFUSED),),
        180.0,
    ),
    # With a probe every 2 s limits are provisional from 20 good answers (40 s) and frozen at 150 (300 s). The
    # shift is short and large so that a robust fit at 80 answers still tells it from the usual: at +35 % for
    # 40 s the limits of 160 s to 300 s came out too high, and every second quiet minute looked too fast.
    "demo": Scenario(
        "a first R1 within 90 s, a sustained shift within 3 minutes, then some of everything",
        (
            *_evictions(54.0),
            *_stalls(74.0),
            Incident("everything is 50 % slower", 110.0, 30.0, SLOWER),
            Incident("other clients hold the slot", 360.0, 12.0, BUSY),
            *_evictions(420.0),
            Incident("the GPU is throttled", 480.0, 60.0, THROTTLED),
            Incident("the server is down", 640.0, 14.0, REFUSED),
            Incident("everything gets slower, +50 % over 8 minutes", 760.0, 480.0, DRIFTED, ramp=True),
            Incident("the model's process crashes in the middle of an answer", 1320.0, ONE_PROBE_S, CRASHED),
            *_stalls(1400.0, 1436.0),
        ),
        1500.0,
    ),
}
