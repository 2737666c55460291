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


class SessionOut(BaseModel):
    """How this server stands to the caller."""

    login: bool = Field(description="Whether callers must be known.")
    known: bool = Field(description="Whether this one is, so that it may read.")
    password: bool = Field(description="Whether there is a password to log in with.")


class StatusOut(BaseModel):
    """How a series stands. `learning` until the detectors run; `failing` while its probes fail.

    `learn_n` and `learn_left_s` say when they will; null once they do.
    """

    state: Literal["empty", "learning", "live", "stale", "failing"]
    since: str | None
    last: str | None
    age_s: float | None
    interval_s: float | None
    learned: int
    learn_n: int | None
    learn_left_s: float | None
    error_kind: str | None
    error: str | None
    failed_in_row: int


class LimitsVersionOut(BaseModel):
    """Control limits as they were from a moment on, in the unit of `values`."""

    model_config = {"populate_by_name": True}

    from_: str = Field(alias="from")
    state: Literal["provisional", "locked"]
    phase: int
    centre: float
    sigma: float
    ucl: float
    lcl: float
    zones: list[float] = Field(description="The seven lines from LCL to UCL, one sigma apart.")
    n: int


class CalibrationOut(BaseModel):
    """What the detectors have learnt of a metric, and what they can see."""

    n: int
    buckets: int
    bucket_s: float
    points_per_bucket: int
    is_traffic: bool
    autocorrelation: float
    bucket_autocorrelation: float
    inflation: float
    level: float = Field(description="The learnt level, in the unit of `values`.")
    detectors: list[str]
    expected_false_alarms_per_day: float | None
    smallest_shift_percent: float | None = Field(
        description="The smallest lasting shift of the level found within five minutes on average."
    )


class MarkOut(BaseModel):
    """Episodes of a rule in the last 24 hours, beside what chance alone would give."""

    chart: Literal["points", "buckets"]
    rule: str
    today: int
    expected: float | None
    beyond_chance: bool


class BucketsOut(BaseModel):
    """The chart of half minutes as columns; `scores` are standard normal while in control."""

    times_ms: list[float]
    levels: list[float]
    scores: list[float | None]
    rules: dict[str, list[str]] = Field(description="Broken rules, by position.")


class AlarmOut(BaseModel):
    """One change that a detector found. `before` and `after` are levels in the unit of `values` for SHIFT."""

    id: int
    metric: str
    phase: int
    detector: Literal["SHIFT", "SPREAD", "SPIKE", "FAILURES"]
    direction: Literal["up", "down"]
    state: Literal["open", "recovered", "accepted", "below_min_change", "ended"]
    superseded: bool
    change: str
    opened: str
    closed: str | None
    change_id: int
    opened_id: int
    before: float
    after: float
    size_percent: float
    size_low: float
    size_high: float
    sigmas: float
    evidence: float
    provisional: bool
    proposed: str | None = Field(description="When the new level had been stable for 30 minutes.")
    sentence: str


class IncidentOut(BaseModel):
    """Alarms of one series that overlap in time: what a person is told."""

    id: int
    provider: str
    model: str
    server: str
    source: str
    opened: str
    change: str
    closed: str | None
    state: Literal["open", "recovered", "accepted", "ended"]
    superseded: bool
    headline: str
    metrics: list[str]
    rules: list[str]
    proposed: bool
    alarms: list[AlarmOut]
    cause: "CauseOut | None" = Field(
        description="The part of the requests that explains at least half of what they take longer, or less, since."
    )
    acknowledged_at: str | None
    acknowledged_by: str | None
    note: str | None


class IncidentPageOut(BaseModel):
    incidents: list[IncidentOut]
    total: int


class PhaseOut(BaseModel):
    metric: str
    number: int
    start: str
    cause: str
    who: str | None
    note: str | None
    made: str
    limits: list["LimitsVersionOut"]


class PhaseListOut(BaseModel):
    phases: list[PhaseOut]


