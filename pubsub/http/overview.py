"""The state of this server and its last 15 minutes, which are kept for a page that is new."""

from __future__ import annotations

import time
from collections.abc import Iterable
from math import isnan
from typing import Final

from aiohttp import web
from msgspec import UNSET

from pubsub.auth.identity import Identity
from pubsub.auth.permissions import NOTHING
from pubsub.core.clock import spell
from pubsub.core.losses import Loss
from pubsub.http.app_keys import BROKER, SERVICES
from pubsub.http.health import STATE, failure_of
from pubsub.http.metrics import SOURCES
from pubsub.http.scope import server_of
from pubsub.metrics.samples import PLACE, Samples
from pubsub.protocol.dashboard import May, Overview, Series, State

SAMPLES: Final = web.AppKey("samples", Samples)
LOSSES: Final = [f"lost {reason.value}" for reason in Loss]
NO_RIGHTS: Final = May(publish=False, change=False)


def describe_overview(app: web.Application) -> Overview:
    """The state of this server, without rights.

    The sums of queues are those of the last sample: to make them takes a look at each client that lags.
    """
    broker, services, samples, state = app[BROKER], app[SERVICES], app[SAMPLES], app[STATE]
    uptime = time.monotonic() - state.started
    return Overview(
        run=state.run,
        state=state_of(app),
        reason=failure_of(app) or UNSET,
        version=app[SOURCES].version,
        started=spell(round(time.time() - uptime)),
        uptime_sec=int(uptime),
        may=NO_RIGHTS,
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
    )


def last_of(samples: Samples, name: str) -> int:
    """The newest sample; 0 if the server has only begun."""
    return int(samples.rows[-1][PLACE[name]]) if samples.rows else 0


def state_of(app: web.Application) -> State:
    if app[STATE].draining:
        return "draining"
    return "degraded" if failure_of(app) else "ok"


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
