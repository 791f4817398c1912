"""Random REST calls, valid and invalid, by Schemathesis: the answer is always JSON and never a 5xx."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import hypothesis
import msgspec
import pytest
import requests

from pubsub.http.routes import ROUTES, Route
from pubsub.http.static_files import serve_file
from tests.harness import ForkedServer, Json, ServerProcess

EXAMPLES = 25
EXISTS = "orders"  # a topic
CALLS = [route for route in ROUTES if route.handler is not serve_file and route.path != "/metrics"]


def make_schema() -> Json:
    """Make an OpenAPI schema of the calls from the types that decode them: there is no second list of fields."""
    bodies = [route.request for route in ROUTES if route.request is not None]
    shapes, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    shape_of = dict(zip(bodies, shapes, strict=True))
    paths: Json = {}
    for route in ROUTES:
        operation: Json = {
            "parameters": [*path_parameters(route), *query_parameters(route)],
            "responses": {"default": {"description": "", "content": {"application/json": {}}}},
        }
        if route.method in ("POST", "PUT", "PATCH"):  # a route without a type accepts any JSON
            shape = {} if route.request is None else shape_of[route.request]
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": shape}}}
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    about = {"title": "pubsub", "version": "1"}
    return {"openapi": "3.1.0", "info": about, "paths": paths, "components": {"schemas": components}}


def path_parameters(route: Route) -> list[Json]:
    """The parameters of the path: half of the values name what exists."""
    return [
        {"name": name, "in": "path", "required": True, "schema": {"anyOf": [{"const": EXISTS}, {"type": "string"}]}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]


def query_parameters(route: Route) -> list[Json]:
    if route.query is None:
        return []
    ((_,), components) = msgspec.json.schema_components([route.query])
    return [
        {"name": name, "in": "query", "schema": shape}
        for name, shape in components[route.query.__name__]["properties"].items()
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ForkedServer("--data-dir", str(tmp_path_factory.mktemp("journal"))) as running:
        yield running
        running.stop()
        assert "Traceback" not in running.log


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("route", CALLS, ids=lambda route: f"{route.method} {route.path}")
def test_row_31_any_call_is_answered_in_json(route: Route, mode: str, server: ServerProcess) -> None:
    """The mode ``negative`` sends calls that the schema does not allow."""
    import schemathesis  # here, because the import takes seconds and not every test process needs it
    from schemathesis.generation import GenerationMode

    requests.post(f"{server.url}/topics", json={"name": EXISTS}, timeout=10)
    operation = schemathesis.openapi.from_dict(make_schema())[route.path][route.method]
    strategy = operation.as_strategy(generation_mode=GenerationMode(mode))

    @hypothesis.settings(
        max_examples=EXAMPLES, derandomize=True, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(strategy)
    def ask(case: Any) -> None:
        check_answer(case.call(base_url=server.url))

    try:
        ask()
    except hypothesis.errors.Unsatisfiable:
        assert mode == "negative", "a call without parameters has no wrong ones"


def check_answer(answer: Any) -> None:
    assert answer.status_code < 500, answer.content
    assert answer.headers["content-type"][0].startswith("application/json"), answer.headers
    body = answer.json()
    assert isinstance(body, dict)
    assert answer.status_code < 400 or (body.keys() == {"error"} and isinstance(body["error"], str)), body


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "BREW", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/health", "/nowhere", "/topics/%ff", "/topics/%00", "/topics/a%2Fb", "//"])
def test_row_31_odd_methods_and_paths_are_answered_in_json(method: str, path: str, server: ServerProcess) -> None:
    answer = requests.request(method, server.url + path, data=b"\xff", timeout=10)
    assert 400 <= answer.status_code < 500
    assert answer.json().keys() == {"error"}
