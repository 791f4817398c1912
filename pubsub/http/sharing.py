"""The header fields that share an answer with a page of another origin (the Fetch standard, 3.3)."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from pubsub.http.origins import ORIGINS

RESPONSE_HEADERS: Final = "Retry-After, X-Client-Id"


def sharing_headers(request: web.Request) -> dict[str, str]:
    """Share an answer with the page that asks, if ``ALLOWED_ORIGINS`` has it; empty where that has nothing."""
    if not request.app[ORIGINS].allowed:
        return {}
    if not is_shared(request):
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": request.headers["Origin"],
        "Access-Control-Expose-Headers": RESPONSE_HEADERS,
    }


def is_shared(request: web.Request) -> bool:
    """True for a page of one of the listed origins."""
    return request.headers.get("Origin") in request.app[ORIGINS].allowed
