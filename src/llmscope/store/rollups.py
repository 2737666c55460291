"""Every series by minute and by hour: what was seen, what failed, and a summary of each metric.

Rows are taken in order of arrival and go to the slots of their own times, so one that comes late is counted where
it belongs. How far they are taken stands in the same transaction, so nothing is counted twice or lost.
"""

import itertools
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from llmscope.observation import METRICS
from llmscope.store import reading
from llmscope.store import rows as r
from llmscope.store.settled import Write, write_now
from llmscope.store.summary import Summaries, joined, summaries_of, unpack
from llmscope.store.window import metric_values, scale_of

ROWS_PER_STEP = (
    10_000  # bounds the writer's transaction; more would rewrite the hours of many series less often
)
ROWS_AT_ONCE = 300  # numpy keeps the interpreter to itself for .5 ms while it takes so many up
SLOTS_AT_ONCE = 30
BREATH_S = 1e-4  # lets the event loop have the interpreter, for which it would wait 5 ms (bench/history.py)
NEAR = 100  # reading so many rows of others takes no longer than another query


class Level(NamedTuple):
    """How wide the slots are, and how exactly the moments of a slot are kept."""

    number: int
    width_us: int
    moment: type[np.floating[Any]]


MINUTES = Level(0, 60_000_000, np.float32)
HOURS = Level(1, 3_600_000_000, np.float64)
LEVELS = (MINUTES, HOURS)

_SLOT_BITS = 40  # minutes since 1970 need 25
_SCALE = scale_of(r.COLUMNS[3:])
_METRICS = tuple(METRICS)  # a document has the bytes of each or nil, by position: append, never reorder
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes | None]).decode


def _reader_of(metric: str) -> Callable[[bytes], bytes | None]:
    """Reads one metric of a document and passes over the others: in a third of the time."""
    others: list[tuple[str, Any, Any]] = [
        (f"at_{i}", msgspec.Raw, msgspec.Raw()) for i in range(_METRICS.index(metric))
    ]
    shape = msgspec.defstruct("Only", [*others, ("told", bytes | None, None)], array_like=True)
    decode = msgspec.msgpack.Decoder(shape).decode
    return lambda document: decode(document).told  # type: ignore[attr-defined]


_READ = {metric: _reader_of(metric) for metric in _METRICS}


@dataclass(frozen=True, slots=True)
class Slots:
    """Minutes or hours of series, as columns of shape (slots,); the ids are of the first and last row in each.

    `summaries` has the metrics that were asked for, each with one group a slot.
    """

    series_ids: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]
    failed: npt.NDArray[np.int64]
    first_ids: npt.NDArray[np.int64]
    last_ids: npt.NDArray[np.int64]
    summaries: dict[str, Summaries]

    def __len__(self) -> int:
        return len(self.numbers)


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


def slots_of(block: Block, level: Level, metrics: Sequence[str] = _METRICS) -> Slots:
    """The rows by series and slot of that level, in that order."""
    slots = block.times_us // level.width_us
    order = np.lexsort((slots, block.series_ids))
    series_ids, slots, ids = block.series_ids[order], slots[order], block.ids[order]
    measured = block.measured[order]
    is_new = (np.diff(series_ids, prepend=-1) != 0) | (np.diff(slots, prepend=-1) != 0)
    starts, groups = np.flatnonzero(is_new), np.cumsum(is_new) - 1
    size = len(starts)
    summaries = {}
    for metric in metrics:
        values = metric_values(measured, metric)
        told = ~np.isnan(values)
        summaries[metric] = summaries_of(values[told], groups[told], size)
        time.sleep(BREATH_S)
    return Slots(
        series_ids[starts],
        slots[starts],
        np.bincount(groups, minlength=size),
        np.bincount(groups, measured[:, 0] != 0.0, size).astype(np.int64),
        np.minimum.reduceat(ids, starts) if size else ids,
        np.maximum.reduceat(ids, starts) if size else ids,
        summaries,
    )


