"""Calls that speak for all servers, or for the one that is asked."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import pytest
from yarl import URL

from pubsub.cli.topics import list_topics, make_parser
from pubsub.client.credentials import Credentials
from pubsub.client.rest import RestClient
from pubsub.http.app_keys import BROKER, CLUSTER
from pubsub.protocol.calls import MAX_PAGE
from tests.cluster.servers import run_servers
from tests.credentials import API_KEYS, SECRET, bearer, make_token
from tests.harness import Json, RawClient, Server, eventually, new_id, run_server

pytestmark = [pytest.mark.asyncio(loop_factories=["uvloop"]), pytest.mark.usefixtures("short_waits")]


PATHS = (
    "/topics", "/topics?limit=1", "/topics/orders", "/stats", "/clients", "/clients?ended=true", "/clients/x", "/slow",
    "/admin/overview", "/admin/topics", "/admin/clients",
)  # fmt: skip


async def ask(server: Server, path: str, method: str = "GET", **options: Any) -> tuple[int, Json]:
    async with server.http.request(method, path, **options) as response:
        return response.status, await response.json()


async def rows_of(server: Server, path: str) -> list[Json]:
    """All rows of a list of clients, page by page."""
    rows: list[Json] = []
    cursor = "0"
    while cursor:
        page = await server.get(f"{path}{'&' if '?' in path else '?'}cursor={cursor}")
        assert "missing" not in page
        rows += page["clients"]
        cursor = page["next"]
    return rows


async def test_subscribers_of_all_servers() -> None:
    async with run_servers("a", "b", "c") as servers, contextlib.AsyncExitStack() as stack:
        await servers.create("orders", "other", "quiet")
        for name, topics in (("a", ["orders"]), ("b", ["orders", "other"]), ("b", ["orders"])):
            client = await stack.enter_async_context(servers[name].client("x"))
            for topic in topics:
                await client.subscribe(topic)
        expected = [("orders", 3), ("other", 1), ("quiet", 0)]
        own = {"a": [("orders", 1), ("other", 0), ("quiet", 0)], "b": [("orders", 2), ("other", 1), ("quiet", 0)]}
        for name in "abc":
            server = servers[name]
            for path in (
                "/topics",
                "/topics?limit=10",
                "/topics?scope=all",
                "/admin/topics?sort=subscribers&order=desc",
            ):
                answer = await server.get(path)
                assert [(row["name"], row["subscribers"]) for row in answer["topics"]] == expected, path
                assert "missing" not in answer
            assert (await server.get("/topics/orders"))["subscribers"] == 3
            stats = (await server.get("/stats"))["topics"]
            assert [(topic, each["subscribers"]) for topic, each in stats.items()] == expected
            if name in own:
                for path in ("/topics?scope=server", "/topics?prefix=&scope=server", "/admin/topics?scope=server"):
                    answer = await server.get(path)
                    assert [(row["name"], row["subscribers"]) for row in answer["topics"]] == own[name]
                assert (await server.get("/topics/orders?scope=server"))["subscribers"] == own[name][0][1]
                stats = (await server.get("/stats?scope=server"))["topics"]
                assert [(topic, each["subscribers"]) for topic, each in stats.items()] == own[name]


async def test_a_server_that_does_not_answer_is_named() -> None:
    async with run_servers("a", "b", "c") as servers, servers["b"].client("x") as client:
        await servers.create("orders", presence=True)
        await client.subscribe("orders")
        servers.cut("c")
        for path, answer in zip(PATHS, await asyncio.gather(*map(servers["a"].get, PATHS)), strict=True):
            assert answer["missing"] == ["c"], path
        own = [f"{path}{'&' if '?' in path else '?'}scope=server" for path in PATHS if path != "/clients/x"]
        for answer in await asyncio.gather(*map(servers["a"].get, own)):
            assert "missing" not in answer
        servers["a"].publish_locally("orders", [1])
        trace = await ask(servers["a"], "/clients/x/trace?topic=orders&seq=1", "GET")
        assert trace == (404, {"error": "client not found", "missing": ["c"]})
        assert await ask(servers["a"], "/clients/nobody") == (404, {"error": "client not found", "missing": ["c"]})
        assert (await ask(servers["a"], "/clients/nobody", "DELETE"))[1]["missing"] == ["c"]
        assert await ask(servers["a"], "/clients/x", "DELETE") == (
            200, {"status": "disconnected", "client_id": "x", "connections": 1, "missing": ["c"]},
        )  # fmt: skip
        servers.cut("b")
        assert (await servers["a"].get("/topics/orders"))["missing"] == ["b", "c"]


async def test_a_scope_that_does_not_exist() -> None:
    async with run_servers("a") as servers, run_server() as alone:
        await servers.create("orders", presence=True)
        await alone.create("orders", presence=True)
        for server in (servers["a"], alone):
            for path in ("/topics", "/topics?limit=1", "/topics/orders", "/stats", "/clients", "/clients/x", "/slow",
                         "/topics/orders/presence", "/admin/overview", "/admin/topics", "/admin/clients",
                         "/clients/x/trace?topic=orders&seq=1"):  # fmt: skip
                join = "&" if "?" in path else "?"
                expected = {"error": "scope: expected one of all, server, got 'here'"}
                assert await ask(server, f"{path}{join}scope=here") == (400, expected), path
                assert (await ask(server, f"{path}{join}scope=all&scope=all"))[1]["error"] == "'scope': expected once"
            assert (await ask(server, "/clients/x?scope=here", "DELETE"))[0] == 400


async def test_a_server_alone_answers_as_ever() -> None:
    async with run_server() as server, server.client("x") as client:
        await server.create("orders")
        await client.subscribe("orders")
        assert CLUSTER not in server.app
        assert await server.get("/topics") == {"topics": [{"name": "orders", "subscribers": 1}]}
        assert await server.get("/stats?other=1") == {"topics": {"orders": {"messages": 0, "subscribers": 1}}}
        assert set(await server.get("/health")) == {"uptime_sec", "topics", "subscribers"}
        assert await server.get("/topics?scope=server") == await server.get("/topics?scope=all")
        (row,) = (await server.get("/clients"))["clients"]
        assert "server" not in row
        assert not {"server", "servers", "missing"} & set(await server.get("/admin/overview"))


async def test_a_server_alone_imports_nothing_of_it() -> None:
    code = "import sys, pubsub.app; print({'pubsub.cluster', 'pubsub.http.servers'} & sys.modules.keys())"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate())[0].strip() == b"set()"


async def test_health_names_the_servers() -> None:
    async with run_servers("a", "b", "c") as servers:
        for name in "abc":
            health = await servers[name].get("/health")
            assert (health["server"], health["servers"]) == (name, 3)
        async with servers.start("d") as late:
            assert (await late.get("/health"))["servers"] == 4
        assert (await servers["a"].get("/health"))["servers"] == 3


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_of_clients_go_from_server_to_server(limit: int) -> None:
    async with run_servers("a", "b", "c") as servers, contextlib.AsyncExitStack() as stack:
        expected = []
        for server, names in (("a", ("c1", "c2", "d1")), ("b", ("d2",)), ("c", ("c1", "c3", "c4"))):
            for name in names:
                await stack.enter_async_context(servers[server].client(name))
                expected.append((server, name))
        for server in "abc":
            rows = await rows_of(servers[server], f"/clients?limit={limit}")
            assert [(row["server"], row["client_id"]) for row in rows] == expected
            rows = await rows_of(servers[server], f"/clients?limit={limit}&prefix=c")
            assert [(row["server"], row["client_id"]) for row in rows] == [
                each for each in expected if each[1][0] == "c"
            ]
            rows = await rows_of(servers[server], f"/clients?limit={limit}&scope=server")
            assert [(row["server"], row["client_id"]) for row in rows] == [
                each for each in expected if each[0] == server
            ]


async def test_a_page_goes_on_when_its_server_is_gone() -> None:
    async with run_servers("a", "c") as servers, servers["a"].client("one"), servers["c"].client("three"):
        async with servers.start("b"), servers["b"].client("two"), servers["b"].client("two"):
            first = await servers["a"].get("/clients?limit=2")
            assert [row["client_id"] for row in first["clients"]] == ["one", "two"]
            assert first["next"].startswith("b:")
        page = await servers["a"].get(f"/clients?cursor={first['next']}")
        assert ([row["client_id"] for row in page["clients"]], page["next"]) == (["three"], None)
        for cursor in ("x", "-1", "", "a:", ":1", "a:b:1", "9" * 17, "\u0663"):
            status, answer = await ask(servers["a"], "/clients", params={"cursor": cursor})
            assert status == 400
            assert answer["error"].startswith("cursor: expected the next of the page before, got ")
        for query in ("scope=server&cursor=b:1", "ended=true&cursor=b:1"):
            assert (await ask(servers["a"], f"/clients?{query}"))[0] == 400


async def test_one_client_at_all_servers() -> None:
    async with run_servers("a", "b") as servers, servers["a"].client("x"), servers["b"].client("x"):
        async with servers["b"].client("x"), servers["b"].client("gone"):
            pass
        await eventually(lambda: servers["b"].connections == 1)
        for name in "ab":
            found = await servers[name].get("/clients/x")
            assert [row["server"] for row in found["connections"]] == ["a", "b"]
            assert [row["server"] for row in found["ended"]] == ["b"]
            ended = await servers[name].get("/clients?ended=true")
            assert {(row["client_id"], row["server"]) for row in ended["clients"]} == {("x", "b"), ("gone", "b")}
            page = await servers[name].get("/clients?ended=true&limit=1")
            assert (len(page["clients"]), page["next"]) == (1, "1")
        assert (await servers["a"].get("/clients/gone"))["connections"] == []
        assert (await ask(servers["a"], "/clients/gone?scope=server"))[0] == 404
        assert (await ask(servers["a"], "/clients/nobody"))[0] == 404


async def test_a_client_is_disconnected_everywhere() -> None:
    async with run_servers("a", "b") as servers, servers["a"].client("x") as one, servers["b"].client("x") as other:
        assert await ask(servers["b"], "/clients/x?scope=server", "DELETE") == (
            200, {"status": "disconnected", "client_id": "x", "connections": 1},
        )  # fmt: skip
        assert await other.closed() == 4403
        async with servers["b"].client("x") as other:
            assert (await ask(servers["b"], "/clients/x", "DELETE"))[1]["connections"] == 2
            assert [await one.closed(), await other.closed()] == [4403, 4403]
        assert (await ask(servers["b"], "/clients/x", "DELETE"))[0] == 404


async def test_the_slowest_of_all_servers() -> None:
    async with run_servers("a", "b", send_buffer=4096) as servers:
        await servers.create("big")
        for name, count in (("a", 30), ("b", 50)):
            slow = await RawClient.connect(servers[name].port, receive_buffer=4096, path=f"/ws?client_id=slow-{name}")
            await slow.subscribe("big")
            servers[name].publish_locally("big", ["x" * 500_000, *range(count)])
        for name in "ab":
            rows = (await servers[name].get("/slow?topic=big"))["slow"]
            assert [(row["client_id"], row["server"]) for row in rows] == [("slow-b", "b"), ("slow-a", "a")]
            assert rows == (await servers[name].get("/slow"))["slow"]
            (row,) = (await servers[name].get("/slow?scope=server"))["slow"]
            assert row["server"] == name
        ranked = (await servers["a"].get("/admin/clients?sort=queued"))["clients"]
        assert [row["client_id"] for row in ranked] == ["slow-b", "slow-a"]


async def test_why_a_client_at_another_server_did_not_get_a_message() -> None:
    async with run_servers("a", "b") as servers, servers["a"].client("x") as one, servers["b"].client("x"):
        epochs = {"orders": "e"}
        await servers.create("orders")
        for server in servers.by_name.values():  # of one journal
            server.app[BROKER].topic("orders").epoch = epochs["orders"]
        await one.subscribe("orders")
        body = {"id": new_id(), "payload": 1}
        for server in servers.by_name.values():
            assert (await ask(server, "/topics/orders/messages", "POST", json=body))[0] == 200
        for name in "ab":
            for query in (f"message={body['id']}", "topic=orders&seq=1"):
                trace = await servers[name].get(f"/clients/x/trace?{query}")
                outcomes = {row["server"]: row["outcome"] for row in trace["connections"]}
                assert outcomes == {"a": "sent", "b": "not_subscribed"}
        trace = await servers["b"].get("/clients/x/trace?topic=orders&seq=1&scope=server")
        assert [row["server"] for row in trace["connections"]] == ["b"]
        servers["b"].app[BROKER].topic("orders").epoch = "another"
        trace = await servers["a"].get("/clients/x/trace?topic=orders&seq=1")
        assert [row["server"] for row in trace["connections"]] == ["a"]


async def test_presence_of_all_servers() -> None:
    async with run_servers("a", "b") as servers, servers["a"].client("x") as one, servers["b"].client("y") as other:
        await servers.create("room", presence=True)
        await one.subscribe("room")
        await other.subscribe("room")
        assert (await one.receive())["client_id"] == "y"
        both = [{"client_id": "x", "connections": 1}, {"client_id": "y", "connections": 1}]
        assert (await one.ask({"type": "presence", "topic": "room"}))["clients"] == both
        for name, own in (("a", 0), ("b", 1)):
            assert (await servers[name].get("/topics/room/presence"))["clients"] == both
            present = await servers[name].get("/topics/room/presence?scope=server")
            assert (present["count"], present["clients"]) == (1, [both[own]])
        async with servers.start("c") as late:
            await late.create("room", presence=True)
            assert (await late.get("/topics/room/presence"))["count"] == 2


async def test_clients_of_python_tell_which_servers_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    async with run_servers("a", "b") as servers, servers["b"].client("x") as client:
        await servers.create("orders")
        await client.subscribe("orders")
        rest = RestClient(servers["a"].http, URL(servers["a"].url))
        assert (await rest.list_topics(), rest.missing) == ({"orders": 1}, [])
        servers.cut("b")
        assert (await rest.list_topics(), rest.missing) == ({"orders": 0}, ["b"])
        chosen = make_parser().parse_args(["--url", servers["a"].url])
        assert await list_topics(chosen, Credentials()) == 0
        assert "subscribers at servers that did not answer are not counted: b" in capsys.readouterr().err


async def test_the_overview_lists_the_servers() -> None:
    async with run_servers("a", "b") as servers, servers["b"].client("x"):
        overview = await servers["a"].get("/admin/overview")
        assert overview["server"] == "a"
        assert [(row["server"], row["state"], row["connections"]) for row in overview["servers"]] == [
            ("a", "ok", 0), ("b", "ok", 1),
        ]  # fmt: skip
        assert "servers" not in await servers["a"].get("/admin/overview?scope=server")


async def test_a_page_stays_with_the_server_that_it_saw_first() -> None:
    """Its calls may come to another one, which asks the first as long as that is there."""
    async with run_servers("a") as servers:
        async with servers.start("b"):
            async with servers["b"].http.get("/admin/overview") as response:
                cookie = response.cookies["pubsub-server"]
                assert (cookie.value, cookie["httponly"], cookie["samesite"]) == ("b", True, "Strict")
            headers = {"Cookie": "pubsub-server=b"}
            async with servers["b"].client("x"):
                status, overview = await ask(servers["a"], "/admin/overview", headers=headers)
                assert (overview["server"], overview["connections"], overview["may"]["change"]) == ("b", 1, True)
                assert (await servers["a"].get("/admin/overview"))["server"] == "a"
                status, overview = await ask(servers["a"], "/admin/overview?scope=server", headers=headers)
                assert overview["server"] == "a"
        status, overview = await ask(servers["a"], "/admin/overview", headers=headers)
        assert (status, overview["server"], overview["run"]) == (200, "a", "")


async def test_rows_of_the_dashboard_are_merged_in_their_order() -> None:
    async with run_servers("a", "b") as servers, contextlib.AsyncExitStack() as stack:
        for number in range(6):
            await stack.enter_async_context(servers["ab"[number % 2]].client(f"c{number}"))
        for order, names in (("asc", ["c2", "c3"]), ("desc", ["c3", "c2"])):
            page = await servers["a"].get(f"/admin/clients?sort=client_id&order={order}&page=2&limit=2")
            assert ([row["client_id"] for row in page["clients"]], page["found"]) == (names, 6)
        assert (await ask(servers["a"], f"/admin/clients?limit=100&page={MAX_PAGE // 100 + 1}"))[0] == 400


async def test_rights_count_where_the_call_is_made() -> None:
    settings: dict[str, Any] = {"api_keys": API_KEYS, "jwt_secret": SECRET}
    async with run_servers("a", "b", **settings) as servers:
        ops = {"X-API-Key": "ops-key"}
        for server in servers.by_name.values():
            for topic in ("orders", "secret"):
                assert (await ask(server, "/topics", "POST", json={"name": topic}, headers=ops))[0] == 201
        for path, names in (("/topics", ["orders"]), ("/topics?limit=5", ["orders"])):
            status, answer = await ask(servers["a"], path, headers=bearer(make_token(subscribe=["orders"])))
            assert (status, [row["name"] for row in answer["topics"]]) == (200, names)
        for path in ("/clients", "/slow", "/clients/x"):
            assert (await ask(servers["a"], path))[0] == 401
            assert (await ask(servers["a"], path, headers=bearer(make_token(subscribe=["orders"]))))[0] == 403
        assert (await ask(servers["a"], "/clients/x", "DELETE", headers={"X-API-Key": "shop-key"}))[0] == 403


async def test_a_limit_of_connections_counts_at_all_servers() -> None:
    async with run_servers("a", "b", max_connections_per_client=1) as servers:
        async with servers["a"].client("x"):
            await asyncio.sleep(0.1)
            async with servers["b"].http.get("/ws?client_id=x", headers=HANDSHAKE) as response:
                assert response.status == 429
        await eventually(lambda: servers["a"].connections == 0)
        await asyncio.sleep(0.1)
        async with servers["b"].client("x"):
            pass


HANDSHAKE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip
