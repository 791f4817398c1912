"""Access over HTTP: keys, tokens, origins, rates, quotas; over real sockets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from pubsub.auth.api_keys import ApiKeys
from pubsub.auth.rates import Rates
from pubsub.auth.tokens import Tokens
from pubsub.auth.trust import Trust
from pubsub.http.identities import ANYONE, FAILURE_BURST, Identities, network_of
from pubsub.http.origins import is_own_origin
from pubsub.protocol.errors import RateLimited
from tests.auth.test_tokens import BAD_TOKENS
from tests.credentials import API_KEYS, HANDSHAKE, SECRET, bearer, make_token
from tests.harness import Server, eventually, on_one_loop, run_server

OPS = {"X-API-Key": "ops-key"}
BOTH: dict[str, Any] = {"api_keys": API_KEYS, "jwt_secret": SECRET}


async def ask(server: Server, method: str, path: str, headers: dict[str, str], **body: Any) -> tuple[int, Any]:
    async with server.http.request(method, path, headers=headers, **body) as response:
        assert response.status < 400 or set(await response.json()) == {"error"}
        assert (response.status == 401) == (response.headers.get("WWW-Authenticate") == "Bearer")
        return response.status, await response.json()


async def create(server: Server, *names: str) -> None:
    for name in names:
        assert (await ask(server, "POST", "/topics", OPS, json={"name": name}))[0] == 201


async def handshake(server: Server, query: str = "", **headers: str) -> tuple[int, str]:
    """Send a handshake; return its status and the text of its error."""
    try:
        async with server.http.ws_connect(f"/ws{query}", headers=headers):
            return 101, ""
    except aiohttp.WSServerHandshakeError as error:
        status = error.status
    async with server.http.get(f"/ws{query}", headers=HANDSHAKE | headers) as response:
        assert response.status == status
        return status, (await response.json())["error"]


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        (OPS, {"GET", "POST", "DELETE"}),
        ({"X-API-Key": "shop-key"}, {"GET"}),
        ({"X-API-Key": "board-key"}, {"GET"}),
        (bearer(make_token(admin=True)), {"GET", "POST", "DELETE"}),
        (bearer(make_token(subscribe=[">"], publish=[">"])), {"GET"}),
    ],
    ids=["admin", "publish", "read", "admin token", "token"],
)
@on_one_loop
async def test_roles(headers: dict[str, str], allowed: set[str]) -> None:
    async with run_server(**BOTH) as server:
        for method, path, body in (
            ("POST", "/topics", {"name": "a"}),
            ("GET", "/topics", None),
            ("DELETE", "/topics/a", None),
        ):
            status, answer = await ask(server, method, path, headers, json=body)
            assert (status < 400) == (method in allowed), answer
            assert status in (200, 201, 403)


@on_one_loop
async def test_without_credentials_only_health_answers() -> None:
    async with run_server(**BOTH) as server:
        assert (await ask(server, "GET", "/health", {}))[0] == 200
        for call in ("GET /topics", "GET /stats", "GET /clients", "POST /topics", "DELETE /topics/a",
                     "DELETE /clients/a", "GET /nowhere", "PUT /topics"):  # fmt: skip
            method, path = call.split()
            assert (await ask(server, method, path, {}))[0] == 401, path


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "wrong"},
        {"X-API-Key": "ops-keyops-key"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic b3BzOm9wcy1rZXk="},
        bearer("x.y.z"),
        bearer("ops-key"),
    ],
)
@on_one_loop
async def test_wrong_credentials(headers: dict[str, str]) -> None:
    async with run_server(**BOTH) as server:
        assert (await ask(server, "GET", "/topics", headers))[0] == 401


@pytest.mark.parametrize(
    ("settings", "status"), [({}, 200), ({"jwt_secret": SECRET}, 200), ({"api_keys": API_KEYS}, 401)]
)
@on_one_loop
async def test_rest_is_open_as_long_as_there_are_no_keys(settings: dict[str, Any], status: int) -> None:
    async with run_server(**settings) as server:
        assert (await ask(server, "GET", "/topics", {}))[0] == status


@on_one_loop
async def test_a_token_counts_where_rest_is_open_too() -> None:
    async with run_server(jwt_secret=SECRET) as server:
        await server.create("a", "b")
        _, answer = await ask(server, "GET", "/topics", bearer(make_token(subscribe=["b"])))
        assert [row["name"] for row in answer["topics"]] == ["b"]
        assert (await ask(server, "GET", "/topics", bearer("nonsense")))[0] == 401


@on_one_loop
async def test_tokens_are_none_where_none_are_taken() -> None:
    async with run_server(api_keys=API_KEYS) as server:
        assert (await ask(server, "GET", "/topics", bearer(make_token(admin=True))))[0] == 401
        assert await handshake(server, "?token=nonsense") == (101, "")


@on_one_loop
async def test_a_token_sees_what_it_may_subscribe_to() -> None:
    async with run_server(**BOTH) as server:
        await create(server, "a", "b.c", "b.d", "e")
        headers = bearer(make_token(subscribe=["b.*"], publish=["a"]))
        assert [row["name"] for row in (await ask(server, "GET", "/topics", headers))[1]["topics"]] == ["b.c", "b.d"]
        assert list((await ask(server, "GET", "/stats", headers))[1]["topics"]) == ["b.c", "b.d"]
        assert (await ask(server, "GET", "/clients", headers))[0] == 403
        assert len((await ask(server, "GET", "/topics", bearer(make_token(admin=True))))[1]["topics"]) == 4


@pytest.mark.parametrize(("token", "told"), BAD_TOKENS.values(), ids=BAD_TOKENS)
@on_one_loop
async def test_row_21_a_bad_token_is_refused_before_the_upgrade(
    token: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 24 too: the log contains no part of the token."""
    caplog.set_level(logging.DEBUG)
    async with run_server(mode="debug", **BOTH) as server:
        if len(token) < 8000:  # the limit of a head
            encoded = quote(token, errors="replace")
            assert await handshake(server, f"?token={encoded}") == (401, told)
        if token.isascii() and token and len(token) < 8000:
            assert await handshake(server, **bearer(token)) == (401, told)
    assert len(token) < 6 or token[:30] not in caplog.text


