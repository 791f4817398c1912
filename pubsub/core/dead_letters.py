"""Dead letters: what the subscribers of a topic lose is published to another topic, by the server itself. No I/O.

Losses of one client, topic and reason are gathered for a second into one letter. Letters and what they contain are
bounded, whatever is lost: what is over the limits is only counted.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from msgspec import Raw, Struct, field

from pubsub.core.event import Source, StoredEvent
from pubsub.core.log import Publisher
from pubsub.core.losses import Loss
from pubsub.protocol.answers import DeadLetter
from pubsub.protocol.errors import Failure
from pubsub.protocol.replies import encode
from pubsub.protocol.requests import Message, Publish

log = logging.getLogger(__name__)

GATHER_SEC: Final = 1.0
LETTER_BYTES: Final = 64 * 1024  # of the messages in one letter
MAX_GATHERED: Final = 32 * 1024 * 1024  # bytes of the messages in all letters that are not published yet
MAX_LETTERS: Final = 10_000  # that wait until they can be published

Call = Callable[[], None]


class Topics(Protocol):
    """The part of the Broker that letters need."""

    def publish(self, requests: Sequence[Publish], publisher: Publisher) -> None: ...

    def may_wait(self, name: str) -> bool: ...

    def call_when_writable(self, callback: Call) -> bool: ...


class Gathered(Struct):
    """The losses of one letter so far. ``size``: bytes of ``texts``, the messages."""

    from_seq: int
    to_seq: int
    count: int = 0
    texts: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, events: Sequence[StoredEvent], room: int) -> int:
        """Count events, and keep those that fit into the letter and into ``room`` bytes. Returns the bytes kept."""
        self.from_seq = min(self.from_seq, events[0].seq)
        self.to_seq = max(self.to_seq, events[-1].seq)
        self.count += len(events)
        before = self.size
        room = min(LETTER_BYTES, before + room)
        for event in events:
            if self.size + len(event.text) > room:
                break
            self.texts.append(event.text)
            self.size += len(event.text)
        return self.size - before


Key = tuple[str | None, Loss]


class Letter(Struct, frozen=True):
    """A letter that waits to be published to the topic ``to``."""

    to: str
    topic: str
    client_id: str | None
    reason: Loss
    gathered: Gathered


class DeadLetters:
    """See the module. It is the Publisher of the letters. ``per_second``: the most letters of a topic in a second.

    ``written``: letters that were published. ``failed``: events whose letters could not be. ``unwritten``: these events
    since the last letter, by the topic that is gone or full.
    """

    client_id = ""

    def __init__(
        self,
        topics: Topics,
        *,
        per_second: int,
        new_id: Callable[[], str],
        call_later: Callable[[float, Call], object],
        take_turn: Callable[[Call], None],
    ) -> None:
        self._topics = topics
        self._per_second = per_second
        self._new_id = new_id
        self._call_later = call_later
        self._take_turn = take_turn
        self._gathering: dict[Source, dict[Key, Gathered]] = {}
        self._letters: deque[Letter] = deque()
        self._has_turn = False
        self._size = 0  # bytes of all messages gathered and not published
        self._sent: dict[str, Letter] = {}  # whose outcome is not known yet, by the id of their message
        self.written = 0
        self.failed = 0
        self.unwritten: dict[str, int] = {}

    def lose(self, client_id: str, topic: Source, events: Sequence[StoredEvent], reason: Loss) -> None:
        """Take note of a loss in a topic with dead letters (core/losses.py)."""
        if not events:
            return
        letters = self._gathering.get(topic)
        if letters is None:
            letters = self._gathering[topic] = {}
            self._call_later(GATHER_SEC, partial(self._close, topic))
        key: Key = (client_id, reason)
        gathered = letters.get(key)
        if gathered is None:
            if len(letters) >= self._per_second:
                key = (None, reason)
            gathered = letters.setdefault(key, Gathered(events[0].seq, events[-1].seq))
        self._size += gathered.add(events, MAX_GATHERED - self._size)

    def close_all(self) -> None:
        """Publish all letters now: the server shuts down."""
        for topic in list(self._gathering):
            self._close(topic)
        while self._letters:
            self._publish(self._letters.popleft())

    def _close(self, topic: Source) -> None:
        """End the letters of a topic; losses from now on make others."""
        to = topic.options.dead_letter
        assert to is not None, "a topic without dead letters has no losses here"
        for (client_id, reason), gathered in self._gathering.pop(topic, {}).items():
            letter = Letter(to, topic.name, client_id, reason, gathered)
            if len(self._letters) < MAX_LETTERS:
                self._letters.append(letter)
            else:
                self._fail(letter, "too many letters wait")
        self._go_on()

    def _go_on(self) -> None:
        if self._letters and not self._has_turn:
            self._has_turn = True
            self._take_turn(self._work)

    def _work(self) -> None:
        """Publish one letter, once its journal takes it: each may have 64 KiB."""
        self._has_turn = False
        if not self._letters:
            return
        if self._topics.may_wait(self._letters[0].to) and self._topics.call_when_writable(self._go_on):
            return
        try:
            self._publish(self._letters.popleft())
        finally:
            self._go_on()

    def _publish(self, letter: Letter) -> None:
        message = Message(self._new_id(), Raw(encode(describe(letter))))
        self._sent[message.id] = letter
        request = Publish(topic=letter.to, message=message)
        try:
            self._topics.publish([request], self)
        except Failure as failure:
            self.refused(request, failure)

    # Publisher

    def published(self, requests: Sequence[Publish], first: int, ts: str) -> None:
        for request in requests:
            letter = self._sent.pop(request.message.id)
            self._size -= letter.gathered.size
            self.written += 1
            self.unwritten.pop(letter.to, None)

    def repeated(self, request: Publish, seq: int, ts: str) -> None:
        raise AssertionError("each letter has an id of its own")

    def refused(self, request: Publish, failure: Failure) -> None:
        self._fail(self._sent.pop(request.message.id), str(failure))

    def wait(self, requests: Sequence[Publish]) -> None:
        pass

    def _fail(self, letter: Letter, why: str) -> None:
        """Count what a letter would have told, and log the first one until the next is published."""
        self._size -= letter.gathered.size
        if letter.to not in self.unwritten:
            log.warning(
                "Dead letters of topic %(topic)s cannot be published to %(to)s: %(reason)s",
                {"topic": letter.topic, "to": letter.to, "reason": why},
            )
        self.failed += letter.gathered.count
        self.unwritten[letter.to] = self.unwritten.get(letter.to, 0) + letter.gathered.count


def describe(letter: Letter) -> DeadLetter:
    """The payload of a letter."""
    gathered = letter.gathered
    return DeadLetter(
        reason=letter.reason.value,
        topic=letter.topic,
        client_id=letter.client_id,
        from_seq=gathered.from_seq,
        to_seq=gathered.to_seq,
        count=gathered.count,
        messages=[Raw(text) for text in gathered.texts],
    )