class Rollups:
    """Reads and writes of the tables `rollup` and `rolled`; `reader` gives the calling thread's read connection."""

    def __init__(
        self,
        reader: Callable[[], sqlite3.Connection],
        write: Write,
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
        rows = list(itertools.islice(reading.rows(connection, rolled_id + 1), most))
        if not rows:
            return 0
        block = Block.of(rows)
        put = [row for level in LEVELS for row in _merged(connection, slots_of(block, level), level)]
        last_id = rows[-1][r.ID]

        def run(connection: sqlite3.Connection) -> None:
            moved = connection.execute(
                "UPDATE rolled SET row_id = ? WHERE row_id = ?", (last_id, rolled_id)
            ).rowcount
            if moved != 1:
                raise RuntimeError(f"rows after {rolled_id} were rolled by somebody else")
            connection.executemany(_PUT, put)

        write_now(self._write, run)
        self.rolled_id = last_id
        return len(rows)

    def read(self, series_id: int, level: Level, from_us: int, to_us: int, metric: str) -> tuple[int, Slots]:
        """A metric in the slots of a series that begin in [from_us, to_us), and the row up to which they count."""
        connection = self._reader()
        connection.execute("BEGIN")
        try:
            rolled_id = _rolled_id(connection)
            found = connection.execute(
                f"{_SELECT} {_BETWEEN}", slot_range(series_id, level, from_us, to_us)
            ).fetchall()
        finally:
            connection.execute("COMMIT")
        read = _READ[metric]
        return rolled_id, _slots(found, {metric: unpack([read(row[5]) for row in found], level.moment)})

    def seen(self, series_id: int, level: Level, from_us: int, to_us: int) -> int:
        """How many rows lie in the slots that begin in [from_us, to_us)."""
        found = self._reader().execute(
            f"SELECT coalesce(sum(seen), 0) FROM rollup {_BETWEEN}",
            slot_range(series_id, level, from_us, to_us),
        )
        return int(found.fetchone()[0])

    def arrived(self, series_id: int, from_us: int, to_us: int) -> list[tuple[int, int]]:
        """Stretches of row ids, in order and apart, that hold every rolled row of a series in [from_us, to_us)."""
        found = self._reader().execute(
            f"SELECT first_id, last_id FROM rollup {_BETWEEN} ORDER BY first_id",
            slot_range(series_id, MINUTES, from_us - from_us % MINUTES.width_us, to_us),
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


def slot_range(series_id: int, level: Level, from_us: int, to_us: int) -> tuple[int, int]:
    """The ids of the slots that begin in [from_us, to_us); before 1970 there are none."""
    first, stop = (max(0, -(-time_us // level.width_us)) for time_us in (from_us, to_us))
    return _key(series_id, level, first), _key(series_id, level, stop)


def _slots(rows: Sequence[tuple[Any, ...]], summaries: dict[str, Summaries]) -> Slots:
    columns = np.array([row[:5] for row in rows], np.int64).reshape(-1, 5)
    keys = columns[:, 0]
    seen, failed, first_ids, last_ids = columns[:, 1:].T
    slots = keys & (1 << _SLOT_BITS) - 1
    return Slots(keys >> _SLOT_BITS + 1, slots, seen, failed, first_ids, last_ids, summaries)


def _merged(connection: sqlite3.Connection, new: Slots, level: Level) -> list[tuple[Any, ...]]:
    """What is to be written: the new rows' slots, merged with what stands there."""
    keys = [
        _key(series_id, level, number)
        for series_id, number in zip(new.series_ids.tolist(), new.numbers.tolist(), strict=True)
    ]
    rows, places = [], []
    for i, key in enumerate(keys):
        if i % SLOTS_AT_ONCE == 0:
            time.sleep(BREATH_S)
        if row := connection.execute(f"{_SELECT} WHERE id = ?", (key,)).fetchone():
            rows.append(row)
            places.append(i)
    documents = [_decode(row[5]) for row in rows]
    old = _slots(rows, {})
    place, size = np.array(places, np.int64), len(keys)
    into = np.append(np.arange(size), place)
    packed = []
    for position, metric in enumerate(_METRICS):
        before = unpack([d[position] if position < len(d) else None for d in documents], level.moment)
        packed.append(joined([new.summaries[metric], before]).merged(into, size).pack(level.moment))
        time.sleep(BREATH_S)
    seen, failed, first_ids, last_ids = (
        column.copy() for column in (new.seen, new.failed, new.first_ids, new.last_ids)
    )
    seen[place] += old.seen
    failed[place] += old.failed
    first_ids[place] = np.minimum(first_ids[place], old.first_ids)
    last_ids[place] = np.maximum(last_ids[place], old.last_ids)
    counts = zip(*(column.tolist() for column in (seen, failed, first_ids, last_ids)), strict=True)
    return [
        (key, *counted, _encode(told))
        for key, counted, told in zip(keys, counts, zip(*packed, strict=True), strict=True)
    ]


def _rolled_id(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT row_id FROM rolled").fetchone()[0])