@on_one_loop
async def test_row_24_no_token_in_any_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = make_token(subscribe=["a"])
    async with run_server(mode="debug", **BOTH) as server:
        await create(server, "a")
        assert await handshake(server, f"?token={token}") == (101, "")
        assert await handshake(server, f"?%74oken={token}&client_id=alice") == (101, "")
        assert await handshake(server, **bearer(token), Referer=f"http://x/?token={token}") == (101, "")
        assert (await ask(server, "GET", f"/topics?token={token}", bearer(token)))[0] == 200
        await eventually(lambda: "GET /topics?token=" in caplog.text)
    assert "GET /ws?token=***" in caplog.text
    for secret in (token, token.split(".")[2], "ops-key", SECRET):
        assert secret not in caplog.text


@on_one_loop
async def test_the_url_and_the_header_say_who_it_is() -> None:
    token = make_token("alice")
    async with run_server(**BOTH) as server:
        async with server.http.ws_connect(f"/ws?token={token}") as websocket:
            assert websocket._response.headers["X-Client-Id"] == "alice"
        assert (await handshake(server, f"?client_id=alice&token={token}"))[0] == 101
        assert (await handshake(server, "?client_id=bob", **bearer(token)))[0] == 403


ORIGINS = [
    (None, 101),
    ("http://{host}", 101),
    ("https://{host}", 101),  # a proxy may terminate TLS
    ("https://app.example.com", 101),
    ("null", 403),
    ("", 403),
    ("{host}", 403),
    ("http://{host}.evil.com", 403),
    ("http://evil.com/{host}", 403),
    ("http://{host}:80", 403),
    ("ftp://{host}", 403),
    ("http://127.0.0.1", 403),
    ("http://app.example.com", 403),
    ("https://app.example.com.evil.com", 403),
    ("https://app.example.com:443", 403),
    ("https://evilapp.example.com", 403),
    ("https://APP.example.com", 403),
    ("*", 403),
]


