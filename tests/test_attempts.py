"""Every attempt of `tests/attempts.py` fails in the way that it should."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.attempts import ATTEMPTS, Attempt, Scene, scene


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(Path(tmp_path_factory.mktemp("attempts"))) as found:
        yield found


@pytest.mark.xdist_group("attempts")
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.what)
def test_the_attempt_fails(servers: Scene, attempt: Attempt) -> None:
    answer = attempt.make(servers)

    assert answer.status == attempt.status, answer
    assert attempt.words in answer.detail
