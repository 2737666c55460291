"""What is kept of many values of one metric: how many, their mean and spread exactly, their quantiles nearly.

Summaries merge: that of a day is made of those of its hours, without the values, and whatever the order it is the
same (docs/decisions/0029). They are held as columns, many at once, because a page asks for thousands.

Source of the sketch: C. Masson, J. Rim, H. Lee, DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees, VLDB 2019.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

QUANTILES = (0.05, 0.5, 0.95)
ACCURACY = 0.01  # how far a quantile is off at most, relative to itself
LEAST = 1e-6  # what is not greater counts as this: a thousandth of a microsecond

_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)


def keys_of(values: Floats) -> Integers:
    """The cell of each value: 0 up to LEAST, then one for each factor of (1 + ACCURACY) / (1 - ACCURACY)."""
    return np.ceil(np.log(np.maximum(values, LEAST) / LEAST) / _LOG_GAMMA).astype(np.int64)


def values_of(keys: Integers) -> Floats:
    """The value that stands for each cell.

    >>> value = values_of(keys_of(np.array([2000.0])))[0]
    >>> bool(abs(value / 2000.0 - 1.0) <= ACCURACY)
    True
    """
    return np.asarray(LEAST * 2.0 * np.exp(keys * _LOG_GAMMA) / (_GAMMA + 1.0))


@dataclass(frozen=True, slots=True)
class Summaries:
    """Of the values in each of many groups. `n` and the moments have shape (groups,); n = 0 where there are none.

    `m2` is the sum of squared deviations from the mean. The cells say how many values lie where: `groups`, `keys` and
    `counts` have shape (cells,) and are in order of group and key.
    """

    n: Integers
    mean: Floats
    m2: Floats
    least: Floats
    greatest: Floats
    groups: Integers
    keys: Integers
    counts: Integers

    def __len__(self) -> int:
        return len(self.n)

    def merged(self, into: Integers, size: int) -> "Summaries":
        """Groups put together: group i goes into group `into[i]` of `size`.

        Source: T. Chan, G. Golub, R. LeVeque, Updating formulae and a pairwise algorithm, Stanford 1979.
        """
        told = self.n > 0
        n = np.bincount(into, self.n, size)
        mean = np.bincount(into, self.n * self.mean, size) / np.maximum(n, 1.0)
        apart = self.mean - mean[into]
        m2 = np.bincount(into, self.m2 + self.n * apart * apart, size).astype(np.float64)
        least, greatest = np.full(size, np.inf), np.full(size, -np.inf)
        np.minimum.at(least, into[told], self.least[told])
        np.maximum.at(greatest, into[told], self.greatest[told])
        groups, keys, counts = _cells(into[self.groups], self.keys, self.counts)
        return Summaries(n.astype(np.int64), mean, m2, least, greatest, groups, keys, counts)

    def quantiles(self, ranks: Sequence[float] = QUANTILES) -> Floats:
        """Shape (groups, ranks); nan of an empty group. Off by ACCURACY of themselves at most.

        >>> found = summaries_of(np.arange(1.0, 101.0), np.zeros(100, np.int64), 1).quantiles()
        >>> bool(np.all(np.abs(found / [[5.0, 50.0, 95.0]] - 1.0) < 0.011))
        True
        """
        found = np.full((len(self), len(ranks)), np.nan)
        told = np.flatnonzero(self.n)
        upto = np.cumsum(self.counts)
        before = np.cumsum(self.n) - self.n
        for i, rank in enumerate(ranks):
            wanted = before[told] + np.floor(rank * (self.n[told] - 1) + 1e-9)
            cells = np.searchsorted(upto, wanted, side="right")
            found[told, i] = np.clip(values_of(self.keys[cells]), self.least[told], self.greatest[told])
        return found

    def std(self) -> Floats:
        """The sample standard deviations; nan of fewer than two values."""
        many = self.n > 1
        variances = np.full(len(self), np.nan)
        np.divide(self.m2, self.n - 1, out=variances, where=many)
        return np.asarray(np.sqrt(variances))

    # -- as bytes

    def pack(self, moment: type[np.floating[Any]]) -> list[bytes | None]:
        """Each group as bytes, None of an empty one: mean, m2, least, greatest as `moment`, then the cells.

        The cells are numbers of seven bits a byte, the lowest first: how many cells; of each the distance of its key
        from the one before, doubled, and one more when it holds several values; then, of those, how many above two.
        """
        several = self.counts > 1
        firsts = np.flatnonzero(np.diff(self.groups, prepend=-1))
        distances = np.diff(self.keys, prepend=0)
        distances[firsts] = self.keys[firsts]
        told = np.flatnonzero(self.n)
        numbers = np.concatenate(
            (np.diff(np.append(firsts, len(self.keys))), 2 * distances + several, self.counts[several] - 2)
        )
        # in the document: the number of cells first, then the distances, then the counts
        order = np.lexsort(
            (
                np.repeat((0, 1, 2), (len(told), len(self.keys), int(several.sum()))),
                np.concatenate((told, self.groups, self.groups[several])),
            )
        )
        owners = np.concatenate((told, self.groups, self.groups[several]))[order]
        data, lengths = _varints(numbers[order])
        ends = np.cumsum(np.bincount(owners, lengths, len(self))).astype(np.int64).tolist()
        moments = np.column_stack((self.mean, self.m2, self.least, self.greatest)).astype(moment)
        found: list[bytes | None] = [None] * len(self)
        for i in told.tolist():
            found[i] = moments[i].tobytes() + data[ends[i - 1] if i else 0 : ends[i]]
        return found


def summaries_of(values: Floats, groups: Integers, size: int) -> Summaries:
    """Of values, none of them nan, each in one of the groups 0 to size - 1."""
    n = np.bincount(groups, minlength=size)
    mean = np.bincount(groups, values, size) / np.maximum(n, 1)
    apart = values - mean[groups]
    m2 = np.bincount(groups, apart * apart, size).astype(np.float64)
    least, greatest = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(least, groups, values)
    np.maximum.at(greatest, groups, values)
    cells = _cells(groups, keys_of(values), np.ones(len(values), np.int64))
    return Summaries(n, mean, m2, least, greatest, *cells)


def joined(parts: Sequence[Summaries]) -> Summaries:
    """The groups of all parts, one part after the other.

    >>> one, two = (summaries_of(np.array(values), np.zeros(len(values), int), 1) for values in ([1.0, 2.0], [6.0]))
    >>> both = joined([one, two]).merged(np.zeros(2, int), 1)
    >>> both.n.tolist(), both.mean.tolist(), both.m2.tolist(), both.greatest.tolist()
    ([3], [3.0], [14.0], [6.0])
    """
    starts = np.cumsum([0, *(len(part) for part in parts)])
    groups = [part.groups + start for part, start in zip(parts, starts, strict=False)]

    def column(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    return Summaries(
        column("n"),
        column("mean"),
        column("m2"),
        column("least"),
        column("greatest"),
        np.concatenate(groups),
        column("keys"),
        column("counts"),
    )


def unpack(packed: Sequence[bytes | None], moment: type[np.floating[Any]]) -> Summaries:
    """What `pack` made of groups, in order."""
    size = len(packed)
    head = 4 * np.dtype(moment).itemsize
    told = np.array([i for i, part in enumerate(packed) if part is not None], np.int64)
    parts = [part for part in packed if part is not None]
    moments = np.frombuffer(b"".join([part[:head] for part in parts]), moment).reshape(-1, 4)
    data = np.frombuffer(b"".join([part[head:] for part in parts]), np.uint8)
    numbers, ends = _numbers(data)
    # which part each number is of, and which one it is there
    stops = np.searchsorted(ends, np.cumsum([len(part) - head for part in parts]), side="right")
    lengths = np.diff(stops, prepend=0)
    owner = np.repeat(np.arange(len(parts)), lengths)
    place = np.arange(len(numbers)) - np.repeat(stops - lengths, lengths)
    cells = numbers[place == 0][owner] if len(parts) else numbers
    distances = numbers[(place > 0) & (place <= cells)]
    several = distances & 1 == 1
    counts = np.ones(len(distances), np.int64)
    counts[several] = 2 + numbers[place > cells]
    groups = told[owner[(place > 0) & (place <= cells)]]
    keys = np.cumsum(distances >> 1)
    firsts = np.flatnonzero(np.diff(groups, prepend=-1))
    keys -= np.repeat((keys - (distances >> 1))[firsts], np.diff(np.append(firsts, len(keys))))

    mean, m2 = np.zeros(size), np.zeros(size)
    least, greatest = np.full(size, np.inf), np.full(size, -np.inf)
    mean[told], m2[told], least[told], greatest[told] = moments.T
    n = np.bincount(groups, counts, size).astype(np.int64)
    return Summaries(n, mean, m2, least, greatest, groups, keys, counts)


def _cells(groups: Integers, keys: Integers, counts: Integers) -> tuple[Integers, Integers, Integers]:
    """Cells in order of group and key, each once."""
    both = (groups << 32) + keys
    cells, place = np.unique(both, return_inverse=True)
    return cells >> 32, cells & 0xFFFF_FFFF, np.bincount(place, counts, len(cells)).astype(np.int64)


def _varints(numbers: Integers) -> tuple[bytes, Integers]:
    """Numbers below 2**35 as seven bits a byte, the lowest first, and how many bytes each takes."""
    lengths = 1 + np.sum([numbers >= 1 << 7 * i for i in range(1, 5)], axis=0)
    starts = np.cumsum(lengths) - lengths
    data = np.empty(int(lengths.sum()), np.uint8)
    for i in range(int(lengths.max(initial=0))):
        some = lengths > i
        data[starts[some] + i] = numbers[some] >> 7 * i & 0x7F | np.where(lengths[some] > i + 1, 0x80, 0)
    return data.tobytes(), lengths


def _numbers(data: npt.NDArray[np.uint8]) -> tuple[Integers, Integers]:
    """What `_varints` wrote, and where each number ends."""
    ends = np.flatnonzero(data < 0x80) + 1
    starts = np.append(0, ends[:-1])
    numbers = np.zeros(len(ends), np.int64)
    for i in range(int((ends - starts).max(initial=0))):
        some = starts + i < ends
        numbers[some] |= (data[starts[some] + i].astype(np.int64) & 0x7F) << 7 * i
    return numbers, ends
