"""The process of a worker: the server as it is without workers, but for connections, signals and settings.

All three come from the supervisor by the control socket, whose number is the only argument. When the supervisor is
gone, the worker shuts down.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from pubsub.settings import Settings
from pubsub.system.logs import hold_standard_streams, set_up_logs
from pubsub.system.malloc import keep_freed
from pubsub.system.programs import fastest_loop, without_ca_certificates
from pubsub.workers.control import (
    CONNECTION,
    DRAIN,
    LEAVE,
    LOAD,
    READY,
    SETTINGS,
    START,
    Control,
    Drain,
    Load,
    Message,
    Splitter,
    Start,
    receive_first,
)

if TYPE_CHECKING:
    from aiohttp import web

    from pubsub.http.listener import Listener

LOAD_PERIOD: Final = 0.25  # seconds after which the supervisor knows of connections that have ended
OTHERS_WAIT: Final = 2.0  # seconds for the others to connect, if this owner replaces one that died


def main() -> int:
    """Run the worker; its exit status."""
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # systemd and terminals send them to all processes
        signal.signal(each, signal.SIG_IGN)
    keep_freed()
    hold_standard_streams()
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    splitter = Splitter()
    first = receive_first(sock, splitter)
    if first is None or first.kind != START:
        return 1
    start = msgspec.json.decode(first.body, type=Start)
    set_up_logs(start.settings.least_level, start.settings.log_format, worker=start.number)
    return run(start, sock, splitter)


def run(start: Start, sock: socket.socket, splitter: Splitter) -> int:
    with without_ca_certificates():
        from pubsub.app import create_app
    from pubsub.core.journal import JournalError
    from pubsub.rules_reader import RulesError

    try:
        with asyncio.Runner(loop_factory=fastest_loop()) as runner:
            runner.run(serve(partial(create_app, owning=start.owning), start, sock, splitter))
    except (JournalError, RulesError, OSError) as error:
        print(f"pubsub: {error}", file=sys.stderr)
        return 1
    return 0


async def serve(
    create_app: Callable[[Settings], web.Application], start: Start, sock: socket.socket, splitter: Splitter
) -> None:
    """Serve until the supervisor says otherwise, or is gone."""
    from aiohttp import web

    from pubsub.app import OWNER
    from pubsub.lifecycle import make_listener, shut_down, tune_collector, warn_of_open_hosts
    from pubsub.system.descriptors import raise_limit

    raise_limit()
    app = create_app(start.settings)
    runner = web.AppRunner(app)
    await runner.setup()
    if start.owning and start.others:
        await app[OWNER].service.wait_for_workers(start.others, within=OTHERS_WAIT)
    listener = make_listener(runner, start.settings, ())
    warn = partial(warn_of_open_hosts, app, start.hosts)
    warn()
    tune_collector()
    served = Served(app, listener, start.settings, warn)
    served.begin(sock, splitter)
    await served.stop.wait()
    await shut_down(app, runner, listener)


class Served:
    """A worker that serves: it obeys the supervisor, and tells it of its connections."""

    def __init__(self, app: web.Application, listener: Listener, settings: Settings, warn: Callable[[], None]) -> None:
        from pubsub.reloading import Reloading

        self.stop = asyncio.Event()
        self._app = app
        self._listener = listener
        self._settings = settings
        self._reloading = Reloading(app, lambda: self._settings, warn)
        self._received = 0
        self._told = Load(0, 0)
        self._loop = asyncio.get_running_loop()

    def begin(self, sock: socket.socket, splitter: Splitter) -> None:
        self._control = Control(sock, self._take, self._lose, splitter)
        self._control.send(READY)
        self._tell_load_again()

    def _take(self, message: Message) -> None:
        match message.kind:
            case kind if kind == CONNECTION:
                self._received += 1
                if message.sock is not None:
                    self._listener.take(message.sock)
                self._tell_load()
            case kind if kind == SETTINGS:
                wanted = msgspec.json.decode(message.body, type=Settings)
                self._settings = replace(wanted, journal_url=self._settings.journal_url)
                self._reloading.request()
            case kind if kind == LEAVE:
                self._leave()
            case kind if kind == DRAIN:
                self._drain(msgspec.json.decode(message.body, type=Drain).seconds)

    def _lose(self) -> None:
        """The supervisor has died."""
        self._drain(self._settings.shutdown_timeout_sec)

    def _leave(self) -> None:
        from pubsub.http.health import STATE

        self._app[STATE].draining = True

    def _drain(self, seconds: float) -> None:
        from pubsub.live import IN_FORCE

        in_force = self._app[IN_FORCE]
        in_force.settings = replace(in_force.settings, drain_sec=0, shutdown_timeout_sec=seconds)
        self.stop.set()

    def _tell_load_again(self) -> None:
        self._tell_load()
        self._loop.call_later(LOAD_PERIOD, self._tell_load_again)

    def _tell_load(self) -> None:
        load = Load(self._received, self._received - self._listener.present)
        if load != self._told:
            self._told = load
            self._control.send(LOAD, msgspec.json.encode(load))


if __name__ == "__main__":
    sys.exit(main())
