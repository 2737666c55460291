"""kill -9 at random moments: what was acknowledged is there, once, and the findings are as if nothing had been.

A few rounds of each; `bench/faults.py` does fifty.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.kills import Outcome, kill_all_in_one, kill_api, kill_monitor


@pytest.mark.parametrize(("kill", "rounds"), [(kill_api, 3), (kill_all_in_one, 2), (kill_monitor, 2)])
def test_killed_under_load_nothing_is_lost_doubled_or_judged_otherwise(
    tmp_path: Path, kill: Callable[[Path, int, int], Outcome], rounds: int
) -> None:
    outcome = kill(tmp_path, rounds, 11)

    assert outcome.is_clean(), outcome
    assert outcome.rows > 20 * rounds
    assert outcome.in_flight <= 4 * (rounds + 1), "more answers on their way than there are targets"
