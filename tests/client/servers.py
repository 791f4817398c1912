"""Servers with a script, for what a real one never does: each connection follows the next script."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.harness import PATIENCE, Json

Script = Callable[[web.WebSocketResponse], Awaitable[None]]
TS = "2025-08-25T10:00:00Z"


class ScriptedServer:
    """See the module. ``requests`` has the handshakes; ``url`` is the server's."""

    def __init__(self, *scripts: Script) -> None:
        self.requests: list[web.Request] = []
        self.url = ""
        self._scripts = iter(scripts)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        script = next(self._scripts, staying)
        if isinstance(script, Refusal):
            return web.Response(status=script.status)
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await script(websocket)
        return websocket


class Refusal:
    """A handshake that is answered with this status."""

    def __init__(self, status: int) -> None:
        self.status = status

    async def __call__(self, websocket: web.WebSocketResponse) -> None:
        raise AssertionError("there is no WebSocket")


@contextlib.asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[ScriptedServer]:
    """Run such a server. After the last script, connections are served as by :func:`staying`."""
    scripted = ScriptedServer(*scripts)
    app = web.Application()
    app.router.add_get("/ws", scripted.serve)
    async with TestServer(app) as server:
        scripted.url = str(server.make_url("/"))
        yield scripted


async def staying(websocket: web.WebSocketResponse) -> None:
    """Answer every request positively until the client goes."""
    async for message in websocket:
        request = message.json()
        if request["type"] == "ping":
            await websocket.send_json({"type": "pong", "ts": TS})
        else:
            await send_ack(websocket, request, epoch="e", seq=0)


async def silent(websocket: web.WebSocketResponse) -> None:
    """Read everything, and answer nothing."""
    async for _ in websocket:
        pass


def closing(code: int) -> Script:
    async def script(websocket: web.WebSocketResponse) -> None:
        await websocket.close(code=code, message=b"reason")

    return script


def transport_of(websocket: web.WebSocketResponse) -> asyncio.Transport:
    assert websocket._req is not None
    assert websocket._req.transport is not None
    return websocket._req.transport


async def next_request(websocket: web.WebSocketResponse) -> Json:
    request: Json = await websocket.receive_json(timeout=PATIENCE)
    return request


async def send_ack(websocket: web.WebSocketResponse, request: Json, **fields: Any) -> None:
    answer = {"type": "ack", "request_id": request["request_id"], "topic": request.get("topic", ""), "ts": TS}
    await websocket.send_json(answer | fields)


async def send_event(websocket: web.WebSocketResponse, seq: int, payload: Any = None, topic: str = "t") -> None:
    message = {"id": f"m{seq}", "payload": payload}
    await websocket.send_json({"type": "event", "topic": topic, "message": message, "seq": seq, "ts": TS})
