"""What leans on the inside of aiohttp: how a socket changes hands after the handshake. Nothing else may.

aiohttp does HTTP and the whole handshake; then the transport goes to a Connection, in the same tick, and aiohttp's
request handler is told that its connection is gone (what Go calls hijacking). An idle connection then costs a fifth
of the memory that ``async for message in ws`` takes. tests/websocket/test_upgrade.py says clearly when a release of
aiohttp changes what this needs.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp._websocket.helpers import websocket_mask

__all__ = ["Handshake", "detach", "websocket_mask"]


class Handshake(web.WebSocketResponse):
    """The 101 alone: aiohttp must end it without writing to a socket that is no longer its own."""

    async def write_eof(self, data: bytes = b"") -> None:
        assert not data, "a handshake has no body"


def detach(request: web.Request) -> asyncio.Transport:
    """Take the transport from aiohttp. The caller must give it another protocol before it awaits anything.

    Raises ConnectionResetError where the client is gone already.
    """
    handler = request.protocol
    transport = handler.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client left during the handshake")
    handler.transport = None  # so that connection_lost does not close it
    handler.connection_lost(None)
    return transport
