"""The table of routes: the router serves exactly these, each answer has its type, each route requires its role."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest

from pubsub.app import create_app
from pubsub.http.routes import ROUTES, Route, RouteRole
from pubsub.protocol.answers import ErrorAnswer
from tests.credentials import API_KEYS, HANDSHAKE, SECRET, bearer, make_token
from tests.harness import Server, make_settings, on_one_loop, run_server

REST = [route for route in ROUTES if route.response is not None]
BOTH: dict[str, Any] = {"api_keys": API_KEYS, "jwt_secret": SECRET}
ADMIN = {"X-API-Key": "ops-key"}
BODIES = {"POST /topics": {"name": "new"}, "POST /topics/{name}/messages": {"payload": 1},
          "POST /admin/token": {"token": "x"}}  # for the calls with a body  # fmt: skip
QUERIES = {  # for the calls that need one
    "GET /topics/{name}/messages": "?last_n=1",
    "GET /clients/{client_id}/trace": "?topic=old&seq=1",
}


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


each_route = pytest.mark.parametrize("route", REST, ids=name_of)


@on_one_loop
async def test_the_router_serves_the_table() -> None:
    served = {
        (route.method, route.resource.canonical, route.handler)
        for route in create_app(make_settings()).router.routes()
        if route.resource is not None
    }
    assert served == {(method, route.path, route.handler) for route in ROUTES for method in route.methods}


def test_a_call_stands_in_the_table_once() -> None:
    calls = [(method, route.path) for route in ROUTES for method in route.methods]
    assert len(calls) == len(set(calls))


def test_what_is_read_has_no_body_and_what_is_changed_is_for_admins() -> None:
    for route in ROUTES:
        assert route.request is None or route.method in ("POST", "PUT", "PATCH")
        publishes = (route.method, route.path) == ("POST", "/topics/{name}/messages")
        assert route.method == "GET" or route.role is (RouteRole.PUBLISH if publishes else RouteRole.ADMIN)


async def call(server: Server, route: Route, headers: dict[str, str], method: str = "") -> tuple[int, bytes]:
    """Call a route with topic ``old`` and client ``alice``; return status and body."""
    name = f"{route.method} {route.path}"
    path = route.path.format(name="old", client_id="alice", file="app.js") + QUERIES.get(name, "")
    body = BODIES.get(name)
    async with server.http.request(method or route.method, path, headers=headers, json=body) as response:
        return response.status, await response.read()


@pytest.mark.parametrize("route", [route for route in REST if route.response], ids=name_of)
@on_one_loop
async def test_an_answer_has_the_type_of_the_table(route: Route) -> None:
    async with run_server() as server, server.client("alice") as client:
        await server.create("old", presence=True)
        await client.subscribe("old", client_id="alice")
        await client.publish("old", 1)
        status, body = await call(server, route, {})
        assert status < 300
        assert json.loads(body) in decoded(body, route)
        if "HEAD" in route.methods:
            assert await call(server, route, {}, "HEAD") == (status, b"")


def decoded(body: bytes, route: Route) -> Iterator[Any]:
    """Yield the JSON of each of the route's types that the body has."""
    for kind in get_args(route.response) or (route.response,):
        with contextlib.suppress(msgspec.ValidationError):
            yield json.loads(msgspec.json.encode(msgspec.json.decode(body, type=kind)))


@each_route
@on_one_loop
async def test_a_role_is_asked_for(route: Route) -> None:
    allowed = {
        RouteRole.NONE: {"nobody", "token", "publisher", "admin token", "read key", "publish key", "admin key"},
        RouteRole.IDENTIFIED: {"token", "publisher", "admin token", "read key", "publish key", "admin key"},
        RouteRole.PUBLISH: {"publisher", "publish key", "admin key"},
        RouteRole.READ: {"admin token", "read key", "publish key", "admin key"},
        RouteRole.ADMIN: {"admin token", "admin key"},
    }[route.role]
    credentials = {
        "nobody": {},
        "token": bearer(make_token(subscribe=["old"])),
        "publisher": bearer(make_token("bob", subscribe=["old"], publish=["old"])),
        "admin token": bearer(make_token("ops", admin=True)),
        "read key": {"X-API-Key": "board-key"},
        "publish key": {"X-API-Key": "shop-key"},
        "admin key": ADMIN,
    }
    async with run_server(**BOTH) as server:
        for name, headers in credentials.items():
            status, body = await call(server, route, headers)
            assert (status not in (401, 403)) == (name in allowed), name
            assert (status == 401) == (name == "nobody" and name not in allowed)
            if status >= 400:
                msgspec.json.decode(body, type=ErrorAnswer)


@on_one_loop
async def test_the_handshake_is_no_rest_call() -> None:
    async with run_server(**BOTH) as server:
        async with server.http.get("/ws", headers=HANDSHAKE) as response:
            assert response.status == 101
        async with server.http.head("/ws", headers=ADMIN) as response:
            assert response.status == 405
        async with server.http.head("/ws") as response:
            assert response.status == 401


@on_one_loop
async def test_any_key_or_token_may_learn_that_a_call_does_not_exist() -> None:
    async with run_server(**BOTH) as server:
        for headers in (ADMIN, {"X-API-Key": "board-key"}, bearer(make_token())):
            async with server.http.get("/nowhere", headers=headers) as response:
                assert response.status == 404
            async with server.http.put("/topics", headers=headers) as response:
                assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD,POST")
