"""Five hundred listeners, one of them stuck; and a stop in the middle of everything."""

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.kills import POSTED, moment_us, posting, stored
from tests.faults.listeners import hear, listening, stuck
from tests.processes import App, observation, wait_for

MANY = 500
QUIET_START_S = 1.0


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    app = App(tmp_path / "app", ["serve"])
    app.start()
    try:
        yield app
    finally:
        app.stop()


def slowness(app: App) -> float:
    """How many times as long as on a quiet machine its start took: other tests share this one."""
    return max(1.0, app.started_s / QUIET_START_S)


async def test_one_stuck_among_500_listeners_is_cut_off_and_the_others_hear_each_point_in_a_second(
    app: App,
) -> None:
    heard = await hear(app, MANY, points=5, every_s=0.2)

    assert sorted(heard.delays_s)[len(heard.delays_s) // 2] < 1.0 * slowness(app)
    assert max(heard.delays_s) < 2.0 * slowness(app)  # a point waits behind a batch of the flood
    assert heard.after_mb - heard.before_mb < 120.0


async def test_sigterm_under_load_with_500_listeners_ends_within_5_s_and_answers_what_was_asked(
    app: App,
) -> None:
    async with listening(app.port, MANY) as listeners:
        with stuck(app.port), posting(app, minutes=60.0) as posters:
            wait_for(lambda: all(len(poster.acknowledged) > 50 for poster in posters))
            start = time.monotonic()
            code = await asyncio.to_thread(app.stop)
            took_s = time.monotonic() - start
            for poster in posters:
                poster.is_over.set()
        await asyncio.sleep(0.1)
        ended = listeners.ended

    assert code == 0
    assert took_s < 5.0 * slowness(app)
    assert ended == MANY
    for model, poster in zip(POSTED, posters, strict=True):
        kept = [time_us for _, time_us in stored(app, [model], "time_us")]
        sent = [moment_us(row["timestamp"]) for row in poster.acknowledged]
        assert kept[: len(sent)] == sent
        assert len(kept) <= len(sent) + 1


def test_sigterm_lets_requests_that_have_come_be_answered(app: App) -> None:
    connections = [http.client.HTTPConnection("127.0.0.1", app.port, timeout=10) for _ in range(10)]
    for connection in connections:  # accepted, and known to the server
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    for number, connection in enumerate(connections):
        rows = [observation(1000.0 + i, 100.0 + i / 1e3, model=f"m{number}") for i in range(2000)]
        connection.request("POST", "/api/stats", json.dumps(rows), {"Content-Type": "application/json"})
    first = connections[0].getresponse()
    code = app.stop()
    statuses = [first.status, *(connection.getresponse().status for connection in connections[1:])]
    for connection in connections:
        connection.close()

    assert statuses == [200] * len(connections)
    assert code == 0
    assert len(stored(app, [f"m{number}" for number in range(10)], "id")) == 20_000
