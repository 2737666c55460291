"""What reads the words of others: whatever the bytes, and however they are cut, it understands or says why not."""

import asyncio
import datetime as dt
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.probe.replay import recorded
from tests.serving import opened

from llmscope.analyze import CannotAnalyze, Options, analyze, document, read
from llmscope.api.body import Refused
from llmscope.api.stats import decode
from llmscope.ingest import InvalidObservation
from llmscope.observation import Observation
from llmscope.probe import SystemClock, Target, ollama, openai
from llmscope.probe.exchange import Exchange, Lines, ProbeFailed, count, duration_ms, error_in, json_object

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -1e308, 5e-324, 0.5]),
    st.text(max_size=8),
    st.sampled_from(["ok", "\0", "\ud7ff", "2026-01-01", "done", "error", "²"]),
)
FIELDS = (*Observation.__struct_fields__, "response", "done", "message", "models", "name", "context_length")
CHAT = ("choices", "delta", "content", "usage", "timings", "finish_reason", "error", "completion_tokens")
keys = st.sampled_from([*FIELDS, *CHAT, "total_duration", "eval_count", "prompt_ms", "unknown"])
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
texts = documents.map(lambda d: json.dumps(d).encode())
noise = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"[" * 5000,
            b'{"a":' * 5000,
            b"\xff\xfe",
            b"\0",
            b'"\xed\xa0\x80"',
            b"NaN",
            b"1e999",
            b"\xef\xbb\xbf{}",
        ]
    ),
)
bodies = st.lists(texts | noise, max_size=4).flatmap(
    lambda parts: st.sampled_from([b"\n", b"", b",", b"\r\n"]).map(lambda between: between.join(parts))
)
"""JSON of the words that are looked for, anything else, and both after one another."""


@given(bodies, st.booleans())
def test_a_body_is_observations_or_refused_with_a_reason(body: bytes, lines: bool) -> None:
    refused = None
    try:
        rows = decode(body, lines)
    except Refused as why:
        refused, rows = why, ()

    assert all(isinstance(row, Observation) for row in rows)
    assert refused is None or (refused.status in (400, 422) and refused.errors and str(refused).encode())


async def test_a_timestamp_is_a_moment_or_refused(tmp_path: Path) -> None:
    now_us = 1_764_000_000_000_000
    async with opened(tmp_path / "llmscope.db", lambda: now_us) as (_store, ingest, _hub):

        @given(
            st.one_of(
                st.text(max_size=30),
                st.datetimes(timezones=st.none() | st.just(dt.UTC)).map(lambda d: d.isoformat()),
                st.from_regex(
                    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?", fullmatch=True
                ),
            )
        )
        def check(text: str) -> None:
            row = Observation(provider="p", model="m", latency_ms=1.0, timestamp=text)
            field = "timestamp"
            time_us: int | None = now_us
            try:
                time_us = ingest.check(0, row, now_us)
            except InvalidObservation as invalid:
                field = invalid.field

            assert field == "timestamp"
            assert time_us is not None
            assert time_us <= now_us + 86_400_000_000

        check()


class Chunks:
    """Bytes as they come from a network: in the given pieces."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    async def readany(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


class Answer:
    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.content = Chunks(pieces)


def understood(protocol: str, pieces: Sequence[bytes]) -> dict[str, Any] | tuple[str, str]:
    """The numbers that a probe reads from an answer in these pieces, or the kind and reason of its failure."""
    here = Target(provider=protocol, base_url="http://localhost:1", model="m")  # type: ignore[arg-type]
    exchange = Exchange(here, cast(aiohttp.ClientSession, None), SystemClock())
    lines = Lines(cast(aiohttp.ClientResponse, Answer(pieces)), exchange.instants)

    async def take() -> dict[str, Any]:
        if protocol == "ollama":
            return ollama.numbers(await ollama.last_line(lines, exchange))
        return openai.numbers(await openai.read(lines, exchange))

    try:
        numbers = asyncio.run(take())
    except ProbeFailed as failure:
        row = exchange.failed(failure)
        assert row.error is not None
        return failure.kind, row.error
    exchange.instants.mark_sent()
    assert exchange.observed(**numbers).ok
    return numbers


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The data, cut at those places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


ANSWERS = [
    ("ollama", recorded("ollama/probe-whole.ndjson")),
    ("ollama", recorded("ollama/probe-thinking-first.ndjson")),
    ("ollama", recorded("ollama/probe-error-line-after-200.ndjson")),
    ("ollama", recorded("ollama/probe-half-line.ndjson")),
    ("ollama", recorded("ollama/probe-odd-numbers.ndjson")),
    ("openai", recorded("openai/comments-and-fields.sse")),
    ("openai", recorded("openai/done-without-finish-reason.sse")),
]
places = st.lists(st.integers(0, 2**16), max_size=12)


@given(st.sampled_from(ANSWERS), places)
def test_an_answer_says_the_same_however_the_network_cuts_it(
    answer: tuple[str, bytes], where: list[int]
) -> None:
    protocol, data = answer

    assert understood(protocol, cut(data, where)) == understood(protocol, [data])


@given(st.sampled_from(["ollama", "openai"]), st.lists(texts | noise, max_size=6), places)
def test_an_answer_of_anything_is_numbers_or_a_failure_with_a_kind(
    protocol: str, parts: list[bytes], where: list[int]
) -> None:
    before = b"data: " if protocol == "openai" else b""
    data = b"\n".join(before + part for part in parts)
    found = understood(protocol, cut(data, where))

    if isinstance(found, tuple):
        assert found[0] in ("truncated", "server_error", "bad_response")
    else:
        assert all(number is None or number >= 0 for number in found.values())


@given(texts | noise)
def test_any_document_of_a_server_can_be_asked_for_its_error(data: bytes) -> None:
    kind, said = "bad_response", None
    try:
        said = error_in(json_object(data))
    except ProbeFailed as failure:
        kind = failure.kind

    assert kind == "bad_response"
    assert said is None or len(said) > 0


@given(scalars)
def test_a_number_of_a_server_is_in_range_or_absent(value: object) -> None:
    assert (ms := duration_ms(value)) is None or 0 <= ms <= 86_400_000
    assert (n := count(value)) is None or 0 <= n < 2**31


cells = scalars.map(lambda value: "" if value is None else str(value)) | st.sampled_from(
    ['"', "a,b", '"x', "1,5", "nan"]
)
tables = st.lists(st.tuples(cells, cells), max_size=12).map(
    lambda rows: b"\n".join([b"t,x", *(f"{a},{b}".encode() for a, b in rows)])
)


@given(tables | bodies, st.sampled_from([".csv", ".jsonl"]), st.booleans())
def test_a_file_is_analysed_or_refused_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str, is_timed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(data)
    why = "it was analysed"
    try:
        table = read(str(path), "x" if suffix == ".csv" else "eval_count", "t" if is_timed else None)
        document(analyze(table, Options()))
    except CannotAnalyze as error:
        why = str(error)

    assert why


def test_a_cell_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text('x\n"' + "1" * 200_000 + "\n")

    with pytest.raises(CannotAnalyze, match="field larger than"):
        read(str(tmp_path / "long.csv"), "x")


def test_the_observation_of_a_failure_can_always_be_sent() -> None:
    here = Target(provider="ollama", base_url="http://localhost:1", model="m")
    exchange = Exchange(here, cast(aiohttp.ClientSession, None), SystemClock())
    row = exchange.failed(ProbeFailed("bad_response", "HTTP 302, a redirect to \udcff\udcfe"))

    assert row.error == "HTTP 302, a redirect to ??"
