"""``GET /metrics``: all metrics, for Prometheus."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pubsub.http.server_header import SERVER
from pubsub.metrics.sources import Sources

if TYPE_CHECKING:
    from pubsub.metrics.merging import OtherWorkers

SOURCES: Final = web.AppKey("sources", Sources)
OTHER_WORKERS: Final[web.AppKey[OtherWorkers]] = web.AppKey("other_workers")


EXPOSITION: Final = "pubsub.metrics.exposition"
TURN: Final = 0.0005  # seconds that a thread may run while others wait, during the import
USUAL_TURN: Final = sys.getswitchinterval()  # 5 ms: so long the event loop would wait for the import


async def show_metrics(request: web.Request) -> web.Response:
    if EXPOSITION not in sys.modules:
        await asyncio.to_thread(import_exposition)
    from pubsub.metrics.exposition import choose_form, write_metrics

    form = choose_form(request.headers.get("Accept", ""))
    body = await write_metrics(request.app[SOURCES], form, request.app.get(OTHER_WORKERS))
    return web.Response(body=body, headers={"Content-Type": form.content_type, "Server": SERVER})


def import_exposition() -> None:
    """Import prometheus_client, in 10 ms and 2 MiB, in a thread that gives way to the event loop."""
    sys.setswitchinterval(TURN)
    try:
        import_module(EXPOSITION)
    finally:
        sys.setswitchinterval(USUAL_TURN)
