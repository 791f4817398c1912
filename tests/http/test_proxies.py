"""Addresses and schemes of clients behind proxies: trusted proxies, and the fields that they send."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from aiohttp import web
from hypothesis import strategies
from multidict import CIMultiDict

from pubsub.app import create_app
from pubsub.http.forwarded import MAX_FIELD, MAX_HOPS, read_forwarded_elements, read_hops, read_node
from pubsub.http.proxies import Proxies
from pubsub.lifecycle import listen
from pubsub.settings_reader import find_mistakes
from tests.credentials import API_KEYS, HANDSHAKE
from tests.harness import RawClient, Server, eventually, make_settings, on_one_loop, run_server

PROXIES = Proxies(["10.0.0.1", "192.168.0.0/16", "2001:db8:f::/48"])
XFF = "X-Forwarded-For"


def found(headers: Mapping[str, str] | list[tuple[str, str]], peer: str = "10.0.0.1") -> tuple[str, str]:
    """Return the address and the scheme of the client; the scheme is empty if no field gives one."""
    client = PROXIES.find_client(peer, read_hops(CIMultiDict(headers)))
    return client.address, client.scheme


@pytest.mark.parametrize(
    ("entries", "trusted"),
    [
        ([], False),
        (["10.0.0.1"], True),
        (["10.0.0.0/8"], True),
        (["192.168.0.0/16", "10.0.0.0/30"], True),
        (["0.0.0.0/0"], True),
        (["10.0.0.2"], False),
        (["::/0"], False),
        (["unix"], False),
    ],
)
def test_a_peer_is_trusted_by_address_or_network(entries: list[str], trusted: bool) -> None:
    for peer in ("10.0.0.1", "::ffff:10.0.0.1"):
        assert Proxies(entries).trusts(peer) is trusted


def test_a_peer_that_is_none_is_not_trusted() -> None:
    for peer in (None, "", "nonsense", "10.0.0.1:80"):
        assert not Proxies(["0.0.0.0/0", "::/0"]).trusts(peer)
    assert Proxies(["fe80::/10"]).trusts("fe80::1%eth0")


FORWARDED_FOR = [
    ("203.0.113.7", "203.0.113.7"),
    ("6.6.6.6, 203.0.113.7", "203.0.113.7"),
    ("203.0.113.7, 192.168.1.1, 10.0.0.1", "203.0.113.7"),
    ("203.0.113.7,192.168.1.1,  2001:db8:f::1 ", "203.0.113.7"),
    ("203.0.113.7:4711", "203.0.113.7"),
    ("2001:db8::7", "2001:db8::7"),
    ("[2001:db8::7]", "2001:db8::7"),
    ("[2001:DB8::7]:4711", "2001:db8::7"),
    ("::ffff:203.0.113.7", "203.0.113.7"),
    ("203.0.113.7, ::ffff:192.168.1.1", "203.0.113.7"),
    ("192.168.1.2, 192.168.1.1", "192.168.1.2"),  # only proxies
    ("192.168.1.1", "192.168.1.1"),
    # An entry is not an address: the proxy that sent it is the last known address.
    ("unknown", "10.0.0.1"),
    ("203.0.113.7, unknown", "10.0.0.1"),
    ("203.0.113.7, unknown, 192.168.1.1", "192.168.1.1"),
    ("203.0.113.7, ", "10.0.0.1"),
    ("", "10.0.0.1"),
    ("203.0.113.7 192.168.1.1", "10.0.0.1"),
    ("203.0.113.256", "10.0.0.1"),
    ("203.0.113.7/32", "10.0.0.1"),
    ("fe80::1%eth0", "10.0.0.1"),
    ("[::1", "10.0.0.1"),
    ("localhost", "10.0.0.1"),
    ("\x1b[31m203.0.113.7", "10.0.0.1"),
    ("\uff11.2.3.4", "10.0.0.1"),
]


@pytest.mark.parametrize(("text", "address"), FORWARDED_FOR, ids=[ascii(text) for text, _ in FORWARDED_FOR])
def test_row_20_the_last_address_that_is_not_trusted_is_the_clients(text: str, address: str) -> None:
    assert found({XFF: text})[0] == address


def test_row_20_other_peers_are_not_believed() -> None:
    headers = {XFF: "203.0.113.7", "Forwarded": "for=203.0.113.7;proto=https", "X-Forwarded-Proto": "https"}
    for peer in ("203.0.113.99", "10.0.0.2", "2001:db8::1"):
        assert found(headers, peer) == (peer, "")


def test_fields_that_come_in_several_lines_are_one_list() -> None:
    assert found([(XFF, "6.6.6.6"), (XFF, "203.0.113.7")])[0] == "203.0.113.7"
    assert found([(XFF, "203.0.113.7"), (XFF, "192.168.1.1")])[0] == "203.0.113.7"
    assert found([("Forwarded", "for=6.6.6.6"), ("Forwarded", "for=203.0.113.7")])[0] == "203.0.113.7"
    assert found([("Forwarded", "garbage"), ("Forwarded", "for=203.0.113.7")])[0] == "203.0.113.7"
    assert found([("Forwarded", "for=203.0.113.7"), ("Forwarded", "for=192.168.1.1")])[0] == "203.0.113.7"


FORWARDED = [
    ("for=203.0.113.7", "203.0.113.7", ""),
    ("For=203.0.113.7;Proto=HTTPS;by=10.0.0.1;host=example.com", "203.0.113.7", "https"),
    ('for="203.0.113.7:4711"', "203.0.113.7", ""),
    ('for="[2001:db8:cafe::17]:4711";proto=http', "2001:db8:cafe::17", "http"),
    ('for="[2001:db8:cafe::17]"', "2001:db8:cafe::17", ""),
    ('for="[2001:db8:cafe::17]:_port"', "2001:db8:cafe::17", ""),
    ("for=6.6.6.6;proto=https, for=203.0.113.7;proto=http", "203.0.113.7", "http"),
    ("for=203.0.113.7;proto=https, for=192.168.1.1;proto=http", "203.0.113.7", "https"),
    ("for=203.0.113.7,for=192.168.1.1", "203.0.113.7", ""),
    ("for=203.0.113.7 ; proto=https , , for=192.168.1.1;", "203.0.113.7", "https"),
    ('for="203\\.0.113.7"', "203.0.113.7", ""),
    ("proto=https", "10.0.0.1", "https"),
    ("for=unknown;proto=https", "10.0.0.1", "https"),
    ("for=203.0.113.7, for=unknown", "10.0.0.1", ""),
    ("for=203.0.113.7, for=_hidden", "10.0.0.1", ""),
    ('for=203.0.113.7, for="_SEVKISEK"', "10.0.0.1", ""),
    ("for=203.0.113.7, for=unknown, for=192.168.1.1", "192.168.1.1", ""),
    ("", "10.0.0.1", ""),
    ("for", "10.0.0.1", ""),
    ("for=", "10.0.0.1", ""),
    ("for=[2001:db8::7]", "10.0.0.1", ""),  # it must be quoted
    ("for=203.0.113.7 proto=https", "10.0.0.1", ""),
    ('for="203.0.113.7', "10.0.0.1", ""),
    ("for=203.0.113.7;proto=gopher", "203.0.113.7", "gopher"),
    # Text that a client sends before the entry of a proxy must not hide that entry or replace it.
    ('for=6.6.6.6;x=", for=203.0.113.7', "10.0.0.1", ""),
    ('for=6.6.6.6;x=", for="[2001:db8::7]"', "10.0.0.1", ""),
    ('for=6.6.6.6;x=", for="[2001:db8::7]";y="', "10.0.0.1", ""),
    ("for=6.6.6.6;, for=203.0.113.7", "203.0.113.7", ""),
]


@pytest.mark.parametrize(("text", "address", "scheme"), FORWARDED, ids=[text for text, _, _ in FORWARDED])
def test_row_20_forwarded_of_rfc_7239(text: str, address: str, scheme: str) -> None:
    assert found({"Forwarded": text}) == (address, scheme)


def test_x_forwarded_headers_win() -> None:
    """Most proxies write these fields, and forward a client's own ``Forwarded`` unchanged."""
    forwarded = {"Forwarded": "for=6.6.6.6;proto=https"}
    assert found(forwarded | {XFF: "203.0.113.7", "X-Forwarded-Proto": "http"}) == ("203.0.113.7", "http")
    assert found(forwarded | {XFF: "203.0.113.7"}) == ("203.0.113.7", "")
    assert found(forwarded | {"X-Forwarded-Proto": "http"}) == ("10.0.0.1", "http")


