"""The only place where the parts meet: the Application, made from the settings."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from pubsub.auth.api_keys import ApiKeys
from pubsub.auth.jwks import KeySet
from pubsub.auth.quotas import Quotas
from pubsub.auth.rates import Rates
from pubsub.auth.tokens import Tokens, pem_keys, secret_keys
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.dead_letters import DeadLetters
from pubsub.core.topic_rules import TopicRules
from pubsub.filters.filters import Filters
from pubsub.http.access import check_access
from pubsub.http.addresses import add_proxies
from pubsub.http.app_keys import BROKER, CONNECTIONS, DEAD_LETTERS, SERVICES, STREAMS
from pubsub.http.compression import compress_answers
from pubsub.http.cors import add_cors
from pubsub.http.health import STATE, ServerState
from pubsub.http.identities import IDENTITIES, Identities
from pubsub.http.messages import make_id
from pubsub.http.origins import ORIGINS, Origins
from pubsub.http.proxies import Proxies
from pubsub.http.rendering import errors_as_json
from pubsub.http.routes import add_routes
from pubsub.journals import DATABASE
from pubsub.journals.memory import MemoryJournal
from pubsub.lifecycle import SETTINGS, close_clients, close_journal, run
from pubsub.rules_reader import read_rules
from pubsub.settings import Settings, listed
from pubsub.sse.streams import Streams
from pubsub.system.cores import SharedCore
from pubsub.system.descriptors import connections_of_machine
from pubsub.system.malloc import given_back
from pubsub.websocket.peer import Limits
from pubsub.websocket.rules import ClientRules
from pubsub.websocket.services import Services

if TYPE_CHECKING:
    from pubsub.journals.sqlite import SqliteJournal


def create_app(settings: Settings) -> web.Application:
    """The Application with all that it serves. Needs a running event loop."""
    loop = asyncio.get_running_loop()
    clock = Clock()
    broker = make_broker(settings, clock, loop)
    app = web.Application(middlewares=[errors_as_json, check_access], client_max_size=settings.max_message_bytes)
    app[SETTINGS] = settings
    app[STATE] = ServerState()
    app[BROKER] = broker
    app[DEAD_LETTERS] = make_dead_letters(settings, broker, loop)
    tokens = make_tokens(app, settings, broker.filters)
    rates = make_rates(settings)
    quotas = make_quotas(settings)
    app[ORIGINS] = Origins(listed(settings.allowed_origins))
    app[IDENTITIES] = Identities(api_keys=ApiKeys(settings.api_keys), tokens=tokens, rates=rates)
    rules = make_rules(settings, app[IDENTITIES], rates, quotas)
    services = app[SERVICES] = Services(
        broker,
        make_limits(settings),
        clock,
        loop,
        rules=rules,
        quotas=quotas,
        compresses_from=compresses_from(settings),
    )
    connections = app[CONNECTIONS] = services.connections
    app[STREAMS] = Streams(services, spread=settings.reconnect_spread_sec)
    app.cleanup_ctx.append(lambda _: given_back(lambda: connections.left))
    if services.compression is not None:
        app.middlewares.append(compress_answers(settings.compression_min_bytes))
    set_up_http(app, Proxies(listed(settings.trusted_proxies)))
    app.on_shutdown.append(close_clients)
    app.on_cleanup.append(close_journal)
    return app


def set_up_http(app: web.Application, proxies: Proxies) -> None:
    """The routes, and what stands between them and a client."""
    add_routes(app)
    if app[ORIGINS].allowed:
        add_cors(app)
    if proxies:
        add_proxies(app, proxies)


def make_broker(settings: Settings, clock: Clock, loop: asyncio.AbstractEventLoop) -> Broker:
    """The Broker, with the durable topics that there are."""
    core = SharedCore()
    broker = Broker(
        defer=loop.call_soon,
        clock=clock,
        memory=MemoryJournal(clock),
        ring_size=settings.ring_buffer_size,
        max_topics=settings.max_topics,
        max_filters=settings.max_filters_per_topic,
        make_durable=partial(make_journal, Path(settings.data_dir), clock, loop, core),
        rules=make_topic_rules(settings),
        call_later=loop.call_later,
        yield_core=core.offer,
    )
    if (Path(settings.data_dir) / DATABASE).exists():
        broker.restore_topics()
    return broker


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


def make_topic_rules(settings: Settings) -> TopicRules:
    """The rules in TOPIC_RULES_FILE. Raises RulesError if the file has changed since the settings were checked."""
    return TopicRules(read_rules(settings.topic_rules_file) if settings.topic_rules_file else ())


def make_journal(directory: Path, clock: Clock, loop: asyncio.AbstractEventLoop, core: SharedCore) -> SqliteJournal:
    from pubsub.journals.sqlite import SqliteJournal  # 1 MiB that a server without durable topics need not have

    return SqliteJournal(
        directory,
        clock,
        core,
        post=loop.call_soon_threadsafe,
        defer=loop.call_soon,
        call_later=loop.call_later,
    )


def make_tokens(app: web.Application, settings: Settings, filters: Filters) -> Tokens | None:
    """None where no key of tokens is set. Keys by URL are fetched as long as the Application runs."""
    algorithms = listed(settings.jwt_algorithms)
    keys = secret_keys(settings.jwt_secret, algorithms)
    if settings.jwt_public_key_file:
        keys += pem_keys(Path(settings.jwt_public_key_file).read_bytes(), algorithms)
    source = KeySet(settings.jwt_jwks_url, algorithms) if settings.jwt_jwks_url else None
    if source is not None:
        app.cleanup_ctx.append(lambda _: source.kept())
    if not keys and source is None:
        return None
    return Tokens(
        keys=keys,
        source=source,
        audience=listed(settings.jwt_audience),
        issuer=listed(settings.jwt_issuer),
        check_filter=filters.compile,
    )


def make_quotas(settings: Settings) -> Quotas:
    """No more connections than there are descriptors for, whatever the settings say."""
    in_all = min(filter(None, (settings.max_connections, connections_of_machine())), default=0)
    return Quotas(in_all=in_all, per_client=settings.max_connections_per_client)


def compresses_from(settings: Settings) -> int | None:
    """The bytes of the shortest text that is compressed; None is no compression."""
    return settings.compression_min_bytes if settings.compression == "on" else None


def make_rates(settings: Settings) -> Rates | None:
    if not settings.rate_limit_msgs_per_sec:
        return None
    return Rates(settings.rate_limit_msgs_per_sec, settings.rate_limit_burst, time.monotonic)


def make_rules(settings: Settings, identities: Identities, rates: Rates | None, quotas: Quotas) -> ClientRules | None:
    """None where nothing is asked of a WebSocket client."""
    if identities.tokens is None and rates is None and not settings.max_subscriptions_per_connection:
        return None
    identify = identities.identify_message if identities.tokens is not None else None
    return ClientRules(identify, rates, quotas, settings.max_subscriptions_per_connection)


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


async def serve(settings: Settings, handed_over: Sequence[socket.socket] = ()) -> None:
    """Run the server until a signal ends it, on the sockets that were handed over, if any. Raises ListenError."""
    await run(create_app, settings, handed_over)
