"""``GET /health`` and ``GET /stats``: the state of the server, and the counts of its topics."""

from __future__ import annotations

import secrets
import time
from typing import Final

from aiohttp import web
from msgspec import UNSET, UnsetType

from pubsub.core.topic import Topic
from pubsub.http.app_keys import BROKER, CLUSTER
from pubsub.http.identities import IDENTITY
from pubsub.http.rendering import render, render_bytes, render_rows
from pubsub.http.scope import missing_field, read_cluster
from pubsub.http.subscribers import count_elsewhere
from pubsub.protocol.answers import Health, Status, TopicStats
from pubsub.protocol.replies import encode


class ServerState:
    """The part of ``/health`` that the Broker does not know.

    ``draining``: shutdown has begun, but every client is still served. ``closing``: clients are being closed too.
    ``trouble``: the reason for which the server is degraded although its Broker is not.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.run = secrets.token_hex(4)
        self.trouble = ""
        self.draining = False
        self.closing = False
        self.journal_closed = False


STATE: Final = web.AppKey("state", ServerState)


def failure_of(app: web.Application) -> str:
    """The reason for which the server is degraded; empty if it is not."""
    return app[BROKER].failure or app[STATE].trouble


async def health(request: web.Request) -> web.Response:
    broker, state, cluster = request.app[BROKER], request.app[STATE], request.app.get(CLUSTER)
    failure = failure_of(request.app)
    status: Status | UnsetType = "draining" if state.draining else "degraded" if failure else UNSET
    report = Health(
        uptime_sec=int(time.monotonic() - state.started),
        topics=broker.topic_count,
        subscribers=broker.subscriber_count,
        status=status,
        reason=failure if status == "degraded" else UNSET,
        server=UNSET if cluster is None else cluster.server,
        servers=UNSET if cluster is None else cluster.servers,
    )
    return render(report, status=503 if state.draining else 200)


async def stats(request: web.Request) -> web.Response:
    identity = request[IDENTITY]
    elsewhere = await count_elsewhere(read_cluster(request))

    def row(topic: Topic) -> bytes | None:
        if not identity.may_subscribe(topic.name):
            return None
        return b"%b:%b" % (encode(topic.name), encode(TopicStats(topic.seq, elsewhere.of(topic))))

    rows = await render_rows(request.app[BROKER].topics, row)
    return render_bytes(b'{"topics":{%b}%b}' % (rows, missing_field(elsewhere.missing)))
