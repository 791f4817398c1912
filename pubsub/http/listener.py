"""Accepts connections, as many as there are descriptors for.

Where there are none left, asyncio's own server logs a traceback for each attempt, and uvloop's closes connections, or
itself, and logs nothing. Here an idle HTTP connection is evicted for the next one (idle_connections.py chooses it): a
client that sends a request is served, however many connect and send nothing.

Nothing here cancels ``connect_accepted_socket``. Without TLS uvloop would close the transport and never call
``connection_lost``; with TLS both loops may miss that the transport is to be closed, or close it with all the time
that the client wants.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence, Sized
from typing import Final

from pubsub.http.idle_connections import Evictable, IdleConnections
from pubsub.http.tls import Certificate
from pubsub.system.accept_loop import AcceptLoop

log = logging.getLogger(__name__)

BACKLOG: Final = 4096  # with the usual 128 a burst of connects runs into retransmits: 170 to 370 a second, not 2,000


class Listener:
    """Listens on ``sockets`` until :meth:`close`. ``capacity``: the most connections in all; 0 is no limit.

    ``make_protocol`` makes the protocol of a connection; ``others`` are the connections that are not in ``idle``.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        make_protocol: Callable[[], Evictable],
        *,
        idle: IdleConnections,
        others: Sized,
        capacity: int,
        certificate: Certificate,
        tls_timeout: float,
    ) -> None:
        self.sockets = tuple(sockets)
        self._make_protocol = make_protocol
        self._idle = idle
        self._others = others
        self._capacity = capacity
        self._certificate = certificate
        self._tls_timeout = tls_timeout
        self._loop = asyncio.get_running_loop()
        self._connecting: dict[Evictable, asyncio.Task[object]] = {}  # those whose start has not ended
        self._accepting = AcceptLoop(sockets, self.take, make_room=idle.evict_idlest)
        self._accepting.start()

    def close(self) -> None:
        """Take no more connections; those that there are stay. TLS handshakes that are not done yet end."""
        self._accepting.close()
        if self._certificate.context:
            for connection in list(self._connecting):
                self._idle.evict(connection)

    async def wait_closed(self) -> None:
        """Wait until no connection is in the middle of its start, which takes a few ticks after :meth:`close`."""
        if self._connecting:
            await asyncio.wait(self._connecting.values())

    def take(self, sock: socket.socket) -> None:
        """Serve a connection that was accepted, here or by another process, or close it if there is no place."""
        if self._ensure_capacity():
            self._start_connection(sock)
        else:
            sock.close()

    @property
    def present(self) -> int:
        """The number of connections that there are."""
        return len(self._idle) + len(self._others)

    def _ensure_capacity(self) -> bool:
        if not self._is_full:
            return True
        if self._accepting.may_tell():
            log.warning(
                "At the limit of open files: idle HTTP connections are closed for new ones; %(connections)d in all",
                {"connections": self._capacity},
            )
        self._idle.evict_idlest()
        return not self._is_full

    @property
    def _is_full(self) -> bool:
        return self._capacity > 0 and self.present >= self._capacity

    def _start_connection(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        connection = self._make_protocol()
        self._idle.add(connection, sock)
        self._connecting[connection] = self._loop.create_task(self._connect(connection, sock))

    async def _connect(self, connection: Evictable, sock: socket.socket) -> None:
        tls = self._certificate.context
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection, sock, ssl=tls, ssl_handshake_timeout=self._tls_timeout if tls else None
            )
        except BaseException as failure:
            self._idle.remove(connection)
            sock.close()  # where the transport had not come to it
            if not isinstance(failure, OSError):  # which is of TLS: a fault of the client
                raise
            failure.__traceback__ = None  # its frames hold the failure, and asyncio's buffer of 256 KiB
        finally:
            del self._connecting[connection]


async def bind(host: str, port: int) -> list[socket.socket]:
    """Listen on each address that ``host`` stands for; ``::`` is IPv6 and IPv4. Raises OSError."""
    addresses = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(addresses):
            both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
            sock = socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both)
            sock.setblocking(False)
            bound.append(sock)
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound
