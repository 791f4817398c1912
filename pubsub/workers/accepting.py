"""The supervisor accepts connections, and hands each to the worker that has the fewest."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

from pubsub.system.accept_loop import AcceptLoop
from pubsub.workers.spread import fewest_first
from pubsub.workers.worker import Worker

BUSY_RETRY: Final = 0.01  # seconds until the next attempt, when no worker has room: one of them says so sooner


class Accepting:
    """See the module. It accepts from :meth:`start` on, as long as a worker takes connections, until :meth:`close`."""

    def __init__(self, sockets: Sequence[socket.socket], workers: Sequence[Worker]) -> None:
        self._accepting = AcceptLoop(sockets, self._hand_over)
        self._workers = workers
        self._retry: asyncio.TimerHandle | None = None
        self._waiting: socket.socket | None = None  # accepted, when no worker had room

    def start(self) -> None:
        """Accept, if a worker takes connections."""
        if self._retry is not None:
            self._retry.cancel()
        if not fewest_first([worker.share for worker in self._workers]):
            return
        if (waiting := self._waiting) is not None:
            self._waiting = None
            self._hand_over(waiting)
        if self._waiting is None:
            self._accepting.start()

    def close(self) -> None:
        """Accept nothing more, and close the sockets."""
        if self._retry is not None:
            self._retry.cancel()
        self._accepting.close()
        if self._waiting is not None:
            self._waiting.close()

    def _hand_over(self, sock: socket.socket) -> None:
        """Give a connection to a worker, or keep it until one has room; the next ones wait in the kernel."""
        by_share = {id(worker.share): worker for worker in self._workers}
        for share in fewest_first([worker.share for worker in self._workers]):
            if by_share[id(share)].hand_over(sock):
                sock.close()
                return
        self._waiting = sock
        self._accepting.stop()
        self._retry = asyncio.get_running_loop().call_later(BUSY_RETRY, self.start)
