"""The compression of answers over HTTP with gzip, for clients that accept it. Streams have their own (sse/gzip.py)."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

_NO_WEIGHT: Final = re.compile(r"q\s*=\s*0(\.0{0,3})?")


def accepts_gzip(request: web.Request) -> bool:
    """True if the client accepts gzip, by this name, its old one or "*" (RFC 9110, 12.5.3 and 8.4.1.3)."""
    weights: dict[str, bool] = {}
    for each in ",".join(request.headers.getall("Accept-Encoding", ())).split(","):
        name, _, parameter = each.partition(";")
        weights[name.strip().lower()] = _NO_WEIGHT.fullmatch(parameter.strip()) is None
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", False)))


def compress_answers(least: int) -> Middleware:
    """Make a middleware that compresses whole answers of at least so many bytes. aiohttp does long ones in a thread."""

    @web.middleware
    async def compress(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if is_compressible(response, least):
            response.headers.add("Vary", "Accept-Encoding")
            if accepts_gzip(request):
                response.enable_compression(web.ContentCoding.gzip)
        return response

    return compress


def is_compressible(response: web.StreamResponse, least: int) -> bool:
    """True for a whole answer of at least so many bytes that has no coding yet."""
    if not isinstance(response, web.Response) or "Content-Encoding" in response.headers:
        return False
    return isinstance(response.body, bytes) and len(response.body) >= least
