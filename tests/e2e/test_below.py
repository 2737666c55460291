"""The page below a path of another server: behind a proxy that takes the path off, and behind one that does not."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from playwright.sync_api import expect
from tests.e2e.conftest import Visit, listed
from tests.processes import App, free_port, history, observation, wait_for

PATH = "/tools/llmscope"


class Proxy(threading.Thread):
    """A reverse proxy that hands on what is below PATH, byte by byte as it comes, and nothing else."""

    def __init__(self, behind: str, takes_off: bool) -> None:
        super().__init__(daemon=True)
        self.port = free_port()
        self._behind = behind
        self._takes_off = takes_off
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self.is_up = threading.Event()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # ends what still runs
            runner.run(self._serve())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self.join(10)

    async def _serve(self) -> None:
        app = web.Application(client_max_size=10_000_000)
        app.router.add_route("*", "/{path:.*}", self._hand_on)
        async with aiohttp.ClientSession(auto_decompress=False) as self._http:
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            self.is_up.set()
            await self._ended.wait()
            await runner.cleanup()

    async def _hand_on(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path != PATH and not path.startswith(f"{PATH}/"):
            raise web.HTTPNotFound
        if self._takes_off and path == PATH:
            raise web.HTTPPermanentRedirect(f"{PATH}/")
        to = path.removeprefix(PATH) if self._takes_off else path
        url = f"{self._behind}{to}" + (f"?{request.query_string}" if request.query_string else "")
        async with self._http.request(
            request.method, url, data=await request.read(), headers=request.headers, allow_redirects=False
        ) as found:
            headers = {k: v for k, v in found.headers.items() if k.lower() != "transfer-encoding"}
            answer = web.StreamResponse(status=found.status, headers=headers)
            await answer.prepare(request)
            async for piece in found.content.iter_any():
                await answer.write(piece)
            return answer


@pytest.fixture(params=[True, False], ids=["taken off", "left on"])
def below(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[App, str]]:
    """`llmscope serve --root-path` and the address of its page behind a proxy, without a slash at its end."""
    app = App(tmp_path / "app", ["serve", "--root-path", PATH])
    app.start()
    proxy = Proxy(app.url, takes_off=request.param)
    proxy.start()
    assert proxy.is_up.wait(10)
    yield app, f"http://127.0.0.1:{proxy.port}{PATH}"
    proxy.stop()
    app.stop()


def test_the_page_lives_below_a_path(below: tuple[App, str], visit: Visit) -> None:
    app, address = below
    app.post(history())
    page = visit.page
    page.goto(address)
    wait_for(lambda: visit.facts()["count"] >= 1)
    before = visit.facts()
    app.post(observation(1500.0))
    wait_for(lambda: visit.facts()["count"] == before["count"] + 1)

    assert page.url.startswith(f"{address}/")
    expect(page.get_by_test_id("status")).to_contain_text("Live")
    assert visit.said == []


def test_a_link_to_a_violation_opens_it_below_a_path(below: tuple[App, str], visit: Visit) -> None:
    app, address = below
    app.post(history())
    page = visit.page
    page.goto(f"{address}/")
    wait_for(lambda: visit.facts()["count"] >= 1)
    log = app.get("/api/violations?hours=1&metric=latency&rule=R1&chart=points")["violations"]
    worst = max(log, key=lambda v: float(v["peak_z"]))
    listed(page, worst["id"]).click()
    page.get_by_role("dialog").wait_for()
    link = page.url

    assert link.startswith(f"{address}/?")
    page.goto("about:blank")
    page.goto(link)
    expect(page.get_by_role("dialog")).to_be_visible()
    with page.expect_download() as download:
        page.goto(f"{address}/")
        page.get_by_text("Export CSV").click()
    assert download.value.url.startswith(f"{address}/api/")
    assert visit.said == []
