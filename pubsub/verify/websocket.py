"""A WebSocket frame by frame, as it comes through a proxy. It must never reconnect, and never hide an end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.client import HTTPMessage
from typing import Final

import msgspec
from msgspec import UNSET
from yarl import URL

from pubsub.client.credentials import Credentials
from pubsub.client.errors import ServerFault
from pubsub.client.frames import (
    EXTENSION,
    FIN_CLOSE,
    FIN_DEFLATED,
    FIN_PING,
    FIN_PONG,
    FIN_TEXT,
    MAX_FRAME_BYTES,
    client_frame,
    inflate,
)
from pubsub.client.replies import Error, Reply, decode, request_id_of
from pubsub.client.requests import Request as ClientRequest
from pubsub.client.requests import encode
from pubsub.verify.http import Address, Answer, Connection, Request, read_head

LEAST_WAIT_SEC: Final = 0.05
_RFC_6455_UUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class HandshakeRefused(Exception):
    """The answer to a handshake was no 101; ``answer`` is whole."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Closed(Exception):
    """The server sent a close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code}" + (f": {reason}" if reason else ""))
        self.code = code


class WebSocket:
    """An open WebSocket; ``fields`` are those of the handshake's answer, ``deflated`` counts deflated messages.

    ``compresses``: permessage-deflate is agreed on.
    """

    def __init__(self, connection: Connection, fields: HTTPMessage) -> None:
        self.compresses = EXTENSION in fields.get("Sec-WebSocket-Extensions", "")
        self.deflated = 0
        self._connection = connection
        self._numbers = itertools.count(1)
        self._earlier: deque[Reply] = deque()  # messages that came before the requested answer

    async def ask(self, request: ClientRequest) -> Reply:
        """Send a request; return its answer. A rate is waited for. Raises Closed, ServerFault, OSError."""
        while isinstance(reply := await self._ask_once(request), Error) and reply.error.code == "RATE_LIMITED":
            wait = reply.error.retry_after_ms
            await asyncio.sleep(LEAST_WAIT_SEC if wait is UNSET else max(LEAST_WAIT_SEC, wait / 1000))
        return reply

    async def _ask_once(self, request: ClientRequest) -> Reply:
        name = f"verify-{next(self._numbers)}"
        await self.send(encode(msgspec.structs.replace(request, request_id=name)))
        while request_id_of(reply := decode(await self.read_text())) != name:
            self._earlier.append(reply)
        return reply

    async def next(self) -> Reply:
        """Return the next message that answers no request of :meth:`ask`."""
        return self._earlier.popleft() if self._earlier else decode(await self.read_text())

    async def send(self, text: bytes) -> None:
        await self.send_bytes(client_frame(FIN_TEXT, text, os.urandom(4)))

    async def send_bytes(self, sent: bytes) -> None:
        """Send any bytes, which need be no frame."""
        await self._connection.write(sent)

    async def read_text(self) -> bytes:
        """Read up to the next text, and answer the pings before it."""
        while True:
            first, payload = await self._read_frame()
            if first == FIN_TEXT:
                return payload
            if first == FIN_DEFLATED and self.compresses:
                self.deflated += 1
                return inflate(payload)
            if first == FIN_PING:
                await self.send_bytes(client_frame(FIN_PONG, payload, os.urandom(4)))
            elif first == FIN_CLOSE:
                raise Closed(int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace"))
            elif first != FIN_PONG:
                raise ServerFault(f"expected a WebSocket frame, got one that begins with {first:#x}")

    async def _read_frame(self) -> tuple[int, bytes]:
        first, size = await self._connection.read_exactly(2)
        if size > 127:
            raise ServerFault("expected a WebSocket frame of a server, got a masked one")
        if size > 125:
            size = int.from_bytes(await self._connection.read_exactly(2 if size == 126 else 8), "big")
        if size > MAX_FRAME_BYTES:
            raise ServerFault(f"expected a frame of at most {MAX_FRAME_BYTES:,} bytes, got one of {size:,}")
        return first, await self._connection.read_exactly(size) if size else b""


@asynccontextmanager
async def open_websocket(
    address: Address, client_id: str, credentials: Credentials, fields: Mapping[str, str] = {}
) -> AsyncIterator[WebSocket]:
    """Do the handshake with ``fields`` beside those it needs. Raises HandshakeRefused, ServerFault, OSError."""
    key = base64.b64encode(os.urandom(16))
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key.decode(),
    }
    path = URL.build(path="/ws", query={"client_id": client_id}).raw_path_qs
    request = Request("GET", path, handshake | credentials.headers | dict(fields))
    async with address.connect() as connection:
        await connection.write(request.encode(address))
        response = await read_head(connection)
        if response.status != 101:
            body = b"".join([piece async for piece in response.pieces()])
            raise HandshakeRefused(Answer(response.status, response.fields, body))
        expected = base64.b64encode(hashlib.sha1(key + _RFC_6455_UUID, usedforsecurity=False).digest()).decode()
        if response.fields.get("Sec-WebSocket-Accept", "").strip() != expected:
            raise ServerFault("the answer to the handshake is not that of this request (Sec-WebSocket-Accept)")
        yield WebSocket(connection, response.fields)
