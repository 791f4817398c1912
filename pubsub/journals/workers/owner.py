"""The owner's side of the engine of workers: it listens on a Unix socket, and its Broker serves all workers.

Topics in memory end with the owner. The workers know them still: the next owner makes them again, with new epochs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import struct
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pubsub.core.clock import Clock
from pubsub.journals.shared.engine import State
from pubsub.journals.workers.batches import Epochs, Performer, Session
from pubsub.journals.workers.frames import FrameConnection
from pubsub.journals.workers.link import Link
from pubsub.journals.workers.questions import Questions
from pubsub.journals.workers.relay import Hear, Relay
from pubsub.journals.workers.wire import GREETING_BYTES, OVERHEAD
from pubsub.protocol.errors import Failure
from pubsub.system.unix_socket import bind_unix

if TYPE_CHECKING:
    from pubsub.core.broker import Broker

log = logging.getLogger(__name__)

BACKLOG: Final = 64
ACCEPT_PAUSE: Final = 0.2  # seconds until the next attempt, when the system has no descriptor to give
GREETING_WAIT: Final = 5.0  # seconds
SESSION_KEPT: Final = 60.0  # seconds for which a worker without a connection may come back


class Owner:
    """See the module. ``max_message_bytes``: the largest request of a client. ``relay`` is the Host of the journals.

    ``server``: the id of this process among all of them. ``life``: the same. Both are new with each start.
    """

    def __init__(
        self, broker: Broker, clock: Clock, relay: Relay, epochs: Epochs, *, path: str, max_message_bytes: int
    ) -> None:
        self.server = self.life = secrets.token_hex(6)
        self.broker = broker
        self.relay = relay
        self.performer = Performer(broker, epochs, relay.tell)
        self.questions = Questions(broker, clock)
        self.longest_frame = 2 * max_message_bytes + OVERHEAD
        self._path = path
        self._sessions: dict[str, Session] = {}
        self._links: dict[str, Link] = {}
        self._connections: set[FrameConnection] = set()
        self._tasks: set[asyncio.Task[object]] = set()
        self._changed = asyncio.Event()

    # Messages for all servers, as SharedJournal has them

    def tell(self, kind: str, data: bytes) -> None:
        self.relay.tell(self.server, kind, data)

    def hear(self, kind: str, callback: Hear) -> None:
        self.relay.hear(kind, callback)

    # The socket

    def start(self) -> None:
        """Listen. Raises OSError."""
        self._sock = bind_unix(self._path, mode=0o600, backlog=BACKLOG)
        self._listen()

    def _listen(self) -> None:
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left: the socket would be ready again and again
            loop.remove_reader(self._sock)
            loop.call_later(ACCEPT_PAUSE, self._listen)
            return
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
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
        self.relay.flush()
        for connection in list(self._connections):
            connection.transport.close()

    async def wait_for_workers(self, count: int, *, within: float) -> None:
        """Wait until so many workers know all topics, for some seconds at most."""
        end = asyncio.get_running_loop().time() + within
        while self.workers < count and (left := end - asyncio.get_running_loop().time()) > 0:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                break

    @property
    def workers(self) -> int:
        """The number of workers that know all topics."""
        return sum([session.send is not None for session in self._sessions.values()])

    def _make_connection(self) -> FrameConnection:
        connection: FrameConnection
        link: Link

        def connected(made: FrameConnection) -> None:
            nonlocal link
            self._connections.add(made)
            link = Link(self, made)
            asyncio.get_running_loop().call_later(GREETING_WAIT, expect_greeting)

        def expect_greeting() -> None:
            if not link.accepted:
                link.end(f"it said nothing for {GREETING_WAIT:g} seconds")

        def lost() -> None:
            self._connections.discard(connection)
            link.lost()

        connection = FrameConnection(most=GREETING_BYTES, connected=connected, lost=lost)
        return connection

    # Workers

    def enter(self, server: str, link: Link) -> tuple[Session, bool]:
        """A worker has connected. Returns what is known of it, and True if that is not new."""
        if (before := self._links.get(server)) is not None:
            before.end("it has connected again")
        self._links[server] = link
        session = self._sessions.get(server)
        known = session is not None
        if session is None:
            session = self._sessions[server] = Session(server)
        session.send = None
        return session, known

    def leave(self, server: str, link: Link) -> None:
        """A worker's connection has ended. It is forgotten if it does not come back soon."""
        if self._links.get(server) is link:
            del self._links[server]
            session = self._sessions[server]
            session.send = None
            session.left += 1
            asyncio.get_running_loop().call_later(SESSION_KEPT, self._forget, session, session.left)

    def _forget(self, session: Session, left: int) -> None:
        if session.server not in self._links and session.left == left:
            self._sessions.pop(session.server, None)

    def note_introduced(self) -> None:
        """A worker knows all topics."""
        self._changed.set()

    def renew(self, states: Sequence[State]) -> None:
        """Make topics of an earlier life again, those first that others may name."""
        for state in sorted(states, key=lambda each: each.options.dead_letter is not None):
            if self.broker.exists(state.name):
                continue
            self.relay.renewed[state.name] = state.epoch
            try:
                self.broker.create_topic(state.name, state.options)
            except Failure as failure:
                del self.relay.renewed[state.name]
                log.warning(
                    "Topic not made again: %(topic)s: %(reason)s", {"topic": state.name, "reason": str(failure)}
                )


def is_own_user(sock: socket.socket) -> bool:
    """Return True if the process at the other end is of this user, or the administrator's. The socket's mode says the
    same, but an abstract one has none.
    """
    if sys.platform != "linux":
        return True
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(found)
    return user in (0, os.geteuid())


_CREDENTIALS: Final = struct.Struct("3i")  # process, user and group