@pytest.mark.parametrize(
    ("text", "scheme"),
    [("https", "https"), ("HTTPS ", "https"), ("http, https", "https"), ("", ""), ("x\x00", "x\x00")],
)
def test_the_last_scheme_counts(text: str, scheme: str) -> None:
    assert found({XFF: "203.0.113.7", "X-Forwarded-Proto": text}) == ("203.0.113.7", scheme)


def test_so_many_hops_are_followed_and_no_more() -> None:
    chain = ["203.0.113.7", *["192.168.1.1"] * (MAX_HOPS - 1)]
    assert found({XFF: ",".join(chain)})[0] == "203.0.113.7"
    assert found({XFF: ",".join([chain[0], *chain])})[0] == "203.0.113.7"
    assert found({XFF: ",".join([*chain, "192.168.1.1"])})[0] == "192.168.1.1"


def test_a_field_too_long_is_not_read() -> None:
    text = f"for=203.0.113.7;x={'y' * MAX_FIELD}"
    assert read_forwarded_elements(text) is None
    assert found({"Forwarded": text})[0] == "10.0.0.1"


@hypothesis.given(
    strategies.one_of(strategies.text(), strategies.text(alphabet='for=proto;,"\\[]:. 10293_abcdef\t', max_size=60))
)
def test_row_20_whatever_is_sent_nothing_raises_and_the_address_is_one(text: str) -> None:
    for name in (XFF, "Forwarded", "X-Forwarded-Proto"):
        ip_address(found({name: text})[0])
    if (node := read_node(text)) is not None:
        ip_address(str(node))


