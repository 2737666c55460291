"""What a person does in the dialog of a violation, in a real browser."""

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, expect
from tests.e2e.conftest import Visit, listed
from tests.processes import App, history, wait_for

FORMS = ("Acknowledge", "Exclude these points", "Start a new phase here", "Annotate")


def worst_of(app: App) -> dict[str, Any]:
    log = app.get("/api/violations?hours=1&metric=latency&rule=R1&chart=points")["violations"]
    found: dict[str, Any] = max(log, key=lambda v: float(v["peak_z"]))
    return found


def opened(app: App, visit: Visit, violation: dict[str, Any]) -> Locator:
    """The dialog of a violation, opened from its row."""
    visit.page.goto(app.url)
    listed(visit.page, violation["id"]).click()
    dialog = visit.page.locator("dialog[open]")
    expect(dialog.locator(".finding")).to_be_visible()
    return dialog


def test_the_focus_goes_to_the_heading_and_escape_closes_the_form_before_the_dialog(
    app: App, visit: Visit
) -> None:
    app.post(history())
    dialog = opened(app, visit, worst_of(app))
    page = visit.page
    expect(dialog.get_by_role("heading", level=2)).to_be_focused()
    button = dialog.get_by_role("button", name="Exclude these points")
    button.click()
    expect(dialog.get_by_label("Reason")).to_be_focused()
    page.keyboard.press("Escape")

    expect(dialog.locator("form")).to_have_count(0)
    expect(button).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert visit.said == []


def test_the_arrows_read_points_in_the_chart_and_change_violations_outside_it(app: App, visit: Visit) -> None:
    app.post(history())
    worst = worst_of(app)
    dialog = opened(app, visit, worst)
    page = visit.page
    dialog.get_by_role("button", name="±25").click()
    expect(dialog).to_contain_text("25 samples before and 25 after")
    chart = dialog.get_by_role("group", name=re.compile("samples around the violation"))
    chart.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")

    expect(page).to_have_url(re.compile(f"violation={worst['id']}$"))
    telemetry = dialog.get_by_test_id("telemetry")
    expect(telemetry).not_to_contain_text("load_duration_ms3020")
    dialog.get_by_role("button", name="Back to the worst").click()
    expect(telemetry).to_contain_text("load_duration_ms3020")
    dialog.get_by_role("heading", level=2).focus()
    page.keyboard.press("ArrowRight")
    expect(page).not_to_have_url(re.compile(f"violation={worst['id']}$"))


def test_points_are_excluded_with_a_reason(app: App, visit: Visit) -> None:
    app.post(history())
    worst = worst_of(app)
    dialog = opened(app, visit, worst)
    dialog.get_by_role("button", name="Exclude these points").click()
    expect(dialog).to_contain_text("They stay visible; limits and marks are judged again without them")
    dialog.get_by_label("Reason").fill("backup job")
    dialog.get_by_label("Your name").fill("ann")
    dialog.locator("form").get_by_role("button", name="Exclude").click()

    expect(dialog.locator(".done")).to_contain_text("limits and marks were judged again")
    (excluded,) = app.get("/api/series/1/exclusions")["exclusions"]
    assert (excluded["reason"], excluded["who"]) == ("backup job", "ann")
    assert excluded["from"] <= worst["pattern_start"] <= worst["last_signal"] <= excluded["to"]
    expect(dialog).to_contain_text("a judgement that was made again since")


def test_a_phase_begins_where_the_pattern_began(app: App, visit: Visit) -> None:
    app.post(history())
    worst = worst_of(app)
    dialog = opened(app, visit, worst)
    dialog.get_by_role("button", name="Start a new phase here").click()
    dialog.get_by_label("Cause").fill("num_ctx 4096 to 2048")
    dialog.get_by_role("button", name="Start the phase").click()

    expect(dialog.locator(".done")).to_contain_text("Phase 2 begins")
    phases = app.get("/api/series/1/phases")["phases"]
    begun = [(p["metric"], p["cause"]) for p in phases if p["number"] == 2]
    assert begun == [("latency", "num_ctx 4096 to 2048")]


def test_what_the_api_refuses_is_said_beside_the_form(app: App, visit: Visit) -> None:
    app.post(history())
    dialog = opened(app, visit, worst_of(app))
    dialog.get_by_role("button", name="Annotate").click()
    dialog.get_by_label("Text").fill("driver 570")
    visit.page.route("**/api/series/*/annotations", lambda route: route.abort())
    dialog.locator("form").get_by_role("button", name="Annotate").click()
    expect(dialog.locator("form [role=alert]")).to_be_visible()
    visit.page.unroute("**/api/series/*/annotations")
    dialog.locator("form").get_by_role("button", name="Annotate").click()

    expect(dialog.locator(".done")).to_contain_text("driver 570")
    assert app.get("/api/series/1/annotations")["annotations"][0]["text"] == "driver 570"


def test_without_a_clipboard_the_text_stands_there_selected(app: App, visit: Visit) -> None:
    app.post(history())
    visit.page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    worst = worst_of(app)
    dialog = opened(app, visit, worst)
    dialog.get_by_role("button", name="Copy JSON").click()
    area = dialog.get_by_role("textbox")
    expect(area).to_have_value(re.compile(f'"id": {worst["peak_id"]}'))

    wait_for(lambda: visit.page.evaluate("getSelection().toString().includes('latency_ms')"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_each_form_is_accessible(app: App, visit: Visit, theme: Any, width: int) -> None:
    app.post(history())
    visit.page.emulate_media(color_scheme=theme)
    visit.page.set_viewport_size({"width": width, "height": 900})
    dialog = opened(app, visit, worst_of(app))
    for form in FORMS:
        dialog.locator(".action-row").get_by_role("button", name=form).click()
        expect(dialog.locator("form")).to_have_count(1)
        found = Axe().run(visit.page)

        assert found.violations_count == 0, found.generate_report()
