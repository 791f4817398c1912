"""The supervisor accepts connections, and hands each to the worker that has the fewest."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from math import inf
from typing import Final

from pubsub.http.listener import ACCEPTS_AT_A_STRETCH, RETRY, TELL_EVERY
from pubsub.system.unix_socket import is_unix
from pubsub.workers.spread import fewest_first
from pubsub.workers.worker import Worker

log = logging.getLogger(__name__)

BUSY_RETRY: Final = 0.01  # seconds until the next attempt, when no worker has room: one of them says so sooner


class Accepting:
    """See the module. It accepts from :meth:`start` on, as long as a worker takes connections, until :meth:`close`."""

    def __init__(self, sockets: Sequence[socket.socket], workers: Sequence[Worker]) -> None:
        self.sockets = sockets
        for sock in sockets:
            if not is_unix(sock):  # connections inherit it
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._workers = workers
        self._loop = asyncio.get_running_loop()
        self._accepts = self._closed = False
        self._retry: asyncio.TimerHandle | None = None
        self._waiting: socket.socket | None = None  # accepted, when no worker had room
        self._told_at = -inf

    def start(self) -> None:
        """Accept, if a worker takes connections."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._closed or self._accepts or not fewest_first([worker.share for worker in self._workers]):
            return
        if (waiting := self._waiting) is not None:
            self._waiting = None
            self._hand_over(waiting)
            if self._waiting is not None:
                return
        self._accepts = True
        for sock in self.sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def close(self) -> None:
        """Accept nothing more, and close the sockets."""
        self._pause(None)
        self._closed = True
        for sock in self.sockets:
            sock.close()
        if self._waiting is not None:
            self._waiting.close()

    def _pause(self, retry: float | None) -> None:
        if self._accepts:
            self._accepts = False
            for sock in self.sockets:
                self._loop.remove_reader(sock)
        if self._retry is not None:
            self._retry.cancel()
        self._retry = None if retry is None else self._loop.call_later(retry, self.start)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_AT_A_STRETCH):
            try:
                sock, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if self._loop.time() - self._told_at > TELL_EVERY:
                    self._told_at = self._loop.time()
                    log.warning("Connections wait: %(error)s", {"error": error.strerror})
                self._pause(RETRY)
                return
            self._hand_over(sock)
            if not self._accepts:
                return

    def _hand_over(self, sock: socket.socket) -> None:
        """Give a connection to a worker, or keep it until one has room; the next ones wait in the kernel."""
        by_share = {id(worker.share): worker for worker in self._workers}
        for share in fewest_first([worker.share for worker in self._workers]):
            if by_share[id(share)].hand_over(sock):
                sock.close()
                return
        self._waiting = sock
        self._pause(BUSY_RETRY)
