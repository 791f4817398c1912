"""The takeover of a socket after the handshake. It is the only module that uses inner parts of aiohttp for it.

aiohttp does HTTP and the whole handshake; then a Connection takes over the transport, in the same tick, and aiohttp's
request handler is told that its connection is gone (Go calls this hijacking). An idle connection then costs a fifth of
the memory that ``async for message in ws`` takes. tests/websocket/test_upgrade.py reports when a release of aiohttp
changes what this needs.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web
from aiohttp._websocket.helpers import websocket_mask

__all__ = ["Handshake", "TakenOver", "detach", "websocket_mask"]


# aiohttp's rules of a handshake. As a response it would also make a reader and a writer of frames: 6 µs of 120.
_RULES: Final = web.WebSocketResponse(compress=False)


class Handshake(web.StreamResponse):
    """The 101 response alone: aiohttp must end it without a write to the socket, which is no longer its own.

    Raises HTTPBadRequest for a request that is no handshake.
    """

    def __init__(self, request: web.Request) -> None:
        headers, *_ = _RULES._handshake(request)
        super().__init__(status=101, headers=headers)
        self.force_close()

    async def write_eof(self, data: bytes = b"") -> None:
        assert not data, "a handshake has no body"


class TakenOver(web.StreamResponse):
    """The response of a request whose socket is no longer aiohttp's. Its new owner has written everything."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        pass

    async def write_eof(self, data: bytes = b"") -> None:
        pass


def detach(request: web.Request) -> asyncio.Transport:
    """Take the transport from aiohttp. The caller must give it another protocol before it awaits anything.

    Raises ConnectionResetError if the client is gone.
    """
    handler = request.protocol
    transport = handler.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client left during the handshake")
    handler.transport = None  # so that connection_lost does not close the transport
    handler.connection_lost(None)
    return transport
