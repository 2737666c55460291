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


def _us(ms: float | None) -> int | None:
    return None if ms is None else round(ms * 1000.0)


def _permille(percent: float | None) -> int | None:
    return None if percent is None else round(percent * 10.0)


def to_row(o: Observation, row_id: int, series_id: int, time_us: int, prompt_id: int | None) -> Row:
    """The observation as the columns of COLUMNS."""
    return (
        row_id,
        series_id,
        time_us,
        0 if o.ok else OUTCOME_CODE[o.outcome],
        _us(o.latency_ms),
        _us(o.ttft_ms),
        _us(o.connect_ms),
        _us(o.gap_mean_ms),
        _us(o.gap_max_ms),
        _us(o.total_duration_ms),
        _us(o.load_duration_ms),
        _us(o.prompt_eval_duration_ms),
        _us(o.eval_duration_ms),
        o.prompt_eval_count,
        o.eval_count,
        _permille(o.cpu_percent),
        _permille(o.memory_percent),
        _permille(o.gpu_percent),
        _permille(o.gpu_memory_percent),
        prompt_id,
        None if o.host is None else HOSTS.index(o.host),
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
    return Measured(
        latency_ms=ms(row[LATENCY]),
        ttft_ms=ms(row[TTFT]),
        total_ms=ms(row[TOTAL]),
        load_ms=ms(row[LOAD]),
        prompt_ms=ms(row[PROMPT_EVAL]),
        eval_ms=ms(row[EVAL]),
        prompt_count=row[PROMPT_COUNT],
        eval_count=row[EVAL_COUNT],
    )
