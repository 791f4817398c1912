"""A connected socket with one time limit for all that is done with it. It must never wait longer, and knows no HTTP.

A timeout of Python's own limits each read by itself: a peer that sends a byte a second is waited for for ever.
"""

from __future__ import annotations

import io
import selectors
import socket
import ssl
import time
from typing import Any, Final

# The kernel gives a connection up whose peer acknowledges nothing for this part of the time limit, as after a router
# has lost it; a server that is only slow acknowledges. So there is time left for another connection.
SILENT_SHARE: Final = 1 / 3


class Deadline:
    """A moment, ``seconds`` from now, after which nothing waits any more."""

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, at least 0."""
        return max(0.0, self._end - time.monotonic())

    def limit(self, sock: socket.socket, *, share: float = 1.0) -> None:
        """Let the next call of ``sock`` take this share of the time that is left. Raises TimeoutError if none is."""
        left = self.left * share
        if not left:
            raise TimeoutError("timed out")
        sock.settimeout(left)


class TimedSocket:
    """The part of a socket that ``http.client`` uses. Every call ends by :attr:`deadline`, with TimeoutError."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self.deadline = deadline
        self.socket = sock
        self._readers = 0
        self._closed = False

    def sendall(self, sent: Any) -> None:
        left = memoryview(sent)
        while left:
            self.deadline.limit(self.socket)
            left = left[self.socket.send(left) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb", "http.client writes by sendall"
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Close, once no response is read any more: ``http.client`` closes before it reads the last one."""
        self._closed = True
        self._close_unread()

    def end_reader(self) -> None:
        self._readers -= 1
        self._close_unread()

    def _close_unread(self) -> None:
        if self._closed and not self._readers:
            self.socket.close()

    @property
    def is_readable(self) -> bool:
        """True if bytes have come that nobody asked for, or the end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            return bool(selector.select(0))


class _Reader(io.RawIOBase):
    """The bytes that a TimedSocket receives."""

    def __init__(self, timed: TimedSocket) -> None:
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._timed.deadline.limit(self._timed.socket)
        return self._timed.socket.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._timed.end_reader()


def connect_tcp(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connect to the first address of ``host`` that answers. Raises OSError.

    The resolver has time limits of its own, which can't be changed from here.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure = OSError(f"{host} has no address")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            deadline.limit(sock, share=1 / (len(addresses) - tried))
            sock.connect(address)
            _set_options(sock, deadline)
            return sock
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure


def _set_options(sock: socket.socket, deadline: Deadline) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        milliseconds = max(1, int(1000 * deadline.seconds * SILENT_SHARE))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def connect_unix(path: str, deadline: Deadline) -> socket.socket:
    """Connect to a Unix socket; ``@name`` is an abstract one. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        deadline.limit(sock)
        sock.connect("\0" + path[1:] if path.startswith("@") else path)
    except BaseException:
        sock.close()
        raise
    return sock


def wrap(sock: socket.socket, tls: ssl.SSLContext, host: str, deadline: Deadline) -> socket.socket:
    """Begin TLS on a connected socket, which is closed where that fails. Raises OSError."""
    try:
        deadline.limit(sock)
        return tls.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
