"""WebSocket libraries for Python: each function opens a connection that sends and receives texts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import picows
import websockets

from tests.compat.contract import Wire


class WebsocketsWire:
    def __init__(self, connection: websockets.ClientConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        await self._connection.send(text)

    async def receive(self) -> str:
        return await self._connection.recv(decode=True)

    async def close(self) -> None:
        await self._connection.close()

    async def closed(self) -> int:
        with suppress(websockets.ConnectionClosed):
            while True:
                await self._connection.recv()
        return self._connection.close_code or 0


@asynccontextmanager
async def open_websockets(url: str) -> AsyncIterator[Wire]:
    async with websockets.connect(url) as connection:
        yield WebsocketsWire(connection)


class AiohttpWire:
    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket

    async def send(self, text: str) -> None:
        await self._websocket.send_str(text)

    async def receive(self) -> str:
        return await self._websocket.receive_str()

    async def close(self) -> None:
        await self._websocket.close()

    async def closed(self) -> int:
        async for _ in self._websocket:
            pass
        return self._websocket.close_code or 0


@asynccontextmanager
async def open_aiohttp(url: str) -> AsyncIterator[Wire]:
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as websocket:
        yield AiohttpWire(websocket)


class PicowsWire(picows.WSListener):
    def __init__(self) -> None:
        super().__init__()
        self._texts: asyncio.Queue[str] = asyncio.Queue()
        self._code = 0

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            self._code = frame.get_close_code().value
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            self._texts.put_nowait(frame.get_payload_as_utf8_text())

    async def send(self, text: str) -> None:
        self._transport.send(picows.WSMsgType.TEXT, text.encode())

    async def receive(self) -> str:
        return await self._texts.get()

    async def close(self) -> None:
        self._transport.send_close(picows.WSCloseCode.OK)
        await self._transport.wait_disconnected()

    async def closed(self) -> int:
        await self._transport.wait_disconnected()
        return self._code


@asynccontextmanager
async def open_picows(url: str) -> AsyncIterator[Wire]:
    wire = PicowsWire()
    transport, _ = await picows.ws_connect(lambda: wire, url)
    yield wire
    transport.disconnect()
    await transport.wait_disconnected()
