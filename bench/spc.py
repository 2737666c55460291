"""The speed and memory of the charts: one value at a time, batches, a backtest, a restart, and other packages.

    python bench/spc.py                       everything, some minutes; stores 4.3 million rows in a temporary folder
    python bench/spc.py --quick               1 million points instead of 10, 10 series instead of 100
    python bench/spc.py --only restart,memory some of it
    OPENBLAS_NUM_THREADS=1 python bench/spc.py on a busy machine: a second thread of BLAS waits for its core
    python bench/spc.py --packages FOLDER     also other packages, installed with `pip install --target FOLDER`

Prints one table, in one process. A speed is that of the fastest of several repeats; the backtest is one pass, the
restart from stored states the better of two, without them one. All are wall time: what else runs counts. The values
are lognormal, in control, one every 2 s, after a locked day. The last column compares with the row it names, measured
in the same run; figures of two runs or two machines do not compare. Nothing here fails because it is slow.

Other packages are no dependencies: they are taken from `--packages` or the environment when they are there. Measured
with pycontrolcharts 0.1.2, NelsonCheck 0.4 (pandas 3.1.1, plotly 7.1.0) and capstat-core 0.4.3 (scipy 1.17.1). They
judge the same values by the same limits and the rules of the same names. Their definitions differ in details (ties,
length of a trend, which points are told), they return other things, and nothing here compares what they find.
"""

import argparse
import asyncio
import gc
import importlib
import importlib.metadata
import os
import platform
import sys
import tempfile
import time
import tracemalloc
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmscope.backtest import CHUNK
from llmscope.engine import Engine, Row, Rows
from llmscope.ingest import MANY, Ingest
from llmscope.live import Hub
from llmscope.observation import WATCHED, Measured
from llmscope.spc.baseline import Baseline
from llmscope.spc.calibration import Budget
from llmscope.spc.chart import ControlChart, Plan, phase_one
from llmscope.spc.rules import rules_named
from llmscope.spc.scan import scan
from llmscope.store import SeriesKey, Store, open_store
from llmscope.store import rows as r

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CENTRE_MS, SD = 50.0, 0.25
INTERVAL_US = 2_000_000
DAY = 43_200  # observations
STORED_EVERY_US = 2_001_000  # so that a full window spans more than 24 hours, and its charts are locked
START_US = 1_767_225_600_000_000  # any midnight
ALL_RULES = Plan("nelson", "nelson", Budget.parse("1/week"))
AS_SHIPPED = Plan()
BATCHES = (100, MANY, 1_000, 10_000)


class Table:
    """Rows of figures, and what each is compared with."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, str]] = []
        self._by_key: dict[str, float] = {}

    def title(self, text: str) -> None:
        print(f"{text} …", file=sys.stderr, flush=True)
        self.rows.append((text, "", "", ""))

    def rate(self, name: str, rate: float, target: str = "", key: str = "", against: str = "") -> None:
        """A speed, a second; `against` is the key of the row it is compared with."""
        if key:
            self._by_key[key] = rate
        ratio = f"{rate / self._by_key[against]:.3g} x {against}" if against in self._by_key else ""
        self.rows.append((f"  {name}", f"{rate:,.0f}/s", target, ratio or (f"= {key}" if key else "")))

    def text(self, name: str, value: str, target: str = "", note: str = "") -> None:
        self.rows.append((f"  {name}", value, target, note))

    def print(self) -> None:
        heads = ("", "measured", "target", "compared")
        widths = [max(len(row[i]) for row in (heads, *self.rows)) for i in range(4)]
        for row in (heads, *self.rows):
            cells = (f"{row[0]:<{widths[0]}}", *(f"{row[i]:>{widths[i]}}" for i in (1, 2)), row[3])
            print("  ".join(cells).rstrip())


def fastest(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of several calls, without collections of garbage."""
    best = float("inf")
    for _ in range(repeats):
        gc.collect()
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def lognormal(rng: np.random.Generator, n: int, centre: float = CENTRE_MS, sd: float = SD) -> Floats:
    return centre * np.exp(sd * rng.standard_normal(n))


