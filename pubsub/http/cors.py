"""Cross-origin resource sharing (the Fetch standard, 3.3): pages of ``ALLOWED_ORIGINS`` may call REST and read it.

Nothing is shared with other origins. Credentials go in header fields that a page sets itself, never in cookies, so no
answer has ``Access-Control-Allow-Credentials``.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from pubsub.http.routes import ROUTES
from pubsub.http.server_header import SERVER
from pubsub.http.sharing import is_shared, sharing_headers

REQUEST_HEADERS: Final = "Authorization, Content-Type, Last-Event-ID, X-API-Key"
MAX_AGE: Final = 7200  # seconds for which a browser remembers a preflight; Chromium's maximum
PREFLIGHT: Final = {
    # The same for every path: a page may send what comes to nothing, and read the 404 or 405.
    "Access-Control-Allow-Methods": ", ".join(sorted({method for route in ROUTES for method in route.methods})),
    "Access-Control-Allow-Headers": REQUEST_HEADERS,
    "Access-Control-Max-Age": str(MAX_AGE),
    "Server": SERVER,
}


def add_cors(app: web.Application) -> None:
    """Share every answer of the Application with the allowed origins, whatever makes it: a handler, a middleware, or
    aiohttp.

    A signal does it, since answers of aiohttp to an ``Expect`` pass no middleware.
    """
    app.middlewares.insert(0, answer_preflights)
    app.on_response_prepare.append(share_answer)


@web.middleware
async def answer_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer before access control: a preflight has no credentials, and counts for no rate."""
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers and is_shared(request):
        return web.Response(status=204, headers=PREFLIGHT)
    return await handler(request)


async def share_answer(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in sharing_headers(request).items():
        response.headers.add(name, value)
