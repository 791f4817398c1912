"""Accepts the connections of listening sockets, and waits a while when the system has no descriptor to give."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from pubsub.system.unix_socket import is_unix

log = logging.getLogger(__name__)

ACCEPTS_AT_A_STRETCH: Final = 8  # an evicted connection may keep its descriptor until the next tick
RETRY: Final = 0.2  # seconds until the next attempt, when the system has no descriptor or memory to give
TELL_EVERY: Final = 60.0  # seconds between two lines in the log


class AcceptLoop:
    """See the module. It accepts from :meth:`start` on, until :meth:`stop` or :meth:`close`.

    ``take`` gets each connection; ``make_room`` is called when there is no descriptor for one.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        take: Callable[[socket.socket], None],
        make_room: Callable[[], None] = lambda: None,
    ) -> None:
        self.sockets = tuple(sockets)
        for sock in self.sockets:
            if not is_unix(sock):  # connections inherit it: asyncio's loop does not set it on them, uvloop does
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._take = take
        self._make_room = make_room
        self._loop = asyncio.get_running_loop()
        self._accepts = self._closed = False
        self._retry: asyncio.TimerHandle | None = None
        self._told_at = -inf

    def start(self) -> None:
        """Accept from now on."""
        if self._accepts or self._closed:
            return
        self.stop()
        self._accepts = True
        for sock in self.sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def stop(self) -> None:
        """Accept nothing for now: connections wait in the kernel."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._accepts:
            self._accepts = False
            for sock in self.sockets:
                self._loop.remove_reader(sock)

    def close(self) -> None:
        """Accept nothing more, and close the sockets."""
        self.stop()
        self._closed = True
        for sock in self.sockets:
            sock.close()

    def may_tell(self) -> bool:
        """Return True at most once a minute: so often the log may have a line about too many connections."""
        if self._loop.time() - self._told_at < TELL_EVERY:
            return False
        self._told_at = self._loop.time()
        return True

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_AT_A_STRETCH):
            try:
                sock, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            self._take(sock)
            if not self._accepts:
                return

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a while: the socket would be ready again and again."""
        if self.may_tell():
            log.warning("Connections wait: %(error)s", {"error": error.strerror})
        self._make_room()
        self.stop()
        self._retry = self._loop.call_later(RETRY, self.start)
