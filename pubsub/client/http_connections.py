"""Keep-alive HTTP connections to one server, shared by threads. It must never send a request twice.

There is no lock, so a fork in the middle of another thread's call leaves nothing locked: ``append`` and ``pop`` of a
deque are atomic. A connection belongs to the process that opened it; a child never writes to its parent's.
"""

from __future__ import annotations

import http.client
import os
import ssl
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pubsub.client.address import cause_of
from pubsub.client.errors import ServerFault, UntrustedCertificate
from pubsub.client.origin import Origin
from pubsub.client.timed_socket import Deadline

MOST_IDLE: Final = 8
LONGEST_IDLE: Final = 20.0  # seconds; the server and most proxies close a connection after 60
MOST_BYTES: Final = 64 * 2**20  # of an answer's body


class ExchangeFailed(Exception):
    """No whole answer came; the text has the reason. ``may_be_served``: the server may have the whole request.

    ``was_kept``: the connection was kept from an earlier request.
    """

    def __init__(self, reason: str, *, may_be_served: bool, was_kept: bool) -> None:
        super().__init__(reason)
        self.may_be_served = may_be_served
        self.was_kept = was_kept


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of any status, whole."""

    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes


class HttpConnections:
    """See the module. Each request has a connection of its own; up to MOST_IDLE are kept for later ones."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._idle: deque[_Connection] = deque()

    def exchange(self, request: Request, headers: Mapping[str, str], deadline: Deadline) -> Reply:
        """Send a request and read its answer.

        Raises ExchangeFailed, after which it may help to try again; UntrustedCertificate; ServerFault if the answer is
        not HTTP.
        """
        connection = self._take() or self._open(deadline)
        try:
            reply = connection.exchange(request, headers, deadline)
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return reply

    def close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _take(self) -> _Connection | None:
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()  # the one that was used last
                if connection.is_usable:
                    return connection
                connection.close()
        return None

    def _keep(self, connection: _Connection) -> None:
        if connection.ends:
            connection.close()
            return
        self._idle.append(connection)
        with suppress(IndexError):
            while len(self._idle) > MOST_IDLE:
                self._idle.popleft().close()

    def _open(self, deadline: Deadline) -> _Connection:
        try:
            return _Connection(self._origin, deadline)
        except OSError as error:
            reason = f"cannot reach {self._origin.name}: {cause_of(error)}"
            if isinstance(error, ssl.SSLCertVerificationError):
                raise UntrustedCertificate(reason) from error
            raise ExchangeFailed(reason, may_be_served=False, was_kept=False) from error


class _Connection:
    """One connection. ``ends``: the server closes it after its last answer."""

    def __init__(self, origin: Origin, deadline: Deadline) -> None:
        """Connect. Raises OSError."""
        self._origin = origin
        self._socket = origin.connect(deadline)
        self._http = http.client.HTTPConnection("unused")  # the socket is there, and each request names the host
        self._http.sock = self._socket
        self._http.auto_open = 0
        self._process = os.getpid()
        self._answered_at: float | None = None
        self.ends = False

    @property
    def is_usable(self) -> bool:
        """False after a fork or a long pause, or if the server has closed it."""
        assert self._answered_at is not None, "it is kept after an answer"
        is_young = time.monotonic() - self._answered_at < LONGEST_IDLE
        return is_young and self._process == os.getpid() and not self._socket.is_readable

    def exchange(self, request: Request, headers: Mapping[str, str], deadline: Deadline) -> Reply:
        self._socket.deadline = deadline
        refused = self._send(request, headers)
        try:
            with self._http.getresponse() as response:
                reply = Reply(response.status, response.reason, response.headers, _read_body(response))
                self.ends = response.will_close or refused is not None
        except (OSError, http.client.IncompleteRead) as error:
            raise self._failure(refused or error, may_be_served=refused is None) from error
        except http.client.HTTPException as error:
            raise ServerFault(f"expected HTTP from {self._origin.name}, got {error!r}") from None
        self._answered_at = time.monotonic()
        return reply

    def _send(self, request: Request, headers: Mapping[str, str]) -> OSError | None:
        """Send a request. A failure is returned: the server may have answered before it closed the connection."""
        try:
            self._http.request(
                request.method,
                self._origin.prefix + request.path,
                request.body or None,
                {"Host": self._origin.authority, **headers},
            )
        except TimeoutError as error:
            raise self._failure(error, may_be_served=False) from error
        except OSError as error:
            return error
        return None

    def _failure(self, error: Exception, *, may_be_served: bool) -> ExchangeFailed:
        reason = f"no answer from {self._origin.name}: {cause_of(error)}"
        return ExchangeFailed(reason, may_be_served=may_be_served, was_kept=self._answered_at is not None)

    def close(self) -> None:
        self._http.close()


def _read_body(response: http.client.HTTPResponse) -> bytes:
    """Read the whole body. Raises IncompleteRead, OSError; ServerFault if it is too long."""
    size = response.length
    if size is None and not response.chunked:  # up to the end of the connection, which may have been cut off
        raise http.client.IncompleteRead(b"")
    if size is None or size <= MOST_BYTES:
        body = response.read() if size is not None else response.read(MOST_BYTES + 1)
        size = len(body)
    if size > MOST_BYTES:
        raise ServerFault(f"expected an answer of at most {MOST_BYTES:,} bytes")
    return body