@pytest.mark.parametrize(("origin", "status"), ORIGINS)
@on_one_loop
async def test_row_18_and_19_origins(origin: str | None, status: int) -> None:
    """The origin is checked before the upgrade, and for REST calls that change something."""
    async with run_server(allowed_origins="https://app.example.com, https://b.example.com") as server:
        headers = {} if origin is None else {"Origin": origin.format(host=f"127.0.0.1:{server.port}")}
        assert (await handshake(server, **headers))[0] == status
        changed = (await ask(server, "POST", "/topics", headers, data=b'{"name":"a"}'))[0]
        assert changed == (201 if status == 101 else 403)
        assert (await ask(server, "DELETE", "/topics/a", headers))[0] == (200 if status == 101 else 403)
        assert (await ask(server, "GET", "/topics", headers))[0] == 200


@on_one_loop
async def test_row_18_null_can_be_listed() -> None:
    async with run_server(allowed_origins="null") as server:
        assert (await handshake(server, Origin="null"))[0] == 101


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 201), ("none", 201)]
)
@on_one_loop
async def test_row_19_a_browser_that_keeps_the_origin_to_itself(site: str, status: int) -> None:
    async with run_server() as server:
        headers = {"Sec-Fetch-Site": site}
        assert (await ask(server, "POST", "/topics", headers, data=b'{"name":"a"}'))[0] == status
        assert (await handshake(server, **headers))[0] == (101 if status == 201 else 403)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"]
)
@on_one_loop
async def test_row_19_what_a_page_can_send_without_asking_first(kind: str) -> None:
    """A browser sends an Origin. Without one the client is curl, whose option -d sends the second content type."""
    async with run_server() as server:
        headers = {"Content-Type": kind}
        for foreign in ("http://evil.example", "null"):
            assert (await ask(server, "POST", "/topics", headers | {"Origin": foreign}, data=b'{"name":"a"}'))[0] == 403
        async with server.http.options("/topics/a", headers={"Origin": "http://evil.example"}) as preflight:
            assert preflight.status == 405
            assert not [name for name in preflight.headers if name.startswith("Access-Control")]
        assert (await ask(server, "POST", "/topics", headers, data=b'{"name":"a"}'))[0] == 201


HOSTS = [
    ("evil.example", 403),
    ("evil.example:8080", 403),
    ("127.0.0.1.evil.example", 403),
    ("localhost.evil.example", 403),
    ("[::1].evil.example", 403),
    ("127.0.0.1", 200),
    ("192.0.2.7:8080", 200),
    ("[::1]:8080", 200),
    ("localhost:8080", 200),
    ("LOCALHOST.", 200),
    ("app.localhost", 200),
    ("pubsub:8080", 200),
    ("events.example.com", 200),
]


@pytest.mark.parametrize(("host", "status"), HOSTS)
@on_one_loop
async def test_row_19_a_name_that_a_stranger_has_pointed_here(host: str, status: int) -> None:
    """DNS rebinding: such a name makes the server the page's own origin, so the page could read the answers."""
    allowed = "https://events.example.com"
    async with run_server(allowed_origins=allowed) as server:
        headers = {"Host": host}
        assert (await ask(server, "GET", "/topics", headers))[0] == 200, "a program, perhaps through a proxy"
        assert (await handshake(server, **headers))[0] == 101
        headers["Origin"] = f"https://{host}"
        assert (await handshake(server, **headers))[0] == 101, "through a proxy that terminates TLS"
        headers["Origin"] = f"http://{host}" if host != "events.example.com" else allowed
        told = await ask(server, "GET", "/topics", headers)
        assert told[0] == status
        assert status == 200 or told[1] == {"error": "Host: not a name of this machine (ALLOWED_ORIGINS)"}
        assert (await ask(server, "POST", "/topics", headers, json={"name": "a"}))[0] == (201 if status == 200 else 403)
        assert (await handshake(server, **headers))[0] == (101 if status == 200 else 403)
        assert (await ask(server, "GET", "/health", headers))[0] == 200
    async with run_server(**BOTH) as server:  # such a page has no key and no token
        assert (await ask(server, "GET", "/topics", {"Host": host, **OPS}))[0] == 200
        assert (await ask(server, "GET", "/topics", {"Host": host}))[0] == 401
        assert (await handshake(server, Host=host))[0] == 101


