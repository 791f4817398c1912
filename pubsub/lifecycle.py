"""Runs the server: it listens, serves until a signal comes, and shuts down step by step."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from aiohttp import web

from pubsub.http.app_keys import BROKER, CERTIFICATE, CONNECTIONS, DEAD_LETTERS
from pubsub.http.health import STATE
from pubsub.http.identities import IDENTITIES
from pubsub.http.idle_connections import IdleConnections
from pubsub.http.listener import Listener
from pubsub.http.origins import is_loopback
from pubsub.http.request_handler import AccessLogger, TimedRequestHandler
from pubsub.listening import ListenError, log_addresses, log_configuration, open_sockets, scheme_of
from pubsub.live import IN_FORCE
from pubsub.reloading import Reloading
from pubsub.settings import Settings
from pubsub.system.descriptors import connections_of_machine, raise_limit, sockets_of_machine
from pubsub.system.service_manager import tell_end, tell_started
from pubsub.system.unix_socket import is_unix

log = logging.getLogger(__name__)


async def run(
    create_app: Callable[[Settings], web.Application],
    settings: Settings,
    handed_over: Sequence[socket.socket],
    read_again: Callable[[], Settings],
) -> None:
    """Serve until SIGTERM or SIGINT, then shut down. Raises ListenError."""
    log_configuration(settings)
    stop = stop_on_signals()
    if files := raise_limit():
        log.info(
            "Open files: up to %(files)d, room for %(connections)d WebSocket connections",
            {"files": files, "connections": connections_of_machine()},
        )
    with start_without_collections():
        app = create_app(settings)
        runner = web.AppRunner(app)
        await runner.setup()
    try:
        listener = await listen(runner, settings, handed_over)
    except ListenError:
        await runner.cleanup()  # it has joined the other servers, if there are some
        raise
    reload_on_signal(app, read_again, lambda: warn_of_open_doors(app, listener.sockets))
    log_addresses(listener.sockets, scheme_of(settings))
    warn_of_open_doors(app, listener.sockets)
    tell_started()
    await stop.wait()
    tell_end()
    await shut_down(app, runner, listener)
    leave_objects()


def leave_objects() -> None:
    """Have the interpreter, which ends now, leave all objects to the system: to free them takes 16 µs for a topic."""
    gc.freeze()


def reload_on_signal(app: web.Application, read_again: Callable[[], Settings], then: Callable[[], None]) -> None:
    """Read the settings again at each SIGHUP, and call ``then`` after a change; end if the terminal was closed."""
    if sys.platform == "win32":
        return
    reloading = Reloading(app, read_again, then)
    had_terminal = os.isatty(0)

    def hang_up() -> None:
        if had_terminal and not os.isatty(0):
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            reloading.request()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)


async def listen(
    runner: web.AppRunner,
    settings: Settings,
    handed_over: Sequence[socket.socket] = (),
) -> Listener:
    """Accept connections, each into a request handler with time limits. Raises ListenError."""
    return make_listener(runner, settings, await open_sockets(settings, handed_over))


def make_listener(runner: web.AppRunner, settings: Settings, sockets: Sequence[socket.socket]) -> Listener:
    """Serve the connections of these sockets, or of none, and those that the Listener is given."""
    idle = IdleConnections()
    assert runner.server is not None, "the runner is set up"
    return Listener(
        sockets,
        handler_factory(runner.server, idle, settings),
        idle=idle,
        others=runner.app[CONNECTIONS],
        capacity=sockets_of_machine(),
        certificate=runner.app[CERTIFICATE],
        tls_timeout=settings.read_timeout_sec,
    )


def handler_factory(server: web.Server, idle: IdleConnections, settings: Settings) -> Callable[[], TimedRequestHandler]:
    options = {
        "keepalive_timeout": settings.idle_timeout_sec,
        "access_log_class": AccessLogger,
        "access_log": logging.getLogger("pubsub.access") if settings.mode == "debug" else None,
        "loop": asyncio.get_running_loop(),
    }
    return partial(TimedRequestHandler, server, idle, settings.read_timeout_sec, settings.write_timeout_sec, options)


def warn_of_open_doors(app: web.Application, sockets: Iterable[socket.socket]) -> None:
    """Log what anybody may do who reaches the server from another machine. A Unix socket is guarded by its mode."""
    warn_of_open_hosts(app, [sock.getsockname()[0] for sock in sockets if not is_unix(sock)])


def warn_of_open_hosts(app: web.Application, hosts: Sequence[str]) -> None:
    """Log what anybody may do who reaches these addresses from another machine."""
    host = ", ".join(host for host in hosts if not is_loopback(host))
    if host and not app[IDENTITIES].tokens:
        log.warning("Anyone who reaches %(host)s may subscribe and publish: no JWT key is set", {"host": host})
    if host and app[IDENTITIES].rest_is_open:
        log.warning("Anyone who reaches %(host)s may create and delete topics: API_KEYS is not set", {"host": host})


@contextlib.contextmanager
def start_without_collections() -> Iterator[None]:
    """Collect no garbage during a start; afterwards, exclude its objects from collections, and have these small.

    Collections double the CPU time of a start with 100,000 topics. Later, one that looks at 5,000 objects takes 1 ms,
    and a full one with 10,000 connections 30 ms: it never comes.
    """
    gc.disable()
    try:
        yield
        gc.collect()
        gc.freeze()
        gc.set_threshold(1_000, 5, 100_000)
    finally:
        gc.enable()


def stop_on_signals() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets; a second signal ends the process at once."""
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
    """Shut down in order: leave the load balancer, stop listening, close the clients, then the rest of HTTP."""
    settings = app[IN_FORCE].settings
    app[STATE].draining = True
    await asyncio.sleep(settings.drain_sec)
    listener.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.shutdown_timeout_sec):
            await close_clients(app)
            await listener.wait_closed()
            await runner.cleanup()
    log.info("Shutdown complete")
    if app[BROKER].durable_journal is not None and not app[STATE].journal_closed:
        os._exit(0)  # a thread that waits for the disk would keep the process for as long as that takes


async def close_clients(app: web.Application) -> None:
    """Close all clients within 0.9 of SHUTDOWN_TIMEOUT_SEC. A second call finds none."""
    app[STATE].draining = app[STATE].closing = True
    settings = app[IN_FORCE].settings
    end = time.monotonic() + settings.shutdown_timeout_sec * 0.9
    app[BROKER].idle.stop()
    await end_publishes(app, within=settings.shutdown_timeout_sec * 0.4)
    app[BROKER].settle()
    late = await app[CONNECTIONS].close_all(within=end - time.monotonic(), spread=settings.reconnect_spread_sec)
    app[DEAD_LETTERS].close_all()
    app[BROKER].settle()
    if late:
        log.warning("Cut off at shutdown: %(count)d clients that had not taken all they were sent", {"count": late})


async def end_publishes(app: web.Application, *, within: float) -> None:
    """Wait until the publishes that wait for the disk are stored and acknowledged."""
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
