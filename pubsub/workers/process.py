"""The process of a worker: the server as it is without workers, but for connections, signals and settings.

All three come from the supervisor by the control socket, whose descriptor is the first argument; the second one is a
name for ps. When the supervisor is gone, the worker shuts down.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from pubsub.settings import Settings
from pubsub.system.logs import hold_standard_streams, set_up_logs
from pubsub.system.malloc import keep_freed
from pubsub.system.programs import fastest_loop, without_ca_certificates
from pubsub.workers.control import (
    START,
    Splitter,
    Start,
    receive_first,
)

if TYPE_CHECKING:
    from aiohttp import web


log = logging.getLogger("pubsub.workers.process")  # its name is __main__

OTHERS_WAIT: Final = 5.0  # seconds for the others to connect, if this owner replaces one that died


def main() -> int:
    """Run the worker; its exit status."""
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # systemd and terminals send them to all processes
        signal.signal(each, signal.SIG_IGN)
    faulthandler.enable(2)  # a worker that is ended because it hangs writes where
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
    if start.number > 1:
        leave_out_topics(owned=start.settings.journal_url.startswith("unix:"))
    return run(start, sock, splitter)


def leave_out_topics(*, owned: bool) -> None:
    """Log no end of a topic, which the first worker logs too; nor a beginning if that worker owns them."""
    for name in ("pubsub.core.topic_host", "pubsub.core.creation")[: 1 + owned]:
        logging.getLogger(name).setLevel(logging.WARNING)


def run(start: Start, sock: socket.socket, splitter: Splitter) -> int:
    with without_ca_certificates():
        from pubsub.app import create_app
    from pubsub.core.journal import JournalError
    from pubsub.rules_reader import RulesError

    try:
        with asyncio.Runner(loop_factory=fastest_loop()) as runner:
            runner.run(serve(partial(create_app, owning=start.owning), start, sock, splitter))
    except (JournalError, RulesError, OSError) as error:
        log.critical("Cannot start: %(reason)s", {"reason": str(error)})
        return 1
    return 0


async def serve(
    create_app: Callable[[Settings], web.Application], start: Start, sock: socket.socket, splitter: Splitter
) -> None:
    """Serve until the supervisor says otherwise, or is gone."""
    from aiohttp import web

    from pubsub.app import OWNER
    from pubsub.http.metrics import OTHER_WORKERS
    from pubsub.lifecycle import (
        leave_objects,
        make_listener,
        shut_down,
        start_without_collections,
        warn_of_open_hosts,
    )
    from pubsub.system.descriptors import raise_limit
    from pubsub.workers.served import Served, Supervision

    raise_limit()
    with start_without_collections():
        app = create_app(start.settings)
        supervision = app[OTHER_WORKERS] = Supervision(start.number)
        runner = web.AppRunner(app)
        await runner.setup()
        if start.owning and start.others:
            await app[OWNER].service.wait_for_workers(start.others, within=OTHERS_WAIT)
    listener = make_listener(runner, start.settings, ())
    warn = partial(warn_of_open_hosts, app, start.hosts)
    warn()
    served = Served(app, listener, start.settings, warn, supervision)
    served.begin(sock, splitter)
    await served.stop.wait()
    await shut_down(app, runner, listener)
    leave_objects()
    if served.abandoned and start.owning:
        with suppress(OSError):  # of an abstract socket
            os.rmdir(os.path.dirname(start.owning))


if __name__ == "__main__":
    sys.exit(main())
