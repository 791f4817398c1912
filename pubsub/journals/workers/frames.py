"""One end of a connection between the owner and a worker: it takes frames, and writes some."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from pubsub.journals.workers.wire import Splitter, WireError

log = logging.getLogger(__name__)


class FrameConnection(asyncio.Protocol):
    """See the module. ``take`` gets each frame, and may raise WireError; ``most``: the longest one.

    ``connected`` is called with the connection at its beginning, ``lost`` at its end. ``fault``: what was wrong with
    what came, if that was its end.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        *,
        most: int,
        connected: Callable[[FrameConnection], None],
        lost: Callable[[], None],
    ) -> None:
        self.splitter = Splitter(most)
        self.take: Callable[[memoryview], None] = _refuse
        self.writable = True
        self.fault = ""
        self._connected = connected
        self._lost = lost
        self._when_writable: Callable[[], None] | None = None

    def write(self, encoded: bytes) -> None:
        """Write a frame. At the end of the connection it is lost: uvloop would raise an exception."""
        if not self.transport.is_closing():
            self.transport.write(encoded)

    @property
    def unsent(self) -> int:
        """Bytes that the other end has not taken."""
        return 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()

    def call_when_writable(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the other end has taken nearly everything."""
        self._when_writable = callback

    def abort(self, fault: str = "") -> None:
        """End the connection at once."""
        self.fault = self.fault or fault
        self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._connected(self)

    def data_received(self, received: bytes) -> None:
        if self.fault:
            return
        try:
            for text in self.splitter.split(received):
                self.take(text)
                if self.fault:
                    return
        except WireError as error:
            self.abort(str(error))
        except Exception:
            log.exception("Internal error between the owner and a worker")
            self.abort("internal error")

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        callback, self._when_writable = self._when_writable, None
        if callback is not None:
            callback()

    def connection_lost(self, _: Exception | None) -> None:
        self._lost()


def _refuse(_: memoryview) -> None:
    raise WireError("a message before its time")
