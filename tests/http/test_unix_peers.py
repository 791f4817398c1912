"""Clients on a Unix socket, which have no address: one source for rates, failures and the log."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pubsub.app import create_app
from pubsub.lifecycle import listen
from tests.credentials import API_KEYS
from tests.harness import RawClient, eventually, make_settings

# Names that a client may give itself with bind(2): the server's side of the connection has the name as the address.
NAMES = {"nothing": None, "a path": "client", "an address": "192.0.2.7", "a colon": "a:b", "IPv6": "2001:db8::7",
         "a name without a file": "\0 client"}  # fmt: skip


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def unix_server(**chosen: Any) -> AsyncIterator[None]:
    settings = make_settings(host="unix:s", **chosen)
    runner = web.AppRunner(create_app(settings))
    await runner.setup()
    listener = await listen(runner, settings)
    try:
        yield
    finally:
        RawClient.close_all()
        listener.close()
        await runner.cleanup()


async def connect(name: str | None = None) -> RawClient:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    if name is not None:
        sock.bind(name)
    await asyncio.get_running_loop().sock_connect(sock, "s")
    return RawClient(sock)


async def ask(client: RawClient, head: str) -> int:
    await client.send(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    return (await client.read_response())[0]


@pytest.mark.parametrize("kind", NAMES)
async def test_who_has_a_wrong_key_is_logged_as_one_source(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async with unix_server(api_keys=API_KEYS):
        client = await connect(NAMES[kind])
        assert await ask(client, "GET /topics HTTP/1.1\nHost: x\nX-API-Key: wrong") == 401
    assert next(each for each in caplog.messages if "Not auth" in each).startswith("Not authenticated: unix: ")


async def test_the_rate_is_that_of_all_of_them() -> None:
    async with unix_server(rate_limit_msgs_per_sec=0.001, rate_limit_burst=1):
        statuses = [await ask(await connect(name), "GET /topics HTTP/1.1\nHost: x") for name in NAMES.values()]
        assert statuses == [200] + [429] * (len(NAMES) - 1)


@pytest.mark.parametrize("kind", NAMES)
async def test_the_access_log_names_no_address(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with unix_server(mode="debug"):
        assert await ask(await connect(NAMES[kind]), "GET /health HTTP/1.1\nHost: x") == 200
        await eventually(lambda: any(each.startswith("unix GET /health: 200 in") for each in caplog.messages))


@pytest.mark.parametrize(
    ("host", "status"), [("localhost", 201), ("pubsub", 201), ("127.0.0.1:8080", 201), ("attacker.example", 403)]
)
async def test_a_page_whose_name_was_made_to_mean_the_proxy_is_refused(host: str, status: int) -> None:
    """As over loopback: a request over a Unix socket came through a proxy, which may listen on loopback."""
    async with unix_server():
        head = f"POST /topics HTTP/1.1\nHost: {host}\nOrigin: http://{host}\nContent-Length: 17"
        client = await connect()
        await client.send(head.replace("\n", "\r\n").encode() + b'\r\n\r\n{"name":"orders"}')
        assert (await client.read_response())[0] == status


async def test_a_name_that_looks_like_a_trusted_proxy_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    async with unix_server(api_keys=API_KEYS, trusted_proxies="192.0.2.7"):
        client = await connect("192.0.2.7")
        assert await ask(client, "GET /topics HTTP/1.1\nHost: x\nX-API-Key: wrong\nX-Forwarded-For: 192.0.2.99") == 401
    assert next(each for each in caplog.messages if "Not auth" in each).startswith("Not authenticated: unix: ")


async def test_a_proxy_tells_whom_it_speaks_for_whatever_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async with unix_server(api_keys=API_KEYS, trusted_proxies="unix"):
        client = await connect("192.0.2.7")
        assert await ask(client, "GET /topics HTTP/1.1\nHost: x\nX-API-Key: wrong\nX-Forwarded-For: 192.0.2.99") == 401
    assert next(each for each in caplog.messages if "Not auth" in each).startswith("Not authenticated: 192.0.2.99: ")
