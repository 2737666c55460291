"""The windows beside the database: a start with them, without them or with a broken one ends with the same windows."""

import datetime as dt
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.serving import OCEAN, opened

from llmscope.observation import Observation
from llmscope.store import Store, open_store, snapshot


def made(first: int, n: int) -> list[Observation]:
    start = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    body = {k: v for k, v in OCEAN.items() if k not in ("timestamp", "model")}
    return [
        Observation(
            **body,  # type: ignore[arg-type]
            model=f"m{i % 3}",
            timestamp=(start + dt.timedelta(seconds=i)).isoformat(),
        )
        for i in range(first, first + n)
    ]


def windows(store: Store) -> list[tuple[list[int], list[int], bytes]]:
    return [
        (s.window.ids.tolist(), s.window.times_us.tolist(), np.nan_to_num(s.window.measured).tobytes())
        for s in store.series.values()
    ]


def reopened(path: Path) -> list[tuple[list[int], list[int], bytes]]:
    store = open_store(path, lambda: int(dt.datetime.now(dt.UTC).timestamp() * 1e6))
    found = windows(store)
    store.close()
    return found


@pytest.mark.parametrize("beside", ["as it is", "broken", "older", "of another database", "none"])
async def test_a_start_ends_with_the_same_windows_whatever_lies_beside_the_database(
    tmp_path: Path, beside: str
) -> None:
    path = tmp_path / "a.db"
    held = snapshot.path_of(path)
    async with opened(path) as (_, ingest, _hub):
        await ingest.accept(made(0, 40))
    older = tmp_path / "older.npz"
    shutil.copy(held, older)
    async with opened(path) as (store, ingest, _hub):
        await ingest.accept(made(40, 25))
        expected = windows(store)
    async with opened(tmp_path / "b.db") as (_, ingest, _hub):
        await ingest.accept(made(7, 3))
    if beside == "broken":
        held.write_bytes(held.read_bytes()[:500])
    elif beside == "older":
        shutil.copy(older, held)
    elif beside == "of another database":
        shutil.copy(snapshot.path_of(tmp_path / "b.db"), held)
    elif beside == "none":
        held.unlink()

    assert [len(ids) for ids, _, _ in expected] == [22, 22, 21]
    assert reopened(path) == expected


async def test_the_windows_are_read_from_beside_the_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as (store, ingest, _hub):
        await ingest.accept(made(0, 30))
        expected = windows(store)
    found = snapshot.load(snapshot.path_of(path))

    assert found is not None
    assert found.last_id == 30
    assert [(h.ids.tolist(), h.times_us.tolist()) for h in found.held.values()] == [w[:2] for w in expected]
