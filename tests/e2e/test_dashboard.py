"""What a person does with the page, in a real browser."""

import csv
import re
import signal
from pathlib import Path

from playwright.sync_api import expect
from tests.e2e.conftest import Visit, listed
from tests.processes import App, history, observation, wait_for


def opened(app: App, visit: Visit, path: str = "/", count: int = 1) -> None:
    visit.page.goto(app.url + path)
    wait_for(lambda: visit.facts()["count"] >= count)


def test_a_point_appears_live_without_a_reload(app: App, visit: Visit) -> None:
    app.post(history())
    opened(app, visit)
    before = visit.facts()
    app.post(observation(1500.0))
    wait_for(lambda: visit.facts()["count"] == before["count"] + 1)

    expect(visit.page.get_by_test_id("latest")).to_contain_text("1.50")
    expect(visit.page.get_by_test_id("status")).to_contain_text("Live")
    assert visit.said == []


def test_the_page_says_what_the_api_says(app: App, visit: Visit) -> None:
    app.post(history())
    opened(app, visit)
    window = app.get("/api/stats/spc?hours=1")
    log = app.get("/api/violations?hours=1&metric=latency&chart=points")
    page = visit.page

    expect(page.get_by_role("grid")).to_have_attribute("aria-rowcount", str(len(log["violations"]) + 1))
    expect(page.get_by_test_id("window").first).to_contain_text(f"{window['spc']['mean']:.2f} s")
    expect(page.locator(".bar")).to_contain_text(f"{window['spc']['ucl']:.2f}")
    expect(page.locator(".bar")).to_contain_text(f"{window['spc']['lcl']:.2f}")
    assert {m["id"] for m in visit.facts()["markers"]} == {v["id"] for v in log["violations"]}


def test_a_violation_opens_in_full_and_escape_gives_the_focus_back(app: App, visit: Visit) -> None:
    app.post(history())
    opened(app, visit)
    page = visit.page
    log = app.get("/api/violations?hours=1&metric=latency&rule=R1&chart=points")["violations"]
    worst = max(log, key=lambda v: float(v["peak_z"]))
    row = listed(page, worst["id"])
    row.click()

    dialog = page.locator("dialog[open]")
    expect(dialog.get_by_role("heading", level=2)).to_contain_text("R1 Beyond 3σ")
    expect(dialog).to_contain_text("excess is model load")
    expect(dialog.get_by_test_id("telemetry")).to_contain_text("load_duration_ms3020")
    expect(dialog).to_contain_text("Write one sentence about the ocean.")
    expect(dialog).to_contain_text("10 samples before and 10 after")
    expect(page).to_have_url(re.compile(f"violation={worst['id']}$"))
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(row).to_be_focused()
    expect(page).not_to_have_url(re.compile("violation="))
    assert visit.said == []


def test_a_violation_is_acknowledged_and_the_log_shows_who(app: App, visit: Visit) -> None:
    app.post(history())
    opened(app, visit)
    page = visit.page
    page.locator(".row-link").first.click()
    dialog = page.locator("dialog")
    dialog.get_by_role("button", name="Acknowledge").click()
    dialog.get_by_label("Your name").fill("ann")
    dialog.get_by_label("What it was (optional)").fill("backup job")
    dialog.locator("form").get_by_role("button", name="Acknowledge").click()
    expect(dialog).to_contain_text("Acknowledged by ann")
    expect(page.locator("dialog")).to_contain_text("backup job")
    page.keyboard.press("Escape")

    expect(page.locator("[data-violation]").first).to_contain_text("ann")
    assert app.get("/api/violations?acknowledged=true")["violations"][0]["note"] == "backup job"


def test_filters_choose_rows_markers_and_the_csv(app: App, visit: Visit, tmp_path: Path) -> None:
    app.post(history())
    opened(app, visit)
    page = visit.page
    page.locator(".chip", has_text="R1").click()
    wanted = app.get("/api/violations?hours=1&metric=latency&rule=R1&chart=points")["violations"]
    expect(page.get_by_role("grid")).to_have_attribute("aria-rowcount", str(len(wanted) + 1))
    wait_for(lambda: {m["rule"] for m in visit.facts()["markers"]} == {"R1"})
    with page.expect_download() as download:
        page.get_by_role("link", name="Export CSV").click()
    path = tmp_path / "log.csv"
    download.value.save_as(path)

    with path.open(newline="") as file:
        assert [int(row["id"]) for row in csv.DictReader(file)] == [v["id"] for v in wanted]
    page.reload()
    expect(page.get_by_role("grid")).to_have_attribute("aria-rowcount", str(len(wanted) + 1))


def test_models_windows_and_measures_can_be_changed(app: App, visit: Visit) -> None:
    app.post([row | {"model": "qwen2.5:7b"} for row in history(10, until_s=30)])
    app.post(history(180))
    opened(app, visit, "/?provider=ollama&model=llama3.1:8b&server=localhost:11434")
    page = visit.page
    first = visit.facts()["count"]
    page.get_by_role("button", name="6h").click()
    wait_for(lambda: visit.facts()["count"] > first)
    expect(page.locator(".chart .sub")).to_contain_text("lowest and highest")
    page.get_by_label("Model").select_option(label="qwen2.5:7b")
    wait_for(lambda: 0 < visit.facts()["count"] < 300)
    page.get_by_role("tab", name="First token").click()

    expect(page.get_by_role("tabpanel", name="First token")).to_be_visible()
    expect(page).to_have_url(re.compile("model=qwen2.5"))
    assert visit.said == []


