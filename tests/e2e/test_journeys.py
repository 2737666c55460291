"""What people come to do, from the first look to the last click; the main ways by keyboard alone too."""

import csv
import json
import random
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.e2e.conftest import Visit
from tests.e2e.scenes import NAMES, busy_past, calm_past, fleet_past, kept_live, long_past, request, serving
from tests.processes import App, wait_for


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Two hours of a model that is slower since ten minutes; nothing more comes, so that counts stand still."""
    with serving(tmp_path_factory.mktemp("busy"), busy_past(2.0)) as app:
        yield app


def opened(app: App, visit: Visit, path: str = "/") -> Page:
    visit.page.goto(app.url + path)
    wait_for(lambda: visit.facts()["count"] > 0 or visit.facts().get("detail") == "stretches")
    return visit.page


def chart(page: Page) -> Locator:
    return page.get_by_role("group", name=re.compile("Control chart of"))


def total(page: Page) -> int:
    """How many marks the log says it lists."""
    found = re.search(r"[\d,]+", page.get_by_test_id("log-total").inner_text())
    return int(found.group().replace(",", "")) if found else 0


def listed(page: Page, count: int) -> None:
    wait_for(lambda: total(page) == count)


def marks(app: App, **query: Any) -> dict[str, Any]:
    asked = {"metric": "latency", "chart": "points", "hours": 1} | query
    found: dict[str, Any] = app.get(
        "/api/violations?" + "&".join(f"{k}={v}" for k, v in asked.items() if v is not None)
    )
    return found


# -- the first look


def test_within_a_look_it_says_what_is_wrong_since_when_and_how_far(busy: App, visit: Visit) -> None:
    page = opened(busy, visit)

    strip = page.get_by_test_id("incidents")
    expect(strip).to_contain_text(re.compile(r"Response latency has run 2\d % above its learnt level"))
    expect(strip).to_contain_text("since")
    expect(strip).to_contain_text(re.compile(r"Mostly generation: 1\.\d\d s, usually 1\.\d\d s"))
    expect(page.get_by_role("tab", name=re.compile("^Latency ?, out of control"))).to_be_visible()


def test_with_several_targets_the_overview_comes_first_the_worst_in_front(
    tmp_path: Path, visit: Visit
) -> None:
    with serving(tmp_path / "app", fleet_past()) as app, kept_live(app, 1.25, 0.3, **NAMES):
        page = visit.page
        page.goto(app.url)
        expect(page.locator(".target")).to_have_count(12)
        expect(page.locator(".target").first).to_have_attribute("data-standing", re.compile("out|failing"))
        expect(page.locator(".target").last).not_to_have_attribute("data-standing", re.compile("out|failing"))
        page.get_by_label("Search by name").fill("host-01")
        expect(page.locator(".target")).to_have_count(1)
        page.locator(".target").first.click()
        wait_for(lambda: visit.facts()["count"] > 0)
        expect(page).to_have_url(re.compile("server=host-01"))
        page.get_by_role("button", name="All 12 targets").click()
        expect(page.locator(".target")).to_have_count(12)
        page.go_back()
        expect(chart(page)).to_be_visible()
        assert visit.said == []


def test_an_overview_card_follows_live(tmp_path: Path, visit: Visit) -> None:
    with serving(tmp_path / "app", fleet_past(4)) as app:
        visit.page.goto(app.url)
        card = visit.page.locator(".target", has_text="host-04")
        expect(card).to_be_visible()
        app.post(request(random.Random(1), 0.0, 3.0, model="llama3.1:8b", server="host-04:11434"))

        expect(card).to_contain_text(re.compile(r"[45]\.\d\d"))


# -- the chart


def test_every_metric_has_a_tab_that_arrows_move_between(busy: App, visit: Visit) -> None:
    page = opened(busy, visit)
    page.get_by_role("tab", name=re.compile("Latency")).focus()
    metrics = (
        "ttft",
        "ms_per_token",
        "queue",
        "load",
        "prompt_ms_per_token",
        "failures",
        "tokens_per_second",
    )
    for metric in metrics:
        page.keyboard.press("ArrowRight")
        expect(page.locator(f"#tab-{metric}")).to_be_focused()
        expect(page.locator(f"#tab-{metric}")).to_have_attribute("aria-selected", "true")
        wait_for(lambda: visit.facts()["count"] > 0)
    expect(page).to_have_url(re.compile("metric=tokens_per_second"))
    assert app_limits(busy, "tokens_per_second")["centre"] is not None
    expect(page.locator(".bar")).not_to_contain_text("not judged")
    assert visit.said == []


def app_limits(app: App, metric: str) -> dict[str, Any]:
    found: dict[str, Any] = app.get(f"/api/stats/spc?hours=1&metric={metric}&fields=none")["spc"]
    return found


def test_a_brush_zooms_the_log_follows_and_the_address_keeps_it(busy: App, visit: Visit) -> None:
    page = opened(busy, visit)
    wait_for(lambda: total(page) > 0)  # the log loads after the chart
    before = total(page)
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 90, steps=5)
    page.mouse.up()
    expect(page.get_by_role("button", name="Whole window")).to_be_visible()
    wait_for(lambda: total(page) < before)
    span = visit.facts()["xRange"]
    page.reload()
    wait_for(lambda: visit.facts()["count"] > 0 and visit.facts()["xRange"] == span)
    chart(page).focus()
    page.keyboard.press("0")

    expect(page.get_by_role("button", name="Whole window")).to_have_count(0)


def test_the_keyboard_zooms_pans_and_finds_marks(busy: App, visit: Visit) -> None:
    page = opened(busy, visit, "/?hours=6")
    chart(page).focus()
    whole = visit.facts()["xRange"]
    page.keyboard.press("+")
    wait_for(lambda: visit.facts()["xRange"][1] - visit.facts()["xRange"][0] < 0.6 * (whole[1] - whole[0]))
    zoomed = visit.facts()["xRange"]
    page.keyboard.press("[")
    wait_for(lambda: visit.facts()["xRange"][0] < zoomed[0])
    page.keyboard.press("0")
    page.keyboard.press("End")
    page.keyboard.press("p")
    expect(page.locator(".tip")).to_contain_text("Marks")


def test_log_axis_fit_and_windows_by_their_keys(busy: App, visit: Visit) -> None:
    page = opened(busy, visit)
    page.keyboard.press("l")
    expect(page.get_by_role("button", name="Log", exact=True)).to_have_attribute("aria-pressed", "true")
    wait_for(lambda: visit.facts()["yRange"][0] > 0)
    page.keyboard.press("f")
    wait_for(lambda: visit.facts()["yRange"][1] > 4.5)
    page.keyboard.press("2")
    expect(page).to_have_url(re.compile("hours=24"))
    wait_for(lambda: visit.facts()["detail"] == "stretches")


def test_weeks_come_in_stretches_and_a_part_of_them_point_by_point(tmp_path: Path, visit: Visit) -> None:
    with serving(tmp_path / "app", long_past(20.0)) as app:
        page = opened(app, visit, "/?hours=720")
        wait_for(lambda: visit.facts()["detail"] == "stretches")
        expect(page.get_by_test_id("detail")).to_contain_text("lowest and highest of each")
        chart(page).focus()
        for _ in range(7):
            page.keyboard.press("+")
        wait_for(lambda: visit.facts()["detail"] == "points" and visit.facts()["count"] > 10, 30.0)
        page.get_by_role("button", name="Custom").click()
        page.get_by_role("button", name="From the first observation").click()
        page.get_by_role("button", name="Show").click()
        expect(page).to_have_url(re.compile("from=.*to="))
        wait_for(lambda: visit.facts()["detail"] == "stretches")
        assert visit.said == []


def test_what_is_promised_is_a_line(tmp_path: Path, visit: Visit) -> None:
    with serving(tmp_path / "app", calm_past(5), ("serve", "--slo", "latency=2s")) as app:
        opened(app, visit).keyboard.press("f")
        wait_for(lambda: visit.facts()["yRange"][1] >= 2.0)


def test_the_chart_is_a_table_too(busy: App, visit: Visit) -> None:
    page = opened(busy, visit)
    page.get_by_role("button", name="Table").click()
    rows = page.locator("dialog[open] tbody tr")
    expect(rows).to_have_count(500)
    expect(rows.first).to_contain_text(" s")


# -- the log


def test_filters_and_search_choose_rows_and_exports_and_are_in_the_address(
    busy: App, visit: Visit, tmp_path: Path
) -> None:
    page = opened(busy, visit)
    page.get_by_label("Severity").select_option("critical")
    critical = marks(busy, severity="critical")["total"]
    listed(page, critical)
    page.get_by_label("Standing").select_option("ended")
    ended = marks(busy, severity="critical", open="false")["total"]
    listed(page, ended)
    page.keyboard.press("Escape")
    page.locator("body").click(position={"x": 5, "y": 895})
    page.keyboard.press("/")
    expect(page.locator("#log-search")).to_be_focused()
    page.keyboard.type("above")
    expect(page).to_have_url(re.compile("search=above"))
    found = marks(busy, severity="critical", open="false", search="above")
    listed(page, found["total"])
    for name, read in (("Export CSV", read_csv), ("Export JSON", read_json)):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        path = tmp_path / name
        download.value.save_as(path)
        assert read(path) == [v["id"] for v in found["violations"]]
    page.reload()
    listed(page, found["total"])
    expect(page.locator("#log-search")).to_have_value("above")


def read_csv(path: Path) -> list[int]:
    with path.open(newline="") as file:
        return [int(row["id"]) for row in csv.DictReader(file)]


def read_json(path: Path) -> list[int]:
    return [v["id"] for v in json.loads(path.read_text())]


def test_several_marks_are_acknowledged_at_once_with_a_note(tmp_path: Path, visit: Visit) -> None:
    with serving(tmp_path / "app", busy_past(1.0)) as app:
        page = opened(app, visit)
        for index in range(3):
            page.locator(f'[data-index="{index}"] input[type=checkbox]').check()
        bulk = page.locator(".log-bar.bulk")
        bulk.get_by_placeholder("Your name").fill("ann")
        bulk.get_by_placeholder("What it was").fill("backup job")
        bulk.get_by_role("button", name="Acknowledge").click()
        expect(page.locator('[data-index="0"]')).to_contain_text("ann")

        assert {v["note"] for v in marks(app, acknowledged="true")["violations"]} == {"backup job"}
        assert marks(app, acknowledged="true")["total"] == 3


def test_the_log_is_used_by_keyboard_alone(busy: App, visit: Visit) -> None:
    page = opened(busy, visit)
    page.locator('[data-index="0"]').focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator('[data-index="1"]')).to_be_focused()
    page.keyboard.press("x")
    expect(page.locator(".log-bar.bulk")).to_contain_text("1 selected")
    page.keyboard.press("x")
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open] .finding")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    page.keyboard.press("End")
    expect(page.locator(f'[data-index="{total(page) - 1}"]')).to_be_focused()


# -- what is decided


def test_a_link_to_a_violation_opens_it_for_somebody_else(busy: App, visit: Visit) -> None:
    violation = marks(busy, rule="R1")["violations"][0]
    page = opened(busy, visit, f"/?violation={violation['id']}")
    expect(page.locator("dialog[open] .finding")).to_be_visible()
    page.locator("dialog[open]").get_by_role("button", name=re.compile("Older")).click()
    expect(page).not_to_have_url(re.compile(f"violation={violation['id']}$"))


def test_a_new_baseline_is_previewed_and_then_learnt(tmp_path: Path, visit: Visit) -> None:
    with serving(tmp_path / "app", busy_past(3.0)) as app:
        page = opened(app, visit, "/?hours=6")
        page.get_by_role("button", name="Learn a new baseline").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="1 h ago").click()
        expect(dialog.locator(".preview")).to_contain_text("With the new baseline", timeout=30_000)
        dialog.get_by_label(re.compile("Cause")).fill("num_ctx 4096 → 2048")
        dialog.get_by_role("button", name="Accept").click()
        expect(page.locator("dialog[open]")).to_have_count(0)

        phases = app.get("/api/series/1/phases")["phases"]
        assert [p["cause"] for p in phases if p["metric"] == "latency"][-1] == "num_ctx 4096 → 2048"
        expect(page.locator(".side .panel.baseline")).to_contain_text("Phase 2")


def test_an_incident_is_acknowledged_and_its_level_accepted(tmp_path: Path, visit: Visit) -> None:
    with serving(tmp_path / "app", busy_past(2.0)) as app, kept_live(app, 1.22, 0.5):
        page = opened(app, visit)
        strip = page.get_by_test_id("incidents")
        strip.get_by_role("button", name="Acknowledge").first.click()
        expect(strip).to_contain_text("seen by")
        strip.get_by_role("button", name="Accept as new normal").first.click()
        strip.get_by_role("button", name="Yes, accept").click()
        expect(page.get_by_test_id("state")).not_to_contain_text("Out of control", timeout=15_000)
        assert app.get("/api/incidents?state=open")["total"] == 0


def test_the_page_says_what_the_database_takes(busy: App, visit: Visit) -> None:
    page = opened(busy, visit)
    page.get_by_role("button", name="size on disk").click()
    dialog = page.get_by_role("dialog")

    expect(dialog).to_contain_text("The database takes")
    expect(dialog).to_contain_text("3,600")
    expect(dialog).to_contain_text("Single observations are kept 30 days, summaries by minute a year.")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="size on disk")).to_be_focused()


def test_what_two_people_see_is_the_same(tmp_path: Path, visit: Visit) -> None:
    with serving(tmp_path / "app", busy_past(1.0)) as app:
        first = opened(app, visit)
        second = visit.page.context.new_page()
        second.goto(app.url)
        wait_for(lambda: second.evaluate("window.__llmscope?.count ?? 0") > 0)
        one = marks(app)["violations"][0]["id"]
        asked = urllib_post(app, f"/api/violations/{one}/acknowledge", {"who": "ann"})
        assert asked["acknowledged_by"] == "ann"
        for page in (first, second):
            expect(page.locator(f'[data-violation="{one}"]')).to_contain_text("ann")


def urllib_post(app: App, path: str, body: dict[str, Any]) -> Any:
    asked = urllib.request.Request(
        app.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return json.loads(answer.read())


def test_the_printed_page_has_the_chart_and_no_controls(busy: App, visit: Visit) -> None:
    page = opened(busy, visit)
    page.emulate_media(media="print")

    expect(page.locator(".side")).to_be_hidden()
    expect(page.get_by_role("button", name="Pause")).to_be_hidden()
    expect(chart(page)).to_be_visible()


@pytest.mark.parametrize("width", [390, 860, 1280, 2560])
def test_it_fits_from_a_phone_to_a_wall(busy: App, visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 900})
    page = opened(busy, visit)

    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_bad_addresses_do_no_harm(busy: App, visit: Visit) -> None:
    page = visit.page
    page.goto(
        busy.url + "/?hours=-3&chart=odd&zoom=x/y&from=yesterday&rules=R99&violation=abc&screen=nowhere"
    )
    wait_for(lambda: visit.facts()["count"] > 0)
    with pytest.raises(urllib.error.HTTPError):
        busy.get("/api/history?from=x&to=y")


def test_a_part_that_cannot_be_loaded_is_said_and_not_a_blank_page(busy: App, visit: Visit) -> None:
    page = opened(busy, visit)
    page.route("**/Help-*.js", lambda route: route.abort())
    page.keyboard.press("?")

    expect(page.get_by_role("alert")).to_contain_text("The page made a mistake")
    expect(page.get_by_role("button", name="Load it again")).to_be_visible()
