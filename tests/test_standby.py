"""A monitor that stands by: one at a time uses the spool, and the next takes over when it has ended."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tests.processes import App, wait_for

from llmscope import app
from llmscope.outbox import Spool


def monitor(folder: Path, target: str) -> App:
    flags = ["--api", "http://127.0.0.1:9", "--target", target, "--spool", str(folder / "spool.db")]
    return App(folder / target.rpartition(":")[2], ["monitor", "--standby", *flags])


def said(one: App) -> str:
    return (one.folder / "log").read_text()


async def test_a_second_monitor_takes_over_when_the_first_is_gone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "STANDBY_LOOKS_S", 0.01)
    spool = tmp_path / "spool.db"
    first = Spool(spool)
    heard: asyncio.Queue[str] = asyncio.Queue()
    waiting = asyncio.create_task(app._stand_by(spool, asyncio.Event(), heard.put_nowait))

    assert await asyncio.wait_for(heard.get(), 10) == f"Standing by: another monitor uses {spool}."
    assert not waiting.done()
    first.close()
    await asyncio.wait_for(waiting, 10)


def test_a_monitor_that_stands_by_ends_at_once_when_told(tmp_path: Path) -> None:
    first, second = monitor(tmp_path, "http://127.0.0.1:9"), monitor(tmp_path, "http://127.0.0.1:10")
    first.start_only()
    wait_for(lambda: "posting to" in said(first))
    second.start_only()
    wait_for(lambda: "Standing by" in said(second))
    assert "posting to" not in said(second)
    assert second.process is not None
    second.process.send_signal(signal.SIGTERM)

    assert second.process.wait(4) == 0
    first.stop()


def test_a_monitor_touches_a_file_while_it_runs(tmp_path: Path) -> None:
    one = monitor(tmp_path, "http://127.0.0.1:9")
    alive = tmp_path / "alive"
    one.arguments += ["--alive-file", str(alive)]
    one.start_only()
    wait_for(alive.exists)
    os.utime(alive, (0, 0))
    wait_for(lambda: alive.stat().st_mtime > 0)

    one.stop()