def arrivals(first: int, n: int) -> tuple[Integers, Integers]:
    """Row ids and times, one every 2 s."""
    ids = np.arange(first, first + n)
    return ids, START_US + INTERVAL_US * ids


def locked() -> Baseline:
    """What a chart has learnt after a day."""
    values = lognormal(np.random.default_rng(1), DAY)
    baseline = phase_one(values, arrivals(1, DAY)[1], "log", "locked", ALL_RULES)
    assert baseline is not None
    return baseline


# -- one value at a time, and batches


def stream(update: Callable[[float, int, int], object], rows: Iterable[tuple[float, int, int]]) -> None:
    for value, row_id, time_us in rows:
        update(value, row_id, time_us)


def stream_rules(names: str, zs: list[float]) -> None:
    updates = [rule.update for rule in rules_named(names)]
    for z in zs:
        for update in updates:
            update(z)


def one_by_one(table: Table, n: int, repeats: int) -> None:
    table.title("one value after another")
    rng = np.random.default_rng(2)
    ids, times_us = arrivals(DAY + 1, n)
    rows = list(zip(lognormal(rng, n).tolist(), ids.tolist(), times_us.tolist(), strict=True))
    baseline = locked()
    for name, plan, target, key in (
        ("chart: 8 rules on points and buckets, detectors", ALL_RULES, ">= 200,000", "stream"),
        ("chart as shipped: 3 rules on points", AS_SHIPPED, "", ""),
    ):
        taken = fastest(
            lambda plan=plan: stream(ControlChart("log", plan, baseline=baseline).update, rows), repeats
        )
        table.rate(name, n / taken, target, key, "" if key else "stream")
    zs = rng.standard_normal(n).tolist()
    for name, rules, key in (
        ("the eight rules alone", "nelson", "rules"),
        ("the original three alone", "original", ""),
    ):
        taken = fastest(lambda rules=rules: stream_rules(rules, zs), repeats)
        table.rate(name, n / taken, key=key, against="" if key else "rules")


def batches(table: Table, n: int, repeats: int) -> None:
    table.title("batches: 8 rules on points and buckets, detectors")
    values = lognormal(np.random.default_rng(3), n)
    ids, times_us = arrivals(DAY + 1, n)
    baseline = locked()

    def judge(size: int) -> None:
        chart = ControlChart("log", ALL_RULES, baseline=baseline)
        for at in range(0, n, size):
            part = slice(at, at + size)
            chart.update_many(values[part], ids[part], times_us[part])

    for size in BATCHES:
        rate = n / fastest(lambda size=size: judge(size), repeats)
        table.rate(f"of {size:,}", rate, ">= 1,000,000" if size >= MANY else "", against="stream")


# -- the engine


class Day:
    """A day and more of one series, as rows one by one and as columns."""

    def __init__(self, n: int, seed: int = 4) -> None:
        rng = np.random.default_rng(seed)
        self.ids, self.times_us = arrivals(1, n)
        self.latency, self.ttft = lognormal(rng, n, 2000.0), lognormal(rng, n, 120.0)
        self.eval_ms = lognormal(rng, n, 1800.0, 0.1)
        self.values = {"latency": self.latency, "ttft": self.ttft, "ms_per_token": self.eval_ms / 42.0}

    def history(self, _series_id: int, metric: str, row_id: int) -> tuple[Floats, Integers]:
        return self.values[metric][:row_id], self.times_us[:row_id]

    def columns(self, part: slice) -> Rows:
        ids = self.ids[part]
        values = {metric: self.values[metric][part] for metric in WATCHED}
        return Rows(ids, self.times_us[part], np.ones(len(ids), bool), np.full(len(ids), 10.0), values)

    def rows(self, part: slice) -> list[Row]:
        measured = zip(
            self.latency[part].tolist(), self.ttft[part].tolist(), self.eval_ms[part].tolist(), strict=True
        )
        numbers = zip(self.ids[part].tolist(), self.times_us[part].tolist(), strict=True)
        return [
            Row(row_id, time_us, True, Measured(a, b, a, 10.0, 100.0, c, 26, 42))
            for (row_id, time_us), (a, b, c) in zip(numbers, measured, strict=True)
        ]

    def learnt(self, plan: Plan) -> Engine:
        """An engine whose charts of this series have just locked."""
        engine = Engine(WATCHED, plan, self.history)
        for at in range(0, DAY + 300, 500):
            engine.observe_many(1, self.columns(slice(at, min(at + 500, DAY + 300))))
        assert all(engine.chart(1, metric).state == "locked" for metric in WATCHED)  # type: ignore[union-attr]
        return engine


