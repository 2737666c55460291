"""Rounds of kill -9 at random moments under load, and what is found afterwards: lost, doubled, wrong."""

import contextlib
import datetime as dt
import http.client
import json
import math
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.llm.counting import CountingOllama
from tests.processes import App, history, wait_for

POSTED = ("posted:a", "posted:b")  # the models of the rows that are posted, one thread each
PROBED = 4
IN_FLIGHT_S = (
    1.0  # an answer is on its way to the disk for less: 250 ms in memory, and a commit on a busy machine
)


Finding = tuple[str, ...]


@dataclass
class Outcome:
    """A line of the fault table. `lost` are rows that were acknowledged, or kept, and are not there."""

    fault: str
    rounds: int = 0
    rows: int = 0
    in_flight: int = 0  # answers that were on their way to the disk, and the age of the oldest of them
    oldest_s: float = 0.0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    recovery_s: list[float] = field(default_factory=list)
    otherwise: list[Finding] = field(default_factory=list)  # found here and not undisturbed, or there only

    def is_clean(self) -> bool:
        return (self.lost, self.doubled, self.wrong) == (0, 0, 0)


# -- what is in the database


def moment_us(text: str) -> int:
    since = dt.datetime.fromisoformat(text) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return since // dt.timedelta(microseconds=1)


def stored(app: App, models: Sequence[str], column: str) -> list[tuple[str, Any]]:
    """Model and one column of every observation of these models, in order of arrival."""
    with contextlib.closing(sqlite3.connect(app.folder / "data" / "llmscope.db")) as connection:
        marks = ",".join("?" * len(models))
        return connection.execute(
            f"SELECT s.model, o.{column} FROM observation o JOIN series s ON s.id = o.series_id "
            f"WHERE s.model IN ({marks}) ORDER BY o.id",
            models,
        ).fetchall()


def found(app: App, model: str) -> dict[Finding, list[float]]:
    """What was found in one model's rows: what it is, and its numbers. Told by times, for ids depend on neighbours."""
    names = (
        "metric",
        "chart",
        "rule",
        "side",
        "pattern_start",
        "first_signal",
        "last_signal",
        "open",
        "count",
        "n",
    )
    violations = app.get(f"/api/violations?limit=1000&model={model}")["violations"]
    incidents = app.get(f"/api/incidents?limit=1000&model={model}")["incidents"]
    findings = {
        tuple(str(v[name]) for name in names): [
            v[name] for name in ("peak_z", "value", "centre", "ucl", "lcl")
        ]
        for v in violations
    }
    return findings | {
        (str(i["opened"]), str(i["change"]), str(i["closed"]), i["state"]): [] for i in incidents
    }


def differences(one: dict[Finding, list[float]], other: dict[Finding, list[float]]) -> list[Finding]:
    """What only one of them found, or both with other numbers than rounding explains."""
    apart = [key for key in one.keys() & other.keys() if not _alike(one[key], other[key])]
    return sorted(one.keys() ^ other.keys()) + sorted(apart)


def _alike(numbers: Sequence[float], others: Sequence[float]) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-6) for a, b in zip(numbers, others, strict=True))


# -- load


