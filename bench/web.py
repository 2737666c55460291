"""The page in Chromium over CDP: first chart, one update, a window switch, bytes on the wire, and what it keeps.

Starts `llmscope serve` with 24 hours of points, opens the page, and prints one table. The figures depend on the machine
(Chromium draws in software here, on the same cores as the server): compare within one run.
"""

import argparse
import datetime as dt
import gzip
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from ingest import body, free_port
from playwright.sync_api import CDPSession, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
POINTS = 43_200
DASHBOARD = Path(__file__).parents[1] / "src" / "llmscope" / "dashboard"
DRAWN = "count => (window.__llmscope?.count ?? 0) >= count && window.__llmscope.draws > 0"


def post(url: str, rows: list[dict[str, Any]]) -> None:
    data = json.dumps(rows if len(rows) > 1 else rows[0]).encode()
    asked = urllib.request.Request(url + "/api/stats", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        answer.read()


def seed(url: str, rng: random.Random, end: float, points: int = POINTS) -> None:
    """Points every 2 s up to `end` (seconds since 1970)."""
    for first in range(0, points, 1000):
        stamps = [end - 2.0 * (points - i) for i in range(first, min(first + 1000, points))]
        post(url, [body(rng, dt.datetime.fromtimestamp(at, dt.UTC).isoformat()) for at in stamps])


def metrics(cdp: CDPSession) -> dict[str, float]:
    return {m["name"]: m["value"] for m in cdp.send("Performance.getMetrics")["metrics"]}


def first_chart(page: Page, address: str, points: int, times: int = 7) -> list[float]:
    """Milliseconds from the navigation to the first picture with all points, with a warm HTTP cache."""
    found = []
    for _ in range(times):
        page.goto(address)
        page.wait_for_function(DRAWN, arg=points)
        found.append(float(page.evaluate("window.__llmscope.firstMs")))
    return found


LONG_TASKS = """window.__long = [];
new PerformanceObserver(list => { for (const e of list.getEntries()) window.__long.push(e.duration); })
  .observe({entryTypes: ['longtask']});"""


def updates(page: Page, cdp: CDPSession, url: str, rng: random.Random, seconds: int) -> dict[str, float]:
    """A new point a second, then none: main-thread work that one adds, long tasks, bytes received for each."""
    received = 0

    def count(event: dict[str, Any]) -> None:
        nonlocal received
        received += int(event.get("encodedDataLength") or event.get("dataLength") or 0)

    page.evaluate(LONG_TASKS)
    cdp.send("Network.enable")
    cdp.on("Network.dataReceived", count)
    page.wait_for_timeout(1500)
    page.evaluate("window.__long.length = 0")
    received = 0
    last = int(page.evaluate("window.__llmscope.lastId"))
    spent: dict[bool, list[float]] = {True: [], False: []}
    before = metrics(cdp)
    posted = total = 0
    for told in [True] * seconds + [False] * (seconds // 2):
        began = time.monotonic()
        if told:
            post(url, [body(rng, dt.datetime.now(dt.UTC).isoformat())])
            posted += 1
            total = received
        page.wait_for_timeout(max(0.0, 1000.0 - 1000.0 * (time.monotonic() - began)))
        after = metrics(cdp)
        spent[told].append(1000.0 * (after["TaskDuration"] - before["TaskDuration"]))
        before = after
    missed = last + posted - int(page.evaluate("window.__llmscope.lastId"))
    quiet = statistics.median(spent[False])
    long = page.evaluate("window.__long")
    return {
        "median": statistics.median(spent[True]) - quiet,
        "p95": sorted(spent[True])[int(0.95 * len(spent[True]))] - quiet,
        "quiet": quiet,
        "long": len(long),
        "longest": max(long, default=0.0),
        "bytes": total / posted,
        "missed": missed,
    }


SWITCH = """async title => {
  const before = window.__llmscope.xRange;
  const began = performance.now();
  [...document.querySelectorAll('.ranges button')].find(b => b.textContent === title).click();
  while (true) {
    await new Promise(requestAnimationFrame);
    const x = window.__llmscope.xRange;
    const wide = x[1] - x[0];
    if (Math.abs(wide - (before[1] - before[0])) > 60 && window.__llmscope.count > 0) return performance.now() - began;
    if (performance.now() - began > 5000) return NaN;
  }
}"""


def switches(page: Page) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for title in ("1h", "6h", "24h") * 4:
        found.setdefault(title, []).append(float(page.evaluate(SWITCH, title)))
        page.wait_for_timeout(400)
    return {title: statistics.median(values) for title, values in found.items()}


def growth(
    page: Page, cdp: CDPSession, url: str, rng: random.Random, count: int, start: float
) -> tuple[float, float, float]:
    """Heap in MB before and after an hour of updates at 20 a second, told faster; the seconds that it took."""

    def heap() -> float:
        cdp.send("HeapProfiler.collectGarbage")
        usage = cdp.send("Runtime.getHeapUsage")
        return float(usage["usedSize"] + usage.get("backingStorageSize", 0)) / 1e6

    cdp.send("HeapProfiler.enable")
    before = heap()
    began = time.monotonic()
    for first in range(0, count, 20):
        stamps = [start + (first + i) / 20.0 for i in range(20)]
        post(url, [body(rng, dt.datetime.fromtimestamp(at, dt.UTC).isoformat()) for at in stamps])
        ahead = began + first / 400.0 - time.monotonic()
        if ahead > 0:
            page.wait_for_timeout(1000.0 * ahead)
    page.wait_for_timeout(3000)
    return before, heap(), time.monotonic() - began


def javascript() -> tuple[int, int]:
    """Bytes after gzip of what the first page loads, and of everything."""
    html = (DASHBOARD / "index.html").read_text()
    sizes = {p.name: len(gzip.compress(p.read_bytes(), 9)) for p in DASHBOARD.glob("assets/*.js")}
    return sum(size for name, size in sizes.items() if name in html), sum(sizes.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60, help="of one update a second")
    parser.add_argument("--updates", type=int, default=72_000, help="for the heap: an hour at 20 a second")
    asked = parser.parse_args()
    rng = random.Random(4)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        program = str(Path(sys.executable).parent / "llmscope")
        command = [program, "serve", "--port", str(port), "--db", f"{folder}/a.db"]
        server = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        try:
            wait(url)
            hour_ago = time.time() - 3600.0
            seed(url, rng, time.time() if asked.updates == 0 else hour_ago)
            measure(url, rng, asked, hour_ago)
        finally:
            server.terminate()
            server.wait()


def wait(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url + "/healthz", timeout=5).read()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the server did not start")


def say(what: str, figure: str) -> None:
    print(f"{what:<56} {figure}", flush=True)


def measure(url: str, rng: random.Random, asked: argparse.Namespace, hour_ago: float) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        cdp = context.new_cdp_session(page)
        cdp.send("Performance.enable")
        page.goto(url + "/?hours=24")
        page.wait_for_function(DRAWN, arg=1)
        held = int(page.evaluate("window.__llmscope.count"))
        first = first_chart(page, url + "/?hours=24", held - 100)
        page.wait_for_timeout(3000)
        print(f"{platform.machine()}, {os.cpu_count()} cores, Chromium {browser.version}")
        say("points in the 24 h window", f"{held:,}")
        say(
            "first chart after navigation, ms: median of 7 (worst)",
            f"{statistics.median(first):.0f} ({max(first):.0f})",
        )
        one = updates(page, cdp, url, rng, asked.seconds)
        say("main thread of an update at 24 h, ms: median / p95", f"{one['median']:.1f} / {one['p95']:.1f}")
        say("beside what a second costs without one, ms", f"{one['quiet']:.1f}")
        say("tasks over 50 ms meanwhile (longest, ms)", f"{one['long']:.0f} ({one['longest']:.0f})")
        say("bytes over the wire for a new point, all counted", f"{one['bytes']:.0f}")
        say("points that did not arrive", f"{one['missed']:.0f}")
        for title, ms in switches(page).items():
            say(f"switch to {title}, ms: median of 4", f"{ms:.0f}")
        size, all_size = javascript()
        say("JavaScript of the first page after gzip, KB (all)", f"{size / 1000:.1f} ({all_size / 1000:.1f})")
        if asked.updates:
            before, after, took = growth(page, cdp, url, rng, asked.updates, hour_ago)
            told = f"{after - before:+.1f} ({before:.1f} to {after:.1f}, told in {took:.0f} s)"
            say(f"heap growth over {asked.updates:,} updates, MB", told)
        browser.close()


if __name__ == "__main__":
    main()
