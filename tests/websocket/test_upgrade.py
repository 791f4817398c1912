"""Internals of aiohttp on which websocket/upgrade.py, http/pipeline.py and http/request_handler.py of pubsub depend.

If tests fail after an update of aiohttp, start here: each message names the missing behaviour, and the file of the
project that depends on it.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.http import HttpRequestParser
from aiohttp.web_protocol import RequestHandler

from pubsub.http.app_keys import CONNECTIONS
from pubsub.http.request_handler import TimedRequestHandler
from pubsub.websocket.connection import Connection
from pubsub.websocket.upgrade import Handshake, websocket_mask
from tests.harness import RawClient, Server, eventually, masked_frame, on_one_loop, run_server


def require(holds: object, what: str, *, see: str = "pubsub/websocket/upgrade.py") -> None:
    assert holds, f"aiohttp {aiohttp.__version__}: {what}: see {see}"


def make_handler() -> Any:
    """Make a request handler as the server does, without a connection."""

    async def nothing(request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError("nobody asks")

    return RequestHandler(web.Server(nothing), loop=asyncio.get_running_loop())


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("transport", "handover.py"),
        ("connection_lost", "handover.py"),
        ("_messages", "pipeline.py"),
        ("_parser", "pipeline.py"),
        ("_read_bufsize", "pipeline.py"),
        ("_close", "pipeline.py"),
        ("_force_close", "pipeline.py"),
        ("_reading_paused", "pipeline.py"),
        ("_buffer_paused", "pipeline.py"),
        ("_pause_reading_for_buffer", "pipeline.py"),
        ("_resume_reading_for_buffer", "pipeline.py"),
        ("_resume_reading_if_drained", "pipeline.py"),
        ("_process_keepalive", "server.py"),
        ("_keepalive_handle", "server.py"),
        ("_request_in_progress", "server.py"),
        ("_loop", "server.py"),
        ("_manager", "pipeline.py"),
        ("_task_handler", "pipeline.py"),
        ("start", "pipeline.py"),
        ("finish_response", "server.py"),
        ("handle_error", "server.py"),
        ("data_received", "pipeline.py"),
        ("connection_made", "server.py"),
        ("force_close", "server.py"),
        ("log_exception", "server.py"),
    ],
)
@on_one_loop
async def test_the_request_handler_has_what_is_used(name: str, file: str) -> None:
    require(hasattr(make_handler(), name), f"RequestHandler has no {name} any more", see=f"pubsub/{file}")


@pytest.mark.parametrize("fields", [b"", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"])
async def test_the_parser_stops_at_the_end_of_a_request(fields: bytes) -> None:
    """The parser also stops after an upgrade request: the server must see the next bytes before aiohttp drops them."""
    handler = make_handler()
    parser = HttpRequestParser(handler, handler._loop, 1 << 16, max_msg_queue_size=1)
    messages, upgraded, tail = parser.feed_data(b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n" % fields * 2)
    require((len(messages), upgraded, tail) == (1, False, b""), "more is parsed", see="pubsub/http/pipeline.py")


async def test_what_is_overridden_has_the_same_parameters() -> None:
    for name in ("finish_response", "handle_error", "data_received", "connection_made", "connection_lost"):
        theirs = list(inspect.signature(getattr(RequestHandler, name)).parameters)
        ours = list(inspect.signature(getattr(TimedRequestHandler, name)).parameters)
        require(ours == theirs, f"RequestHandler.{name} takes {theirs}", see="pubsub/http/request_handler.py")
    wanted = [name for name in inspect.signature(web.StreamResponse.write_eof).parameters if name != "self"]
    taken = list(inspect.signature(Handshake.write_eof).parameters)
    require(set(wanted) <= set(taken), f"StreamResponse.write_eof takes {wanted}")
    require(hasattr(web.WebSocketResponse, "_handshake"), "WebSocketResponse has no _handshake any more")


def test_the_mask_is_taken_off_in_place() -> None:
    payload = bytearray(b"hello, world")
    websocket_mask(b"\x12\x34\x56\x78", payload)
    masked = masked_frame(0x81, b"hello, world")
    require(bytes(payload) == masked[6:], "websocket_mask(mask, payload) no longer masks payload in place")


START_OF_A_SERVER = """
import os, ssl, sys
from pubsub.system.programs import without_ca_certificates
assert "aiohttp" not in sys.modules, "aiohttp is imported before the certificates are hidden"
before = dict(os.environ), ssl.create_default_context().cert_store_stats()
with without_ca_certificates():
    import pubsub.app
