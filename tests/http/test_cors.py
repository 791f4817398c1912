"""Cross-origin resource sharing: headers for pages of ALLOWED_ORIGINS at every route and error, none for others.

tests/http/test_chromium.py shows that a browser understands them.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import aiohttp
import pytest

from pubsub.core.broker import Broker
from pubsub.http.routes import ROUTES
from tests.credentials import API_KEYS, HANDSHAKE, SECRET, bearer, make_token
from tests.harness import RawClient, Server, on_one_loop, run_server

PAGE = "https://app.example.com"
OTHERS = ("https://evil.example", "https://app.example.com.evil.example", "null", "http://app.example.com", "")
SHARING: dict[str, Any] = {"allowed_origins": f"{PAGE}, https://b.example.com"}
PATHS = sorted({route.path.format(name="orders", client_id="alice", file="app.js") for route in ROUTES})
METHODS = sorted({method for route in ROUTES for method in route.methods})


def listed(header: str) -> set[str]:
    return {each.strip() for each in header.split(",")}


async def ask(server: Server, method: str, path: str, headers: dict[str, str], **body: Any) -> aiohttp.ClientResponse:
    response = await server.http.request(method, path, headers=headers, **body)
    await response.read()
    return response


async def preflight(server: Server, path: str, method: str, origin: str) -> aiohttp.ClientResponse:
    """Send the request that a browser sends first; it has no credentials."""
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "x-api-key"}
    return await ask(server, "OPTIONS", path, asked)


def access_headers(response: aiohttp.ClientResponse) -> set[str]:
    return {name for name in response.headers if name.startswith("Access-Control")}


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
@on_one_loop
async def test_a_preflight_is_answered_for_every_route_and_method(path: str) -> None:
    """The answer comes before identity and rates, which refuse every request here; also if the page would get a 404."""
    async with run_server(**SHARING, api_keys=API_KEYS, rate_limit_msgs_per_sec=0.01, rate_limit_burst=1) as server:
        for method in METHODS:
            response = await preflight(server, path, method, PAGE)
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == PAGE
            assert listed(response.headers["Access-Control-Allow-Methods"]) == {*METHODS}
            assert listed(response.headers["Access-Control-Allow-Headers"]) == {
                "Authorization", "Content-Type", "Last-Event-ID", "X-API-Key",
            }  # fmt: skip
            assert int(response.headers["Access-Control-Max-Age"]) > 0
            assert response.headers["Vary"] == "Origin"
            assert "Access-Control-Allow-Credentials" not in response.headers, "the server uses no cookies"


@pytest.mark.parametrize("origin", OTHERS)
@on_one_loop
async def test_a_preflight_of_another_origin_gets_what_it_got_before(origin: str) -> None:
    async with run_server(**SHARING) as server:
        response = await preflight(server, "/topics", "POST", origin)
        assert response.status == 405
        assert not access_headers(response)
        assert response.headers["Vary"] == "Origin"
    async with run_server(**SHARING, api_keys=API_KEYS) as server:
        assert (await preflight(server, "/topics", "POST", origin)).status == 401


@on_one_loop
async def test_options_that_are_no_preflight_are_a_405() -> None:
    async with run_server(**SHARING) as server:
        response = await ask(server, "OPTIONS", "/topics", {"Origin": PAGE})
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (405, PAGE)
        assert (await ask(server, "OPTIONS", "/topics", {"Access-Control-Request-Method": "GET"})).status == 405


def is_readable(response: aiohttp.ClientResponse, status: int) -> None:
    assert response.status == status
    assert response.headers["Access-Control-Allow-Origin"] == PAGE
    assert listed(response.headers["Access-Control-Expose-Headers"]) == {"Retry-After", "X-Client-Id"}
    assert response.headers.getall("Vary") == ["Origin"]


@on_one_loop
async def test_answers_and_errors_are_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of handlers, of middlewares and of aiohttp."""
    page = {"Origin": PAGE}
    ops = page | {"X-API-Key": "ops-key"}
    settings = SHARING | {"api_keys": API_KEYS, "jwt_secret": SECRET, "max_message_bytes": 1024, "max_topics": 2}
    async with run_server(**settings) as server:
        is_readable(await ask(server, "GET", "/health", page), 200)
        is_readable(await ask(server, "HEAD", "/health", page), 200)
        is_readable(await ask(server, "GET", "/topics", ops), 200)
        is_readable(await ask(server, "POST", "/topics", ops, json={"name": "a"}), 201)
        is_readable(await ask(server, "POST", "/topics", ops, json={"name": "a"}), 409)
        is_readable(await ask(server, "POST", "/topics", ops, data=b"{"), 400)
        is_readable(await ask(server, "POST", "/topics", ops, data=b" " * 1025), 413)
        is_readable(await ask(server, "POST", "/topics", ops, json={"name": "b"}), 201)
        is_readable(await ask(server, "POST", "/topics", ops, json={"name": "c"}), 429)
        is_readable(await ask(server, "DELETE", "/topics/a", ops), 200)
        is_readable(await ask(server, "DELETE", "/topics/a", ops), 404)
        is_readable(await ask(server, "GET", "/nowhere", ops), 404)
        is_readable(await ask(server, "PUT", "/topics", ops), 405)
        is_readable(await ask(server, "GET", "/topics", page), 401)
        is_readable(await ask(server, "GET", "/clients", page | bearer(make_token())), 403)
        is_readable(await ask(server, "GET", "/health", page | {"Expect": "nonsense"}), 417)
        is_readable(await ask(server, "GET", "/ws", page | HANDSHAKE | {"Sec-WebSocket-Version": "8"}), 426)
        monkeypatch.setattr(Broker, "find_topic", None)
        is_readable(await ask(server, "GET", "/topics/a", ops), 500)