def test_with_the_stream_cut_it_says_so_and_catches_up_without_a_gap(app: App, visit: Visit) -> None:
    app.post(history(20))
    opened(app, visit)
    page = visit.page
    before = visit.facts()["count"]
    app.stop(signal.SIGKILL)
    expect(page.get_by_test_id("status")).to_contain_text("Disconnected", timeout=10_000)
    expect(page.get_by_test_id("status")).to_contain_text("Retrying")
    app.start()
    app.post([observation(1600.0 + i, 3 - i) for i in range(3)])
    expect(page.get_by_test_id("status")).to_contain_text("Live", timeout=20_000)
    wait_for(lambda: visit.facts()["count"] == before + 3)
    app.post(observation(1650.0))

    wait_for(lambda: visit.facts()["count"] == before + 4)


def test_only_the_stream_cut_falls_back_to_polling(app: App, visit: Visit) -> None:
    app.post(history(20))
    visit.page.route("**/api/stream*", lambda route: route.abort())
    opened(app, visit)
    before = visit.facts()["count"]
    expect(visit.page.get_by_test_id("status")).to_contain_text("Disconnected")
    app.post(observation(1650.0))

    wait_for(lambda: visit.facts()["count"] == before + 1)


def test_failed_probes_are_marked_and_the_status_says_why(app: App, visit: Visit) -> None:
    app.post(history(20))
    opened(app, visit)
    failed = {
        "provider": "ollama",
        "model": "llama3.1:8b",
        "server": "localhost:11434",
        "ok": False,
        "error_kind": "refused",
        "error": "connection refused",
    }
    app.post(failed)

    expect(visit.page.get_by_test_id("status")).to_contain_text("Probes fail: refused")
    expect(visit.page.get_by_test_id("latest")).to_have_text("refused")


def test_an_empty_server_says_what_to_do(app: App, visit: Visit) -> None:
    visit.page.goto(app.url)

    expect(visit.page.locator(".over")).to_contain_text("llmscope up --target http://localhost:11434")
    expect(visit.page.get_by_test_id("status")).to_contain_text("Waiting for data")
    app.post(observation(1500.0))
    wait_for(lambda: visit.facts()["count"] == 1)


def test_the_chart_is_read_by_keyboard(app: App, visit: Visit) -> None:
    app.post(history())
    opened(app, visit)
    page = visit.page
    chart = page.get_by_role("group", name=re.compile("Control chart of"))
    chart.focus()
    page.keyboard.press("p")
    expect(page.locator(".tip")).to_contain_text("From centre line")
    expect(page.locator(".plot [role=status]")).to_contain_text("σ")
    page.keyboard.press("Enter")

    expect(page.locator("dialog[open]")).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("dialog[open]")).to_contain_text("Keyboard shortcuts")


def test_paused_it_holds_still_and_loses_nothing(app: App, visit: Visit) -> None:
    app.post(history(20))
    opened(app, visit)
    page = visit.page
    page.get_by_role("button", name="Pause").click()
    held = visit.facts()["lastId"]
    app.post([observation(1600.0), observation(1601.0)])
    expect(page.get_by_role("button", name=re.compile("Resume"))).to_contain_text("2 new")
    assert visit.facts()["lastId"] == held
    page.get_by_role("button", name=re.compile("Resume")).click()

    wait_for(lambda: visit.facts()["lastId"] == held + 2)


def test_dragging_zooms_and_a_double_click_goes_back(app: App, visit: Visit) -> None:
    app.post(history())
    opened(app, visit)
    page = visit.page
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 70, steps=6)
    page.mouse.up()
    expect(page.get_by_role("button", name="Whole window")).to_be_visible()
    page.mouse.dblclick(box["x"] + 300, box["y"] + 60)

    expect(page.get_by_role("button", name="Whole window")).to_have_count(0)


def test_the_theme_follows_the_system_and_can_be_chosen(app: App, visit: Visit) -> None:
    app.post(history(5))
    visit.page.emulate_media(color_scheme="dark")
    opened(app, visit)
    root = visit.page.locator("html")
    expect(root).to_have_attribute("data-theme", "dark")
    visit.page.get_by_role("button", name=re.compile("Theme")).click()
    expect(root).to_have_attribute("data-theme", "light")
    visit.page.reload()

    expect(root).to_have_attribute("data-theme", "light")


def test_up_without_an_ollama_simulates_and_says_so(tmp_path: Path, visit: Visit) -> None:
    app = App(tmp_path / "app", ["up", "--interval", "200ms", "--demo"])
    app.start()
    try:
        opened(app, visit, count=25)
        expect(visit.page.get_by_test_id("banner")).to_contain_text("Simulated server")
        expect(visit.page.get_by_test_id("state")).to_contain_text("learning")
        expect(visit.page.locator(".learning")).to_contain_text("left")
        expect(visit.page.get_by_label("Model")).to_contain_text("llama3.2:1b")
        assert visit.said == []
    finally:
        app.stop()
