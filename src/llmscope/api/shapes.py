"""The answers of the API as models: what the OpenAPI file, and the page's types generated from it, say.

Hot answers are written without passing through these; tests check that they fit.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field


class ProblemError(BaseModel):
    row: int | None
    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemError]


class AcceptedOut(BaseModel):
    """The observations are on disk."""

    status: Literal["ok"]
    logged: Literal[True]
    accepted: int = Field(description="Rows stored now.")
    duplicates: int = Field(0, description="Rows that were stored before.")


class StatusOut(BaseModel):
    """How a series stands. `learning` until the baseline is frozen; `failing` while its probes fail."""

    state: Literal["empty", "learning", "live", "stale", "failing"]
    since: str | None
    last: str | None
    age_s: float | None
    interval_s: float | None
    learned: int
    learn_n: int
    learn_left_s: float | None
    error_kind: str | None
    error: str | None
    failed_in_row: int


class LimitsVersionOut(BaseModel):
    """Control limits as they were from a moment on, in the unit of `values`."""

    model_config = {"populate_by_name": True}

    from_: str = Field(alias="from")
    state: Literal["provisional", "frozen"]
    centre: float
    sigma: float
    ucl: float
    lcl: float
    zones: list[float] = Field(description="The seven lines from LCL to UCL, one sigma apart.")
    n: int


class LimitsOut(BaseModel):
    """Centre line and control limits in the unit of `values`; null until 20 good points are known.

    On the log scale `sigma` is a sixth of the distance between the limits, `sigma_log` the sigma of ln(value).
    """

    centre: float | None
    sigma: float | None
    sigma_log: float | None
    ucl: float | None
    lcl: float | None
    zones: list[float] | None = Field(description="The seven lines from LCL to UCL, one sigma apart.")
    state: Literal["none", "learning", "provisional", "frozen"]
    learned_n: int
    learn_n: int
    scale: Literal["log", "linear"]
    baseline_at: str | None
    limits: list[LimitsVersionOut]


class SpcOut(LimitsOut):
    """Limits, and the statistics of the window."""

    n: int
    mean: float | None
    std: float | None
    p95: float | None


class SeriesName(BaseModel):
    provider: str
    model: str
    server: str
    source: str


class ViolationOut(BaseModel):
    """One episode of one rule broken. Values are in the unit of `values`; the limits are those at detection."""

    id: int
    provider: str
    model: str
    server: str
    source: str
    metric: str
    rule: str
    side: str
    severity: Literal["critical", "warning"]
    pattern_start: str
    first_signal: str
    last_signal: str
    pattern_start_id: int
    first_signal_id: int
    last_signal_id: int
    open: bool
    count: int
    peak_z: float
    peak_value: float
    peak_id: int
    value: float
    centre: float
    sigma: float
    ucl: float
    lcl: float
    n: int
    mean: float | None
    std: float | None
    provisional: bool
    acknowledged_at: str | None
    acknowledged_by: str | None
    note: str | None


class ViolationPageOut(BaseModel):
    violations: list[ViolationOut]
    next: str | None
    total: int


class WindowOut(BaseModel):
    """Columns of equal length, one entry a point, oldest first; only those asked for are present."""

    timestamps: list[str] | None = None
    times_ms: list[float] | None = None
    values: list[float | None] | None = None
    models: list[str] | None = None
    providers: list[str] | None = None
    servers: list[str] | None = None
    sources: list[str] | None = None
    total_durations: list[float | None] | None = None
    load_durations: list[float | None] | None = None
    prompt_eval_durations: list[float | None] | None = None
    eval_durations: list[float | None] | None = None
    queue_durations: list[float | None] | None = None
    ttfts: list[float | None] | None = None
    prompt_eval_counts: list[int | None] | None = None
    eval_counts: list[int | None] | None = None
    tokens_per_second: list[float | None] | None = None
    cpu_percents: list[float | None] | None = None
    memory_percents: list[float | None] | None = None
    gpu_percents: list[float | None] | None = None
    gpu_memory_percents: list[float | None] | None = None
    prompt_hashes: list[str | None] | None = None
    oks: list[int] | None = None
    ids: list[int] | None = None
    spc: SpcOut | None
    violations: list[ViolationOut]
    cursor: str
    status: StatusOut


class SeriesOut(SeriesName):
    metric: str
    first: str | None
    last: str | None
    count: int
    failed: int
    status: StatusOut


class SeriesListOut(BaseModel):
    series: list[SeriesOut]


class ObservationOut(SeriesName):
    """One observation in full."""

    id: int
    timestamp: str
    ok: bool
    error_kind: str | None
    error: str | None
    latency_ms: float | None
    ttft_ms: float | None
    connect_ms: float | None
    gap_mean_ms: float | None
    gap_max_ms: float | None
    total_duration_ms: float | None
    load_duration_ms: float | None
    prompt_eval_duration_ms: float | None
    eval_duration_ms: float | None
    prompt_eval_count: int | None
    eval_count: int | None
    queue_ms: float | None
    network_ms: float | None
    tokens_per_second: float | None
    cpu_percent: float | None
    memory_percent: float | None
    gpu_percent: float | None
    gpu_memory_percent: float | None
    host: str | None
    prompt_hash: str | None
    z: float | None


class UsualOut(BaseModel):
    """Medians of the good points before the pattern began."""

    n: int
    latency_ms: float | None
    ttft_ms: float | None
    load_ms: float | None
    queue_ms: float | None
    prompt_ms: float | None
    eval_ms: float | None
    network_ms: float | None
    eval_count: float | None
    tokens_per_second: float | None


class ContextOut(BaseModel):
    violation: ViolationOut
    points: list[ObservationOut]
    index: int = Field(description="Position of the worst point in `points`.")
    before: int
    after: int
    baseline: UsualOut
    prompt_text: str | None


class GpuOut(BaseModel):
    index: int
    name: str | None
    percent: float | None
    memory_percent: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_c: float | None
    power_w: float | None


class SystemOut(BaseModel):
    """The host LLMscope runs on, now."""

    time: str
    host: str
    cpu_percent: float | None
    memory_percent: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    gpu_percent: float | None
    gpu_memory_percent: float | None
    gpus: list[GpuOut]
    in_container: bool


class TargetOut(SeriesName):
    url: str


class AboutOut(BaseModel):
    """This server. `notice` is shown on every page."""

    version: str
    mode: Literal["up", "serve"]
    notice: str | None
    simulated: bool
    targets: list[TargetOut]
    interval_s: float | None
    learn_n: int
    provisional_n: int
    docs: str


class LiveObservationOut(SeriesName):
    """Data of an `observation` event of the stream."""

    id: int
    time_ms: float
    timestamp: str
    ok: bool
    error_kind: str | None
    error: str | None
    latency_ms: float | None
    ttft_ms: float | None
    load_ms: float | None
    queue_ms: float | None
    prompt_ms: float | None
    eval_ms: float | None
    prompt_eval_count: int | None
    eval_count: int | None
    cpu_percent: float | None
    memory_percent: float | None
    gpu_percent: float | None
    gpu_memory_percent: float | None
    verdicts: dict[str, dict[str, Any]]


class LimitsEventOut(SeriesName):
    """Data of a `limits` event of the stream."""

    metric: str
    spc: LimitsOut


class StatusEventOut(BaseModel):
    """Data of a `status` event of the stream."""

    series: SeriesName
    metric: str
    status: StatusOut


STREAM_EVENTS: tuple[type[BaseModel], ...] = (LiveObservationOut, LimitsEventOut, StatusEventOut)
