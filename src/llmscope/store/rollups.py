"""Every series by minute and by hour: what was seen, what failed, and a summary of each metric.

Rows are taken in order of arrival and go to the slots of their own times, so one that comes late is counted where
it belongs. How far they are taken stands in the same transaction, so nothing is counted twice or lost.
"""

import concurrent.futures
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from llmscope.observation import METRICS
from llmscope.store import rows as r
from llmscope.store.summary import Summary, sketch_of
from llmscope.store.window import metric_values, scale_of

ROWS_PER_STEP = (
    10_000  # bounds the writer's transaction; more would rewrite the hours of many series less often
)
ROWS_AT_ONCE = 300  # numpy keeps the interpreter to itself for .5 ms while it takes so many up
SLOTS_AT_ONCE = 30
BREATH_S = 1e-4  # lets the event loop have the interpreter, for which it would wait 5 ms (bench/history.py)
NEAR = 100  # reading so many rows of others takes no longer than another query


class Level(NamedTuple):
    """How wide the slots are, and the k of their sketches."""

    number: int
    width_us: int
    k: int


# Of 30 values k = 20 puts p5 and p95 off by one of them at most, in 99 of 100; four minutes fit a page (decision 18).
MINUTES = Level(0, 60_000_000, 20)
HOURS = Level(1, 3_600_000_000, 128)
LEVELS = (MINUTES, HOURS)

_SLOT_BITS = 40  # minutes since 1970 need 25
_SCALE = scale_of(r.COLUMNS[3:])
_METRICS = tuple(METRICS)  # a document has a summary or nil of each, by position: append, never reorder
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Summary | None]).decode


def _reader_of(metric: str) -> Callable[[bytes], Summary | None]:
    """Reads one metric of a document and passes over the others: in a third of the time."""
    others: list[tuple[str, Any, Any]] = [
        (f"at_{i}", msgspec.Raw, msgspec.Raw()) for i in range(_METRICS.index(metric))
    ]
    shape = msgspec.defstruct("Only", [*others, ("told", Summary | None, None)], array_like=True)
    decode = msgspec.msgpack.Decoder(shape).decode
    return lambda document: decode(document).told  # type: ignore[attr-defined]


_READ = {metric: _reader_of(metric) for metric in _METRICS}


class Slot(NamedTuple):
    """One minute or hour of one series; the ids are those of the first and last row that arrived for it."""

    number: int
    seen: int
    failed: int
    first_id: int
    last_id: int
    summaries: dict[str, Summary]

    def merged(self, other: "Slot") -> "Slot":
        summaries = dict(self.summaries)
        for metric, summary in other.summaries.items():
            before = summaries.get(metric)
            summaries[metric] = summary if before is None else before.merged(summary)
        return Slot(
            self.number,
            self.seen + other.seen,
            self.failed + other.failed,
            min(self.first_id, other.first_id),
            max(self.last_id, other.last_id),
            summaries,
        )


@dataclass(frozen=True, slots=True)
class Block:
    """Rows as columns: times of shape (n,), measured columns (n, len(MEASURED)) in ms, percent and counts."""

    series_ids: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    times_us: npt.NDArray[np.int64]
    measured: npt.NDArray[Any]

    @classmethod
    def of(cls, rows: Sequence[r.Row]) -> "Block":
        parts = []
        for at in range(0, len(rows), ROWS_AT_ONCE):
            parts.append(np.array(rows[at : at + ROWS_AT_ONCE], dtype=np.float64))
            time.sleep(BREATH_S)
        block = np.concatenate(parts) if parts else np.empty((0, len(r.COLUMNS)))
        whole = block[:, :3].astype(np.int64)
        return cls(whole[:, r.SERIES_ID], whole[:, r.ID], whole[:, r.TIME_US], block[:, 3:] * _SCALE)