assert before == (dict(os.environ), ssl.create_default_context().cert_store_stats()), "they stay hidden"
from aiohttp import connector
print(connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509"])
"""


def test_a_server_loads_no_ca_certificates_for_a_client(tmp_path: Path) -> None:
    """One of the variables is set, the other is not: afterwards both are unchanged."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT_")}
    done = subprocess.run(
        [sys.executable, "-c", START_OF_A_SERVER],
        env=environment | {"SSL_CERT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    require(int(done.stdout) == 0, "its client still loads CA certificates", see="pubsub/__main__.py")


def handlers_alive() -> int:
    return sum(isinstance(each, RequestHandler) for each in gc.get_objects())


async def test_after_the_change_of_hands_aiohttp_holds_nothing_of_the_connection() -> None:
    async with run_server() as server:
        gc.collect()
        tasks, handlers = len(asyncio.all_tasks()), handlers_alive()
        clients = [await RawClient.connect(server.port, path=f"/ws?client_id=c{number}") for number in range(20)]
        await eventually(lambda: server.connections == len(clients))
        await asyncio.sleep(0)
        held = server.runner.server
        assert held is not None
        require(not held.connections, "the server still counts a detached connection")
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
        gc.collect()
        left = handlers_alive() - handlers
        require(left == 0, f"{left} request handlers of {len(clients)} remain after the upgrade")
        for client in clients:
            await client.send_text({"type": "ping"})
            assert (await client.receive())["type"] == "pong"
        for connection in open_connections(server):
            transport = connection._transport
            require(transport.get_protocol() is connection, "the transport does not have its new protocol")
            nodelay = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            require(nodelay, "TCP_NODELAY is not set on accepted connections any more", see="pubsub/http/listener.py")


def open_connections(server: Server) -> list[Connection]:
    return [peer for peer in server.app[CONNECTIONS]._open if isinstance(peer, Connection)]


async def test_without_a_gc_run_a_handler_is_free_at_once() -> None:
    """Otherwise 10,000 connects would leave 100 MB of garbage until the collector runs."""
    async with run_server() as server:
        gc.collect()
        before = handlers_alive()
        gc.disable()
        try:
            for number in range(20):
                await RawClient.connect(server.port, path=f"/ws?client_id=c{number}")
            await eventually(lambda: server.connections == 20)
            await asyncio.sleep(0)
            left = handlers_alive() - before
        finally:
            gc.enable()
        require(left <= 1, f"{left} request handlers of 20 wait for the garbage collector")


@pytest.mark.parametrize("pieces", [1, 2])
async def test_what_comes_right_behind_the_handshake_is_not_lost_silently(pieces: int) -> None:
    """Bytes in the same piece are refused before the upgrade; bytes after the 101 are served."""
    async with run_server() as server:
        client = await RawClient.connect_tcp(server.port)
        head = (
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        frame = masked_frame(0x81, b'{"type":"ping"}')
        if pieces == 1:
            await client.send(head + frame)
            answer = await client.read_until(b"\r\n\r\n")
            require(
                answer.startswith(b"HTTP/1.1 400 "),
                "the bytes after the head are not seen",
                see="pubsub/http/pipeline.py",
            )
        else:
            await client.send(head)
            answer = await client.read_until(b"\r\n\r\n")
            await client.send(frame)
            assert answer.startswith(b"HTTP/1.1 101 ")
            message = await client.receive()
            require(message["type"] == "pong", "bytes after the handshake do not reach the new protocol")


async def test_nothing_is_written_behind_the_101() -> None:
    async with run_server() as server:
        client = await RawClient.connect(server.port)
        await client.send(masked_frame(0x89, b"first"))
        frame = await client.read_frame()
        require(frame == (0x8A, b"first"), f"aiohttp writes {frame!r} to a detached socket")


async def test_a_client_that_leaves_during_the_handshake_leaves_nothing() -> None:
    async with run_server() as server:
        for _ in range(20):
            client = await RawClient.connect_tcp(server.port)
            await client.send(
                b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            client.reset()
        last = await RawClient.connect(server.port)
        await last.send_text({"type": "ping"})
        assert (await last.receive())["type"] == "pong"
        await eventually(lambda: server.connections == 1)
        held = server.runner.server
        assert held is not None
        await eventually(lambda: not held.connections)
