"""A real browser on a real LLMscope: the API in a process of its own, Debian's Chromium driven by Playwright."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from tests.processes import App

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")  # not session: its loop would run on under the async tests of the same worker
def browser() -> Iterator[Browser]:
    assert os.path.exists(CHROMIUM), "these tests need Debian's chromium; scripts/test installs it as root"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """`llmscope serve` over an empty database."""
    app = App(tmp_path / "app", ["serve"])
    app.start()
    yield app
    app.stop()


@dataclass
class Visit:
    """A page that remembers what the console said."""

    page: Page
    said: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """What the chart says of itself."""
        found: dict[str, Any] = self.page.evaluate("window.__llmscope ?? {count: 0, markers: []}")
        return found


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    page = context.new_page()
    visit = Visit(page)
    page.on("console", lambda m: visit.said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: visit.said.append(str(e)))
    yield visit
    context.close()


def listed(page: Page, violation_id: int) -> Locator:
    """The button of a row of the log, which is drawn only where it is in view."""
    rows = page.locator(".rows")
    rows.wait_for()
    row = page.locator(f'[data-violation="{violation_id}"] .row-link')
    for top in range(0, 40_000, 150):
        if row.count():
            break
        rows.evaluate("(box, top) => { box.scrollTop = top }", top)
        page.wait_for_timeout(20)
    return row
