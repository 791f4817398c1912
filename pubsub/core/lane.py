"""Lanes deliver new events to subscribers that get the same bytes. A Subscriber knows its lanes. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final, Protocol
from weakref import ref

from pubsub.core.backlog import OutboxOptions
from pubsub.core.event import Batch, Encoding, Source, StoredEvent, make_batch
from pubsub.core.outbox import Outbox, Transport
from pubsub.core.trail import Since, Stay, life_of

if TYPE_CHECKING:
    from pubsub.core.counts import MessageCount
    from pubsub.core.spans import Span
    from pubsub.core.subscription import Book, Subscription
    from pubsub.filters.filters import Matcher

log = logging.getLogger(__name__)

LANES_IN_A_TURN: Final = 2000  # lanes that a subscriber leaves, or tells of its lag, in one turn: 0.6 µs each

Write = Callable[[bytes], None]


class Arrival(Protocol):
    """The catch-up of a member, as its lane sees it.

    ``after``: the last ``seq`` that is done. ``known``: the last one up to which the member has all, or knows of a gap.
    ``begun``: the member was told that it is subscribed. ``spans``: the subscriptions that want the events that follow.
    ``certain`` is False if several of them have filters of their own.
    """

    lane: Lane
    since: Since
    certain: bool
    after: int
    begun: bool
    spans: list[Span]

    @property
    def known(self) -> int: ...

    def forget(self, name: str) -> None: ...

    def limit(self, wanted: Sequence[Subscription]) -> None: ...


class Lane:
    """Subscribers of a topic that get the same bytes: one write each for a batch, and no Python code between.

    A blocked subscriber's batches go to its Outbox, and it is back among the ready once its queue is empty. A
    subscriber that still replays older events gets nothing here until its CatchUp lets it join. ``matcher`` is None
    here: all events match (see ``filtered_lane``). ``delivered`` counts the events that were written.
    """

    matcher: Matcher | None = None

    __slots__ = ("_arriving", "_delivered", "_lagging", "_ready", "_transports", "encoding", "size", "topic")

    def __init__(self, topic: Source, encoding: Encoding, delivered: MessageCount) -> None:
        self.topic = topic
        self.encoding = encoding
        self._delivered = delivered
        self._ready: dict[Subscriber, Since] = {}
        self._lagging: dict[Subscriber, Since] = {}
        self._arriving: dict[Subscriber, Arrival] | None = None
        self._transports: tuple[Transport, ...] | None = ()
        self.size = 0

    @property
    def members(self) -> list[Subscriber]:
        return [*self._ready, *self._lagging, *(self._arriving or ())]

    @property
    def joined(self) -> list[Subscriber]:
        """The members that do not catch up."""
        return [*self._ready, *self._lagging]

    def join(self, member: Subscriber, since: Since) -> None:
        """Add ``member`` to the ready or the lagging. ``since``: the beginning of its membership."""
        if self._arriving:
            self._arriving.pop(member, None)
        self._place(member, since)

    def arrive(self, member: Subscriber, catch_up: Arrival) -> None:
        """Add ``member`` while it catches up; its earlier catch-up ends."""
        self.leave(member)
        if self._arriving is None:
            self._arriving = {}
        self._arriving[member] = catch_up
        self._changed()

    def catch_up_of(self, member: Subscriber) -> Arrival | None:
        """The catch-up of a member that arrives; None if it has joined."""
        return self._arriving.get(member) if self._arriving else None

    def since_of(self, member: Subscriber) -> Since:
        """The beginning of a membership."""
        if (catch_up := self.catch_up_of(member)) is not None:
            return catch_up.since
        return self._ready[member] if member in self._ready else self._lagging[member]

    def stay_of(self, member: Subscriber, *, left: bool = False) -> Stay:
        """A membership that ends now. ``left``: with the connection."""
        catch_up = self.catch_up_of(member)
        return Stay(
            topic=life_of(self.topic),
            since=self.since_of(member),
            until=self.passed if catch_up is None else catch_up.after,
            filter=None if self.matcher is None else ref(self.matcher),
            certain=catch_up is None or catch_up.certain,
            left=left,
        )

    @property
    def passed(self) -> int:
        """The last ``seq`` that the lane has passed on to those who have joined."""
        return self.topic.delivered

    def settle(self) -> None:
        """Write what waits in the lane itself. Nothing does where nothing is filtered."""

    def has_all(self, member: Subscriber) -> bool:
        """True if ``member`` has everything that it wants of the events that were delivered."""
        return member in self._ready

    def move(self, member: Subscriber) -> None:
        """Move ``member`` between the ready and the lagging, if it is one of them."""
        if member in self._ready or member in self._lagging:
            self._place(member, self.since_of(member))

    def leave(self, member: Subscriber) -> None:
        self._ready.pop(member, None)
        self._lagging.pop(member, None)
        if self._arriving:
            self._arriving.pop(member, None)
        self._changed()

    def _place(self, member: Subscriber, since: Since) -> None:
        if member.lagging:
            self._lagging[member] = since
            self._ready.pop(member, None)
        else:
            self._ready[member] = since
            self._lagging.pop(member, None)
        self._changed()

    def _changed(self) -> None:
        self.size = len(self._ready) + len(self._lagging) + len(self._arriving or ())
        self._transports = None

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        transports = self._transports
        if transports is None:
            transports = self._transports = tuple([member.transport for member in self._ready])
        encoded = self.encoding.shared_events(self.topic, events)
        delivered = self._delivered
        delivered.messages += len(transports) * len(events)  # here, because a call costs 0.05 µs
        delivered.bytes += len(transports) * len(encoded)
        lagging = list(self._lagging) if self._lagging else ()  # a member that blocks at this batch has it already
        remaining = iter(transports)
        while True:
            try:
                for transport in remaining:
                    transport.write(encoded)
                break
            except Exception:  # the other members still get the batch
                self._log_fault()
        if lagging:
            self._offer(make_batch(self.topic, events, encoded), lagging)

    def _offer(self, batch: Batch, lagging: Sequence[Subscriber]) -> None:
        for member in lagging:
            try:
                member.offer(batch)
            except Exception:
                self._log_fault()

    def _log_fault(self) -> None:
        log.exception("Internal error at a subscriber of topic %(topic)s", {"topic": self.topic.name})


class Subscriber(Outbox):
    """An Outbox with its subscriptions and its lanes; both belong to the Memberships.

    ``lanes``: by topic, the lane to which the subscriptions led. ``book``: the subscriptions, unless all are plain.
    ``arrived``: it has subscribed once.
    """

    __slots__ = ("_unmoved", "arrived", "book", "lanes")

    def __init__(self, transport: Transport, options: OutboxOptions) -> None:
        super().__init__(transport, options)
        self.lanes: dict[str, Lane] = {}
        self.book: Book | None = None
        self.arrived = False
        self._unmoved: list[Lane] | None = None  # lanes that are not told yet of a change of lagging

    @property
    def _names(self) -> Collection[str]:
        return self.lanes if self.book is None else self.book.subscriptions

    @property
    def subscriptions(self) -> list[str]:
        """The names and patterns that the client subscribed to."""
        return list(self._names)

    @property
    def subscription_count(self) -> int:
        return len(self._names)

    def is_subscribed(self, name: str) -> bool:
        return name in self._names

    @property
    def is_member(self) -> bool:
        """True as long as a topic may write to the subscriber."""
        return bool(self.lanes)

    def _lagging_changed(self) -> None:
        """Tell the lanes, in turns if they are many. A lane that is not told yet writes to the socket, which queues, or
        offers a batch, which is then written at once: each topic's events keep their order.
        """
        waits_for_turn = self._unmoved is not None
        self._unmoved = list(self.lanes.values())
        if not waits_for_turn:
            self._move_some()

    def _move_some(self) -> None:
        unmoved = self._unmoved or []
        for lane in unmoved[:LANES_IN_A_TURN]:
            lane.move(self)
        self._unmoved = unmoved[LANES_IN_A_TURN:] or None
        if self._unmoved is not None:
            self._options.take_turn(self._move_some)