@on_one_loop
async def test_a_page_over_the_rate_may_read_when_to_come_back() -> None:
    async with run_server(**SHARING, rate_limit_msgs_per_sec=0.01, rate_limit_burst=1) as server:
        await ask(server, "GET", "/topics", {"Origin": PAGE})
        response = await ask(server, "GET", "/topics", {"Origin": PAGE})
        is_readable(response, 429)
        assert int(response.headers["Retry-After"]) > 0


@on_one_loop
async def test_a_503_is_readable() -> None:
    async with run_server(**SHARING, max_connections=1) as server, server.client("alice"):
        response = await ask(server, "GET", "/ws?client_id=bob", {"Origin": PAGE} | HANDSHAKE)
        is_readable(response, 503)


@on_one_loop
async def test_a_408_is_readable() -> None:
    async with run_server(**SHARING, read_timeout_sec=0.1) as server:
        client = await RawClient.connect_tcp(server.port)
        await client.send(f"POST /topics HTTP/1.1\r\nHost: x\r\nOrigin: {PAGE}\r\nContent-Length: 9\r\n\r\n".encode())
        head = await client.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert f"\r\nAccess-Control-Allow-Origin: {PAGE}\r\n".encode() in head


@pytest.mark.parametrize("origin", OTHERS)
@on_one_loop
async def test_other_origins_may_read_nothing_and_change_nothing(origin: str) -> None:
    async with run_server(**SHARING) as server:
        for method, path, status in (("GET", "/topics", 200), ("POST", "/topics", 403), ("GET", "/nowhere", 404)):
            response = await ask(server, method, path, {"Origin": origin})
            assert response.status == status
            assert not access_headers(response)
            assert response.headers["Vary"] == "Origin"


@on_one_loop
async def test_a_client_without_an_origin_sees_only_what_caches_must_know() -> None:
    async with run_server(**SHARING) as server:
        response = await ask(server, "GET", "/topics", {})
        assert not access_headers(response)
        assert response.headers["Vary"] == "Origin"


@on_one_loop
async def test_each_origin_is_told_its_own() -> None:
    async with run_server(allowed_origins=f"{PAGE}, null, app://desk") as server:
        for origin in (PAGE, "null", "app://desk"):
            response = await ask(server, "GET", "/topics", {"Origin": origin})
            assert response.headers["Access-Control-Allow-Origin"] == origin


@on_one_loop
async def test_without_allowed_origins_nothing_is_shared() -> None:
    async with run_server() as server:
        own = f"http://127.0.0.1:{server.port}"
        for origin in (PAGE, own):
            assert (await preflight(server, "/topics", "POST", origin)).status == 405
            response = await ask(server, "GET", "/topics", {"Origin": origin})
            assert not access_headers(response)
            assert "Vary" not in response.headers


@on_one_loop
async def test_two_origins_in_a_request_are_none() -> None:
    """No browser sends that, and no answer is right for both."""
    async with run_server(**SHARING) as server:
        client = await RawClient.connect_tcp(server.port)
        head = f"GET /topics HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\nOrigin: {PAGE}\r\n\r\n"
        await client.send(head.encode())
        answer = await client.read_until(b"\r\n\r\n")
        assert not re.search(rb"Access-Control-Allow-Origin: https://evil", answer)


@on_one_loop
async def test_preflights_are_answered_while_a_client_waits_for_its_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.http.identities.FAILURE_BURST", 0)
    monkeypatch.setattr("pubsub.http.identities.FAILURE_PAUSE", 4)
    async with run_server(**SHARING, api_keys=API_KEYS) as server:
        waiting = asyncio.create_task(ask(server, "GET", "/topics", {"Origin": PAGE, "X-API-Key": "wrong"}))
        assert (await preflight(server, "/topics", "GET", PAGE)).status == 204
        assert not waiting.done()
        waiting.cancel()