class Poster(threading.Thread):
    """Posts the rows of one model in order, each again until it is answered with 200, as a careful agent does."""

    def __init__(self, port: int, rows: Sequence[dict[str, Any]]) -> None:
        super().__init__(daemon=True)
        self._port, self._rows = port, rows
        self.acknowledged: list[dict[str, Any]] = []
        self.is_over = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        for row in self._rows:
            while not self._is_taken(connection, row):
                connection.close()
                if self.is_over.wait(0.02):
                    return
            self.acknowledged.append(row)
            if self.is_over.wait(0.001):
                break
        connection.close()

    def _is_taken(self, connection: http.client.HTTPConnection, row: dict[str, Any]) -> bool:
        try:
            connection.request("POST", "/api/stats", json.dumps(row), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return False
        return answer.status == 200


@contextlib.contextmanager
def posting(app: App, minutes: float) -> Iterator[list[Poster]]:
    posters = [
        Poster(app.port, [row | {"model": model} for row in history(minutes, seed=seed)])
        for seed, model in enumerate(POSTED)
    ]
    for poster in posters:
        poster.start()
    try:
        yield posters
    finally:
        for poster in posters:
            poster.is_over.set()
        for poster in posters:
            poster.join()


# -- the rounds


def killed_and_back(app: App) -> float:
    """Kill it as the machine would, start it again; how long until it answers, s."""
    app.stop(signal.SIGKILL)
    start = time.monotonic()
    app.start()
    return time.monotonic() - start


def kill_api(folder: Path, rounds: int, seed: int) -> Outcome:
    """`serve`, while two agents post as fast as they are answered."""
    outcome, rng = Outcome("kill -9 of serve", rounds), random.Random(seed)
    app = App(folder / "serve", ["serve"])
    app.start()
    try:
        with posting(app, minutes=60.0 + 20.0 * rounds) as posters:
            for _ in range(rounds):
                time.sleep(rng.uniform(0.05, 0.8))
                outcome.recovery_s.append(killed_and_back(app))
            time.sleep(0.2)
        compare_posted(app, posters, outcome)
    finally:
        app.stop()
    return outcome


def kill_all_in_one(folder: Path, rounds: int, seed: int) -> Outcome:
    """`up`, while it probes four models and two agents post."""
    outcome, rng = Outcome("kill -9 of up", rounds), random.Random(seed)
    with CountingOllama() as ollama:
        app = App(folder / "up", ["up", "--interval", "100ms", *ollama.targets(PROBED)])
        app.start()
        ends: list[float] = []
        try:
            with posting(app, minutes=60.0 + 20.0 * rounds) as posters:
                for _ in range(rounds):
                    wait_for_probes(app, ollama)
                    time.sleep(rng.uniform(0.0, 0.6))
                    ends.append(time.monotonic())
                    outcome.recovery_s.append(killed_and_back(app))
                wait_for_probes(app, ollama)
            compare_posted(app, posters, outcome)
        finally:
            ends.append(time.monotonic())
            app.stop()
        compare_probed(app, app, ollama, ends, outcome)
    return outcome


def kill_monitor(folder: Path, rounds: int, seed: int) -> Outcome:
    """`monitor` beside `serve`; in every second round the API is killed before, and the spool has to keep."""
    outcome, rng = Outcome("kill -9 of monitor", rounds), random.Random(seed)
    with CountingOllama() as ollama:
        api = App(folder / "api", ["serve"])
        monitor = App(
            folder / "monitor", ["monitor", "--api", api.url, "--interval", "100ms", *ollama.targets(PROBED)]
        )
        api.start()
        monitor.start_only()
        ends: list[float] = []
        try:
            for i in range(rounds):
                wait_for_probes(api, ollama)
                if is_api_away := i % 2 == 1:
                    api.stop(signal.SIGKILL)
                time.sleep(rng.uniform(0.05, 0.8))
                ends.append(time.monotonic())
                monitor.stop(signal.SIGKILL)
                start = time.monotonic()
                monitor.start_only()
                if is_api_away:
                    time.sleep(rng.uniform(0.0, 0.5))
                    api.start()
                wait_for_probes(api, ollama)
                outcome.recovery_s.append(time.monotonic() - start)
        finally:
            ends.append(time.monotonic())
            monitor.stop()
            api.stop()
        compare_probed(api, monitor, ollama, ends, outcome)
    return outcome


def wait_for_probes(app: App, ollama: CountingOllama) -> None:
    """Until an answer that is given from now on is in the database."""
    before = max(list(ollama.finished), default=0)
    wait_for(lambda: any(number > before for _, number in stored(app, models_of(app), "eval_count")))


def models_of(app: App) -> list[str]:
    return [entry["model"] for entry in app.get("/api/series")["series"] if entry["model"] not in POSTED]


# -- what is found afterwards


def compare_posted(app: App, posters: Sequence[Poster], outcome: Outcome) -> None:
    """Every acknowledged row once, in order; what was found in them is what an undisturbed server finds."""
    undisturbed = App(app.folder.with_name(app.folder.name + "-undisturbed"), ["serve"])
    undisturbed.start()
    try:
        for model, poster in zip(POSTED, posters, strict=True):
            kept = [time_us for _, time_us in stored(app, [model], "time_us")]
            sent = [moment_us(row["timestamp"]) for row in poster.acknowledged]
            count = Counter(kept)
            outcome.rows += len(sent)
            outcome.lost += sum(count[time_us] == 0 for time_us in sent)
            outcome.doubled += sum(n - 1 for n in count.values())
            # the row whose answer the end of the load cut off may be there
            outcome.wrong += kept[: len(sent)] != sent or len(kept) > len(sent) + 1
            last = len(kept) - len(poster.acknowledged)
            rows = [*poster.acknowledged, *poster._rows[len(sent) : len(sent) + last]]
            for first in range(0, len(rows), 100):
                undisturbed.post(rows[first : first + 100])
            otherwise = differences(found(app, model), found(undisturbed, model))
            outcome.wrong += len(otherwise)
            outcome.otherwise += otherwise
    finally:
        undisturbed.stop()


def compare_probed(
    app: App, monitor: App, ollama: CountingOllama, ends: Sequence[float], outcome: Outcome
) -> None:
    """Every answer once, in the database or in the spool.

    One that came in the moment before the process ended may have ended with it: it was in memory, on its way.
    """
    with contextlib.closing(sqlite3.connect(app.folder / "data" / "llmscope.db")) as connection:
        rows = connection.execute(
            "SELECT s.model, o.eval_count, o.time_us FROM observation o JOIN series s ON s.id = o.series_id "
            "WHERE o.outcome = 0 AND s.model NOT IN (?, ?) ORDER BY o.id",
            POSTED,
        ).fetchall()
    with contextlib.closing(sqlite3.connect(monitor.folder / "data" / "spool.db")) as connection:
        waiting = [json.loads(body) for (body,) in connection.execute("SELECT body FROM waiting")]
    count = Counter(number for _, number, _ in rows)
    kept = count.keys() | {
        row.get("eval_count") for row in waiting
    }  # one may be in both: it would be known again
    outcome.rows += len(rows)
    outcome.doubled += sum(n - 1 for n in count.values())
    outcome.wrong += sum(number not in ollama.finished for number in count)
    for model in {row[0] for row in rows}:
        times = [time_us for of, _, time_us in rows if of == model]
        outcome.wrong += times != sorted(times)
    for number, (asked, finished) in ollama.finished.items():
        was_broken_off = any(asked <= end < finished for end in ends)
        if number not in kept and not was_broken_off:
            age_s = min((end - finished for end in ends if end >= finished), default=0.0)
            outcome.in_flight += age_s < IN_FLIGHT_S
            outcome.lost += age_s >= IN_FLIGHT_S
            outcome.oldest_s = max(outcome.oldest_s, age_s)
