"""The Host between the owner's journals and its Broker: whatever they tell the Broker, the workers are told too.

Records are gathered during a tick and encoded once for all workers. It knows no socket.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, NoReturn

from msgspec import Struct

from pubsub.journals.shared.engine import Deleted, Purged, State, Told
from pubsub.journals.workers.wire import Records, Sent, frame, texts_of

if TYPE_CHECKING:
    from pubsub.core.event import StoredEvent
    from pubsub.core.journal import Host, StoredTopic
    from pubsub.core.topic import Topic
    from pubsub.protocol.requests import TopicOptions

log = logging.getLogger(__name__)

SIZES_PERIOD: Final = 1.0  # seconds between the times at which workers learn the sizes of topics
SIZED_AT_ONCE: Final = 500  # topics, and at most so many events of their rings times 100: 1 ms
SUMMED_EVENTS: Final = 1000  # of a ring: the bytes of a longer one are estimated
GATHERED_BYTES: Final = 256 * 1024  # records of so many bytes are sent within the tick

Write = Callable[[bytes], None]
Hear = Callable[[str, bytes], None]


class NewEvents(Struct):
    """Events of a topic that follow each other and wait for the end of the tick."""

    topic: Topic
    events: list[StoredEvent]


class Relay:
    """See the module (Host). ``defer`` runs a callback at the end of the tick, ``call_later`` after seconds.

    ``renewed``: the epochs that topics had in an earlier life of the owner, by name.
    """

    host: Host

    def __init__(
        self,
        *,
        defer: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.renewed: dict[str, str] = {}
        self._defer = defer
        self._call_later = call_later
        self._writes: list[Write] = []
        self._waiting: list[Sent | NewEvents] = []
        self._waiting_bytes = 0
        self._after: list[tuple[Write, bytes]] = []
        self._deferred = False
        self._unsized: dict[Topic, None] = {}
        self._sizing = False
        self._sizes: dict[Topic, int] = {}  # of topics in memory, as they were sent last
        self._hears: dict[str, Hear] = {}

    def before(self, host: Host) -> Host:
        """Stand before ``host`` from now on."""
        self.host = host
        return self

    # Workers

    def add(self, write: Write) -> None:
        """Give all records from now on to a worker."""
        self.flush()
        self._writes.append(write)

    def remove(self, write: Write) -> None:
        if write in self._writes:
            self._writes.remove(write)

    def flush(self) -> None:
        """Send what waits: before anything that may only come after it."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if waiting and self._writes:
            self.send([self._sent(each) if isinstance(each, NewEvents) else each for each in waiting], self._writes)

    def send(self, records: list[Sent], writes: Iterable[Write]) -> None:
        encoded = frame(Records(records))
        for write in list(writes):
            write(encoded)

    def state_of(self, topic: Topic) -> State:
        return State(
            topic.name,
            topic.epoch,
            topic.options,
            seq=topic.seq,
            first=topic.oldest,
            size=self._size_of(topic),
            before=self.renewed.get(topic.name, ""),
        )

    def _size_of(self, topic: Topic) -> int:
        """The bytes that a topic keeps. Those in memory are summed up once a second."""
        if topic.first:
            return topic.stored_bytes
        ring = topic.ring
        if (count := len(ring)) > SUMMED_EVENTS:
            newest = ring.after(ring.newest - SUMMED_EVENTS, SUMMED_EVENTS)
            return sum([len(event.text) for event in newest]) * count // len(newest)
        return sum([len(event.text) for event in ring.after(0, count)])

    def _sent(self, waiting: NewEvents) -> Sent:
        topic = waiting.topic
        size = topic.stored_bytes if topic.first else self._sizes.get(topic, 0)
        return texts_of(topic.name, topic.epoch, waiting.events, topic.oldest, size)

    def send_after(self, write: Write, encoded: bytes) -> None:
        """Send something to one worker at the end of the tick, behind the records that there are then."""
        self._after.append((write, encoded))
        self._end_tick_later()

    def _gather(self, record: Sent | NewEvents) -> None:
        self._waiting.append(record)
        self._end_tick_later()

    def _end_tick_later(self) -> None:
        if not self._deferred:
            self._deferred = True
            self._defer(self._end_tick)

    def _end_tick(self) -> None:
        self._deferred = False
        self.flush()
        after, self._after = self._after, []
        for write, encoded in after:
            write(encoded)

    # Messages for all servers

    def hear(self, kind: str, callback: Hear) -> None:
        """Call ``callback`` with server and data of each message of this kind, those of this process too."""
        self._hears[kind] = callback

    def tell(self, server: str, kind: str, data: bytes) -> None:
        if self._writes:
            self._gather(Told(server, kind, data))
        if kind in self._hears:
            self._defer(partial(self._let_hear, server, kind, data))

    def _let_hear(self, server: str, kind: str, data: bytes) -> None:
        try:
            self._hears[kind](server, data)
        except Exception:  # the others hear it all the same
            log.exception("Internal error at a message of kind %(kind)s", {"kind": kind})

    # Host

    def ring_size(self, options: TopicOptions) -> int:
        return self.host.ring_size(options)

    def add_topic(self, stored: StoredTopic) -> Topic:
        topic = self.host.add_topic(stored)
        if self._writes:
            self._gather(self.state_of(topic))
        return topic

    def remove_topic(self, topic: Topic) -> None:
        self.host.remove_topic(topic)
        self.renewed.pop(topic.name, None)
        self._unsized.pop(topic, None)
        self._sizes.pop(topic, None)
        if self._writes:
            self._gather(Deleted(topic.name, topic.epoch))

    def deliver(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        self.host.deliver(topic, events)
        if self._writes:
            self._gather_events(topic, events)

    def deliver_all(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        self.host.deliver_all(topic, events)
        if self._writes and events:
            self._gather_events(topic, events)

    def _gather_events(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, NewEvents) and last.topic is topic:
            last.events += events
        else:
            self._gather(NewEvents(topic, list(events)))
        if not topic.first:
            self._size_later(topic)
        for event in events:
            self._waiting_bytes += len(event.text)
        if self._waiting_bytes >= GATHERED_BYTES:
            self.flush()

    def forget(self, topic: Topic, done: Callable[[int], None]) -> None:
        self.host.forget(topic, done)
        if self._writes:
            self._gather(Purged(topic.name, topic.epoch, topic.seq))

    def renew(self, topic: Topic, stored: StoredTopic) -> NoReturn:
        raise AssertionError("no journal of an owner loses messages")

    def skip(self, topic: Topic, until: int) -> NoReturn:
        raise AssertionError("no journal of an owner loses messages")

    def call_when_told(self, topic: Topic, callback: Callable[[], None]) -> bool:
        return False

    def begin_to_expire(self, topic: Topic) -> None:
        self.host.begin_to_expire(topic)

    def trim(self, topic: Topic, first: int, size: int) -> None:
        self.host.trim(topic, first, size)
        if self._writes:
            self._size_later(topic)

    # Sizes, which change with every message and are only shown

    def _size_later(self, topic: Topic) -> None:
        self._unsized[topic] = None
        if not self._sizing:
            self._sizing = True
            self._call_later(SIZES_PERIOD, self._send_sizes)

    def _send_sizes(self) -> None:
        """Send states of topics that have changed, some of them each time."""
        self._sizing = False
        some = list(islice(self._unsized, SIZED_AT_ONCE))
        for topic in some:
            del self._unsized[topic]
            if not topic.first:
                self._sizes[topic] = self._size_of(topic)
            self._gather(self.state_of(topic))
        if self._unsized:
            self._sizing = True
            self._call_later(SIZES_PERIOD, self._send_sizes)
