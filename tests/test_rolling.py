"""The roller goes on after a mistake, and never leaves a step behind that works on a closed store."""

import asyncio
import logging
import threading
from pathlib import Path

import pytest
from tests.serving import OCEAN, eventually, opened

from llmscope.observation import Observation
from llmscope.rolling import Roller

ONE = Observation(**{k: v for k, v in OCEAN.items() if k != "timestamp"})  # type: ignore[arg-type]


async def test_a_step_that_fails_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("llmscope.rolling.EVERY_S", 0.01)
    async with opened(tmp_path / "a.db") as (store, ingest, _hub):
        await ingest.accept([ONE])
        roll, failures = store.rollups.roll, ["disk full", "disk full"]

        def sometimes() -> int:
            if failures:
                raise OSError(failures.pop())
            return roll()

        monkeypatch.setattr(store.rollups, "roll", sometimes)
        with caplog.at_level(logging.ERROR):
            roller = Roller(store)
            running = asyncio.create_task(roller.run())
            await eventually(lambda: store.rollups.rolled_id == 1)
            running.cancel()
            await asyncio.wait([running])
            await roller.finish()

    assert [record.message for record in caplog.records] == ["rolling from row 0 failed: disk full"] * 2


async def test_the_end_waits_for_the_step_under_way_and_rolls_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "a.db") as (store, ingest, _hub):
        await ingest.accept([ONE] * 3)
        roll, begun, may_go_on = store.rollups.roll, threading.Event(), threading.Event()

        def slowly() -> int:
            begun.set()
            may_go_on.wait(10)
            return roll(2)

        monkeypatch.setattr(store.rollups, "roll", slowly)
        roller = Roller(store)
        running = asyncio.create_task(roller.run())
        await eventually(begun.is_set)
        running.cancel()
        await asyncio.wait([running])
        rolled_when_cancelled = store.rollups.rolled_id
        may_go_on.set()
        await roller.finish()

        assert rolled_when_cancelled == 0
        assert store.rollups.rolled_id == 3