class ExclusionOut(BaseModel):
    """`from`, `to` and who excluded what, why; `withdrawn` when it was taken back."""

    model_config = {"populate_by_name": True}

    id: int
    from_: str = Field(alias="from")
    to: str
    reason: str
    who: str | None
    made: str
    withdrawn: str | None


class ExclusionListOut(BaseModel):
    exclusions: list[ExclusionOut]


class AnnotationOut(BaseModel):
    id: int
    time: str
    text: str
    who: str | None
    made: str


class AnnotationListOut(BaseModel):
    annotations: list[AnnotationOut]


class BacktestOut(BaseModel):
    """A backtest: `done` of `total` observations are judged; `result` once the state is done."""

    id: int
    asked: dict[str, Any]
    state: Literal["running", "done", "failed", "cancelled"]
    done: int
    total: int | None
    result: dict[str, Any] | None
    error: str | None


class BacktestListOut(BaseModel):
    backtests: list[BacktestOut]


class FailuresOut(BaseModel):
    """The p chart of failures by half minute."""

    times_ms: list[float]
    seen: list[int]
    failed: list[int]
    centre: float | None
    ucl: list[float]


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
    state: Literal["none", "learning", "provisional", "locked"]
    learned_n: int
    alarms_in_s: float | None = Field(
        description="Seconds of observation until the detectors run; null once they do."
    )
    locks_in_s: float | None = Field(description="Until the baseline is locked; null once it is.")
    budget_per_day: float | None = Field(description="False alarms accepted a day; null for no detectors.")
    min_change_percent: float | None
    calibration: "CalibrationOut | None"
    scale: Literal["log", "linear"]
    baseline_at: str | None
    limits: list[LimitsVersionOut]


class SpcOut(LimitsOut):
    """Limits, the statistics of the window, and both charts with what was found on them."""

    series_id: int
    buckets: BucketsOut
    marks: list[MarkOut]
    phases: list[PhaseOut]
    incidents: list[IncidentOut]
    level_marks: list[AlarmOut] = Field(description="Levels that moved by less than min_change.")
    exclusions: list[ExclusionOut]
    annotations: list[AnnotationOut]
    cold_ids: list[int] = Field(description="Observations that waited for the model to load.")
    failures: FailuresOut
    n: int
    mean: float | None
    std: float | None
    p95: float | None


class SeriesName(BaseModel):
    provider: str
    model: str
    server: str
    source: str


class CauseOut(BaseModel):
    """The part of the request that explains at least half of what it took longer than usual."""

    part: Literal["network", "load", "queue", "prompt", "generation"]
    ms: float
    usual_ms: float = Field(description="The median of the good requests before.")


class ViolationOut(BaseModel):
    """One episode of one rule broken. Values are in the unit of `values`; the limits are those at detection."""

    id: int
    provider: str
    model: str
    server: str
    source: str
    metric: str
    chart: Literal["points", "buckets"]
    phase: int
    superseded: bool
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
    cause: CauseOut | None = Field(description="Of the worst point; null when no part explains it.")
    acknowledged_at: str | None
    acknowledged_by: str | None
    note: str | None


class ViolationPageOut(BaseModel):
    violations: list[ViolationOut]
    next: str | None
    total: int
    counts: dict[str, int] = Field(description="How many of each rule, under every other filter.")


class AcknowledgedOut(BaseModel):
    """How many violations an acknowledgement of many reached."""

    acknowledged: int


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


class NumbersOut(BaseModel):
    """What changes of a window with every observation and cannot be told point by point."""

    n: int
    mean: float | None
    std: float | None
    p95: float | None
    learned_n: int
    alarms_in_s: float | None
    locks_in_s: float | None
    marks: list[MarkOut]
    status: StatusOut


class PointsOut(BaseModel):
    """Single observations as columns of equal length, oldest first."""

    ids: list[int]
    times_ms: list[float]
    values: list[float | None]
    oks: list[int]
    eval_counts: list[int | None]


