"""A client that is lighter than aiohttp's: a transport and the head of one HTTP request, no task and no queue.

It must never know publish/subscribe, nor what follows the head.
"""

import asyncio
import re
from typing import Final, cast

from yarl import URL

from pubsub.client import ServerFault, Unreachable
from pubsub.client.address import ANSWER_WAIT_SEC, connect_error
from pubsub.client.close_codes import explain_refusal
from pubsub.client.credentials import Credentials
from pubsub.client.refusals import text_of

MAX_HEAD_BYTES: Final = 64 * 2**10


class Wire(asyncio.Protocol):
    """One client. ``STATUS`` is the HTTP status that begins what :meth:`feed` takes."""

    STATUS = 200

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._open: asyncio.Future[None] | None = None  # until the head of the answer has come
        self._unfinished = b""  # a message that has begun

    def feed(self, received: bytes) -> int:
        """Take the whole messages in ``received``; return the end of the last. Raises ServerFault."""
        position = 0
        while (end := self.take_one(received, position)) > position:
            position = end
        return position

    def take_one(self, received: bytes, position: int) -> int:
        """Take one message of any kind; return its end, or ``position`` if it is not whole. Raises ServerFault."""
        raise NotImplementedError

    def fail(self, reason: str) -> None:
        """Note that the connection ended, for this reason."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        return self._transport is None

    async def open(self, url: URL, credentials: Credentials) -> None:
        """Connect to ``url``; raises Unreachable."""
        loop = asyncio.get_running_loop()
        self._open = loop.create_future()
        try:
            async with asyncio.timeout(ANSWER_WAIT_SEC):
                tls = (credentials.tls or True) if url.scheme == "https" else None
                await loop.create_connection(lambda: self, str(url.host), int(url.port or 0), ssl=tls)
                self.write(self._request(url, credentials))
                await self._open
        except asyncio.CancelledError:
            if self._transport is not None:  # uvloop has closed it, and calls no connection_lost
                self._transport.abort()
                self._transport = None
            raise
        except OSError as error:
            raise Unreachable(connect_error(url, error)) from None

    def write(self, sent: bytes) -> None:
        if self._transport is not None:
            self._transport.write(sent)

    def close(self) -> None:
        """Close; :meth:`fail` is not called, and nothing more is taken."""
        if self._transport is not None:
            self.write(self.last_words())
            self._transport.close()
            self._transport = None

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        received = self._unfinished + data if self._unfinished else data
        try:
            if self._open is not None:
                received = self._read_head(received)
            self._unfinished = received[self.feed(received) :] if received and self._open is None else received
        except ServerFault as fault:
            self._end(str(fault))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection was lost{f': {exc}' if exc else ''}")

    def _end(self, reason: str) -> None:
        if self._transport is None:
            return
        self._transport.abort()
        self._transport = None
        if self._open is None:
            self.fail(reason)
        elif not self._open.done():
            self._open.set_exception(Unreachable(reason))

    # The head

    def head_fields(self) -> str:
        """Return the fields of the request that this kind of client needs."""
        raise NotImplementedError

    def check_head(self, head: bytes) -> None:
        """Raise ServerFault if an answer with the right status is not that of this protocol."""
        raise NotImplementedError

    def last_words(self) -> bytes:
        """Return what is sent before the connection is closed."""
        return b""

    def _request(self, url: URL, credentials: Credentials) -> bytes:
        host = url.raw_authority.rpartition("@")[2]
        fields = "".join(f"{name}: {value}\r\n" for name, value in credentials.headers.items())
        return f"GET {url.raw_path_qs} HTTP/1.1\r\nHost: {host}\r\n{self.head_fields()}{fields}\r\n".encode()

    def _read_head(self, received: bytes) -> bytes:
        """End the handshake once the head of the answer is whole; return the bytes behind it."""
        head, end, following = received.partition(b"\r\n\r\n")
        if not end:
            if len(received) > MAX_HEAD_BYTES:
                raise ServerFault("the server's answer is not HTTP")
            return received
        self._check_status(head, following)
        self.check_head(head)
        if self._open is not None and not self._open.done():
            self._open.set_result(None)
        self._open = None
        return following

    def _check_status(self, head: bytes, body: bytes) -> None:
        status = re.match(rb"HTTP/1\.1 (\d{3})\b", head)
        if status is None:
            raise ServerFault("the server's answer is not HTTP")
        if int(status[1]) != self.STATUS:
            reason = text_of(body)
            raise ServerFault(explain_refusal(int(status[1])).reason + (f": {reason}" if reason else ""))
