"""Where the parts meet: the Application, and the server's life from start to shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from typing import Final

from aiohttp import web

from pubsub.broker import Broker
from pubsub.clock import Clock
from pubsub.connections import Connections, Limits
from pubsub.handover import forget_client_tls
from pubsub.rest import BROKER, STATE, ServerState, add_routes, errors_as_json
from pubsub.server import TimedRequestHandler
from pubsub.settings import Settings
from pubsub.websocket import CONNECTIONS, open_websocket

log = logging.getLogger(__name__)

BACKLOG: Final = 4096  # with the usual 128 a burst of connects runs into retransmits: 170 to 370 a second, not 2,000
SETTINGS: Final = web.AppKey("settings", Settings)


def create_app(settings: Settings) -> web.Application:
    """The Application with all that it serves. Needs a running event loop."""
    loop = asyncio.get_running_loop()
    clock = Clock()
    broker = Broker(defer=loop.call_soon, clock=clock, ring_size=settings.ring_buffer_size)
    app = web.Application(middlewares=[errors_as_json], client_max_size=settings.max_message_bytes)
    app[SETTINGS] = settings
    app[STATE] = ServerState()
    app[BROKER] = broker
    app[CONNECTIONS] = Connections(broker, make_limits(settings), clock, loop)
    add_routes(app)
    app.router.add_get("/ws", open_websocket, allow_head=False)
    app.on_shutdown.append(say_goodbye)
    return app


def make_limits(settings: Settings) -> Limits:
    return Limits(
        ping_period=settings.ping_period_sec,
        pong_wait=settings.pong_wait_sec,
        write_wait=settings.write_wait_sec,
        read_timeout=settings.read_timeout_sec,
        max_message_bytes=settings.max_message_bytes,
        queue_size=settings.subscriber_queue_size,
    )


async def say_goodbye(app: web.Application) -> None:
    """Send every WebSocket client away, within the time that there is; again it finds no one."""
    app[STATE].draining = app[STATE].closing = True
    settings = app[SETTINGS]
    late = await app[CONNECTIONS].dismiss_all(
        within=settings.shutdown_timeout_sec * 0.9, spread=settings.reconnect_spread_sec
    )
    if late:
        log.warning("Cut off at shutdown: %(count)d clients that did not take their goodbye", {"count": late})


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
    app = create_app(settings)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = await listen(runner, settings)
    log_addresses(listener)
    tune_collector()
    await stop.wait()
    await shut_down(app, runner, listener)


async def listen(runner: web.AppRunner, settings: Settings) -> asyncio.Server:
    """Accept connections, each into a request handler with time limits."""
    loop = asyncio.get_running_loop()
    server = runner.server
    assert server is not None, "the runner is set up"

    def make_handler() -> TimedRequestHandler:
        return TimedRequestHandler(
            server,
            read_timeout=settings.read_timeout_sec,
            write_timeout=settings.write_timeout_sec,
            keepalive_timeout=settings.idle_timeout_sec,
            access_log=logging.getLogger("pubsub.access") if settings.mode == "debug" else None,
            loop=loop,
        )

    return await loop.create_server(make_handler, settings.host, settings.port, backlog=BACKLOG)


def log_addresses(listener: asyncio.Server) -> None:
    for sock in listener.sockets:
        host, port = sock.getsockname()[:2]
        log.info("Listening on http://%(host)s:%(port)d", {"host": f"[{host}]" if ":" in host else host, "port": port})


def tune_collector() -> None:
    """Never look at what the start made again, and seldom at what lives long: 10,000 connections take 30 ms to walk."""
    forget_client_tls()
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


async def shut_down(app: web.Application, runner: web.AppRunner, listener: asyncio.Server) -> None:
    """The contract's order: out of the load balancer, no new connections, goodbyes, then the rest of HTTP."""
    settings = app[SETTINGS]
    app[STATE].draining = True
    await asyncio.sleep(settings.drain_sec)
    listener.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.shutdown_timeout_sec):
            await say_goodbye(app)
            await runner.cleanup()
    log.info("Shutdown complete")