class RollupOut(BaseModel):
    """Stretches of `step_s` as columns of equal length, oldest first; a stretch without observations has none.

    The measured columns are null where every request of a stretch failed or did not tell the metric.
    """

    step_s: float
    times_ms: list[float] = Field(description="Where the stretches begin.")
    seen: list[int]
    failed: list[int]
    mean: list[float | None]
    min: list[float | None]
    p5: list[float | None]
    median: list[float | None]
    p95: list[float | None]
    max: list[float | None]


class HistoryOut(BaseModel):
    """Any span of a series: single observations where they are few enough, stretches of time otherwise."""

    from_ms: float
    to_ms: float
    first_ms: float | None = Field(description="The first observation of the series.")
    points: PointsOut | None
    rollup: RollupOut | None
    spc: SpcOut
    violations: list[ViolationOut] = Field(
        description="The furthest out, at most 2,000 of them; newest first."
    )
    violations_total: int
    status: StatusOut


class OverviewTargetOut(SeriesName):
    """How one series stands, with a small picture of its last hours as columns."""

    id: int
    standing: Literal["out", "failing", "stale", "learning", "in_control", "not_judged"]
    since: str | None = Field(description="Since when it stands like that.")
    headline: str | None = Field(description="Of the worst open incident.")
    status: StatusOut
    last: float | None
    last_z: float | None
    centre: float | None
    ucl: float | None
    lcl: float | None
    provisional: bool
    scale: Literal["log", "linear"]
    open_incidents: int
    open_marks: int
    marks: int = Field(description="In the span.")
    failed_percent: float | None = Field(description="Of the requests in the span.")
    times_ms: list[float] = Field(description="Where the stretches of the picture begin.")
    low: list[float | None]
    middle: list[float | None]
    high: list[float | None]


class OverviewOut(BaseModel):
    """Every series, the worst first."""

    metric: str
    hours: float
    step_s: float
    targets: list[OverviewTargetOut]
    cursor: str


class SeriesOut(SeriesName):
    id: int
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
    given_up: bool = Field(
        description="Whether the observations around it are no longer kept; there are no points."
    )
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


class ForecastOut(BaseModel):
    """What the database will take in so many days."""

    days: int
    bytes: int


class StorageOut(BaseModel):
    """What the database holds and takes. `raw_from` is from when on every observation is there; null keeps for ever.

    `forecast` is empty, and `observations_per_day` null, while too little has come to say.
    """

    file_bytes: int
    unused_bytes: int
    disk_free_bytes: int
    observations: int
    packed: int
    violations: int
    first: str | None
    raw_from: str | None
    keep_raw_days: float | None
    keep_minutes_days: float | None
    observations_per_day: int | None
    forecast: list[ForecastOut]


class TargetOut(SeriesName):
    url: str


class SloOut(BaseModel):
    """What is promised of a metric, in the unit of `values`; of every model when `model` is null."""

    model: str | None
    metric: str
    value: float


class AboutOut(BaseModel):
    """This server. `notice` is shown on every page."""

    version: str
    mode: Literal["up", "serve"]
    notice: str | None
    simulated: bool
    targets: list[TargetOut]
    interval_s: float | None
    provisional_n: int = Field(description="Good points after which the first limits are drawn.")
    budget: str = Field(description="False alarms accepted, such as 1/week.")
    min_change_percent: float
    slo: list[SloOut]
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
    verdicts: dict[str, dict[str, Any]] = Field(
        description="Of the metrics that raise alarms, and of others on which a rule is broken."
    )
    cold: bool
    buckets: dict[str, dict[str, Any]] = Field(
        description="By metric, the half minutes that this one completed."
    )


class LimitsEventOut(SeriesName):
    """Data of a `limits` event of the stream."""

    metric: str
    spc: LimitsOut


class StatusEventOut(BaseModel):
    """Data of a `status` event of the stream."""

    series: SeriesName
    metric: str
    status: StatusOut


STREAM_EVENTS: tuple[type[BaseModel], ...] = (
    LiveObservationOut,
    LimitsEventOut,
    StatusEventOut,
)
