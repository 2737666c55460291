"""Faults on purpose, and what is found afterwards: `python bench/faults.py [--rounds 50] [--only kills,llm,...]`.

kill -9 at random moments under load, LLM servers that do everything wrong, requests that nobody means, five hundred
listeners with one of them stuck, SIGTERM in the middle of it all. tests/faults has a short form of each.
Ends with 1 when anything was lost, doubled, judged otherwise, misnamed, or answered by a mistake of the server.
"""

import argparse
import asyncio
import contextlib
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tests.faults.fuzz import Tally, by_parameter, by_schema  # noqa: E402
from tests.faults.kills import kill_all_in_one, kill_api, kill_monitor, posting, stored  # noqa: E402
from tests.faults.listeners import hear, listening, stuck  # noqa: E402
from tests.faults.llm_faults import KINDS, watch  # noqa: E402
from tests.processes import App, history, wait_for  # noqa: E402


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[App]:
    app = App(folder, ["serve"])
    app.start()
    try:
        yield app
    finally:
        app.stop()


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table of Markdown; without rows its head only."""
    print_row(head)
    print("|" + "---|" * len(head), flush=True)
    for row in rows:
        print_row(row)
    if rows:
        print()


def print_row(row: Sequence[object]) -> None:
    print("| " + " | ".join(map(str, row)) + " |", flush=True)


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def kills(folder: Path, rounds: int, seed: int) -> bool:
    """A third of the rounds each. Recovery: until the first answer; of the monitor, until a new row is stored."""
    shares = [rounds - 2 * (rounds // 3), rounds // 3, rounds // 3]
    is_clean = True
    head = ["fault", "rounds", "rows", "lost", "doubled", "wrong"]
    head += ["recovery median / max, s", "in flight (oldest)"]
    table(head, [])
    for kill, share in zip((kill_api, kill_all_in_one, kill_monitor), shares, strict=True):
        o = kill(folder, share, seed)
        is_clean &= o.is_clean()
        recovery = f"{statistics.median(o.recovery_s):.2f} / {max(o.recovery_s):.2f}"
        unsent = f"{o.in_flight} ({1e3 * o.oldest_s:.0f} ms)" if kill is not kill_api else "-"
        print_row([o.fault, o.rounds, o.rows, o.lost, o.doubled, o.wrong, recovery, unsent])
        for finding in o.otherwise:
            print("found otherwise:", *finding)
    print()
    return is_clean


def llm(folder: Path, _rounds: int, _seed: int) -> bool:
    """All faults at once for 20 s, each a target of its own."""
    seen = asyncio.run(watch(folder, 20.0))
    rows = [
        [name, sum(fault.kinds.values()), dict(fault.kinds), f"{fault.jitter_ms:.1f}"]
        for name in KINDS
        for fault in [seen.seen[name]]
    ]
    table(["fault of the LLM server", "probes", "named", "from its tick, median, ms"], rows)
    half = len(seen.memory_mb) // 2
    first, second = max(seen.memory_mb[:half]), max(seen.memory_mb[half:])
    print(f"monitor's memory: at most {first:.0f} MB in the first half, {second:.0f} MB in the second\n")
    return not seen.wrong() and "the probe itself broke" not in seen.log


def fuzz(folder: Path, rounds: int, seed: int) -> bool:
    """Examples by the number of rounds; every parameter with every odd value."""
    schema, odd = Tally(), Tally()
    with serving(folder / "fuzz") as app:
        app.post(history(30))
        by_schema(app.url, rounds, seed, schema)
        by_parameter(app.url, odd)
    rows = [
        [name, tally.cases, dict(sorted(tally.statuses.items())), len(tally.mistakes)]
        for name, tally in (("schemathesis", schema), ("odd parameters", odd))
    ]
    table(["requests", "cases", "answers", "mistakes of the server"], rows)
    for mistake in schema.mistakes + odd.mistakes:
        print(mistake)
    return not (schema.mistakes or odd.mistakes)


def listeners(folder: Path, _rounds: int, _seed: int) -> bool:
    with serving(folder / "listeners") as app:
        heard = asyncio.run(hear(app, 500, points=200, every_s=0.1))
    rows = []
    for name, seconds in (("all 500 have the point", heard.delays_s), ("POST is answered", heard.posts_s)):
        rows.append([name, len(seconds), *(f"{1e3 * quantile(seconds, q):.0f}" for q in (0.5, 0.99, 1.0))])
    table(["500 listeners and a stuck one", "points", "median, ms", "p99, ms", "max, ms"], rows)
    print(
        f"memory {heard.before_mb:.0f} -> {heard.after_mb:.0f} MB; the stuck one cut off after {heard.flooded:,} rows\n"
    )
    return max(heard.delays_s) < 2.0


def stops(folder: Path, _rounds: int, _seed: int) -> bool:
    """SIGTERM while two agents post and 500 listen, one of them stuck; five times."""
    took_s, codes, lost = [], [], 0
    for i in range(5):
        with serving(folder / f"stop{i}") as app:

            async def stop(app: App = app) -> int:
                async with listening(app.port, 500):
                    with stuck(app.port), posting(app, 60.0) as posters:
                        wait_for(lambda: all(len(poster.acknowledged) > 100 for poster in posters))
                        start = time.monotonic()
                        codes.append(await asyncio.to_thread(app.stop))
                        took_s.append(time.monotonic() - start)
                    kept = len(stored(app, ["posted:a", "posted:b"], "id"))
                    return max(0, sum(len(poster.acknowledged) for poster in posters) - kept)

            lost += asyncio.run(stop())
    row = [len(took_s), f"{statistics.median(took_s):.2f}", f"{max(took_s):.2f}", set(codes), lost]
    table(["SIGTERM under load", "median, s", "max, s", "exit codes", "acknowledged and lost"], [row])
    return lost == 0 and set(codes) == {0} and max(took_s) < 5.0


PARTS: dict[str, Callable[[Path, int, int], bool]] = {
    "kills": kills,
    "stops": stops,
    "listeners": listeners,
    "llm": llm,
    "fuzz": fuzz,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50, help="of kills; and examples of each operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    asked = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}, seed {asked.seed}\n")
    is_clean = True
    for name in asked.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            is_clean &= PARTS[name](Path(folder), asked.rounds, asked.seed)
            print(f"({name}: {time.monotonic() - start:.0f} s)\n", flush=True)
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
