"""Where the parts meet: the Application, and the server's life from start to shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pubsub.auth.identity import ApiKeys
from pubsub.auth.jwks import KeySet
from pubsub.auth.rates import Quotas, Rates
from pubsub.auth.tokens import Tokens, pem_keys, secret_keys
from pubsub.core.broker import Broker
from pubsub.core.clock import Clock
from pubsub.core.journal import DATABASE
from pubsub.http.access import ACCESS, Access, check_access, is_loopback
from pubsub.http.clients import add_client_routes
from pubsub.http.handshake import open_websocket
from pubsub.http.idle_connections import Lobby
from pubsub.http.listener import Listener, bind
from pubsub.http.request_handler import AccessLogger, TimedRequestHandler
from pubsub.http.tls import Certificate
from pubsub.http.topics import BROKER, CONNECTIONS, STATE, ServerState, add_routes, errors_as_json
from pubsub.settings import Settings, listed
from pubsub.system.descriptors import connections_of_machine, raise_limit, sockets_of_machine
from pubsub.system.malloc import given_back
from pubsub.websocket.connections import Connections, Limits
from pubsub.websocket.session import Rules

if TYPE_CHECKING:
    from pubsub.journals.sqlite import SqliteJournal

log = logging.getLogger(__name__)

SETTINGS: Final = web.AppKey("settings", Settings)


def create_app(settings: Settings) -> web.Application:
    """The Application with all that it serves. Needs a running event loop."""
    loop = asyncio.get_running_loop()
    clock = Clock()
    broker = Broker(
        defer=loop.call_soon,
        clock=clock,
        ring_size=settings.ring_buffer_size,
        max_topics=settings.max_topics,
        make_durable=partial(make_journal, Path(settings.data_dir), clock, loop),
    )
    if (Path(settings.data_dir) / DATABASE).exists():
        broker.restore_topics()
    app = web.Application(middlewares=[errors_as_json, check_access], client_max_size=settings.max_message_bytes)
    app[SETTINGS] = settings
    app[STATE] = ServerState()
    app[BROKER] = broker
    tokens = make_tokens(app, settings)
    rates = make_rates(settings)
    quotas = Quotas(in_all=settings.max_connections, per_client=settings.max_connections_per_client)
    app[ACCESS] = Access(
        api_keys=ApiKeys(settings.api_keys),
        tokens=tokens,
        rates=rates,
        allowed_origins=listed(settings.allowed_origins),
    )
    rules = make_rules(settings, app[ACCESS], rates, quotas)
    connections = app[CONNECTIONS] = Connections(broker, make_limits(settings), clock, loop, rules=rules, quotas=quotas)
    app.cleanup_ctx.append(lambda _: given_back(lambda: connections.left))
    add_routes(app)
    add_client_routes(app)
    app.router.add_get("/ws", open_websocket, allow_head=False)
    app.on_shutdown.append(say_goodbye)
    app.on_cleanup.append(close_journal)
    return app


def make_journal(directory: Path, clock: Clock, loop: asyncio.AbstractEventLoop) -> SqliteJournal:
    from pubsub.journals.sqlite import SqliteJournal  # 1 MiB that a server without durable topics need not have

    return SqliteJournal(
        directory,
        clock,
        post=loop.call_soon_threadsafe,
        defer=loop.call_soon,
        call_later=loop.call_later,
    )


def make_tokens(app: web.Application, settings: Settings) -> Tokens | None:
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
    return Tokens(keys=keys, source=source, audience=listed(settings.jwt_audience), issuer=listed(settings.jwt_issuer))


def make_rates(settings: Settings) -> Rates | None:
    if not settings.rate_limit_msgs_per_sec:
        return None
    return Rates(settings.rate_limit_msgs_per_sec, settings.rate_limit_burst, time.monotonic)


def make_rules(settings: Settings, access: Access, rates: Rates | None, quotas: Quotas) -> Rules | None:
    """None where nothing is asked of a WebSocket client."""
    if access.tokens is None and rates is None and not settings.max_subscriptions_per_connection:
        return None
    identify = access.identify_message if access.tokens is not None else None
    return Rules(identify, rates, quotas, settings.max_subscriptions_per_connection)


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


async def say_goodbye(app: web.Application) -> None:
    """Send every WebSocket client away, within the time that there is; again it finds no one."""
    app[STATE].draining = app[STATE].closing = True
    settings = app[SETTINGS]
    end = time.monotonic() + settings.shutdown_timeout_sec * 0.9
    await end_publishes(app, within=settings.shutdown_timeout_sec * 0.4)
    late = await app[CONNECTIONS].dismiss_all(within=end - time.monotonic(), spread=settings.reconnect_spread_sec)
    if late:
        log.warning("Cut off at shutdown: %(count)d clients that did not take their goodbye", {"count": late})


async def end_publishes(app: web.Application, *, within: float) -> None:
    """Let what is on its way to the disk get there, and its publishers be told."""
    journal = app[BROKER].durable_journal
    if journal is not None:
        ended = asyncio.Event()
        journal.call_after(ended.set)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), within)


async def close_journal(app: web.Application) -> None:
    journal = app[BROKER].durable_journal
    if journal is not None:
        await asyncio.to_thread(journal.close)
        app[STATE].journal_closed = True


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then shut down. Raises OSError where it can't listen."""
    log.info(
        "Configuration loaded: Port=%(port)d, RingBuffer=%(ring_buffer)d, SubscriberQueue=%(subscriber_queue)d",
        {
            "port": settings.port,
            "ring_buffer": settings.ring_buffer_size,
            "subscriber_queue": settings.subscriber_queue_size,
        },
    )
    stop = stop_on_signals()
    if files := raise_limit():
        log.info(
            "Open files: up to %(files)d, room for %(connections)d WebSocket connections",
            {"files": files, "connections": connections_of_machine()},
        )
    app = create_app(settings)
    certificate = load_certificate(settings)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = await listen(runner, settings, certificate)
    log_addresses(listener, "https" if certificate else "http")
    warn_of_open_doors(app, settings)
    tune_collector()
    await stop.wait()
    await shut_down(app, runner, listener)


