"""The whole API, asked what nobody means: 2xx or 4xx, never a mistake of the server."""

from collections.abc import Iterator

import pytest
from tests.faults.fuzz import Tally, by_parameter, by_schema
from tests.processes import App, history


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A server with something to tell: half an hour of one model."""
    app = App(tmp_path_factory.mktemp("fuzz") / "app", ["serve"])
    app.start()
    try:
        app.post(history(30))
        yield app
        assert app.get("/healthz")
    finally:
        app.stop()


def test_no_request_that_the_document_allows_or_forbids_is_a_mistake(app: App) -> None:
    tally = Tally()
    by_schema(app.url, examples=2, seed=11, tally=tally)

    assert tally.mistakes == []
    assert tally.cases > 60


def test_no_odd_value_of_any_parameter_is_a_mistake(app: App) -> None:
    tally = Tally()
    by_parameter(app.url, tally, every=7)

    assert tally.mistakes == []
    assert tally.cases > 600


@pytest.mark.parametrize(
    "question",
    [
        "incidents?hours=1e400",
        "violations?hours=9e30",
        "violations?after=" + "9" * 30 + "-1",
        "stats/spc?since=²",
    ],
)
def test_what_was_a_mistake_once_is_refused(app: App, question: str) -> None:
    with pytest.raises(OSError, match="422"):
        app.get("/api/" + question.replace("²", "%C2%B2"))
