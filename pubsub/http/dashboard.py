"""``GET /admin``: the dashboard, one page of static files. What it shows it asks for by calls of its own.

Nothing here opens a file that a client names: a name is looked up in the list of the files that there are.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from aiohttp import web

from pubsub.http.server_header import SERVER
from pubsub.http.static_files import CONTENT_TYPES, FOLDER, answer_file, find_file

PAGE: Final = "admin/page.html"
FOLDERS: Final = ("admin", "vendor")
# Scripts, styles and answers come from this server alone; nothing is written into the page or evaluated.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def lead_to_page(request: web.Request) -> web.Response:
    """Lead from ``/`` to the dashboard, by a relative path: a proxy may serve both below another one."""
    return web.Response(status=302, headers={"Location": "admin", "Server": SERVER})


async def show_page(request: web.Request) -> web.Response:
    response = answer_file(request, await find_file(PAGE))
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


async def serve_part(request: web.Request) -> web.Response:
    """A script or a style of the page."""
    path = parts().get(request.match_info["file"])
    if path is None:
        raise web.HTTPNotFound
    return answer_file(request, await find_file(path))


@cache
def parts() -> dict[str, str]:
    """The path of each file of the page by its name."""
    return {
        each.name: f"{folder}/{each.name}"
        for folder in FOLDERS
        for each in (FOLDER / folder).iterdir()
        if each.suffix in CONTENT_TYPES
    }
