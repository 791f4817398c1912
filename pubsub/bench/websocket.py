"""A light WebSocket client, for the frames of this project's server. It must never know publish/subscribe."""

import base64
import hashlib
import os
import re
from collections.abc import Set
from typing import ClassVar, Final

from pubsub.bench.wire import Wire
from pubsub.client import ServerFault
from pubsub.client.close_codes import NORMAL_CLOSURE, explain_close
from pubsub.client.frames import (
    FIN_CLOSE,
    FIN_DEFLATED,
    FIN_PING,
    FIN_PONG,
    FIN_TEXT,
    KINDS,
    FrameBounds,
    client_frame,
    read_frame,
)

_RFC_6455_UUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocket(Wire):
    """One client. A subclass defines :meth:`take` for text frames and :meth:`fail` for the end of the connection.

    ``KINDS`` are the first bytes of the frames that may come.
    """

    STATUS = 101
    KINDS: ClassVar[Set[int]] = KINDS

    def __init__(self) -> None:
        super().__init__()
        self._key = base64.b64encode(os.urandom(16))

    def take(self, received: bytes, frame: FrameBounds) -> None:
        """Take a text frame."""
        raise NotImplementedError

    def send(self, payload: bytes) -> None:
        self.write(client_frame(FIN_TEXT, payload, os.urandom(4)))

    def take_one(self, received: bytes, position: int) -> int:
        frame = read_frame(received, position, self.KINDS)
        if frame is None:
            return position
        payload = received[frame.start : frame.end]
        if frame.first in (FIN_TEXT, FIN_DEFLATED):
            self.take(received, frame)
        elif frame.first == FIN_PING:
            self.write(client_frame(FIN_PONG, payload, os.urandom(4)))
        elif frame.first == FIN_CLOSE:
            code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace")
            raise ServerFault(explain_close(code, reason).reason)
        return frame.end

    def head_fields(self) -> str:
        key = self._key.decode()
        return f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"

    def check_head(self, head: bytes) -> None:
        accept = base64.b64encode(hashlib.sha1(self._key + _RFC_6455_UUID, usedforsecurity=False).digest())
        if not re.search(rb"\r\nsec-websocket-accept: *" + re.escape(accept) + rb" *(\r|\Z)", head, re.IGNORECASE):
            raise ServerFault("the server's answer is not a WebSocket handshake")

    def last_words(self) -> bytes:
        return client_frame(FIN_CLOSE, NORMAL_CLOSURE.to_bytes(2, "big"), os.urandom(4))
