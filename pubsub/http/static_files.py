"""Files that never change while the server runs: compressed if that is accepted, not sent again if unchanged.

Scripts and styles of this project are sent without what only people need: a quarter of their bytes.
Nothing here opens a file that a client names: the routes do.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import ETag, web

from pubsub.http.compression import accepts_gzip
from pubsub.http.server_header import SERVER
from pubsub.http.squeezing import squeeze_script, squeeze_style

FOLDER: Final = Path(__file__).parent / "static"
CONTENT_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".ts": "application/typescript",
}
SQUEEZED: Final = {".css": squeeze_style, ".js": squeeze_script}
HEADERS: Final = {
    "Cache-Control": "no-cache",  # ask each time: after an upgrade the modules must fit each other
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
    "Server": SERVER,
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """The content of a file, and its gzip; ``etag`` is weak, because it stands for both."""

    content_type: str
    content: bytes
    compressed: bytes
    etag: ETag


def make_file(content_type: str, content: bytes) -> StaticFile:
    etag = ETag(hashlib.sha256(content).hexdigest()[:16], is_weak=True)
    return StaticFile(content_type, content, gzip.compress(content, mtime=0), etag)


_files: Final[dict[str, StaticFile]] = {}


async def find_file(name: str) -> StaticFile:
    """A file of the folder, as it is served. It is made once, in a thread: it takes up to 6 ms."""
    if name not in _files:
        _files[name] = await asyncio.to_thread(load_file, name)
    return _files[name]


def load_file(name: str) -> StaticFile:
    source, suffix = (FOLDER / name).read_text(encoding="utf-8"), Path(name).suffix
    squeeze = None if name.startswith("vendor/") else SQUEEZED.get(suffix)
    return make_file(CONTENT_TYPES[suffix], (squeeze(source) if squeeze else source).encode())


async def serve_file(request: web.Request) -> web.Response:
    """Answer with the file that the route is named after."""
    resource = request.match_info.route.resource
    assert resource is not None, "the router has found it"
    return answer_file(request, await find_file(resource.canonical.removeprefix("/")))


def answer_file(request: web.Request, file: StaticFile) -> web.Response:
    response = web.Response(headers=HEADERS, content_type=file.content_type, charset="utf-8")
    response.etag = file.etag
    if knows(request, file.etag):
        response.set_status(304)
    elif accepts_gzip(request):
        response.body = file.compressed
        response.headers["Content-Encoding"] = "gzip"
    else:
        response.body = file.content
    return response


def knows(request: web.Request, etag: ETag) -> bool:
    """True if the client has the file already (RFC 9110, 13.1.2)."""
    return any(known.value in (etag.value, "*") for known in request.if_none_match or ())
