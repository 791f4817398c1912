"""aiohttp's request handler, made to read one request at a time. It must not know what is served.

aiohttp itself parses up to 32 requests ahead, which is 6 MiB of heads for a client that does not read. It drops what
stands in one segment with an upgrade that it does not know, so that the next segment is read as a request, and it
loses a request that has noise behind it. Here nothing behind a request is parsed before its answer is sent, and
nothing at all behind the last request of a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, cast

from aiohttp import web, web_protocol
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

# Bytes that wait behind a request before its client is read no further. Below it the end of a connection is noticed
# while a request is being served; above it, by a client that sends as much as that ahead, only afterwards.
MOST_AHEAD: Final = 64 * 1024

# aiohttp makes its parsers with this limit: they stop at the end of each request, and continue with the next call. A
# second parser instead would cost 3 µs for each connection.
web_protocol.MAX_MSG_QUEUE_SIZE = 1

END_OF_HEAD: Final = b"\r\n\r\n"


class PipelinedRequestHandler(RequestHandler):
    """Answers the requests of one connection one after the other."""

    __slots__ = ("_ahead", "_answered", "_begun", "_is_last", "_payload", "_rest")

    def __init__(self, server: web.Server, options: Mapping[str, Any]) -> None:
        super().__init__(server, **options)
        self._max_msg_queue_size = 2  # aiohttp would pause reading at the first request, and this class never has two
        self._payload: StreamReader | None = None  # of the request that is read or served; None where there is none
        self._begun = False  # a head has come in part
        self._answered = False
        self._is_last = False
        self._rest = b""  # what has come behind it, of which the parser may have the beginning
        self._ahead = 0  # bytes: the most that this can be

    @property
    def sent_more(self) -> bool:
        """The client did not wait for the answer to the request that is served."""
        return bool(self._rest)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin as aiohttp does, but without what takes 6 µs and is not needed yet or here.

        The task comes with the first request. The subclass has a timer of its own for a connection without a request.
        TCP_NODELAY is inherited from the listening socket; SO_KEEPALIVE would send its first probe after two hours.
        """
        self.transport = cast("asyncio.Transport", transport)
        assert self._manager is not None, "the connection is new"
        self._manager.connection_made(self, self.transport)

    def data_received(self, data: bytes) -> None:
        if self._close or self._force_close:
            return
        if self._payload is None:
            if data:
                self._read_on(data)
        elif self._has_ended():
            self._put_aside(data)
        else:
            self._read_on(data)
            self._turn_to_next()

    def _put_aside(self, data: bytes) -> None:
        if self._is_last:
            self._rest = self._rest or data[:1]
        else:
            self._rest += data
            self._ahead += len(data)
            self._limit_ahead()

    def _has_ended(self) -> bool:
        """There is a request, and nothing more of it will come."""
        return self._payload is not None and (self._payload.is_eof() or self._payload.exception() is not None)

    def _read_on(self, data: bytes) -> None:
        """Parse up to the end of a request."""
        if self._payload is None and not self._begun and is_one_head(data):
            self._parse(data)  # nothing can be behind it: saves 3 µs of 100
        else:
            self._parse_apart(self._rest + data, more=len(data))
        self._begun = self._payload is None

    def _parse_apart(self, data: bytes, *, more: int) -> None:
        """Parse the last byte alone. This shows if anything is behind the request, which the parser does not tell."""
        self._ahead += more
        self._rest = data[-1:]
        self._parse(data[:-1])
        if not self._has_ended() and not self._reading_paused:
            self._rest = b""
            self._parse(data[-1:])
        self._limit_ahead()

    def _parse(self, data: bytes) -> None:
        known = len(self._messages)
        super().data_received(data)
        if len(self._messages) == known:
            return
        if self._task_handler is None:
            self._task_handler = self._loop.create_task(self.start())
        message, payload = self._messages[-1]
        if self._payload is None:
            self._payload, self._is_last = payload, is_last(message)
        else:
            self._messages.pop()  # an error in the body of a request, which will have an answer of its own
            self._payload.set_exception(web.RequestPayloadError("not encoded as the header fields say"))

    def _limit_ahead(self) -> None:
        if not self._rest:
            self._ahead = 0
            if self._buffer_paused:
                self._resume_reading_for_buffer()
        elif self._ahead >= MOST_AHEAD and self._has_ended() and not self._is_last:
            self._pause_reading_for_buffer()

    def _resume_reading_if_drained(self) -> None:
        """aiohttp would go on reading as soon as a request is begun."""

    def _begin_answer(self, response: web.StreamResponse) -> None:
        """To be called before finish_response of aiohttp; _end_answer after it. A coroutine between takes 1 µs."""
        if self._is_last or (self._payload is not None and self._payload.exception() is not None):
            response.force_close()

    def _end_answer(self, response: web.StreamResponse, *, lost: bool) -> None:
        if response.keep_alive and not lost:
            self._answered = True
            self._turn_to_next()

    def _turn_to_next(self) -> None:
        """Read on, if the request has been answered and its body has been read to its end."""
        if self._close or self._force_close or not self._answered:
            return
        assert self._payload is not None, "what was answered was read"
        if not self._payload.is_eof():
            return
        self._payload = None
        self._answered = False
        if self._rest:
            self._read_on(b"")


def is_one_head(data: bytes) -> bool:
    return data.endswith(END_OF_HEAD) and data.find(END_OF_HEAD) == len(data) - len(END_OF_HEAD)


def is_last(request: object) -> bool:
    """True if what comes behind ``request`` is another protocol, or was sent although the connection was to end.

    What is no RawRequestMessage is aiohttp's note that it could not parse.
    """
    return (
        not isinstance(request, RawRequestMessage)
        or bool(request.should_close)
        or "Upgrade" in request.headers
        or request.method == "CONNECT"
    )
