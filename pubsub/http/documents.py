"""``GET /openapi.json``, ``/asyncapi.json`` and ``/docs``: the contract, made at the first request, then kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from pubsub.http.static_files import StaticFile, answer_file, make_file

# The page has no script, and nothing from elsewhere.
POLICY: Final = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Documents:
    """See the module. ``make(name)`` returns the content; it runs in a thread, because it takes 20 ms."""

    def __init__(self, make: Callable[[str], bytes]) -> None:
        self._make = make
        self._kept: dict[str, StaticFile] = {}

    async def find(self, name: str, content_type: str) -> StaticFile:
        if name not in self._kept:
            self._kept[name] = await asyncio.to_thread(self._read, name, content_type)
        return self._kept[name]

    def _read(self, name: str, content_type: str) -> StaticFile:
        return make_file(content_type, self._make(name))


DOCUMENTS: Final = web.AppKey("documents", Documents)


async def show_openapi(request: web.Request) -> web.Response:
    return answer_file(request, await request.app[DOCUMENTS].find("openapi.json", "application/json"))


async def show_asyncapi(request: web.Request) -> web.Response:
    return answer_file(request, await request.app[DOCUMENTS].find("asyncapi.json", "application/json"))


async def show_docs(request: web.Request) -> web.Response:
    response = answer_file(request, await request.app[DOCUMENTS].find("docs", "text/html"))
    response.headers["Content-Security-Policy"] = POLICY
    return response
