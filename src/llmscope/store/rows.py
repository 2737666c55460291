"""One observation as a row of integers: the layout that the table, the memory window and the charts share.

Durations are quantised to whole microseconds and percentages to tenths here, once, so that what is judged
live and what is judged again after a restart are the same numbers.
"""

from typing import Any

from llmscope.observation import Measured, Observation, Outcome

Row = tuple[Any, ...]  # the columns below, each an int or None

COLUMNS = (
    "id",
    "series_id",
    "time_us",
    "outcome",
    "latency_us",
    "ttft_us",
    "connect_us",
    "gap_mean_us",
    "gap_max_us",
    "total_us",
    "load_us",
    "prompt_eval_us",
    "eval_us",
    "prompt_eval_count",
    "eval_count",
    "cpu_permille",
    "memory_permille",
    "gpu_permille",
    "gpu_memory_permille",
    "prompt_id",
    "host",
)
SELECT = "SELECT " + ", ".join(COLUMNS) + " FROM observation"

ID, SERIES_ID, TIME_US, OUTCOME, LATENCY, TTFT = range(6)
TOTAL, LOAD, PROMPT_EVAL, EVAL, PROMPT_COUNT, EVAL_COUNT = range(9, 15)
PROMPT_ID, HOST = 19, 20

OUTCOMES = tuple(Outcome)  # stored as its position: never reorder
OUTCOME_CODE = {outcome: code for code, outcome in enumerate(OUTCOMES)}
HOSTS = ("monitor_host", "llm_host")  # stored as its position
HOST_CODE = {host: code for code, host in enumerate(HOSTS)}


def to_row(o: Observation, row_id: int, series_id: int, time_us: int, prompt_id: int | None) -> Row:
    """The observation as the columns of COLUMNS. Written out, for it runs for every row that arrives."""
    latency, ttft, connect = o.latency_ms, o.ttft_ms, o.connect_ms
    gap_mean, gap_max = o.gap_mean_ms, o.gap_max_ms
    total, load = o.total_duration_ms, o.load_duration_ms
    prompt_eval, generation = o.prompt_eval_duration_ms, o.eval_duration_ms
    cpu, memory, gpu, gpu_memory = o.cpu_percent, o.memory_percent, o.gpu_percent, o.gpu_memory_percent
    return (
        row_id,
        series_id,
        time_us,
        0 if o.ok else OUTCOME_CODE[o.outcome],
        None if latency is None else round(latency * 1e3),
        None if ttft is None else round(ttft * 1e3),
        None if connect is None else round(connect * 1e3),
        None if gap_mean is None else round(gap_mean * 1e3),
        None if gap_max is None else round(gap_max * 1e3),
        None if total is None else round(total * 1e3),
        None if load is None else round(load * 1e3),
        None if prompt_eval is None else round(prompt_eval * 1e3),
        None if generation is None else round(generation * 1e3),
        o.prompt_eval_count,
        o.eval_count,
        None if cpu is None else round(cpu * 10.0),
        None if memory is None else round(memory * 10.0),
        None if gpu is None else round(gpu * 10.0),
        None if gpu_memory is None else round(gpu_memory * 10.0),
        prompt_id,
        None if o.host is None else HOST_CODE[o.host],
    )


def ms(us: int | None) -> float | None:
    """Microseconds as milliseconds.

    >>> ms(2050500)
    2050.5
    """
    return None if us is None else us / 1000.0


def percent(permille: int | None) -> float | None:
    return None if permille is None else permille / 10.0


def measured(row: Row) -> Measured:
    """What the metrics are computed from."""
    latency, ttft, total, load = row[LATENCY], row[TTFT], row[TOTAL], row[LOAD]
    prompt_eval, generation = row[PROMPT_EVAL], row[EVAL]
    return Measured(
        None if latency is None else latency / 1e3,
        None if ttft is None else ttft / 1e3,
        None if total is None else total / 1e3,
        None if load is None else load / 1e3,
        None if prompt_eval is None else prompt_eval / 1e3,
        None if generation is None else generation / 1e3,
        row[PROMPT_COUNT],
        row[EVAL_COUNT],
    )