def slots_of(block: Block, level: Level) -> Iterator[tuple[int, Slot]]:
    """The rows by series and slot of that level."""
    slots = block.times_us // level.width_us
    order = np.lexsort((slots, block.series_ids))
    series_ids, slots, ids = block.series_ids[order], slots[order], block.ids[order]
    measured = block.measured[order]
    is_new = (np.diff(series_ids, prepend=-1) != 0) | (np.diff(slots, prepend=-1) != 0)
    starts = np.flatnonzero(is_new)
    failed = np.add.reduceat((measured[:, 0] != 0.0).astype(np.int64), starts)
    first, last = np.minimum.reduceat(ids, starts), np.maximum.reduceat(ids, starts)
    stops = np.append(starts[1:], len(ids))
    columns = (series_ids[starts], slots[starts], stops - starts, failed, first, last)
    summaries = _summaries(measured, starts, stops, level.k)
    for about, found in zip(
        zip(*(column.tolist() for column in columns), strict=True), summaries, strict=True
    ):
        series_id, number, seen, failed_n, first_id, last_id = about
        yield series_id, Slot(number, seen, failed_n, first_id, last_id, found)


def _summaries(
    measured: npt.NDArray[Any], starts: npt.NDArray[np.intp], stops: npt.NDArray[np.intp], k: int
) -> list[dict[str, Summary]]:
    """Of each metric in each stretch of rows, without those that no row of a stretch tells."""
    found: list[dict[str, Summary]] = [{} for _ in starts]
    lengths = stops - starts
    for metric in METRICS:
        values = metric_values(measured, metric)
        told = ~np.isnan(values)
        if not told.any():
            continue
        counts = np.add.reduceat(told.astype(np.int64), starts)
        means = np.add.reduceat(np.where(told, values, 0.0), starts) / np.maximum(1, counts)
        apart = np.where(told, values - np.repeat(means, lengths), 0.0)
        m2s = np.add.reduceat(apart * apart, starts)
        kept = values[told].astype(np.float32)
        ends = np.cumsum(counts)
        for i, n, mean, m2, end in zip(
            range(len(starts)), counts.tolist(), means.tolist(), m2s.tolist(), ends.tolist(), strict=True
        ):
            if n:
                found[i][metric] = Summary(n, mean, m2, sketch_of(kept[end - n : end], k))
            if i % (4 * SLOTS_AT_ONCE) == 0:
                time.sleep(BREATH_S)
    return found


