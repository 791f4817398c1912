"""The parts of the server that every stream uses, made once, and the beginning of a stream."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import UNSET, UnsetType, structs

from pubsub.core.catchup import ReplayStart
from pubsub.protocol.errors import Failure
from pubsub.protocol.replies import StreamStart, encode
from pubsub.protocol.requests import Position
from pubsub.sse.encoding import TOPIC_EVENTS, info_block, retry_line
from pubsub.sse.positions import position_id
from pubsub.sse.stream import EventStream
from pubsub.websocket.services import Services

RETRY_MS: Final = 1000  # the least time after which a client connects again, if the server has not said when


class Streams:
    """See the module. ``spread``: seconds over which clients connect again after a failure of the server."""

    def __init__(self, services: Services, *, spread: float) -> None:
        self.services = services
        self._spread = spread
        self._of_one_topic = structs.replace(services.outbox_options, encoding=TOPIC_EVENTS)

    def find_start(
        self, name: str, last_n: int, position: Position | None, answer: Callable[[ReplayStart | Failure], None]
    ) -> None:
        """Find the start of a stream. Raises TopicNotFound, BadRequest."""
        self.services.broker.find_start(name, last_n, position, answer)

    def begin(
        self,
        transport: asyncio.Transport,
        starts: Sequence[ReplayStart],
        *,
        client_id: str,
        expires: float,
        take: Callable[[], None],
    ) -> None:
        """Subscribe, ``take`` the transport from its present owner, then send the start of the stream.

        Raises TopicNotFound if a topic has ended since its start was found; then the transport is not taken.
        """
        stream = EventStream(transport, self.services, self._of_one_topic, client_id=client_id, expires=expires)
        catch_ups = [self.services.broker.subscribe(start, stream.subscriber) for start in starts]
        take()
        stream.open()
        transport.write(retry_line(RETRY_MS + round(1000 * self._spread * random.random())))
        for start, catch_up in zip(starts, catch_ups, strict=True):
            transport.write(self._start_block(start, recovered=catch_up.recovered))
            catch_up.advance()

    def _start_block(self, start: ReplayStart, *, recovered: bool | UnsetType) -> bytes:
        """Tell the position of the topic. The id is the client's own: it misses nothing if it is cut off now."""
        topic = start.topic
        after = start.after if start.told is not None else max(start.after, topic.oldest - 1)
        info = StreamStart(
            topic=topic.name,
            msg="subscribed" if recovered is UNSET else "recovered",
            recovered=recovered,
            epoch=topic.epoch,
            seq=topic.seq,
            ts=self.services.clock.timestamp(),
        )
        return info_block(position_id(topic.epoch, after), encode(info))
