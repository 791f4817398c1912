"""Which HTTP connection is closed when a new one needs its place. It knows nothing of HTTP.

The rule, in the order in which it is asked:

1. The connection goes that has been without a request for longest.
2. A connection with a request in progress is passed over. Such connections may hold three quarters of all places; when
   they hold more, the one goes that has been seen in progress for longest. So requests that never end leave room for
   new connections, and new connections do not end requests.
3. A connection with bytes that the server has not read is passed over once, and again only after its next request. They
   may be a request; who sends a byte from time to time gains nothing by it.
4. One new connection is worth LOOKS looks. When all those are passed over, the next one goes without a look.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Final

from pubsub.system.tcp_info import has_unread

LOOKS: Final = 128  # at up to 2 µs; who was seen in progress is not looked at again for each new connection
BUSY_SHARE: Final = 0.75  # of the places; the rest is for those that connect and have not come to send a request


class Visitor(asyncio.Protocol, ABC):
    """An HTTP connection, from its first moment on."""

    __slots__ = ()

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """True while a request has come whose answer has not gone."""

    @abstractmethod
    def make_way(self) -> None:
        """End now. A visitor that has no transport yet ends when it gets one."""


class Place:
    """A visitor's socket. ``spared``: it was passed over for unread bytes since its last request."""

    __slots__ = ("sock", "spared")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.spared = False


class Lobby:
    """The HTTP connections in the order in which they last brought a request, or came. WebSockets have left it."""

    def __init__(self) -> None:
        self._quiet: OrderedDict[Visitor, Place] = OrderedDict()  # as far as is known
        self._busy: OrderedDict[Visitor, Place] = OrderedDict()  # when they were last looked at

    def __len__(self) -> int:
        return len(self._quiet) + len(self._busy)

    def enter(self, visitor: Visitor, sock: socket.socket) -> None:
        self._quiet[visitor] = Place(sock)

    def stir(self, visitor: Visitor) -> None:
        """A request has come."""
        if (place := self._pop(visitor)) is not None:
            place.spared = False
            self._quiet[visitor] = place

    def leave(self, visitor: Visitor) -> None:
        self._pop(visitor)

    def send_quietest_away(self) -> None:
        """Close the connection that has to make way by the rule above. Without one, do nothing."""
        for _ in range(LOOKS):
            if not self or not self._pass_over_first():
                break
        if self:
            self.send_away(next(iter(self._line)))

    def send_away(self, visitor: Visitor) -> None:
        """Close the connection, whatever it does. It is no longer here; its descriptor is free a few ticks later."""
        place = self._pop(visitor)
        visitor.make_way()
        if place is not None:
            # The loop sees an end of the stream: so a TLS handshake ends, and a transport whose closing waits for the
            # client. A transport's own end would do for all others.
            with contextlib.suppress(OSError):
                place.sock.shutdown(socket.SHUT_RDWR)

    @property
    def _line(self) -> OrderedDict[Visitor, Place]:
        """Where the next one to go stands first."""
        return self._busy if len(self._busy) > BUSY_SHARE * len(self) else self._quiet

    def _pass_over_first(self) -> bool:
        """Put the first of the line where it belongs. False if it belongs where it is: it has to go."""
        line = self._line
        visitor, place = next(iter(line.items()))
        if visitor.is_busy:
            where = self._busy
        elif line is self._busy or self._may_have_sent_request(place):
            where = self._quiet
        else:
            return False
        if where is line is self._busy:
            return False
        del line[visitor]
        where[visitor] = place
        return True

    def _may_have_sent_request(self, place: Place) -> bool:
        if place.spared or not has_unread(place.sock):
            return False
        place.spared = True
        return True

    def _pop(self, visitor: Visitor) -> Place | None:
        return self._quiet.pop(visitor, None) or self._busy.pop(visitor, None)