# Settings


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("10.0.0.1,proxy.example.com", "'proxy.example.com' does not appear to be an IPv4 or IPv6 network"),
        ("10.0.0.1/8", "10.0.0.1/8 has host bits set"),
        ("10.0.0.0/33", "'10.0.0.0/33' does not appear to be an IPv4 or IPv6 network"),
        ("*", "'*' does not appear to be an IPv4 or IPv6 network"),
    ],
)
def test_what_is_no_proxy(value: str, wrong: str) -> None:
    assert find_mistakes(make_settings(trusted_proxies=value)) == [
        f"TRUSTED_PROXIES: got {value!r}, expected addresses, networks such as 10.0.0.0/8, or unix: {wrong}"
    ]


def test_what_is_a_proxy() -> None:
    assert find_mistakes(make_settings(trusted_proxies="127.0.0.1, ::1,10.0.0.0/8 , unix, 2001:db8::/32")) == []


# Over real sockets


async def status(server: Server, path: str, headers: dict[str, str], method: str = "GET", **body: Any) -> int:
    async with server.http.request(method, path, headers=headers, **body) as response:
        await response.read()
        return response.status


@on_one_loop
async def test_anonymous_clients_behind_a_proxy_have_rates_of_their_own() -> None:
    async with run_server(trusted_proxies="127.0.0.1", rate_limit_msgs_per_sec=0.01, rate_limit_burst=1) as server:
        for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
            assert [await status(server, "/topics", {XFF: address}) for _ in range(2)] == [200, 429]
        assert await status(server, "/topics", {XFF: "2001:db8::2"}) == 429, "the same network of IPv6"
        assert await status(server, "/topics", {"Forwarded": "for=192.0.2.2"}) == 429


