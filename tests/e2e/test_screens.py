"""Every screen and state in light and dark, wide and narrow: accessible, fitting, without a word in the console.

`PICTURES=1 scripts/test tests/e2e` also puts the pictures into docs/img, where a person looks at them.
"""

import io
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from tests.e2e.scenes import (
    busy_past,
    calm_past,
    failed,
    fleet_kept_live,
    fleet_past,
    kept_live,
    long_past,
    post,
    serving,
)
from tests.processes import App, wait_for

PICTURES = Path(__file__).parents[2] / "docs" / "img"
SIZES = {"": (1440, 900), "-phone": (390, 844)}
THEMES = ("light", "dark")
EVERY_DAY = (("light", ""), ("dark", "-phone"))
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}

Act = Callable[[Page], Any]


def picture(page: Page, path: Path) -> None:
    """As WebP: forty of them would weigh on a clone."""
    with Image.open(io.BytesIO(page.screenshot())) as image:
        image.save(path, quality=85, method=6)


def drawn(page: Page, count: int = 1) -> None:
    wait_for(lambda: page.evaluate("window.__llmscope?.count ?? 0") >= count)


def listen(page: Page, said: list[str]) -> None:
    """Note what the console says."""
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: said.append(str(e)))


def looked_at(
    browser: Browser, app: App, name: str, path: str, ready: Act, may_complain: bool = False
) -> None:
    """Open the page four times, make it ready, and check and picture what it shows."""
    pictured = os.environ.get("PICTURES") == "1"
    for theme in THEMES:
        for suffix, (width, height) in SIZES.items():
            if not pictured and (theme, suffix) != EVERY_DAY[len(name) % 2]:
                continue  # one of the four is enough from day to day; whoever takes pictures looks at all
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=theme,  # type: ignore[arg-type]
                reduced_motion="reduce",
                timezone_id="Europe/Berlin",
                locale="en-GB",
            )
            page = context.new_page()
            said: list[str] = []
            listen(page, said)
            if app.process is None:
                app.start()
            page.goto(app.url + path)
            ready(page)
            page.wait_for_timeout(150)
            found = Axe().run(page, options=WCAG)
            where = f"{name} {theme} {width}"
            assert found.violations_count == 0, f"{where}: {found.generate_report()}"
            assert page.evaluate("document.documentElement.scrollWidth") == width, where
            if pictured:
                picture(page, PICTURES / f"{name}{suffix}-{theme}.webp")
            if not may_complain:
                assert said == [], where
            context.close()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Four hours of a model that is slower since ten minutes, and still probed."""
    with serving(tmp_path_factory.mktemp("busy"), busy_past()) as app, kept_live(app, 1.22):
        yield app


def then(*acts: Act) -> Act:
    """One thing after the other, once the chart is drawn."""

    def run(page: Page) -> None:
        drawn(page)
        for act in acts:
            act(page)

    return run


def click(name: str) -> Act:
    return lambda page: page.get_by_role("button", name=name).click()


def press(keys: str) -> Act:
    """Keys on the chart."""

    def run(page: Page) -> None:
        page.get_by_role("group", name=re.compile("Control chart of")).focus()
        for key in keys:
            page.keyboard.press(key)

    return run


def sees(selector: str) -> Act:
    return lambda page: expect(page.locator(selector)).to_be_visible()


def worst(page: Page) -> None:
    """Open the cold load: the furthest out."""
    asked = "fetch('api/violations?hours=4&metric=latency&rule=R1&chart=points').then(a => a.json())"
    furthest = max(page.evaluate(asked)["violations"], key=lambda v: float(v["peak_z"]))
    page.goto(page.url + f"&violation={furthest['id']}")
    page.wait_for_selector(".finding")


def select(page: Page) -> None:
    for index in range(3):
        page.locator(f'[data-index="{index}"] input[type=checkbox]').check()
    expect(page.locator(".log-bar.bulk")).to_contain_text("3 selected")


def previewed(page: Page) -> None:
    page.get_by_role("dialog").get_by_role("button", name="1 h ago").click()
    expect(page.locator(".preview")).to_contain_text("With the new baseline", timeout=30_000)


BUSY: dict[str, tuple[str, Act]] = {
    "dashboard": ("/", then()),
    "day": ("/?hours=24", lambda page: drawn(page, 7000)),
    "half-minutes": ("/?hours=6&chart=buckets", then()),
    "failures": ("/?hours=6&metric=failures", then()),
    "zoomed": ("/?hours=6", then(press("++[["), sees("text=Whole window"))),
    "paused": ("/", then(click("Pause"))),
    "hover": ("/", then(press("p"), sees(".tip"))),
    "table": ("/", then(click("Table"), sees("dialog[open]"))),
    "shortcuts": ("/", then(press("?"), sees("dialog[open]"))),
    "window": ("/", then(click("Custom"), sees("dialog[open]"))),
    "storage": ("/", then(click("size on disk"), sees("text=The database takes"))),
    "violation": ("/?rules=R1", then(worst)),
    "violation-phase": ("/?rules=R1", then(worst, click("Start a new phase here"))),
    "selected": ("/", then(select)),
    "baseline": ("/", then(click("Details"), sees("dialog[open]"))),
    "learn": ("/", then(click("Learn a new baseline"), sees("dialog[open]"), previewed)),
}


@pytest.mark.parametrize("name", BUSY)
def test_screen(name: str, busy: App, browser: Browser) -> None:
    path, ready = BUSY[name]
    looked_at(browser, busy, name, path, ready)


def test_weeks(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "app", long_past()) as app:
        wait_for(lambda: app.get("/api/series")["series"])

        def ready(page: Page) -> None:
            expect(page.get_by_test_id("detail")).to_contain_text("lowest and highest of each")
            wait_for(lambda: page.evaluate("window.__llmscope?.detail") == "stretches")

        looked_at(browser, app, "month", "/?hours=720", ready)


def test_overview(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "app", fleet_past()) as app, fleet_kept_live(app):

        def ready(page: Page) -> None:
            expect(page.locator(".target")).to_have_count(12)
            expect(page.locator(".target").first).to_contain_text("host-0")

        looked_at(browser, app, "overview", "/", ready)


def test_overview_empty(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "app", []) as app:
        looked_at(browser, app, "overview-empty", "/?screen=overview", sees(".over"))


# -- states


def status(page: Page, text: str | re.Pattern[str]) -> None:
    expect(page.get_by_test_id("status")).to_contain_text(text, timeout=20_000)


def test_state_empty(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "app", []) as app:

        def ready(page: Page) -> None:
            expect(page.get_by_test_id("empty")).to_contain_text(
                "llmscope up --target http://localhost:11434"
            )
            status(page, "Waiting for data")

        looked_at(browser, app, "state-empty", "/", ready)


def test_state_learning(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "app", calm_past(minutes=4)) as app, kept_live(app):

        def ready(page: Page) -> None:
            drawn(page)
            status(page, "Live, learning")
            expect(page.locator(".learning")).to_contain_text("left")
            expect(page.locator(".incidents")).to_contain_text("Alarms begin after")

        looked_at(browser, app, "state-learning", "/", ready)


def test_state_in_control(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "app", calm_past()) as app, kept_live(app):

        def ready(page: Page) -> None:
            drawn(page)
            status(page, re.compile("^Live"))
            expect(page.locator(".incidents")).to_contain_text("No incident")

        looked_at(browser, app, "state-in-control", "/", ready)


def test_state_stale(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "app", calm_past()[:-15]) as app:

        def ready(page: Page) -> None:
            drawn(page)
            status(page, "Stale")
            expect(page.locator(".plot")).to_have_css("opacity", "0.55")

        looked_at(browser, app, "state-stale", "/", ready)


def test_state_target_down(browser: Browser, tmp_path: Path) -> None:
    past = calm_past()
    past[-40:] = [failed(4.0 + 2.0 * (40 - i)) for i in range(40)]
    with serving(tmp_path / "app", past) as app:

        def ready(page: Page) -> None:
            post(app, [failed(0.0)])
            drawn(page)
            status(page, "Probes fail: refused")
            expect(page.get_by_test_id("state")).to_contain_text("Not answering")

        looked_at(browser, app, "state-down", "/", ready)


def test_state_disconnected(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "app", calm_past()) as app:

        def ready(page: Page) -> None:
            drawn(page)
            app.stop(signal.SIGKILL)
            status(page, "Disconnected")
            expect(page.get_by_test_id("status").get_by_role("button", name="Retry")).to_be_visible()

        looked_at(browser, app, "state-disconnected", "/", ready, may_complain=True)


def test_state_simulated(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "app", [], ("up", "--interval", "500ms", "--demo")) as app:

        def ready(page: Page) -> None:
            drawn(page, 4)
            expect(page.get_by_test_id("banner")).to_contain_text("Simulated server")

        looked_at(browser, app, "state-simulated", "/", ready)


def test_state_no_gpu(browser: Browser, tmp_path: Path) -> None:
    rows = [row | {"gpu_percent": None, "gpu_memory_percent": None} for row in busy_past(1.0)]
    with serving(tmp_path / "app", rows) as app:

        def ready(page: Page) -> None:
            drawn(page)
            expect(page.locator(".side .sys-row", has_text="GPU")).to_contain_text("not available")
            worst(page)
            expect(page.locator(".minis")).to_contain_text("not available")

        looked_at(browser, app, "state-no-gpu", "/?rules=R1", ready)


def test_the_accessibility_check_can_fail(busy: App, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(busy.url)
    drawn(page)
    page.evaluate(
        "document.querySelectorAll('.lab').forEach((e) => e.style.setProperty('color', '#ccc', 'important'))"
    )

    assert Axe().run(page, options=WCAG).violations_count > 0
    page.close()
