"""Random REST calls, valid and invalid, by Schemathesis: each answer is one that the served document describes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import requests

from pubsub.http.routes import EVENT_STREAM, ROUTES, Route
from pubsub.sse.positions import DISCONNECTED
from tests.harness import ForkedServer, Json, ServerProcess

EXAMPLES = int(os.environ.get("EXAMPLES", 12))  # for each route and mode
EXISTS = "orders"  # a topic
# A name that is empty, or has a slash, leads to another path. A line of a request has a limit of its own.
ELSEWHERE = {404, 405, 431}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ForkedServer("--data-dir", str(tmp_path_factory.mktemp("journal"))) as running:
        yield running
        running.stop()
        assert "Traceback" not in running.log


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> Json:
    """The served document; half of the names in a path are that of a topic."""
    found: Json = requests.get(f"{server.url}/openapi.json", timeout=10).json()
    for item in found["paths"].values():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if parameter["in"] == "path":
                    parameter["schema"] = {"anyOf": [{"const": EXISTS}, parameter["schema"]]}
    return found


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_row_31_any_call_has_an_answer_of_the_document(
    route: Route, mode: str, server: ServerProcess, document: Json
) -> None:
    """The mode ``negative`` sends calls that the document does not allow."""
    import schemathesis  # here, because the import takes seconds and not every test process needs it
    from schemathesis.generation import GenerationMode

    requests.post(f"{server.url}/topics", json={"name": EXISTS}, timeout=10)
    operation = schemathesis.openapi.from_dict(document)[route.path][route.method]
    strategy = operation.as_strategy(generation_mode=GenerationMode(mode))

    @hypothesis.settings(
        max_examples=EXAMPLES, derandomize=True, database=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(strategy)
    def ask(case: Any) -> None:
        if route.media == EVENT_STREAM:  # one that is opened would have no end
            case.headers["Last-Event-ID"] = DISCONNECTED
        answer = case.call(base_url=server.url)
        described = {int(status) for status in operation.definition.raw["responses"] if status != "default"}
        assert answer.status_code in described | (ELSEWHERE if mode == "negative" else set()), answer.content
        check_answer(case, answer)

    try:
        ask()
    except hypothesis.errors.Unsatisfiable:
        assert mode == "negative", "a call without parameters has no wrong ones"


def check_answer(case: Any, answer: Any) -> None:
    """Compare the type, the body and the header fields with those of the document."""
    from schemathesis import checks
    from schemathesis.specs.openapi import checks as openapi

    conformance = (
        checks.not_a_server_error,
        openapi.content_type_conformance,
        openapi.response_headers_conformance,
        openapi.response_schema_conformance,
    )
    case.validate_response(answer, checks=conformance)
    if answer.status_code >= 400:
        assert answer.json().keys() == {"error"}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "BREW", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/health", "/nowhere", "/topics/%ff", "/topics/%00", "/topics/a%2Fb", "//"])
def test_row_31_odd_methods_and_paths_are_answered_in_json(method: str, path: str, server: ServerProcess) -> None:
    answer = requests.request(method, server.url + path, data=b"\xff", timeout=10)
    assert 400 <= answer.status_code < 500
    assert answer.json().keys() == {"error"}
