"""Which HTTP connection is closed when a new one needs its place. It knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections import OrderedDict


class Visitor(asyncio.Protocol, ABC):
    """An HTTP connection, from its first moment on."""

    __slots__ = ()

    @abstractmethod
    def make_way(self) -> None:
        """End now. A visitor that has no transport yet ends when it gets one."""


class Lobby:
    """The HTTP connections in the order in which they last brought a request, or came. WebSockets have left it."""

    def __init__(self) -> None:
        self._visitors: OrderedDict[Visitor, socket.socket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._visitors)

    def enter(self, visitor: Visitor, sock: socket.socket) -> None:
        self._visitors[visitor] = sock

    def stir(self, visitor: Visitor) -> None:
        """A request has come."""
        if visitor in self._visitors:
            self._visitors.move_to_end(visitor)

    def leave(self, visitor: Visitor) -> None:
        self._visitors.pop(visitor, None)

    def send_quietest_away(self) -> None:
        """Close the connection that has been quiet longest. Without one, do nothing."""
        if self._visitors:
            self.send_away(next(iter(self._visitors)))

    def send_away(self, visitor: Visitor) -> None:
        """Close the connection, whatever it does. It is no longer here; its descriptor is free a few ticks later."""
        sock = self._visitors.pop(visitor, None)
        visitor.make_way()
        if sock is not None:
            # The loop sees an end of the stream: so a TLS handshake ends, and a transport whose closing waits for the
            # client. A transport's own end would do for all others.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
