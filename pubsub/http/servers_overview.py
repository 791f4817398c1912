"""``GET /admin/overview``: the state of the server, and of several servers a row for each.

A proxy may lead each call of a page to another server. A cookie names the one that the page saw first, and every other
one gets the overview from there. The cookie is no credential: it only chooses among servers.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from msgspec import structs

from pubsub.http.app_keys import BROKER, CLUSTER, SERVICES
from pubsub.http.health import STATE
from pubsub.http.identities import IDENTITY
from pubsub.http.metrics import SOURCES
from pubsub.http.overview import SAMPLES, describe_overview, last_of, rights_of, rounded, state_of
from pubsub.http.rendering import render
from pubsub.http.scope import Others, ask_others, missing_of, read_cluster
from pubsub.protocol.dashboard import Overview, ServerRow
from pubsub.protocol.replies import encode

if TYPE_CHECKING:
    from pubsub.cluster.cluster import Cluster

ROW: Final = "server"
WHOLE: Final = "overview"
COOKIE: Final = "pubsub-server"

_decode_row = msgspec.json.Decoder(ServerRow).decode
_decode_overview = msgspec.json.Decoder(Overview).decode


async def show_overview(request: web.Request) -> web.Response:
    cluster, may = read_cluster(request), rights_of(request[IDENTITY])
    if cluster is None:
        return render(structs.replace(describe_overview(request.app), may=may))
    overview = structs.replace(await describe_servers(request, cluster), may=may)
    response = render(overview)
    if isinstance(overview.server, str):
        response.set_cookie(COOKIE, overview.server, path="", httponly=True, samesite="Strict")
    return response


async def describe_servers(request: web.Request, cluster: Cluster) -> Overview:
    """The overview of the server that the page shows, with a row for each server."""
    app, chosen = request.app, request.cookies.get(COOKIE, "")
    others, whole = await asyncio.gather(
        ask_others(cluster, ROW),
        ask_others(cluster, WHOLE, servers=[chosen] if chosen in cluster.members.others else []),
    )
    found = [_decode_overview(each) for each in whole.found.values()]
    return structs.replace(
        found[0] if found else describe_overview(app),
        run="",  # not that of one server: the page would take another one for a restart
        servers=rows_of(app, others),
        missing=missing_of(others.missing),
    )


def rows_of(app: web.Application, others: Others) -> list[ServerRow]:
    rows = [describe_server(app), *map(_decode_row, others.found.values())]
    return sorted(rows, key=lambda row: row.server)


def describe_server(app: web.Application) -> ServerRow:
    broker, samples, state = app[BROKER], app[SAMPLES], app[STATE]
    return ServerRow(
        server=app[CLUSTER].server,
        state=state_of(app),
        version=app[SOURCES].version,
        uptime_sec=int(time.monotonic() - state.started),
        connections=len(app[SERVICES].connections),
        subscribers=broker.subscriber_count,
        lagging=last_of(samples, "lagging"),
        queued=last_of(samples, "queued"),
        published=rounded(samples.rate("published"))[-1],
        delivered=rounded(samples.rate("delivered"))[-1],
        memory_bytes=last_of(samples, "memory"),
    )


# Answers to other servers


async def answer_row(app: web.Application, _: bytes) -> bytes:
    return encode(describe_server(app))


async def answer_overview(app: web.Application, _: bytes) -> bytes:
    return encode(describe_overview(app))
