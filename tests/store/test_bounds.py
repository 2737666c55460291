"""What senders invent is bounded: their own names, and prompts."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmscope.store import SeriesKey, Store, open_store, writer
from llmscope.store import sqlite as store_module
from llmscope.store.rows import Row

EMPTY: tuple[None, ...] = (None,) * 17


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    now = iter(range(1_700_000_000_000_000, 10**18))
    found = open_store(tmp_path / "test.db", lambda: next(now))
    yield found
    found.close()


def deliver(store: Store, sender: str, first_seq: int) -> int:
    """Deliver one row; how many of it were skipped because they were there."""
    series = store.series_for(SeriesKey("ollama", "llama3", "", "probe"))
    row: Row = (store.next_id, series.id, store.next_id, 0, *EMPTY)
    store.next_id += 1
    done = threading.Event()
    skipped: list[int] = []

    def told(job: writer.Append, error: Exception | None) -> None:
        assert error is None
        skipped.append(job.skipped)
        done.set()

    store.append([row], [], sender, first_seq, told)
    assert done.wait(10)
    return skipped[0]


def test_the_sender_that_is_silent_longest_makes_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_SENDERS", 20)
    deliver(store, "honest", 1)
    for number in range(30):
        deliver(store, f"invented-{number}", 1)
        assert deliver(store, "honest", number + 2) == 0
    (count,) = store.read().execute("SELECT count(*) FROM sender").fetchone()

    assert count <= 20
    assert deliver(store, "honest", 31) == 1  # what it delivered before is still known
    assert deliver(store, "invented-29", 1) == 1


def test_prompts_beyond_the_most_are_not_kept_and_those_before_are_still_known(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_PROMPTS", 2)
    first = store.prompt_for("a", "text")
    store.prompt_for("b", None)

    assert store.prompt_for("c", "text") is None
    assert store.prompt_for("a", "text") == first
    assert store.prompt_for("b", "text") == 2