@on_one_loop
async def test_a_bearer_without_a_token_is_none() -> None:
    async with run_server(**BOTH) as server:
        assert (await handshake(server, Authorization="Bearer"))[0] == 401
        assert (await handshake(server, Authorization="Bearer "))[0] == 401
        assert (await handshake(server, "?token="))[0] == 401
        assert (await handshake(server, Authorization="Basic b3BzOm9wcy1rZXk="))[0] == 101  # perhaps for a proxy


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
@on_one_loop
async def test_row_21_what_no_header_may_hold_is_refused_unread(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "Bearer " + "swordfish" * 2500
    async with run_server(mode="debug", **BOTH) as server:
        for path in ("/topics", "/ws"):
            async with server.http.get(path, headers=HANDSHAKE | {name: secret}) as response:
                assert response.status == 431
                assert await response.json() == {"error": "request line or header field too long"}
        async with server.http.get(f"/ws?token={secret[7:]}", headers=HANDSHAKE) as response:
            assert response.status == 431
    assert "swordfish" not in caplog.text


def test_over_tls_the_scheme_is_known() -> None:
    assert is_own_origin("https://a", "a", secure=True)
    assert not is_own_origin("http://a", "a", secure=True)
    assert not is_own_origin("http://", "", secure=True)


@on_one_loop
async def test_row_26_wrong_keys_at_full_speed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pubsub.http.identities.FAILURE_PAUSE", 0.001)
    monkeypatch.setattr("pubsub.http.identities.FAILURES_PER_SEC", 1e-6)  # also on a slow machine
    async with run_server(**BOTH) as server:
        answers = [await ask(server, "GET", "/topics", {"X-API-Key": f"guess-{number}"}) for number in range(100)]
        assert [status for status, _ in answers] == [401] * FAILURE_BURST + [429] * (100 - FAILURE_BURST)
        assert answers[-1][1] == {"error": "too many requests"}
        assert (await ask(server, "GET", "/topics", OPS))[0] == 200
    assert "Not authenticated: 127.0.0.1: API key: unknown" in caplog.text
    assert caplog.text.count("Not authenticated") == FAILURE_BURST
    assert "guess-" not in caplog.text


@on_one_loop
async def test_row_26_who_is_wrong_again_and_again_waits_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad keys, tokens and first messages; clients with good ones from the same address are served meanwhile."""
    monkeypatch.setattr("pubsub.http.identities.FAILURE_PAUSE", 4)
    monkeypatch.setattr("pubsub.http.identities.FAILURES_PER_SEC", 1e-6)
    monkeypatch.setattr("pubsub.http.identities.FAILURE_BURST", 2)
    wrong: list[dict[str, str]] = [{"X-API-Key": "wrong"}, bearer("wrong")]
    async with run_server(**BOTH) as server, server.client(None) as late:
        for number in range(2):
            assert (await ask(server, "GET", "/stats", wrong[number % 2]))[0] == 401
            async with server.client(None) as client:
                await client.send({"type": "auth", "token": "wrong"})
                assert await client.closed() == 4401
        waiting: list[Any] = [asyncio.create_task(ask(server, "GET", "/stats", each)) for each in wrong]
        waiting.append(asyncio.create_task(ask(server, "GET", "/ws?token=wrong", HANDSHAKE)))
        await late.send({"type": "auth", "token": "wrong"})
        await late.send({"type": "ping"})
        assert await handshake(server, **bearer(make_token())) == (101, "")
        assert (await ask(server, "GET", "/stats", OPS))[0] == 200
        async with server.client(None) as client:
            await client.ask({"type": "auth", "token": make_token()})
            waiting.append(asyncio.create_task(late.closed()))
            assert not any(each.done() for each in waiting)
            *statuses, code = await asyncio.gather(*waiting)
        assert [status for status, _ in statuses] == [429, 429, 429]
        assert code == 4401


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_row_26_who_has_one_address_of_ipv6_has_all_of_the_network(address: str, network: str) -> None:
    assert network_of(address) == network


def test_row_36_clients_without_a_name_share_the_rate_of_their_network() -> None:
    """A client with one IPv6 address has 2**64 addresses, and would have as many rates."""
    identities = Identities(api_keys=ApiKeys(""), tokens=Tokens(Trust()), rates=Rates(1, 2, lambda: 0.0))
    for address in ("2001:db8::1", "2001:db8::2"):
        identities.count(make_mocked_request("GET", "/", transport=transport_from(address)), ANYONE)
    with pytest.raises(RateLimited):
        identities.count(make_mocked_request("GET", "/", transport=transport_from("2001:db8::3")), ANYONE)
    identities.count(make_mocked_request("GET", "/", transport=transport_from("2001:db8:0:1::1")), ANYONE)


def transport_from(address: str) -> asyncio.Transport:
    return asyncio.Transport({"peername": (address, 40_000, 0, 0)})


@on_one_loop
async def test_row_20_forwarded_addresses_are_not_believed() -> None:
    async with run_server(rate_limit_msgs_per_sec=0.01, rate_limit_burst=2) as server:
        statuses = [
            (await ask(server, "GET", "/topics", {"X-Forwarded-For": f"192.0.2.{number}"}))[0] for number in range(3)
        ]
    assert statuses == [200, 200, 429]


@on_one_loop
async def test_row_36_rest_has_rates() -> None:
    async with run_server(rate_limit_msgs_per_sec=0.1, rate_limit_burst=2, **BOTH) as server:
        for key in ("ops-key", "board-key"):
            headers = {"X-API-Key": key}
            assert [(await ask(server, "GET", "/stats", headers))[0] for _ in range(3)] == [200, 200, 429]
        async with server.http.get("/stats", headers=OPS) as response:
            assert 8 <= int(response.headers["Retry-After"]) <= 10
        assert (await ask(server, "GET", "/health", OPS))[0] == 200


@on_one_loop
async def test_row_36_topics_have_a_quota() -> None:
    async with run_server(max_topics=2) as server:
        await create(server, "a", "b")
        assert await ask(server, "POST", "/topics", {}, json={"name": "c"}) == (
            429, {"error": "the server has its 2 topics (MAX_TOPICS)"},
        )  # fmt: skip
        assert (await ask(server, "POST", "/topics", {}, json={"name": "a"}))[0] == 409
        assert (await ask(server, "DELETE", "/topics/a", {}))[0] == 200
        await create(server, "c")


@on_one_loop
async def test_connections_have_quotas() -> None:
    async with run_server(max_connections=3, max_connections_per_client=2) as server:
        async with server.client("alice"), server.client("alice"):
            assert await handshake(server, "?client_id=alice") == (
                429, "the client has its 2 connections (MAX_CONNECTIONS_PER_CLIENT)",
            )  # fmt: skip
            async with server.client("bob"):
                assert await handshake(server, "?client_id=carol") == (
                    503, "the server has its 3 connections (MAX_CONNECTIONS)",
                )  # fmt: skip
        await eventually(lambda: server.connections == 0)
        assert (await handshake(server, "?client_id=alice"))[0] == 101
