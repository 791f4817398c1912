"""The Server header: every kind of answer names this server, and none names Python or aiohttp."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pubsub.core.broker import Broker
from pubsub.http.request_handler import MAX_HEAD
from tests.credentials import API_KEYS
from tests.harness import RawClient, Server, on_one_loop, run_server
from tests.http.test_tls import tls_server

UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
KEY = "X-API-Key: ops-key\r\n"


def request(line: str, fields: str = "", body: str = "") -> bytes:
    return f"{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{body}".encode()


BY_THE_APPLICATION = {
    "101": request("GET /ws", UPGRADE + "Sec-WebSocket-Version: 13\r\n"),
    "200": request("GET /health"),
    "400": request("POST /topics", KEY + "Content-Length: 1\r\n", "{"),
    "401": request("GET /topics"),
    "403": request("POST /topics", KEY + "Origin: https://evil.example\r\n"),
    "404": request("GET /nowhere", KEY),
    "405": request("PUT /topics", KEY),
    "413": request("POST /topics", KEY + "Content-Length: 1025\r\n", " " * 1025),
    "426": request("GET /ws", UPGRADE + "Sec-WebSocket-Version: 8\r\n"),
}
BY_THE_REQUEST_HANDLER = {
    "400 that is no HTTP": b"nonsense\r\n\r\n",
    "400 for a field that is none": request("GET /health", "no field\r\n"),
    "400 that means two things": request("POST /topics", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
    "417": request("GET /health", "Expect: nonsense\r\n"),
    "431 for a line": request(f"GET /{'x' * 9000}"),
    "431 for a head": b"GET / HTTP/1.1\r\n" + (b"X: " + b"y" * 8000 + b"\r\n") * (MAX_HEAD // 8000 + 1),
}
EACH = BY_THE_APPLICATION | BY_THE_REQUEST_HANDLER


async def head_of_answer(server: Server, sent: bytes) -> str:
    client = await RawClient.connect_tcp(server.port)
    await client.send(sent)
    return (await client.read_until(b"\r\n\r\n")).decode().lower()


def names_the_server(head: str, status: str) -> None:
    assert re.match(rf"http/1\.[01] {status} ", head)
    assert head.count("\r\nserver: ") == 1
    assert "\r\nserver: pubsub\r\n" in head
    assert "aiohttp" not in head
    assert "python" not in head


@pytest.mark.parametrize(("kind", "sent"), EACH.items(), ids=EACH)
@on_one_loop
async def test_an_answer_names_its_server(kind: str, sent: bytes) -> None:
    async with run_server(api_keys=API_KEYS, max_message_bytes=1024) as server:
        names_the_server(await head_of_answer(server, sent), kind[:3])


@on_one_loop
async def test_a_408_names_its_server() -> None:
    async with run_server(read_timeout_sec=0.1) as server:
        names_the_server(await head_of_answer(server, request("POST /topics", "Content-Length: 1\r\n")), "408")


@pytest.mark.parametrize("settings", [{}, {"allowed_origins": "https://a.example"}], ids=["alone", "with CORS"])
@on_one_loop
async def test_a_500_names_its_server(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "find_topic", None)
    async with run_server(**settings) as server:
        names_the_server(await head_of_answer(server, request("GET /topics/a")), "500")


@on_one_loop
async def test_a_preflight_names_its_server() -> None:
    async with run_server(allowed_origins="https://a.example") as server:
        asked = "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n"
        names_the_server(await head_of_answer(server, request("OPTIONS /topics", asked)), "204")


@on_one_loop
async def test_over_tls_too(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server, server.http.get("/health") as response:
        assert response.headers["Server"] == "pubsub"
