"""Five people look at sixty targets for ten minutes: does every page hear every point, and what does it cost?

Starts `llmscope serve`, plays the targets with bench/fleet.py, and opens five pages in Chromium: two on the overview,
three on one target each (one hour, 24 hours, half minutes). What a page hears is counted from its own event stream.
"""

import argparse
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from ingest import free_port
from playwright.sync_api import BrowserContext, sync_playwright
from web import CHROMIUM, FLAGS, metrics, wait

SERVER = "host-01:11434"  # of the pages that show one target


@dataclass
class Watcher:
    """One page, what its stream told it, and what its console said."""

    name: str
    page: Any
    cdp: Any
    ids: set[int] = field(default_factory=set)
    doubled: int = 0
    said: list[str] = field(default_factory=list)
    busy_before: float = 0.0

    def listen(self) -> None:
        self.cdp.send("Network.enable")
        self.cdp.send("Performance.enable")
        self.cdp.on("Network.eventSourceMessageReceived", self.heard)
        self.page.on(
            "console", lambda m: self.said.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda e: self.said.append(str(e)))

    def heard(self, event: dict[str, Any]) -> None:
        if event["eventName"] == "observation":
            row_id = int(event["eventId"])
            self.doubled += row_id in self.ids
            self.ids.add(row_id)


def stored(database: str, first_id: int, last_id: int, server: str | None) -> set[int]:
    """The rows after the first up to the last, of one server or all: what the database says came in."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT o.id FROM observation o JOIN series s ON s.id = o.series_id "
            "WHERE o.id > ? AND o.id <= ? AND ? IN (s.server, '')",
            (first_id, last_id, server or ""),
        )
        return {row[0] for row in rows}


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process and its children."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def watchers(context: BrowserContext, url: str) -> list[Watcher]:
    with urllib.request.urlopen(url + "/api/series", timeout=30) as answer:
        series = json.loads(answer.read())["series"]
    steady = [
        s for s in series if s["metric"] == "latency" and s["server"] in ("host-01:11434", "host-02:11434")
    ]
    one = steady[0]
    named = f"provider={one['provider']}&model={one['model']}&server={one['server']}"
    addresses = {
        "overview": "/?screen=overview",
        "overview of first token": "/?screen=overview&metric=ttft",
        "one target, 1 h": f"/?{named}",
        "one target, 24 h": f"/?{named}&hours=24",
        "one target, half minutes": f"/?{named}&hours=6&chart=buckets",
    }
    found = []
    for name, address in addresses.items():
        page = context.new_page()
        watcher = Watcher(name, page, context.new_cdp_session(page))
        watcher.listen()
        page.goto(url + address)
        found.append(watcher)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=10.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        program = str(Path(sys.executable).parent / "llmscope")
        command = [program, "serve", "--port", str(port), "--db", f"{folder}/a.db"]
        server = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        fleet: subprocess.Popen[bytes] | None = None
        try:
            wait(url)
            player = [sys.executable, str(Path(__file__).with_name("fleet.py")), "--url", url]
            asks = ["--targets", str(asked.targets), "--minutes", str(asked.minutes + 2.0)]
            fleet = subprocess.Popen([*player, *asks])
            watch(url, f"{folder}/a.db", asked.minutes, psutil.Process(server.pid), asked.targets)
        finally:
            for process in (fleet, server):
                if process is not None:
                    process.terminate()
                    process.wait()


def live_yet(url: str, targets: int) -> None:
    """Wait until the history is in: when points come at the pace of probes."""
    while True:
        with urllib.request.urlopen(url + "/api/series", timeout=30) as answer:
            series = [s for s in json.loads(answer.read())["series"] if s["metric"] == "latency"]
        if len(series) >= targets and sum(s["status"]["age_s"] < 5.0 for s in series) > 0.8 * targets:
            return
        time.sleep(1.0)


def watch(url: str, database: str, minutes: float, server: psutil.Process, targets: int) -> None:
    live_yet(url, targets)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        pages = watchers(context, url)
        pages[0].page.wait_for_timeout(10_000)
        chromium = next(p for p in psutil.Process().children(recursive=True) if "chrom" in p.name())
        for one in pages:
            one.busy_before = metrics(one.cdp)["TaskDuration"]
        first_id = max(max(one.ids, default=0) for one in pages)
        cpu, page_cpu, began = cpu_s(server), cpu_s(chromium), time.monotonic()
        while time.monotonic() - began < 60.0 * minutes:
            pages[0].page.wait_for_timeout(1000)
        took = time.monotonic() - began
        spent, page_spent = cpu_s(server) - cpu, cpu_s(chromium) - page_cpu
        busy = [metrics(one.cdp)["TaskDuration"] - one.busy_before for one in pages]
        last_id = min(max(one.ids) for one in pages[:2])
        print(f"{targets} targets every 2 s, five pages, {took / 60:.1f} min, {os.cpu_count()} cores")
        print(f"CPU of the server, of one core                   {100 * spent / took:.1f} %")
        print(f"CPU of Chromium with its five pages, of one core {100 * page_spent / took:.1f} %")
        for one, seconds in zip(pages, busy, strict=True):
            own = None if one.name.startswith("overview") else SERVER
            wanted = stored(database, first_id, last_id, own)
            missed = len(wanted - one.ids)
            print(
                f"{one.name:<26} heard {len(one.ids):>6,}, missed {missed} of the last {len(wanted):,}, "
                f"doubled {one.doubled}, main thread {1000 * seconds / took:.0f} ms/s, console: {one.said or 'silent'}"
            )
        browser.close()


if __name__ == "__main__":
    main()