def engine(table: Table, n: int, repeats: int) -> None:
    table.title("engine: three metrics, failures and cold starts of an observation")
    first = DAY + 300
    day = Day(first + n * repeats)
    for name, plan, key in (("all rules", ALL_RULES, "engine"), ("as shipped", AS_SHIPPED, "")):
        judge = day.learnt(plan)
        parts = [day.rows(slice(first + n * i, first + n * (i + 1))) for i in range(repeats)]
        taken = fastest(
            lambda judge=judge, parts=parts: [judge.observe(1, row) for row in parts.pop(0)], repeats
        )
        table.rate(f"one by one, {name}: observations", n / taken, key=key, against="" if key else "engine")
    for size in BATCHES[:3]:
        judge = day.learnt(ALL_RULES)
        starts = [first + n * i for i in range(repeats)]

        def many(size: int = size, judge: Engine = judge, starts: list[int] = starts) -> None:
            start = starts.pop(0)
            for at in range(start, start + n, size):
                judge.observe_many(1, day.columns(slice(at, min(at + size, start + n))))

        table.rate(f"batches of {size:,}: observations", n / fastest(many, repeats), against="engine")


# -- many at once


def backtest(table: Table, n: int) -> None:
    """As `llmscope.backtest` judges what it has read: learn a day, then judge, in chunks."""
    table.title(f"backtest of {n / 1e6:g} million points: 8 rules on points and buckets, detectors")
    rng = np.random.default_rng(5)
    for name, plan in (("all rules", ALL_RULES), ("as shipped", AS_SHIPPED)):
        learnt: list[tuple[Floats, Integers]] = []

        def history(row_id: int, learnt: list[tuple[Floats, Integers]] = learnt) -> tuple[Floats, Integers]:
            values, times_us = (np.concatenate(column) for column in zip(*learnt, strict=True))
            return values[:row_id], times_us[:row_id]

        chart = ControlChart("log", plan, history)
        seconds = 0.0
        episodes = alarms = 0
        gc.collect()
        for at in range(0, n, CHUNK):
            values = lognormal(rng, min(CHUNK, n - at))
            ids, times_us = arrivals(at + 1, len(values))
            start = time.perf_counter()
            if chart.state != "locked":
                learnt.append((values, times_us))
            told = chart.update_many(values, ids, times_us)
            seconds += time.perf_counter() - start
            episodes += sum(event.kind == "opened" for event in told.events)
            alarms += sum(event.kind == "opened" for event in told.alarms)
        target = "<= 5 s" if plan is ALL_RULES and n == 10_000_000 else ""
        found = f"{n / seconds:,.0f}/s; {episodes:,} episodes, {alarms} alarms"
        table.text(name, f"{seconds:.2f} s", target, found)
    zs = rng.standard_normal(1_000_000)
    for name, rules, key in (
        ("the eight rules alone (numpy)", "nelson", "scan"),
        ("the original three alone", "original", ""),
    ):
        chosen = rules_named(rules)
        rate = len(zs) / fastest(lambda chosen=chosen: scan(zs, chosen), 5)
        table.rate(name, rate, key=key, against="" if key else "scan")


