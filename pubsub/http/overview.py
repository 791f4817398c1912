"""``GET /admin/overview``: the state of the server and its last 15 minutes, which are kept for a page that is new."""

from __future__ import annotations

import time
from collections.abc import Iterable
from math import isnan
from typing import Final

import msgspec
from aiohttp import web
from msgspec import UNSET

from pubsub.auth.identity import Identity
from pubsub.auth.permissions import NOTHING
from pubsub.core.clock import spell
from pubsub.core.losses import Loss
from pubsub.http.app_keys import BROKER, CLUSTER, SERVICES
from pubsub.http.health import STATE, ServerState
from pubsub.http.identities import IDENTITY
from pubsub.http.metrics import SOURCES
from pubsub.http.rendering import render
from pubsub.http.scope import Others, ask_others, missing_of, read_cluster, server_of
from pubsub.metrics.samples import PLACE, Samples
from pubsub.protocol.dashboard import May, Overview, Series, ServerRow, State
from pubsub.protocol.replies import encode

SAMPLES: Final = web.AppKey("samples", Samples)
LOSSES: Final = [f"lost {reason.value}" for reason in Loss]
KIND: Final = "overview"

_decode_row = msgspec.json.Decoder(ServerRow).decode


async def show_overview(request: web.Request) -> web.Response:
    """The sums of queues are those of the last sample: to make them takes a look at each client that lags."""
    app, cluster = request.app, read_cluster(request)
    others = await ask_others(cluster, KIND)
    broker, services, samples, state = app[BROKER], app[SERVICES], app[SAMPLES], app[STATE]
    uptime = time.monotonic() - state.started
    report = Overview(
        run=state.run,
        state=state_of(state, broker.failure),
        reason=broker.failure or UNSET,
        version=app[SOURCES].version,
        started=spell(round(time.time() - uptime)),
        uptime_sec=int(uptime),
        may=rights_of(request[IDENTITY]),
        topics=broker.topic_count,
        subscribers=broker.subscriber_count,
        connections=len(services.connections),
        lagging=last_of(samples, "lagging"),
        queued=last_of(samples, "queued"),
        lost=samples.grown("lost "),
        ended=samples.grown("ended "),
        arrivals=samples.arrivals,
        series=series_of(samples),
        server=server_of(app),
        servers=UNSET if cluster is None else servers_of(app, cluster.server, others),
        missing=missing_of(others.missing),
    )
    return render(report)


def servers_of(app: web.Application, server: str, others: Others) -> list[ServerRow]:
    rows = [describe_server(app, server), *map(_decode_row, others.found.values())]
    return sorted(rows, key=lambda row: row.server)


async def answer_overview(app: web.Application, _: bytes) -> bytes:
    """The row of this server, for another one."""
    return encode(describe_server(app, app[CLUSTER].server))


def describe_server(app: web.Application, server: str) -> ServerRow:
    broker, samples, state = app[BROKER], app[SAMPLES], app[STATE]
    return ServerRow(
        server=server,
        state=state_of(state, broker.failure),
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


def last_of(samples: Samples, name: str) -> int:
    """The newest sample; 0 if the server has only begun."""
    return int(samples.rows[-1][PLACE[name]]) if samples.rows else 0


def state_of(state: ServerState, failure: str) -> State:
    if state.draining:
        return "draining"
    return "degraded" if failure else "ok"


def rights_of(identity: Identity) -> May:
    return May(publish=identity.publishes != NOTHING, change=identity.admin)


def series_of(samples: Samples) -> Series:
    return Series(
        at=whole(samples.column("at")),
        published=rounded(samples.rate("published")),
        delivered=rounded(samples.rate("delivered")),
        delivered_bytes=rounded(samples.rate("delivered_bytes")),
        lost=rounded(samples.rate(*LOSSES)),
        p50_ms=milliseconds(samples.column("p50")),
        p99_ms=milliseconds(samples.column("p99")),
        loop_lag_ms=milliseconds(samples.column("loop_lag")),
        memory_bytes=whole(samples.column("memory")),
        connections=whole(samples.column("connections")),
        queued=whole(samples.column("queued")),
    )


def whole(numbers: Iterable[float]) -> list[int]:
    return [round(each) for each in numbers]


def rounded(numbers: Iterable[float]) -> list[float]:
    return [round(each, 2) for each in numbers]


def milliseconds(seconds: Iterable[float]) -> list[float | None]:
    return [None if isnan(each) else round(each * 1000, 3) for each in seconds]
