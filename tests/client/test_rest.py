"""REST calls of a client, with the real server and with others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from pubsub.client import Presence, PresentClient, Refused, Unreachable
from pubsub.client.credentials import Credentials
from pubsub.client.rest import RestClient, TopicRule, open_http
from tests.harness import free_port, on_one_loop, run_server


@contextlib.asynccontextmanager
async def client_of(url: str, credentials: Credentials | None = None) -> AsyncIterator[RestClient]:
    async with open_http(credentials or Credentials()) as http:
        yield RestClient(http, URL(url))


@on_one_loop
async def test_topics_are_created_listed_and_deleted() -> None:
    async with run_server() as server, client_of(server.url) as rest:
        await rest.create("orders.eu", {"history": 5})
        assert (await server.get("/topics/orders.eu"))["options"]["history"] == 5
        assert await rest.list_topics() == {"orders.eu": 0}
        await rest.delete("orders.eu")
        assert await rest.list_topics() == {}


@on_one_loop
async def test_kept_messages_are_purged() -> None:
    async with run_server() as server, client_of(server.url) as rest:
        await rest.create("orders.eu", {})
        server.publish_locally("orders.eu", [1])
        assert await rest.purge("orders.eu") == 1
        assert await rest.purge("orders.eu") == 0


@on_one_loop
async def test_clients_of_a_topic_are_listed() -> None:
    async with run_server() as server, client_of(server.url) as rest:
        await rest.create("room.1", {"presence": True})
        async with server.client("alice") as alice:
            await alice.subscribe("room.1")
            assert await rest.presence("room.1") == Presence("room.1", 1, [PresentClient("alice", 1)])


@on_one_loop
async def test_rules_are_listed() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.path == "/rules"
        return web.json_response({"rules": [{"pattern": "a.*", "create": True, "later": 1}, {"pattern": ">"}]})

    async with serving(answer) as url, client_of(url) as rest:
        assert await rest.list_rules() == [TopicRule(pattern="a.*", create=True), TopicRule(pattern=">")]


@on_one_loop
async def test_a_refusal_has_the_status_and_the_words_of_the_server() -> None:
    async with run_server() as server, client_of(server.url) as rest:
        with pytest.raises(Refused, match="topic not found") as refused:
            await rest.delete("a/../b")
    assert refused.value.status == 404


@pytest.mark.parametrize(("status", "told"), [(502, "Bad Gateway"), (302, "Found")])
@on_one_loop
async def test_a_refusal_of_something_else_has_the_reason_of_http(status: int, told: str) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>")

    async with serving(refuse) as url, client_of(url) as rest:
        with pytest.raises(Refused, match=told):
            await rest.list_topics()


@on_one_loop
async def test_an_answer_that_is_no_list_of_topics() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"topics": "none"})

    async with serving(answer) as url, client_of(url) as rest:
        with pytest.raises(Unreachable, match="expected a list of topics"):
            await rest.list_topics()


@on_one_loop
async def test_credentials_go_with_every_request() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["X-API-Key"] == "key"
        return web.json_response({"topics": []})

    async with serving(answer) as url, client_of(url, Credentials(api_key="key")) as rest:
        assert await rest.list_topics() == {}


@on_one_loop
async def test_a_server_that_is_not_there() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with client_of(url) as rest:
        with pytest.raises(Unreachable, match=f"cannot reach {url}: Connection refused"):
            await rest.list_topics()


@contextlib.asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))
