"""The socket between the supervisor and a worker: messages both ways, and accepted connections to the worker.

A message is a letter, four bytes of length and a body. A connection comes with the message that announces it, as
SCM_RIGHTS (unix(7)).
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Raw, Struct

from pubsub.settings import Settings

HEAD_BYTES: Final = 5
RECEIVED_AT_ONCE: Final = 65536
SOCKETS_AT_ONCE: Final = 64
CLOSED_IN_CHILDREN: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

# From the supervisor
START: Final = b"S"  # a Start
CONNECTION: Final = b"C"  # with a socket
SETTINGS: Final = b"H"  # Settings that were read again
LEAVE: Final = b"L"  # the load balancer is to send nobody any more, and everybody is still served
DRAIN: Final = b"D"  # a Drain
BEAT: Final = b"B"  # a worker answers with the same, and with the reason for which it is degraded, if it is
TROUBLE: Final = b"T"  # the reason for which any part of the server is degraded; empty if none is
GONE: Final = b"X"  # the id of a server among several: another worker that has ended
QUESTION: Final = b"Q"  # a Question for the metrics
GATHERED: Final = b"G"  # a GatheredMetrics
# From a worker
READY: Final = b"R"  # with the id of this server
LOAD: Final = b"E"  # a Load
ASK: Final = b"A"  # a Question for the metrics of the others
ANSWER: Final = b"N"  # an Answer


class Start(Struct, frozen=True):
    """The first message. ``number``: the worker's, from 1. ``owning``: the path at which it serves the others, if any.

    ``others``: those that are running already. ``hosts``: addresses of which it is to warn that they are open.
    """

    number: int
    settings: Settings
    owning: str
    others: int
    hosts: list[str]


class Drain(Struct, frozen=True):
    """End within so many seconds."""

    seconds: float


class Load(Struct, frozen=True):
    """The connections that a worker has received, and those of them that have ended."""

    received: int
    ended: int


class Question(Struct, frozen=True):
    """A question for metrics, in OpenMetrics or as plain text. Who asks gives it a number."""

    number: int
    openmetrics: bool


class Answer(Struct, frozen=True):
    """The metrics of one worker."""

    number: int
    parts: Raw


class GatheredMetrics(Struct, frozen=True):
    """The answers of the other workers, and the starts of all, by number of the worker."""

    number: int
    parts: dict[int, Raw]
    starts: dict[int, int]


class Message(Struct, frozen=True):
    """A message that has come, with its connection, if any."""

    kind: bytes
    body: bytes
    sock: socket.socket | None


class Splitter:
    """Splits what comes into messages. A connection comes at the latest with the bytes that announce it."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._sockets: deque[socket.socket] = deque()

    def add(self, received: bytes, descriptors: list[int]) -> None:
        self._rest += received
        self._sockets += [socket.socket(fileno=each) for each in descriptors]

    def take(self) -> Message | None:
        """The next message; None if it is not complete."""
        rest = self._rest
        if len(rest) < HEAD_BYTES:
            return None
        end = HEAD_BYTES + int.from_bytes(rest[1:HEAD_BYTES])
        if len(rest) < end:
            return None
        kind, body = bytes(rest[:1]), bytes(rest[HEAD_BYTES:end])
        del rest[:end]
        has_socket = kind == CONNECTION and bool(self._sockets)  # without a free descriptor the kernel drops it
        return Message(kind, body, self._sockets.popleft() if has_socket else None)


def receive_first(sock: socket.socket, splitter: Splitter) -> Message | None:
    """Wait for the first message; None if the other end is gone."""
    while (message := splitter.take()) is None:
        received = sock.recv(RECEIVED_AT_ONCE)
        if not received:
            return None
        splitter.add(received, [])
    return message


class Control:
    """One end, in a loop. ``take`` gets each message, ``lost`` is called when the other end is gone."""

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[Message], None],
        lost: Callable[[], None],
        splitter: Splitter | None = None,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._take = take
        self._lost = lost
        self._splitter = splitter or Splitter()
        self._unsent = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._receive)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()

    def send(self, kind: bytes, body: bytes = b"") -> None:
        """Send a message, now or when there is room."""
        if self._sock.fileno() < 0:
            return
        self._unsent += kind + len(body).to_bytes(HEAD_BYTES - 1) + body
        self._send_unsent()

    def send_connection(self, connection: socket.socket) -> bool:
        """Hand a connection over. False if there is no room for it, or nobody to take it."""
        if self._unsent or self._sock.fileno() < 0:
            return False
        try:
            socket.send_fds(self._sock, [CONNECTION + bytes(HEAD_BYTES - 1)], [connection.fileno()])
        except OSError:
            return False
        return True

    def _send_unsent(self) -> None:
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # the other end is gone: its loss is told where it is read
            self._unsent.clear()
        if self._unsent:
            self._loop.add_writer(self._sock, self._send_unsent)
        else:
            self._loop.remove_writer(self._sock)

    def _receive(self) -> None:
        try:
            received, descriptors, _, _ = socket.recv_fds(
                self._sock, RECEIVED_AT_ONCE, SOCKETS_AT_ONCE, CLOSED_IN_CHILDREN
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            received, descriptors = b"", []
        if not received:
            self.close()
            self._lost()
            return
        self._splitter.add(received, descriptors)
        while (message := self._splitter.take()) is not None:
            self._take(message)
