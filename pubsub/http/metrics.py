"""``GET /metrics``: all metrics, for Prometheus."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Final

from aiohttp import web

from pubsub.http.server_header import SERVER
from pubsub.metrics.merging import OtherWorkers
from pubsub.metrics.sources import Sources

SOURCES: Final = web.AppKey("sources", Sources)
OTHER_WORKERS: Final[web.AppKey[OtherWorkers]] = web.AppKey("other_workers")


async def show_metrics(request: web.Request) -> web.Response:
    if "pubsub.metrics.exposition" not in sys.modules:
        await asyncio.to_thread(import_module, "pubsub.metrics.exposition")  # 30 ms, and 2 MiB from now on
    from pubsub.metrics.exposition import choose_form, write_metrics

    form = choose_form(request.headers.get("Accept", ""))
    body = await write_metrics(request.app[SOURCES], form, request.app.get(OTHER_WORKERS))
    return web.Response(body=body, headers={"Content-Type": form.content_type, "Server": SERVER})
