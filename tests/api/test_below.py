"""A server below a path answers with the path and without it, and names its own addresses with it."""

import http.client
import json
from collections.abc import Iterator

import pytest
from tests.processes import App, observation

from llmscope.settings import WrongSetting, load

PATH = "/llmscope"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    app = App(tmp_path_factory.mktemp("below"), ["serve", "--root-path", PATH])
    app.start()
    yield app
    app.stop()


def asked(app: App, path: str, body: bytes | None = None) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=10)
    headers = {"Content-Type": "application/json"} if body else {}
    connection.request("POST" if body else "GET", path, body, headers)
    answer = connection.getresponse()
    try:
        return answer, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("before", ["", PATH])
def test_everything_answers_with_the_path_and_without_it(app: App, before: str) -> None:
    stored, _ = asked(app, f"{before}/api/stats", json.dumps(observation(1500.0)).encode())

    assert stored.status == 200
    for path in ("/", "/icon.svg", "/healthz", "/readyz", "/api/series", "/docs", "/openapi.json"):
        assert asked(app, before + path)[0].status == 200, path
    assert asked(app, f"{before}/nothing")[0].status == 404


def test_the_path_alone_leads_to_the_page(app: App) -> None:
    answer, _ = asked(app, f"{PATH}?metric=ttft")

    assert answer.status == 308
    assert answer.headers["Location"] == f"{PATH}/?metric=ttft"


def test_the_documentation_is_named_with_the_path(app: App) -> None:
    about = json.loads(asked(app, "/api/about")[1])

    assert about["docs"] == f"{PATH}/docs"
    assert '<a href="openapi.json">' in asked(app, f"{PATH}/docs")[1].decode()


@pytest.mark.parametrize("path", ["/api", "/docs/llmscope", "/a b", "/a//b", "https://proxy/llmscope"])
def test_a_path_that_could_mean_something_else_is_refused(path: str) -> None:
    with pytest.raises(WrongSetting, match="--root-path must"):
        load({"root_path": path})
