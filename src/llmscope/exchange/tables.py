"""Tables in files: rows of named, typed columns as CSV, JSON lines or Parquet, written and read in bounded memory."""

import contextlib
import csv
import io
import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol

import msgspec
import orjson

from llmscope.documents import time_text

Format = Literal["csv", "jsonl", "parquet"]
Kind = Literal["text", "number", "whole", "truth", "time"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")
ROWS_AT_ONCE = 10_000
NO_PARQUET = 'Parquet needs pyarrow: pip install "llmscope[parquet]", or choose csv or jsonl'


class CannotRead(ValueError):
    """The file is not a table that can be read; the message names the line or row."""


class NoParquet(Exception):
    """pyarrow is not installed."""


class Column(NamedTuple):
    """A column of a table; a time is µs since 1970."""

    name: str
    kind: Kind


class Writer(Protocol):
    """Writes rows of values in order of the columns; None where there is none."""

    def write(self, rows: Sequence[Sequence[Any]]) -> None: ...

    def close(self) -> None:
        """Finish the file's content; the file itself is its owner's to close."""


def writer_of(format: Format, file: BinaryIO, columns: Sequence[Column]) -> Writer:
    """Raises NoParquet."""
    if format == "csv":
        return _CsvWriter(file, columns)
    if format == "jsonl":
        return _JsonWriter(file, columns)
    return _ParquetWriter(file, columns)


def guarded(text: str) -> str:
    """A text that a spreadsheet shows and does not run; `unguarded` gives it back.

    >>> guarded("=1+1"), unguarded(guarded("=1+1")), unguarded(guarded("'=x")), guarded("llama3")
    ("'=1+1", '=1+1', "'=x", 'llama3')
    """
    return "'" + text if text[:1] in (*RUN_BY_SPREADSHEETS, "'") else text


def unguarded(text: str) -> str:
    return text[1:] if text[:1] == "'" and text[1:2] in (*RUN_BY_SPREADSHEETS, "'") else text


class _CsvWriter:
    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=False)
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._kinds = [
            (i, column.kind) for i, column in enumerate(columns) if column.kind in ("text", "truth", "time")
        ]
        self._writer.writerow([column.name for column in columns])

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        shown = []
        for row in rows:
            cells = list(row)
            for i, kind in self._kinds:
                value = cells[i]
                if value is None:
                    continue
                if kind == "text":
                    cells[i] = guarded(value)
                else:
                    cells[i] = time_text(value) if kind == "time" else str(bool(value)).lower()
            shown.append(cells)
        self._writer.writerows(shown)

    def close(self) -> None:
        self._text.flush()
        self._text.detach()


class _JsonWriter:
    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        self._file = file
        self._names = [column.name for column in columns]
        self._times = [i for i, column in enumerate(columns) if column.kind == "time"]
        self._truths = [i for i, column in enumerate(columns) if column.kind == "truth"]

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            values = list(row)
            for i in self._times:
                values[i] = time_text(values[i])
            for i in self._truths:
                values[i] = None if values[i] is None else bool(values[i])
            self._file.write(orjson.dumps(dict(zip(self._names, values, strict=True))) + b"\n")

    def close(self) -> None:
        self._file.flush()


class _ParquetWriter:
    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise NoParquet(NO_PARQUET) from None
        types = {
            "text": pa.string(),
            "number": pa.float64(),
            "whole": pa.int64(),
            "truth": pa.bool_(),
            "time": pa.timestamp("us", tz="UTC"),
        }
        self._pa = pa
        self._kinds = [column.kind for column in columns]
        self._schema = pa.schema([(column.name, types[column.kind]) for column in columns])
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        arrays = []
        for values, kind, field in zip(zip(*rows, strict=True), self._kinds, self._schema, strict=True):
            told = [None if v is None else bool(v) for v in values] if kind == "truth" else values
            arrays.append(self._pa.array(told, field.type))
        self._writer.write_batch(self._pa.record_batch(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


# -- reading


class Read(NamedTuple):
    """A row as it stands in a file: where, and its cells by the names of the columns."""

    where: str
    cells: dict[str, Any]


def read(path: Path) -> Iterator[Read]:
    """The rows of a CSV with a header, JSON lines, Parquet, or the prototype's database, told by their beginning.

    Raises CannotRead, NoParquet or OSError.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith(b"SQLite format 3\0"):
        return _sqlite_rows(path)
    if start.startswith(b"PAR1"):
        return _parquet_rows(path)
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return _json_rows(path)
    return _csv_rows(path)


def _csv_rows(path: Path) -> Iterator[Read]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if not any(header):
                raise CannotRead("the file is empty: a CSV begins with the names of its columns")
            if twice := [name for i, name in enumerate(header) if name in header[:i]]:
                raise CannotRead(f"line 1 names the column {twice[0]!r} twice")
            for row in reader:
                if not row:
                    continue
                where = f"line {reader.line_num}"
                if len(row) != len(header):
                    raise CannotRead(f"{where} has {len(row)} cells, the header {len(header)}")
                if any(cell[:1] == "'" for cell in row):
                    row = [unguarded(cell) for cell in row]
                yield Read(where, dict(zip(header, row, strict=True)))
    except UnicodeDecodeError:
        raise CannotRead("it is not a text in UTF-8") from None
    except csv.Error as error:
        raise CannotRead(f"line {reader.line_num}: {error}") from None


def _json_rows(path: Path) -> Iterator[Read]:
    decode = msgspec.json.Decoder().decode
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                cells = decode(line.removeprefix(b"\xef\xbb\xbf"))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise CannotRead(f"line {number} is not JSON: {error}") from None
            if not isinstance(cells, dict):
                raise CannotRead(f"line {number} is not a JSON object")
            yield Read(f"line {number}", cells)


def _parquet_rows(path: Path) -> Iterator[Read]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise NoParquet(NO_PARQUET) from None
    number = itertools.count(1)
    try:
        with contextlib.closing(pq.ParquetFile(path)) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                for cells in batch.to_pylist():
                    yield Read(f"row {next(number)}", cells)
    except pa.ArrowException as error:
        raise CannotRead(f"it is not a sound Parquet file: {error}") from None


def _sqlite_rows(path: Path) -> Iterator[Read]:
    """The table `telemetry` of the prototype."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        ) as connection:
            kinds = dict(connection.execute("SELECT name, type FROM sqlite_schema"))
            if "observation" in kinds:
                raise CannotRead(
                    "it is a database of LLMscope: name it with --db, or export it first and import that file"
                )
            if kinds.get("telemetry") != "table":
                raise CannotRead("it is a database without a table telemetry, which the prototype has")
            connection.text_factory = lambda text: text.decode(errors="replace")
            found = connection.execute("SELECT rowid, * FROM telemetry ORDER BY rowid")
            names = [about[0] for about in found.description][1:]
            for row in found:
                yield Read(f"row {row[0]}", dict(zip(names, row[1:], strict=True)))
    except sqlite3.Error as error:
        raise CannotRead(f"its table telemetry cannot be read: {error}") from None
