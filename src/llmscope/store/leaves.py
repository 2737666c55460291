"""Rows from the leaf pages of a database file whose trees cannot be followed any more.

A leaf knows its rows but not its table, so a row is told by its shape: how many columns it has, and of which types.
Only what cannot be made again from something else is looked for. The file is read page by page and never changed.

Source: https://www.sqlite.org/fileformat2.html, sections 1.6 (b-tree pages) and 2.1 (record format).
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEAF = 0x0D  # first byte of a leaf of a table with row ids
TABLES = (
    "observation", "pack", "series", "prompt", "failure", "violation", "incident", "alarm", "exclusion", "annotation",
)  # fmt: skip
_WHOLE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type of an integer: its bytes
_KINDS: dict[str, tuple[type, ...]] = {
    "INTEGER": (int,),
    "REAL": (float, int),
    "TEXT": (str,),
    "BLOB": (bytes,),
}


class NotARecord(ValueError):
    """The bytes are no row."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the rows of a table look like: the types of each column, and whether it may be NULL."""

    table: str
    columns: tuple[tuple[tuple[type, ...], bool], ...]

    @classmethod
    def of(cls, table: str, info: Sequence[tuple[Any, ...]]) -> "Shape":
        """From the rows of PRAGMA table_info. The row id's column is stored as NULL."""
        columns = tuple(
            ((), True) if pk else (_KINDS[kind], not required) for _, _, kind, required, _, pk in info
        )
        return cls(table, columns)

    def fits(self, values: Sequence[Any]) -> bool:
        return len(values) == len(self.columns) and all(
            may_be_null if value is None else isinstance(value, kinds)
            for value, (kinds, may_be_null) in zip(values, self.columns, strict=True)
        )


def rows_in(
    path: Path, shapes: Sequence[Shape], tell: Callable[[int, int], None]
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every row of those shapes in the file, with its table, its row id in the place of the first column."""
    with path.open("rb") as file:
        header = file.read(100)
        (size,) = struct.unpack(">H", header[16:18]) if len(header) == 100 else (0,)
        size = 65_536 if size == 1 else size
        if size < 512 or size & (size - 1):
            size = 4096  # the header is lost too: SQLite's default, and ours
        count = path.stat().st_size // size

        def page(number: int) -> bytes:
            if not 1 <= number <= count:
                raise NotARecord
            file.seek((number - 1) * size)
            return file.read(size)

        free = _free_pages(header, page, count)
        for number in range(1, count + 1):
            if number % 1000 == 0:
                tell(number, count)
            if number in free:
                continue
            content = page(number)
            start = 100 if number == 1 else 0
            if content[start] != LEAF:
                continue
            (cells,) = struct.unpack_from(">H", content, start + 3)
            for at in range(start + 8, min(start + 8 + 2 * cells, size - 1), 2):
                try:
                    row_id, values = _cell(content, struct.unpack_from(">H", content, at)[0], page)
                except (NotARecord, IndexError, struct.error, UnicodeDecodeError):
                    continue
                for shape in shapes:
                    if row_id > 0 and shape.fits(values):
                        yield shape.table, (row_id, *values[1:])
                        break


def _free_pages(header: bytes, page: Callable[[int], bytes], count: int) -> set[int]:
    """Pages that hold nothing any more, though their old rows can still be read."""
    free: set[int] = set()
    try:
        (trunk,) = struct.unpack(">I", header[32:36])
        while trunk and trunk not in free:
            content = page(trunk)
            free.add(trunk)
            trunk, leaves = struct.unpack_from(">II", content)
            free.update(struct.unpack_from(f">{min(leaves, count)}I", content, 8))
    except (NotARecord, struct.error):
        pass
    return free


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where it ends."""
    value = 0
    for i in range(8):
        byte = content[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | content[at + 8], at + 9


def _cell(content: bytes, at: int, page: Callable[[int], bytes]) -> tuple[int, list[Any]]:
    """A row's id and values, the first of them NULL in the place of the id."""
    length, at = _varint(content, at)
    row_id, at = _varint(content, at)
    size = len(content)
    if not 2 <= length <= 10_000_000:
        raise NotARecord
    local = length
    if length > size - 35:
        least = (size - 12) * 32 // 255 - 23
        local = least + (length - least) % (size - 4)
        if local > size - 35:
            local = least
    payload = bytearray(content[at : at + local])
    if local < length:
        (following,) = struct.unpack_from(">I", content, at + local)
        while len(payload) < length:
            further = page(following)
            payload += further[4 : 4 + length - len(payload)]
            (following,) = struct.unpack_from(">I", further)
    return row_id, _values(bytes(payload))


def _values(record: bytes) -> list[Any]:
    end, at = _varint(record, 0)
    if end > len(record):
        raise NotARecord
    kinds: list[int] = []
    while at < end:
        kind, at = _varint(record, at)
        kinds.append(kind)
    values: list[Any] = []
    at = end
    for kind in kinds:
        value: Any = None
        length = 0
        if kind in _WHOLE:
            length = _WHOLE[kind]
            value = int.from_bytes(record[at : at + length], "big", signed=True)
        elif kind == 7:
            length = 8
            (value,) = struct.unpack_from(">d", record, at)
        elif kind in (8, 9):
            value = kind - 8
        elif kind >= 12:
            length = (kind - 12) // 2
            value = record[at : at + length]
            if kind % 2:
                value = value.decode()
        elif kind:
            raise NotARecord
        at += length
        if at > len(record):
            raise NotARecord
        values.append(value)
    if at != len(record):
        raise NotARecord
    return values
