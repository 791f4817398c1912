"""The parts of the server that every stream uses, made once."""

from __future__ import annotations

import random
from typing import Final

from msgspec import structs

from pubsub.protocol.replies import Info, encode
from pubsub.sse.cursors import Cursors
from pubsub.sse.encoding import MARKED_EVENTS, TOPIC_EVENTS, retry_line
from pubsub.sse.gzip import Gzip
from pubsub.websocket.services import Services

RETRY_MS: Final = 1000  # the least time after which a client connects again, if the server has not said when


class Streams:
    """See the module. ``spread``: seconds over which clients connect again after a failure of the server.

    ``of_one_topic`` and ``of_several`` are the options of outboxes. ``gzip`` is None if nothing is compressed.
    """

    def __init__(self, services: Services, *, spread: float) -> None:
        self.services = services
        self.cursors = Cursors(services.now, services.call_later)
        self.of_one_topic = structs.replace(services.outbox_options, encoding=TOPIC_EVENTS)
        self.of_several = structs.replace(services.outbox_options, encoding=MARKED_EVENTS)
        self.gzip = None if services.compression is None else Gzip(services.compression.least)
        self._spread = spread

    def draining_block(self) -> bytes:
        """The whole stream of a client that comes while the server shuts down: a time to connect again."""
        retry, ts = self.retry_ms(), self.services.clock.timestamp()
        draining = Info(msg="draining", reconnect_after_ms=retry, ts=ts)
        return retry_line(retry) + TOPIC_EVENTS.message(encode(draining))

    def retry_ms(self) -> int:
        """A time to connect again, for one client."""
        return RETRY_MS + round(1000 * self._spread * random.random())