class Rollups:
    """Reads and writes of the tables `rollup` and `rolled`; `reader` gives the calling thread's read connection."""

    def __init__(
        self,
        reader: Callable[[], sqlite3.Connection],
        write: Callable[
            [Callable[[sqlite3.Connection], None], Callable[[Exception | None], None]],
            None,
        ],
    ) -> None:
        self._reader = reader
        self._write = write
        self.rolled_id = 0  # at least so far; `read` says exactly

    def roll(self, most: int = ROWS_PER_STEP) -> int:
        """Take up the next rows on disk, at most so many; how many there were. Blocks: not for the event loop.

        One call at a time. Raises what the writer could not do.
        """
        connection = self._reader()
        self.rolled_id = rolled_id = _rolled_id(connection)
        rows = connection.execute(
            f"{r.SELECT} WHERE id > ? ORDER BY id LIMIT ?", (rolled_id, most)
        ).fetchall()
        if not rows:
            return 0
        block = Block.of(rows)
        put = [row for level in LEVELS for row in self._merged(connection, block, level)]
        last_id = rows[-1][r.ID]

        def run(connection: sqlite3.Connection) -> None:
            moved = connection.execute(
                "UPDATE rolled SET row_id = ? WHERE row_id = ?", (last_id, rolled_id)
            ).rowcount
            if moved != 1:
                raise RuntimeError(f"rows after {rolled_id} were rolled by somebody else")
            connection.executemany(_PUT, put)

        written: concurrent.futures.Future[None] = concurrent.futures.Future()

        def tell(error: Exception | None) -> None:
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

        self._write(run, tell)
        written.result()
        self.rolled_id = last_id
        return len(rows)

    @staticmethod
    def _merged(connection: sqlite3.Connection, block: Block, level: Level) -> Iterator[tuple[Any, ...]]:
        """What is to be written: the new rows' slots, merged with what stands there."""
        for i, (series_id, slot) in enumerate(slots_of(block, level)):
            if i % SLOTS_AT_ONCE == 0:
                time.sleep(BREATH_S)
            key = _key(series_id, level, slot.number)
            before = connection.execute(f"{_SELECT} WHERE id = ?", (key,)).fetchone()
            whole = slot if before is None else _slot(before).merged(slot)
            yield key, *whole[1:5], _encode([whole.summaries.get(m) for m in _METRICS])

    def read(
        self, series_id: int, level: Level, from_us: int, to_us: int, metric: str | None = None
    ) -> tuple[int, Iterator[Slot]]:
        """The slots of a series that begin in [from_us, to_us), in order, and the row up to which they count.

        With a metric the slots have that summary only, or none.
        """
        connection = self._reader()
        connection.execute("BEGIN")
        try:
            rolled_id = _rolled_id(connection)
            found = connection.execute(
                f"{_SELECT} {_BETWEEN}", _range(series_id, level, from_us, to_us)
            ).fetchall()
        finally:
            connection.execute("COMMIT")
        return rolled_id, map(_slot if metric is None else _slot_of(metric), found)

    def seen(self, series_id: int, level: Level, from_us: int, to_us: int) -> int:
        """How many rows lie in the slots that begin in [from_us, to_us)."""
        found = self._reader().execute(
            f"SELECT coalesce(sum(seen), 0) FROM rollup {_BETWEEN}", _range(series_id, level, from_us, to_us)
        )
        return int(found.fetchone()[0])

    def arrived(self, series_id: int, from_us: int, to_us: int) -> list[tuple[int, int]]:
        """Stretches of row ids, in order and apart, that hold every rolled row of a series in [from_us, to_us)."""
        found = self._reader().execute(
            f"SELECT first_id, last_id FROM rollup {_BETWEEN} ORDER BY first_id",
            _range(series_id, MINUTES, from_us - from_us % MINUTES.width_us, to_us),
        )
        stretches: list[tuple[int, int]] = []
        for first_id, last_id in found:
            if stretches and first_id <= stretches[-1][1] + NEAR:
                stretches[-1] = (stretches[-1][0], max(last_id, stretches[-1][1]))
            else:
                stretches.append((first_id, last_id))
        return stretches


_SELECT = "SELECT id, seen, failed, first_id, last_id, document FROM rollup"
_BETWEEN = "WHERE id >= ? AND id < ?"
_PUT = (
    "INSERT OR REPLACE INTO rollup (id, seen, failed, first_id, last_id, document) VALUES (?, ?, ?, ?, ?, ?)"
)


def _key(series_id: int, level: Level, slot: int) -> int:
    return (2 * series_id + level.number << _SLOT_BITS) + slot


def _range(series_id: int, level: Level, from_us: int, to_us: int) -> tuple[int, int]:
    """The ids of the slots that begin in [from_us, to_us); before 1970 there are none."""
    first, stop = (max(0, -(-time_us // level.width_us)) for time_us in (from_us, to_us))
    return _key(series_id, level, first), _key(series_id, level, stop)


def _slot(row: tuple[Any, ...]) -> Slot:
    key, seen, failed, first_id, last_id, document = row
    told = {
        m: summary for m, summary in zip(_METRICS, _decode(document), strict=False) if summary is not None
    }
    return Slot(key & (1 << _SLOT_BITS) - 1, seen, failed, first_id, last_id, told)


def _slot_of(metric: str) -> Callable[[tuple[Any, ...]], Slot]:
    read = _READ[metric]

    def slot(row: tuple[Any, ...]) -> Slot:
        key, seen, failed, first_id, last_id, document = row
        summary = read(document)
        told = {} if summary is None else {metric: summary}
        return Slot(key & (1 << _SLOT_BITS) - 1, seen, failed, first_id, last_id, told)

    return slot


def _rolled_id(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT row_id FROM rolled").fetchone()[0])
