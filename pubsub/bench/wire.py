"""A WebSocket client that is lighter than aiohttp's: a transport and a handshake, no task and no queue.

It reads the frames of this project's server, and must never know publish/subscribe.
"""

import asyncio
import base64
import hashlib
import os
import re
from typing import Final, cast

from yarl import URL

from pubsub.client.address import ANSWER_WAIT_SEC, Unreachable, connect_error
from pubsub.client.close_codes import NORMAL_CLOSURE, explain_close, explain_refusal
from pubsub.client.credentials import Credentials
from pubsub.client.frames import (
    FIN_CLOSE,
    FIN_PING,
    FIN_PONG,
    FIN_TEXT,
    FrameBounds,
    ServerFault,
    client_frame,
    read_frame,
)

MAX_HEAD_BYTES: Final = 64 * 2**10
_RFC_6455_UUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Wire(asyncio.Protocol):
    """One client. A subclass defines :meth:`take` for text frames and :meth:`fail` for the end of the connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._key = base64.b64encode(os.urandom(16))
        self._open: asyncio.Future[None] | None = None  # until the handshake is done
        self._unfinished = b""  # a frame that has begun

    def take(self, received: bytes, frame: FrameBounds) -> None:
        """Take a text frame."""
        raise NotImplementedError

    def fail(self, reason: str) -> None:
        """Note that the connection ended, for this reason."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        return self._transport is None

    async def open(self, url: URL, credentials: Credentials) -> None:
        """Connect to ``url``; raises Unreachable."""
        loop = asyncio.get_running_loop()
        self._open = loop.create_future()
        try:
            async with asyncio.timeout(ANSWER_WAIT_SEC):
                tls = (credentials.tls or True) if url.scheme == "https" else None
                await loop.create_connection(lambda: self, str(url.host), int(url.port or 0), ssl=tls)
                self.write(self._request(url, credentials))
                await self._open
        except OSError as error:
            raise Unreachable(connect_error(url, error)) from None

    def send(self, payload: bytes) -> None:
        self.write(client_frame(FIN_TEXT, payload, os.urandom(4)))

    def write(self, sent: bytes) -> None:
        if self._transport is not None:
            self._transport.write(sent)

    def close(self) -> None:
        """Close; :meth:`fail` is not called, and nothing more is taken."""
        if self._transport is not None:
            self.write(client_frame(FIN_CLOSE, NORMAL_CLOSURE.to_bytes(2, "big"), os.urandom(4)))
            self._transport.close()
            self._transport = None

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        received = self._unfinished + data if self._unfinished else data
        try:
            if self._open is not None:
                received = self._read_head(received)
            self._unfinished = received[self.feed(received) :] if received and self._open is None else received
        except ServerFault as fault:
            self._end(str(fault))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection was lost{f': {exc}' if exc else ''}")

    def feed(self, received: bytes) -> int:
        """Take the whole frames in ``received``; return the end of the last."""
        position = 0
        while (frame := read_frame(received, position)) is not None:
            self.take_frame(received, frame)
            position = frame.end
        return position

    def take_frame(self, received: bytes, frame: FrameBounds) -> None:
        payload = received[frame.start : frame.end]
        if frame.first == FIN_TEXT:
            self.take(received, frame)
        elif frame.first == FIN_PING:
            self.write(client_frame(FIN_PONG, payload, os.urandom(4)))
        elif frame.first == FIN_CLOSE:
            code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace")
            raise ServerFault(explain_close(code, reason).reason)

    def _end(self, reason: str) -> None:
        if self._transport is None:
            return
        self._transport.abort()
        self._transport = None
        if self._open is None:
            self.fail(reason)
        elif not self._open.done():
            self._open.set_exception(Unreachable(reason))

    # The handshake

    def _request(self, url: URL, credentials: Credentials) -> bytes:
        host = url.raw_authority.rpartition("@")[2]
        head = f"GET {url.raw_path_qs} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in credentials.headers.items())
        return head.encode() + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + self._key + b"\r\n\r\n"

    def _read_head(self, received: bytes) -> bytes:
        """End the handshake once its answer is whole; return the bytes behind it."""
        head, end, following = received.partition(b"\r\n\r\n")
        if not end:
            if len(received) > MAX_HEAD_BYTES:
                raise ServerFault("the server's answer is not HTTP")
            return received
        self._check(head)
        if self._open is not None and not self._open.done():
            self._open.set_result(None)
        self._open = None
        return following

    def _check(self, head: bytes) -> None:
        status = re.match(rb"HTTP/1\.1 (\d{3})\b", head)
        if status is None:
            raise ServerFault("the server's answer is not HTTP")
        if status[1] != b"101":
            raise ServerFault(explain_refusal(int(status[1])).reason)
        accept = base64.b64encode(hashlib.sha1(self._key + _RFC_6455_UUID, usedforsecurity=False).digest())
        if not re.search(rb"\r\nsec-websocket-accept: *" + re.escape(accept) + rb" *(\r|\Z)", head, re.IGNORECASE):
            raise ServerFault("the server's answer is not a WebSocket handshake")
