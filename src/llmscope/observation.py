"""What one request to a language model measured, and the metrics that are read from it.

An `Observation` is immutable and is the wire form of `POST /api/stats`: what a monitor, a proxy or any
other sender says of one request. Absent is None: a number that was not measured is never 0.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

MAX_DURATION_MS = 86_400_000.0  # one day; a longer request is a mistake of the sender's clock or unit

DurationMs = Annotated[float, msgspec.Meta(ge=0.0, le=MAX_DURATION_MS)]
Percent = Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Label = Annotated[str, msgspec.Meta(max_length=256)]


class Outcome(enum.StrEnum):
    """How a request ended. Everything but OK is a failure: counted and shown, never part of latency."""

    OK = "ok"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    HTTP_404 = "http_404"
    BUSY = "busy"
    TRUNCATED = "truncated"
    SERVER_ERROR = "server_error"
    BAD_RESPONSE = "bad_response"


ErrorKind = Literal["refused", "timeout", "http_404", "busy", "truncated", "server_error", "bad_response"]
Source = Literal["probe", "proxy", "otlp", "simulator"]
HostRole = Literal["monitor_host", "llm_host"]


class Observation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one request measured; the body of `POST /api/stats`.

    Durations are milliseconds, percentages 0 to 100, `timestamp` RFC 3339 (UTC when it names no zone; None
    means "now"). `latency_ms` is sent to last byte, `ttft_ms` sent to first non-empty content, `gap_*_ms` the
    time between successive pieces of content. The four `*_duration_ms` are the server's own numbers.
    `server` is the host and port of the LLM server; with provider, model and source it names the series.
    `host` says whose CPU, memory and GPU the percentages describe.
    """

    provider: Name
    model: Name
    server: Label = ""
    source: Source = "probe"
    timestamp: Label | None = None
    ok: bool = True
    error_kind: ErrorKind | None = None
    error: Annotated[str, msgspec.Meta(max_length=2000)] | None = None
    latency_ms: DurationMs | None = None
    ttft_ms: DurationMs | None = None
    connect_ms: DurationMs | None = None
    gap_mean_ms: DurationMs | None = None
    gap_max_ms: DurationMs | None = None
    total_duration_ms: DurationMs | None = None
    load_duration_ms: DurationMs | None = None
    prompt_eval_duration_ms: DurationMs | None = None
    eval_duration_ms: DurationMs | None = None
    prompt_eval_count: Count | None = None
    eval_count: Count | None = None
    cpu_percent: Percent | None = None
    memory_percent: Percent | None = None
    gpu_percent: Percent | None = None
    gpu_memory_percent: Percent | None = None
    host: HostRole | None = None
    prompt_hash: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    prompt_text: Annotated[str, msgspec.Meta(max_length=8000)] | None = None

    @property
    def outcome(self) -> Outcome:
        if self.ok:
            return Outcome.OK
        return Outcome(self.error_kind) if self.error_kind else Outcome.SERVER_ERROR


class Measured(msgspec.Struct, frozen=True):
    """The numbers that metrics are computed from, durations in ms; None where not measured."""

    latency_ms: float | None = None
    ttft_ms: float | None = None
    total_ms: float | None = None
    load_ms: float | None = None
    prompt_ms: float | None = None
    eval_ms: float | None = None
    prompt_count: int | None = None
    eval_count: int | None = None


def queue_ms(m: Measured) -> float | None:
    """Time the server does not account for: total - load - prompt eval - eval; None unless all are known.

    On Ollama this is the wait for a free slot (measured; it appears in no field of its own).
    """
    if m.total_ms is None or m.load_ms is None or m.prompt_ms is None or m.eval_ms is None:
        return None
    return max(0.0, m.total_ms - m.load_ms - m.prompt_ms - m.eval_ms)


def prompt_ms_per_token(m: Measured) -> float | None:
    """Prefill time per prompt token, ms; only meaningful when the prompt begins with a fresh nonce."""
    if m.prompt_ms is None or m.prompt_count is None or m.prompt_count < 1:
        return None
    return m.prompt_ms / m.prompt_count


def ms_per_token(m: Measured) -> float | None:
    """Decode time per output token, ms; None for fewer than two tokens, where it says nothing."""
    if m.eval_ms is None or m.eval_count is None or m.eval_count < 2:
        return None
    return m.eval_ms / m.eval_count


def tokens_per_second(eval_count: int | None, eval_ms: float | None) -> float | None:
    """Decode rate, tokens/s; None when the server did not report both numbers.

    >>> tokens_per_second(42, 1900.0)
    22.105263157894736
    >>> tokens_per_second(42, None) is None
    True
    """
    if eval_count is None or eval_ms is None or eval_ms <= 0.0:
        return None
    return 1000.0 * eval_count / eval_ms


@dataclass(frozen=True, slots=True)
class Metric:
    """A number read from an observation: its unit, its scale and which direction is bad.

    `least_sigma` is the least that a chart of it takes sigma to be, for what is the same each time, in its unit.
    """

    key: str
    title: str
    unit: str
    scale: Literal["log", "linear"]
    bad: Literal["up", "down"]
    read: Callable[[Measured], float | None]
    least_sigma: float = 0.0


METRICS: dict[str, Metric] = {
    m.key: m
    for m in (
        Metric("latency", "Response latency", "ms", "log", "up", lambda m: m.latency_ms),
        Metric("ttft", "Time to first token", "ms", "log", "up", lambda m: m.ttft_ms),
        # an idle server queues for exactly nothing: the first tenth of a millisecond is not out of control
        Metric("queue", "Queue time", "ms", "linear", "up", queue_ms, least_sigma=0.1),
        Metric("load", "Load time", "ms", "log", "up", lambda m: m.load_ms),
        Metric("prompt_ms_per_token", "Prefill per token", "ms/token", "log", "up", prompt_ms_per_token),
        Metric("ms_per_token", "Time per output token", "ms/token", "log", "up", ms_per_token),
        Metric(
            "tokens_per_second",
            "Decode rate",
            "tokens/s",
            "log",
            "down",
            lambda m: tokens_per_second(m.eval_count, m.eval_ms),
        ),
    )
}

WATCHED = ("latency", "ttft", "ms_per_token")  # alarmed by default; the rest have charts without detectors
