"""The OpenAPI document: valid, and neither more nor less than the table of routes."""

from __future__ import annotations

import json
import shlex
from typing import Any, get_args
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from msgspec import Struct
from openapi_spec_validator import OpenAPIV31SpecValidator

from pubsub.documents.curl import body_of
from pubsub.documents.openapi import make_openapi
from pubsub.documents.wording import CALLS, TAGS
from pubsub.http.routes import ROUTES, Route, RouteRole
from tests.harness import Json

DOCUMENT = make_openapi()
each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")


def operation_of(route: Route) -> Json:
    found: Json = DOCUMENT["paths"][route.path][route.method.lower()]
    return found


def test_it_is_valid() -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_it_has_each_route_and_no_other() -> None:
    described = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}
    assert CALLS.keys() == {f"{route.method} {route.path}" for route in ROUTES}


def test_names_are_unique_and_tags_exist() -> None:
    operations = [operation_of(route) for route in ROUTES]
    names = [each["operationId"] for each in operations]
    assert len(names) == len(set(names))
    assert {tag for each in operations for tag in each["tags"]} == TAGS.keys()


@each_route
def test_bodies_and_answers_have_the_types_of_the_table(route: Route) -> None:
    operation = operation_of(route)
    names = {name for kind in (route.request, route.response) for name in named(kind)}
    found = {
        each.rpartition("/")[2]
        for each in references({key: operation[key] for key in ("requestBody", "responses") if key in operation})
        if "/schemas/" in each
    }
    assert found == names | {"ErrorAnswer"}


def named(kind: Any) -> set[str]:
    """The names of the types in a type."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return {kind.__name__}
    return {name for each in get_args(kind) for name in named(each)}


def references(found: Any) -> list[str]:
    match found:
        case dict():
            own = [found["$ref"]] if "$ref" in found else []
            return own + [each for value in found.values() for each in references(value)]
        case list():
            return [each for value in found for each in references(value)]
    return []


@each_route
def test_parameters_are_those_of_the_path_and_the_query(route: Route) -> None:
    found = [(each["in"], each["name"]) for each in operation_of(route)["parameters"]]
    query = (
        [] if route.query is None else [("query", field.encode_name) for field in msgspec.structs.fields(route.query)]
    )
    path = [("path", name) for name in ("name", "client_id", "file") if f"{{{name}}}" in route.path]
    opening = {RouteRole.HANDSHAKE: [("query", "client_id")], RouteRole.STREAM: [("header", "Last-Event-ID")]}
    assert sorted(found) == sorted(path + query + opening.get(route.role, []))


@each_route
def test_who_needs_no_credentials_is_told_so(route: Route) -> None:
    operation = operation_of(route)
    assert bool(operation["security"]) == (route.role is not RouteRole.NONE)
    assert ("401" in operation["responses"]) == (route.role is not RouteRole.NONE)


@pytest.mark.parametrize(
    "route",
    [each for each in ROUTES if each.role is not RouteRole.HANDSHAKE],
    ids=lambda each: f"{each.method} {each.path}",
)
def test_a_sample_is_a_call_of_its_route(route: Route) -> None:
    (sample,) = operation_of(route)["x-codeSamples"]
    words = iter(shlex.split(sample["source"]))
    assert next(words) == "curl"
    method, url, data = "GET", "", None
    for word in words:
        match word:
            case "--request":
                method = next(words)
            case "--header":
                assert next(words) == "X-API-Key: $KEY"
            case "--data":
                method, data = "POST", next(words)
            case "--no-buffer":
                pass
            case _:
                url = word
    path = urlsplit(url.removeprefix("$URL"))
    assert (method, path.path) == (route.method, route.path.format(name="orders", client_id="alice", file="app.js"))
    assert {name for name, _ in parse_qsl(path.query)} <= {each["name"] for each in operation_of(route)["parameters"]}
    if route.request is not None:
        assert json.loads(data or "") == json.loads(body_of(route))


@each_route
def test_required_parameters_are_in_the_sample(route: Route) -> None:
    operation = operation_of(route)
    for each in operation["parameters"]:
        if each["in"] == "query" and each.get("required"):
            assert f"{each['name']}=" in operation["x-codeSamples"][0]["source"]
