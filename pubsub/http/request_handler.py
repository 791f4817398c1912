"""aiohttp's request handler with the time limits that it does not have, and with errors in the contract's JSON.

A client that sends nothing, or a byte a second, is gone after ``READ_TIMEOUT_SEC``; one that does not take its
response after ``WRITE_TIMEOUT_SEC``. Nothing here knows what is served.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import LineTooLong

from pubsub.http.addresses import address_of
from pubsub.http.idle_connections import Evictable, IdleConnections
from pubsub.http.pipeline import PipelinedRequestHandler
from pubsub.http.server_header import SERVER
from pubsub.protocol.errors import error_body
from pubsub.system.tcp_info import Uptake, unsent_bytes, uptake

log = logging.getLogger(__name__)

MAX_HEAD: Final = 64 * 1024  # bytes of a request's head; aiohttp limits its lines and their number, which is a megabyte
# Bytes of a response that wait to be sent before the next request is looked at. Without TLS this is the loops' own
# limit, with TLS they allow 512 KiB.
MOST_UNSENT: Final = 64 * 1024
_REFUSAL: Final = error_body("request head too large")
HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json; charset=utf-8\r\n"
    b"Content-Length: %d\r\nServer: %b\r\nConnection: close\r\n\r\n%b" % (len(_REFUSAL), SERVER.encode(), _REFUSAL)
)


class AccessLogger(AbstractAccessLogger):
    """A line for each request, in debug mode, without the token that may stand in its query."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        url = request.rel_url
        self.logger.info(
            "%(address)s %(method)s %(path)s: %(status)d in %(milliseconds).1f ms",
            {
                "address": address_of(request),
                "method": request.method,
                "path": str(url.update_query(token="***") if "token" in url.query else url),
                "status": response.status,
                "milliseconds": 1000 * time,
            },
        )


class TimedRequestHandler(PipelinedRequestHandler, Evictable):
    """One HTTP connection, until it ends or becomes a WebSocket. Times in seconds; ``options`` are those of aiohttp."""

    __slots__ = ("_evicted", "_head_bytes", "_idle_connections", "_read_timeout", "_read_timer", "_write_timeout",
                 "_write_timer")  # fmt: skip

    def __init__(
        self,
        server: web.Server,
        idle_connections: IdleConnections,
        read_timeout: float,
        write_timeout: float,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(server, options)
        self._idle_connections = idle_connections
        self._evicted = False
        self._read_timeout = read_timeout
        self._write_timeout = write_timeout
        self._head_bytes = 0  # of a head that is not whole
        self._read_timer: asyncio.TimerHandle | None = None  # while a request comes in
        self._write_timer: asyncio.TimerHandle | None = None  # while a response goes out

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._evicted:
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)
        if self.transport is not None and self.transport.get_extra_info("sslcontext") is not None:
            self.transport.set_write_buffer_limits(high=MOST_UNSENT)
        self._start_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._idle_connections.remove(self)
        self._stop_reading()
        self._stop_writing()
        super().connection_lost(exc)

    @property
    def is_busy(self) -> bool:
        """True from the head of a request until its answer is with the kernel (Evictable)."""
        if self.transport is None:
            return False
        is_served = self._payload is not None and not self.transport.is_closing()
        return is_served or unsent_bytes(self.transport) > 0

    def evict(self) -> None:
        """End: another connection needs the descriptor (Evictable)."""
        self._evicted = True
        if self.transport is not None:
            self.transport.abort()

    def _read_on(self, data: bytes) -> None:
        if self._read_timer is None:
            self._start_reading()
        before = self._payload
        super()._read_on(data)
        if self._payload is None:
            self._limit_head(len(data))
        elif self._payload is not before:
            self._idle_connections.touch(self)
            self._head_bytes = 0
        if self._has_ended():
            self._stop_reading()

    def _limit_head(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > MAX_HEAD and self.transport is not None:
            self.transport.write(HEAD_TOO_LARGE)
            self.force_close()

    def _process_keepalive(self) -> None:
        """aiohttp would also end a connection that has begun a request in time: that one has a limit of its own."""
        if self._read_timer is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = None  # the next answer starts it again

    def _start_reading(self) -> None:
        self._read_timer = self._loop.call_later(self._read_timeout, self._end_slow_request)

    def _stop_reading(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _end_slow_request(self) -> None:
        """Answer 408 where a body does not come. Where a head does not come there is nobody to answer."""
        self._read_timer = None
        if self._payload is not None and self._request_in_progress:
            self._payload.set_exception(web.HTTPRequestTimeout())
            self._payload.feed_eof()  # so that aiohttp does not wait for the rest once this is answered
        elif self.transport is not None:
            self.transport.abort()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        transport = self.transport
        if transport is None:
            return await super().finish_response(request, resp, start_time)
        self._stop_writing()
        # How far the client is at the beginning is asked a little later, when most have all of it: that takes 12 µs.
        self._write_timer = self._loop.call_later(self._write_timeout / 10, self._watch_writing, transport)
        if isinstance(resp, web.HTTPException):  # of an Expect, which aiohttp answers before the Application
            resp = error_response(resp.status, resp.reason.lower())
        self._begin_answer(resp)
        resp, reset = await super().finish_response(request, resp, start_time)
        self._end_answer(resp, lost=reset)
        if not unsent_bytes(transport):
            self._stop_writing()
        return resp, reset

    def _watch_writing(self, transport: asyncio.Transport) -> None:
        self._write_timer = self._loop.call_later(
            self._write_timeout, self._end_stalled_response, transport, uptake(transport)
        )

    def _stop_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _end_stalled_response(self, transport: asyncio.Transport, before: Uptake) -> None:
        """``close()`` would wait for ever for a client that takes nothing of what is left."""
        now = uptake(transport)
        if now.behind and now.taken <= before.taken:
            transport.abort()
        elif now.behind:
            self._watch_writing(transport)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP, the only failure that does not end in the Application's own middleware."""
        if status >= 500:
            log.error("Internal error at an HTTP request", exc_info=exc)
            message = "internal error"
        elif isinstance(exc, LineTooLong):
            status, message = 431, "request line or header field too long"
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the response has been sent already")
        return error_response(status, (message or "not HTTP").partition("\n")[0])

    def log_exception(self, *text: Any, exc_info: BaseException | None = None, **options: Any) -> None:
        """Log nothing of a body that is not what its header fields say: that is a fault of the client."""
        if not isinstance(exc_info, web.RequestPayloadError):
            super().log_exception(*text, exc_info=exc_info, **options)


def error_response(status: int, text: str) -> web.Response:
    """An answer that ends the connection, since what comes next may be no request."""
    response = web.Response(
        status=status, body=error_body(text), content_type="application/json", headers={"Server": SERVER}
    )
    response.force_close()
    return response