@on_one_loop
async def test_failures_and_log_lines_have_the_clients_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with run_server(trusted_proxies="127.0.0.1", api_keys=API_KEYS, mode="debug") as server:
        assert await status(server, "/topics", {XFF: "192.0.2.1", "X-API-Key": "wrong"}) == 401
        assert await status(server, "/health", {XFF: "192.0.2.2"}) == 200
        assert await status(server, "/health", {XFF: "x[31m"}) == 200
        await eventually(lambda: caplog.text.count("GET /health") == 2)
    assert "Not authenticated: 192.0.2.1: API key: unknown" in caplog.text
    assert "192.0.2.1 GET /topics: 401" in caplog.text
    assert "192.0.2.2 GET /health: 200" in caplog.text
    assert "127.0.0.1 GET /health: 200" in caplog.text


@on_one_loop
async def test_wrong_keys_of_one_client_behind_a_proxy_slow_down_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.http.identities.FAILURE_PAUSE", 0.001)
    monkeypatch.setattr("pubsub.http.identities.FAILURES_PER_SEC", 1e-6)
    monkeypatch.setattr("pubsub.http.identities.FAILURE_BURST", 1)
    async with run_server(trusted_proxies="127.0.0.0/8", api_keys=API_KEYS) as server:
        for address in ("192.0.2.1", "192.0.2.2"):
            wrong = {XFF: address, "X-API-Key": "wrong"}
            assert [await status(server, "/topics", wrong) for _ in range(2)] == [401, 429]


@pytest.mark.parametrize(
    ("proto", "allowed"), [("https", {"https"}), ("http", {"http", "https"}), ("", {"http", "https"})]
)
@on_one_loop
async def test_the_scheme_that_a_proxy_tells_counts_for_origins(proto: str, allowed: set[str]) -> None:
    """With http or no scheme a page may have used either: another proxy in front may terminate TLS."""
    async with run_server(trusted_proxies="127.0.0.1") as server:
        for scheme in ("http", "https"):
            headers = {"Origin": f"{scheme}://127.0.0.1:{server.port}", "X-Forwarded-Proto": proto}
            expected = scheme in allowed
            assert (await status(server, "/topics/a", headers, "DELETE") == 404) == expected
            assert (await status(server, "/ws", HANDSHAKE | headers) == 101) == expected


@on_one_loop
async def test_row_20_a_scheme_is_not_believed_either() -> None:
    async with run_server(trusted_proxies="10.0.0.1") as server:
        headers = {
            "Origin": f"http://127.0.0.1:{server.port}",
            "X-Forwarded-Proto": "https",
            "Forwarded": "proto=https",
        }
        assert await status(server, "/topics/a", headers, "DELETE") == 404


@pytest.mark.parametrize(
    ("trusted", "own_end", "statuses"),
    [
        ("unix", "", [200, 200, 429]),
        ("127.0.0.1", "", [200, 429, 429]),
        ("127.0.0.1", "127.0.0.1", [200, 429, 429]),  # the name of a file, which is no address
    ],
)
@on_one_loop
async def test_a_proxy_on_a_unix_socket(
    trusted: str,
    own_end: str,
    statuses: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(tmp_path)
    rates = {"rate_limit_msgs_per_sec": 0.01, "rate_limit_burst": 1}
    settings = make_settings(host="unix:pubsub.sock", trusted_proxies=trusted, mode="debug", **rates)
    runner = web.AppRunner(create_app(settings))
    await runner.setup()
    listener = await listen(runner, settings)
    found = [await status_over_unix(own_end, address) for address in ("192.0.2.1", "192.0.2.2", "192.0.2.2")]
    listener.close()
    await runner.cleanup()
    assert found == statuses
    assert ("192.0.2.2 GET /topics" if trusted == "unix" else "unix GET /topics") in caplog.text


async def status_over_unix(own_end: str, forwarded_for: str) -> int:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        if own_end:
            bind_anew(sock, own_end)
        await asyncio.get_running_loop().sock_connect(sock, "pubsub.sock")
        client = RawClient(sock)
        head = f"GET /topics HTTP/1.1\r\nHost: localhost\r\n{XFF}: {forwarded_for}\r\n\r\n"
        await client.send(head.encode())
        return (await client.read_response())[0]


def bind_anew(sock: socket.socket, path: str) -> None:
    Path(path).unlink(missing_ok=True)
    sock.bind(path)