def load_certificate(settings: Settings) -> Certificate | None:
    """None without TLS. SIGHUP renews it."""
    if not settings.tls_cert_file:
        return None
    certificate = Certificate(settings.tls_cert_file, settings.tls_key_file)
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, certificate.renew)
    return certificate


async def listen(runner: web.AppRunner, settings: Settings, certificate: Certificate | None = None) -> Listener:
    """Accept connections, each into a request handler with time limits."""
    loop = asyncio.get_running_loop()
    lobby = Lobby()
    server = runner.server
    assert server is not None, "the runner is set up"

    def make_handler() -> TimedRequestHandler:
        return TimedRequestHandler(
            server,
            lobby,
            read_timeout=settings.read_timeout_sec,
            write_timeout=settings.write_timeout_sec,
            keepalive_timeout=settings.idle_timeout_sec,
            tcp_keepalive=False,  # the kernel's first probe would come after two hours; time limits are all above
            access_log_class=AccessLogger,
            access_log=logging.getLogger("pubsub.access") if settings.mode == "debug" else None,
            loop=loop,
        )

    return Listener(
        await bind(settings.host, settings.port),
        make_handler,
        lobby=lobby,
        others=runner.app[CONNECTIONS],
        room=sockets_of_machine(),
        tls=certificate.context if certificate else None,
        tls_timeout=settings.read_timeout_sec,
    )


def log_addresses(listener: Listener, scheme: str) -> None:
    for sock in listener.sockets:
        host, port = sock.getsockname()[:2]
        log.info(
            "Listening on %(scheme)s://%(host)s:%(port)d",
            {"scheme": scheme, "host": f"[{host}]" if ":" in host else host, "port": port},
        )


def warn_of_open_doors(app: web.Application, settings: Settings) -> None:
    """Say what anybody may do who reaches the server from another machine."""
    if is_loopback(settings.host):
        return
    if app[ACCESS].tokens is None:
        log.warning("Anyone who reaches %(host)s may subscribe and publish: no JWT key is set", {"host": settings.host})
    if app[ACCESS].rest_is_open:
        log.warning(
            "Anyone who reaches %(host)s may create and delete topics: API_KEYS is not set", {"host": settings.host}
        )


def tune_collector() -> None:
    """Never look at what the start made again, and seldom at what lives long: 10,000 connections take 30 ms to walk."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 1_000)


def stop_on_signals() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; a second ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def begin(number: signal.Signals) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, os._exit, 128 + each)
        log.info("%(signal)s: shutting down", {"signal": number.name})
        stop.set()

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, begin, each)
    return stop


async def shut_down(app: web.Application, runner: web.AppRunner, listener: Listener) -> None:
    """The contract's order: out of the load balancer, no new connections, goodbyes, then the rest of HTTP."""
    settings = app[SETTINGS]
    app[STATE].draining = True
    await asyncio.sleep(settings.drain_sec)
    listener.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.shutdown_timeout_sec):
            await say_goodbye(app)
            await listener.wait_closed()
            await runner.cleanup()
    log.info("Shutdown complete")
    if app[BROKER].durable_journal is not None and not app[STATE].journal_closed:
        os._exit(0)  # a thread that waits for the disk would keep the process for as long as that takes
