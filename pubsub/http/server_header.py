"""The header ``Server`` of every answer: the name of the program, and no version that would tell of its weak points."""

from __future__ import annotations

from typing import Final

from aiohttp import web

SERVER: Final = "pubsub"


async def name_server(request: web.Request, response: web.StreamResponse) -> None:
    """For every answer of an Application, the 101 of a WebSocket included."""
    response.headers["Server"] = SERVER
