"""Rows that are days old, two thousand in one: as compressed columns they take a third of the space.

A pack holds what `observation` held of a range of ids, of all series, and nothing is lost: what comes out is what
went in. The newest rows stay plain, because they are read most, and for people with an SQL shell.
"""

import zlib
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from llmscope.store import rows as r
from llmscope.store.rows import Row

ROWS = 2_048  # of a pack: taking so many out of the plain table holds up the writer for 3 ms

_PREDICTED = (  # what is left of a duration without those that it is made of is small; in the order of unpacking
    (r.TOTAL, (r.LOAD, r.PROMPT_EVAL, r.EVAL)),
    (r.LATENCY, (r.TOTAL,)),
    (r.TTFT, (r.LOAD, r.PROMPT_EVAL)),
)
_RUNNING = (r.ID, r.TIME_US)  # kept as the distance from the row before, of the same series

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class _Column(msgspec.Struct, array_like=True):
    """Integers less `base` in `width` bytes each, the lowest bytes of all first; `absent` has a bit for each row."""

    base: int
    width: int
    absent: bytes
    data: bytes


class _Document(msgspec.Struct, array_like=True):
    """Columns of `n` rows, in order of series and id; `first` is where each of _RUNNING begins."""

    n: int
    first: list[int]
    columns: list[_Column]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Document).decode


def pack(rows: Sequence[Row]) -> bytes:
    """Rows, at least one, as one document."""
    block = np.array(rows, dtype=object)
    absent: Flags = block == None  # noqa: E711 - element by element
    block[absent] = 0
    values = block.astype(np.int64)
    order = np.lexsort((values[:, r.ID], values[:, r.SERIES_ID]))
    values, absent = values[order], absent[order]
    left = values.copy()
    for column, parts in _PREDICTED:
        left[:, column] -= values[:, parts].sum(axis=1)
    starts = _starts(values[:, r.SERIES_ID])
    for column in _RUNNING:
        left[1:, column] -= values[:-1, column]
        left[starts, column] = values[starts, column] - values[0, column]
    columns = [_packed(left[:, i], absent[:, i]) for i in range(len(r.COLUMNS))]
    return zlib.compress(_encode(_Document(len(rows), values[0, _RUNNING].tolist(), columns)), 6)


def unpack(document: bytes, series_id: int | None = None) -> list[Row]:
    """The rows of a document in order of their ids, or those of one series."""
    found = _decode(zlib.decompress(document))
    values = np.empty((found.n, len(r.COLUMNS)), np.int64)
    absent = np.zeros((found.n, len(r.COLUMNS)), np.bool_)
    for i, column in enumerate(found.columns):
        values[:, i], absent[:, i] = _unpacked(column, found.n)
    starts = _starts(values[:, r.SERIES_ID])
    for running, first in zip(_RUNNING, found.first, strict=True):
        sums = np.cumsum(values[:, running])
        before = sums[starts] - values[starts, running]
        values[:, running] = first + sums - np.repeat(before, np.diff(np.append(starts, found.n)))
    for predicted, parts in _PREDICTED:
        values[:, predicted] += values[:, parts].sum(axis=1)
        values[absent[:, predicted], predicted] = 0
    if series_id is not None:
        mine = values[:, r.SERIES_ID] == series_id
        values, absent = values[mine], absent[mine]
    order = np.argsort(values[:, r.ID])
    columns = [values[order, i].tolist() for i in range(len(r.COLUMNS))]
    for i in np.flatnonzero(absent.any(axis=0)).tolist():
        for row in np.flatnonzero(absent[order, i]).tolist():
            columns[i][row] = None
    return list(zip(*columns, strict=True))


def _starts(series_ids: Integers) -> Integers:
    return np.flatnonzero(np.diff(series_ids, prepend=-1))


def _packed(values: Integers, absent: Flags) -> _Column:
    told = values[~absent]
    base = int(told.min(initial=2**62)) if len(told) else 0
    above = (told - base).astype("<u8")
    width = (int(above.max(initial=0)).bit_length() + 7) // 8
    planes = above.view(np.uint8).reshape(-1, 8)[:, :width].T
    return _Column(base, width, np.packbits(absent).tobytes() if absent.any() else b"", planes.tobytes())


def _unpacked(column: _Column, n: int) -> tuple[Integers, Flags]:
    """The values, 0 where one is absent, and where that is."""
    absent = np.zeros(n, np.bool_)
    if column.absent:
        absent = np.unpackbits(np.frombuffer(column.absent, np.uint8), count=n).astype(np.bool_)
    told = n - int(absent.sum())
    above = np.zeros((told, 8), np.uint8)
    above[:, : column.width] = np.frombuffer(column.data, np.uint8).reshape(column.width, told).T
    values = np.zeros(n, np.int64)
    values[~absent] = above.reshape(-1).view("<u8").astype(np.int64) + column.base
    return values, absent
