"""The owner's end of the engine of workers: it listens on a Unix socket, which only processes of its user may open."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final

from pubsub.journals.workers.frames import FrameConnection
from pubsub.journals.workers.link import Link
from pubsub.journals.workers.relay import Hear
from pubsub.journals.workers.service import Service
from pubsub.journals.workers.wire import GREETING_BYTES
from pubsub.system.accept_loop import AcceptLoop
from pubsub.system.unix_socket import bind_unix, is_own_user

log = logging.getLogger(__name__)

BACKLOG: Final = 64
GREETING_WAIT: Final = 5.0  # seconds


class Owner:
    """See the module (Bus, with ``server``, ``tell`` and ``hear``). ``path``: of its socket."""

    def __init__(self, service: Service, path: str) -> None:
        self.service = service
        self.server = service.life
        self._path = path
        self._connections: set[FrameConnection] = set()
        self._tasks: set[asyncio.Task[object]] = set()

    # Messages for all servers, as SharedJournal has them

    def tell(self, kind: str, data: bytes) -> None:
        self.service.relay.tell(self.server, kind, data)

    def hear(self, kind: str, callback: Hear) -> None:
        self.service.relay.hear(kind, callback)

    # The socket

    def start(self) -> None:
        """Listen. Raises OSError."""
        self._accepting = AcceptLoop([bind_unix(self._path, mode=0o600, backlog=BACKLOG)], self._take)
        self._accepting.start()

    def _take(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if not is_own_user(sock):
            log.warning("A process of another user has connected as a worker, and is disconnected")
            sock.close()
            return
        sock.setblocking(False)
        task = loop.create_task(loop.connect_accepted_socket(self._make_connection, sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """End all connections, after what they are still to get."""
        self._accepting.close()
        self.service.relay.flush()
        for connection in list(self._connections):
            connection.transport.close()

    def _make_connection(self) -> FrameConnection:
        connection: FrameConnection
        link: Link

        def connected(made: FrameConnection) -> None:
            nonlocal link
            self._connections.add(made)
            link = Link(self.service, made)
            asyncio.get_running_loop().call_later(GREETING_WAIT, expect_greeting)

        def expect_greeting() -> None:
            if not link.accepted:
                link.end(f"it said nothing for {GREETING_WAIT:g} seconds")

        def lost() -> None:
            self._connections.discard(connection)
            link.lost()

        connection = FrameConnection(most=GREETING_BYTES, connected=connected, lost=lost)
        return connection
