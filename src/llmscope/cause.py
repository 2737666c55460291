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
    before, peak = _good_before(window, until), window.measured[first : at + 1]
    peak = peak[peak[:, COLUMN["outcome"]] == 0.0]
    if not len(before) or not len(peak):
        return None
    usual_ms, took_ms = _median(before[:, _LATENCY]), _median(peak[:, _LATENCY])
    excess = took_ms - usual_ms
    if excess < LEAST_EXCESS * usual_ms:  # most patterns end here, before anything is sorted
        return None
    usual, took = medians(_parts_ms(before)), medians(_parts_ms(peak))
    longer = np.nan_to_num(took - usual, nan=-np.inf)
    worst = int(np.argmax(longer))
    if longer[worst] < LEAST_SHARE * excess:
        return None
    return Cause(PARTS[worst], round(1000.0 * float(took[worst])), round(1000.0 * float(usual[worst])))


def lasting_cause_of(window: Window, change_us: int, until_us: int | None) -> Cause | None:
    """Why requests have taken longer, or shorter, since a change: medians of the newest good requests since then
    against those before; None when no part explains it, or the window does not hold both sides."""
    times_us = window.times_us
    at = (
        int(np.searchsorted(times_us, change_us)) if window.ordered else int(np.argmax(times_us >= change_us))
    )
    end = len(times_us) if until_us is None else int(np.searchsorted(times_us, until_us, side="right"))
    before, since = _good_before(window, at), window.measured[max(at, end - USUAL_N) : end]
    since = since[since[:, COLUMN["outcome"]] == 0.0]
    if not len(before) or not len(since):
        return None
    usual_ms, took_ms = _median(before[:, _LATENCY]), _median(since[:, _LATENCY])
    excess = took_ms - usual_ms
    if abs(excess) < LEAST_EXCESS * usual_ms:
        return None
    usual, took = medians(_parts_ms(before)), medians(_parts_ms(since))
    moved = np.nan_to_num((took - usual) * np.sign(excess), nan=-np.inf)
    most = int(np.argmax(moved))
    if moved[most] < LEAST_SHARE * abs(excess):
        return None
    return Cause(PARTS[most], round(1000.0 * float(took[most])), round(1000.0 * float(usual[most])))


_LATENCY = COLUMN["latency_us"]
_SERVER = [COLUMN[f"{name}_us"] for name in ("total", "load", "prompt_eval", "eval")]


def _good_before(window: Window, until: int) -> npt.NDArray[np.float32]:
    """The last good rows before that position."""
    rows = window.measured[max(0, until - USUAL_N) : until]
    if np.count_nonzero(rows[:, COLUMN["outcome"]]):
        rows = window.measured[max(0, until - LOOKED_AT) : until]
        rows = rows[rows[:, COLUMN["outcome"]] == 0.0][-USUAL_N:]
    return rows


def _median(values: npt.NDArray[np.float32]) -> float:
    """Median of a few values, all known: a good request has a latency."""
    ordered = sorted(values.tolist())
    return float(0.5 * (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]))


def _parts_ms(rows: npt.NDArray[np.float32]) -> Floats:
    """PARTS of each request, shape (n, 5); nan where not told."""
    latency = rows[:, _LATENCY].astype(np.float64)
    total, load, prompt, generation = rows[:, _SERVER].astype(np.float64).T
    network = np.maximum(latency - total, 0.0)
    queue = np.maximum(total - load - prompt - generation, 0.0)
    return np.stack([network, load, queue, prompt, generation], axis=1)


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
