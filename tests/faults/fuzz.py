"""Requests that nobody means: made from the OpenAPI document by schemathesis, and every parameter with odd values."""

import collections
import itertools
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import Case, GenerationMode

from llmscope.api import openapi

WITHIN_S = 10.0
NEVER_ENDING = "/api/stream"  # its answer has no end: asked for its head only

ODD = (
    *("", " ", "0", "-1", "1", "1.5", "9223372036854775807", "9223372036854775808", "-9223372036854775809"),
    *("9" * 30, "1e400", "nan", "inf", "-inf", "null", "[]", "{}", "true", "ollama", "latency", "R1", "open"),
    *("\0", "a\0b", "\ud7ff\ufffe", "²", "0x10", "1_000", "'; DROP TABLE series; --", "%", "x" * 5000),
    *("2026-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30", "T"),
    *(
        "1h",
        "-1h",
        "1e9d",
        "99999999999999999999h",
        "2026-01-01",
        "1/week",
        "9" * 30 + "-1",
        "²-²",
        "avg,avg",
        "a/b/../c",
    ),
)


@dataclass
class Tally:
    """How many requests were answered with which status, and those that were the server's mistake."""

    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    mistakes: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return self.statuses.total()

    def note(self, status: int, what: str) -> None:
        self.statuses[status] += 1
        if status >= 500:
            self.mistakes.append(f"{status}: {what}"[:2000])


def by_schema(url: str, examples: int, seed: int, tally: Tally) -> None:
    """So many requests that the document allows, and as many that it forbids, for every operation."""
    schema = schemathesis.openapi.from_dict(openapi())
    with requests.Session() as http:
        for found, mode in itertools.product(schema.get_all_operations(), GenerationMode):
            operation = found.ok()
            if operation.path == NEVER_ENDING:
                continue

            @hypothesis.seed(seed)
            @hypothesis.settings(
                max_examples=examples,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @hypothesis.given(operation.as_strategy(generation_mode=mode))
            def ask(case: Case[Any]) -> None:
                aim(case)
                answer = case.call(base_url=url, session=http, timeout=WITHIN_S)
                tally.note(answer.status_code, case.as_curl_command())

            try:
                ask()
            except (hypothesis.errors.Unsatisfiable, schemathesis.errors.SchemathesisError):
                continue  # without parameters nothing can be wrong


def aim(case: Case[Any]) -> None:
    """Let half of the requests about one thing be about one that is there."""
    for name, value in list(case.path_parameters.items()):
        if name.endswith("_id") and isinstance(value, int) and value % 2:
            case.path_parameters[name] = 1 + value % 4


def by_parameter(url: str, tally: Tally, every: int = 1) -> None:
    """Each parameter of each operation with each odd value; or with every so-manieth of them, in turn."""
    turn = itertools.count()
    with requests.Session() as http:
        for method, path, name, place in parameters(openapi()):
            for value in ODD:
                if next(turn) % every:
                    continue
                asked = {name: value} if place == "query" else {}
                quoted = urllib.parse.quote(value, safe="")
                where = path.replace(f"{{{name}}}", quoted) if place == "path" else path
                where = where.replace("{", "").replace("}", "")
                with http.request(method, url + where, params=asked, stream=True, timeout=WITHIN_S) as answer:
                    tally.note(answer.status_code, f"{method} {where} {asked}")


def parameters(document: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Method, path, name and place of every parameter in the query or the path."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] in ("query", "path"):
                    yield method.upper(), path, parameter["name"], parameter["in"]
