"""The whole API, asked what nobody means: 2xx or 4xx, never a mistake of the server."""

from collections.abc import Iterator

import pytest
import requests
from tests.faults.fuzz import Tally, by_parameter, by_schema
from tests.processes import App, history

from llmscope.api import openapi


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


ODD_BODIES = {
    "not UTF-8": b'{"text": "\xff\xfe"}',
    "half of a pair": b'{"text": "\\ud800", "who": "\\udfff", "note": "\\ud800", "cause": "\\ud800", "ids": [1]}',
    "nested without end": b'{"text": ' * 20_000,
    "lists without end": b"[" * 100_000,
    "a number without end": b'{"ids": [' + b"9" * 5000 + b'], "series_id": 1e999}',
    "beyond 64 bits": b'{"ids": [9223372036854775808], "series_id": 9223372036854775808}',
    "infinite": b'{"ids": [NaN, Infinity], "who": Infinity, "series_id": NaN}',
    "null bytes": b"\0\0\0\0",
    "nothing": b"",
    "a null byte in words": b'{"text": "a\\u0000b", "who": "\\u0000", "note": "\\u0000", "ids": [1]}',
}


def test_no_odd_body_is_a_mistake_whoever_takes_it(app: App) -> None:
    takers = [
        (method, path)
        for path, operations in openapi()["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]
    answers = {}
    for method, path in takers:
        where = app.url + path.replace("{", "").replace("}", "").replace("series_id", "1").replace(
            "incident_id", "1"
        )
        for name, body in ODD_BODIES.items():
            headers = {"Content-Type": "application/json"}
            answer = requests.request(
                method, where.replace("violation_id", "1"), data=body, headers=headers, timeout=10
            )
            answers[f"{method} {path} {name}"] = answer.status_code

    assert {what: status for what, status in answers.items() if status >= 500} == {}
    assert len(takers) >= 8
