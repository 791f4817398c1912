"""A WebSocket that is read in batches. It depends on inner parts of aiohttp; this tells if a release changes them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import WSMsgType, web

from pubsub.client.socket import BATCH, Socket
from pubsub.protocol.frames import text_frame
from tests.client.servers import Script, scripted, silent, transport_of


@contextlib.asynccontextmanager
async def connect(script: Script) -> AsyncIterator[Socket]:
    async with scripted(script) as server, aiohttp.ClientSession(ws_response_class=Socket) as http:
        socket = await http.ws_connect(f"{server.url}ws", decode_text=False)
        assert isinstance(socket, Socket)
        yield socket
        await socket.close()


def sending(count: int) -> Script:
    """Send so many messages at once, then a ping."""

    async def script(websocket: web.WebSocketResponse) -> None:
        transport_of(websocket).write(b"".join(text_frame(b"%d" % number) for number in range(count)) + b"\x89\x00")
        await silent(websocket)

    return script


async def test_what_has_come_is_read_in_one_batch() -> None:
    async with connect(sending(50)) as socket:
        assert (await socket.receive()).data == b"0"
        found: list[bytes] = []
        await socket.read_batch(found.append, ())
        assert found == [b"%d" % number for number in range(1, 50)]


async def test_a_batch_has_a_limit() -> None:
    async with connect(sending(2 * BATCH)) as socket:
        await socket.receive()
        found: list[bytes] = []
        await socket.read_batch(found.append, ())
        assert len(found) == BATCH


async def test_a_batch_stops_when_it_is_told() -> None:
    async with connect(sending(50)) as socket:
        await socket.receive()
        found: list[bytes] = []
        await socket.read_batch(found.append, found)
        assert found == [b"1"]
        assert (await socket.receive()).data == b"2"


async def test_an_aborted_socket_is_at_its_end_at_once() -> None:
    async with connect(silent) as socket:
        assert socket.client_id == ""
        await socket.send_bytes(b"x" * 1_000_000)
        socket.abort()
        socket.abort()
        assert (await socket.receive()).type in (WSMsgType.CLOSED, WSMsgType.ERROR)
