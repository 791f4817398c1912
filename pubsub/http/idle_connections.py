"""Chooses the HTTP connection that is closed when a new one needs its place. It knows nothing of HTTP.

The rule, in the order in which it is applied:

1. The connection is evicted that has been without a request for longest.
2. A connection with a request in progress is passed over. Such connections may hold three quarters of all places; when
   they hold more, the one is evicted that has been seen in progress for longest. So requests that never end leave room
   for new connections, and new connections do not end requests.
3. A connection with bytes that the server has not read is passed over once, and again only after its next request. They
   may be a request; a client that sends a byte from time to time gains nothing by it.
4. For one new connection MAX_CHECKS connections are checked. When all those are passed over, the next one is evicted
   without a check.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Final

from pubsub.system.tcp_info import has_unread

MAX_CHECKS: Final = 128  # at up to 2 µs; a connection seen in progress is not checked for each new connection
BUSY_SHARE: Final = 0.75  # of the places; the rest is for connections whose request has not come yet


class Evictable(asyncio.Protocol, ABC):
    """An HTTP connection, from its first moment on."""

    __slots__ = ()

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """True while a request has come whose answer has not gone."""

    @abstractmethod
    def evict(self) -> None:
        """End now. A connection that has no transport yet ends when it gets one."""


class Entry:
    """The socket of a connection. ``spared``: it was passed over for unread bytes since its last request."""

    __slots__ = ("sock", "spared")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.spared = False


class IdleConnections:
    """The HTTP connections in the order of their last requests, or of their beginnings. WebSockets are not here."""

    def __init__(self) -> None:
        self._idle: OrderedDict[Evictable, Entry] = OrderedDict()  # as far as is known
        self._busy: OrderedDict[Evictable, Entry] = OrderedDict()  # in the order of their last checks

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy)

    def add(self, connection: Evictable, sock: socket.socket) -> None:
        self._idle[connection] = Entry(sock)

    def touch(self, connection: Evictable) -> None:
        """A request has come."""
        if (entry := self._pop(connection)) is not None:
            entry.spared = False
            self._idle[connection] = entry

    def remove(self, connection: Evictable) -> None:
        self._pop(connection)

    def evict_idlest(self) -> None:
        """Close the connection that the rule above chooses. Without one, do nothing."""
        for _ in range(MAX_CHECKS):
            if not self or not self._pass_over_first():
                break
        if self:
            self.evict(next(iter(self._candidates)))

    def evict(self, connection: Evictable) -> None:
        """Close the connection, whatever it does. It is no longer here; its descriptor is free a few ticks later."""
        entry = self._pop(connection)
        connection.evict()
        if entry is not None:
            # The loop sees an end of the stream: so a TLS handshake ends, and a transport whose closing waits for the
            # client. A transport's own end would do for all others.
            with contextlib.suppress(OSError):
                entry.sock.shutdown(socket.SHUT_RDWR)

    @property
    def _candidates(self) -> OrderedDict[Evictable, Entry]:
        """Those of which the first is the next to be evicted."""
        return self._busy if len(self._busy) > BUSY_SHARE * len(self) else self._idle

    def _pass_over_first(self) -> bool:
        """Put the first candidate where it belongs. False if it belongs where it is: it is the one to be evicted."""
        candidates = self._candidates
        connection, entry = next(iter(candidates.items()))
        if connection.is_busy:
            right_place = self._busy
        elif candidates is self._busy or self._may_have_sent_request(entry):
            right_place = self._idle
        else:
            return False
        if right_place is candidates is self._busy:
            return False
        del candidates[connection]
        right_place[connection] = entry
        return True

    def _may_have_sent_request(self, entry: Entry) -> bool:
        if entry.spared or not has_unread(entry.sock):
            return False
        entry.spared = True
        return True

    def _pop(self, connection: Evictable) -> Entry | None:
        return self._idle.pop(connection, None) or self._busy.pop(connection, None)
