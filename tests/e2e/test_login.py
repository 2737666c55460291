"""Logging in with a real browser: the password, the way out, the end of a session, other sites, what may be loaded."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from tests.e2e.conftest import Visit, listed
from tests.processes import App, history, observation, wait_for

PASSWORD = "correct horse battery"
TOKEN = "0123456789abcdef0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[App]:
    """`llmscope serve` with a password, and an hour of data."""
    app = App(
        tmp_path / "app", ["serve"], settings={"LLMSCOPE_PASSWORD": PASSWORD, "LLMSCOPE_INGEST_TOKEN": TOKEN}
    )
    app.start()
    app.post(history(), BEARER)
    yield app
    app.stop()


def log_in(page: Page, password: str = PASSWORD) -> None:
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")


def test_a_stranger_sees_the_login_and_nothing_else(closed: App, visit: Visit) -> None:
    visit.page.goto(closed.url)

    expect(visit.page.get_by_label("Password")).to_be_focused()
    expect(visit.page.locator(".app")).to_have_count(0)
    assert visit.page.title() == "LLMscope"
    assert visit.said == []
    found = Axe().run(
        visit.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    )
    assert found.response["violations"] == []


def test_a_wrong_password_is_told_and_the_right_one_opens_the_page_live(closed: App, visit: Visit) -> None:
    page = visit.page
    page.goto(closed.url)
    log_in(page, "wrong")
    expect(page.get_by_role("alert")).to_have_text("That is not the password.")
    expect(page.get_by_label("Password")).to_be_focused()
    visit.said.clear()  # Chromium itself notes the 401
    log_in(page)
    wait_for(lambda: visit.facts()["count"] > 100)
    before = visit.facts()["count"]
    closed.post(observation(1500.0), BEARER)
    wait_for(lambda: visit.facts()["count"] == before + 1)

    expect(page.get_by_test_id("status")).to_contain_text("Live")
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Strict", False)
    assert page.evaluate("document.cookie") == ""
    assert visit.said == []


def test_logging_out_ends_the_session_on_the_server_too(closed: App, visit: Visit) -> None:
    page = visit.page
    page.goto(closed.url)
    log_in(page)
    wait_for(lambda: visit.facts()["count"] > 100)
    kept = page.context.cookies()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    assert page.context.cookies() == []

    page.context.add_cookies(kept)  # type: ignore[arg-type]  # somebody had copied it
    page.reload()
    expect(page.get_by_label("Password")).to_be_visible()


def test_when_a_session_is_over_the_page_asks_and_comes_back_where_it_was(
    tmp_path: Path, visit: Visit
) -> None:
    app = App(
        tmp_path / "app",
        ["serve"],
        settings={
            "LLMSCOPE_PASSWORD": PASSWORD,
            "LLMSCOPE_INGEST_TOKEN": TOKEN,
            "LLMSCOPE_LOGIN_LASTS": "6s",
        },
    )
    app.start()
    try:
        app.post(history(), BEARER)
        page = visit.page
        page.goto(f"{app.url}/?range=6h")
        log_in(page)
        wait_for(lambda: visit.facts()["count"] > 100)
        page.locator(".row-link").first.click()
        expect(page.locator("dialog[open]")).to_be_visible()
        where = page.url
        expect(page.get_by_label("Password")).to_be_visible(
            timeout=30_000
        )  # the stream ends, the poll is refused
        assert page.url == where
        log_in(page)

        expect(page.locator("dialog[open]").get_by_role("heading", level=2)).to_be_visible()
        assert page.url == where
    finally:
        app.stop()


def test_a_page_of_another_site_can_change_nothing(closed: App, visit: Visit) -> None:
    page = visit.page
    page.goto(closed.url)
    log_in(page)
    wait_for(lambda: visit.facts()["count"] > 100)
    series = page.evaluate("fetch('/api/series').then((a) => a.json())")["series"][0]["id"]
    path = f"{closed.url}/api/series/{series}/annotations"
    with Elsewhere() as other:
        page.goto(other)
        page.evaluate(
            """(path) => Promise.allSettled([
                fetch(path, {method: 'POST', mode: 'no-cors', credentials: 'include', body: '{"text": "mine"}'}),
                fetch(path, {method: 'POST', credentials: 'include', headers: {'X-LLMscope-Page': '1',
                    'Content-Type': 'application/json'}, body: '{"text": "mine"}'}),
            ])""",
            path,
        )
        read = page.evaluate(
            f"fetch('{closed.url}/api/series', {{credentials: 'include'}}).then(() => 1, () => 0)"
        )
        page.set_content(f"<form method=post action='{path}' enctype='text/plain'>{FIELD}</form>")
        with page.expect_response(path) as answered:
            page.evaluate("document.forms[0].submit()")
    page.goto(closed.url)
    noted = page.evaluate(f"fetch('/api/series/{series}/annotations').then((a) => a.json())")

    assert answered.value.status == 403
    assert read == 0
    assert noted == {"annotations": []}


def test_the_page_loads_and_exports_under_its_own_policy(closed: App, visit: Visit) -> None:
    page = visit.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(closed.url)
    log_in(page)
    wait_for(lambda: visit.facts()["count"] > 100)
    for name in ("Export CSV", "Export JSON"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        assert download.value.path().stat().st_size > 100
    listed(page, visit.facts()["markers"][0]["id"]).click()
    expect(page.locator("dialog[open]")).to_be_visible()
    page.goto(f"{closed.url}/docs")
    expect(page.get_by_role("heading", name="LLMscope API")).to_be_visible()
    background = page.locator("pre").first.evaluate("(box) => getComputedStyle(box).borderRadius")

    assert background == "6px"  # its style is let in by its hash
    assert {url.split("/")[2] for url in asked if not url.startswith("blob:")} == {f"127.0.0.1:{closed.port}"}
    assert visit.said == []


FIELD = """<input name='{"text":"mine","x":"' value='"}'>"""  # as text/plain it makes JSON


class Elsewhere:
    """A page of another origin on the same host: cookies know no ports, so that they come along."""

    def __enter__(self) -> str:
        class Nothing(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<title>elsewhere</title>")

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
