"""The recent observations of one series in memory, as numpy columns: what windows are served from.

Rows are kept in order of arrival and appended at amortised constant cost; old ones fall off the front.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from llmscope.store.rows import COLUMNS, Row

CAPACITY = 43_200  # 24 hours at one observation every 2 s: the longest window of the API

# Measured columns held as float32 in ms, percent or counts, NaN where absent: whole microseconds stay exact to
# 16 s, and the shortest decimal that float32 needs keeps the JSON small.
MEASURED = COLUMNS[3:]
COLUMN = {name: position for position, name in enumerate(MEASURED)}


def scale_of(columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """What stored integers are multiplied by to be ms, percent and counts."""
    return np.array(
        [1e-3 if c.endswith("_us") else 1e-1 if c.endswith("_permille") else 1.0 for c in columns]
    )


_SCALE = scale_of(MEASURED)
_DIVISOR = np.round(1.0 / _SCALE)  # as `rows.measured` has it, to the last bit

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class Window:
    """The last `capacity` observations of one series."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._start = 0
        self._stop = 0
        self._ids = np.empty(64, np.int64)
        self._times_us = np.empty(64, np.int64)
        self._measured = np.empty((64, len(MEASURED)), np.float32)
        self.last_us = 0
        self.ordered = True  # False once an observation arrived that is older than the one before

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def ids(self) -> Integers:
        return self._ids[self._start : self._stop]

    @property
    def times_us(self) -> Integers:
        return self._times_us[self._start : self._stop]

    @property
    def measured(self) -> Floats:
        """Shape (rows, len(MEASURED)); ms, percent and counts."""
        return self._measured[self._start : self._stop]

    def column(self, name: str) -> Floats:
        return self.measured[:, COLUMN[name]]

    def values(self, metric: str) -> npt.NDArray[np.float64]:
        """A metric of every row in its own unit, nan where it was not measured or the request failed."""
        return metric_values(self.measured, metric)

    def time_of(self, row_id: int) -> int:
        """When the row with that id was observed; it must be held."""
        return int(self.times_us[int(np.searchsorted(self.ids, row_id))])

    def extend(self, rows: Sequence[Row]) -> None:
        """Append rows of `rows.COLUMNS`; ids must be larger than all before."""
        if len(rows) == 1:
            self._append(rows[0])
            return
        self.extend_array(np.array(rows, dtype=np.float64))

    def _append(self, row: Row) -> None:
        """One row without the detours of many: a batch over a thousand series is a thousand of these."""
        self._make_room(1)
        stop = self._stop
        time_us: int = row[2]
        self._ids[stop] = row[0]
        self._times_us[stop] = time_us
        self._measured[stop] = np.array(row[3:], dtype=np.float64) * _SCALE
        if time_us < self.last_us:
            self.ordered = False
        else:
            self.last_us = time_us
        self._stop = stop + 1
        if self._stop - self._start > self.capacity:
            self._start += 1

    def extend_array(self, block: npt.NDArray[np.float64]) -> None:
        """Append rows given as float64, NaN where absent, shape (n, len(COLUMNS)); ids and times stay exact."""
        block = block[-self.capacity :]
        self.extend_columns(
            block[:, 0].astype(np.int64),
            block[:, 2].astype(np.int64),
            (block[:, 3:] * _SCALE).astype(np.float32),
        )

    def extend_columns(self, ids: Integers, times: Integers, measured: Floats) -> None:
        """Append rows given as columns: ids and times of shape (n,), measured (n, len(MEASURED))."""
        n = len(ids)
        if n == 0:
            return
        self._make_room(n)
        stop = self._stop + n
        self._ids[self._stop : stop] = ids
        self._times_us[self._stop : stop] = times
        self._measured[self._stop : stop] = measured
        if self.ordered and (times[0] < self.last_us or bool(np.any(times[1:] < times[:-1]))):
            self.ordered = False
        self.last_us = max(self.last_us, int(times.max()))
        self._stop = stop
        self._start = max(self._start, stop - self.capacity)

    def _make_room(self, n: int) -> None:
        size = len(self._ids)
        if self._stop + n <= size:
            return
        kept = slice(self._start, self._stop)
        held = self._stop - self._start
        # Grow by doubling; once full, keep half a window of slack so that moving is rare.
        new_size = max(size, min(2 * (held + n), self.capacity + self.capacity // 2 + n))
        for name in ("_ids", "_times_us", "_measured"):
            old = getattr(self, name)
            new = np.empty((new_size, *old.shape[1:]), old.dtype) if new_size > size else old
            new[:held] = old[kept].copy() if new is old else old[kept]
            setattr(self, name, new)
        self._start, self._stop = 0, held

    def since_id(self, row_id: int) -> Integers:
        """Positions of the rows that arrived after `row_id`, in order of time."""
        first = int(np.searchsorted(self.ids, row_id, side="right"))
        return self._by_time(np.arange(first, len(self)))

    def since_time(self, time_us: int) -> Integers:
        """Positions of the rows at or after `time_us`, in order of time."""
        if self.ordered:
            first = int(np.searchsorted(self.times_us, time_us, side="left"))
            return np.arange(first, len(self))
        return self._by_time(np.flatnonzero(self.times_us >= time_us))

    def _by_time(self, positions: Integers) -> Integers:
        if self.ordered:
            return positions
        return positions[np.argsort(self.times_us[positions], kind="stable")]

    def holds(self, row: Row) -> bool:
        """Whether this very observation, by its time and all it measured, is here already."""
        if row[2] > self.last_us or len(self) == 0:
            return False
        places = np.flatnonzero(self.times_us == row[2])
        if len(places) == 0:
            return False
        new = (np.array(row[3:], dtype=np.float64) * _SCALE).astype(np.float32)
        old = self.measured[places]
        return bool(np.any(np.all((old == new) | (np.isnan(old) & np.isnan(new)), axis=1)))

    def good_before(self, row_id: int, n: int) -> int:
        """The id of the n-th good row at or before `row_id`, counted backwards; the first id held if fewer."""
        good = np.flatnonzero((self.ids <= row_id) & (self.column("outcome") == 0.0))
        if len(good) >= n:
            return int(self.ids[good[-n]])
        return int(self.ids[0]) if len(self) else 0


def measured_of(rows: Sequence[Row]) -> npt.NDArray[np.float64]:
    """The measured columns of rows, nan where absent, shape (n, len(MEASURED)); ms, percent and counts."""
    block = np.array([row[3:] for row in rows], dtype=np.float64)
    return np.asarray(block / _DIVISOR)


def metric_values(measured: npt.NDArray[np.floating[Any]], metric: str) -> npt.NDArray[np.float64]:
    """A metric of rows of measured columns, shape (n,), as `observation.METRICS` reads it from one."""

    def of(name: str) -> npt.NDArray[np.float64]:
        return measured[:, COLUMN[name]].astype(np.float64)

    if metric == "latency":
        values = of("latency_us")
    elif metric == "ttft":
        values = of("ttft_us")
    elif metric == "load":
        values = of("load_us")
    elif metric == "queue":
        rest = of("total_us") - of("load_us") - of("prompt_eval_us") - of("eval_us")
        values = np.maximum(np.round(rest, 3), 0.0)
    elif metric == "prompt_ms_per_token":
        values = _quotient(of("prompt_eval_us"), of("prompt_eval_count"), 1.0)
    elif metric == "ms_per_token":
        values = _quotient(of("eval_us"), of("eval_count"), 2.0)
    elif metric == "tokens_per_second":
        values = 1e3 * _quotient(of("eval_count"), of("eval_us"), 1e-9)
    else:
        raise KeyError(metric)
    values[measured[:, COLUMN["outcome"]] != 0.0] = np.nan
    return values


def _quotient(
    top: npt.NDArray[np.float64], bottom: npt.NDArray[np.float64], least: float
) -> npt.NDArray[np.float64]:
    """top / bottom where bottom is at least `least`, else nan."""
    values = np.full(len(top), np.nan)
    np.divide(top, bottom, out=values, where=bottom >= least)
    return values
