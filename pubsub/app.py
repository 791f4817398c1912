"""The only place where the parts meet: the Application, made from the settings."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pubsub import __version__
from pubsub.auth.quotas import Quotas
from pubsub.auth.tokens import Tokens
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.dead_letters import DeadLetters
from pubsub.core.histogram import Histogram
from pubsub.core.journal import random_epoch
from pubsub.http.access import check_access
from pubsub.http.addresses import add_proxies
from pubsub.http.app_keys import BROKER, CERTIFICATE, CONNECTIONS, DEAD_LETTERS, SERVICES, STREAMS
from pubsub.http.compression import compress_answers
from pubsub.http.cors import add_cors
from pubsub.http.documents import DOCUMENTS, Documents
from pubsub.http.freshness import heed_other_servers
from pubsub.http.health import STATE, ServerState
from pubsub.http.identities import IDENTITIES, Identities
from pubsub.http.inspection import SETTINGS
from pubsub.http.messages import make_id
from pubsub.http.metrics import SOURCES
from pubsub.http.origins import ORIGINS, Origins
from pubsub.http.overview import SAMPLES
from pubsub.http.proxies import Proxies
from pubsub.http.rendering import errors_as_json
from pubsub.http.routes import add_routes
from pubsub.http.tls import Certificate
from pubsub.journals import DATABASE
from pubsub.journals.memory import MemoryJournal
from pubsub.lifecycle import close_clients, close_journal, run
from pubsub.live import IN_FORCE, InForce, put_in_force, read_parts
from pubsub.metrics.samples import Samples, sampled
from pubsub.metrics.sources import LAGS, Sources
from pubsub.settings import Settings, listed
from pubsub.settings_shown import show_settings
from pubsub.sse.streams import Streams
from pubsub.system.cores import SharedCore
from pubsub.system.descriptors import connections_of_machine
from pubsub.system.loop_lag import measured_lag
from pubsub.system.malloc import given_back
from pubsub.websocket.peer import Limits
from pubsub.websocket.rules import ClientRules
from pubsub.websocket.services import Services

if TYPE_CHECKING:
    from pubsub.journals.shared.journal import SharedJournal
    from pubsub.journals.sqlite import SqliteJournal
    from pubsub.journals.workers.owner import Owner
    from pubsub.journals.workers.ownership import Ownership

OWNER: Final[web.AppKey[Owner]] = web.AppKey("owner")

log = logging.getLogger(__name__)


def create_app(settings: Settings, *, owning: str = "") -> web.Application:
    """The Application with all that it serves. Needs a running event loop.

    ``owning``: the path of the Unix socket at which it shares its topics with other processes; empty if it does not.
    """
    loop = asyncio.get_running_loop()
    clock = Clock()
    parts = read_parts(settings)
    app = web.Application(middlewares=[errors_as_json, check_access], client_max_size=settings.max_message_bytes)
    app[IN_FORCE] = InForce(settings, parts)
    app[STATE] = ServerState()
    journal = make_shared(settings, clock, loop)
    ownership = make_ownership(loop) if owning else None
    broker = app[BROKER] = make_broker(settings, clock, loop, journal, ownership)
    app[DEAD_LETTERS] = make_dead_letters(settings, broker, loop)
    app[ORIGINS] = Origins()
    app[CERTIFICATE] = Certificate()
    tokens = Tokens(parts.trust, check_filter=broker.filters.compile)
    app[IDENTITIES] = Identities(api_keys=parts.api_keys, tokens=tokens, rates=parts.rates)
    services = app[SERVICES] = make_services(settings, broker, clock, loop)
    app[CONNECTIONS] = services.connections
    app[STREAMS] = Streams(services, spread=settings.reconnect_spread_sec)
    put_in_force(app, parts)
    if journal is None:
        restore_topics(broker, settings)
    else:
        follow_engine(app, journal)
    if ownership is not None:
        share_topics(app, ownership, owning, settings, clock)
    app[DOCUMENTS] = Documents(make_document)
    set_up_metrics(app, settings)
    set_up_http(app, settings)
    set_up_end(app)
    return app


def set_up_end(app: web.Application) -> None:
    """Whatever ends with the Application."""
    connections = app[CONNECTIONS]
    app.cleanup_ctx.append(lambda _: given_back(lambda: connections.left))
    app.cleanup_ctx.append(keep_keys)
    app.on_shutdown.append(close_clients)
    app.on_cleanup.append(close_journal)


def set_up_http(app: web.Application, settings: Settings) -> None:
    """The routes, and what stands between them and a client."""
    if app[SERVICES].compression is not None:
        app.middlewares.append(compress_answers(settings.compression_min_bytes))
    add_routes(app)
    add_cors(app)
    if proxies := Proxies(listed(settings.trusted_proxies)):
        add_proxies(app, proxies)


def set_up_metrics(app: web.Application, settings: Settings) -> None:
    """The counts for ``GET /metrics``, and the two times that are measured for it ten times a second."""
    broker, identities, lag = app[BROKER], app[IDENTITIES], Histogram(LAGS)

    def note(seconds: float) -> None:
        lag.observe(seconds)
        broker.flushes.measure_next()

    app.cleanup_ctx.append(lambda _: measured_lag(note))
    sources = app[SOURCES] = Sources(
        broker=broker,
        dead_letters=app[DEAD_LETTERS],
        services=app[SERVICES],
        loop_lag=lag,
        version=__version__,
        topic_limit=settings.metrics_topics,
        authentication_failures=lambda: identities.failures,
        rate_limited=lambda: 0 if identities.rates is None else identities.rates.refused,
    )
    samples = app[SAMPLES] = Samples(sources, time.time, lambda: time.monotonic() - app[STATE].started)
    app.cleanup_ctx.append(lambda _: sampled(samples))
    app[SETTINGS] = lambda: show_settings(app[IN_FORCE].settings)


def make_shared(settings: Settings, clock: Clock, loop: asyncio.AbstractEventLoop) -> SharedJournal | None:
    """The journal that JOURNAL_URL names; None if this server is alone. Raises JournalError."""
    if not settings.journal_url:
        return None
    from pubsub.journals.shared.choice import make_engine  # which a server alone need not have
    from pubsub.journals.shared.journal import SharedJournal

    return SharedJournal(
        make_engine(settings.journal_url, clock),
        clock,
        defer=loop.call_soon,
        call_later=loop.call_later,
        wait=settings.journal_wait_sec,
        most=settings.max_topics,
    )


def follow_engine(app: web.Application, journal: SharedJournal) -> None:
    """Begin with the engine before the server listens, and end after its last client; be one of its servers between."""
    from pubsub.http.servers import join_servers  # which a server alone need not have

    app.cleanup_ctx.append(lambda _: followed(journal))
    join_servers(app, journal)
    app.middlewares.append(heed_other_servers)


async def followed(journal: SharedJournal) -> AsyncIterator[None]:
    """The engine as long as the Application runs. It begins with the topics that the engine has, all of them."""
    await journal.engine.start(journal)
    applied = asyncio.Event()
    journal.call_when_applied(applied.set)
    await applied.wait()  # 100,000 topics are added within a second after they have come
    if journal.engine.lasting:
        log.warning("Durable topics: %(reason)s", {"reason": journal.engine.lasting})
    yield
    await journal.engine.stop()


def make_ownership(loop: asyncio.AbstractEventLoop) -> Ownership:
    from pubsub.journals.workers.ownership import Ownership  # which a server without workers need not have

    return Ownership(defer=loop.call_soon, call_later=loop.call_later)


def share_topics(app: web.Application, ownership: Ownership, path: str, settings: Settings, clock: Clock) -> None:
    """Serve other processes at ``path``, from before the server listens until its last client has gone."""
    from pubsub.http.servers import join_servers  # which a server alone need not have

    owner = app[OWNER] = ownership.make_owner(
        app[BROKER], clock, path=path, max_message_bytes=settings.max_message_bytes
    )

    async def share(_: web.Application) -> AsyncIterator[None]:
        owner.start()
        yield
        owner.stop()

    app.cleanup_ctx.append(share)
    join_servers(app, owner)


def make_broker(
    settings: Settings,
    clock: Clock,
    loop: asyncio.AbstractEventLoop,
    shared: SharedJournal | None = None,
    ownership: Ownership | None = None,
) -> Broker:
    core = SharedCore()
    new_epoch = random_epoch if ownership is None else ownership.epochs
    return Broker(
        defer=loop.call_soon,
        clock=clock,
        memory=MemoryJournal(clock, new_epoch),
        shared=shared,
        ring_size=settings.ring_buffer_size,
        max_topics=settings.max_topics,
        max_filters=settings.max_filters_per_topic,
        make_durable=partial(make_journal, Path(settings.data_dir), clock, loop, core, new_epoch),
        call_later=loop.call_later,
        yield_core=core.offer,
        host_before=None if ownership is None else ownership.relay.before,
    )


def restore_topics(broker: Broker, settings: Settings) -> None:
    """Add the durable topics that there are. Raises JournalError."""
    if (Path(settings.data_dir) / DATABASE).exists():
        broker.restore_topics()


def make_dead_letters(settings: Settings, broker: Broker, loop: asyncio.AbstractEventLoop) -> DeadLetters:
    letters = DeadLetters(
        broker,
        per_second=settings.dead_letters_per_sec,
        new_id=make_id,
        call_later=loop.call_later,
        take_turn=broker.turns.take,
    )
    broker.losses.write = letters.lose
    return letters


def make_journal(
    directory: Path,
    clock: Clock,
    loop: asyncio.AbstractEventLoop,
    core: SharedCore,
    new_epoch: Callable[[], str] = random_epoch,
) -> SqliteJournal:
    from pubsub.journals.sqlite import SqliteJournal  # 1 MiB that a server without durable topics need not have

    return SqliteJournal(
        directory,
        clock,
        core,
        post=loop.call_soon_threadsafe,
        defer=loop.call_soon,
        call_later=loop.call_later,
        new_epoch=new_epoch,
    )


async def keep_keys(app: web.Application) -> AsyncIterator[None]:
    """Renew the keys that are fetched by URL as long as the Application runs: those that are in force at its end."""
    if (source := app[IN_FORCE].parts.source) is not None:
        source.start()
    yield
    if (source := app[IN_FORCE].parts.source) is not None:
        await source.stop()


def make_document(name: str) -> bytes:
    from pubsub.documents.making import make_document  # memory that few servers need

    return make_document(name)


def make_services(settings: Settings, broker: Broker, clock: Clock, loop: asyncio.AbstractEventLoop) -> Services:
    quotas = make_quotas(settings)
    return Services(
        broker,
        make_limits(settings),
        clock,
        loop,
        rules=ClientRules(None, None, quotas, settings.max_subscriptions_per_connection),
        quotas=quotas,
        departed_keep=settings.trace_keep_sec,
        compresses_from=compresses_from(settings),
    )


def make_quotas(settings: Settings) -> Quotas:
    """No more connections than there are descriptors for, whatever the settings say."""
    in_all = min(filter(None, (settings.max_connections, connections_of_machine())), default=0)
    return Quotas(in_all=in_all, per_client=settings.max_connections_per_client)


def compresses_from(settings: Settings) -> int | None:
    """The bytes of the shortest text that is compressed; None is no compression."""
    return settings.compression_min_bytes if settings.compression == "on" else None


def make_limits(settings: Settings) -> Limits:
    return Limits(
        ping_period=settings.ping_period_sec,
        pong_wait=settings.pong_wait_sec,
        write_wait=settings.write_wait_sec,
        read_timeout=settings.read_timeout_sec,
        max_message_bytes=settings.max_message_bytes,
        queue_size=settings.subscriber_queue_size,
        auth_wait=settings.auth_wait_sec,
    )


async def serve(
    settings: Settings, handed_over: Sequence[socket.socket] = (), read_again: Callable[[], Settings] | None = None
) -> None:
    """Run the server until a signal ends it, on the sockets that were handed over, if any. Raises ListenError.

    ``read_again`` reads the settings at SIGHUP, in a thread.
    """
    await run(create_app, settings, handed_over, read_again or (lambda: settings))
