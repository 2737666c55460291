"""kill -9 at random moments: what was acknowledged is there, once, and the findings are as if nothing had been.

A few rounds of each; `bench/faults.py` does fifty.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.kills import Outcome, kill_all_in_one, kill_api, kill_monitor
from tests.processes import history
from tests.serving import Served, served


@pytest.mark.parametrize(("kill", "rounds"), [(kill_api, 2), (kill_all_in_one, 2), (kill_monitor, 2)])
def test_killed_under_load_nothing_is_lost_doubled_or_judged_otherwise(
    tmp_path: Path, kill: Callable[[Path, int, int], Outcome], rounds: int
) -> None:
    outcome = kill(tmp_path, rounds, 11)

    assert outcome.is_clean(), outcome
    assert outcome.rows > 20 * rounds
    assert outcome.in_flight <= 4 * (rounds + 1), "more answers on their way than there are targets"


async def log(here: Served) -> list[tuple[Any, ...]]:
    names = (
        "metric",
        "chart",
        "rule",
        "side",
        "pattern_start_id",
        "first_signal_id",
        "last_signal_id",
        "count",
        "n",
    )
    found = (await here.get("/api/violations", limit=1000))["violations"]
    return sorted(tuple(str(v[name]) for name in names) for v in found)


async def test_after_many_kills_rows_are_judged_by_the_limits_of_their_time(tmp_path: Path) -> None:
    """A copy of the files of a running server is what a kill leaves. States are stored every ten minutes, limits when
    they are fitted: a state that is older than the newest limits must not be resumed with them."""
    rows, rng = history(45), random.Random(1)
    kills = {40 * k for k in rng.sample(range(1, len(rows) // 40), 9)}
    path = tmp_path / "0" / "llmscope.db"
    at = 0
    while at < len(rows):
        async with served(path) as here:
            while True:
                await here.post(rows[at : at + 40])
                at += 40
                if at in kills:
                    await here.ingest.settle()
                    after = tmp_path / str(at) / "llmscope.db"
                    after.parent.mkdir()
                    for file in (path, path.with_name("llmscope.db-wal")):
                        shutil.copy(file, after.parent / file.name)
                if at in kills or at >= len(rows):
                    break
            killed = await log(here)
        path = after
    async with served(tmp_path / "undisturbed" / "llmscope.db") as here:
        for first in range(0, len(rows), 40):
            await here.post(rows[first : first + 40])
        undisturbed = await log(here)

    assert killed == undisturbed
    assert len(killed) > 20
