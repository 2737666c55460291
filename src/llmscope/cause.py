"""Which part of a request made it slow: the one that explains at least half of what it took longer than usual.

Read from the window in memory, so that it can be told with the violation; the drill-down has the whole comparison.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from llmscope.store.window import COLUMN, Window

Part = Literal["network", "load", "queue", "prompt", "generation"]
PARTS: tuple[Part, ...] = ("network", "load", "queue", "prompt", "generation")
USUAL_N = 150  # good requests before the pattern whose medians are the usual times, as the drill-down has it
LOOKED_AT = 4 * USUAL_N  # rows that they are looked for in: an outage does not make every cause unknown
LEAST_EXCESS = 0.05  # of the usual latency; a request that took less longer was about as long as usual
LEAST_SHARE = 0.5  # of the excess

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cause:
    """A part of the request, what it took, and what it usually takes."""

    part: Part
    us: int
    usual_us: int


def cause_of(window: Window, pattern_start_id: int, peak_id: int, width_us: int = 0) -> Cause | None:
    """Why the request `peak_id` took longer than those before the pattern; None when no part explains it.

    With `width_us` the peak is a bucket that ends with that request: the medians of so long a stretch are compared.
    None also when the window no longer holds the request, or nothing from before the pattern.
    """
    ids = window.ids
    at = int(np.searchsorted(ids, peak_id))
    if at == len(ids) or ids[at] != peak_id:
        return None
    first = at
    if width_us and window.ordered:
        first = int(np.searchsorted(window.times_us, window.times_us[at] - width_us, side="right"))
    until = min(int(np.searchsorted(ids, pattern_start_id)), first)
    before = _good(window.measured[max(0, until - LOOKED_AT) : until])[-USUAL_N:]
    peak = _good(window.measured[first : at + 1])
    if not len(before) or not len(peak):
        return None
    usual, took = medians(_times_ms(before)), medians(_times_ms(peak))
    excess = took[0] - usual[0]
    if not excess >= LEAST_EXCESS * usual[0]:  # also when one of them is not known
        return None
    longer = np.nan_to_num(took[1:] - usual[1:], nan=-np.inf)
    worst = int(np.argmax(longer))
    if longer[worst] < LEAST_SHARE * excess:
        return None
    us = np.round(1000.0 * np.array([took[1 + worst], usual[1 + worst]])).astype(int).tolist()
    return Cause(PARTS[worst], *us)


def _good(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(rows[rows[:, COLUMN["outcome"]] == 0.0])


def _times_ms(rows: npt.NDArray[np.float32]) -> Floats:
    """Latency and then PARTS of each request, shape (n, 6); nan where not told."""
    wanted = [COLUMN[f"{name}_us"] for name in ("latency", "total", "load", "prompt_eval", "eval")]
    latency, total, load, prompt, generation = rows[:, wanted].astype(np.float64).T
    network = np.maximum(latency - total, 0.0)
    queue = np.maximum(total - load - prompt - generation, 0.0)
    return np.stack([latency, network, load, queue, prompt, generation], axis=1)


def medians(block: Floats) -> Floats:
    """Median of each column over what is known of it; nan where nothing is. One sort: `np.nanmedian` takes ten times
    as long on so few rows.

    >>> medians(np.array([[1.0, np.nan], [3.0, 5.0], [9.0, np.nan], [4.0, np.nan]])).tolist()
    [3.5, 5.0]
    """
    ordered = np.sort(block, axis=0)  # nan comes last
    n = np.count_nonzero(~np.isnan(block), axis=0)
    columns = np.arange(block.shape[1])
    return np.asarray(0.5 * (ordered[np.maximum(n - 1, 0) // 2, columns] + ordered[n // 2, columns]))