# -- a restart


def store_days(path: Path, series: int) -> None:
    """A database of a day of that many series, written through the store, in order of arrival."""
    store = open_store(path)
    rng = np.random.default_rng(6)
    now_us = time.time_ns() // 1000
    known = [
        store.series_for(SeriesKey("ollama", f"model-{i}", "localhost:11434", "probe")) for i in range(series)
    ]
    failures: list[Exception] = []

    def written(job: Any, error: Exception | None) -> None:
        if error is None:
            store.committed(job)
        else:
            failures.append(error)

    instants = max(1, 20_000 // series)
    for at in range(0, DAY, instants):
        k = min(instants, DAY - at)
        n = k * series
        us = {name: np.round(1e3 * lognormal(rng, n, centre, sd)).astype(int) for name, centre, sd in (
            ("ttft", 120.0, SD), ("connect", 0.4, 0.2), ("gap_mean", 43.0, 0.1), ("gap_max", 90.0, 0.2),
            ("load", 10.0, 0.1), ("prompt", 100.0, 0.1), ("eval", 1800.0, 0.1),
        )}  # fmt: skip
        total = us["load"] + us["prompt"] + us["eval"] + 2_000
        times_us = now_us - STORED_EVERY_US * (DAY - at - np.repeat(np.arange(k), series))
        columns = [
            np.arange(store.next_id, store.next_id + n),
            np.tile([s.id for s in known], k),
            times_us + np.tile(np.arange(series), k) * (INTERVAL_US // series),
            np.zeros(n, int),
            np.round(1e3 * lognormal(rng, n, 2000.0)).astype(int),
            *(us[name] for name in ("ttft", "connect", "gap_mean", "gap_max")),
            total,
            *(us[name] for name in ("load", "prompt", "eval")),
            np.full(n, 26),
            np.full(n, 42),
            *(rng.integers(200, 600, n) for _ in range(4)),
            np.full(n, 1),
            np.full(n, 1),
        ]
        assert len(columns) == len(r.COLUMNS)
        store.next_id += n
        rows = list(zip(*(column.tolist() for column in columns), strict=True))
        store.append(rows, [], None, 0, written)
    store.close()
    if failures:
        raise failures[0]


def start(path: Path) -> tuple[Store, Ingest, float, float]:
    """Store and charts as a server has them after its start; seconds of each."""
    gc.collect()
    begin = time.perf_counter()
    store = open_store(path)
    opened = time.perf_counter()
    ingest = Ingest(store, Engine(), Hub(), lambda: time.time_ns() // 1000)
    ingest.restore()
    return store, ingest, opened - begin, time.perf_counter() - opened


async def restarts(path: Path, repeats: int) -> tuple[tuple[float, float], list[tuple[float, float]], str]:
    """Starts without and with stored states: seconds of store and charts; and what the database holds."""
    store, ingest, opened, restored = start(path)
    anew = opened, restored
    ingest.stop()  # stores what was found, and the states of the charts
    store.close()
    del store, ingest
    resumed: list[tuple[float, float]] = []
    for _ in range(repeats):
        store, ingest, opened, restored = start(path)
        resumed.append((opened, restored))
        held = f"{sum(map(len, ingest.recent.values())):,} violations, "
        held += f"{sum(map(len, ingest.findings.alarms.values()))} alarms"
        states = {
            metric
            for s in store.series
            for metric in WATCHED
            if ingest.engine.chart(s, metric).state != "locked"
        }  # type: ignore[union-attr]
        held += f" held; not locked: {', '.join(sorted(states)) or 'none'}"
        store.close()
        del store, ingest
    return anew, resumed, held


def restart(table: Table, series: int, repeats: int) -> None:
    table.title(f"restart with {series} series of 24 h, {series * DAY / 1e6:.2g} million observations")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        store_days(path, series)
        anew, resumed, held = asyncio.run(restarts(path, repeats))
        size = path.stat().st_size / 2**20
    opened, restored = min(resumed, key=sum)
    target = "<= 8 s" if series == 100 else ""
    table.text(
        "after a clean stop: total",
        f"{opened + restored:.2f} s",
        target,
        f"{size:,.0f} MiB in the page cache",
    )
    table.text("  windows read from disk", f"{opened:.2f} s", "", f"{series * DAY / opened:,.0f} rows/s")
    table.text("  charts restored", f"{restored:.2f} s", "", held)
    opened, restored = anew
    table.text("without stored states: total", f"{opened + restored:.2f} s")
    table.text(
        "  charts judged again from the windows",
        f"{restored:.2f} s",
        "",
        f"{3 * series * DAY / restored:,.0f} values/s",
    )


# -- memory

_SHARED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, Plan, Budget)


def bytes_of(thing: object, seen: set[int]) -> int:
    """Bytes of an object and all it holds that were not seen yet."""
    if id(thing) in seen or isinstance(thing, _SHARED) or thing is None or isinstance(thing, bool):
        return 0
    seen.add(id(thing))
    if isinstance(thing, str) or (isinstance(thing, int) and -6 < thing < 257):
        return 0  # names are interned
    size = sys.getsizeof(thing)
    if isinstance(thing, dict):
        return size + sum(bytes_of(k, seen) + bytes_of(v, seen) for k, v in thing.items())
    if isinstance(thing, list | tuple | set | frozenset) or hasattr(thing, "maxlen"):
        return size + sum(bytes_of(part, seen) for part in thing)  # type: ignore[attr-defined]
    if isinstance(thing, types.MethodType):
        return size
    names = [n for kind in type(thing).__mro__ for n in getattr(kind, "__slots__", ())]
    size += sum(bytes_of(getattr(thing, name), seen) for name in names if hasattr(thing, name))
    return size + (bytes_of(vars(thing), seen) if hasattr(thing, "__dict__") else 0)


def memory(table: Table, series: int) -> None:
    """Of charts that judged a day and were locked by it; the values they learnt from belong to the window."""
    table.title(
        "memory of a chart, a metric of a series, beside its windows of points and buckets, after a day"
    )
    day = Day(DAY + 300)
    day.learnt(AS_SHIPPED)  # so that what all series share is there
    gc.collect()
    tracemalloc.start()
    held = Engine(WATCHED, AS_SHIPPED, day.history)
    before = tracemalloc.get_traced_memory()[0]
    for series_id in range(1, series + 1):
        for at in range(0, DAY + 300, 500):
            held.observe_many(series_id, day.columns(slice(at, min(at + 500, DAY + 300))))
    gc.collect()
    each = series * len(WATCHED)
    total = (tracemalloc.get_traced_memory()[0] - before) / each
    for charts_of_one in held._charts.values():
        charts_of_one.trace.clear()
    gc.collect()
    charts = (tracemalloc.get_traced_memory()[0] - before) / each
    tracemalloc.stop()
    table.text(
        "chart, and its share of what is counted", f"{charts / 1024:,.0f} KiB", "<= 64 KiB", "by tracemalloc"
    )
    table.text("window of judged buckets, a day", f"{(total - charts) / 1024:,.0f} KiB")
    seen: set[int] = set()
    tables = marks = watches = rest = 0
    for metric in WATCHED:
        chart = held.chart(1, metric)
        assert chart is not None
        assert chart.buckets is not None
        reference = chart.buckets.reference
        seen |= {id(chart.history), id(held)}
        tables += bytes_of(reference.table, seen) + bytes_of(reference.innovations, seen)
        marks += bytes_of(chart.marks, seen) + bytes_of(chart.buckets.marks, seen)
        watches += bytes_of(chart.buckets.watch, seen)
        rest += bytes_of(chart, seen)
    for name, size in (
        ("score tables", tables),
        ("rules and their episodes", marks),
        ("detectors and their last buckets", watches),
        ("limits, open bucket, last 60 values", rest),
    ):
        table.text(
            f"  of the chart: {name}", f"{size / len(WATCHED) / 1024:,.1f} KiB", "", "by sizes of the objects"
        )


# -- other packages


def by_pycontrolcharts(values: Floats) -> object:
    from pycontrolcharts import CustomLimits, run_tests_with_custom_limits

    return run_tests_with_custom_limits(
        values.tolist(), limits=CustomLimits(0.0, 3.0, -3.0, 1.0, -1.0, 2.0, -2.0)
    )


def by_nelsoncheck(values: Floats) -> object:
    from NelsonCheck.NelsonCheck import NelsonCheck

    return NelsonCheck(values, 0.0, -3.0, 3.0)


def by_capstat(values: Floats) -> object:
    from capstat_core import ControlChart as Theirs
    from capstat_core import ControlLimits, nelson_rules

    chart = Theirs("I", tuple(values.tolist()), ControlLimits(0.0, -3.0, 3.0), ())
    return nelson_rules(chart)


OTHERS: tuple[tuple[str, str, str, Callable[[Floats], object]], ...] = (
    ("pycontrolcharts", "pycontrolcharts", "R1,R2,R3,R5,R6", by_pycontrolcharts),
    ("NelsonCheck", "NelsonCheck", "nelson", by_nelsoncheck),
    ("capstat-core", "capstat_core", "nelson", by_capstat),
)


def others(table: Table, n: int, repeats: int) -> None:
    table.title(f"other packages on {n:,} standard normal values, limits given")
    zs = np.random.default_rng(7).standard_normal(n)
    as_list = zs.tolist()
    for package, module, names, judge in OTHERS:
        rules = rules_named(names)
        try:
            importlib.import_module(module)
        except ImportError as error:
            table.text(package, "not installed", "", f"pip install {package} ({error})")
            continue
        judge(zs[:1000])
        rate = n / fastest(lambda judge=judge: judge(zs), repeats)
        many = n / fastest(lambda rules=rules: scan(zs, rules), 5)
        streamed = n / fastest(lambda names=names: stream_rules(names, as_list), 3)
        note = f"rules of these names here: numpy {many / rate:,.0f} x, one by one {streamed / rate:,.1f} x as fast"
        version = importlib.metadata.version(package)
        table.text(f"{package} {version}, {len(rules)} rules", f"{rate:,.0f}/s", "", note)


SECTIONS = ("one", "batches", "engine", "backtest", "restart", "memory", "others")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    parser.add_argument("--only", default=",".join(SECTIONS), help="some of " + ",".join(SECTIONS))
    parser.add_argument("--packages", type=Path, help="folder that other packages are installed in")
    chosen = parser.parse_args()
    if chosen.packages is not None:
        sys.path.append(str(chosen.packages))  # last: numpy stays ours
    wanted = chosen.only.split(",")
    if unknown := set(wanted) - set(SECTIONS):
        raise SystemExit(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(SECTIONS)}")
    quick = bool(chosen.quick)
    repeats = 3 if quick else 7
    table = Table()
    work: dict[str, Callable[[], None]] = {
        "one": lambda: one_by_one(table, 100_000, repeats),
        "batches": lambda: batches(table, 200_000, repeats),
        "engine": lambda: engine(table, 20_000, repeats),
        "backtest": lambda: backtest(table, 1_000_000 if quick else 10_000_000),
        "restart": lambda: restart(table, 10 if quick else 100, 2),
        "memory": lambda: memory(table, 2 if quick else 4),
        "others": lambda: others(table, 5_000 if quick else 20_000, repeats=2 if quick else 3),
    }
    for name in SECTIONS:
        if name in wanted:
            work[name]()
    print(
        f"{platform.platform()}, Python {platform.python_version()}, numpy {np.__version__}, "
        f"{os.cpu_count()} cores\n"
    )
    table.print()


if __name__ == "__main__":
    main()
